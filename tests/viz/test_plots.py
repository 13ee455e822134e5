"""Figures that can be turned: what a page gets, and that their data are those of the pictures."""

import json
import re

import numpy as np
import pytest

from wsis import viz
from wsis.viz import plots

pytest.importorskip("plotly")


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
    band, mean = viz.similarity_plot(rows, {"x": "title"}).data
    assert list(mean.y) == [2, 5] and list(mean.x) == [0, 10]
    assert list(band.y) == [3, 6, 4, 1] and list(band.x) == [0, 10, 10, 0]


def test_live_front_end_gets_the_figure_itself(monkeypatch):
    monkeypatch.setattr(plots, "live", lambda: True)
    figure = viz.similarity_plot([], {"x": ""})
    assert plots.interactive(figure, None, "") is figure
