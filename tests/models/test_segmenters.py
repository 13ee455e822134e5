"""The final models: their targets, SOLOv2's cells, losses and matrix NMS, and the one interface of all three."""

import math

import pytest
import torch
from torch.nn.functional import max_pool2d

from wsis.core.errors import ConfigError, DataError
from wsis.core.masks import RunLengths
from wsis.core.types import Instances
from wsis.data.transforms import collate
from wsis.data.world import World, WorldConfig
from wsis.data.wrappers import Cached
from wsis.data.write import write_instances
from wsis.evaluation import coco_ap
from wsis.models import build_pyramid
from wsis.models.pyramids import STRIDES, Backbone
from wsis.models.segmenters import build_segmenter, predict, segmenter_terms, solov2
from wsis.models.segmenters.mask2former import FULL as MASK2FORMER
from wsis.models.segmenters.solov2 import (
    DESIGNS,
    FULL,
    assign,
    flat,
    matrix_nms,
    peak_scores,
    quartered,
    with_coordinates,
)
from wsis.models.segmenters.targets import JsonMasks, Target, View, Window, at_image_size, stacked_masks
from wsis.models.weights import restored, save_weights
from wsis.training.schedule import Schedule
from wsis.training.stages import Workspace

SCENES = WorldConfig(size=64, objects=(1, 2), classes=("cat", "car"))
NAMES = ["solov2", "maskrcnn", "mask2former"]
TINY = DESIGNS["tiny"]
WHOLE = Window((64, 64), (0, 0), (64, 64), False)


@pytest.fixture(scope="module")
def world():
    return Cached(World("train", 3, 0, SCENES))


@pytest.fixture(scope="module")
def masks(world, tmp_path_factory):
    """The true masks of all scenes but the second, as a COCO JSON."""
    path = tmp_path_factory.mktemp("json") / "masks.json"
    rows = [(s, s.truth if i != 1 else Instances.none(*s.size)) for i, s in enumerate(world)]
    write_instances(path, rows, world.classes, world.category_ids)
    return JsonMasks(path, world.classes)


