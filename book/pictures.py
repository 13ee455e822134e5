"""The pictures of the README and the first page, as chapters drew them: cells with a tag.

`make book` writes them to book/generated. The repository holds copies, which are replaced by hand when a picture should change:

    cp book/generated/{cover,photographs}.png book/
"""

import base64
import io
from pathlib import Path

import nbformat
from PIL import Image

CELLS = {
    "cover": "50_side_by_side",
    "photographs": "60_your_data",
}  # the tag of the cell and name of the picture: its chapter
WIDEST = 1100  # pixels
COLORS = 256


def write(chapters: Path, out: Path) -> None:
    """Write the figures of tagged cells of executed chapters, in few colors, as PNGs of less than 300 kB."""
    for name, chapter in CELLS.items():
        cells = nbformat.read(chapters / f"{chapter}.ipynb", as_version=4).cells
        (figure,) = (
            output.data["image/png"]
            for cell in cells
            if name in cell.metadata.get("tags", [])
            for output in cell.outputs
            if "image/png" in output.get("data", {})
        )
        image = Image.open(io.BytesIO(base64.b64decode(figure))).convert("RGB")
        image.thumbnail((WIDEST, WIDEST))
        # keeps the colors of small areas
        image.quantize(COLORS, Image.Quantize.FASTOCTREE).save(out / f"{name}.png", optimize=True)
