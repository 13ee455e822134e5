"""Crops of objects: where they lie, what they show beyond the border, the way back, and what is left out."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import interpolate
from torch.testing import assert_close
from torchvision.transforms.v2 import functional as F

from wsis.core.errors import AnnotationError, ConfigError
from wsis.core.types import NO_ID, ExtremePoints, Instances, Sample
from wsis.data.transforms import collate
from wsis.methods.exits import crops as crops_module
from wsis.methods.exits.crops import ObjectCrops, Window, jitter, object_crop, paste, random_crop, to_crop
from wsis.weak.simulate import extreme_points_from_masks, with_extreme_points

SIZE, MIN_AREA = 64, 2048.0


class Listed:
    """A data set that counts how often each image is read."""

    classes = ("cat", "dog")
    category_ids = (3, 8)

    def __init__(self, samples):
        self.samples, self.read = samples, Counter()

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        self.read[index] += 1
        return self.samples[index]


def picture(masks, image_id=1):
    """White objects on black noise, with true masks and extreme points of every object, lines and pixels too."""
    masks = torch.as_tensor(masks)
    count, height, width = masks.shape
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 60, (3, height, width), generator=generator, dtype=torch.uint8)
    labels, ids = torch.arange(count) % 2, 10 * image_id + torch.arange(count)
    return Sample(
        image=torch.where(masks.any(0), torch.tensor(255, dtype=torch.uint8), noise),
        image_id=image_id,
        file_name=f"{image_id}.png",
        tags=torch.tensor([True, True]),
        extreme_points=ExtremePoints(xy=extreme_points_from_masks(masks), labels=labels, ids=ids),
        truth=Instances.make(masks, labels, ids=ids),
    )


def box_mask(height, width, *boxes):
    """One mask that covers all boxes (x0, y0, x1, y1)."""
    mask = torch.zeros(height, width, dtype=torch.bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


OBJECTS = {
    "one pixel": box_mask(40, 50, (20, 11, 21, 12)),
    "line": box_mask(40, 50, (7, 11, 31, 12)),
    "at the border": box_mask(40, 50, (35, 20, 50, 40)),
    "in a corner": box_mask(40, 50, (0, 0, 9, 14)),
    "two parts": box_mask(40, 50, (5, 8, 15, 20), (28, 16, 40, 35)),
    "the whole image": box_mask(40, 50, (0, 0, 50, 40)),
}


@pytest.fixture
def tight(monkeypatch):
    """Windows without a margin."""
    monkeypatch.setattr(crops_module, "TEST_MARGIN", 0.0)


def only(mask):
    """The single item of a picture with one object."""
    return ObjectCrops(Listed([picture(mask[None])]))[0]


windows = st.builds(
    lambda x, y, w, h, mirrored: Window(x, y, x + w, y + h, mirrored),
    st.integers(-300, 900),
    st.integers(-300, 900),
    st.integers(1, 900),
    st.integers(1, 900),
    st.booleans(),
)


# ---------------------------------------------------------------- windows


def test_the_test_window_is_the_box_grown_by_three_tenths_about_its_center():
    assert Window.around(torch.tensor([100.0, 40, 300, 140])) == Window(70, 25, 331, 156)  # 130 %, and a pixel


def test_windows_are_whole_pixels_rounded_outward(tight):
    window = Window.around(torch.tensor([10.2, 10.2, 13.9, 13.9]))
    assert window == Window(10, 10, 15, 15)


def draws(seed, count=1):
    return torch.rand(count, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()


@given(st.integers(0, 2**31), st.floats(1, 500), st.floats(1, 500))
@settings(max_examples=200, deadline=None)
def test_training_windows_hold_the_box_and_span_at_most_1_6_of_it(seed, width, height):
    """The object spans at least 62.5 % of each axis, but for rounding to whole pixels and the release's pixel."""
    box = torch.tensor([30.0, 20.0, 30 + width, 20 + height], dtype=torch.float64)
    window = Window.around(box, draws(seed)[0])
    assert window.x0 <= 30 and window.y0 <= 20 and window.x1 >= 30 + width and window.y1 >= 20 + height
    assert window.x1 - window.x0 <= 1.6 * width + 3
    assert window.y1 - window.y0 <= 1.6 * height + 3


