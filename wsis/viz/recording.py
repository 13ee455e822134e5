"""A recorded canvas: what a hand did on it, step by step under a slider, on a page without a kernel and a network."""

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from wsis.core.errors import AnnotationError
from wsis.core.files import Entry
from wsis.viz.annotator import Annotator
from wsis.viz.scrub import fill

if TYPE_CHECKING:
    from IPython.display import HTML


def record(canvas: Annotator, messages: Sequence[Entry], name: str, start: int = -1) -> "HTML":
    """Give a canvas the messages of a page, see `Annotator.receive`, and show it after each of them, chosen by a slider.

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
    script = base64.b64encode(Path(__file__).with_name("canvas.js").read_bytes()).decode()
    slider = {"name": escape(name), "last": len(messages), "start": range(len(steps))[start]}
    id = f"r{hashlib.sha256(frames.encode()).hexdigest()[:8]}"
    return fill("recording.html", id=id, frames=frames.replace("</", "<\\/"), script=script, **slider)
