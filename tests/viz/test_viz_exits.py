"""Tokens over their crop: each number and each label in its place and its colour."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

from wsis import viz
from wsis.viz.maps import BACKGROUND, OBJECT, RETRIEVED

CROP = torch.full((3, 32, 32), 128, dtype=torch.uint8)  # 4 x 4 tokens of 8 pixels


def drawn(panel):
    figure = viz.show({"": panel})
    figure.canvas.draw()
    return figure.axes[0]


def only(*tokens):
    mask = torch.zeros(16, dtype=torch.bool)
    mask[list(tokens)] = True
    return mask


def marks(axes):
    """Centres of what is drawn over the crop in pixels, by colour."""
    found = {}
    for group in axes.collections:
        for path in group.get_paths():
            box = path.get_extents()
            place = (round((box.x0 + box.x1) / 2, 3), round((box.y0 + box.y1) / 2, 3))
            found.setdefault(tuple(group.get_facecolor()[0]), []).append(place)
    return found


class TestDrawTokens:
    def test_a_token_is_where_its_pixels_are(self):
        values = torch.zeros(16)
        values[6] = 1.0  # second row, third column
        picture = drawn(viz.draw_tokens(CROP, values)).images[-1]
        assert picture.get_array().data[1, 2] == 1
        assert picture.get_extent() == [-0.5, 31.5, 31.5, -0.5]

    def test_the_larger_the_more_opaque(self):
        alpha = drawn(viz.draw_tokens(CROP, torch.arange(16.0))).images[-1].get_alpha()
        assert alpha[0, 0] == 0 and alpha[3, 3] == pytest.approx(0.85)
        assert (np.diff(alpha.ravel()) > 0).all()

    def test_signs_have_colors_and_zero_is_clear(self):
        values = torch.zeros(16)
        values[0], values[5] = 2.0, -2.0
        picture = drawn(viz.draw_tokens(CROP, values, signed=True)).images[-1]
        shades = picture.to_rgba(picture.get_array())[..., :3]
        np.testing.assert_allclose(shades[0, 0], to_rgba(OBJECT)[:3], atol=0.01)
        np.testing.assert_allclose(shades[1, 1], to_rgba(BACKGROUND)[:3], atol=0.01)
        assert picture.get_alpha()[2, 2] == 0

    def test_signed_limits_are_alike_on_both_sides(self):
        values = torch.linspace(-1, 3, 16)
        assert drawn(viz.draw_tokens(CROP, values, signed=True)).images[-1].get_clim() == (-3, 3)

    def test_nothing_but_zeros(self):
        drawn(viz.draw_tokens(CROP, torch.zeros(16)))
        drawn(viz.draw_tokens(CROP, torch.zeros(16), signed=True))

    def test_draws_on_another_panel(self):
        clicked = viz.draw_points(CROP, viz_points())
        assert len(drawn(viz.draw_tokens(clicked, torch.ones(16))).lines) == 3

    @pytest.mark.parametrize("values", [torch.ones(15), torch.ones(4, 4)])
    def test_tokens_that_are_no_square_are_refused(self, values):
        with pytest.raises(ValueError, match="side"):
            drawn(viz.draw_tokens(CROP, values))


def viz_points():
    from wsis.core.types import Points

    return Points.make(torch.tensor([[4.0, 4.0]]), torch.tensor([0]))


class TestDrawLabelled:
    def test_each_kind_has_its_place_and_color(self):
        target, labelled = only(0, 5), only(0, 5, 10, 15)
        given = only(0, 15)
        found = marks(drawn(viz.draw_labelled(CROP, target, labelled, given)))
        assert found[to_rgba(OBJECT)] == [(3.5, 3.5)]
        assert found[to_rgba(RETRIEVED)] == [(11.5, 11.5)]
        assert found[to_rgba(BACKGROUND)] == [(19.5, 19.5)]
        assert found[to_rgba("0.5", 0.72)] == [(27.5, 27.5)]
        assert len(found) == 4

    def test_what_is_not_labelled_stays_bare(self):
        assert marks(drawn(viz.draw_labelled(CROP, only(0, 1), only()))) == {}

    def test_without_given_tokens_all_are_found(self):
        found = marks(drawn(viz.draw_labelled(CROP, only(0).float(), only(0, 1))))
        assert set(found) == {to_rgba(RETRIEVED), to_rgba(BACKGROUND)}

    def test_legend_names_the_four_kinds(self):
        axes = drawn(viz.draw_labelled(CROP, only(0), only(0), names=True))
        assert len(axes.get_legend().get_texts()) == 4

    def test_the_picture_keeps_its_limits(self):
        axes = drawn(viz.draw_labelled(CROP, only(0), only(0, 15), only(15)))
        assert axes.get_xlim() == (-0.5, 31.5) and axes.get_ylim() == (31.5, -0.5)