def test_training_windows_reach_their_bound_and_are_1_3_boxes_on_average():
    sizes = [
        (w.x1 - w.x0, w.y1 - w.y0)
        for w in (Window.around(torch.tensor([0.0, 0, 1e4, 1e4]), chance) for chance in draws(1, 4000))
    ]
    sizes = torch.tensor(sizes) / 1e4
    assert_close(sizes.mean(0), torch.tensor([1.3, 1.3]), atol=0.01, rtol=0)
    assert sizes.max() > 1.55


def test_what_one_side_gets_the_other_does_not():
    """With all margins full, the share says where the box lies in its window."""
    window = Window.around(torch.tensor([0.0, 0, 100, 100]), [1, 1, 1, 1, 1, 0, 0.5])
    assert (window.x0, window.x1, window.y0, window.y1) == (-60, 101, 0, 161)


def test_half_of_the_training_windows_are_mirrored_and_no_other_is():
    box = torch.tensor([0.0, 0, 100, 100])
    mirrored = [Window.around(box, chance).mirrored for chance in draws(2, 1000)]
    assert 440 < sum(mirrored) < 560
    assert not Window.around(box).mirrored


# ---------------------------------------------------------------- coordinates


def moved(xy, window, size=64):
    """Points [K, 4, 2] of the image in pixels of its crop."""
    labels = torch.zeros(len(xy), dtype=torch.long)
    return to_crop(ExtremePoints(xy=xy, labels=labels, ids=labels), window, size).xy


def back(xy, window, size=64):
    """The inverse of `moved`, from where the crop's corners came from."""
    if window.mirrored:
        xy = torch.stack([size - 1 - xy[..., 0], xy[..., 1]], -1)[:, [0, 3, 2, 1]]
    low = torch.tensor([window.x0, window.y0])
    return (xy + 0.5) * (torch.tensor([window.x1, window.y1]) - low) / size + low - 0.5


