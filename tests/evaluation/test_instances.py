"""The evaluators against hand cases, pycocotools and invariances."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from wsis.core.errors import DataError
from wsis.core.masks import RunLengths
from wsis.core.types import Instances, Points
from wsis.evaluation import MeanIoU, coco_ap, cue_quality, label_quality, matches, quality_by_image, voc_ap
from wsis.evaluation.files import measure, semantic


def strip(start: int, stop: int, width: int = 20) -> torch.Tensor:
    """A mask in a one-pixel-high image, so that IoU can be counted in the head."""
    mask = torch.zeros(1, width, dtype=torch.bool)
    mask[0, start:stop] = True
    return mask


def instances(*rows: tuple[int, int, int, float], crowd: tuple[int, ...] = (), width: int = 20) -> Instances:
    """Rows of (start, stop, label, score)."""
    if not rows:
        return Instances.none(1, width)
    masks = torch.stack([strip(start, stop, width) for start, stop, _, _ in rows])
    _, _, labels, scores = zip(*rows, strict=True)
    is_crowd = torch.tensor([i in crowd for i in range(len(rows))])
    return Instances.make(masks, torch.tensor(labels), scores=torch.tensor(scores), crowd=is_crowd)


def random_scene(seed: int, images: int = 4, classes: int = 3) -> tuple[list[Instances], list[Instances]]:
    """Random rectangles as truth, and predictions that are shifted, dropped, relabelled and invented."""
    rng = np.random.default_rng(seed)
    scores = iter(rng.permutation(1000) / 1000)
    predicted, truth = [], []
    for _ in range(images):
        n = rng.integers(1, 5)
        boxes = np.stack(
            [rng.integers(0, 30, n), rng.integers(0, 30, n), rng.integers(5, 18, n), rng.integers(5, 18, n)], 1
        )
        labels = rng.integers(0, classes, n)
        extra = rng.integers(0, 30, (2, 4)) + [0, 0, 3, 3]
        moved = np.concatenate([boxes + rng.integers(-3, 4, boxes.shape), boxes[:1], extra]).clip(0, 39)
        found = np.concatenate([labels, labels[:1], rng.integers(0, classes, 2)])
        truth.append(Instances.make(boxes_to_masks(boxes), torch.from_numpy(labels)))
        mine = torch.tensor([next(scores) for _ in moved])
        predicted.append(Instances.make(boxes_to_masks(moved), torch.from_numpy(found), scores=mine))
    return predicted, truth


def boxes_to_masks(boxes: np.ndarray, size: int = 40) -> torch.Tensor:
    masks = torch.zeros(len(boxes), size, size, dtype=torch.bool)
    for mask, (x, y, w, h) in zip(masks, boxes, strict=True):
        mask[y : y + max(h, 1), x : x + max(w, 1)] = True
    return masks


def test_matches_go_to_the_surest_prediction_of_the_class_and_keep_their_rows():
    truth = instances((0, 6, 0, 1.0), (10, 16, 1, 1.0))
    predicted = instances((10, 16, 0, 0.2), (0, 5, 0, 0.7), (0, 6, 0, 0.6), (9, 16, 1, 0.9))
    found = matches(predicted, truth, threshold=0.5)
    assert found.prediction.tolist() == [3, 1, 2, 0]
    assert found.target.tolist() == [1, 0, 0, 0]
    assert found.iou.tolist() == pytest.approx([6 / 7, 5 / 6, 1, 0])
    assert found.right.tolist() == [True, True, False, False]


def test_matches_of_a_class_without_objects_have_no_target():
    found = matches(instances((0, 6, 2, 0.5)), instances((0, 6, 0, 1.0)))
    assert (found.target.item(), found.iou.item(), found.right.item()) == (-1, -1, False)


class TestVoc:
    def test_perfect_prediction_is_one(self):
        _, truth = random_scene(0)
        assert voc_ap(truth, truth, 3)["mAP75"] == 1

    def test_duplicate_is_false_positive(self):
        predicted = instances((0, 10, 0, 0.9), (0, 10, 0, 0.8), (10, 20, 0, 0.7))
        truth = instances((0, 10, 0, 1), (10, 20, 0, 1))
        # hits 1, 0, 1: precision 1 up to recall 1/2, then 2/3
        assert voc_ap([predicted], [truth], 1)["mAP50"] == pytest.approx((1 + 2 / 3) / 2)

    @pytest.mark.parametrize(("stop", "threshold"), [(5, 0.5), (7, 0.7)])
    def test_iou_at_the_threshold_is_right(self, stop, threshold):
        result = voc_ap([instances((0, stop, 0, 0.9))], [instances((0, 10, 0, 1))], 1, (threshold,))
        assert result[f"mAP{round(100 * threshold)}"] == 1

    def test_iou_below_the_threshold_is_wrong(self):
        assert voc_ap([instances((0, 4, 0, 0.9))], [instances((0, 10, 0, 1))], 1)["mAP50"] == 0

    def test_there_is_no_second_choice(self):
        # both predictions prefer object 0; the second overlaps object 1 by 8/9 as well but may not have it
        truth = instances((0, 10, 0, 1), (2, 10, 0, 1))
        predicted = instances((0, 10, 0, 0.9), (1, 10, 0, 0.8))
        assert voc_ap([predicted], [truth], 1)["mAP50"] == pytest.approx(0.5)

    def test_an_object_taken_below_the_threshold_stays_free(self):
        truth = instances((0, 10, 0, 1))
        predicted = instances((0, 3, 0, 0.9), (0, 10, 0, 0.8))
        result = voc_ap([predicted], [truth], 1)
        assert (result["mAP25"], result["mAP50"]) == (1, 0.5)

    def test_class_without_objects_is_nan_and_not_in_the_mean(self):
        result = voc_ap([instances((0, 10, 0, 0.9), (0, 10, 1, 0.9))], [instances((0, 10, 0, 1))], 2)
        assert result["mAP50"] == 1
        assert result["AP"][1].isnan().tolist() == [False, True]

    def test_class_without_predictions_is_zero(self):
        result = voc_ap([instances((0, 10, 0, 0.9))], [instances((0, 10, 0, 1), (10, 20, 1, 1))], 2)
        assert result["AP"][1].tolist() == [1, 0]

    def test_no_objects_at_all_is_nan(self):
        assert math.isnan(voc_ap([instances((0, 10, 0, 0.9))], [instances()], 1)["mAP50"])

    def test_object_of_another_class_does_not_match(self):
        truth = instances((0, 10, 1, 1), (10, 20, 0, 1))
        assert voc_ap([instances((0, 10, 0, 0.9))], [truth], 2)["mAP50"] == 0

    def test_crowd_is_no_target_and_excuses_what_lies_on_it(self):
        truth = instances((0, 5, 0, 1), (5, 20, 0, 1), crowd=(1,))
        predicted = instances((6, 10, 0, 0.9), (12, 16, 0, 0.8), (0, 5, 0, 0.7))
        assert voc_ap([predicted], [truth], 1)["mAP50"] == 1

    def test_crowd_of_another_class_excuses_nothing(self):
        truth = instances((0, 5, 0, 1), (5, 20, 1, 1), crowd=(1,))
        predicted = instances((6, 10, 0, 0.9), (0, 5, 0, 0.7))
        assert voc_ap([predicted], [truth], 2)["mAP50"] == pytest.approx(0.5)

    def test_equal_scores_keep_the_given_order(self):
        truth = [instances((0, 10, 0, 1))]
        first = voc_ap([instances((0, 10, 0, 0.5), (12, 20, 0, 0.5))], truth, 1)["mAP50"]
        last = voc_ap([instances((12, 20, 0, 0.5), (0, 10, 0, 0.5))], truth, 1)["mAP50"]
        assert (first, last) == (1, 0.5)

    def test_eleven_points(self):
        # hits 1, 0, 1 of two objects: precision 1 at recalls 0 .. .5 (six points), 2/3 at the other five
        predicted = instances((0, 10, 0, 0.9), (0, 10, 0, 0.8), (10, 20, 0, 0.7))
        truth = instances((0, 10, 0, 1), (10, 20, 0, 1))
        result = voc_ap([predicted], [truth], 1, interpolation="11point")
        assert result["mAP50"] == pytest.approx((6 + 5 * 2 / 3) / 11)

    @pytest.mark.parametrize("hits", [2, 3, 5, 6, 7, 10])
    def test_a_recall_of_just_a_tenth_counts_and_where_the_release_misses_it(self, hits):
        truth = instances(*((i, i + 1, 0, 1.0) for i in range(10)))
        for rule, missed in (("11point", ()), ("11point_released", (3, 6, 7))):
            result = voc_ap([truth[:hits]], [truth], 1, interpolation=rule)
            assert result["mAP50"] == pytest.approx((hits + (hits not in missed)) / 11), rule

    def test_generators_are_taken(self):
        _, truth = random_scene(1)
        assert voc_ap((t for t in truth), (t for t in truth), 3)["mAP50"] == 1

    def test_masks_of_different_sizes_are_refused(self):
        with pytest.raises(DataError, match=r"image 1.*\(1, 20\).*\(1, 30\)"):
            voc_ap([instances(), instances()], [instances(), instances(width=30)], 1)

    def test_nothing_to_evaluate_is_refused(self):
        with pytest.raises(DataError, match="no images"):
            voc_ap([], [], 1)

    @given(seed=st.integers(0, 10_000), shuffle=st.randoms(use_true_random=False))
    @settings(max_examples=15, deadline=None)
    def test_order_of_images_and_predictions_does_not_matter(self, seed, shuffle):
        predicted, truth = random_scene(seed)
        images = shuffle.sample(range(4), 4)
        moved = [predicted[i][torch.tensor(shuffle.sample(range(n := len(predicted[i])), n))] for i in images]
        a, b = voc_ap(predicted, truth, 3), voc_ap(moved, [truth[i] for i in images], 3)
        torch.testing.assert_close(a["AP"], b["AP"], equal_nan=True)

    @given(seed=st.integers(0, 10_000))
    @settings(max_examples=15, deadline=None)
    def test_against_the_rule_written_with_loops(self, seed):
        predicted, truth = random_scene(seed)
        expected = [by_loops(predicted, truth, label, 0.5) for label in range(3)]
        torch.testing.assert_close(
            voc_ap(predicted, truth, 3)["AP"][1], torch.tensor(expected).double(), equal_nan=True
        )


def by_loops(predicted: list[Instances], truth: list[Instances], label: int, threshold: float) -> float:
    """The rule, one prediction at a time."""
    objects = sum(int((t.labels == label).sum()) for t in truth)
    if not objects:
        return math.nan
    rows = [(float(p.scores[k]), i, k) for i, p in enumerate(predicted) for k in range(len(p)) if p.labels[k] == label]
    taken, hits = set(), []
    for _, i, k in sorted(rows, reverse=True):
        mask, best = predicted[i].masks[k], (0.0, -1)
        for j in range(len(truth[i])):
            if truth[i].labels[j] == label:
                other = truth[i].masks[j]
                best = max(best, ((mask & other).sum().item() / (mask | other).sum().item(), -j - 1))
        right = best[0] >= threshold and (i, best[1]) not in taken
        taken |= {(i, best[1])} if right else set()
        hits.append(right)
    precision = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]
    return sum(max(precision[n:]) for n, hit in enumerate(hits) if hit) / objects


class TestCoco:
    def test_perfect_prediction_is_one(self):
        _, truth = random_scene(2)
        assert coco_ap(truth, truth, 3)["AP"] == pytest.approx(1)

    def test_no_predictions_is_zero(self):
        _, truth = random_scene(2)
        assert coco_ap([Instances.none(40, 40)] * 4, truth, 3)["AP50"] == 0

    def test_no_objects_of_a_size_is_nan(self):
        _, truth = random_scene(2)
        assert math.isnan(coco_ap(truth, truth, 3)["AP_large"])

    def test_nothing_is_printed(self, capsys):
        _, truth = random_scene(2)
        coco_ap(truth, truth, 3)
        assert capsys.readouterr().out == ""

    def test_many_objects_are_taken(self):
        truth = [instances((0, 10, 0, 1.0))] * 300
        assert coco_ap(truth, truth, 1)["AP"] == pytest.approx(1)

    def test_voc_and_coco_agree_where_their_rules_do(self):
        predicted, truth = [instances((0, 10, 0, 0.9))], [instances((0, 10, 0, 1), (10, 20, 0, 1))]
        # one of two objects found: area 1/2; pycocotools takes 51 of its 101 recalls
        assert voc_ap(predicted, truth, 1)["mAP50"] == pytest.approx(0.5)
        assert coco_ap(predicted, truth, 1)["AP50"] == pytest.approx(51 / 101)

    @pytest.mark.parametrize("seed", range(3))
    def test_against_pycocotools_with_its_own_files(self, seed, tmp_path):
        predicted, truth = random_scene(seed, images=6)
        true, found = as_json(truth), [row | {"score": s} for row, s in rows_and_scores(predicted)]
        (tmp_path / "truth.json").write_text(json.dumps(true))
        (tmp_path / "found.json").write_text(json.dumps(found))
        coco = COCO(tmp_path / "truth.json")
        run = COCOeval(coco, coco.loadRes(str(tmp_path / "found.json")), "segm")
        run.evaluate(), run.accumulate(), run.summarize()
        ours, files = (coco_ap(predicted, truth, 3), measure("coco", tmp_path / "found.json", tmp_path / "truth.json"))
        assert [*ours.values()][:3] == pytest.approx(run.stats[:3])
        assert [*files.values()][:4] == pytest.approx(run.stats[:4])


def rows_and_scores(instances_of_images: list[Instances]) -> list[tuple[dict, float]]:
    out = []
    for i, item in enumerate(instances_of_images):
        for code, label, score in zip(
            RunLengths.of(item.masks).entries, item.labels.tolist(), item.scores.tolist(), strict=True
        ):
            out.append(({"image_id": i + 7, "category_id": label * 2 + 1, "segmentation": code}, score))
    return out


def as_json(truth: list[Instances], classes: int = 3) -> dict:
    rows = [row for row, _ in rows_and_scores(truth)]
    sizes = [t.masks.shape[1:] for t in truth]
    return {
        "images": [{"id": i + 7, "height": h, "width": w, "file_name": f"{i}.png"} for i, (h, w) in enumerate(sizes)],
        "categories": [{"id": 2 * c + 1, "name": str(c)} for c in range(classes)],
        "annotations": [
            row | {"id": n + 1, "iscrowd": 0, "area": int(rle.area(row["segmentation"]))} for n, row in enumerate(rows)
        ],
    }


class TestFiles:
    @pytest.fixture
    def pair(self, tmp_path):
        """Writes (predicted, truth) and returns their paths."""

        def write(predicted, truth):
            for name, content in (("predicted", predicted), ("truth", truth)):
                (tmp_path / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
            return tmp_path / "predicted.json", tmp_path / "truth.json"

        return write

    def test_voc_of_files_is_voc_of_instances(self, pair):
        predicted, truth = random_scene(5)
        truth = [*truth, Instances.none(40, 40)]
        found = [row | {"score": s} for row, s in rows_and_scores(predicted)]
        by_file = measure("voc", *pair(found, as_json(truth)))
        in_memory = voc_ap([*predicted, Instances.none(40, 40)], truth, 3)
        torch.testing.assert_close(by_file["AP"], in_memory["AP"], equal_nan=True)

    def test_annotation_file_without_scores_is_a_prediction(self, pair):
        truth = as_json(random_scene(5)[1])
        assert measure("voc", *pair(truth, truth))["mAP75"] == 1

    def test_masks_count_for_the_objects_and_the_files_that_they_were_made_of(self, pair):
        images = [{"id": i, "height": 4, "width": 4, "file_name": f"{name}.png"} for i, name in ((1, "a"), (2, "b"))]
        square, other = ({"segmentation": {"size": [4, 4], "counts": counts}} for counts in ([0, 8, 8], [8, 8]))
        mine = {"id": 7, "image_id": 1, "category_id": 1, **square}, {"id": 8, "image_id": 2, "category_id": 1, **other}
        truth = {"images": images, "annotations": [*mine, {"id": 9, "image_id": 2, "category_id": 1, "point": [1, 1]}]}
        truth["categories"] = [{"id": 1, "name": "thing"}]
        bare = {"id": 9, "image_id": 2, "category_id": 1, **square}
        assert measure("pseudo", *pair([*mine, bare], truth))["mIoU"] == 1, "objects without a mask are not judged"
        with pytest.raises(DataError, match="mask 1 was made for no object of the truth.*--metric voc or coco"):
            measure("pseudo", *pair([mine[0] | {"id": 1}], truth))
        broken = {**truth, "annotations": [mine[0], mine[1] | {"segmentation": [[1, 2, 3, 4]]}]}
        assert measure("pseudo", *pair(list(mine), broken), drop_invalid=True)["mIoU"] == 1, "nor those left out"
        swapped = [
            row | {"image_id": 3 - row["image_id"], "file_name": images[k]["file_name"]} for k, row in enumerate(mine)
        ]
        assert measure("voc", *pair(swapped, truth), drop_invalid=True)["mAP75"] == 1, "files say more than numbers"

    def test_polygons_and_plain_counts_are_read(self, pair):
        truth = {
            "images": [{"id": 1, "height": 4, "width": 4, "file_name": "a.png"}],
            "categories": [{"id": 1, "name": "a"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 2, 0, 2, 4, 0, 4]]}],
        }
        found = [{"image_id": 1, "category_id": 1, "segmentation": {"size": [4, 4], "counts": [0, 8, 8]}, "score": 0.5}]
        assert measure("voc", *pair(found, truth))["mAP75"] == 1

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"image_id": 99}, "image_id 99 is not in the truth"),
            ({"category_id": 2}, "category_id 2 is not in the truth"),
            ({"segmentation": {"size": [40, 41], "counts": "abc"}}, r"size \[40, 41\].*\[40, 40\]"),
            ({"segmentation": {"size": [40, 40], "counts": [0, 8]}}, "covers 8 pixels"),
            ({"segmentation": [[1, 2, 3, 4]]}, "polygon with 2 points"),
            ({"segmentation": None}, "there is no segmentation"),
            ({"id": "a-1"}, "id 'a-1' is no integer of 64 bits"),
            ({"segmentation": "abc"}, "neither polygons nor a run length"),
            ({"score": math.inf}, "score inf is not a finite number"),
            ({"score": "high"}, "score 'high' is not a finite number"),
        ],
    )
    def test_bad_records_are_named(self, pair, change, message):
        predicted, truth = random_scene(5)
        found = [row | {"score": s} for row, s in rows_and_scores(predicted)]
        with pytest.raises(DataError, match=rf"predicted\.json: record 0: .*{message}"):
            measure("coco", *pair([found[0] | change, *found[1:]], as_json(truth)))

    def test_results_of_boxes_are_refused(self, pair):
        box = {"image_id": 7, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}
        with pytest.raises(DataError, match="record 0: there is no segmentation"):
            measure("coco", *pair([box], as_json(random_scene(5)[1])))

    @pytest.mark.parametrize("content", ["{", "[1, 2", '{"images": []}', "3"])
    def test_files_that_are_not_coco_are_named(self, pair, content):
        truth = as_json(random_scene(5)[1])
        with pytest.raises(DataError, match=r"predicted\.json"):
            measure("coco", *pair(content, truth))
        with pytest.raises(DataError, match=r"truth\.json"):
            measure("coco", *pair([], content))

    def test_missing_file_is_named(self, tmp_path):
        with pytest.raises(DataError, match=r"nowhere\.json"):
            measure("coco", tmp_path / "a.json", tmp_path / "nowhere.json")


class TestMeanIoU:
    def test_hand_case(self):
        metric = MeanIoU(3)
        metric.update(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 1, 255]]))
        result = metric.result()
        assert result["IoU"].tolist()[:2] == [0.5, 0.5]
        assert result["IoU"][2].isnan()  # in neither map
        assert result["mIoU"] == 0.5
        assert result["pixel_accuracy"] == pytest.approx(2 / 3)
        assert result["foreground_IoU"] == 0.5

    def test_class_only_in_the_prediction_is_zero(self):
        metric = MeanIoU(2)
        metric.update(torch.tensor([0, 1]), torch.tensor([0, 0]))
        assert metric.result()["IoU"].tolist() == [0.5, 0]

    def test_undecided_prediction_misses_its_class_only(self):
        metric = MeanIoU(3)
        metric.update(torch.tensor([1, 255, 2]), torch.tensor([1, 1, 2]))
        assert metric.result()["IoU"].tolist()[1:] == [0.5, 1]

    def test_confused_foreground_classes_are_still_foreground(self):
        metric = MeanIoU(3)
        metric.update(torch.tensor([1, 2, 0]), torch.tensor([2, 1, 0]))
        assert metric.result()["foreground_IoU"] == 1

    def test_images_one_by_one_are_all_at_once(self):
        g = torch.Generator().manual_seed(0)
        p, t = torch.randint(0, 5, (2, 4, 8, 8), generator=g)
        one, many = MeanIoU(5), MeanIoU(5)
        one.update(p, t)
        for a, b in zip(p, t, strict=True):
            many.update(a, b)
        assert torch.equal(one.confusion, many.confusion)

    @pytest.mark.parametrize("p, t, name", [([3], [0], "predicted"), ([0], [7], "true"), ([-1], [0], "predicted")])
    def test_values_that_are_no_class_are_refused(self, p, t, name):
        with pytest.raises(DataError, match=f"{name} class map holds"):
            MeanIoU(3).update(torch.tensor(p), torch.tensor(t))

    def test_different_sizes_are_refused(self):
        with pytest.raises(DataError, match="differ in size"):
            MeanIoU(3).update(torch.zeros(2, 2), torch.zeros(2, 3))


class TestSemanticFiles:
    @pytest.fixture
    def folders(self, tmp_path):
        for folder in ("predicted", "truth"):
            (tmp_path / folder).mkdir()
            for name in ("a", "b"):
                Image.fromarray(np.array([[0, 1], [2, 255]], np.uint8)).save(tmp_path / folder / f"{name}.png")
        return tmp_path / "predicted", tmp_path / "truth"

    def test_equal_folders_are_perfect(self, folders):
        assert semantic(*folders)["mIoU"] == 1

    def test_missing_map_is_named(self, folders):
        (folders[0] / "b.png").unlink()
        with pytest.raises(DataError, match=r"predicted.*missing, first b\.png"):
            semantic(*folders)

    def test_maps_of_two_sizes_are_named(self, folders):
        Image.fromarray(np.zeros((2, 3), np.uint8)).save(folders[1] / "a.png")
        with pytest.raises(DataError, match=r"truth/a\.png: class maps differ in size"):
            semantic(*folders)

    def test_color_image_is_refused(self, folders):
        Image.new("RGB", (2, 2)).save(folders[0] / "a.png")
        with pytest.raises(DataError, match=r"predicted/a\.png.*8-bit PNG"):
            semantic(*folders)

    def test_truncated_png_is_named(self, folders):
        (folders[0] / "a.png").write_bytes((folders[1] / "a.png").read_bytes()[:40])
        with pytest.raises(DataError, match=r"predicted/a\.png cannot be read"):
            semantic(*folders)

    def test_empty_folder_is_refused(self, tmp_path):
        with pytest.raises(DataError, match="no label PNGs"):
            semantic(tmp_path, tmp_path)


class TestLabelQuality:
    def test_counts(self):
        truth = instances((0, 10, 0, 1), (10, 20, 1, 1))
        pseudo = instances((0, 9, 0, 0.9), (0, 10, 0, 0.8), (10, 20, 0, 0.7))  # right, duplicate, wrong class
        counts = {"true_positive": 1, "false_positive": 2, "missed": 1, "covers_several": 0}
        assert label_quality([pseudo], [truth]) == counts

    def test_nothing_labelled_misses_everything(self):
        truth = instances((0, 10, 0, 1), (10, 20, 1, 1))
        none = {"true_positive": 0, "false_positive": 0, "missed": 2, "covers_several": 0}
        assert label_quality([instances()], [truth]) == none
        by_image = quality_by_image([truth, instances()], [truth, truth])
        counts = {"true_positive": [2, 0], "false_positive": [0, 0], "missed": [0, 2], "covers_several": [0, 0]}
        assert {k: v.tolist() for k, v in by_image.items()} == counts

    @pytest.mark.parametrize(
        ("label", "several"),
        [
            ((0, 16, 0, 1), 1),  # both objects of its class, and right: it overlaps the first by 10 / 16
            ((0, 13, 0, 1), 1),  # all of the first and half of the second
            ((0, 12, 0, 1), 0),  # a third of the second
            ((0, 16, 1, 1), 0),  # another class
            ((10, 20, 0, 1), 0),  # the second, and a crowd
        ],
    )
    def test_a_label_of_several_objects_is_told_from_a_right_one(self, label, several):
        truth = instances((0, 10, 0, 1), (10, 16, 0, 1), (16, 20, 0, 1), crowd=(2,))
        quality = label_quality([instances(label)], [truth])
        assert quality["covers_several"] == several
        assert quality["true_positive"] == (label[2] == 0), "the count of right labels does not see it"


def cue(*rows: tuple[float, int, float]) -> Points:
    """Rows of (x, label, score)."""
    x, labels, scores = zip(*rows, strict=True)
    return Points.make(torch.tensor([(v, 0.0) for v in x]), torch.tensor(labels), scores=torch.tensor(scores))


class TestCueQuality:
    def test_hit_duplicate_wrong_class_and_outside(self):
        truth = instances((0, 10, 0, 1), (10, 20, 1, 1))
        points = cue((3, 0, 0.9), (4, 0, 0.8), (12, 0, 0.7), (25, 1, 0.6))
        assert cue_quality([points], [truth]) == {"precision": 1 / 4, "recall": 1 / 2}

    def test_overlap_goes_to_the_smaller_object(self):
        truth = instances((0, 10, 0, 1), (4, 6, 0, 1))
        assert cue_quality([cue((4, 0, 0.9), (1, 0, 0.8))], [truth]) == {"precision": 1, "recall": 1}

    def test_nearest_pixel_decides(self):
        truth = instances((0, 10, 0, 1))
        assert cue_quality([cue((9.4, 0, 1.0), (9.6, 0, 1.0))], [truth])["precision"] == 0.5

    def test_crowd_and_cues_on_it_are_left_out(self):
        truth = instances((0, 10, 0, 1), (10, 20, 0, 1), crowd=(1,))
        assert cue_quality([cue((3, 0, 0.9), (12, 0, 0.8))], [truth]) == {"precision": 1, "recall": 1}

    def test_no_cues_is_nan_precision_and_no_recall(self):
        result = cue_quality([Points.make(torch.zeros(0, 2), torch.zeros(0))], [instances((0, 10, 0, 1))])
        assert math.isnan(result["precision"]) and result["recall"] == 0

    def test_cues_without_objects_are_wrong(self):
        result = cue_quality([cue((3, 0, 1.0))], [instances()])
        assert result["precision"] == 0 and math.isnan(result["recall"])
