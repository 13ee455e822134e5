"""From a classifier's maps to cues and class maps."""

import pytest
import torch
from torch import nn

from wsis.core.config import changed
from wsis.core.types import IGNORE
from wsis.methods.bestie import FULL
from wsis.methods.bestie.cues import (
    activation_maps,
    extract_cues,
    semantic_map_from_activations,
    sharpened,
    walked,
    with_background,
)

CUES = changed(FULL, **{"cues.kernel": 5}).cues
ALL = torch.ones(1, 2, dtype=torch.bool)


def bump(y, x, height=1.0, size=(20, 24)):
    """A pyramid of half-width 4, so that the 3 x 3 mean keeps its summit."""
    rows, columns = torch.arange(size[0])[:, None], torch.arange(size[1])
    distance = torch.maximum((rows - y).abs(), (columns - x).abs())
    return height * (1 - distance / 4).clamp_min(0)


def maps(*channels):
    return torch.stack(channels)[None]


def found(points):
    return [(*p, c) for p, c in zip(points.xy.tolist(), points.labels.tolist(), strict=True)]


class Plain(nn.Module):
    """A "classifier" of stride 8 whose maps are the mean colors of cells, the third one negative."""

    def forward(self, images):
        return nn.functional.avg_pool2d(images, 8) * torch.tensor([1.0, 2.0, -1.0])[:, None, None]


# Activation maps


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_activation_maps_are_scaled_to_one_and_other_classes_removed(images):
    tags = torch.tensor([[True, True, True], [False, True, False]])
    out = activation_maps(Plain(), images, tags, (40, 50), (1.0,))
    assert out.shape == (2, 3, 40, 50)
    assert out.amin() >= 0
    highest = out.amax((2, 3))
    torch.testing.assert_close(highest, torch.tensor([[1.0, 1, 0], [0, 1, 0]]), rtol=0, atol=1e-4)


def test_activation_maps_commute_with_a_flip(images):
    tags = torch.ones(2, 3, dtype=torch.bool)
    plain = activation_maps(Plain(), images, tags, (64, 96), (0.5, 1.0))
    mirrored = activation_maps(Plain(), images.flip(3), tags, (64, 96), (0.5, 1.0))
    torch.testing.assert_close(mirrored.flip(3), plain)


def test_an_image_and_its_mirror_image_count_equally():
    """Each map is divided by its own maximum, then both are averaged (official code)."""
    seen = torch.tensor([[[[4.0, 0, 2]]], [[[1.0, 0, 1]]]])
    out = activation_maps(lambda _: seen, torch.rand(1, 3, 32, 96), ALL[:, :1], (1, 3), (1.0,))
    torch.testing.assert_close(out[0, 0, 0], torch.tensor([1, 0, 0.75]), rtol=0, atol=1e-4)


def test_scales_are_averaged(images):
    tags = torch.ones(2, 3, dtype=torch.bool)
    sizes = []

    class Watched(Plain):
        def forward(self, images):
            sizes.append(tuple(images.shape))
            return super().forward(images)

    activation_maps(Watched(), images, tags, (64, 96), (0.5, 1.0, 2.0))
    assert sizes == [(4, 3, 32, 64), (4, 3, 64, 96), (4, 3, 128, 192)]


# Cues


def test_one_peak_per_class():
    cues = extract_cues(maps(bump(6, 5), bump(12, 17, 0.8)), ALL, CUES)
    assert found(cues) == [(5, 6, 0), (17, 12, 1)]
    smoothed = torch.tensor([1.0, 0.8]) * (1 + 8 * 0.75) / 9
    torch.testing.assert_close(cues.scores, smoothed)


def test_weak_peaks_are_not_stored():
    faint, enough = 0.1 / (7 / 9) * 0.99, 0.1 / (7 / 9) * 1.01
    cues = extract_cues(maps(bump(6, 5, faint), bump(12, 17, enough)), ALL, CUES)
    assert found(cues) == [(17, 12, 1)]


def test_a_higher_neighbor_hides_a_peak():
    two = torch.maximum(bump(8, 6), bump(8, 12, 0.9))
    assert len(extract_cues(maps(two, two), ALL, CUES)) == 4
    assert found(extract_cues(maps(two, two * 0), ALL, changed(FULL, **{"cues.kernel": 15}).cues)) == [(6, 8, 0)]


def test_classes_without_a_tag_have_no_cues():
    tags = torch.tensor([[False, True]])
    assert found(extract_cues(maps(bump(6, 5), bump(12, 17)), tags, CUES)) == [(17, 12, 1)]


