"""Apply a finished run to images: masks or class maps from weak labels (`label`), or from nothing (`predict`).

What is made of an image goes to a file of its own before anything is put together: a call that was killed resumes, with as
many processes as it likes. Processes other than the first return nothing.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn
from tqdm import tqdm

from wsis.core.config import fingerprint
from wsis.core.errors import DataError
from wsis.core.files import atomic, read_json, write_json
from wsis.core.types import IGNORE, Batch, Dataset, Instances, Sample
from wsis.data.coco_json import annotation_records, categories, image_record, instances_json, result_records
from wsis.data.images import ImageFolder
from wsis.data.label_maps import write_label_map
from wsis.data.semantic import write_categories
from wsis.data.transforms import collate
from wsis.data.wrappers import Mapped
from wsis.training.stages import Method, method_name
from wsis.weak.simulate import with_base_masks


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run, ready to label and predict. `category_ids[i]` is the COCO id of class i in its training data."""

    method: Method
    cfg: Any
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    model: nn.Module
    folder: Path
    data: str
    seed: int

    @property
    def name(self) -> str:
        return method_name(self.method)

    def batch(self, sample: Sample) -> Batch:
        parameter = next(
            self.model.parameters(), torch.empty(0)
        )  # a run without a network: its method says what is missing
        return collate([sample]).to(parameter.device)

    def key(self, verb: str, data: str) -> str:
        return fingerprint(verb, self.name, self.cfg, self.data, self.seed, data)

    def check_classes(self, dataset: Dataset) -> None:
        if tuple(dataset.classes) != self.classes:
            ours, theirs = ", ".join(self.classes), ", ".join(dataset.classes)
            raise DataError(
                f"{self.folder} knows the classes {ours}, the data has {theirs}; use the categories of the run"
            )


ClassMap = Callable[[Run, Sample], Tensor]
Row = dict[str, Any]


def label(run: Run, dataset: Dataset, out: Path, description: str = "") -> dict[str, int]:
    """Weak labels -> masks in COCO JSON; image ids are kept, and with clicks the ids of the annotations.

    With tags: what the network finds among the image's tags. With points: one mask per click, which contains at least the
    clicked pixel. With extreme points: one mask per four clicks. description: of the data; a killed call with another one
    starts anew. Returns images, masks, with points `only_click`: masks of the clicked pixel alone, with extreme points
    `without_mask`: annotations that have no clicks (lines and single pixels span no box), or whose mask is empty and
    dropped.

    Raises:
        DataError: the classes are not those that the run was trained on.
    """
    run.check_classes(dataset)
    ids = dataset.category_ids

    def row(sample: Sample) -> Row:
        records = annotation_records(pseudo_instances(run, sample), sample.image_id, ids)
        return {"image": image_record(sample), "masks": records, "objects": _count_objects(sample)}

    rows = _resumable(dataset, row, out, run.key("label", description))
    if rows is None:
        return {}
    annotations = [record for one in rows for record in one["masks"]]
    write_json(out, instances_json([one["image"] for one in rows], annotations, categories(run.classes, ids)))
    shutil.rmtree(_parts(out))
    counts = {"images": len(rows), "masks": len(annotations)}
    if run.cfg.supervision == "points":
        counts["only_click"] = sum(a["area"] == 1 for a in annotations)
    if run.cfg.supervision in ("extreme_points", "boxes"):
        counts["without_mask"] = sum(one["objects"] for one in rows) - len(annotations)
    return counts


def pseudo_instances(run: Run, sample: Sample) -> Instances:
    """The masks that a run makes of one sample's weak labels, see `label`."""
    labels = run.method.pseudo_labels(run.model, run.batch(sample), run.cfg)
    assert isinstance(labels, list)
    return labels[0]


def predict(run: Run, folder: Path, out: Path) -> dict[str, int]:
    """Images -> scored masks in COCO results format, each with its `file_name`; for the ids see `identified`.

    Returns the numbers of images and masks. Raises DataError for no folder, no image, or one that cannot be read.
    """
    dataset, ids = identified(folder, run)

    def row(sample: Sample) -> Row:
        labels = run.method.predict(run.model, run.batch(sample).images, run.cfg)
        assert isinstance(labels, list)
        return {"masks": result_records(labels[0], sample.image_id, ids, sample.file_name)}

    rows = _resumable(dataset, row, out, run.key("predict", str(folder)))
    if rows is None:
        return {}
    results = [record for one in rows for record in one["masks"]]
    write_json(out, results)
    shutil.rmtree(_parts(out))
    return {"images": len(rows), "masks": len(results)}