@given(windows, st.sampled_from([16, 64, 512]), st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_points_come_back_from_the_crop(window, size, seed):
    xy = 1000 * torch.rand(5, 4, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert_close(back(moved(xy, window, size), window, size), xy, atol=1e-4, rtol=0)


def test_corners_of_the_window_are_corners_of_the_crop():
    """Pixel centers are at integers, so the window's corner is half a pixel before its first pixel."""
    corners = torch.tensor([[[9.5, 19.5], [109.5, 69.5]]])
    assert_close(moved(corners, Window(10, 20, 110, 70)), torch.tensor([[[-0.5, -0.5], [63.5, 63.5]]]))


def test_boxes_hold_whole_pixels_of_the_image():
    """16 pixels in a window of 23 (MAL's margins), which a crop of 512 enlarges 22.3 times."""
    (x0, y0, x1, y1), window = (20, 8, 36, 24), Window.around(torch.tensor([20.0, 8, 36, 24]))
    xy = extreme_points_from_masks(box_mask(40, 60, (x0, y0, x1, y1))[None])
    labels = torch.zeros(1, dtype=torch.long)
    boxes = to_crop(ExtremePoints(xy=xy, labels=labels, ids=labels), window, 512).boxes
    assert_close(boxes, 512 / 23 * torch.tensor([[3.0, 3, 19, 19]]))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_box_of_a_crop_is_that_of_its_true_mask(seed):
    crop = random_crop(512, only(OBJECTS["two parts"]), seed)
    rows, columns = (crop.truth.masks[0].any(axis).nonzero() for axis in (1, 0))
    edges = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert_close(crop.extreme_points.boxes[0], edges.float(), atol=0.5, rtol=0)


def test_a_mirrored_crop_changes_sides_and_the_names_of_left_and_right():
    xy = torch.tensor([[[10.0, 0], [2, 5], [10, 9], [17, 5]]])
    plain, mirrored = (moved(xy, Window(0, 0, 20, 10, m)) for m in (False, True))
    assert_close(torch.stack([63 - plain[..., 0], plain[..., 1]], -1)[:, [0, 3, 2, 1]], mirrored)


# ---------------------------------------------------------------- crops


def unstretched(image, window):
    """The crop of a square window at its own size: without a margin the window is the box and the release's pixel."""
    side = window.x1 - window.x0
    low = torch.tensor([window.x0, window.y0])
    high = torch.tensor([window.x1, window.y1]) - 2  # the last pixel of the box
    xy = torch.stack([low, low, high, high])[None].float()
    points = ExtremePoints(xy=xy, labels=torch.tensor([0]), ids=torch.tensor([1]))
    sample = Sample(image=image, image_id=1, extreme_points=points)
    return object_crop(sample, side)


def test_pixels_beyond_the_border_are_those_of_numpys_pad(tight):
    """Windows inside, around, and more than one image beyond, at their own size."""
    image, offenders = torch.arange(3 * 6 * 7, dtype=torch.uint8).view(3, 6, 7), []
    inside = np.pad(np.ones((6, 7), bool), 40)
    windows = Window(2, 1, 6, 5), Window(-4, -3, 9, 10), Window(-15, -13, 20, 22), Window(3, 4, 33, 34)
    for window in windows:
        crop = unstretched(image, window)
        padded = np.pad(image.numpy(), ((0, 0), (40, 40), (40, 40)), mode="reflect")
        y, x = slice(window.y0 + 40, window.y1 + 40), slice(window.x0 + 40, window.x1 + 40)
        checks = {
            "image": np.array_equal(crop.image.numpy(), padded[:, y, x]),
            "valid": np.array_equal(crop.valid.numpy(), inside[y, x]),
        }
        offenders += [(window, part) for part, passes in checks.items() if not passes]
    assert not offenders, offenders


def test_an_image_of_one_pixel_fills_its_crop(tight):
    image = torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None]
    crop = unstretched(image, Window(0, 0, 2, 2))
    assert torch.equal(crop.image, image.expand(3, 2, 2))


@pytest.mark.parametrize("size", [8, 64])
def test_the_stretch_is_bicubic_as_in_the_release(tight, size):
    sample = only(OBJECTS["two parts"])
    crop, w = object_crop(sample, size), Window.around(sample.extreme_points.boxes[0])
    cut = Image.fromarray(sample.image[:, w.y0 : w.y1, w.x0 : w.x1].permute(1, 2, 0).numpy())
    expected = np.array(cut.resize((size, size), Image.Resampling.BICUBIC))
    assert np.abs(crop.image.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1


def random_window(item, seed):
    """The window of `random_crop`, whose first random numbers decide it."""
    generator = torch.Generator().manual_seed(seed)
    chance = torch.rand(15, generator=generator, dtype=torch.float64)[:7].tolist()
    return Window.around(item.extreme_points.boxes[0], chance)


def augmented(names=OBJECTS):
    """Six augmented crops of each of the objects."""
    return {(n, seed): random_crop(SIZE, only(OBJECTS[n]), seed) for n in names for seed in range(6)}


def test_extreme_points_stay_on_their_object():
    """In any crop, flipped or not, they lie on its mask, and the first is the topmost, the second the leftmost."""
    offenders = []
    for case, crop in augmented().items():
        xy = crop.extreme_points.xy[0]
        x, y = xy.round().long().clamp(0, 63).unbind(1)
        (left, top), (right, bottom) = xy.amin(0), xy.amax(0)
        checks = {
            "beyond the crop": ((xy >= -0.5) & (xy < 63.5)).all(),
            "off the mask": crop.truth.masks[0, y, x].all(),
            "out of order": xy[0, 1] == top and xy[1, 0] == left and xy[2, 1] == bottom and xy[3, 0] == right,
        }
        offenders += [(*case, problem) for problem, passes in checks.items() if not passes]
    assert not offenders, offenders


def test_mask_and_image_move_together():
    """White objects: where the mask is, the crop is bright, but for the outline that the stretch softens."""
    offenders = []
    for case, crop in augmented(["at the border", "in a corner", "two parts", "the whole image"]).items():
        bright = (crop.image[0] > 157) & crop.valid
        both, either = (bright & crop.truth.masks[0]).sum(), (bright | crop.truth.masks[0]).sum()
        if both / either <= 0.85 or (crop.truth.masks[0] & ~crop.valid).any():
            offenders.append((*case, float(both / either)))
    assert not offenders, offenders


def test_a_mirrored_crop_is_the_other_flipped(monkeypatch):
    sample, pair = only(OBJECTS["two parts"]), []
    for probability in (0.0, 1.0):
        monkeypatch.setattr(crops_module, "FLIP", probability)
        pair.append(random_crop(SIZE, sample, 3))
    plain, mirrored = pair
    for name in ("image", "valid"):
        assert torch.equal(getattr(plain, name), getattr(mirrored, name).flip(-1))
    assert torch.equal(plain.truth.masks, mirrored.truth.masks.flip(-1))
    xy = mirrored.extreme_points.xy[0, [0, 3, 2, 1]]
    assert_close(torch.stack([63 - xy[:, 0], xy[:, 1]], 1), plain.extreme_points.xy[0])


def test_neighbors_move_with_the_crop():
    """Their clicks are those of their own crops, also where they lie outside of this one."""
    sample = picture(torch.stack([OBJECTS["in a corner"], OBJECTS["at the border"]]))
    for index in (0, 1):
        item = ObjectCrops(Listed([sample]))[index]
        crop, window = random_crop(SIZE, item, 4), random_window(item, 4)
        assert crop.other_extreme_points.ids.tolist() == [11 - index]
        assert_close(back(crop.other_extreme_points.xy, window)[0], sample.extreme_points.xy[1 - index])


def values(crop):
    out = {k: getattr(crop, k) for k in ("image", "valid", "jittered")}
    return {**out, "xy": crop.extreme_points.xy, "masks": crop.truth.masks}


def test_same_seed_same_crop_and_the_global_generator_is_left_alone():
    sample = only(OBJECTS["two parts"])
    before = torch.get_rng_state()
    first, second, other = (values(random_crop(SIZE, sample, seed)) for seed in (5, 5, 6))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["image"], other["image"])


def test_test_crops_have_no_second_colors():
    assert object_crop(only(OBJECTS["two parts"]), SIZE).jittered is None


def test_the_item_is_not_changed():
    sample = only(OBJECTS["in a corner"])
    image, xy = sample.image.clone(), sample.extreme_points.xy.clone()
    for seed in range(4):
        random_crop(SIZE, sample, seed)
    assert torch.equal(sample.image, image) and torch.equal(sample.extreme_points.xy, xy)


def test_labels_of_the_whole_image_are_left_out():
    crop = random_crop(SIZE, only(OBJECTS["line"]), 0)
    assert crop.tags is crop.semantic_map is crop.true_semantic is None
    assert crop.points is None and not len(crop.other_extreme_points)
    assert crop.image_id == 1 and crop.extreme_points.ids.tolist() == [10]


def test_crops_without_truth_have_none():
    crop = random_crop(SIZE, replace(only(OBJECTS["line"]), truth=None), 0)
    assert crop.truth is None and crop.valid.shape == (64, 64)


def test_crops_make_a_batch():
    crops = [random_crop(SIZE, only(OBJECTS[name]), 1) for name in OBJECTS]
    batch = collate(crops)
    assert batch.images.shape == batch.jittered.shape == (6, 3, 64, 64)
    assert torch.equal(batch.valid, torch.stack([c.valid for c in crops]))
    assert [len(e) for e in batch.extreme_points] == [1] * 6


def test_a_sample_of_two_objects_is_no_crop():
    with pytest.raises(ValueError, match="image 1: a crop shows one object; take items of ObjectCrops"):
        object_crop(picture(torch.stack([OBJECTS["line"], OBJECTS["one pixel"]])), SIZE)


# ---------------------------------------------------------------- colours

COLORS = torch.randint(0, 256, (3, 40, 50), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)
NOTHING, ALWAYS = 0.999, 0.0


def test_nothing_happens_above_the_probability():
    assert torch.equal(jitter(COLORS, [0.5, 0.2, 0.5, *[0.9] * 5]), COLORS)


def test_gray_is_gray():
    gray = jitter(COLORS, [NOTHING, ALWAYS, NOTHING, *[0.5] * 5])
    assert torch.equal(gray, F.rgb_to_grayscale(COLORS, 3))


def test_blur_is_gaussian():
    """Two passes along the axes are one with the square kernel, but for rounding."""
    soft = jitter(COLORS, [NOTHING, NOTHING, ALWAYS, *[0.5] * 4, 1.0])
    assert (soft.int() - F.gaussian_blur(COLORS, [13, 13], [2.0, 2.0]).int()).abs().max() <= 1
    faint = jitter(COLORS, [NOTHING, NOTHING, ALWAYS, *[0.5] * 4, 0.0])
    assert torch.equal(faint, COLORS)  # a sigma of .1 px


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (3, lambda x: F.adjust_brightness(x, 0.6)),
        (4, lambda x: F.adjust_contrast(x, 0.6)),
        (5, lambda x: F.adjust_saturation(x, 0.8)),
        (6, lambda x: F.adjust_hue(x, -0.1)),
    ],
)
def test_each_color_has_its_range(number, change):
    chance = [ALWAYS, NOTHING, NOTHING, *[0.5] * 5]
    chance[number] = 0.0
    assert_close(jitter(COLORS, chance).int(), change(COLORS).int(), atol=3, rtol=0)


