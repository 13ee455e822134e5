"""The simulated annotator: clicks lie on the object, follow the object, and depend on seed and id alone."""

import json
from collections import Counter
from itertools import groupby

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from wsis.core.errors import AnnotationError, ConfigError, DataError
from wsis.core.masks import RunLengths
from wsis.core.types import Instances, Sample
from wsis.data.masks import tags_from_labels
from wsis.weak.simulate import (
    extreme_points_from_masks,
    points_from_masks,
    simulate,
    simulate_file,
    uniform_by_id,
    with_points,
)

KINDS = ("box_center", "mask_centroid", "mask_random")


@st.composite
def mask_stacks(draw):
    """One to four random masks of one size, none of them empty."""
    count, height, width = (draw(st.integers(1, n)) for n in (4, 9, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    density = draw(st.sampled_from([0.05, 0.3, 0.8]))
    masks = torch.rand(count, height, width, generator=generator) < density
    masks[:, draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = True
    return masks


def at(masks, xy):
    """The mask values under clicks [K, ..., 2]."""
    k = torch.arange(len(masks)).reshape(-1, *[1] * (xy.ndim - 2))
    return masks[k, xy[..., 1].long(), xy[..., 0].long()]


def ring():
    """A ring: its box centre and its centroid lie in the hole."""
    mask = torch.ones(7, 7, dtype=torch.bool)
    mask[2:5, 2:5] = False
    return mask


def u_shape():
    """Two columns on a bar: concave, with two pixels equally far up."""
    mask = torch.zeros(6, 7, dtype=torch.bool)
    mask[1:5, 1], mask[1:5, 5], mask[5, 1:6] = True, True, True
    return mask


def uniform(count, seed=0):
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(mask_stacks(), st.sampled_from(KINDS), st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_points_lie_on_their_masks(masks, kind, seed):
    assert at(masks, points_from_masks(masks, kind, uniform(len(masks), seed))).all()


@given(mask_stacks())
@settings(max_examples=150, deadline=None)
def test_extreme_points_lie_on_their_masks(masks):
    assert at(masks, extreme_points_from_masks(masks)).all()


@given(mask_stacks())
@settings(max_examples=100, deadline=None)
def test_extreme_points_span_the_box_of_pycocotools(masks):
    xy = extreme_points_from_masks(masks)
    low, high = xy.amin(1), xy.amax(1) + 1
    torch.testing.assert_close(
        torch.cat([low, high - low], 1).double(), torch.tensor(coco_mask.toBbox(RunLengths.of(masks).entries))
    )


@given(mask_stacks())
@settings(max_examples=100, deadline=None)
def test_extreme_points_of_a_flipped_mask_are_the_flipped_ones(masks):
    """Flipping exchanges left and right; only the choice among equally extreme pixels may differ."""
    width = masks.shape[-1]
    xy, flipped = extreme_points_from_masks(masks), extreme_points_from_masks(masks.flip(-1))[:, [0, 3, 2, 1]]
    back = torch.stack([width - 1 - flipped[..., 0], flipped[..., 1]], -1)
    assert torch.equal(back[:, [0, 2], 1], xy[:, [0, 2], 1])  # rows of top and bottom
    assert torch.equal(back[:, [1, 3]], xy[:, [1, 3]])  # left and right entirely: their ties are vertical


def test_box_center_and_centroid_of_a_convex_object():
    mask = torch.zeros(9, 9, dtype=torch.bool)
    mask[2:5, 1:8] = True
    mask[5, 1:8] = mask[6, 1:8] = True
    for kind in ("box_center", "mask_centroid"):
        assert points_from_masks(mask[None], kind).tolist() == [[4, 4]]


def test_centroid_follows_mass_and_box_center_does_not():
    mask = torch.zeros(9, 11, dtype=torch.bool)
    mask[:, 0:3] = True  # 27 pixels about x = 1
    mask[4, 3:11] = True  # 8 pixels about x = 6.5: together 79 / 35 = 2.26
    assert points_from_masks(mask[None], "box_center").tolist() == [[5, 4]]
    assert points_from_masks(mask[None], "mask_centroid").tolist() == [[2, 4]]


@pytest.mark.parametrize("kind", ["box_center", "mask_centroid"])
def test_center_of_a_concave_object_snaps_to_the_nearest_pixel(kind):
    (x, y), pixels = points_from_masks(ring()[None], kind)[0], ring().nonzero()
    nearest = (pixels - 3).square().sum(1).min()
    assert (x - 3) ** 2 + (y - 3) ** 2 == nearest


def middle_of_the_longest_run(line):
    """The plain rule for one row or column of a mask, a list of bools."""
    runs, start = [], 0
    for value, pixels in groupby(line):
        length = len(list(pixels))
        runs += [(length, start)] if value else []
        start += length
    length, start = max(runs, key=lambda run: run[0])  # the first of equals
    return start + (length - 1) // 2


def filled(height, width, *places):
    mask = torch.zeros(height, width, dtype=torch.bool)
    for place in places:
        mask[place] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (filled(5, 9, np.s_[1:4, 2:7]), [[4, 1], [2, 2], [4, 3], [6, 2]]),  # the middles of odd runs
        (filled(10, 12, np.s_[1:4, 2:5], np.s_[6:9, 7:10]), [[3, 1], [2, 2], [8, 8], [9, 7]]),  # two parts share four
        (filled(5, 6, np.s_[3, 5]), [[5, 3]] * 4),
    ],
)
def test_extreme_points_by_hand(mask, expected):
    assert extreme_points_from_masks(mask[None])[0].tolist() == expected


@given(mask_stacks())
@settings(max_examples=150, deadline=None)
def test_ties_are_settled_by_the_longest_run(masks):
    for mask, (top, left, bottom, right) in zip(masks, extreme_points_from_masks(masks).int().tolist(), strict=True):
        assert top[0] == middle_of_the_longest_run(mask[top[1]].tolist())
        assert bottom[0] == middle_of_the_longest_run(mask[bottom[1]].tolist())
        assert left[1] == middle_of_the_longest_run(mask[:, left[0]].tolist())
        assert right[1] == middle_of_the_longest_run(mask[:, right[0]].tolist())


def test_random_points_are_uniform_over_the_mask():
    mask = u_shape()
    xy = points_from_masks(mask.expand(6000, -1, -1), "mask_random", uniform(6000, 3))
    counts = Counter(map(tuple, xy.int().tolist()))
    expected = 6000 / mask.sum().item()
    assert len(counts) == mask.sum()
    chi_square = sum((c - expected) ** 2 / expected for c in counts.values())
    assert chi_square < 32.9  # 99.9 % point for 12 degrees of freedom


def test_no_masks_give_no_points():
    none = torch.zeros(0, 4, 4, dtype=torch.bool)
    assert all(points_from_masks(none, kind, uniform(0)).shape == (0, 2) for kind in KINDS)
    assert extreme_points_from_masks(none).shape == (0, 4, 2)


@pytest.mark.parametrize(
    "function", [extreme_points_from_masks, lambda m: points_from_masks(m, "mask_random", uniform(3))]
)
def test_an_empty_mask_is_named(function):
    masks = torch.ones(3, 4, 4, dtype=torch.bool)
    masks[1] = False
    with pytest.raises(AnnotationError, match="mask 1 of 3 has no pixel.*leave the object out"):
        function(masks)


def test_an_unknown_kind_is_named():
    with pytest.raises(ConfigError, match="points='center': choose one of box_center, mask_centroid, mask_random"):
        points_from_masks(torch.ones(1, 2, 2, dtype=torch.bool), "center")


def test_tags():
    assert tags_from_labels(torch.tensor([2, 0, 2]), 4).tolist() == [True, False, True, False]


def test_draws_are_uniform_and_differ_by_seed_image_and_id():
    ids = torch.arange(1, 20001)
    draws = uniform_by_id(1, ids, 0)
    counts = torch.histc(draws, 20, 0, 1)
    assert ((counts - 1000).square() / 1000).sum() < 43.8  # 99.9 % point for 19 degrees of freedom
    for other in (uniform_by_id(1, ids, 1), uniform_by_id(2, ids, 0)):
        assert abs(np.corrcoef(draws, other)[0, 1]) < 0.03


def coco(masks, crowd=()):
    """A COCO data set with one image that has these masks, ids from 11."""
    annotations = [
        {"id": 11 + i, "image_id": 5, "category_id": 3, "segmentation": rle, "iscrowd": int(i in crowd), "note": "x"}
        for i, rle in enumerate(RunLengths.of(masks).entries)
    ]
    image = {"id": 5, "file_name": "a.png", "height": masks.shape[1], "width": masks.shape[2], "licence": 4}
    return {
        "info": {"year": 1},
        "images": [image],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "cat"}],
    }


