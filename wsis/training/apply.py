"""What a trained run makes of pictures: masks from weak labels (`label`), or from nothing (`predict`); or class maps.

The masks of each picture go to a file beside the output as they are made: a call that was killed goes on, with as many
processes as it likes.
"""

import glob
import json
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
from wsis.core.types import IGNORE, Batch, Dataset, InstanceMap, Instances, Points, Sample
from wsis.data.coco_json import annotation_records, categories, image_record, instances_json, result_records
from wsis.data.images import ImageFolder
from wsis.data.label_maps import write_label_map
from wsis.data.semantic import write_categories
from wsis.data.transforms import collate
from wsis.data.wrappers import Changed, category_ids
from wsis.training.stages import Method
from wsis.weak.simulate import with_base_masks

Records = list[dict[str, Any]]


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
        """The name of the method."""
        return self.method.__name__.rpartition(".")[2]


ClassMap = Callable[[Run, Sample], Tensor]


def label(run: Run, dataset: Dataset, out: Path, description: str = "") -> dict[str, int]:
    """Weak labels -> masks in COCO JSON; image ids are kept, with clicks also the annotations' ids.

    With tags: what the network finds among the image's tags. With points: one mask per click, which holds at
    least the clicked pixel. With extreme points: one mask per four clicks. description: of the data; a killed call
    with another one starts anew.

    Returns images, masks, with points `only_click`: masks that are no more than the clicked pixel, with extreme points
    `without_mask`: annotations that have no clicks (lines and single pixels span no box), or whose mask is empty and
    dropped; nothing in processes other than the first.

    Raises:
        DataError: the classes are not those that the run was trained on.
    """
    _same_classes(run, dataset)
    ids = category_ids(dataset)

    def masks(sample: Sample) -> Records:
        return annotation_records(pseudo_instances(run, sample), sample.image_id, ids)

    rows = _each(dataset, masks, out, _key("label", run, description))
    if rows is None:
        return {}
    annotations = [record for row in rows for record in row["masks"]]
    write_json(out, instances_json([r["image"] for r in rows], annotations, categories(run.classes, ids)))
    _forget(out)
    counts = {"images": len(rows), "masks": len(annotations)}
    if run.cfg.supervision == "points":
        counts["only_click"] = sum(a["area"] == 1 for a in annotations)
    if run.cfg.supervision in ("extreme_points", "boxes"):
        counts["without_mask"] = sum(row["objects"] for row in rows) - len(annotations)
    return counts


def pseudo_instances(run: Run, sample: Sample) -> Instances:
    """The masks that a run makes of one sample's weak labels, see `label`."""
    batch = _batch(run, sample)
    found = run.method.pseudo_labels(run.model, batch, run.cfg)
    if isinstance(found, InstanceMap) and run.cfg.supervision == "points" and batch.points is not None:
        return per_click(found, batch.points)
    return found.unbind()[0] if isinstance(found, InstanceMap) else found[0]


def per_click(found: InstanceMap, points: Points) -> Instances:
    """The masks of one image's clicks, in order, each with the clicked pixel and the annotation's id."""
    number = torch.arange(1, len(points) + 1, device=found.ids.device)
    x, y = points.xy.long().unbind(1)
    regions = found.ids[0].clone()
    regions[y, x] = number
    return Instances.make(regions == number[:, None, None], points.labels, scores=found.scores, ids=points.ids)


def predict(run: Run, folder: Path, out: Path) -> dict[str, int]:
    """Pictures -> scored masks in COCO results format, each with its `file_name`; ids: see `pictures`.

    Returns images and masks.

    Raises:
        DataError: no folder, no picture, or one that cannot be read.
    """
    dataset, ids = pictures(folder, run)
    package = run.method

    def masks(sample: Sample) -> Records:
        found = package.predict(run.model, _batch(run, sample).images, run.cfg)
        instances = found.unbind()[0] if isinstance(found, InstanceMap) else found[0]
        return result_records(instances, sample.image_id, ids, sample.file_name)

    rows = _each(dataset, masks, out, _key("predict", run, str(folder)))
    if rows is None:
        return {}
    results = [record for row in rows for record in row["masks"]]
    write_json(out, results)
    _forget(out)
    return {"images": len(rows), "masks": len(results)}


def _same_classes(run: Run, dataset: Dataset) -> None:
    """Raises DataError: the classes are not those that the run was trained on."""
    if tuple(dataset.classes) != run.classes:
        ours, theirs = ", ".join(run.classes), ", ".join(dataset.classes)
        raise DataError(f"{run.folder} knows the classes {ours}, the data has {theirs}; use the categories of the run")