def test_colors_change_in_three_quarters_of_the_crops_or_less():
    sample = only(OBJECTS["line"])
    crops = [random_crop(SIZE, sample, seed) for seed in range(200)]
    changed = sum(not torch.equal(c.image, c.jittered) for c in crops)
    assert 0.7 < changed / 200 < 0.9  # 1 - .5 * .5 * .8, and weak blurs change nothing


# ---------------------------------------------------------------- the data set


@pytest.fixture
def three():
    """Three images with two, no and three objects; one object is small, one thin."""
    first = torch.stack([box_mask(90, 90, (10, 10, 70, 60)), box_mask(90, 90, (70, 70, 80, 80))])
    third = torch.stack(
        [box_mask(90, 90, (5, 5, 60, 60)), box_mask(90, 90, (0, 80, 90, 82)), box_mask(90, 90, (30, 1, 90, 50))]
    )
    empty = torch.zeros(0, 90, 90, dtype=torch.bool)
    return Listed([picture(first, 1), picture(empty, 2), picture(third, 3)])


def test_every_object_is_an_item_with_only_its_own_labels(three):
    crops = ObjectCrops(three)
    assert crops.index == [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)]
    assert len(crops) == 5 and crops.classes == three.classes and crops.category_ids == three.category_ids
    for item, ident in zip((crops[i] for i in range(5)), (10, 11, 30, 31, 32), strict=True):
        assert item.extreme_points.ids.tolist() == item.truth.ids.tolist() == [ident]
        assert torch.equal(extreme_points_from_masks(item.truth.masks), item.extreme_points.xy)