def test_the_highest_of_too_many(monkeypatch):
    monkeypatch.setattr("wsis.methods.bestie.cues.MAX_CUES", 2)
    heights = torch.linspace(0.5, 1, 6)
    many = torch.stack([bump(10, 3 + 9 * i, h, (20, 60)) for i, h in enumerate(heights)]).amax(0)
    cues = extract_cues(many[None, None], ALL[:, :1], changed(FULL, **{"cues.kernel": 5}).cues)
    assert found(cues) == [(48, 10, 0), (39, 10, 0)]


def test_cues_of_a_batch_name_their_image():
    batch = torch.cat([maps(bump(6, 5)), maps(bump(3, 9)), maps(bump(6, 5) * 0)])
    cues = extract_cues(batch, ALL[:, :1].expand(3, 1), CUES)
    assert cues.image.tolist() == [0, 1]
    assert cues.xy.tolist() == [[5, 6], [9, 3]]


def test_maps_of_fewer_pixels_than_cues():
    cues = extract_cues(torch.ones(1, 1, 2, 2), ALL[:, :1], CUES)
    assert len(cues) <= 4


# Class maps

SHARP = {"semantic.background": 0.4, "semantic.uncertain": 0.125, "semantic.sharpen": 0}


def test_class_maps_by_hand():
    values = torch.tensor([[[1.0, 0.1, 0.0, 0.5], [0.2, 1.0, 0.25, 0.3]]])  # 2 classes, 4 pixels
    made = semantic_map_from_activations(
        values.view(1, 2, 1, 4), torch.zeros(1, 3, 1, 4), changed(FULL, **SHARP).semantic
    )
    assert made.tolist() == [[[1, 2, 0, IGNORE]]]


def test_a_weak_class_of_walked_scores_stays_weak():
    """Scores of IRN are already divided by the highest of all classes."""
    scores = torch.tensor([[1.0, 0.6, 0.1, 0.1], [0.0, 0.35, 0.35, 0.0]]).view(1, 2, 1, 4)
    settings = changed(FULL, **{**SHARP, "semantic.uncertain": 0.0}).semantic
    made = sharpened(with_background(scores, 0.25), torch.zeros(1, 3, 1, 4), settings)
    assert made.tolist() == [[[1, 1, 2, 0]]]


def test_class_maps_without_ignored_pixels():
    settings = changed(FULL, **{**SHARP, "semantic.uncertain": 0.0}).semantic
    values = torch.tensor([0.15, 0.19, 0.25, 0.5]).view(1, 1, 1, 4)  # the highest is 1, the others by half as much
    made = semantic_map_from_activations(values, torch.zeros(1, 3, 1, 4), settings)
    assert made.tolist() == [[[0, 0, 1, 1]]]


def test_absent_classes_change_nothing():
    """Only maps above 0 are refined; the others win nowhere, and the classes keep their numbers."""
    generator = torch.Generator().manual_seed(0)
    image, values = (torch.rand(1, n, 12, 12, generator=generator) for n in (3, 2))
    sharpening = changed(FULL, **{**SHARP, "semantic.sharpen": 3}).semantic
    few, many = values, torch.zeros(1, 6, 12, 12)
    many[:, [1, 4]] = values
    numbers = torch.arange(256)
    numbers[[1, 2]] = torch.tensor([2, 5])
    expected = numbers[semantic_map_from_activations(few, image, sharpening)]
    assert semantic_map_from_activations(many, image, sharpening).equal(expected)
    assert {2, 5} <= set(expected.unique().tolist())


def test_sharpened_maps_follow_the_colors():
    """A map that leaks over a color edge is drawn back to it."""
    image = torch.zeros(1, 3, 24, 24)
    image[..., 12:] = 1
    values = torch.full((1, 1, 24, 24), 0.1)
    values[..., :15] = 0.7
    sharpening = changed(FULL, **{**SHARP, "semantic.uncertain": 0.0, "semantic.sharpen": 30}).semantic
    class_map = semantic_map_from_activations(values, image, sharpening)[0]
    assert class_map[:, :11].float().mean() > 0.95
    assert class_map[:, 14:].float().mean() < 0.05


class Halves(nn.Module):
    """Tokens of 16 px that are similar within the left and the right half of the image alone."""

    patch = 16

    def attention(self, images, layer):
        right = torch.arange(images.shape[-1] // self.patch) >= images.shape[-1] // self.patch // 2
        side = right.expand(images.shape[-2] // self.patch, -1).flatten()
        return (side[:, None] == side).float()[None]


def test_walked_activations_fill_what_looks_alike():
    peak = torch.zeros(1, 2, 64, 128)
    peak[0, 0, 20:30, 20:30] = 1
    out = walked(peak, torch.zeros(1, 3, 64, 128), Halves())
    assert out.shape == peak.shape
    assert out[0, 0, :, :56].min() > 0.99
    assert out[0, 0, :, 72:].max() < 0.01
    assert not out[0, 1].any()