def class_maps(run: Run, dataset: Dataset, out: Path, description: str, of: ClassMap) -> dict[str, int]:
    """Class maps as label PNGs `out/<stem>.png` with category ids, beside a categories.json; those that are there stay.

    of: `labelled` or `predicted`. description: of the data. Returns images, nothing in processes other than the first.

    Raises:
        DataError: `out` holds class maps of another run or of other data; two pictures would have one PNG; labels of
            other classes than the run's.
    """
    if of is labelled:
        _same_classes(run, dataset)
    if isinstance(dataset, ImageFolder):
        dataset.stems()
    state, key, note = PartialState(), _key("class maps", run, description), out / "run.key"
    if note.exists() and note.read_text() != key:
        raise DataError(f"{out} holds class maps of another run or of other data; choose another folder")
    if state.is_main_process:
        write_categories(out / "categories.json", run.classes, run.category_ids)
        with atomic(note) as temporary:
            temporary.write_text(key)
    state.wait_for_everyone()
    table = torch.full((256,), IGNORE, dtype=torch.uint8)
    table[1 : len(run.classes) + 1] = torch.tensor(run.category_ids, dtype=torch.uint8)
    mine = range(state.process_index, len(dataset), state.num_processes)
    for index in tqdm(mine, disable=None if state.is_main_process else True, leave=False):
        sample = dataset[index]
        path = out / f"{Path(sample.file_name).stem}.png"
        if not path.exists():
            write_label_map(path, table[of(run, sample).cpu()])
    state.wait_for_everyone()
    return {"images": len(dataset)} if state.is_main_process else {}


def labelled(run: Run, sample: Sample) -> Tensor:
    """What a second network would learn from, long [H, W]: base classes as annotated, tagged novel ones as predicted."""
    batch = _batch(run, with_base_masks(sample, run.cfg.novel))
    return run.method.pseudo_labels(run.model, batch, run.cfg)[0]


def predicted(run: Run, sample: Sample) -> Tensor:
    """The class of every pixel, long [H, W]."""
    return run.method.predict(run.model, _batch(run, sample).images, run.cfg)[0]


def pictures(folder: Path, run: Run) -> tuple[Dataset, tuple[int, ...]]:
    """The pictures of a folder, and the category id of each class.

    In a data set (X/images/<split> with X/annotations/instances_<split>.json) the ids are those of the JSON,
    so that its masks can judge the predictions. Elsewhere images count from 1 in the order of their names, and
    categories are those of the run's training data.

    Raises:
        DataError: a picture that the JSON does not know.
    """
    dataset = ImageFolder(folder)
    path = folder.resolve().parents[1] / "annotations" / f"instances_{folder.resolve().name}.json"
    if folder.resolve().parent.name != "images" or not path.exists():
        return dataset, run.category_ids
    coco = read_json(path)
    of_file = {image["file_name"]: image["id"] for image in coco["images"]}
    unknown = [p.name for p in dataset.paths if p.name not in of_file]
    if unknown:
        raise DataError(f"{folder / unknown[0]} is not among the images of {path}; add it there, or move it elsewhere")
    of_name = {category["name"]: category["id"] for category in coco["categories"]}
    known = all(name in of_name for name in run.classes)
    ids = tuple(of_name[name] for name in run.classes) if known else run.category_ids
    return Changed(dataset, lambda sample: replace(sample, image_id=of_file[sample.file_name])), ids


def _batch(run: Run, sample: Sample) -> Batch:
    anything = torch.empty(0)  # for a run without any network; its method says what is missing
    return collate([sample]).to(next(run.model.parameters(), anything).device)


def _key(verb: str, run: Run, data: str) -> str:
    return fingerprint(verb, run.name, run.cfg, run.data, run.seed, data)


def _parts(out: Path) -> list[Path]:
    """The files of unfinished calls, one per process that took part."""
    found = out.parent.glob(f".{glob.escape(out.name)}.*.part")
    return sorted(p for p in found if p.name[len(f".{out.name}.") : -len(".part")].isdigit())


def _forget(out: Path) -> None:
    for part in _parts(out):
        part.unlink()


def _each(dataset: Dataset, masks: Callable[[Sample], Records], out: Path, key: str) -> list[dict[str, Any]] | None:
    """{"image", "masks"} of every picture, in order, in the first process; what killed calls with this key left is kept."""
    state = PartialState()
    rank, processes = state.process_index, state.num_processes
    part = out.with_name(f".{out.name}.{rank}.part")
    done = _finished(_parts(out), key)
    state.wait_for_everyone()  # before anyone writes
    mine = [i for i in range(len(dataset)) if i % processes == rank and i not in done]
    own = _finished([part], key)
    with atomic(part) as temporary:
        lines = [{"key": key}, *({"index": i, **row} for i, row in own.items())]
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with part.open("a", encoding="utf-8") as file:
        for index in tqdm(mine, initial=len(done), total=len(dataset), disable=None, leave=False):
            sample = dataset[index]
            row = {"index": index, "image": image_record(sample), "masks": masks(sample), "objects": _objects(sample)}
            file.write(json.dumps(row) + "\n")
            file.flush()
    state.wait_for_everyone()
    if rank:
        return None
    done = _finished(_parts(out), key)
    return [done[i] for i in range(len(dataset))]


def _objects(sample: Sample) -> int:
    """How many objects of an image are annotated, crowds aside, by mask or by clicks."""
    known = [] if sample.truth is None else sample.truth.ids[~sample.truth.crowd].tolist()
    clicked = [] if sample.extreme_points is None else sample.extreme_points.ids.tolist()
    return len({*known, *clicked})


def _finished(parts: list[Path], key: str) -> dict[int, dict[str, Any]]:
    """The whole lines of calls with this key, by index of the picture."""
    rows: dict[int, dict[str, Any]] = {}
    for part in parts:
        lines = part.read_text(encoding="utf-8").splitlines(keepends=True) if part.exists() else []
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        if found and found[0] == {"key": key}:
            rows |= {row.pop("index"): row for row in found[1:]}
    return rows
