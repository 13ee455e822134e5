"""SimFormer put together: class maps, pseudo maps, a whole run on six scenes, pairs of images, the command line."""

import shlex
from dataclasses import replace

import pytest
import torch

from wsis.__main__ import main
from wsis.core.config import changed, flatten, option
from wsis.core.errors import ConfigError, DataError
from wsis.core.files import read_json
from wsis.core.types import IGNORE
from wsis.data.coco import write_dataset
from wsis.data.images import ImageFolder
from wsis.data.label_maps import read_label_map, write_label_map
from wsis.data.semantic import SemanticFolder, SemanticWorld, open_semantic, write_semantic
from wsis.data.transforms import collate
from wsis.data.world import World, WorldConfig
from wsis.data.wrappers import Mapped
from wsis.methods import load_run, simformer
from wsis.methods.simformer import verbs
from wsis.methods.simformer.labels import class_scores, pseudo_maps
from wsis.methods.simformer.model import Outputs
from wsis.methods.simformer.stages import evaluate, filled
from wsis.training import apply as annotate
from wsis.training import runs
from wsis.training.loop import LoopOptions, make_accelerator, order
from wsis.training.stages import Workspace
from wsis.weak.simulate import with_base_masks

SIDE = 64
FAST = changed(
    simformer.TINY,
    split="names:grass,car",
    **{
        "pairs.points": 10,
        "size.crop": SIDE,
        "size.short": (SIDE,),
        "size.test_short": SIDE,
        "network.steps": 2,
        "network.batch_size": 2,
        "final.steps": 2,
        "final.batch_size": 2,
    },
)


@pytest.fixture(scope="module")
def scenes():
    config = WorldConfig(size=SIDE, objects=(1, 2), classes=("cat", "car"))
    return SemanticWorld(World("train", 6, config=config))


def start(scenes, folder, cfg=FAST):
    return runs.fit(simformer, cfg, scenes, scenes, folder, data="six scenes", device="cpu")


