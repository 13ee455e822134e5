"""A run folder: stages are done once, shared through the cache, and never mixed with those of another run."""

import importlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from wsis import training, weak
from wsis.__main__ import main
from wsis.core.config import changed
from wsis.core.errors import ConfigError, DataError, TrainingError
from wsis.core.files import read_json
from wsis.data.label_maps import read_label_map, write_label_map
from wsis.methods import attentionshift, bestie, load_run, method
from wsis.training import runs
from wsis.training.runs import fit
from wsis.training.stages import Stage
from wsis.weak.sources import Data

pipeline = importlib.import_module("wsis.methods.bestie.stages")
STAGES = ["classifier", "cues", "activation_maps", "semantic_maps", "network", "evaluation"]


def start(tiny, world, out, cfg=None, **options):
    return fit(bestie, cfg or tiny, world, options.pop("val", world), out, data="six scenes", device="cpu", **options)


def modified(folder):
    return {p.name: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def forbidden(workspace):
    raise AssertionError("this stage was finished")


def forbid(monkeypatch, *names):
    for name in names:
        monkeypatch.setattr(pipeline, name, forbidden)


@pytest.fixture(scope="module")
def finished(tiny, world, tmp_path_factory):
    """A finished run, its reports and the cache that it filled."""
    root = tmp_path_factory.mktemp("runs")
    reports = start(tiny, world, root / "run", cache=root / "cache")
    return root / "run", reports, root / "cache"


def test_all_stages_report(finished):
    folder, reports, _ = finished
    assert list(reports) == STAGES
    assert 0 <= reports["classifier"]["tag_mAP"] <= 1
    assert set(reports["cues"]) >= {"cues", "cue_precision", "cue_recall"}
    assert 0 <= reports["semantic_maps"]["mIoU"] <= 1
    assert set(reports["network"]) >= {"pseudo_true_positive", "pseudo_missed", "pseudo_covers_several"}
    assert set(reports["evaluation"]) >= {"mAP25", "mAP50", "mAP70", "mAP75", "mIoU"}
    assert len(list((folder / "semantic_maps").glob("*.png"))) == 6
    assert json.loads((folder / "run.json").read_text())["settings"]["network.steps"] == 2


def test_a_finished_run_does_nothing(finished, tiny, world):
    folder, reports, _ = finished
    before = modified(folder)
    assert start(tiny, world, folder) == reports
    assert {k: v for k, v in modified(folder).items() if k != "run.json"} == {
        k: v for k, v in before.items() if k != "run.json"
    }


def test_the_same_seed_gives_the_same_weights(finished, tiny, world, tmp_path):
    """From another state of chance, and killed on the way."""
    torch.rand(5)
    original = pipeline.train_network

    def killed(workspace):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "train_network", killed)
        with pytest.raises(KeyboardInterrupt):
            start(tiny, world, tmp_path)
    assert pipeline.train_network is original
    with pytest.MonkeyPatch.context() as patch:
        forbid(patch, "train_classifier", "make_cues", "make_activation_maps", "make_semantic_maps")
        start(tiny, world, tmp_path)
    for name in ("classifier", "network"):
        first, second = (load_file(f / f"{name}.safetensors") for f in (finished[0], tmp_path))
        assert all(torch.equal(v, second[k]) for k, v in first.items())


def test_another_run_in_the_same_folder(finished, tiny, world):
    folder = finished[0]
    before = modified(folder)
    with pytest.raises(ConfigError, match=r"differs in settings \['network\.lr', 'pam\.alpha'\]"):
        start(tiny, world, folder, changed(tiny, **{"network.lr": 0.5, "pam.alpha": 0.2}))
    with pytest.raises(ConfigError, match="differs in seed"):
        start(tiny, world, folder, seed=1)
    with pytest.raises(ConfigError, match="differs in data"):
        fit(bestie, tiny, world, None, folder, data="others", device="cpu")
    assert modified(folder) == before


