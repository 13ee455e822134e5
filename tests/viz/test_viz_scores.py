"""Pictures of scores and clicks: which pixels get which colour, and where lines and boxes lie."""

import os
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from wsis import viz
from wsis.core.types import ExtremePoints
from wsis.evaluation.instances import average_precision
from wsis.viz.charts import COMMON, ONLY_PREDICTED, ONLY_TRUE

IMAGE = torch.full((3, 8, 10), 0.5)


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_overlap_colours_what_both_or_one_of_the_masks_has(axes):
    predicted, true = torch.zeros(2, 8, 10, dtype=torch.bool)
    predicted[2, 2:6] = True
    true[2, 4:8] = True
    viz.draw_overlap(IMAGE, predicted, true, fill=1)(axes)
    drawn = axes.images[0].get_array()
    for x, color in ((3, ONLY_PREDICTED), (5, COMMON), (7, ONLY_TRUE)):
        assert np.allclose(drawn[2, x], [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    assert np.allclose(drawn[5, 5], 0.5)


def test_shaded_area_is_the_average_precision(axes):
    right = torch.tensor([True, False, True, False, True])
    viz.draw_precision_recall(right, 4)(axes)
    (x, y) = axes.collections[0].get_paths()[0].vertices.T
    area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    assert area == pytest.approx(average_precision(right.numpy(), 4))


def test_eleven_points_average_to_the_older_rule(axes):
    right = torch.tensor([True, True, False, True])
    viz.draw_precision_recall(right, 5)(axes)
    heights = axes.lines[1].get_ydata()
    assert np.mean(heights) == pytest.approx(average_precision(right.numpy(), 5, "11point"))


def test_confusion_shows_rows_in_percent_and_leaves_empty_cells_blank(axes):
    viz.draw_confusion(torch.tensor([[3, 1], [0, 0]]), ("cat", "dog"))(axes)
    assert {t.get_position(): t.get_text() for t in axes.texts} == {(0, 0): "75", (1, 0): "25"}
    assert [t.get_text() for t in axes.get_yticklabels()] == ["cat", "dog"]


def test_extreme_points_come_with_the_box_that_they_span(axes):
    four = torch.tensor([[[4.0, 1], [2, 3], [5, 6], [8, 2]]])
    viz.draw_extreme_points(IMAGE, ExtremePoints(xy=four, labels=torch.tensor([0]), ids=torch.tensor([1])))(axes)
    (box,) = [p for p in axes.patches if isinstance(p, Rectangle)]
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (1.5, 0.5, 7, 6)
    assert {line.get_xydata()[0].tolist()[0] for line in axes.lines} == {4, 2, 5, 8} and len(axes.lines) == 4 * 3


def test_zoom_shows_a_square_around_the_points(axes):
    viz.zoom(IMAGE, torch.tensor([[2.0, 1], [8, 3]]), room=1)(axes)
    assert axes.get_xlim() == (1, 9) and axes.get_ylim() == (6, -2)


def test_figures_after_show_still_appear_in_a_notebook():
    """The notebook's backend is loaded by the first figure, and must not be made silent by its style."""
    code = (
        "from IPython.core.interactiveshell import InteractiveShell; InteractiveShell.instance(); "
        "import torch, matplotlib; from wsis import viz; viz.show({'': torch.zeros(3, 4, 4)}); "
        "print(matplotlib.rcParams['interactive'])"
    )
    environment = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