def test_training_leaves_small_and_thin_objects_out(three):
    assert ObjectCrops(three, MIN_AREA).index == [(0, 0), (2, 0), (2, 2)]


def test_boxes_at_the_limits_are_left_out():
    sample = picture(torch.stack([box_mask(90, 90, (0, 0, 32, 64)), box_mask(90, 90, (0, 0, 33, 64))]))
    assert ObjectCrops(Listed([sample]), MIN_AREA).index == [(0, 1)]  # 2048 px and more
    sample = picture(torch.stack([box_mask(90, 90, (0, 0, 2, 64)), box_mask(90, 90, (0, 0, 3, 64))]))
    assert ObjectCrops(Listed([sample]), 0.0).index == [(0, 1)]


def test_in_order_every_image_is_read_once_more(three):
    crops = ObjectCrops(three)
    assert three.read == {0: 1, 1: 1, 2: 1}
    three.read.clear()
    list(crops[i] for i in range(len(crops)))
    assert three.read == {0: 1, 2: 1}


def test_a_data_set_that_knows_its_extreme_points_is_not_read(three):
    three.extreme_points = lambda index: three.samples[index].extreme_points
    assert len(ObjectCrops(three)) == 5
    assert not three.read


def test_objects_without_ids_have_no_known_truth(three):
    sample = three.samples[0]
    unknown = torch.full_like(sample.truth.ids, NO_ID)
    sample = replace(
        sample, truth=replace(sample.truth, ids=unknown), extreme_points=replace(sample.extreme_points, ids=unknown)
    )
    assert len(ObjectCrops(Listed([sample]))[0].truth) == 0


