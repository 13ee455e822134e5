"""Apply a finished run to images: masks or class maps from weak labels (`label`), or from nothing (`predict`).

The result of an image goes to a file of its own before all are put together: a call that was killed, or that met an image
it could not read, resumes, with any number of processes. Processes other than the first return nothing.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.nn.functional import interpolate

from wsis.core.config import fingerprint
from wsis.core.errors import DataError
from wsis.core.files import Entry, read_json, refuse_to_replace, write_json, write_text
from wsis.core.report import progress, report
from wsis.core.types import BACKGROUND, IGNORE, Batch, Dataset, Instances, Sample
from wsis.data.coco import find_records
from wsis.data.export import Format, check_place, write_masks
from wsis.data.images import ImageFolder, map_name, map_names
from wsis.data.label_maps import write_label_map
from wsis.data.semantic import write_categories
from wsis.data.transforms import collate, shrunk
from wsis.data.write import Records, annotation_records, categories, image_record, instances_json, result_records
from wsis.ops.enlarge import resized
from wsis.training.stages import Method, method_name
from wsis.weak.simulate import with_base_masks


@dataclass(frozen=True)
class Run:
    """A finished run, ready to label and predict."""

    method: Method
    cfg: Any
    classes: tuple[str, ...]  # none where the method labels objects of any class
    category_ids: tuple[int, ...]  # the COCO id of each class in the training data
    model: nn.Module
    folder: Path
    data: str
    seed: int

    @property
    def name(self) -> str:
        return method_name(self.method)

    def view(self, sample: Sample) -> Sample:
        """The sample as the method gets it: without the truth, and no longer than `largest_side`."""
        return shrunk(replace(sample, truth=None, true_semantic=None), self.cfg.largest_side)

    def batch(self, sample: Sample) -> Batch:
        # A run without a network has no parameters; its method says what is missing.
        return collate([self.view(sample)]).to(next(self.model.parameters(), torch.empty(0)).device)

    def key(self, verb: str, data: str) -> str:
        return fingerprint(verb, self.name, self.cfg, self.data, self.seed, data)

    def check_classes(self, dataset: Dataset) -> None:
        if self.classes and tuple(dataset.classes) != self.classes:
            here, there = ", ".join(self.classes), ", ".join(dataset.classes)
            raise DataError(f"{self.folder} knows the classes {here}, the data has {there}; use those of the run")


def label(
    run: Run, dataset: Dataset, out: Path, description: str = "", format: Format = "coco", folder: Path | None = None
) -> dict[str, int]:
    """Weak labels -> masks in COCO JSON, or another format of `data.export` (images: in `folder`); the ids of images, and with
    clicks of annotations, are kept. With clicks there is one mask for each, see `Method.pseudo_labels`.

    description: of the data; a killed call with another one starts anew. Returns images, masks, with points `only_click`: masks
    of the clicked pixel alone, with extreme points `without_mask`: annotations without clicks (lines and single pixels span no
    box), or whose mask is empty and dropped. Raises DataError for classes other than those that the run was trained on.
    """
    run.check_classes(dataset)
    check_place(out, format)
    ids = dataset.category_ids

    def row(sample: Sample) -> Entry:
        records = annotation_records(pseudo_instances(run, sample), sample.image_id, ids)
        masks = [] if sample.truth is None else sample.truth.ids[~sample.truth.crowd].tolist()
        clicks = [] if sample.extreme_points is None else sample.extreme_points.ids.tolist()
        return {"image": image_record(sample), "masks": records, "objects": len({*masks, *clicks})}

    with _rows(dataset, row, out, run.key("label", description)) as rows:
        if rows is None:
            return {}
        images, masks = [r["image"] for r in rows], [mask for r in rows for mask in r["masks"]]
        names = categories(dataset.classes, ids)
        write_masks(out, format, images, masks, names, folder, lambda m: instances_json(images, m, names))
    counts = {"images": len(rows), "masks": len(masks)}
    if run.cfg.supervision == "points":
        counts["only_click"] = sum(mask["area"] == 1 for mask in masks)
    if run.cfg.supervision in ("extreme_points", "boxes"):
        counts["without_mask"] = sum(r["objects"] for r in rows) - len(masks)
    return counts


def pseudo_instances(run: Run, sample: Sample) -> Instances:
    """The masks that a run makes of one sample's weak labels, see `label`."""
    labels = run.method.pseudo_labels(run.model, run.batch(sample), run.cfg)
    assert isinstance(labels, list)
    runs = labels[0].runs
    if runs.size != sample.size:
        runs = resized(runs, sample.size)
        if run.cfg.supervision == "points" and sample.points is not None:
            runs = runs.with_pixels(sample.points.xy.round().long())
    return replace(labels[0], runs=runs)