@pytest.fixture
def masks():
    masks = torch.zeros(3, 12, 14, dtype=torch.bool)
    masks[0, 2:6, 1:9], masks[1, 4:11, 3:5], masks[2, 7:12, 8:14] = True, True, True
    return masks


def test_simulate_adds_labels_and_leaves_the_rest(masks):
    data = coco(masks)
    before = json.dumps(data)
    out = simulate(data, points="mask_random", extreme=True, tags=True)
    assert out["images"][0].pop("tags") == [3]
    for i, annotation in enumerate(out["annotations"]):
        x, y = annotation.pop("point")
        assert masks[i, y, x]
        assert annotation.pop("extreme_points") == extreme_points_from_masks(masks)[i].tolist()
    assert json.dumps(out) == before == json.dumps(data)


def test_clicks_do_not_depend_on_order_or_on_a_subset(masks):
    data = coco(masks)
    all_points = {a["id"]: a["point"] for a in simulate(data, points="mask_random")["annotations"]}
    part = simulate({**data, "annotations": data["annotations"][:0:-1]}, points="mask_random")["annotations"]
    assert [a["point"] for a in part] == [all_points[13], all_points[12]]


def test_clicks_depend_on_the_seed(masks):
    points = [simulate(coco(masks), points="mask_random", seed=s)["annotations"] for s in (0, 1)]
    assert points[0] != points[1]
    assert simulate(coco(masks), points="mask_random", seed=2**64 + 1)["annotations"] == points[1]


