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

if TYPE_CHECKING:
    from IPython.display import HTML

# The same script draws the canvas in the notebook. Here nobody listens to what it sends, and so nothing of it can be reached.
PAGE = """<figure id="{id}" class="wsis-recording" style="margin:1em 0">
<div style="display:flex;gap:.8em;align-items:center;max-width:1000px;color:inherit">
<span aria-hidden="true">{name}</span>
<input type="range" min="0" max="{last}" value="{start}" step="1" autocomplete="off" aria-label="{name}"
 style="flex:1;min-width:8em;accent-color:#0072B2;cursor:pointer">
<output style="min-width:9em;font-variant-numeric:tabular-nums"></output>
</div>
<div inert></div>
<script type="module">
const {{ steps, images }} = {frames}, place = document.getElementById("{id}");
const [slider, said] = [place.querySelector("input"), place.querySelector("output")];
const bytes = images.map((text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
const listeners = [], step = () => steps[+slider.value];
const traits = {{ state: () => step().state, picture: () => bytes[step().picture], overlay: () => bytes[step().overlay] }};
const model = {{ get: (name) => traits[name](), on: (_, act) => listeners.push(act), off() {{}}, send() {{}} }};
const show = () => {{ said.value = step().label; slider.ariaValueText = step().label; listeners.forEach((act) => act()); }};
slider.addEventListener("input", show);
const canvas = await import("data:text/javascript;base64,{script}");
canvas.default.render({{ model, el: place.querySelector("[inert]") }});
show();
</script>
</figure>"""


def record(canvas: Annotator, messages: Sequence[Entry], name: str, start: int = -1) -> "HTML":
    """Give a canvas the messages of a page, see `Annotator.receive`, and show it after each of them, chosen by a slider.

    name: what the slider moves; screen readers read it out. start: the step that is shown first, by default the last. Raises
    AnnotationError if the canvas refuses a message.
    """
    from IPython.display import HTML

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
    text = {"name": escape(name), "frames": frames.replace("</", "<\\/"), "script": script}
    return HTML(
        PAGE.format(
            **text,
            id=f"r{hashlib.sha256(frames.encode()).hexdigest()[:8]}",
            last=len(messages),
            start=range(len(steps))[start],
        )
    )
