"""A recorded canvas: what it holds, and that a page shows it without a kernel and a network."""

import json
import re
import shutil

import pytest
from PIL import Image

from wsis import viz
from wsis.core.errors import AnnotationError

CLICKS = [{"do": "click", "xy": [3, 4]}, {"do": "click", "xy": [13, 9]}]


@pytest.fixture
def canvas(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (24, 16), "red").save(tmp_path / "images" / "a.png")
    return viz.annotate(tmp_path / "images", tmp_path / "labels.json", ["cat"])


def test_a_step_for_each_message_and_one_image_for_all(canvas):
    page = viz.record(canvas, CLICKS, "click").data
    frames = json.loads(re.search(r"= (\{.*\}), place", page)[1])
    assert [len(step["state"]["objects"]) for step in frames["steps"]] == [0, 1, 2]
    assert len(frames["images"]) == 2, "the picture, and no mask"
    assert 'max="2" value="2"' in page and "http" not in re.sub(r"base64,\S+", "", page)


def test_a_refused_message_is_an_error(canvas):
    with pytest.raises(AnnotationError, match="outside the image"):
        viz.record(canvas, [{"do": "click", "xy": [99, 4]}], "click")


@pytest.mark.slow
def test_the_slider_moves_through_the_clicks_in_a_browser(canvas, tmp_path):
    pytest.importorskip("websocket")
    from book.browser import browser
    from book.check import served

    if not (chromium := shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no chromium is installed")
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text(viz.record(canvas, CLICKS, "click", start=1).data)
    objects = "document.querySelectorAll('.wsis-canvas ol li').length"
    with served(site) as address, browser(chromium, tmp_path / "profile") as page:
        page.send("Page.navigate", url=f"{address}/index.html")
        page.wait(f"{objects} === 1")
        page.run(
            "(s => {s.value = 2; s.dispatchEvent(new Event('input'))})(document.querySelector('input[type=range]'))"
        )
        page.wait(f"{objects} === 2")
        assert page.run("document.querySelector('output').value") == "click [13, 9]"