def box_mask(size, *boxes):
    """Masks bool [K, size, size] that fill half-open boxes."""
    out = torch.zeros(len(boxes), size, size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(out, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return out


def box_target(size, *boxes):
    return Target.make(box_mask(size, *boxes), torch.arange(len(boxes)))


# Targets


def test_target_has_the_masks_of_the_json_and_half_open_boxes(world, masks):
    sample = world[0]
    target = masks.target(sample.image_id, WHOLE)
    assert torch.equal(target.masks.bool(), sample.truth.masks)
    assert torch.equal(target.labels, sample.truth.labels)
    for mask, (x0, y0, x1, y1) in zip(target.masks, target.boxes.int().tolist(), strict=True):
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
        assert mask[y0:y1, x0].any() and mask[y0:y1, x1 - 1].any()
        assert mask[y0, x0:x1].any() and mask[y1 - 1, x0:x1].any()


def test_flip_moves_masks_and_boxes_together(world, masks):
    plain, flipped = (masks.target(world[0].image_id, WHOLE._replace(flip=f)) for f in (False, True))
    assert torch.equal(flipped.masks, plain.masks.flip(2))
    assert torch.equal(flipped.boxes[:, [2, 0]], 64 - plain.boxes[:, [0, 2]])


def test_object_outside_the_window_is_left_out(world, masks):
    window = WHOLE._replace(size=(64, 8))
    target = masks.target(world[0].image_id, window)
    inside = world[0].truth.masks[:, :, :8]
    filled = inside.flatten(1).any(1)
    assert torch.equal(target.masks.bool(), inside[filled]) and len(target.labels) == filled.sum()


def test_window_shows_the_same_part_of_image_and_masks():
    part = box_mask(32, (4, 8, 20, 24))
    window = Window((64, 64), (10, 3), (40, 50), True)
    image, mask = window.image(part.float().expand(3, 32, 32)), window.masks(part)
    assert image.shape == (3, 40, 50)
    assert ((image[0] > 0.5) == mask[0]).all()
    x0, y0, x1, y1 = 2 * 4 - 3, 2 * 8 - 10, 2 * 20 - 3, 2 * 24 - 10  # doubled, less the corner
    assert Target.make(mask, torch.zeros(1)).boxes.tolist() == [[50 - x1, y0, 50 - x0, y1]]


def test_view_keeps_the_aspect_within_both_limits():
    view = View(short=(640, 800), long=(1333, 1333))
    sizes = [view.draw(300, 400).size for _ in range(50)]
    assert all(640 <= h <= 800 and abs(h / w - 0.75) < 0.001 for h, w in sizes)
    assert len({h for h, _ in sizes}) > 10
    assert view.at_test(300, 400).size == (800, 1067)
    assert view.at_test(300, 900).size == (444, 1333)


def test_a_scaled_view_sees_the_same_shares():
    view = View(short=(640, 800), crop=1024).scaled(0.25)
    assert (view.short, view.long, view.crop) == ((160, 200), (333.25, 333.25), 256)
    assert view.at_test(300, 400).size == (200, 267)
    assert View().scaled(0.25).short is None


@pytest.mark.parametrize("name", NAMES)
def test_photographs_are_seen_at_256_pixels_by_a_network_between_both_others(name):
    counts = []
    for backbone in ("resnet_tiny", "efficientnet_lite0", "resnet50"):
        model = build_segmenter(name, 2, backbone, "random")
        counts.append(sum(p.numel() for n, p in model.named_parameters() if "backbone.network" not in n))
    assert counts == sorted(counts)
    small = build_segmenter(name, 2, "efficientnet_lite0", "random")
    seen = small.detector.transform.min_size if name == "maskrcnn" else small.view.at_test(600, 800).size  # pyright: ignore
    assert seen[0] == 256


def test_large_scale_jitter_stays_within_its_square():
    sizes, corners = [], []
    for _ in range(100):
        window = MASK2FORMER.view.draw(480, 640)
        assert 102 <= window.resized[1] <= 2048 and max(window.size) <= 1024
        assert all(c + s <= r for c, s, r in zip(window.corner, window.size, window.resized, strict=True))
        sizes.append(window.resized[1])
        corners.append(window.corner[1])
    assert min(sizes) < 400 and max(sizes) > 1700 and max(corners) > 0


def test_default_view_only_flips():
    windows = {View().draw(30, 40) for _ in range(20)}
    assert windows == {Window((30, 40), (0, 0), (30, 40), flip) for flip in (False, True)}


def test_images_without_a_mask_are_left_out(world, masks):
    assert [s.image_id for s in masks.subset(world)] == [world[0].image_id, world[2].image_id]


def test_json_of_other_classes_is_refused(world, tmp_path):
    write_instances(tmp_path / "masks.json", [(world[0], world[0].truth)], ("dog", "car"), (1, 2))
    with pytest.raises(DataError, match="categories are not cat, car"):
        JsonMasks(tmp_path / "masks.json", world.classes)


def test_json_of_another_size_is_refused(world, tmp_path):
    from wsis.data.transforms import resize

    small = resize(world[0], 32)
    write_instances(tmp_path / "masks.json", [(small, small.truth)], world.classes, world.category_ids)
    with pytest.raises(DataError, match=r"is \(32, 32\) .* \(64, 64\) in the data set"):
        JsonMasks(tmp_path / "masks.json", world.classes).subset(world)


def test_images_are_padded_with_the_mean_to_multiples_of_32():
    backbone = Backbone("resnet_tiny", "random")
    batch = backbone.stack([torch.zeros(3, 33, 20), torch.ones(3, 10, 40)])
    assert batch.shape == (2, 3, 64, 64)
    torch.testing.assert_close(batch[1, :, :10, :40], ((1 - backbone.mean) / backbone.std).expand(3, 10, 40))
    assert (batch[0, :, 33:] == 0).all() and (batch[1, :, :, 40:] == 0).all()


def test_backbone_learned_before_keeps_its_statistics():
    norms = [
        any(isinstance(m, torch.nn.BatchNorm2d) for m in Backbone("resnet_tiny", weights).modules())
        for weights in ("random", "shipped")
    ]
    assert norms == [True, False]


def test_maps_return_to_the_pixels_they_describe():
    """A square in an image of 40 x 48, padded to 64: its sides come back, for the image and for one twice as large."""
    target = Target.make(box_mask(64, (8, 16, 24, 32))[:, :40, :48], torch.tensor([0]))
    quarters = quartered(stacked_masks([target.masks], (64, 64)))
    for times in (1, 2):
        size = (40 * times, 48 * times)
        (part,) = at_image_size(quarters, (64, 64), (40, 48), size, 0.5)
        actual = RunLengths.encode([part._replace(pixels=part.pixels > 0.5)], size).decode()
        assert torch.equal(Target.make(actual, target.labels).boxes, target.boxes * times)


def test_swin_takes_images_of_any_size():
    with torch.device("meta"):
        backbone = build_pyramid("swin_small", "random").eval()
        shapes = [tuple(f.shape) for f in backbone(torch.empty(1, 3, 96, 160))]
    assert shapes == [(1, c, 96 // s, 160 // s) for c, s in zip((96, 192, 384, 768), STRIDES, strict=True)]


# SOLOv2: which cell answers for what


def cells_of(targets, size, design=TINY):
    """For each level the owners [B, S, S]."""
    owner = assign(targets, stacked_masks([t.masks for t in targets], (size, size)), design)
    levels = owner.split([g * g for g in design.grids], 1)
    return [level.unflatten(1, (g, g)) for level, g in zip(levels, design.grids, strict=True)]


def test_levels_are_those_whose_range_holds_the_object():
    """TINY ranges: (.12, 11.5) (5.8, 23) (11.5, 46) (23, 92) (46, 246)."""
    for side, expected in [(4, [0]), (8, [0, 1]), (16, [1, 2]), (30, [2, 3]), (60, [3, 4]), (94, [4])]:
        owners = cells_of([box_target(96, (0, 0, side, side))], 96)
        assert [i for i, o in enumerate(owners) if (o >= 0).any()] == expected


def test_scale_is_the_square_root_of_the_box_not_the_number_of_pixels():
    mask = box_mask(96, (0, 0, 20, 20))
    mask[:, 1:19, 1:19] = False
    owners = cells_of([Target.make(mask, torch.tensor([0]))], 96)
    assert [i for i, o in enumerate(owners) if (o >= 0).any()] == [1, 2]


def test_one_cell_where_the_central_region_is_within_it():
    """On level 2 a cell is 12 px; the box is 20 px about (18, 30), so that the region of 4 px is in cell (2, 1)."""
    owner = cells_of([box_target(96, (8, 20, 28, 40))], 96)[2][0]
    assert (owner >= 0).nonzero().tolist() == [[2, 1]]


def test_four_cells_where_the_center_is_on_a_corner():
    owner = cells_of([box_target(96, (14, 14, 34, 34))], 96)[2][0]
    assert (owner >= 0).nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_central_region_is_cut_to_three_by_three():
    """80 px on the finest grid of level 3's range: the region of 16 px would touch more than 3 cells of 3 px."""
    design = TINY._replace(grids=(32, 1, 1, 1, 1), share=1)
    owner = cells_of([box_target(96, (9, 9, 89, 89))], 96, design)[0][0]
    assert (owner >= 0).nonzero().tolist() == [[y, x] for y in (15, 16, 17) for x in (15, 16, 17)]


def test_center_is_that_of_mass():
    """An L: its box is centered at 24, its mass is lower left."""
    mask = box_mask(96, (8, 8, 16, 40)) | box_mask(96, (8, 32, 40, 40))
    (y, x) = ((mask[0].nonzero().double().mean(0) + 0.5) / 12).long().tolist()
    owner = cells_of([Target.make(mask, torch.tensor([0]))], 96)[2][0]
    assert owner[y, x] == 0 and owner[2, 2] == -1 and (y, x) != (2, 2)


def test_smallest_object_has_the_shared_cell_in_its_own_image():
    big, small = (12, 12, 48, 48), (20, 20, 40, 40)  # one center
    owners = cells_of([box_target(96, big), box_target(96, small, big)], 96)
    level = owners[2]
    assert level[0][level[0] >= 0].unique().tolist() == [0]
    assert level[1][2, 2] == 1
    # of the bigger object only cells that the smaller leaves
    assert set(level[1][level[1] >= 0].unique().tolist()) <= {1, 2}


def test_no_objects_no_cells():
    owners = cells_of([box_target(96), box_target(96)], 96)
    assert all((o == -1).all() and o.shape[0] == 2 for o in owners)


def test_flipped_scene_has_flipped_cells():
    boxes = [(8, 20, 28, 40), (50, 40, 90, 85), (31, 2, 45, 12)]
    plain = cells_of([box_target(96, *boxes)], 96)
    mirrored = cells_of([box_target(96, *[(96 - x1, y0, 96 - x0, y1) for x0, y0, x1, y1 in boxes])], 96)
    assert all(torch.equal(p, m.flip(2)) for p, m in zip(plain, mirrored, strict=True))


def test_full_size_has_the_published_grids():
    assert FULL.grids == (40, 36, 24, 16, 12)
    assert solov2.RANGES == ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))
    assert (FULL.share, TINY.share) == (1, 0.12)


# SOLOv2: losses and masks


def test_quarters_are_shares_of_covered_pixels():
    torch.testing.assert_close(
        quartered(box_mask(8, (0, 0, 4, 4), (2, 3, 5, 8)).to(torch.uint8)),
        torch.tensor([[[1.0, 0], [0, 0]], [[2 / 16, 1 / 16], [8 / 16, 4 / 16]]]),
    )


def test_loss_of_known_maps():
    """Scores of 1/2 everywhere, and a kernel that draws the object: focal and dice by hand."""
    model = build_segmenter("solov2", 2, "resnet_tiny", "random")
    target = box_target(96, (8, 20, 28, 40))
    logits = [torch.zeros(1, 2, g, g) for g in TINY.grids]
    kernels = [torch.ones(1, 1, g, g) for g in TINY.grids]
    drawn = quartered(target.masks)
    terms = model.loss(logits, kernels, (drawn[None] * 2 - 1) * 20, [target], (96, 96))
    owners = cells_of([target], 96)
    positive = sum(int((o >= 0).sum()) for o in owners)
    scores = sum(2 * g * g for g in TINY.grids)
    quarter = math.log(2) / 4  # (1 - p)^2 times the cross-entropy
    focal = quarter * (0.25 * positive + 0.75 * (scores - positive)) / (positive + 1)
    torch.testing.assert_close(terms["focal"], torch.tensor(focal))
    torch.testing.assert_close(terms["dice"], torch.tensor(3 * (1 - 50 / 50.002)), atol=1e-5, rtol=0)


def test_kernel_of_a_cell_is_taught_the_mask_of_its_own_image():
    """Two images, one object each; only the second's kernels have a gradient where its object is."""
    model = build_segmenter("solov2", 2, "resnet_tiny", "random")
    targets = [box_target(96), box_target(96, (8, 20, 28, 40))]
    kernels = [torch.zeros(2, 1, g, g, requires_grad=True) for g in TINY.grids]
    logits = [torch.zeros(2, 2, g, g) for g in TINY.grids]
    model.loss(logits, kernels, torch.ones(2, 1, 24, 24), targets, (96, 96))["dice"].backward()
    for kernel, owner in zip(kernels, cells_of(targets, 96), strict=True):
        assert torch.equal(kernel.grad[:, 0] != 0, owner >= 0)


def test_coordinates_run_from_left_to_right_and_top_to_bottom():
    placed = with_coordinates(torch.zeros(2, 1, 3, 5))
    assert torch.equal(placed[1, 1], torch.linspace(-1, 1, 5).expand(3, 5))
    assert torch.equal(placed[1, 2], torch.linspace(-1, 1, 3)[:, None].expand(3, 5))


def test_flat_cells_are_row_by_row_and_level_by_level():
    levels = [torch.arange(8.0).view(1, 2, 2, 2), torch.tensor([[[[8.0]], [[9.0]]]])]
    assert flat(levels).tolist() == [[[0, 4], [1, 5], [2, 6], [3, 7], [8, 9]]]


def test_peak_is_the_highest_of_its_corner():
    scores = torch.rand(2, 3, 6, 6)
    peaks = peak_scores(scores)
    assert torch.equal(peaks[:, :, 0, 0], scores[:, :, 0, 0])
    highest = max_pool2d(scores, 2, stride=1)
    assert torch.equal(peaks[:, :, 1:, 1:] > 0, scores[:, :, 1:, 1:] == highest)


def test_identical_masks_of_one_class_decay():
    masks = box_mask(8, (0, 0, 4, 4), (0, 0, 4, 4)).flatten(1)[None]
    scores = matrix_nms(masks, torch.tensor([[1, 1]]), torch.tensor([[0.9, 0.8]]))
    torch.testing.assert_close(scores, torch.tensor([[0.9, 0.8 * math.exp(-2)]]))


def test_other_class_or_other_place_does_not_decay():
    masks = box_mask(8, (0, 0, 4, 4), (0, 0, 4, 4), (4, 4, 8, 8)).flatten(1)[None]
    scores = torch.tensor([[0.9, 0.8, 0.7]])
    assert torch.equal(matrix_nms(masks, torch.tensor([[1, 0, 1]]), scores), scores)


def test_suppressed_mask_suppresses_less():
    """Three equal masks: the third decays through the first, as the second's own decay makes up for its overlap."""
    masks = box_mask(8, (0, 0, 4, 4)).flatten(1).expand(1, 3, 64)
    scores = matrix_nms(masks, torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 3))
    torch.testing.assert_close(scores, torch.tensor([[1.0, math.exp(-2), math.exp(-2)]]))


def test_matrix_nms_is_that_of_plain_loops():
    torch.manual_seed(0)
    masks = torch.rand(3, 12, 40) < 0.5
    masks[:, 5] = False
    labels = torch.randint(0, 2, (3, 12))
    scores = torch.rand(3, 12).sort(1, descending=True).values

    def iou(a, b):
        return float((a & b).sum() / max((a | b).sum(), 1))

    expected = scores.clone()
    for b in range(3):
        worst = [
            max([iou(masks[b, i], masks[b, k]) for k in range(i) if labels[b, k] == labels[b, i]], default=0)
            for i in range(12)
        ]
        for j in range(12):
            rivals = [i for i in range(j) if labels[b, i] == labels[b, j]]
            factors = [math.exp(-2 * (iou(masks[b, i], masks[b, j]) ** 2 - worst[i] ** 2)) for i in rivals]
            expected[b, j] *= min([1.0, *factors])
    torch.testing.assert_close(matrix_nms(masks, labels, scores), expected)


def test_detection_finds_what_the_maps_say():
    """One cell of image 1 says class 1, and its kernel picks the channel that holds a square."""
    model = build_segmenter("solov2", 2, "resnet_tiny", "random").eval()
    logits = [torch.full((2, 2, g, g), -9.0) for g in TINY.grids]
    kernels = [torch.zeros(2, 3, g, g) for g in TINY.grids]
    logits[2][1, 1, 3, 4], kernels[2][1, 2, 3, 4] = 4.0, 1.0
    features = torch.randn(2, 3, 24, 24)
    features[1, 2] = box_mask(24, (5, 5, 15, 15))[0].float() * 40 - 20
    masks, labels, scores = model.detect(logits, kernels, features)
    assert (scores[0] == 0).all() and (scores[1] > 0).tolist() == [True] + [False] * (scores.shape[1] - 1)
    assert labels[1, 0] == 1
    torch.testing.assert_close(scores[1, 0], torch.tensor(4.0).sigmoid())
    assert torch.equal(masks[1, 0] > 0.5, box_mask(24, (5, 5, 15, 15))[0])


def test_mask_that_is_too_small_for_its_level_is_no_detection():
    model = build_segmenter("solov2", 1, "resnet_tiny", "random").eval()
    model.design = TINY._replace(share=1)
    for area, actual in [(16, False), (17, True)]:
        logits = [torch.full((1, 1, g, g), -9.0) for g in TINY.grids]
        logits[2][0, 0, 3, 4] = 4.0
        features = torch.full((1, 1, 576), -20.0)
        features[:, :, :area] = 20.0
        kernels = [torch.ones(1, 1, g, g) for g in TINY.grids]
        _, _, scores = model.detect(logits, kernels, features.view(1, 1, 24, 24))
        assert bool(scores[0, 0] > 0) is actual


# The interface of all three


@pytest.mark.parametrize("name", NAMES)
def test_loss_is_finite_with_and_without_objects(name, world):
    torch.manual_seed(0)
    model = build_segmenter(name, 2, "resnet_tiny", "random").train()
    images = list(collate([world[0], world[1]]).images)
    images[1] = images[1][:, :50, :40]
    some = Target.make(world[0].truth.masks, world[0].truth.labels)
    none = Target.make(torch.zeros(0, 50, 40, dtype=torch.bool), torch.zeros(0, dtype=torch.long))
    for first in (some, box_target(64)):
        terms = model(images, [first, none])
        model.zero_grad()
        sum(terms.values()).backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert all(t.isfinite() for t in terms.values()) and all(g.isfinite().all() for g in gradients)
        backbone = [p.grad for n, p in model.named_parameters() if "backbone." in n and p.grad is not None]
        assert any((g != 0).any() for g in backbone)


@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_scored_masks_of_the_image(name, world):
    torch.manual_seed(0)
    model = build_segmenter(name, 2, "resnet_tiny", "random").eval()
    if name == "solov2":
        torch.nn.init.constant_(model.cells.score.bias, 0.0)  # else no score reaches the threshold
        torch.nn.init.normal_(model.cells.kernel.weight)
    actual = predict(model, torch.rand(2, 3, 60, 72))
    assert len(actual) == 2
    for f in actual:
        assert f.masks.dtype == torch.bool and f.masks.shape == (len(f), 60, 72) and 0 < len(f) <= 100
        assert ((f.scores >= 0) & (f.scores <= 1)).all()
        assert ((f.labels >= 0) & (f.labels < 2)).all() and f.labels.dtype == torch.long


@pytest.mark.parametrize("name", ["solov2", "mask2former"])  # of Mask R-CNN: see test_maskrcnn
def test_fit_trains_on_a_json_and_its_weights_restore(name, world, masks, options):
    workspace = Workspace(cfg=None, train=world, val=None, folder=options.folder, options=options)
    schedule = Schedule(steps=1, batch_size=2, lr=1e-3)
    model = workspace.fit_segmenter(name, masks.path, schedule, "resnet_tiny", "shipped")
    assert (options.folder / "final.csv").exists() and not model.training
    save_weights(options.folder / "weights.safetensors", model)
    untrained = build_segmenter(name, 2, "resnet_tiny", "random")
    again = restored(untrained, "shipped", options.folder / "weights.safetensors").eval()
    images = collate([world[0]]).images
    (a,), (b,) = predict(model, images), predict(again, images)
    assert torch.equal(a.masks, b.masks) and torch.equal(a.scores, b.scores)


def test_total_is_the_sum_of_the_terms(world, masks):
    examples = masks.examples(collate([world[0], world[2]]), View())
    terms = segmenter_terms(build_segmenter("solov2", 2, "resnet_tiny", "random"), *examples)
    assert set(terms) == {"focal", "dice", "total"}
    torch.testing.assert_close(terms["total"], terms["focal"] + terms["dice"])


def test_unknown_name_is_refused():
    with pytest.raises(ConfigError, match="solov2, mask2former or maskrcnn"):
        build_segmenter("yolact", 2, "resnet_tiny", "random")  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_mask2former_has_the_published_number_of_parameters():
    model = build_segmenter("mask2former", 80, "swin_small", "random")
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == 69


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_learns_two_scenes_by_heart(name, world, masks):
    torch.manual_seed(0)
    model = build_segmenter(name, 2, "resnet_tiny", "shipped").train()
    samples = [world[0], world[2]]
    batch = collate(samples)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(150):
        optimizer.zero_grad()
        segmenter_terms(model, *masks.examples(batch, View()))["total"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
    assert coco_ap(predict(model.eval(), batch.images), [s.truth for s in samples], 2)["AP50"] > 0.9


def test_thresholds_are_the_published_ones():
    assert (solov2.SCORE, solov2.MASK, solov2.FINAL_SCORE) == (0.1, 0.5, 0.05)
    assert (solov2.CANDIDATES, solov2.DETECTIONS) == (500, 100)
    assert (solov2.SIGMA, solov2.DICE_WEIGHT, solov2.STRIDES) == (0.2, 3.0, (8, 8, 16, 32, 32))
