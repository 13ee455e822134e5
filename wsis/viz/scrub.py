"""A slider over pictures that needs no kernel, no library and no network: its frames are in the page."""

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from wsis.viz.style import RC, to_rgb

if TYPE_CHECKING:
    from IPython.display import HTML

WIDEST = 1100  # pixels; wider frames are scaled down, the text column of a page is narrower still
SMALLEST = 480  # narrower images are enlarged in the page, pixels kept sharp
DPI = 110

# The handler finds its pictures from its own place in the page, so that any number of sliders go together.
MOVE = (
    "const f=this.closest('figure'),k=+this.value;"
    "f.querySelectorAll('img').forEach((m,i)=>m.style.display=i===k?'block':'none');"
    "const t=f.querySelectorAll('img')[k].dataset.label;"
    "f.querySelector('output').value=t;this.setAttribute('aria-valuetext',t)"
)

PAGE = """<figure class="wsis-scrub" style="margin:1em 0">
<div style="display:flex;gap:.8em;align-items:center;max-width:{width}px;color:inherit">
<span aria-hidden="true">{name}</span>
<input type="range" min="0" max="{last}" value="{start}" step="1" autocomplete="off" aria-label="{name}"
 aria-valuetext="{label}" style="flex:1;min-width:8em;accent-color:#0072B2;cursor:pointer" oninput="{move}">
<output style="min-width:5em;font-variant-numeric:tabular-nums">{label}</output>
</div>
{images}
</figure>"""


def scrub(frames: Sequence[Any], labels: Sequence[str], name: str, start: int = 0) -> "HTML":
    """One picture at a time, chosen by a range slider: mouse, touch and arrow keys; a static page is enough.

    Args:
        frames: images ([3, H, W] or [H, W, 3], uint8 or float) or matplotlib figures, all of one size.
        labels: what the slider shows at each frame, such as "0.3" or "layer 8".
        name: what is varied, shown before the slider and read out by screen readers.
        start: the frame that is shown first, and on paper.

    Raises:
        ValueError: no frames, another number of labels, frames of several sizes, or a start that is no frame.
    """
    from IPython.display import HTML

    pictures = [_picture(frame) for frame in frames]
    sizes = {picture.size for picture in pictures}
    if len(labels) != len(pictures) or len(sizes) != 1 or not 0 <= start < len(pictures):
        raise ValueError(
            f"scrub {name!r}: {len(pictures)} frames of sizes {sorted(sizes)}, {len(labels)} labels, start "
            f"{start}; give frames of one size, a label for each, and a start among them"
        )
    width = sizes.pop()[0]
    enlarged = width < SMALLEST and not isinstance(frames[0], Figure)
    shown = SMALLEST if enlarged else width
    style = f"width:{shown}px;max-width:100%;height:auto;background:#fff;margin:0;"
    style += "image-rendering:pixelated;" if enlarged else ""
    images = []
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        display = "block" if i == start else "none"
        images.append(
            f'<img src="{_data(picture)}" alt="{escape(name)}: {escape(label)}" data-label="{escape(label)}" '
            f'class="dark-light" style="{style}display:{display}">'
        )
    text = {"name": escape(name), "label": escape(labels[start]), "images": "\n".join(images), "move": MOVE}
    return HTML(PAGE.format(**text, width=shown, last=len(pictures) - 1, start=start))


def _picture(frame: Any) -> Image.Image:
    if isinstance(frame, Figure):
        memory = io.BytesIO()
        frame.savefig(memory, format="png", dpi=DPI, facecolor=RC["figure.facecolor"])
        picture = Image.open(memory).convert("RGB")
    else:
        picture = Image.fromarray((to_rgb(frame) * 255).round().astype(np.uint8))
    if picture.width > WIDEST:
        size = WIDEST, round(picture.height * WIDEST / picture.width)
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return picture


def _data(picture: Image.Image) -> str:
    """A data address: exact where the picture is small or has few colours, at high quality otherwise."""
    memory = io.BytesIO()
    exact = picture.width < SMALLEST or picture.getcolors(256) is not None
    picture.save(memory, format="WEBP", lossless=exact, quality=100 if exact else 85, method=4)
    return "data:image/webp;base64," + base64.b64encode(memory.getvalue()).decode("ascii")