def test_the_cache_shares_what_settings_allow(finished, tiny, world, tmp_path, monkeypatch):
    folder, reports, cache = finished
    forbid(monkeypatch, "train_classifier", "make_cues", "make_activation_maps", "make_semantic_maps")
    other = changed(tiny, **{"refine.enabled": False})
    found = start(tiny, world, tmp_path, other, cache=cache)
    assert {k: found[k] for k in STAGES[:4]} == {k: reports[k] for k in STAGES[:4]}
    assert found["network"]["key"] != reports["network"]["key"]
    assert (tmp_path / "cues.json").read_text() == (folder / "cues.json").read_text()
    assert len(list((tmp_path / "semantic_maps").glob("*.png"))) == 6


def test_the_whole_run_may_come_from_the_cache(finished, tiny, world, tmp_path, monkeypatch):
    _, reports, cache = finished
    forbid(monkeypatch, "train_classifier", "make_cues", "make_activation_maps", "make_semantic_maps")
    forbid(monkeypatch, "train_network", "evaluate")
    assert start(tiny, world, tmp_path, cache=cache) == reports
    assert load_run(tmp_path, "cpu").name == "bestie"


def test_a_setting_of_the_classifier_changes_all_that_follows(tiny):
    from wsis.training.runs import _key

    def keys(cfg):
        made = {}
        for stage in method("bestie").stages(cfg):
            made[stage.name] = _key(stage, cfg, made, "bestie", "data", 0)
        return made

    plain, other = keys(tiny), keys(changed(tiny, **{"pam.alpha": 0.1}))
    same = {name for name in plain if plain[name] == other[name]}
    assert same == {"activation_maps", "semantic_maps"}


# Loading


def test_a_loaded_run_predicts(finished, world, tiny):
    run = load_run(finished[0], "cpu")
    assert (run.classes, run.cfg, run.data, run.seed) == (world.classes, tiny, "six scenes", 0)
    assert not run.model.training
    found = method(run.name).predict(run.model, world[0].image[None].float() / 255, run.cfg)
    assert [instances.masks.shape[1:] for instances in found] == [(64, 64)]


def test_no_run(tmp_path):
    with pytest.raises(DataError, match="holds no run"):
        load_run(tmp_path)


def test_an_unfinished_run(tiny, world, tmp_path):
    start(tiny, world, tmp_path, only=("classifier",))
    with pytest.raises(DataError, match="cues, activation_maps, semantic_maps, network not finished"):
        load_run(tmp_path, "cpu")


def test_a_run_is_loaded_before_its_labels_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr(attentionshift, "restore", lambda cfg, folder: torch.nn.Identity())
    facts = {"method": "attentionshift", "settings": {}, "classes": ["cat"], "category_ids": [1], "data": "", "seed": 0}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match="network not finished"):
        load_run(tmp_path, "cpu")
    (tmp_path / "network.safetensors").touch()
    assert load_run(tmp_path, "cpu").classes == ("cat",)


@pytest.mark.parametrize("name, only, message", [("bestie", ("clasifier",), "no stage"), ("beastie", (), "no method")])
def test_unknown_names_leave_no_trace(tiny, world, tmp_path, name, only, message):
    with pytest.raises(ConfigError, match=message):
        fit(method(name), tiny, world, None, tmp_path / "run", data="six scenes", device="cpu", only=only)
    assert not (tmp_path / "run").exists()


# Supervision and sources of class maps


def test_points(tiny, world, tmp_path):
    cfg = changed(tiny, supervision="points", **{"semantic.source": "truth"})
    reports = start(tiny, world, tmp_path, cfg)
    assert list(reports) == ["activation_maps", "semantic_maps", "network", "evaluation"]
    assert reports["semantic_maps"]["mIoU"] == 1
    found = reports["network"]
    assert found["pseudo_true_positive"] + found["pseudo_missed"] == sum(len(world[i].truth) for i in range(6))
    assert found["pseudo_true_positive"] > 0


