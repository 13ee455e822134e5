"""Figures that can be turned: what a page gets, and that their data are those of the pictures."""

import json
import re
import shutil
from importlib.resources import as_file, files
from types import SimpleNamespace

import numpy as np
import pytest

from book.browser import browser
from wsis import viz
from wsis.viz import plots

pytest.importorskip("plotly")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def embedded(html):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)[1])


def test_page_has_a_picture_with_words_and_the_figure_as_data():
    y, x = np.mgrid[:20, :30]
    offsets, labelled = np.stack([10.0 - y, 15.0 - x]), np.hypot(y - 10, x - 15) < 8
    figure = viz.magnitude_surface(offsets, labelled, threshold=2.5)
    html = viz.interactive(figure, viz.show({"": viz.draw_magnitude(offsets, labelled)}), 'a "funnel" </script>').data
    assert 'alt="a &quot;funnel&quot; &lt;/script&gt;"' in html and "data:image/webp;base64," in html
    surface, plane = embedded(html)["data"]
    assert surface["type"] == plane["type"] == "surface"


def test_surface_is_the_logarithm_of_the_length_with_a_hole_and_a_plane_at_the_threshold():
    offsets = np.zeros((2, 4, 5))
    offsets[1], offsets[:, 0, 0] = 10.0, 0.0
    labelled = np.ones((4, 5), dtype=bool)
    labelled[3, 4] = False
    surface, plane = viz.magnitude_surface(offsets, labelled, threshold=1.0, floor=0.1).data
    assert surface.z[0][0] == -1 and surface.z[1][1] == 1 and np.isnan(surface.z[3][4])
    assert np.ptp(plane.z) == 0 and plane.z[0][0] == 0


def test_curves_have_the_mean_and_the_band_of_all_seeds():
    rows = [{"method": "a", "step": s, "x": v} for s, v in ((0, 1.0), (0, 3.0), (10, 4.0), (10, 6.0))]
    band, mean = viz.curves_plot(rows, {"x": "title"}, x="step", y="").data
    assert list(mean.y) == [2, 5] and list(mean.x) == [0, 10]
    assert list(band.y) == [3, 6, 4, 1] and list(band.x) == [0, 10, 10, 0]


def test_every_method_has_a_curve():
    names = [f"method {i}" for i in range(12)]
    rows = [{"method": name, "step": 0, "x": 1.0} for name in names]
    shown = [trace.name for trace in viz.curves_plot(rows, {"x": ""}, x="step", y="").data if trace.showlegend]
    assert shown == names


def test_live_front_end_gets_the_figure_itself(monkeypatch):
    monkeypatch.setattr(plots, "live", lambda: True)
    figure = viz.curves_plot([], {"x": ""}, x="step", y="")
    assert plots.interactive(figure, None, "") is figure


def test_every_point_has_its_crop_and_its_words():
    crops = [np.full((3, 4, 4), gray, dtype=np.uint8) for gray in (0, 100, 200)]
    arrays = np.array([0.1, 0.2, 0.3]), np.array([0.9, 0.8, 0.0]), np.array([True, False, True])
    figure = viz.score_plot(*arrays, crops, ["a", "b", "c"])
    right, wrong = figure.data
    assert list(right.x) == [0.1, 0.3] and list(right.text) == ["a", "c"] and list(wrong.y) == [0.8]
    assert len({*right.customdata, *wrong.customdata}) == 3 and right.customdata[0].startswith("data:image/webp")


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no chromium is installed")
def test_page_shows_the_crop_of_the_point_under_the_mouse(tmp_path):
    pytest.importorskip("websocket")
    crop, one = np.full((3, 4, 4), 90, dtype=np.uint8), np.ones(1)
    figure = viz.score_plot(one, one, one, [crop], ["a cat"])
    html = viz.interactive(figure, viz.show({"": crop}), "one point").data
    (tmp_path / "_static").mkdir()
    with as_file(files("plotly") / "package_data" / "plotly.min.js") as script:
        shutil.copy(script, tmp_path / "_static")
    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset=utf-8><body>{html}</body>")
    with browser(CHROMIUM, tmp_path / "profile") as page:
        page.size(390, 800)
        page.send("Page.navigate", url=(tmp_path / "page.html").as_uri())
        page.wait("!!document.querySelector('.scatterlayer .point')")
        x, y, width, height = page.place(".scatterlayer .point")
        page.send("Input.dispatchMouseEvent", type="mouseMoved", x=x + width / 2, y=y + height / 2)
        page.wait("[...document.images].some(i => i.alt === 'a cat' && i.naturalWidth === 4)")
        assert page.run("document.documentElement.scrollWidth <= innerWidth")


def test_live_front_end_shows_the_crop_of_the_point_under_the_mouse(monkeypatch):
    pytest.importorskip("anywidget")
    monkeypatch.setattr(plots, "live", lambda: True)
    crop, one = np.zeros((3, 4, 4), dtype=np.uint8), np.ones(1)
    figure, shown = plots.interactive(viz.score_plot(one, one, one, [crop], ["a cat"]), None, "").children
    trace = figure.data[0]
    for act in trace._hover_callbacks:
        act(trace, SimpleNamespace(point_inds=[0]), None)
    assert trace.customdata[0] in shown.value and "a cat" in shown.value


class TestCurves:
    NAMES = {"foreground_background": "a", "inter_class": "b", "intra_class": "c"}

    def draw(self, rows):
        return viz.curves_picture(rows, self.NAMES, x="step", y="cosine")

    def rows(self, level=""):
        values = {("ours", 0): (0.1, 0.3), ("ours", 5): (0.4, 0.6), ("base", 0): (0.5,), ("base", 5): (0.9,)}
        for (method, step), seeds in values.items():
            for seed, value in enumerate(seeds):
                shifted = {n + level: value + i for i, n in enumerate(self.NAMES)}
                yield {"method": method, "seed": seed, "step": step} | shifted

    def test_a_plot_for_each_and_a_mean_for_each_method(self):
        axes = self.draw(list(self.rows())[::-1]).axes
        assert len(axes) == 3
        for i, ax in enumerate(axes):
            lines = {line.get_label(): line.get_xydata() for line in ax.lines}
            np.testing.assert_allclose(lines["ours"], [[0, 0.2 + i], [5, 0.5 + i]])
            np.testing.assert_allclose(lines["base"], [[0, 0.5 + i], [5, 0.9 + i]])

    def test_the_band_goes_from_the_lowest_to_the_highest_seed(self):
        band = self.draw(list(self.rows())).axes[0].collections[0].get_paths()[0].vertices
        assert {(x, round(y, 6)) for x, y in band} == {(0, 0.1), (0, 0.3), (5, 0.4), (5, 0.6)}

    def test_nan_is_left_out(self):
        rows = list(self.rows())
        rows[0]["inter_class"] = float("nan")
        lines = self.draw(rows).axes[1].lines
        np.testing.assert_allclose(lines[0].get_ydata(), [1.3, 1.5])