@pytest.fixture(scope="module")
def finished(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, start(scenes, folder)


def test_a_run_reports_base_and_novel_classes_apart(finished):
    _, reports = finished
    assert list(reports) == ["network", "labels", "final", "evaluation"]
    for stage in ("labels", "evaluation"):
        assert {"mIoU", "base_mIoU", "novel_mIoU", "harmonic_mIoU"} <= set(reports[stage])
    assert 0 < reports["evaluation"]["trivial_novel_mIoU"] < 1


def test_trivial_bound_fills_an_image_with_its_largest_novel_class():
    truth = torch.tensor([[1, 3, 3], [2, 255, 0]], dtype=torch.uint8)
    assert filled(truth, (1, 2)).unique().tolist() == [3] and filled(truth, (1,)).unique().tolist() == [2]
    assert filled(truth, (3,)).unique().tolist() == [IGNORE]


def test_pseudo_maps_keep_what_was_annotated(scenes, finished):
    folder, reports = finished
    novel = load_run(folder, "cpu").cfg.novel
    assert reports["labels"]["base_mIoU"] == 1
    for sample in (scenes[i] for i in range(len(scenes))):
        given = with_base_masks(sample, novel).semantic_map
        made = read_label_map(folder / "pseudo_train" / sample.file_name)
        assert torch.equal(made[given != IGNORE], given[given != IGNORE])
        tagged = {label + 1 for label in novel if sample.tags[label]}
        assert set(made[given == IGNORE].unique().tolist()) <= tagged | {IGNORE}


def test_the_run_that_is_loaded_predicts_with_the_second_network(scenes, finished):
    run = load_run(finished[0], "cpu")
    assert run.model.simnet is None
    assert run.cfg.novel == tuple(sorted(run.classes.index(n) for n in ("grass", "car")))
    found = simformer.predict(run.model, collate([scenes[0]]).images, run.cfg)
    assert found.shape == (1, SIDE, SIDE)
    assert 1 <= found.min() <= found.max() <= len(run.classes)


def test_without_a_second_network_the_first_predicts(scenes, tmp_path):
    cfg = changed(FAST, **{"final.steps": 0})
    reports = start(scenes, tmp_path, cfg)
    assert list(reports) == ["network", "evaluation"]
    assert load_run(tmp_path, "cpu").model.simnet is not None


@pytest.mark.parametrize("changes", [{"masks": "all"}, {"pairs.mode": "basic"}])
def test_without_pairs_there_is_no_simnet(scenes, changes):
    model = simformer.build(changed(FAST, **changes).for_classes(scenes.classes))
    assert model.simnet is None


SCORES = torch.tensor([0.1, 0.6, 0.3]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
NOVEL = changed(FAST, classes=3, novel=(1, 2))


@pytest.mark.parametrize(
    ("tags", "present_only", "expected"),
    [((1, 1, 1), False, 2), ((1, 0, 1), False, IGNORE), ((1, 0, 1), True, 3), ((1, 0, 0), True, IGNORE)],
)
def test_pseudo_maps_name_only_tagged_novel_classes(tags, present_only, expected):
    cfg = changed(NOVEL, **{"pseudo.present_only": present_only})
    known = torch.tensor([[[1, IGNORE], [IGNORE, IGNORE]]])
    made = pseudo_maps(SCORES, known, torch.tensor([tags]).bool(), cfg)
    assert made.tolist() == [[[1, expected], [expected, expected]]]
    assert torch.equal(pseudo_maps(SCORES, made, torch.tensor([tags]).bool(), cfg), made)


def test_pixels_without_any_score_stay_open():
    known, tags = torch.full((1, 2, 2), IGNORE), torch.ones(1, 3, dtype=torch.bool)
    scores = torch.zeros(1, 3, 2, 2)
    scores[0, 1, 0, 0] = 0.1
    assert pseudo_maps(scores, known, tags, NOVEL).tolist() == [[[2, IGNORE], [IGNORE, IGNORE]]]


class Constant(torch.nn.Module):
    """Predicts the first class everywhere, and remembers the sizes of its images."""

    def forward(self, images):
        height, width = (side // 4 for side in images.shape[2:])
        self.sizes = [*getattr(self, "sizes", []), tuple(images.shape[2:])]
        logits = torch.tensor([2.0, 0.0, 0.0, 0.0]).expand(1, len(images), 1, 4)
        return Outputs(logits, torch.ones(1, len(images), 1, height, width), images)


def test_a_few_classes_at_a_time_find_the_same(scenes, monkeypatch):
    cfg = FAST.for_classes(scenes.classes)
    model, images = simformer.build(cfg).eval(), torch.rand(2, 3, 50, 70)
    monkeypatch.setattr("wsis.ops.enlarge.AT_ONCE", 3)
    found = simformer.predict(model, images, cfg)
    assert torch.equal(found, class_scores(model.network, images, cfg).argmax(1) + 1)
    assert len(found.unique()) > 1


def test_a_constant_network_is_the_same_from_all_views(scenes):
    images = torch.rand(1, 3, 40, 56)
    one = class_scores(Constant(), images, NOVEL)
    several = class_scores(Constant(), images, changed(NOVEL, **{"pseudo.scales": (32, 64, 96), "pseudo.flip": True}))
    assert one.shape == (1, 3, 40, 56)
    torch.testing.assert_close(several, one)


@pytest.mark.parametrize(("shorts", "sizes"), [((), [(32, 64)]), ((32, 64), [(32, 96), (32, 96)])])
def test_several_views_have_a_limit_of_their_own(shorts, sizes, monkeypatch):
    monkeypatch.setattr("wsis.methods.simformer.labels.LONG", 96)
    cfg = changed(NOVEL, **{"size.test_short": 32, "size.test_long": 64, "pseudo.scales": shorts})
    network = Constant()
    class_scores(network, torch.rand(1, 3, 20, 60), cfg)
    assert network.sizes == sizes


@pytest.mark.parametrize("mode", ["cross", "self", "basic"])
def test_an_image_is_followed_by_its_partner(scenes, mode):
    data = simformer.training_data(scenes, changed(FAST, **{"pairs.mode": mode}).for_classes(scenes.classes))
    assert data.annotates and data.group == (2 if mode != "basic" else 1)
    (groups,) = order(data, 4, 0, 9, 10)
    assert all(len(group) == data.group for group in groups)
    if mode == "self":
        assert all(first[0] == second[0] and first[1] != second[1] for first, second in groups)


def test_pairs_are_not_torn_apart(scenes, tmp_path):
    with pytest.raises(ConfigError, match="in groups of 2"):
        start(scenes, tmp_path, changed(FAST, **{"network.batch_size": 3}))


def test_no_loss_sees_novel_pixels(scenes, tmp_path, monkeypatch):
    """The first network has masks of base classes alone, the second the maps of the first, of which here all is void."""
    values, void = [], torch.full((1, SIDE, SIDE), IGNORE)
    monkeypatch.setattr(verbs, "pseudo_labels", lambda model, batch, cfg: torch.where(batch.semantic_maps > 8, 9, void))

    def watched(model, batch, targets, cfg):
        values.append(batch.semantic_maps.unique())
        return simformer.loss(model, batch, targets, cfg)

    monkeypatch.setattr(verbs, "loss", watched)
    start(scenes, tmp_path)
    assert len(values) == 4
    novel = {label + 1 for label in FAST.for_classes(scenes.classes).novel}
    assert not novel & set(torch.cat(values[:2]).tolist())
    assert set(torch.cat(values[2:]).tolist()) <= {9, IGNORE}


def test_a_batch_without_tags_is_refused(scenes):
    cfg = FAST.for_classes(scenes.classes)
    batch = collate([with_base_masks(scenes[i], cfg.novel) for i in (0, 1)])
    with pytest.raises(ValueError, match="tags"):
        simformer.targets(simformer.build(cfg), replace(batch, tags=None), cfg)


def test_coco_folder_from_the_command_line(tmp_path, monkeypatch):
    """Its background is the value 0 of the label PNGs, and counts in the evaluation."""
    monkeypatch.chdir(tmp_path)
    config = WorldConfig(size=SIDE, objects=(1, 2), classes=("cat", "car"))
    for split in ("train", "val"):
        write_dataset(World(split, 4, config=config), tmp_path / "data", split)
    changes = {k: v for k, v in flatten(FAST).items() if v != flatten(simformer.TINY)[k]} | {"split": "names:car"}
    options = [option(k, v) for k, v in changes.items()]
    assert main(["train", "simformer", "--data", "data", "--device", "cpu", "--out", "run", *options]) == 0
    assert main(shlex.split("label run --data data --device cpu --out labels")) == 0
    assert main(shlex.split("predict run --images data/images/val --device cpu --out maps")) == 0
    truth = open_semantic(tmp_path / "data", "val", None, False)
    assert load_run(tmp_path / "run", "cpu").classes == truth.classes == ("background", "cat", "car")
    for sample in (truth[i] for i in range(len(truth))):
        (tmp_path / "truth").mkdir(exist_ok=True)
        path = tmp_path / "truth" / sample.file_name
        write_label_map(path, sample.true_semantic - 1)
        background = sample.true_semantic == 1
        assert not read_label_map(tmp_path / "labels" / sample.file_name)[background].any()
    assert main(shlex.split("evaluate labels truth --metric semantic --split names:car --out figures.json")) == 0
    assert read_json(tmp_path / "figures.json")["base_mIoU"] > 0.9


def test_of_a_rival_without_a_second_network_there_are_labels_alone():
    stages = simformer.stages(changed(FAST, **{"pseudo.source": "rib", "final.steps": 0}))
    assert [stage.name for stage in stages] == ["tuning", "labels"]


def test_images_without_a_true_class_are_not_evaluated(scenes, finished):
    def measured(unlabeled):
        def hide(sample):
            hidden = torch.full_like(sample.true_semantic, IGNORE)
            return replace(sample, true_semantic=hidden) if sample.image_id in unlabeled else sample

        return evaluate(
            Workspace(cfg=cfg, train=scenes, val=Mapped(scenes, hide), folder=options.folder, options=options)
        )

    cfg = FAST.for_classes(scenes.classes)
    options = LoopOptions(accelerator=make_accelerator("cpu"), seed=0, folder=finished[0])
    assert measured(range(1, 7)) == {}
    some, every = (measured(unlabeled)["trivial_novel_mIoU"] for unlabeled in ([1, 2, 3], []))
    assert 0 < some != every > 0


def test_from_the_command_line(scenes, finished, tmp_path):
    folder, out, found = tmp_path / "data", tmp_path / "labels", tmp_path / "found"
    write_semantic(scenes, folder, "train")
    assert main(shlex.split(f"label {finished[0]} --data {folder} --split train --device cpu --out {out}")) == 0
    assert main(shlex.split(f"predict {finished[0]} --images {folder}/images/train --device cpu --out {found}")) == 0
    truth, run = SemanticFolder(folder), load_run(finished[0], "cpu")
    for sample in (truth[i] for i in range(len(truth))):
        name = f"{sample.file_name.rsplit('.', 1)[0]}.png"
        made, wanted = read_label_map(out / name), with_base_masks(sample, run.cfg.novel).semantic_map
        assert torch.equal(made[wanted != IGNORE], wanted[wanted != IGNORE])
        assert torch.equal(
            read_label_map(found / name), simformer.predict(run.model, run.batch(sample).images, run.cfg)[0].byte()
        )
    with pytest.raises(DataError, match="another run"):
        annotate.class_maps(run, truth, out, "other data", tags=False)
    other = SemanticWorld(World("train", 1, config=WorldConfig(size=SIDE, objects=(1, 1))), "ade")
    with pytest.raises(DataError, match="knows the classes"):
        annotate.class_maps(run, other, tmp_path / "third", "", tags=True)
    twice = next((folder / "images/train").iterdir())
    twice.with_suffix(".webp").write_bytes(b"")
    with pytest.raises(DataError, match="two images share a name"):
        annotate.class_maps(run, ImageFolder(folder / "images/train"), tmp_path / "fourth", "", tags=False)


def test_one_oracle_serves_all_splits(scenes):
    def key(cfg, which):
        cfg, keys = cfg.for_classes(scenes.classes), {}
        for stage in simformer.stages(cfg):
            keys[stage.name] = runs._key(stage, cfg, keys, "simformer", "six scenes", 0)
        return keys[which]

    oracle, other = (
        changed(FAST, masks="all", split=split, **{"final.steps": 0}) for split in (FAST.split, "names:sky")
    )
    assert key(oracle, "network") == key(other, "network")
    again, others = (changed(c, **{"final.steps": 2}) for c in (oracle, other))
    assert key(again, "labels") != key(others, "labels")  # they fill in novel classes
    assert key(oracle, "evaluation") != key(other, "evaluation")
    assert key(FAST, "network") != key(changed(FAST, split="names:sky"), "network")