class Without:
    """A data set of which some labels are taken away."""

    def __init__(self, world, **fields):
        self.world, self.fields = world, fields
        self.classes, self.category_ids = world.classes, world.category_ids

    def __len__(self):
        return len(self.world)

    def __getitem__(self, index):
        return replace(self.world[index], **self.fields)


def test_points_that_are_not_there(tiny, world, tmp_path):
    cfg = changed(tiny, supervision="points", **{"semantic.source": "truth"})
    with pytest.raises(DataError, match="annotations hold no points"):
        start(tiny, Without(world, points=None), tmp_path, cfg)


def test_maps_of_a_folder(tiny, world, tmp_path):
    for sample in (world[i] for i in range(6)):
        write_label_map(tmp_path / "maps" / f"{sample.file_name[:-4]}.png", sample.true_semantic)
    cfg = changed(tiny, **{"semantic.source": "folder", "semantic.folder": str(tmp_path / "maps")})
    reports = start(tiny, world, tmp_path / "run", cfg, only=("activation_maps", "semantic_maps"))
    assert [r["mIoU"] for r in reports.values()] == [1, 1]
    (tmp_path / "maps" / "train_000003.png").unlink()
    with pytest.raises(DataError, match=r"train_000003\.png"):
        start(tiny, world, tmp_path / "other", cfg, only=("activation_maps",))


def test_the_oracle_needs_the_truth(tiny, world, tmp_path):
    blind, cfg = Without(world, truth=None, true_semantic=None), changed(tiny, **{"semantic.source": "truth"})
    with pytest.raises(ConfigError, match="oracle"):
        start(tiny, blind, tmp_path, cfg, only=("activation_maps",))


@pytest.mark.parametrize(
    ("fields", "message"), [({"file_name": "a.png"}, "file name a.png"), ({"image_id": 3}, "the id 3")]
)
def test_images_with_one_name_or_number_are_refused(tiny, world, tmp_path, fields, message):
    cfg = changed(tiny, **{"semantic.source": "truth", "cues.source": "truth"})
    with pytest.raises(DataError, match=message):
        start(tiny, Without(world, **fields), tmp_path, cfg, only=("cues", "activation_maps"))


def test_data_without_truth_are_enough(tiny, world, tmp_path):
    """Reports then hold no figures that need the truth, and the weights are the same."""
    reports = start(tiny, Without(world, truth=None, true_semantic=None), tmp_path, val=None, only=tuple(STAGES[:5]))
    assert set(reports["cues"]) == {"cues", "key", "minutes"}
    assert set(reports["network"]) == {"key", "minutes"}


def test_other_weights_are_another_stage(monkeypatch):
    stage = Stage("network", "", lambda workspace: {}, "backbone weights")
    cfg = attentionshift.TINY

    def key():
        return runs._key(stage, cfg, {}, "attentionshift", "world", 0)

    assert (before := key()) == key()
    monkeypatch.setattr(runs, "shipped_sums", lambda names: dict.fromkeys(names & {"vit_hybrid_points"}, "new"))
    assert key() != before


