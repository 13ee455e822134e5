"""The command line from end to end on eight scenes and two steps, and what it answers to mistakes."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from wsis.__main__ import main
from wsis.core import next_step
from wsis.core.config import changed
from wsis.core.errors import DataError
from wsis.core.files import write_json
from wsis.core.masks import RunLengths
from wsis.core.types import Instances
from wsis.data.coco import CocoFolder
from wsis.data.label_maps import write_label_map
from wsis.data.world import WorldConfig
from wsis.experiments import environment
from wsis.methods import bestie, load_run
from wsis.training import apply
from wsis.training.dry_run import dry_run
from wsis.weak import sources as data_module

FAST = (
    "--set weights=random --set classifier_weights=random --set semantic.weights=random "
    "--set semantic.scales=[1.0] "
    "--set classifier.steps=2 --set network.steps=2 --set network.batch_size=2 --set classifier.batch_size=2 "
    "--set size.crop=64 --set size.classifier_crop=64 --device cpu"
)


@pytest.fixture(scope="module", autouse=True)
def few_scenes():
    """`--data world` is eight scenes of 64 px."""
    patch = pytest.MonkeyPatch()
    patch.setattr(data_module, "LENGTHS", dict.fromkeys(("tiny", "small", "full"), (4, 4)))
    patch.setitem(data_module.WORLDS, "tiny", WorldConfig(size=64, objects=(1, 2), classes=("cat", "car")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def scenes(place):
    """The world on disk, with `wsis world`."""
    assert wsis("world --train 4 --val 4 --out", place / "scenes") == 0
    return place / "scenes"


@pytest.fixture(scope="module")
def tagged(place):
    """A run from image tags."""
    assert wsis(f"train bestie --data world {FAST} --out", place / "tags") == 0
    return place / "tags"


@pytest.fixture(scope="module")
def clicked(place, scenes):
    """A run from one simulated click per object, on true semantic maps."""
    extra = "--set supervision=points --set semantic.source=truth"
    assert wsis("train bestie --data", scenes, f"{FAST} {extra} --out", place / "points") == 0
    return place / "points"


def wsis(*words):
    return main([w for word in words for w in (shlex.split(word) if isinstance(word, str) else [str(word)])])


def error(capsys, *words):
    """The one line that a mistake gets."""
    assert wsis(*words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def test_train_reports_every_stage(tagged):
    reports = {p.name.split(".")[0]: json.loads(p.read_text()) for p in tagged.glob("*.report.json")}
    stages = {"classifier", "cues", "activation_maps", "semantic_maps", "network", "evaluation"}
    assert reports.keys() == stages and 0 <= reports["evaluation"]["mAP50"] <= 1


def test_train_into_a_run_needs_resume(tagged, capsys):
    assert "--resume" in error(capsys, f"train bestie {FAST} --out", tagged)
    assert wsis(f"train bestie {FAST} --resume --out", tagged) == 0
    assert "evaluation: mAP25" in capsys.readouterr().out


def test_resume_with_other_settings_is_refused(tagged, capsys):
    assert "pam.alpha" in error(capsys, f"train bestie {FAST} --set pam.alpha=0.3 --resume --out", tagged)


def test_clicks_that_had_to_be_simulated_are_mentioned(clicked, scenes, place, capsys):
    assert wsis("label", clicked, "--data", scenes, "--out", place / "said.json", "--device cpu") == 0
    assert "points of val simulated from the masks (mask_centroid, seed 0)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train bestie --set netwrk=1 --out x", "no setting 'netwrk'; did you mean network"),
        ("train bestie --set network.steps=many --out x", "network.steps='many': the value should be a valid integer"),
        ("train bestie --set network.steps --out x", "write it as key=value"),
        ("train bestie --recipe nowhere.yaml --out x", "nowhere.yaml does not exist"),
        ("train beastie --out x", "no method 'beastie'; choose one of bestie"),
        ("train sam --out x", "sam is not trained; python -m wsis label sam:FOLDER"),
        ("label sam --data x --out y", "sam needs its checkpoint: write sam:FOLDER"),
        ("train bestie", "--out is missing"),
        ("train bestie --data nowhere --out x", "instances_train.json does not exist"),
        ("table bestie.table9", "no table 'bestie.table9'"),
        ("weak masks.json --out weak.json", "nothing to simulate"),
        ("label nowhere --data x --out y", "nowhere holds no run"),
        ("predict nowhere --images x --out y", "nowhere holds no run"),
        ("trian bestie", "No such command 'trian'"),
        ("train bestie --scal tiny", "No such option: --scal"),
        ("table all --seeds 0", "Invalid value for '--seeds'"),
        ("pretrain vit_tiny_clip --out x", "no recipe for 'vit_tiny_clip'"),
        ("convert ade nowhere x", "nowhere/images/training holds no"),
        ("evaluate a.json b.json --metric coco", "b.json does not exist"),
        ("evaluate a b --metric coco --split S4", "--split belongs to --metric semantic"),
        ("evaluate a b --metric coco --objects c.json", "--objects belongs to --metric separated"),
    ],
)
def test_mistake_gets_one_line_with_a_remedy(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in error(capsys, words)
    assert not list(tmp_path.iterdir()), "nothing was written"


def test_world_does_not_overwrite(scenes, capsys):
    assert "exists already" in error(capsys, "world --train 1 --val 1 --out", scenes)


def test_weak_adds_clicks_and_tags(scenes, place, capsys):
    source = scenes / "annotations" / "instances_val.json"
    assert wsis("weak", source, "--points mask_random --extreme --tags --out", place / "weak.json") == 0
    coco = json.loads((place / "weak.json").read_text())
    assert all(len(a["point"]) == 2 and len(a["extreme_points"]) == 4 for a in coco["annotations"])
    assert f"{len(coco['annotations'])} points" in capsys.readouterr().out


def test_label_from_clicks_gives_every_click_its_mask(clicked, scenes, place):
    source = scenes / "annotations" / "instances_val.json"
    wsis("weak", source, "--points mask_random --out", place / "clicks.json")
    words = ("--weak", place / "clicks.json", "--out", place / "pseudo.json", "--device cpu")
    assert wsis("label", clicked, "--data", scenes, *words) == 0
    masks, clicks = (json.loads((place / n).read_text()) for n in ("pseudo.json", "clicks.json"))
    asked = {a["id"]: (a["image_id"], a["category_id"]) for a in clicks["annotations"]}
    assert {a["id"]: (a["image_id"], a["category_id"]) for a in masks["annotations"]} == asked
    sizes = {i["id"]: (i["height"], i["width"]) for i in masks["images"]}
    points = {a["id"]: a["point"] for a in clicks["annotations"]}
    for annotation in masks["annotations"]:
        x, y = map(int, points[annotation["id"]])
        assert RunLengths.read([annotation["segmentation"]], sizes[annotation["image_id"]]).decode()[0, y, x]
    assert masks["categories"] == clicks["categories"]
    assert [i["id"] for i in masks["images"]] == [i["id"] for i in clicks["images"]]
    assert wsis("evaluate", place / "pseudo.json", source, "--metric coco") == 0, "its masks are sound"


def test_no_verb_replaces_what_it_reads(clicked, tagged, scenes, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    truth = data / "annotations" / "instances_val.json"
    before = truth.read_bytes()
    for words in (
        ("label", clicked, "--data", data, "--device cpu"),
        ("predict", tagged, "--images", data / "images" / "val", "--device cpu"),
        ("evaluate", truth, truth, "--metric coco"),
        ("weak", truth, "--tags --drop-invalid"),
    ):
        assert "is read, too, and would be lost" in error(capsys, *words, "--out", truth)
    assert truth.read_bytes() == before


@pytest.fixture
def square(monkeypatch):
    """In place of the network: one square of class 1, "car", in every image."""

    def find(model, batch, cfg):
        images = batch if isinstance(batch, torch.Tensor) else batch.images
        masks = torch.zeros(1, *images.shape[-2:], dtype=torch.bool)
        masks[:, 5:15, 20:30] = True
        return [Instances.make(masks, torch.tensor([1]), scores=torch.tensor([0.5]))]

    monkeypatch.setattr(bestie, "pseudo_labels", find)
    monkeypatch.setattr(bestie, "predict", find)


def test_label_from_tags_writes_a_data_set(tagged, scenes, tmp_path, square):
    out = tmp_path / "tags.json"
    assert wsis("label", tagged, "--data", scenes, "--out", out, "--device cpu") == 0
    found, truth = (json.loads(p.read_text()) for p in (out, scenes / "annotations" / "instances_val.json"))
    assert [a["image_id"] for a in found["annotations"]] == [i["id"] for i in truth["images"]]
    assert {(a["category_id"], a["area"], *a["bbox"]) for a in found["annotations"]} == {(2, 100, 20, 5, 10, 10)}
    assert found["categories"] == truth["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "car"}]


def test_killed_label_resumes_where_it_was(clicked, scenes, tmp_path, monkeypatch):
    run, image_record = load_run(clicked, "cpu"), apply.image_record
    dataset, _ = data_module.clicked(CocoFolder(scenes, "val"), "val", "mask_random")
    before, after = [], []

    def record(sample):
        if len(before) == 2:
            raise KeyboardInterrupt
        before.append(sample.image_id)
        return image_record(sample)

    monkeypatch.setattr(apply, "image_record", record)
    with pytest.raises(KeyboardInterrupt):
        apply.label(run, dataset, tmp_path / "a.json", "val")
    assert sorted(p.name for p in (tmp_path / ".a.json.parts").iterdir()) == ["0.json", "1.json", "key"]
    monkeypatch.setattr(apply, "image_record", lambda s: after.append(s.image_id) or image_record(s))
    apply.label(run, dataset, tmp_path / "a.json", "val")
    assert before + after == [s.image_id for s in dataset]
    apply.label(run, dataset, tmp_path / "b.json", "val")
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_label_of_other_classes_is_refused(clicked, tmp_path):
    data = data_module.World("val", 1, 0, WorldConfig(size=64, classes=("dog",)))
    with pytest.raises(DataError, match="knows the classes cat, car, the data has dog"):
        apply.label(load_run(clicked, "cpu"), data, tmp_path / "x.json")


def test_predict_on_a_split_has_its_ids(tagged, scenes, tmp_path, square):
    source, out = scenes / "annotations" / "instances_val.json", tmp_path / "split.json"
    assert wsis("predict", tagged, "--images", scenes / "images" / "val", "--out", out, "--device cpu") == 0
    results = [(r["image_id"], r["file_name"], r["category_id"], r["score"]) for r in json.loads(out.read_text())]
    images = json.loads(source.read_text())["images"]
    assert sorted(results) == sorted((i["id"], i["file_name"], 2, 0.5) for i in images)
    figures = tmp_path / "figures.json"
    assert wsis("evaluate", out, source, "--metric voc --out", figures) == 0
    assert json.loads(figures.read_text()).keys() == {"mAP25", "mAP50", "mAP70", "mAP75"}


def test_predict_on_a_plain_folder_counts_its_pictures(tagged, scenes, tmp_path, square):
    (tmp_path / "photos").mkdir()
    for path in sorted((scenes / "images" / "val").iterdir())[2:]:
        (tmp_path / "photos" / path.name).write_bytes(path.read_bytes())
    out = tmp_path / "p.json"
    assert wsis("predict", tagged, "--images", tmp_path / "photos", "--out", out, "--device cpu") == 0
    assert [r["image_id"] for r in json.loads(out.read_text())] == [1, 2]


def test_predict_keeps_what_it_made_when_an_image_cannot_be_read(tagged, scenes, tmp_path, square, monkeypatch, capsys):
    photos, out = tmp_path / "photos", tmp_path / "p.json"
    photos.mkdir()
    for path in (scenes / "images" / "val").iterdir():
        shutil.copy2(path, photos)
    (photos / "0.png").write_bytes(b"no image")
    (photos / "1.png").write_bytes(b"")
    words = ("predict", tagged, "--images", photos, "--out", out, "--device cpu")
    message = error(capsys, *words)
    assert "0.png cannot be read" in message and "1.png cannot be read" in message and not out.exists()
    (photos / "0.png").unlink()
    (photos / "1.png").unlink()
    monkeypatch.setattr(bestie, "predict", None)  # nothing is computed again
    assert wsis(*words) == 0
    found = json.loads(out.read_text())
    assert [r["image_id"] for r in found] == [1, 2, 3, 4]
    assert [r["file_name"] for r in found] == sorted(path.name for path in photos.iterdir())


def test_predict_on_a_picture_that_the_json_does_not_know(tagged, scenes, tmp_path, capsys):
    (tmp_path / "images" / "val").mkdir(parents=True)
    (tmp_path / "annotations").symlink_to(scenes / "annotations")
    first = sorted((scenes / "images" / "val").iterdir())[0]
    (tmp_path / "images" / "val" / "new.png").write_bytes(first.read_bytes())
    words = ("--images", tmp_path / "images" / "val", "--out", tmp_path / "p.json", "--device cpu")
    assert "new.png is not among the images of" in error(capsys, "predict", tagged, *words)


def test_evaluate_semantic_compares_folders_of_label_maps(scenes, capsys):
    maps = scenes / "semantic" / "val"
    assert wsis("evaluate", maps, maps, "--metric semantic") == 0
    assert capsys.readouterr().out.split()[-6:] == [
        "mIoU",
        "100.0",
        "pixel_accuracy",
        "100.0",
        "foreground_IoU",
        "100.0",
    ]


def test_evaluate_semantic_tells_base_from_novel_classes(scenes, tmp_path, capsys):
    for name in ("predicted", "true"):
        (tmp_path / name).mkdir()
    write_json(tmp_path / "categories.json", [{"id": 3, "name": "cat"}, {"id": 7, "name": "sky"}])
    write_label_map(tmp_path / "true" / "a.png", torch.tensor([[0, 3, 3, 7]], dtype=torch.uint8))
    write_label_map(tmp_path / "predicted" / "a.png", torch.tensor([[7, 3, 7, 7]], dtype=torch.uint8))
    out = tmp_path / "figures.json"
    words = ("evaluate", tmp_path / "predicted", tmp_path / "true", "--metric semantic --split names:cat", "--out")
    assert wsis(*words, out) == 0
    found = json.loads(out.read_text())
    assert (found["base_mIoU"], found["novel_mIoU"]) == (0.5, 0.5)  # the 0 of the truth is no miss of the sky


def test_evaluate_writes_the_number_of_objects(scenes, tmp_path, capsys):
    source = scenes / "annotations" / "instances_val.json"
    coco, rows = json.loads(source.read_text()), []
    for annotation in coco["annotations"][:2]:
        (file,) = (i["file_name"] for i in coco["images"] if i["id"] == annotation["image_id"])
        (name,) = (c["name"] for c in coco["categories"] if c["id"] == annotation["category_id"])
        rows.append([file, name, annotation["segmentation"]])
    (tmp_path / "objects.json").write_text(json.dumps(rows))
    words = ("--metric separated --objects", tmp_path / "objects.json", "--out", tmp_path / "figures.json")
    assert wsis("evaluate", source, source, *words) == 0
    assert json.loads((tmp_path / "figures.json").read_text()) == {"separated_recall": 1.0, "objects": 2.0}
    said = capsys.readouterr().out
    assert "of 2 objects" in said and "200.0" not in said


def test_dry_run_estimates_every_training(tiny):
    cfg = changed(tiny, **{"classifier.steps": 50_000, "network.steps": 90_000, "network.batch_size": 16})
    lines = dry_run(bestie, cfg, "cpu").splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:5]}
    assert rows.keys() == {"classifier", "activation_maps", "network"}
    for name, schedule in (("classifier", cfg.classifier), ("network", cfg.network)):
        steps, batch, tried, speed, memory, hours = map(float, rows[name])
        assert (steps, batch, tried) == (schedule.steps, schedule.batch_size, 2) and memory > 0
        assert hours == pytest.approx(steps * batch / speed / 3600, rel=0.05)


def test_doctor_finds_what_the_tests_run_with(monkeypatch, tmp_path):
    monkeypatch.delenv("WSIS_PHOTOS", raising=False)
    findings = {f.subject: f for f in environment.findings()}
    assert findings["torch"].state == "ok" and findings["WSIS_PHOTOS"].state == "note"
    assert {
        "accelerate",
        "devices",
        "weights vgg_tiny",
        "imagenet vgg16",
        "mae vit_base",
        "ImageNet efficientnet_lite0",
        "disk",
        "book",
    } <= findings.keys()
    monkeypatch.setenv("WSIS_PHOTOS", str(tmp_path))
    assert "holds no */annotations" in environment.photographs().words


def test_doctor_names_the_remedy_and_exits_with_1(monkeypatch, capsys):
    monkeypatch.setattr(environment, "requirements", lambda extra="": {"tqdm": "999.0", "no-such-package": "1.0"})
    assert wsis("doctor") == 1
    out = capsys.readouterr().out
    assert "is too old; pip install 'tqdm>=999.0'" in out and "2 missing" in out
    assert "pip install 'no-such-package>=1.0'" in out


def test_a_checkout_that_is_not_installed_still_knows_its_versions(monkeypatch):
    def absent(name):
        raise environment.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(environment.metadata, "requires", absent)
    assert environment.versions()["torch"] and environment.requirements("book") == {}


def test_help_is_quick_and_lists_the_verbs(capsys):
    code = (
        "import sys; from wsis.__main__ import main; status = main(['--help']); print(status, 'torch' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    verbs = [
        "doctor",
        "world",
        "weak",
        "train",
        "label",
        "predict",
        "evaluate",
        "table",
        "pretrain",
        "import",
        "convert",
    ]
    assert [line.split()[0] for line in printed.split("Commands:")[1].splitlines()[1:12]] == verbs
    assert printed.split()[-2:] == ["0", "False"]
    for verb in [*verbs[:-1], *(f"convert {name}" for name in ("voc", "coco-stuff", "ade"))]:
        assert wsis(verb, "--help") == 0 and f"wsis {verb} [OPTIONS]" in capsys.readouterr().out


def test_attentionshift_labels_every_click(place, scenes):
    few = "--set network.steps=2 --set network.batch_size=2 --set statistics.times=0 --set weights=random --device cpu"
    run, out = place / "shift", place / "shift.json"
    assert wsis("train attentionshift --data", scenes, few, "--out", run) == 0
    assert wsis("label", run, "--data", scenes, "--split val --out", out) == 0
    truth = json.loads((scenes / "annotations" / "instances_val.json").read_text())["annotations"]
    found = json.loads(out.read_text())["annotations"]
    assert {a["id"] for a in found} == {a["id"] for a in truth if not a["iscrowd"]}


def test_commands_say_what_comes_next(clicked, scenes, place, capsys):
    def following():
        return [
            line.partition("python -m wsis ")[2] for line in capsys.readouterr().out.splitlines() if "next, " in line
        ]

    extra = "--set supervision=points --set semantic.source=truth --resume"
    capsys.readouterr()
    assert wsis("train bestie --data", scenes, f"{FAST} {extra} --out", clicked) == 0
    label, predict = following()
    assert wsis(label.replace("masks.json", str(place / "next.json"))) == 0
    assert wsis(predict.replace("FOLDER", str(scenes / "images" / "val")), "--out", place / "found.json") == 0
    coco = {
        "categories": [{"id": 1, "name": "cup"}],
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 64}],
    }
    write_json(
        place / "boxes.json", coco | {"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 9, 9]}]}
    )
    Image.new("RGB", (64, 64)).save(place / "a.png")
    capsys.readouterr()
    assert wsis("import coco", place / "boxes.json", "--out", place / "boxed") == 0
    assert "train exits --set supervision=boxes --scale small" in following()[0]


def test_predictions_are_shown_where_a_new_file_of_labels_has_their_category_ids(capsys):
    next_step.after_predict(Path("found.json"), Path("photos"), {"cat": 1, "dog": 2})
    shown = """wsis.viz.annotate("photos", "accepted.json", ['cat', 'dog'], masks="found.json")"""
    assert shown in capsys.readouterr().out
    next_step.after_predict(Path("found.json"), Path("photos"), {"cat": 7})
    assert "annotate" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("counts", "method"),
    [
        ({"extreme_points": 2, "boxes": 2, "tags": 9}, "exits"),
        ({"boxes": 1, "point": 50}, "attentionshift"),
        ({"masks": 3, "boxes": 3}, "exits"),
        ({"tags": 2}, "bestie"),
    ],
)
def test_an_import_is_followed_by_the_method_that_learns_most_of_it(capsys, counts, method):
    kinds = dict.fromkeys(("point", "extreme_points", "boxes", "masks", "tags"), 0)
    next_step.after_import(Path("mine"), kinds | counts)
    assert f"train {method} --scale small" in capsys.readouterr().out