def class_maps(run: Run, dataset: Dataset, out: Path, description: str, make: ClassMap) -> dict[str, int]:
    """Class maps as label PNGs `out/<stem>.png` with category ids, beside a categories.json; existing ones stay.

    make: `labeled` or `predicted`. description: of the data.

    Raises:
        DataError: `out` holds class maps of another run or of other data; two images would have one PNG; labels of
            other classes than the run's.
    """
    if make is labeled:
        run.check_classes(dataset)
    if isinstance(dataset, ImageFolder):
        dataset.stems()
    state, key, note = PartialState(), run.key("class maps", description), out / "run.key"
    if note.exists() and note.read_text() != key:
        raise DataError(f"{out} holds class maps of another run or of other data; choose another folder")
    if state.is_main_process:
        write_categories(out / "categories.json", run.classes, run.category_ids)
        _write_text(note, key)
    state.wait_for_everyone()
    table = torch.full((256,), IGNORE, dtype=torch.uint8)
    table[1 : len(run.classes) + 1] = torch.tensor(run.category_ids, dtype=torch.uint8)
    for index in _share(len(dataset), state):
        sample = dataset[index]
        path = out / f"{Path(sample.file_name).stem}.png"
        if not path.exists():
            write_label_map(path, table[make(run, sample).cpu()])
    state.wait_for_everyone()
    return {"images": len(dataset)} if state.is_main_process else {}


def labeled(run: Run, sample: Sample) -> Tensor:
    """What a second network would learn from, long [H, W]: base classes as annotated, tagged novel ones as predicted."""
    batch = run.batch(with_base_masks(sample, run.cfg.novel))
    class_maps = run.method.pseudo_labels(run.model, batch, run.cfg)
    assert isinstance(class_maps, Tensor)
    return class_maps[0]


def predicted(run: Run, sample: Sample) -> Tensor:
    """The class of every pixel, long [H, W]."""
    class_maps = run.method.predict(run.model, run.batch(sample).images, run.cfg)
    assert isinstance(class_maps, Tensor)
    return class_maps[0]


def identified(folder: Path, run: Run) -> tuple[Dataset, tuple[int, ...]]:
    """The images of a folder, and the category id of each class.

    In a data set (X/images/<split> with X/annotations/instances_<split>.json) the ids are those of the JSON, so that its
    masks can evaluate the predictions; DataError for an image that it does not know. Elsewhere images count from 1 in the
    order of their names, with the run's categories.
    """
    dataset, place = ImageFolder(folder), folder.resolve()
    path = place.parents[1] / "annotations" / f"instances_{place.name}.json"
    if place.parent.name != "images" or not path.exists():
        return dataset, run.category_ids
    coco = read_json(path)
    by_file = {image["file_name"]: image["id"] for image in coco["images"]}
    unknown = [p.name for p in dataset.paths if p.name not in by_file]
    if unknown:
        raise DataError(f"{folder / unknown[0]} is not among the images of {path}; add it there, or move it elsewhere")
    by_name = {category["name"]: category["id"] for category in coco["categories"]}
    known = all(name in by_name for name in run.classes)
    ids = tuple(by_name[name] for name in run.classes) if known else run.category_ids
    return Mapped(dataset, lambda sample: replace(sample, image_id=by_file[sample.file_name])), ids


def _count_objects(sample: Sample) -> int:
    """How many objects of an image are annotated, crowds aside, by mask or by clicks."""
    masks = [] if sample.truth is None else sample.truth.ids[~sample.truth.crowd].tolist()
    clicks = [] if sample.extreme_points is None else sample.extreme_points.ids.tolist()
    return len({*masks, *clicks})


def _parts(out: Path) -> Path:
    """The folder of an unfinished call: a note of what it makes, and one JSON file for each image that is done."""
    return out.with_name(f".{out.name}.parts")


def _resumable(dataset: Dataset, row: Callable[[Sample], Row], out: Path, key: str) -> list[Row] | None:
    """`row` of every image, in order, in the first process; rows of a killed call with the same key are kept."""
    state, folder = PartialState(), _parts(out)
    if state.is_main_process:
        if folder.exists() and (not (folder / "key").exists() or (folder / "key").read_text() != key):
            shutil.rmtree(folder)
        _write_text(folder / "key", key)
    state.wait_for_everyone()
    for index in _share(len(dataset), state):
        path = folder / f"{index}.json"
        if not path.exists():
            write_json(path, row(dataset[index]))
    state.wait_for_everyone()
    return [read_json(folder / f"{i}.json") for i in range(len(dataset))] if state.is_main_process else None


def _share(length: int, state: PartialState) -> tqdm:
    """This process's share of the indices, with a progress bar in the first one."""
    indices = range(state.process_index, length, state.num_processes)
    return tqdm(indices, disable=None if state.is_main_process else True, leave=False)


def _write_text(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text)