def test_an_image_without_extreme_points_is_named(three):
    three.samples[1] = replace(three.samples[1], extreme_points=None)
    with pytest.raises(AnnotationError, match="image 1 .* has no extreme points; annotate them, or simulate"):
        ObjectCrops(three)


def test_nothing_to_train_on_is_an_error(three):
    with pytest.raises(ConfigError, match=r"none of 5 objects is larger than 2.0 px .* lower size.min_area"):
        ObjectCrops(three, 9000.0)


# ---------------------------------------------------------------- the way back


def round_trip(sample, size=SIZE, mirrored=False):
    """Every object cropped with its true mask, and the masks pasted back."""
    items = ObjectCrops(Listed([sample]))
    probability = torch.cat([object_crop(items[i], size).truth.masks for i in range(len(items))]).float()
    windows = [Window.around(box) for box in sample.extreme_points.boxes]
    if mirrored:
        probability, windows = probability.flip(-1), [replace(w, mirrored=True) for w in windows]
    return paste(probability, windows, sample.extreme_points.boxes, sample.size, 0.5).decode()


def iou(a, b):
    return ((a & b).flatten(1).sum(1) / (a | b).flatten(1).sum(1)).tolist()


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_pasted_crop_of_a_mask_is_the_mask(mirrored):
    y, x = torch.meshgrid(torch.arange(240), torch.arange(320), indexing="ij")
    discs = [((x - a) / 1.4) ** 2 + (y - b) ** 2 < r * r for a, b, r in ((160, 120, 90), (20, 30, 45), (300, 200, 20))]
    masks = torch.stack(discs)
    pasted = round_trip(picture(masks), 256, mirrored)
    assert min(iou(pasted, masks)) > 0.95


@given(st.integers(0, 2**31), st.sampled_from([0.05, 0.3, 0.8]))
@settings(max_examples=60, deadline=None)
def test_masks_of_random_pixels_come_back_where_crops_are_large(seed, density):
    """Every pixel is several of the crop's, so even single ones survive, at the border too."""
    masks = torch.rand(3, 9, 12, generator=torch.Generator().manual_seed(seed)) < density
    masks[:, 4, 5] = True
    assert torch.equal(round_trip(picture(masks)), masks)


def test_unusual_objects_come_back():
    pasted = {name: round_trip(picture(mask[None]), 256) for name, mask in OBJECTS.items()}
    offenders = [name for name, mask in OBJECTS.items() if not torch.equal(pasted[name], mask[None])]
    assert not offenders, offenders


