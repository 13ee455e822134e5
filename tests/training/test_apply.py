"""Runs on large photographs: masks at the size of the photograph, and memory that does not grow with objects x pixels."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from benchmarks.measure import _peak_bytes
from benchmarks.memory import SETTINGS, untrained
from wsis.core.errors import DataError
from wsis.core.types import ExtremePoints, Points, Sample
from wsis.data.images import ImageFolder
from wsis.data.label_maps import read_label_map
from wsis.training.apply import class_maps, predicted_instances, pseudo_instances

CPU = torch.device("cpu")
every_run = pytest.mark.parametrize("name", [name for name in SETTINGS if name != "simformer"])
FAST = {"attentionshift": {"tokens.count": 120}, **{name: {"size.crop": 32} for name in SETTINGS if "exits" in name}}


def run_of(name):
    return untrained(name, **FAST.get(name, {}))


def photograph(height, width, columns, rows):
    """A photograph with clicks on a grid, and four clicks around each."""
    x = (torch.arange(columns) + 0.5) * width / columns
    y = (torch.arange(rows) + 0.5) * height / rows
    xy = torch.cartesian_prod(x, y).floor()
    reach = torch.tensor([[0, -4], [-4, 0], [0, 4], [4, 0]])
    labels, ids = torch.arange(len(xy)) % 2, torch.arange(len(xy))
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    four = ExtremePoints(xy=(xy[:, None] + reach).clamp(min=0), labels=labels, ids=ids)
    tags = torch.ones(2, dtype=torch.bool)
    return Sample(image=image, image_id=1, tags=tags, points=Points.make(xy, labels, ids=ids), extreme_points=four)


@every_run
def test_masks_have_the_size_of_a_photograph_beyond_the_largest_side(name):
    run = run_of(name)
    sample = photograph(30, run.cfg.largest_side + 50, 40, 2)
    for find in (pseudo_instances, predicted_instances):
        with torch.no_grad():
            assert find(run, sample).runs.size == sample.size
    labels = pseudo_instances(run, sample)
    assert len(labels) == 80 and torch.equal(labels.ids, sample.points.ids)
    xy = sample.points.xy.long()
    assert all(p.holds(y[None], x[None]) for p, (x, y) in zip(labels.runs.parts(), xy, strict=True)) or "exits" in name


@every_run
def test_memory_is_that_of_the_photograph_and_not_of_its_objects(name):
    """120 objects on 900 x 1,200 pixels: all masks at the size of the image are 130 MB and 518 as numbers; a network
    itself takes up to 420."""
    run, sample = run_of(name), photograph(900, 1200, 12, 10)
    for find in (pseudo_instances, predicted_instances):
        peak = _peak_bytes(lambda: find(run, sample), CPU)  # noqa: B023
        assert peak < 500e6, f"{find.__name__}: {peak / 1e6:.0f} MB"


def test_class_maps_have_the_size_of_the_photograph(tmp_path):
    run = run_of("simformer")
    sample = photograph(20, run.cfg.largest_side + 50, 2, 2)
    truth = torch.zeros(sample.size, dtype=torch.uint8)
    truth[:, ::2] = 1  # finer than what the network sees
    sample = replace(sample, true_semantic=truth, file_name="a.jpg")

    class One:
        classes, category_ids = run.classes, run.category_ids

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return sample

    for tags in (False, True):
        class_maps(run, One(), tmp_path / str(tags), "", tags=tags)
        assert read_label_map(tmp_path / str(tags) / "a.png").shape == sample.size
    assert (read_label_map(tmp_path / "True" / "a.png")[:, ::2] == 1).all()


def test_class_maps_of_a_folder_stay_while_images_come_and_go(tmp_path):
    run, photos, out = run_of("simformer"), tmp_path / "photos", tmp_path / "out"
    photos.mkdir()

    def save(name, color):
        Image.new("RGB", (40, 30), color).save(photos / name)

    def predict():
        class_maps(run, ImageFolder(photos), out, tags=False)
        return {path.stem: path.stat().st_mtime_ns for path in out.glob("*.png")}

    save("b.png", "red")
    (photos / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="a.png cannot be read"):
        predict()
    (photos / "a.png").unlink()
    first = predict()
    save("c.png", "blue")
    second = predict()
    assert first.keys() == {"b"} and second.keys() == {"b", "c"} and first["b"] == second["b"]
    save("c.png", "yellow")
    with pytest.raises(DataError, match="of another run or of other data"):
        predict()
