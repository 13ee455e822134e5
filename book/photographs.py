"""The picture of the README: photographs, clicks, masks and predictions, as the chapter on your photographs drew them.

`make book` writes book/generated/photographs.png. The repository holds a copy, book/photographs.png, which is replaced by
hand when the picture should change:

    cp book/generated/photographs.png book/
"""

import base64
import io
from pathlib import Path

import nbformat
from PIL import Image

CELL = "from-clicks-to-masks"  # the tag of the cell
WIDEST = 1000  # pixels
COLORS = 256


def write(notebook: Path, out: Path) -> None:
    """Write the figure of an executed notebook's cell with the tag `CELL`, in few colors, as a PNG of less than 300 kB."""
    cells = nbformat.read(notebook, as_version=4).cells
    (figure,) = (
        output.data["image/png"]
        for cell in cells
        if CELL in cell.metadata.get("tags", [])
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    )
    image = Image.open(io.BytesIO(base64.b64decode(figure))).convert("RGB")
    image.thumbnail((WIDEST, WIDEST))
    image.quantize(COLORS, Image.Quantize.FASTOCTREE).save(out, optimize=True)  # keeps the colors of small areas
