"""An image in the notebook that can be clicked on, and the two images that its page gets: colors, and numbers of masks.

A `Canvas` is plain Python: a message of the page goes in, `state` and two images come out. `canvas.js` draws them and
knows nothing else. anywidget carries both ways; it is imported when the canvas is shown. On a page without a kernel `record`
shows what a hand did on it.
"""

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from wsis.core.errors import AnnotationError, WsisError
from wsis.core.files import Entry
from wsis.core.masks import RunLengths, Segmentation
from wsis.data.masks import paint
from wsis.viz.scrub import encoded, fill

if TYPE_CHECKING:
    from IPython.display import HTML

SHOWN = 1600  # pixels of the longer side that the page gets; the view of a larger image is scaled down
LOSSLESS = 640  # up to this size a view is sent as PNG, larger ones as JPEG
SCRIPT = Path(__file__).with_name("canvas.js")
View = tuple[int, int, int, int]  # left, top, width, height in pixels of the image


class Canvas:
    """What a page draws; its methods `_do_*` answer the messages of the page, by their `do`. value: what `explore` hands to a
    figure, where it does.
    """

    picture, overlay = b"", b""
    value: Any = None
    _message, _is_error = "", False

    @property
    def state(self) -> Entry:
        """What the page draws beside the two images; all coordinates are (x, y) pixels of the image."""
        raise NotImplementedError

    def receive(self, message: Entry) -> None:
        """Do what the page asks for; what does not work is said in `state`, and nothing changes."""
        self._say("")
        try:
            values = {key: value for key, value in message.items() if key != "do"}
            verb = getattr(self, f"_do_{message.get('do')}", None)
            if verb is None:
                raise ValueError("no such verb")
            verb(**values)
        except WsisError as error:
            self._say(str(error), error=True)
        except (TypeError, ValueError, OverflowError) as error:
            self._say(f"the page sent {str(message)[:80]}, which makes no sense ({error}); reload it", error=True)
        self._refresh()
        self._sync()

    def _refresh(self) -> None:
        """Follow what a message changed."""

    def _say(self, message: str, error: bool = False) -> None:
        self._message, self._is_error = message, error

    @cached_property
    def widget(self) -> Any:
        """The canvas as a widget of Jupyter."""
        import anywidget
        from ipywidgets import ValueWidget
        from traitlets import Bytes, Dict

        class Widget(anywidget.AnyWidget, ValueWidget):  # pyright: ignore[reportIncompatibleMethodOverride]
            _esm = SCRIPT
            picture, overlay, state = (trait.tag(sync=True) for trait in (Bytes(), Bytes(), Dict()))

        canvas = Widget(picture=self.picture, overlay=self.overlay, state=self.state, value=self.value)
        canvas.on_msg(lambda _, message, buffers: self.receive(message))
        return canvas

    def _sync(self) -> None:
        """Tell the widget, if it is shown, what changed; all in one message."""
        if (canvas := self.__dict__.get("widget")) is not None:
            with canvas.hold_sync():
                for name in ("picture", "overlay", "state"):
                    canvas.set_trait(name, getattr(self, name))
            canvas.value = self.value  # last: a figure may take its time

    def _repr_mimebundle_(self, **options: object) -> object:
        return self.widget._repr_mimebundle_(**options)


def record(canvas: Canvas, messages: Sequence[Entry], name: str, start: int = -1) -> "HTML":
    """Give a canvas the messages of a page, see `Canvas.receive`, and show it after each of them, chosen by a slider.

    name: what the slider moves; screen readers read it out. start: the step that is shown first, by default the last. Raises
    AnnotationError if the canvas refuses a message.
    """
    images: dict[bytes, int] = {}

    def step(label: str) -> Entry:
        picture, overlay = (images.setdefault(image, len(images)) for image in (canvas.picture, canvas.overlay))
        return {"label": label, "picture": picture, "overlay": overlay, "state": canvas.state}

    steps = [step("at first")]
    for message in messages:
        canvas.receive(message)
        if canvas.state["error"]:
            raise AnnotationError(canvas.state["message"])
        steps.append(step(" ".join(str(value) for value in message.values())))
    frames = json.dumps({"steps": steps, "images": [base64.b64encode(image).decode() for image in images]})
    script = base64.b64encode(SCRIPT.read_bytes()).decode()
    slider = {"name": escape(name), "last": len(messages), "start": range(len(steps))[start]}
    id = f"r{hashlib.sha256(frames.encode()).hexdigest()[:8]}"
    return fill("recording.html", id=id, frames=frames.replace("</", "<\\/"), script=script, **slider)


def draw_view(image: Image.Image, view: View) -> tuple[bytes, tuple[int, int]]:
    """The colors of a view as PNG or JPEG, and their (height, width)."""
    left, top, width, height = view
    scale = min(1, SHOWN / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    box = (left, top, left + width, top + height)
    shown = image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=2.0)
    kind = {"format": "PNG"} if max(size) <= LOSSLESS else {"format": "JPEG", "quality": 90}
    return encoded(shown, **kind), (size[1], size[0])


def number_masks(
    masks: Sequence[Segmentation | None], size: tuple[int, int], view: View, shape: tuple[int, int]
) -> Tensor:
    """The number, from 1, of the topmost mask at each pixel of a view of `shape` (height, width), 0 where there is none: int32
    [h, w]; smaller masks lie on top. size: of the image (height, width).
    """
    left, top, width, height = view
    sides = zip((top, left), shape, (height, width), strict=True)
    y, x = ((start + (torch.arange(n) + 0.5) * side / n).long() for start, n, side in sides)
    numbers = [number for number, mask in enumerate(masks, 1) if mask]
    runs = RunLengths.read([mask for mask in masks if mask], size)
    order = runs.areas.argsort(descending=True, stable=True)
    return paint(runs[order], [numbers[i] for i in order.tolist()])[y[:, None], x]


def encode_numbers(numbers: Tensor) -> bytes:
    """The numbers of masks as a PNG: red + 256 green."""
    channels = torch.stack([numbers % 256, numbers // 256, torch.zeros_like(numbers)], 2).to(torch.uint8)
    return encoded(Image.fromarray(channels.numpy()), format="PNG")


def object_at(xy: tuple[int, int], objects: Sequence[Entry], numbers: Tensor, view: View, reach: float) -> str | None:
    """The key of the object with a mark within `reach` pixels of a pixel (x, y), else of the topmost mask there, see
    `number_masks`, else of the smallest box around it; None if there is none.
    """
    x, y = xy

    def distance(o: Entry) -> float:
        marks = [o["point"]] if "point" in o else []
        steps = (max(abs(x - px), abs(y - py)) for px, py in [*marks, *o.get("extreme_points", ())])
        return min(steps, default=math.inf)

    def box_area(o: Entry) -> float:
        left, top, width, height = o.get("bbox", (0, 0, 0, 0))
        return width * height if 0 <= x - left < width and 0 <= y - top < height else math.inf

    if not objects:
        return None
    nearest, smallest = min(objects, key=distance), min(objects, key=box_area)
    if distance(nearest) <= reach:
        return nearest["key"]
    (left, top, width, height), (rows, columns) = view, numbers.shape
    row, column = (y - top) * rows // height, (x - left) * columns // width
    if 0 <= row < rows and 0 <= column < columns and (number := int(numbers[row, column])):
        return objects[number - 1]["key"]
    return smallest["key"] if box_area(smallest) < math.inf else None
