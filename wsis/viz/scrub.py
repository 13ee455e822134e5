"""A slider over images that needs no kernel, no library and no network: its frames are in the page."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from wsis.viz.style import RC, Array, to_rgb

if TYPE_CHECKING:
    from IPython.display import HTML

WIDEST = 1100  # pixels; wider frames are scaled down, the text column of a page is narrower still
SMALLEST = 480  # narrower images are enlarged in the page, pixels kept sharp
DPI = 110


def scrub(frames: Sequence[Array | Figure], labels: Sequence[str], name: str, start: int = 0) -> "HTML":
    """One image at a time, chosen by a range slider with mouse, touch or arrow keys; a static page is enough.

    frames: images ([3, H, W] or [H, W, 3], uint8 or float) or matplotlib figures, all of one size, else ValueError. labels:
    what the slider shows at each frame. name: what is varied; screen readers read it out. start: the frame that is shown
    first, and on paper.
    """
    images = [to_image(frame) for frame in frames]
    sizes = {image.size for image in images}
    if len(labels) != len(images) or len(sizes) != 1 or not 0 <= start < len(images):
        given = f"{len(images)} frames of sizes {sorted(sizes)}, {len(labels)} labels, start {start}"
        remedy = "give frames of one size, a label for each, and a start among them"
        raise ValueError(f"scrub {name!r}: {given}; {remedy}")
    width = sizes.pop()[0]
    enlarged = width < SMALLEST and not isinstance(frames[0], Figure)
    width = SMALLEST if enlarged else width
    style = f"width:{width}px;max-width:100%;height:auto;background:#fff;margin:0;"
    style += "image-rendering:pixelated;" if enlarged else ""
    name, words = escape(name), [escape(label) for label in labels]
    tags = (
        f'<img src="{data_address(image)}" alt="{name}: {label}" data-label="{label}" class="dark-light" '
        f'style="{style}display:{"block" if i == start else "none"}">'
        for i, (image, label) in enumerate(zip(images, words, strict=True))
    )
    slider = {"name": name, "label": words[start], "start": start, "last": len(images) - 1}
    return fill("scrub.html", images="\n".join(tags), width=width, **slider)


def fill(page: str, **values: object) -> "HTML":
    """A file beside this module with values in place of its `$names`."""
    from IPython.display import HTML

    return HTML(Template(Path(__file__).with_name(page).read_text(encoding="utf-8")).substitute(values))


def to_image(frame: Array | Figure, widest: int = WIDEST) -> Image.Image:
    """An image ([3, H, W] or [H, W, 3], uint8 or float) or a figure, no wider than a page needs. A figure keeps the page's
    resolution and color.
    """
    if isinstance(frame, Figure):
        canvas = FigureCanvasAgg(frame)
        frame.set(dpi=DPI, facecolor=RC["figure.facecolor"])
        canvas.draw()  # once, where `savefig` draws twice
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    else:
        image = Image.fromarray((to_rgb(frame) * 255).round().astype(np.uint8))
    if image.width > widest:
        image = image.resize((widest, round(image.height * widest / image.width)), Image.Resampling.LANCZOS)
    return image


def data_address(image: Image.Image) -> str:
    """An image as the address of an `img`: exact where the image is small or has few colors, of high quality otherwise."""
    exact = image.width < SMALLEST or image.getcolors(256) is not None
    content = encoded(image, format="WEBP", lossless=exact, quality=100 if exact else 85, method=4)
    return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")


def encoded(image: Image.Image, **options: Any) -> bytes:
    """The content of a file of an image; options: of Pillow's `save`."""
    memory = io.BytesIO()
    image.save(memory, **options)
    return memory.getvalue()
