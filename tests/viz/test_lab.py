"""Marked slow: the canvas and the sliders in a real JupyterLab, with a real kernel, in a real browser."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("websocket")
pytest.importorskip("anywidget")

from book.browser import browser
from tests.viz.lab import jupyter_lab

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WIDTH, HEIGHT = 400, 300
CELLS = [
    'from wsis import viz\ncanvas = viz.annotate("photos", "labels.json", ["cat", "dog"])\ncanvas',
    "import numpy as np\n"
    "def figure(pixel, tau):\n"
    "    values = np.eye(9) * tau\n"
    "    values[pixel[0][1]] = 4\n"
    '    return viz.show({"a": viz.draw_map(values, limits=(0, 9))})\n\n'
    'clicks = viz.Clicks(np.full((9, 9, 3), 200, dtype=np.uint8), {"top": [(4, 0)]})\n'
    "viz.explore(figure, pixel=clicks, tau=[1, 5, 9])",
]
SLIDER = ".jupyter-widgets .noUi-handle"


@pytest.fixture
def page(tmp_path):
    if not CHROMIUM:
        pytest.skip("no chromium is installed")
    (tmp_path / "photos").mkdir()
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([x * 255 / WIDTH, y * 255 / HEIGHT, 0 * x + 120], 2).astype(np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    with jupyter_lab(tmp_path, CELLS) as address, browser(CHROMIUM, tmp_path / "profile") as page:
        try:
            page.size(1280, 1100)
            page.send("Emulation.setFocusEmulationEnabled", enabled=True)  # a headless window has no focus of its own
            page.send("Page.navigate", url=address)
            page.wait("!!document.querySelector('.jp-Notebook .jp-CodeCell') && !!window.jupyterapp")
            page.run("jupyterapp.shell.activateById([...jupyterapp.shell.widgets('main')][0].id)")
            page.wait(
                "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.connectionStatus === 'connected'"
            )
            page.run("void jupyterapp.commands.execute('notebook:run-all-cells')")  # they run for a while
            yield page
        finally:
            look(page, "last")


def look(page, name):
    """Keep a picture of the page where somebody wants to see it."""
    if folder := os.environ.get("WSIS_SCREENSHOTS"):
        page.picture(Path(folder) / f"{name}.png")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_person_clicks_in_jupyterlab_and_moves_a_slider_and_a_mark(page, tmp_path):
    canvas = ".wsis-canvas canvas"
    objects = "document.querySelectorAll('.wsis-canvas ol li').length"
    page.wait(f"document.querySelector('{canvas}')?.clientWidth > 200", 240)
    page.wait("document.querySelector('.wsis-canvas [role=status]').textContent.includes('Click each object')")

    page.click(canvas, 0.25, 0.5)
    page.wait(f"{objects} === 1")
    page.press("2")  # the class dog; JupyterLab would make the cell a heading
    page.wait("document.querySelectorAll('.wsis-canvas .classes [aria-pressed=true]')[0].value === '2'")
    page.click(canvas, 0.75, 0.25)
    page.wait(f"{objects} === 2")
    page.press("z", control=True)
    page.wait(f"{objects} === 1")
    page.press("ArrowRight")
    page.press("ArrowDown")
    page.press("Enter")
    page.wait(f"{objects} === 2")
    look(page, "clicked")
    page.press("s", control=True)
    page.wait("document.querySelector('.wsis-canvas [role=status]').textContent.startsWith('saved in')")

    coco = json.loads((tmp_path / "labels.json").read_text())
    mouse, keyboard = coco["annotations"]
    assert np.abs(np.subtract(mouse["point"], [99.5, 149.5])).max() <= 1 and mouse["category_id"] == 1
    assert np.abs(np.subtract(keyboard["point"], [299.5 + 8, 74.5 + 8])).max() <= 1.5 and keyboard["category_id"] == 2
    page.press("PageDown")
    page.wait("document.querySelector('.wsis-canvas .name').textContent === 'b.png'")
    assert page.run(f"{objects} === 0 && document.querySelectorAll('.jp-Cell').length === 2")

    page.wait(f"!!document.querySelector('{SLIDER}')")
    picture = "[...document.querySelectorAll('.jp-OutputArea-output img')].at(-1)?.src"
    before = page.wait(picture)
    page.run(f"document.querySelector('{SLIDER}').focus()")
    page.press("ArrowRight")
    page.wait(f"{picture} !== {json.dumps(before)}")
    look(page, "slider")
    before = page.run(picture)
    page.click(".wsis-canvas.bare canvas", 0.5, 0.75)
    page.wait(f"{picture} !== {json.dumps(before)}")
    page.wait("document.querySelector('.wsis-canvas.bare canvas').ariaLabel.endsWith('x 4, y 6')")
    look(page, "mark")
