"""Images, masks, maps and clicks move together; the same sample and seed give the same result."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from wsis.core.errors import DataError
from wsis.core.types import IGNORE, ExtremePoints, Instances, Points, Sample
from wsis.data.transforms import MEAN_COLOR, Augment, collate, resize
from wsis.weak.simulate import extreme_points_from_masks

PLAIN = Augment(crop=32, long_side=None, scale=(1, 1), flip=0, color_probability=0)


def scene(height=24, width=40, image_id=1):
    """White squares on black, with every kind of label; the clicks are their centre pixels."""
    corners = [(3, 4), (12, 20), (15, 31)]
    masks = torch.zeros(3, height, width, dtype=torch.bool)
    for mask, (y, x) in zip(masks, corners, strict=True):
        mask[y : y + 7, x : x + 7] = True
    labels, ids = torch.tensor([0, 1, 0]), torch.tensor([11, 12, 13])
    class_map = ((labels + 1)[:, None, None] * masks).amax(0).to(torch.uint8)
    return Sample(
        image=masks.any(0).to(torch.uint8).mul(255).expand(3, -1, -1).contiguous(),
        image_id=image_id,
        tags=torch.tensor([True, True]),
        points=Points.make(torch.tensor([[x + 3, y + 3] for y, x in corners]), labels, ids=ids),
        extreme_points=ExtremePoints(xy=extreme_points_from_masks(masks), labels=labels, ids=ids),
        semantic_map=class_map,
        truth=Instances.make(masks, labels, ids=ids),
        true_semantic=class_map.clone(),
    )


def tensors(sample):
    """All tensors of a sample, by name."""
    out = {}
    for name, value in vars(sample).items():
        parts = vars(value) if hasattr(value, "__dataclass_fields__") else {"": value}
        out |= {f"{name}.{k}": v for k, v in parts.items() if isinstance(v, torch.Tensor)}
    return out


@pytest.mark.parametrize("seed", range(12))
def test_everything_stays_together(seed):
    """In each crop, masks and image agree, and so do class maps; clicks are on their objects."""
    out = Augment(crop=32, long_side=None, color_probability=0)(scene(), seed)
    shown = out.truth.masks.any(0)
    inside = out.valid
    assert ((out.image[0] > 127) == shown)[inside].float().mean() > 0.985  # half a pixel off would be .96
    assert torch.equal(out.semantic_map, out.true_semantic)
    assert torch.equal((out.semantic_map > 0) & inside, shown)
    mask_of = dict(zip(out.truth.ids.tolist(), out.truth.masks, strict=True))
    for (x, y), i in zip(out.points.xy.round().long().tolist(), out.points.ids.tolist(), strict=True):
        assert mask_of[i][y, x]


@pytest.mark.parametrize("seed", range(12))
def test_moved_extreme_points_are_those_of_the_moved_masks(seed):
    out = replace(PLAIN, flip=0.5)(scene(), seed)
    mask_of = dict(zip(out.truth.ids.tolist(), out.truth.masks, strict=True))
    for xy, i in zip(out.extreme_points.xy, out.extreme_points.ids.tolist(), strict=True):
        assert_close(xy, extreme_points_from_masks(mask_of[i][None])[0])


def test_same_seed_same_result_and_no_trace_in_the_global_generator():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = tensors(Augment(crop=32)(scene(), 5))
    torch.rand(7)
    second = tensors(Augment(crop=32)(scene(), 5))
    torch.manual_seed(3)
    assert torch.equal(before, torch.get_rng_state())
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_the_sample_is_not_changed():
    sample = scene()
    before = {k: v.clone() for k, v in tensors(sample).items()}
    for seed in range(5):
        Augment(crop=32)(sample, seed)
    assert all(torch.equal(v, before[k]) for k, v in tensors(sample).items())


def test_a_flip_mirrors_pixels_and_clicks():
    sample = scene(32, 32 + 8)
    sample = replace(PLAIN, crop=40)(sample, 0)
    flipped = replace(PLAIN, crop=40, flip=1.0)(sample, 0)
    assert torch.equal(flipped.image, sample.image.flip(-1))
    assert torch.equal(flipped.truth.masks, sample.truth.masks.flip(-1))
    assert torch.equal(flipped.points.xy[:, 0], 39 - sample.points.xy[:, 0])
    assert torch.equal(flipped.extreme_points.xy[:, 1, 0], 39 - sample.extreme_points.xy[:, 3, 0])


def test_clicks_outside_the_crop_are_dropped_with_their_labels():
    out = replace(PLAIN, crop=8)(scene(), 2)
    assert len(out.points) < 3
    for sample in (out.points, out.extreme_points):
        assert len(sample.xy) == len(sample.labels) == len(sample.ids)
        assert ((sample.xy >= 0) & (sample.xy < 8)).all()


@pytest.mark.parametrize("value", [IGNORE, 0])
def test_padding_is_mean_color_ignored_and_not_valid(value):
    out = replace(PLAIN, pad_value=value)(scene(24, 40), 1)
    pad = ~out.valid
    assert pad.sum() == 8 * 32
    assert (out.image[:, pad] == torch.tensor(MEAN_COLOR)[:, None]).all()
    assert (out.semantic_map[pad] == value).all() and (out.true_semantic[pad] == value).all()
    assert not out.truth.masks[:, pad].any()


def test_padding_and_crop_reach_every_place():
    rows, columns = set(), set()
    for seed in range(200):
        out = PLAIN(scene(30, 34), seed)
        rows.add(out.valid.any(1).byte().argmax().item())
        columns.add(int(out.points.xy[0, 0].item()))
    assert rows == {0, 1, 2}
    assert columns == {7, 6, 5}


def test_scales_are_the_steps_of_the_range():
    """13 grid steps of .1 from .7 to 1.3 give seven sizes, all about equally often."""
    augment = Augment(crop=16, long_side=None)
    sizes = [augment._size((100, 50), c / 700)[0] for c in range(700)]
    assert {s: sizes.count(s) for s in sizes} == {s: 100 for s in range(70, 131, 10)}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((500, 375), (449, 353)),  # as the release does: 375 x 449 / 500 is 336.75, cut to 336, then up to 32 x 11 + 1
        ((375, 500), (353, 449)),
        ((1000, 400), (449, 193)),
        ((449, 449), (449, 449)),
        ((120, 90), (129, 97)),
        ((440, 10), (449, 33)),
    ],
)
def test_long_side_limits_sides_of_whole_strides_and_a_pixel(size, expected):
    assert Augment(long_side=449, scale=(1, 1))._size(size, 0.3) == expected


def test_sides_beyond_the_limit_lose_a_stride():
    assert Augment(long_side=440, scale=(1, 1))._size((500, 375), 0.3) == (417, 353)


def test_square_comes_before_the_crop():
    augment = Augment(crop=321, square=384, long_side=None, scale=(1, 1))
    assert augment._size((500, 375), 0.3) == (384, 384)
    assert augment(scene(), 0).size == (321, 321)


@pytest.mark.parametrize("field", ["shift", "brightness", "contrast", "saturation", "hue"])
def test_each_color_change_changes_colors_only(field):
    sample = scene()
    sample = replace(sample, image=torch.randint(60, 190, sample.image.shape, dtype=torch.uint8))
    off = {"shift": 0, "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
    strength = {**off, field: {"shift": 16, "hue": 0.1}.get(field, 0.5)}
    plain = replace(PLAIN, crop=40, color_probability=1, **off)(sample, 4)
    changed = replace(PLAIN, crop=40, color_probability=1, **strength)(sample, 4)
    assert not torch.equal(plain.image, changed.image)
    assert torch.equal(plain.image[:, ~plain.valid], changed.image[:, ~plain.valid])
    assert all(torch.equal(v, tensors(changed)[k]) for k, v in tensors(plain).items() if k != "image.")


def test_shift_adds_at_most_its_strength():
    sample = replace(scene(), image=torch.full((3, 24, 40), 128, dtype=torch.uint8))
    augment = replace(PLAIN, color_probability=1, shift=16, contrast=0, hue=0)
    values = torch.tensor([augment(sample, s).image[:, 16, 16].int().tolist() for s in range(60)]) - 128
    assert values.abs().max() <= 16 and values.min() < -8 and values.max() > 8


def test_labels_that_are_not_there_stay_absent():
    out = Augment(crop=16)(Sample(image=torch.zeros(3, 9, 9, dtype=torch.uint8), image_id=3), 0)
    assert out.points is out.extreme_points is out.truth is out.semantic_map is out.true_semantic is None
    assert out.image_id == 3


def test_no_objects_stay_no_objects():
    sample = replace(scene(), truth=Instances.none(24, 40), points=Points.make(torch.zeros(0, 2), torch.zeros(0)))
    out = Augment(crop=16)(sample, 0)
    assert out.truth.masks.shape == (0, 16, 16) and len(out.points) == 0


def test_resized_masks_lie_under_the_resized_image():
    """Doubling: every pixel becomes four, and a click lies in the middle of them."""
    sample = scene()
    out = resize(sample, (48, 80))
    assert torch.equal(out.truth.masks, sample.truth.masks.repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert torch.equal(out.points.xy, sample.points.xy * 2 + 0.5)
    assert torch.equal(out.semantic_map.bool(), out.truth.masks.any(0))


def test_halving_keeps_the_mean_of_each_block():
    image = torch.randint(0, 256, (3, 24, 40), dtype=torch.uint8)
    small = resize(Sample(image=image, image_id=1), 20).image
    assert small.shape == (3, 12, 20)
    blocks = image.float().reshape(3, 12, 2, 20, 2).mean((2, 4))
    assert (small.float() - blocks)[:, 2:-2, 2:-2].mean().abs() < 2  # an antialiased filter is wider than a block


@pytest.mark.parametrize(("size", "expected"), [(20, (12, 20)), ((16, 16), (16, 16)), (5, (3, 5))])
def test_resize_takes_a_side_or_a_size(size, expected):
    assert resize(scene(), size).size == expected


def test_collate_stacks_and_scales():
    a, b = scene(image_id=4), scene(image_id=9)
    batch = collate([a, b])
    assert batch.image_ids == (4, 9)
    assert batch.images.shape == (2, 3, 24, 40) and batch.images.max() == 1 and batch.images.min() == 0
    assert batch.valid.all()
    assert torch.equal(batch.semantic_maps[1], b.semantic_map.long())
    assert batch.points.image.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(batch.extreme_points) == 2 and batch.tags.shape == (2, 2)


def test_collate_pads_smaller_samples():
    batch = collate([scene(24, 40), scene(32, 38)])
    assert batch.images.shape == (2, 3, 32, 40)
    assert batch.valid.sum((1, 2)).tolist() == [24 * 40, 32 * 38]
    assert (batch.semantic_maps[~batch.valid] == IGNORE).all()
    assert_close(batch.images[0, :, 31, 0], torch.tensor(MEAN_COLOR) / 255)


def test_collate_knows_the_padding_of_augmented_samples():
    samples = [Augment(crop=48)(scene(), s) for s in range(3)]
    assert torch.equal(collate(samples).valid, torch.stack([s.valid for s in samples]))


def test_collate_without_labels():
    batch = collate([Sample(image=torch.zeros(3, 4, 5, dtype=torch.uint8), image_id=1)])
    assert batch.tags is batch.points is batch.semantic_maps is batch.extreme_points is None


def test_collate_names_the_image_that_lacks_a_label():
    with pytest.raises(DataError, match="image 9 has no points, others of the batch do; annotate all"):
        collate([scene(), replace(scene(image_id=9), points=None)])