def test_pasting_is_interpolation_to_the_window_cut_to_the_image():
    """The plain way: resize to the window, pad and crop to the image, multiply by the box."""
    generator = torch.Generator().manual_seed(2)
    probability = torch.rand(2, 16, 16, generator=generator)
    windows = [Window(-7, 5, 33, 40), Window(10, -30, 31, 64)]
    boxes = torch.tensor([[-3.0, 10, 28, 35], [12, -20, 27, 64]])
    pasted = paste(probability, windows, boxes, (44, 30), 0.4).decode()
    for k, (w, (x0, y0, x1, y1)) in enumerate(zip(windows, boxes.int().tolist(), strict=True)):
        canvas = torch.zeros(144, 130)
        stretched = interpolate(probability[k, None, None], (w.y1 - w.y0, w.x1 - w.x0), mode="bilinear")
        canvas[w.y0 + 50 : w.y1 + 50, w.x0 + 50 : w.x1 + 50] = stretched[0, 0]
        inside = torch.zeros(144, 130)
        inside[y0 + 50 : y1 + 50, x0 + 50 : x1 + 50] = 1
        assert torch.equal(pasted[k], ((canvas * inside) > 0.4)[50:94, 50:80])


def test_a_mask_ends_at_its_box():
    windows = [Window(0, 0, 20, 20)]
    pasted = paste(torch.ones(1, 8, 8), windows, torch.tensor([[3.0, 4, 9, 11]]), (20, 20), 0.5).decode()
    assert torch.equal(pasted[0], box_mask(20, 20, (3, 4, 9, 11)))


def test_boxes_between_pixels_hold_the_pixels_whose_centers_they_hold():
    """From 3.4 on lies the centre of pixel 3, at 3.5 from the image's edge; from 3.6 on that of pixel 4."""
    box = torch.tensor([[3.4, 3.6, 8.4, 8.6]])
    pasted = paste(torch.ones(1, 8, 8), [Window.around(box[0])], box, (20, 20), 0.5).decode()
    assert torch.equal(pasted[0], box_mask(20, 20, (3, 4, 8, 9)))


def test_boxes_beyond_the_border_keep_what_is_in_the_image():
    box = torch.tensor([[-10.0, -10, 5, 6], [30, 5, 40, 9], [-9, -9, 99, 99]])
    windows = [Window.around(b) for b in box]
    pasted = paste(torch.ones(3, 8, 8), windows, box, (20, 20), 0.5).decode()
    assert torch.equal(pasted[0], box_mask(20, 20, (0, 0, 5, 6)))
    assert not pasted[1].any() and pasted[2].all()


def test_a_box_beyond_the_border_can_be_cropped():
    xy = torch.tensor([[[5.0, -30], [-40, 5], [5, 60], [30, 5]]])
    points = ExtremePoints(xy=xy, labels=torch.tensor([0]), ids=torch.tensor([1]))
    crop = object_crop(replace(only(OBJECTS["line"]), extreme_points=points), SIZE)
    assert crop.valid.any() and not crop.valid.all()


def test_no_objects_give_no_masks():
    assert paste(torch.zeros(0, 8, 8), [], torch.zeros(0, 4), (20, 30), 0.5).decode().shape == (0, 20, 30)


def test_windows_and_probabilities_belong_together():
    with pytest.raises(ValueError):
        paste(torch.zeros(2, 8, 8), [Window(0, 0, 2, 2)], torch.zeros(2, 4), (20, 30), 0.5)


# ---------------------------------------------------------------- from masks to crops


@given(st.integers(0, 2**31), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_clicks_of_random_masks_are_clicks_of_their_crops(seed, augmentation):
    """Simulate, crop, map back: the very points, and their box is that of the mask."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(1, 15, 20, generator=generator) < 0.1
    masks[0, 3, 4] = masks[0, 9, 12] = True
    sample = with_extreme_points(replace(picture(masks), extreme_points=None))
    item = ObjectCrops(Listed([sample]))[0]
    crop = random_crop(SIZE, item, augmentation)
    assert_close(
        back(crop.extreme_points.xy, random_window(item, augmentation)), sample.extreme_points.xy, atol=1e-4, rtol=0
    )
    y, x = masks[0].nonzero().unbind(1)
    assert sample.extreme_points.boxes[0].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