def test_crowds_and_empty_masks_get_no_click(masks):
    masks[2] = False
    out = simulate(coco(masks, crowd=[1]), points="box_center", extreme=True)["annotations"]
    assert ["point" in a for a in out] == ["extreme_points" in a for a in out] == [True, False, False]


def test_a_line_gets_no_extreme_points(masks):
    masks[0] = False
    masks[0, 3, 2:9] = True
    assert "extreme_points" not in simulate(coco(masks), extreme=True)["annotations"][0]


def test_file_to_file(tmp_path, masks):
    (tmp_path / "src.json").write_text(json.dumps(coco(masks)))
    counts = simulate_file(tmp_path / "src.json", tmp_path / "out" / "dst.json", points="box_center", tags=True)
    assert counts == {"images": 1, "points": 3, "extreme_points": 0, "tags": 1, "dropped": 0}
    assert json.loads((tmp_path / "out/dst.json").read_text()) == simulate(coco(masks), points="box_center", tags=True)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["dst.json"]


def test_a_broken_source_leaves_the_destination_alone(tmp_path):
    (tmp_path / "src.json").write_text('{"images": [')
    (tmp_path / "dst.json").write_text("old")
    with pytest.raises(DataError, match="src.json is not JSON .*line 1"):
        simulate_file(tmp_path / "src.json", tmp_path / "dst.json", points="box_center")
    assert (tmp_path / "dst.json").read_text() == "old"


def sample(masks, crowd=None, ids=None):
    truth = Instances.make(masks, torch.arange(len(masks)), crowd=crowd, ids=ids)
    return Sample(image=torch.zeros(3, *masks.shape[1:], dtype=torch.uint8), image_id=5, truth=truth)


def test_a_sample_gets_the_clicks_that_its_json_gets(masks):
    ids = torch.tensor([11, 12, 13])
    points = with_points(sample(masks, ids=ids), "mask_random", seed=4).points
    stored = simulate(coco(masks), points="mask_random", seed=4)["annotations"]
    assert points.xy.tolist() == [a["point"] for a in stored]
    assert points.ids.tolist() == [11, 12, 13]
    assert points.labels.tolist() == [0, 1, 2]


def test_a_sample_without_ids_gets_a_draw_for_each_object():
    masks = torch.ones(8, 20, 20, dtype=torch.bool)
    assert len(set(map(tuple, with_points(sample(masks)).points.xy.tolist()))) > 4


def test_a_sample_without_masks_cannot_be_clicked():
    blank = Sample(image=torch.zeros(3, 4, 4, dtype=torch.uint8), image_id=9)
    with pytest.raises(AnnotationError, match="image 9 has no masks.*give weak labels"):
        with_points(blank)


def test_random_points_need_their_draws():
    with pytest.raises(ConfigError, match="one number in"):
        points_from_masks(torch.ones(1, 2, 2, dtype=torch.bool), "mask_random")


@pytest.mark.parametrize("value", [1, 255])
def test_masks_of_bytes_are_clicked_like_booleans(value):
    masks = torch.zeros(1, 9, 9, dtype=torch.uint8)
    masks[0, 2:7, 3:6] = value
    assert points_from_masks(masks, "box_center").equal(points_from_masks(masks.bool(), "box_center"))
    assert extreme_points_from_masks(masks).equal(extreme_points_from_masks(masks.bool()))
