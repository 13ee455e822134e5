"""A whole EXITS run on a few small scenes: stages, MAL as a switch, labelling, thresholds, ramps, errors."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from pycocotools import mask as coco_mask
from safetensors.torch import load_file

from wsis.core.config import changed
from wsis.core.errors import ConfigError
from wsis.core.files import read_json
from wsis.core.types import Instances
from wsis.data.coco import CocoFolder, write_dataset
from wsis.data.transforms import collate
from wsis.data.world import World, WorldConfig
from wsis.data.wrappers import Cached, Mapped, Subset, ground_truths, samples
from wsis.evaluation.instances import iou_by_size
from wsis.methods import exits, load_run
from wsis.methods.exits import verbs
from wsis.methods.exits.crops import ObjectCrops, object_crop
from wsis.methods.exits.labels import Retrieved, TokenTargets, other_clicks
from wsis.methods.exits.model import build_extractor, build_teaching
from wsis.methods.exits.stages import quality, ramped, separation, training_crops, true_tokens
from wsis.models import segmenters
from wsis.models.vit import ViT
from wsis.models.weights import save_weights
from wsis.training import apply as annotate
from wsis.training import runs
from wsis.training.stages import Workspace
from wsis.weak.simulate import with_extreme_points

SHORT = {f"{s}.{key}": 2 for s in ("warmup", "network", "final.schedule") for key in ("steps", "batch_size")}
RANDOM = {"extractor.weights": "random", "generator.weights": "random", "final.weights": "random"}
CFG = changed(exits.TINY, classes=16, **SHORT, **RANDOM, **{"walk.crops": 32, "size.min_area": 20.0})


@pytest.fixture(scope="module")
def scenes():
    world = World("train", 5, config=WorldConfig(size=64, objects=(1, 3)))
    return Cached(Mapped(world, with_extreme_points))


@pytest.fixture(scope="module")
def folder(scenes, tmp_path_factory):
    out = tmp_path_factory.mktemp("exits")
    runs.fit(exits, CFG, scenes, scenes, out / "run", data="five scenes", device="cpu")
    write_dataset(scenes, out / "data", "val")
    return out


def reports(folder):
    return {p.name.partition(".")[0]: read_json(p) for p in (folder / "run").glob("*.report.json")}


def test_every_stage_reports(folder):
    found = reports(folder)
    assert set(found) == {"extractor", "thresholds", "network", "labels", "final", "evaluation"}
    assert all(0 <= found["thresholds"][f"foreground_{name}"] <= 1 for name in ("precision", "recall"))
    assert 0 <= found["labels"]["mIoU"] <= 1
    assert "AP50" in found["evaluation"]


def test_quality_of_retrieved_points():
    """Four tokens, one of them labeled from the start: of two object tokens one is found, with one of the background."""
    retrieved = Retrieved(*(torch.tensor([row]) > 0 for row in ([1, 0, 1, 0], [0, 0, 0, 0])), torch.tensor([False]))
    is_open, truth = torch.tensor([[True, True, True, False]]), torch.tensor([[True, True, False, True]])
    found = quality([(retrieved, is_open, truth)])
    assert found["foreground_precision"] == found["foreground_recall"] == 0.5
    assert found["background_precision"] == found["background_recall"] == found["empty"] == 0


def test_separation_counts_open_tokens_alone():
    """Of the open tokens one of two of the object scores above the only other one; the closed token would be wrong as well."""
    scores, is_open = torch.tensor([[0.3, 0.1, 0.2, 9.0]]), torch.tensor([[True, True, True, False]])
    truth = torch.tensor([[True, True, False, False]])
    found = separation([(scores, is_open, truth)])
    assert found["token_auc"] == 0.5 and found["trivial_foreground_precision"] == pytest.approx(2 / 3)
    assert separation([(scores, is_open, None)]) == {}


def test_tokens_are_retrieved_without_a_network_to_learn_from_them():
    assert [s.name for s in exits.stages(changed(CFG, **{"network.steps": 0}))] == ["extractor", "thresholds"]


def test_boxes_alone_need_no_extractor():
    assert [s.name for s in exits.stages(exits.mal(CFG))] == ["network", "labels", "final", "evaluation"]
    assert exits.mal(CFG).loss.mil == 4


def test_boxes_alone_label_no_token(scenes):
    cfg = exits.mal(CFG)
    model, crops = exits.build(cfg), exits.training_data(scenes, cfg)
    batch = collate([crops[i, 0, i] for i in range(3)])
    targets = exits.targets(model, batch, cfg)
    assert model.extractor is None and targets.target.shape == targets.labeled.shape == (3, 64)
    assert not targets.labeled.any() and targets.empty.all()


def test_thresholds_of_a_run_decide_what_is_retrieved(folder, scenes):
    cfg = exits.with_thresholds(CFG, folder / "run")
    assert {"tau_fg": cfg.walk.tau_fg, "tau_bg": cfg.walk.tau_bg} == read_json(folder / "run" / "thresholds.json")
    model, crops = exits.restore(CFG, folder / "run"), exits.training_data(scenes, CFG)
    batch = collate([crops[i, 0, i] for i in range(len(crops))])
    strict = changed(cfg, **{"walk.tau_fg": 1e9, "walk.tau_bg": 1e9})
    some, none = (exits.targets(model, batch, c) for c in (cfg, strict))
    assert none.empty.all() and not some.empty.all() and (some.labeled.sum(1) >= none.labeled.sum(1)).all()


def test_explained_is_what_is_labeled(folder, scenes):
    model, batch = exits.restore(CFG, folder / "run"), collate([scenes[0]])
    (probability,) = exits.explain(model, batch, CFG).steps.values()
    (masks,) = exits.pseudo_labels(model, batch, CFG)
    assert probability.shape == (len(masks), 64, 64)
    inside = probability > CFG.mask.threshold
    assert torch.allclose(
        masks.scores, (probability * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1)
    )
    (boxes,) = exits.explain(None, batch, CFG).steps.values()
    assert torch.equal(boxes, scenes[0].extreme_points.boxes)


def test_true_masks_need_no_generator():
    upper = changed(CFG, **{"final.masks": "truth"})
    assert [s.name for s in exits.stages(upper)] == ["labels", "final", "evaluation"]


def test_one_pseudo_mask_per_annotation_within_its_box(folder, scenes):
    made = read_json(folder / "run" / "pseudo_train.json")["annotations"]
    clicked = torch.cat([s.extreme_points.ids for s in samples(scenes)]).tolist()
    assert [a["id"] for a in made] == clicked
    boxes = torch.cat([s.extreme_points.boxes for s in samples(scenes)])
    x, y, w, h = torch.tensor([a["bbox"] for a in made]).unbind(1)
    assert ((x >= boxes[:, 0]) & (y >= boxes[:, 1]) & (x + w <= boxes[:, 2]) & (y + h <= boxes[:, 3])).all()


def test_label_keeps_ids_and_true_areas(folder):
    run = load_run(folder / "run", "cpu")
    data = CocoFolder(folder / "data", "val")
    counts = annotate.label(run, data, folder / "pseudo.json")
    truth, made = read_json(data.path), read_json(folder / "pseudo.json")
    assert [a["id"] for a in made["annotations"]] == [a["id"] for a in truth["annotations"]]
    assert made["categories"] == truth["categories"] and counts["without_mask"] == 0
    for annotation in made["annotations"]:
        assert annotation["area"] == coco_mask.area(annotation["segmentation"]) > 0


def test_objects_without_clicks_are_counted(folder):
    data = CocoFolder(folder / "data", "val")
    some = json.loads(data.path.read_text())
    del some["annotations"][0]["extreme_points"]
    (folder / "some.json").write_text(json.dumps(some))
    fewer = CocoFolder(folder / "data", "val", folder / "some.json")
    counts = annotate.label(load_run(folder / "run", "cpu"), fewer, folder / "fewer.json")
    assert counts["without_mask"] == 1


def test_predict_needs_no_labels(folder, scenes):
    run = load_run(folder / "run", "cpu")
    image = collate([scenes[0]]).images
    (found,) = exits.predict(run.model, image, run.cfg)
    assert found.masks.shape[1:] == image.shape[2:]


def test_without_a_model_labels_are_filled_boxes(scenes):
    sample = scenes[0]
    (found,) = exits.pseudo_labels(None, collate([sample]), CFG)
    area = found.masks.flatten(1).sum(1)
    sides = sample.extreme_points.boxes[:, 2:] - sample.extreme_points.boxes[:, :2]
    assert torch.equal(area, sides.prod(1).long()) and torch.equal(found.ids, sample.extreme_points.ids)


def test_empty_masks_become_boxes(scenes):
    cfg = changed(CFG, **{"mask.threshold": 1.0})
    batch = collate([scenes[0]])
    (found,) = exits.pseudo_labels(exits.build(cfg).eval(), batch, cfg)
    (boxes,) = exits.pseudo_labels(None, batch, cfg)
    assert torch.equal(found.masks, boxes.masks)


def test_empty_masks_are_counted(scenes, folder, tmp_path):
    found = reports(folder)["labels"]
    cfg = changed(CFG, **{"mask.threshold": 1.0})
    shutil.copy(folder / "run" / "network.safetensors", tmp_path)
    runs.fit(exits, cfg, scenes, None, tmp_path, data="five scenes", device="cpu", only=("labels",))
    all_empty = read_json(tmp_path / "labels.report.json")
    assert 0 <= found["empty_masks"] <= found["masks"]
    assert all_empty["empty_masks"] == all_empty["masks"] == found["masks"]


def test_images_of_a_padded_batch_are_labelled_as_alone(scenes):
    model = exits.build(CFG).eval()
    small = replace(scenes[1], image=scenes[1].image[:, :50, :60], extreme_points=scenes[1].extreme_points[:0])
    one = replace(scenes[0], image=scenes[0].image[:, :, :63])
    together = exits.pseudo_labels(model, collate([one, small]), CFG)
    (alone,) = exits.pseudo_labels(model, collate([one]), CFG)
    assert torch.equal(together[0].masks, alone.masks) and len(together[1]) == 0


def test_flips_and_the_teacher_are_averaged(scenes):
    model = exits.build(CFG).eval()
    images = collate([scenes[0]]).images[:, :, :64, :64]
    same = [model.network.probability(images, s, False) for s in ("student", "teacher", "mean")]
    assert torch.allclose(same[0], same[1]) and torch.allclose(same[0], same[2])
    both, mirrored = (model.network.probability(views, "student", True) for views in (images, images.flip(3)))
    assert torch.allclose(both.flip(2), mirrored, atol=1e-6)


def test_thresholds_see_each_object_at_most_once(scenes, options):
    workspace = Workspace(cfg=CFG, train=scenes, val=None, folder=options.folder, options=options)
    batches = list(training_crops(workspace, 1000))
    ids = torch.cat([crop.extreme_points.ids for crops in batches for crop in crops]).tolist()
    crops = ObjectCrops(scenes, CFG.size.min_area)
    assert sorted(ids) == sorted(int(crops[i].extreme_points.ids) for i in range(len(crops))) and all(batches)


def test_as_many_crops_as_asked_for_in_whole_batches(scenes, options):
    many = Cached(Subset(scenes, list(range(5)) * 20))
    workspace = Workspace(cfg=CFG, train=many, val=None, folder=options.folder, options=options)
    assert [len(crops) for crops in training_crops(workspace, 33)] == [32, 32]


def test_weights_rise_from_zero():
    cfg = changed(CFG, **{"loss.mil_ramp": 10, "loss.crf_ramp": 0})
    assert [ramped(cfg, step).loss.mil for step in (0, 5, 10, 99)] == [0, 5, 10, 10]
    assert ramped(cfg, 0).loss.crf == cfg.loss.crf and ramped(cfg, 0).loss.point == cfg.loss.point


def test_tokens_of_the_truth_are_half_covered(scenes):
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[0, :4, :8] = True
    mask[0, 8:, 8:11] = True
    truth = Instances.make(mask, torch.zeros(1))
    assert true_tokens([replace(scenes[0], truth=truth)], 8).tolist() == [[True, False, False, False]]
    assert true_tokens([replace(scenes[0], truth=None)], 8) is None


def test_a_batch_of_whole_images_is_refused_by_the_loss(scenes):
    batch = collate([s for s in samples(scenes) if len(s.extreme_points) > 1][:1])
    with pytest.raises(ValueError, match="exactly one object"):
        exits.loss(
            exits.build(CFG), batch, TokenTargets(torch.zeros(1, 64), torch.zeros(1, 64) > 0, torch.ones(1) > 0), CFG
        )


def test_the_upper_bound_needs_masks(scenes, tmp_path):
    cfg = changed(CFG, **{"final.masks": "truth"})
    blind = Mapped(scenes, lambda s: replace(s, truth=None))
    with pytest.raises(ConfigError, match="true masks"):
        runs.fit(exits, cfg, blind, None, tmp_path, data="blind", device="cpu")


def test_data_without_truth_train_all_the_same(scenes, tmp_path):
    blind = Mapped(scenes, lambda s: replace(s, truth=None, true_semantic=None))
    found = runs.fit(exits, CFG, blind, None, tmp_path, data="blind", device="cpu")
    assert "mIoU" not in found["labels"] and "foreground_precision" not in found["thresholds"]
    assert found["labels"]["masks"] == sum(len(s.extreme_points) for s in samples(scenes))


def test_boxes_of_the_report_are_those_of_the_clicks(scenes, folder):
    boxes = [exits.pseudo_labels(None, collate([s]), CFG)[0] for s in samples(scenes)]
    assert reports(folder)["labels"]["trivial_mIoU"] == pytest.approx(iou_by_size(boxes, ground_truths(scenes))["mIoU"])


def test_clicks_of_other_objects_become_background_where_asked(scenes):
    several = [i for i, s in enumerate(samples(scenes)) if len(s.extreme_points) > 1]
    crops = ObjectCrops(Subset(scenes, several))
    batch = collate([object_crop(crops[i], CFG.size.crop) for i in range(len(crops))])
    extractor, cfg = build_extractor(CFG).eval(), changed(CFG, **{"seeds.other_objects": True})
    plain, asked = (exits.token_scores(extractor, batch, c)[1] for c in (CFG, cfg))
    clicks = other_clicks(batch, 8, cfg.seeds.push)
    expected = clicks & plain.in_box & plain.valid & ~plain.foreground
    assert plain.others is None and torch.equal(asked.background, plain.background | expected)
    assert clicks.any()


def test_a_run_without_a_final_model_says_so(scenes):
    cfg = changed(CFG, **{"final.schedule.steps": 0})
    model = exits.build(cfg)
    assert model.segmenter is None
    with pytest.raises(ConfigError, match="cannot predict"):
        exits.predict(model, collate([scenes[0]]).images, cfg)


def test_a_run_of_true_masks_predicts_but_does_not_label(scenes, tmp_path):
    cfg = changed(CFG, **{"final.masks": "truth"})
    runs.fit(exits, cfg, scenes, None, tmp_path / "run", data="five scenes", device="cpu")
    run, batch = load_run(tmp_path / "run", "cpu"), collate([scenes[0]])
    assert run.model.network is None and len(exits.predict(run.model, batch.images, run.cfg)) == 1
    with pytest.raises(ConfigError, match="has no generator.*final.masks=pseudo"):
        annotate.label(run, scenes, tmp_path / "masks.json")


def test_a_run_that_trained_nothing_says_what_it_lacks(scenes, tmp_path):
    cfg = changed(CFG, **{"final.masks": "truth", "final.schedule.steps": 0})
    runs.fit(exits, cfg, scenes, None, tmp_path / "run", data="five scenes", device="cpu")
    with pytest.raises(ConfigError, match="has no generator"):
        annotate.label(load_run(tmp_path / "run", "cpu"), scenes, tmp_path / "masks.json")


def test_a_restored_run_has_the_weights_of_its_folder(folder):
    """The generator and the final model, each from its file."""
    model = exits.restore(CFG, folder / "run")
    for part, file in (("extractor", "extractor"), ("network", "network"), ("segmenter", "final")):
        stored = load_file(folder / "run" / f"{file}.safetensors")
        found = getattr(model, part).state_dict()
        assert found.keys() == stored.keys() and all(torch.equal(v, stored[k]) for k, v in found.items())


def test_the_segmenter_is_built_once(folder, monkeypatch):
    built = []
    build = segmenters.build_segmenter
    monkeypatch.setattr(segmenters, "build_segmenter", lambda *a: built.append(a) or build(*a))
    monkeypatch.setattr(verbs, "build_segmenter", segmenters.build_segmenter)
    exits.restore(CFG, folder / "run")
    assert len(built) == 1


def test_a_transformer_is_restored_with_its_normalization(tmp_path):
    """Some checkpoints are not normalized as ImageNet is; nothing but the file knows."""
    cfg = changed(CFG, **{"final.schedule.steps": 0})
    for part, model in (("extractor", build_extractor(CFG)), ("network", build_teaching(CFG))):
        for vit in (m for m in model.modules() if isinstance(m, ViT)):
            vit.mean.fill_(0.5)
        save_weights(tmp_path / f"{part}.safetensors", model)
    means = [m.mean for m in exits.restore(cfg, tmp_path).modules() if isinstance(m, ViT)]
    assert len(means) == 3 and all((mean == 0.5).all() for mean in means)


def test_processes_share_the_images_and_the_first_joins_what_they_made(folder, monkeypatch):
    """Two processes in turn: when the first waits for the end, the second does its part."""
    run, data, out = load_run(folder / "run", "cpu"), CocoFolder(folder / "data", "val"), folder / "shared.json"
    waits, numbers = [], [0]

    class State:
        num_processes = 2

        def __init__(self):
            self.process_index, self.is_main_process = numbers[-1], not numbers[-1]

        def wait_for_everyone(self):
            waits.append(self.process_index)
            if waits == [0, 0]:
                numbers.append(1)
                assert annotate.label(run, data, out, "five scenes") == {}

    annotate.label(run, data, folder / "alone.json", "five scenes")
    monkeypatch.setattr(annotate, "PartialState", State)
    assert annotate.label(run, data, out, "five scenes")["images"] == len(data) and waits == [0, 0, 1, 1]
    assert read_json(out) == read_json(folder / "alone.json")


@pytest.mark.slow
@pytest.mark.timeout(600)  # two processes on a busy machine
def test_two_processes_label_what_one_labels(folder):
    """Also where one of them left a part behind: nothing is repeated, nothing is lost."""
    one, two = folder / "one.json", folder / "two.json"
    run, data = load_run(folder / "run", "cpu"), CocoFolder(folder / "data", "val")
    annotate.label(run, data, one, f"{folder / 'data'} val None")
    verb = ["wsis", "label", str(folder / "run"), "--data", str(folder / "data"), "--device", "cpu", "--out", str(two)]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    subprocess.run([*launch, *verb], check=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert read_json(one) == read_json(two)
    assert not list(folder.glob(".two.json.*"))