def predicted_instances(run: Run, sample: Sample) -> Instances:
    """The masks that a run finds in an image without any label."""
    labels = run.method.predict(run.model, run.batch(sample).images, run.cfg)
    assert isinstance(labels, list)
    return replace(labels[0], runs=resized(labels[0].runs, sample.size))


def predict(run: Run, folder: Path, out: Path, format: Format = "coco") -> dict[str, int]:
    """Images -> scored masks in COCO results format, each with its `file_name`, or in another format of `data.export`; for the
    ids see `identified`.

    Returns the numbers of images and masks. Raises DataError for no folder or no image and, after the others, for images that
    cannot be read; a call without these starts where this one ended.
    """
    check_place(out, format)
    above = {*folder.absolute().parents, *folder.resolve().parents}
    refuse_to_replace(out, *(path for place in above for path in place.glob("annotations/instances_*.json")))
    dataset, ids = identified(folder, run)

    def row(sample: Sample) -> Entry:
        masks = result_records(predicted_instances(run, sample), sample.image_id, ids, sample.file_name)
        return {"image": image_record(sample), "masks": masks}

    with _rows(dataset, row, out, run.key("predict", f"{folder} {ids}")) as rows:
        if rows is None:
            return {}
        for index, found in enumerate(rows):  # images before this one may be gone since its row was made
            found["image"]["id"] = dataset.image_id(index)
            found["masks"] = [{**mask, "image_id": dataset.image_id(index)} for mask in found["masks"]]
        images, masks = [r["image"] for r in rows], [mask for r in rows for mask in r["masks"]]
        write_masks(out, format, images, masks, categories(run.classes, ids), folder, lambda masks: masks)
    return {"images": len(rows), "masks": len(masks)}


def class_maps(run: Run, dataset: Dataset, out: Path, description: str = "", *, tags: bool) -> dict[str, int]:
    """Class maps as label PNGs in `out`, see `map_name`, with category ids, beside a categories.json; existing ones stay.

    tags: what a second network would learn from, base classes as annotated and tagged novel ones as predicted, in place of
    a prediction without any label. description: of the data; a folder of images has its own. Raises DataError if `out` holds
    class maps of another run or of other data, if two images would have one PNG, for classes other than the run's and, after
    the others, for images that cannot be read.
    """
    if tags:
        run.check_classes(dataset)
    states: dict[str, str] = {}  # of the images of a folder, by their class maps
    if isinstance(dataset, ImageFolder):
        maps, description = map_names(dataset.names, dataset.folder), str(dataset.folder)
        states = {maps[name]: dataset.state(index) for index, name in enumerate(dataset.names)}
    state, key, note = PartialState(), run.key("class maps", description), out / "run.key"
    first, *known = note.read_text().split() if note.exists() else [key]
    if first != key or any((out / name).exists() for name, now in states.items() if now not in known):
        raise DataError(f"{out} holds class maps of another run or of other data; choose another folder")
    if state.is_main_process:
        write_categories(out / "categories.json", run.classes, run.category_ids)
        write_text(note, " ".join([key, *sorted({*known, *states.values()})]))
    state.wait_for_everyone()
    table = torch.full((256,), IGNORE, dtype=torch.uint8)
    table[1 : len(run.classes) + 1] = torch.tensor(run.category_ids, dtype=torch.uint8)

    def make(_: int, sample: Sample) -> None:
        path = out / map_name(sample.file_name)
        if path.exists():
            return
        if tags:
            sample = with_base_masks(sample, run.cfg.novel)
            maps = run.method.pseudo_labels(run.model, run.batch(sample), run.cfg)
        else:
            maps = run.method.predict(run.model, run.batch(sample).images, run.cfg)
        assert isinstance(maps, Tensor)
        write_label_map(path, table[_whole(maps[0].cpu(), sample).int()])

    _each(dataset, range(len(dataset)), make, state)
    return {"images": len(dataset)} if state.is_main_process else {}


