"""A headless chromium, driven over its DevTools protocol."""

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

KEYS = {"Enter": 13, "Escape": 27, "Backspace": 8, "ArrowRight": 39, "ArrowDown": 40, "ArrowLeft": 37, "PageDown": 34}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(ask: Any, seconds: float = 90) -> Any:
    """What `ask` returns as soon as it is true; an error in between counts as not yet."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            if answer := ask():
                return answer
        except (OSError, RuntimeError, ValueError) as error:
            last = error
        time.sleep(0.3)
    raise TimeoutError(f"nothing after {seconds} s ({last})")


class Page:
    """One page of the browser; coordinates are CSS pixels of its window."""

    def __init__(self, address: str) -> None:
        import websocket

        self._socket, self._count = websocket.create_connection(address, timeout=600), 0
        self.events: list[dict[str, Any]] = []  # what the page reported by itself

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": params}))
        while (answer := json.loads(self._socket.recv())).get("id") != self._count:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"])[:400])
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 90) -> Any:
        return wait_for(lambda: self.run(script), seconds)

    def size(self, width: int, height: int) -> None:
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def place(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width and height of an element, scrolled into the window."""
        find = f"document.querySelector({json.dumps(selector)})"
        rectangle = f"(e => (e.scrollIntoView({{block: 'center'}}), e.getBoundingClientRect().toJSON()))({find})"
        box = self.run(rectangle)
        return box["x"], box["y"], box["width"], box["height"]

    def click(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        """Click on an element, at shares of its width and height."""
        x, y, width, height = self.place(selector)
        self.mouse(x + across * width, y + down * height)

    def mouse(self, x: float, y: float) -> None:
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, *, control: bool = False) -> None:
        code = KEYS.get(key, ord(key[0].upper()))
        more = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 2 if control else 0}
        more |= {"text": key} if len(key) == 1 and not control else {}
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, **more)

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Save the window, or the whole page, as PNG."""
        width, height = self.run("[innerWidth, innerHeight]")
        if whole:  # in a window as tall as the page: what chromium captures beyond its window may be shifted sideways
            self.size(width, min(self.run("document.documentElement.scrollHeight"), 16_000))
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))
        self.size(width, height)


def chromium() -> str:
    """The program. Stops with what to install where there is none."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("no chromium was found; on Debian and Ubuntu: apt install chromium")
    return program


@contextmanager
def process(arguments: list[Any], **options: Any) -> Iterator[None]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen([str(a) for a in arguments], **quiet, **options)
    try:
        yield
    finally:
        running.terminate()
        try:
            running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Page]:
    """A new page of a browser that reaches nothing but this computer."""
    port = free_port()
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-allow-origins=*"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    flags += ["--disable-dev-shm-usage", f"--user-data-dir={profile}", f"--remote-debugging-port={port}"]
    with process([program, *flags, "about:blank"]):

        def page() -> str:
            with urlopen(f"http://127.0.0.1:{port}/json") as answer:
                return next(t["webSocketDebuggerUrl"] for t in json.load(answer) if t["type"] == "page")

        yield Page(wait_for(page))
