"""Pictures of AttentionShift: which patch gets which colour, where rings, boxes and ways lie, what a band spans."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from wsis import viz
from wsis.viz import attentionshift as parts

IMAGE = torch.full((3, 24, 32), 128, dtype=torch.uint8)  # 3 x 4 patches of 8 pixels
BOX = torch.tensor([8.0, 8.0, 24.0, 24.0])  # the last two rows, the middle two columns
VERMILION, BLUE = ("#D55E00", "#0072B2")


def drawn(panel):
    figure = viz.show({"": panel})
    figure.canvas.draw()
    return figure.axes[0]


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


@pytest.fixture
def slider(monkeypatch):
    """What is given to the slider, in place of a page: frames, labels, name, start."""
    monkeypatch.setattr(parts, "scrub", lambda frames, labels, name, start=0: (frames, labels, name, start))


def outlines(axes):
    """Boxes that are drawn, as (extents, colour)."""
    shapes = [p for p in axes.patches if isinstance(p, Rectangle) and p.get_transform() != axes.transAxes]
    return [(s.get_bbox().extents.tolist(), s.get_edgecolor()[:3]) for s in shapes]


class TestRollout:
    MAPS = torch.arange(24.0).view(2, 3, 4)
    BOXES = torch.tensor([[0.0, 0, 8, 8], [8.0, 0, 32, 16]])

    def frames(self, threshold=0.5, maps=MAPS):
        return parts.rollout_figure(IMAGE, maps, self.BOXES, 1, torch.tensor([9.0, 5]), threshold)

    def test_a_frame_per_candidate_and_the_chosen_one_first(self, slider):
        frames, labels, _, start = self.frames()
        assert len(frames) == 2 and start == 1
        assert labels == ["last layer", "last 2 layers, chosen"]

    def test_the_candidates_box_is_in_color_and_the_chosen_one_in_another(self, slider):
        for frame, box, color in zip(self.frames()[0], self.BOXES, (BLUE, VERMILION), strict=True):
            *thin, (extents, ink) = outlines(frame.axes[1])
            assert len(thin) == 2
            assert extents == (box - 0.5).tolist() and ink == to_rgb(color)

    def test_maps_fill_the_image_and_their_range(self, slider):
        for frame in self.frames()[0]:
            heat = frame.axes[0].images[-1].get_array()
            assert heat.shape == (24, 32) and (heat.min(), heat.max()) == (0, 1)

    def test_the_line_is_at_the_threshold(self, slider):
        column = torch.tensor([0.0, 0, 1, 1]).expand(2, 3, 4)
        lines = self.frames(0.5, column)[0][0].axes[0].collections
        (line,) = [c for c in lines if len(c.get_paths()[0].vertices) > 4]
        assert line.get_paths()[0].vertices[:, 0] == pytest.approx(15.5)

    def test_a_constant_map_has_no_line(self, slider):
        assert len(self.frames(0.5, torch.ones(2, 3, 4))[0][0].axes[0].collections) == 0

    def test_makes_a_page(self):
        page = parts.rollout_figure(IMAGE, self.MAPS, self.BOXES, 1, torch.tensor([9.0, 5]), 0.5).data
        assert page.count("<img") == 2 and "last layer" in page


class TestDrawParts:
    MAPS = torch.zeros(3, 3, 4)
    MAPS[0, 1, 2], MAPS[1, 2, 3], MAPS[1, 0, 0] = 1.0, 0.75, 0.5

    def test_a_patch_has_the_color_of_its_part_and_is_clear_at_the_least(self, axes):
        parts.draw_parts(IMAGE, self.MAPS, least=0.5)(axes)
        paint, colors = axes.images[-1].get_array(), viz.class_colors(2)
        np.testing.assert_allclose(paint[1, 2], [*colors[0], 0.85])
        np.testing.assert_allclose(paint[2, 3], [*colors[1], 0.425])
        assert paint[0, 0, 3] == 0
        assert axes.images[-1].get_extent() == [-0.5, 31.5, 23.5, -0.5]

    def test_rings_are_at_the_centers_of_the_best_patches_and_a_dead_part_has_none(self, axes):
        parts.draw_parts(IMAGE, self.MAPS)(axes)
        (rings,) = axes.collections
        assert rings.get_offsets().tolist() == [[19.5, 11.5], [27.5, 19.5]]
        np.testing.assert_allclose(rings.get_facecolor()[:, :3], viz.class_colors(2))

    def test_nothing_alive(self, axes):
        parts.draw_parts(IMAGE, torch.zeros(3, 3, 4))(axes)
        assert not axes.images[-1].get_array()[..., 3].any()


class TestShift:
    """Two clusters at right angles, left and right in the box; the second prototype goes from one to the other."""

    FEATURES = torch.zeros(5, 3, 4)
    FEATURES[0, :, :2], FEATURES[1, :, 2:] = 3.0, 2.0
    FEATURES[2, 0] = 9.0  # above the box: must not be seen
    WAYS = torch.zeros(3, 3, 5)
    WAYS[:, 0, 0] = 0.2
    WAYS[0, 1, 0], WAYS[1, 1, :2], WAYS[2, 1, 1] = 1.0, 1.0, 0.1
    WAYS[0, 2, 1] = 1.0  # dies

    @pytest.fixture
    def frames(self, slider):
        frames, labels, name, start = parts.shift_figure(IMAGE, self.FEATURES, self.WAYS, BOX)
        assert (labels, name, start) == (["0", "1", "2"], "iteration", 0)
        return frames

    def test_patches_have_the_color_of_the_nearest_prototype(self, frames):
        colors = viz.class_colors(3)
        for frame, right in zip(frames, (2, 1, 1), strict=True):
            paint = frame.axes[0].images[-1].get_array()
            np.testing.assert_allclose(paint[1:, 1, :3], colors[[0, 0]])
            np.testing.assert_allclose(paint[1:, 2, :3], colors[[right, right]])

    def test_outside_of_the_box_is_clear(self, frames):
        opacity = frames[2].axes[0].images[-1].get_array()[..., 3]
        assert not opacity[0].any() and not opacity[:, [0, 3]].any() and opacity[1:, 1:3].all()

    def test_counts_those_alive(self, frames):
        assert [f.axes[0].get_title()[-12:] for f in frames] == ["3 prototypes", "2 prototypes", "2 prototypes"]
        assert [len(f.axes[0].collections[0].get_offsets()) for f in frames] == [3, 2, 2]

    def test_distances_of_features_are_kept(self, frames):
        patches, prototypes = (c.get_offsets().data for c in frames[2].axes[1].collections)
        assert len(patches) == 4
        assert np.linalg.norm(patches[0] - patches[1]) == pytest.approx(2**0.5, abs=1e-5)
        np.testing.assert_allclose(prototypes, patches[:2], atol=1e-5)  # of any length: by direction

    def test_ways_grow_and_end_with_death(self, frames):
        lengths = [[len(line.get_xdata()) for line in frame.axes[1].lines] for frame in frames]
        assert lengths == [[1, 1, 1], [2, 2, 1], [3, 3, 1]]

    def test_all_frames_have_the_same_limits(self, frames):
        for frame in frames:
            frame.canvas.draw()
        limits = {(f.axes[1].get_xlim(), f.axes[1].get_ylim()) for f in frames}
        assert len(limits) == 1

    @pytest.mark.parametrize(
        "box, patches",
        [([0, 0, 1, 1], 1), ([31, 23, 32, 24], 1), ([0, 0, 32, 24], 12), ([8, 8, 24, 24], 4), ([7, 8, 25, 24], 8)],
    )
    def test_patches_that_share_a_pixel_with_the_box(self, slider, box, patches):
        """A box is half-open: it ends where the next patch begins."""
        features = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
        frames = parts.shift_figure(IMAGE, features, self.WAYS, torch.tensor(box).float())[0]
        assert frames[0].axes[0].images[-1].get_array().shape[:2] == (3, 4)
        assert len(frames[0].axes[1].collections[0].get_offsets()) == patches

    def test_a_dead_prototype_has_no_patches_not_even_those_unlike_all_others(self, slider):
        ways = self.WAYS[2:, [2, 0]]  # the first is dead, the second opposed to the left, at right angles to the right
        frame = parts.shift_figure(IMAGE, -self.FEATURES, ways, BOX)[0][0]
        paint = frame.axes[0].images[-1].get_array()
        np.testing.assert_allclose(paint[1:, 1:3, :3].reshape(-1, 3), viz.class_colors(2)[[1] * 4])

    def test_all_dead(self, slider):
        assert len(parts.shift_figure(IMAGE, self.FEATURES, torch.zeros(3, 3, 5), BOX)[0]) == 3


class TestPanels:
    def test_parts_are_a_row_of_equal_views(self):
        maps = {t: torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(t)) for t in (0, 1, 3, 10)}
        panels = parts.parts_panels(IMAGE, maps, torch.tensor([[11.5, 19.5], [19.5, 11.5]]), BOX)
        assert list(panels) == ["image", *(f"iteration {t}" for t in maps), "key-points"]
        views = {(a.get_xlim(), a.get_ylim()) for a in viz.show(panels, columns=6).axes}
        assert len(views) == 1

    def test_opacity_is_comparable_between_iterations(self):
        maps = {0: torch.full((1, 3, 4), 0.5), 1: torch.full((1, 3, 4), 0.75)}
        panels = parts.parts_panels(IMAGE, maps, torch.zeros(0, 2), BOX)
        opacity = [drawn(panels[f"iteration {t}"]).images[-1].get_array()[0, 0, 3] for t in maps]
        assert opacity == pytest.approx([0, 0.425])

    def test_key_points_are_numbered_in_order(self):
        xy = torch.tensor([[11.5, 19.5], [19.5, 11.5]])
        axes = drawn(parts.parts_panels(IMAGE, {0: torch.ones(1, 3, 4)}, xy, BOX)["key-points"])
        assert {t.get_text(): t.get_position() for t in axes.texts} == {"1": (11.5, 19.5), "2": (19.5, 11.5)}

    @pytest.mark.parametrize("box", [(8, 8, 16, 16), (0, 0, 8, 8), (26, 16, 32, 24), (0, 0, 32, 24)])
    def test_the_view_holds_the_box_and_stays_in_the_image_where_it_can(self, box):
        panels = parts.parts_panels(IMAGE, {0: torch.ones(1, 3, 4)}, torch.zeros(0, 2), torch.tensor(box).float())
        axes = drawn(panels["image"])
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert left <= box[0] and box[2] - 1 <= right and top <= box[1] and box[3] - 1 <= bottom
        assert left >= -0.5 and right <= 31.5
        if box[2] - box[0] < 32:  # no square around the whole of a wide image is inside of it
            assert top >= -0.5 and bottom <= 23.5

    def test_stages_frame_the_chosen_candidate_only(self):
        mask = torch.zeros(24, 32, dtype=torch.bool)
        mask[8:16, 8:16] = True
        point = torch.tensor([11.5, 11.5])
        maps = torch.rand(3, 3, 4, generator=torch.Generator().manual_seed(0))
        panels = parts.stages_panels(IMAGE, maps, 1, mask.float(), mask, mask, point)
        names = ["click", "last layer", "last 2 layers", "last 3 layers", "refined", "pseudo mask", "predicted"]
        assert list(panels) == names
        figure = viz.show(panels, columns=7)
        assert [bool(a.patches) for a in figure.axes] == [n == "last 2 layers" for n in names]
        assert not any(a.child_axes for a in figure.axes)