def _whole(class_map: Tensor, sample: Sample) -> Tensor:
    """A class map of the view of a sample at its own size, with the classes that were given there."""
    if class_map.shape == sample.size:
        return class_map
    whole = interpolate(class_map[None, None].to(torch.uint8), sample.size, mode="nearest-exact")[0, 0]
    known = sample.semantic_map
    return whole if known is None else torch.where((known == BACKGROUND) | (known == IGNORE), whole, known)


def identified(folder: Path, run: Run) -> tuple[ImageFolder, tuple[int, ...]]:
    """The images of a folder, and the category id of each class.

    In a data set, see `find_records`, the ids are those of its JSON, whose masks can then evaluate the predictions. Elsewhere
    images count from 1 in the order of their names, with the run's categories.
    """
    dataset = ImageFolder(folder)
    by_name = {category["name"]: category["id"] for category in find_records(dataset)}
    if by_name and (lacking := [name for name in run.classes if name not in by_name]):
        report(f"the data set of {folder} has no class {', '.join(lacking)}; predictions have the run's category ids")
        by_name = {}
    return dataset, tuple(by_name[name] for name in run.classes) if by_name else run.category_ids


@contextmanager
def _rows(dataset: Dataset, row: Callable[[Sample], Entry], out: Path, key: str) -> Iterator[Records | None]:
    """The rows of all images, in the first process; a call that was killed before the end leaves them in a folder, where one of
    this key starts.
    """
    state, folder = PartialState(), out.with_name(f".{out.name}.parts")
    note = folder / "key"
    if state.is_main_process:
        if folder.exists() and (not note.exists() or note.read_text() != key):
            shutil.rmtree(folder)
        write_text(note, key)
    state.wait_for_everyone()
    names = map(dataset.state if isinstance(dataset, ImageFolder) else str, range(len(dataset)))
    paths = [folder / f"{name}.json" for name in names]
    indices = [index for index, path in enumerate(paths) if not path.exists()]
    _each(dataset, indices, lambda index, sample: write_json(paths[index], row(sample)), state)
    yield [read_json(path) for path in paths] if state.is_main_process else None
    if state.is_main_process:
        shutil.rmtree(folder)


def _each(dataset: Dataset, indices: Iterable[int], make: Callable[[int, Sample], None], state: PartialState) -> None:
    """Make something of each image in this process's share, with a progress bar in the first one, and wait for the others.

    Raises DataError at the end if images could not be read; what was made of the others stays.
    """
    errors = []
    for index in progress([i for i in indices if i % state.num_processes == state.process_index], "images"):
        try:
            sample = dataset[index]
        except DataError as error:
            errors.append(str(error))
        else:
            make(index, sample)
    if errors:
        more = [f"{len(errors) - 8} more like these"] if len(errors) > 8 else []
        raise DataError("; ".join([*errors[:8], *more, "all others are kept for when this command is repeated"]))
    state.wait_for_everyone()
