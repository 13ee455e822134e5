"""An image in the notebook that can be clicked on.

A `Canvas` is plain Python: a message of the page goes in, `state` and two images come out. `canvas.js` draws them and
knows nothing else. anywidget carries both ways; it is imported when the canvas is shown.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

from wsis.core.errors import WsisError
from wsis.core.files import Entry


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
            _esm = Path(__file__).with_name("canvas.js")
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