@pytest.mark.parametrize("status", [0, 3])
def test_a_launched_training_has_the_settings_that_were_given(monkeypatch, capsys, tmp_path, status):
    cfg = changed(attentionshift.baseline(attentionshift.FULL), classes=7, **{"size.short": (64, 96)})
    commands = []

    class Process:
        stdout, returncode = ["step 1\n"], status
        __enter__, __exit__ = lambda self: self, lambda self, *error: None

    monkeypatch.setattr(runs.subprocess, "Popen", lambda command, **options: commands.append(command) or Process())
    if status:
        with pytest.raises(TrainingError, match="stopped"):
            runs.launch(attentionshift, cfg, tmp_path, data="photos", scale="full", seed=3)
        return
    runs.launch(attentionshift, cfg, tmp_path, data="photos", scale="full", seed=3)
    assert capsys.readouterr().out == "step 1\n"
    opened = SimpleNamespace(train=None, val=None, description="photos", notes=())
    monkeypatch.setattr(weak, "open_data", lambda data, scale, **options: opened)
    started = []
    monkeypatch.setattr(training, "fit", lambda *values, **options: started.append((values, options)) or {})
    assert main(commands[0][commands[0].index("train") :]) == 0
    ((values, options),) = started
    assert values[:2] == (attentionshift, changed(cfg, classes=attentionshift.FULL.classes)) and values[4] == tmp_path
    assert options["seed"] == 3 and options["data"] == "photos"


@pytest.fixture
def notebooks(monkeypatch, tmp_path):
    """The folder in which chapters run."""
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")


def test_two_chapters_do_not_train_in_one_folder_at_a_time(monkeypatch, notebooks, tiny, world):
    running, most = [], []

    def slow(*args, **options):
        running.append(1)
        time.sleep(0.2)
        most.append(len(running))
        running.pop()
        return {}

    monkeypatch.setattr(runs, "fit", slow)
    opened = Data(train=world, val=world, name="world", description="six scenes")
    chapter = partial(training.chapter_run, bestie, tiny, opened, "world", "tiny", device="cpu")
    with ThreadPoolExecutor(3) as pool:
        folders = [folder for _, folder in pool.map(lambda seed: chapter(seed), [0, 0, 0])]
        assert len(set(folders)) == 1 and most == [1, 1, 1]
        list(pool.map(lambda seed: chapter(seed), [0, 1, 2]))
    assert max(most) > 1, "runs of their own do not wait"


def test_chapters_share_nothing_with_runs_of_other_code(monkeypatch, notebooks, tiny, world):
    """At tiny scale; a training at full scale outlives a change of the code."""
    calls = []
    monkeypatch.setattr(runs, "fit", lambda *args, cache, **options: calls.append((args[4], cache)) or {})
    monkeypatch.setattr(runs, "launch", lambda *args, **options: None)
    opened = Data(train=world, val=world, name="world", description="six scenes")
    for scale in ("tiny", "full"):
        for digest in ("one", "two", "two"):
            monkeypatch.setattr(runs, "package_digest", lambda digest=digest: digest)
            training.chapter_run(bestie, tiny, opened, "world", scale, 0, "cpu")
    one, two, again, *full = calls
    assert two == again and one[0] != two[0] and one[1] != two[1]
    assert len(set(full)) == 1


def test_more_classes_than_a_class_map_holds_are_refused_at_the_door(tiny, world, tmp_path):
    class Many(Without):
        classes = tuple(map(str, range(255)))

    data = Many(world)
    data.classes = Many.classes
    with pytest.raises(ConfigError, match="255 classes, and BESTIE's class maps hold 254"):
        start(tiny, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_maps_of_whole_photographs_are_held_at_the_largest_side(tiny, world, tmp_path, monkeypatch):
    """Scenes of 96 px where 48 are allowed: cues and maps are made at that size, maps of a folder are shrunk to it."""
    monkeypatch.setattr(type(tiny), "largest_side", 48)
    for sample in (world[i] for i in range(6)):
        write_label_map(tmp_path / "maps" / f"{sample.file_name[:-4]}.png", sample.true_semantic)
    cfg = changed(tiny, **{"semantic.source": "folder", "semantic.folder": str(tmp_path / "maps")})
    reports = start(tiny, world, tmp_path / "run", cfg)
    assert reports["semantic_maps"]["mIoU"] == 1
    assert max(read_label_map(next((tmp_path / "run" / "semantic_maps").iterdir())).shape) == 48
    assert max(x for rows in read_json(tmp_path / "run" / "cues.json").values() for x, *_ in rows) < 48
