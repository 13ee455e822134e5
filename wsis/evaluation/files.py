"""Evaluation of what is on disk. All is checked first, and each error names the file, the record and the remedy."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
from torch.nn.functional import pad

from wsis.core.errors import ConfigError, DataError
from wsis.core.files import Entry, read_json
from wsis.core.masks import RunLengths, run_length
from wsis.core.report import progress, report
from wsis.core.types import BACKGROUND, IGNORE, NO_ID, Instances, Report
from wsis.data.checks import by_image, file_name, plain_entry, read_coco, shape_problem
from wsis.data.images import composed, find_files, list_files
from wsis.data.label_maps import read_label_map
from wsis.data.semantic import read_categories
from wsis.data.splits import find_split
from wsis.data.write import Records
from wsis.evaluation.instances import coco_eval, iou_by_size, recall, separated, voc_ap
from wsis.evaluation.semantic import MeanIoU, grouped_iou

Metric = Literal["coco", "voc", "pseudo", "separated", "semantic"]


def _pair(predicted: Path, truth: Path, drop_invalid: bool, partly: bool) -> tuple[Records, Entry]:
    """The records of the prediction, checked against the ground truth, and the ground truth; partly: without its objects that
    have no mask, of which there are then some in a JSON of clicks, nor what was predicted for these.
    """
    true, dropped = read_coco(truth, drop_invalid)
    for message in dropped:
        report(f"left out: {message}")
    images, categories = {i["id"]: i for i in true["images"]}, {c["id"] for c in true["categories"]}
    records = _predicted(predicted, true)
    drawn = {a["id"] for a in true["annotations"] if "segmentation" in a}
    bare = {a["id"] for a in read_json(truth)["annotations"]} - drawn if partly else set()
    if bare:
        report(f"left out: {len(bare)} objects of {truth} without a mask")
        true["annotations"] = [a for a in true["annotations"] if a["id"] not in bare]
        if not true["annotations"]:
            raise DataError(f"{truth}: no object has a mask to compare with; outline some")
        records = [row for row in records if not isinstance(row, dict) or row.get("id") not in bare]
    for name, rows in ((predicted, records), (truth, true["annotations"])):
        for i, row in enumerate(rows):
            if problem := _problem(row, images, categories):
                raise DataError(f"{name}: record {i}: {problem}")
    return records, true


def _predicted(path: Path, true: Entry) -> Records:
    """The records of a prediction, with the ids that the truth has for the files and classes that it names: a folder of images,
    or another tool, may number them in another way.
    """
    content, files, classes, named = read_json(path), {}, {}, _by_name(true)
    records = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(records, list):
        raise DataError(f"{path}: neither a list of COCO results nor a COCO data set with annotations")
    if isinstance(content, dict):
        files, classes = _names(content, "images", file_name), _names(content, "categories", lambda c: c.get("name"))
    ids = {category["name"]: category["id"] for category in true["categories"]}

    def numbered(row: Entry, where: str) -> Entry:
        name = row.get("file_name") or files.get(str(row.get("image_id")), "")
        kind, key = classes.get(str(row.get("category_id"))), _key(name)
        image = named.get(key) or named.get(Path(key).name)
        if key and named and image is None:
            raise DataError(f"{where}: {name} is not in the truth, or not once; give the file its name there")
        if kind is not None and kind not in ids:
            raise DataError(f"{where}: the class {kind!r} is not in the truth, which has {', '.join(ids)}; rename it")
        known = {} if image is None else {"image_id": image["id"]}
        return row | known | ({} if kind is None else {"category_id": ids[kind]})

    where = f"{path}: record"
    return [numbered(plain_entry(r), f"{where} {i}") if isinstance(r, dict) else r for i, r in enumerate(records)]


def _names(content: Entry, section: str, name_of: Callable[[Entry], object]) -> dict[str, str]:
    """The names of the entries of a COCO data set that is not checked, by the text of their ids."""
    entries = content.get(section)
    entries = [plain_entry(e) for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    return {str(e.get("id")): name for e in entries if isinstance(name := name_of(e), str)}


def _key(name: object) -> str:
    """A file name as it is compared: on all systems the same, however its accents are encoded."""
    return composed(str(name).replace("\\", "/"))


def _by_name(true: Entry) -> dict[str, Entry]:
    """The images of the truth by the names of their files, with folders and without, where no two share it."""
    named = {}
    for name_of in (lambda path: path.name, Path.as_posix):
        names = [name_of(Path(_key(file_name(image)))) for image in true["images"]]
        count = Counter(names)
        named |= {name: image for name, image in zip(names, true["images"], strict=True) if count[name] == 1}
    return named


def _problem(record: object, images: dict[int, Entry], categories: set[int]) -> str | None:
    if not isinstance(record, dict):
        return f"{str(record)[:40]} is no COCO result; give image_id, category_id, segmentation, score"
    image, category, score = record.get("image_id"), record.get("category_id"), record.get("score", 1)
    if type(image) is not int or image not in images:
        return f"image_id {image} is not in the truth; evaluate on the split that was predicted"
    if type(category) is not int or category not in categories:
        return f"category_id {category} is not in the truth, which has {str(sorted(categories))[:60]}"
    if not isinstance(score, (int, float)) or not math.isfinite(score):
        return f"score {score!r} is not a finite number"
    if type(i := record.get("id", 0)) is not int or abs(i) >= 2**63:
        return f"id {i!r} is no integer of 64 bits; number the masks, or leave the ids out"
    if "segmentation" not in record:
        return "there is no segmentation; boxes alone cannot be evaluated as masks"
    return shape_problem({"segmentation": record["segmentation"]}, images[image]["height"], images[image]["width"])


def _coco_ap(records: Records, true: Entry) -> dict[str, float]:
    sizes = {image["id"]: (image["height"], image["width"]) for image in true["images"]}

    def encoded(rows: Records, *keys: str) -> Records:
        names = ("image_id", "category_id", "score", "iscrowd", *keys)
        return [
            {"score": 1, "iscrowd": 0}
            | {name: row[name] for name in names if name in row}
            | {"segmentation": run_length(row["segmentation"], *sizes[row["image_id"]])}
            for row in rows
        ]

    # The area of the ground truth decides what is small; that of a prediction is measured.
    categories = [c["id"] for c in true["categories"]]
    return coco_eval(list(sizes), categories, encoded(records), encoded(true["annotations"], "area"))


def _decode(records: Records, true: Entry) -> Iterator[Instances]:
    """One `Instances` per image of the ground truth; only one image is in memory at a time."""
    label = {category["id"]: i for i, category in enumerate(true["categories"])}
    rows_of = by_image(records)
    for image in progress(true["images"], "images"):
        rows = rows_of[image["id"]]
        yield Instances.make(
            RunLengths.read([r["segmentation"] for r in rows], (image["height"], image["width"])),
            torch.tensor([label[r["category_id"]] for r in rows]),
            scores=torch.tensor([r.get("score", 1.0) for r in rows]),
            ids=torch.tensor([r.get("id", NO_ID) for r in rows]),
            crowd=torch.tensor([r.get("iscrowd", 0) for r in rows]),
        )


def _listed(path: Path, true: Entry) -> Records:
    rows, records, images = read_json(path), [], _by_name(true)
    categories = {c["name"]: c["id"] for c in true["categories"]}
    for k, row in enumerate(rows if isinstance(rows, list) else [None]):
        if not isinstance(row, list) or len(row) < 3:
            raise DataError(f"{path}: row {k} is not [file name, class name, ..., run length]; convert the list again")
        name = _key(row[0])
        if name not in images or row[1] not in categories:
            what = f"{row[0]!r} or {row[1]!r}"
            raise DataError(f"{path}: row {k}: {what} is not in the truth, or not once; give the truth it was made for")
        image = images[name]
        record = {"segmentation": row[-1], "image_id": image["id"], "category_id": categories[row[1]]}
        if problem := shape_problem(record, image["height"], image["width"]):
            raise DataError(f"{path}: row {k}: {problem}")
        records.append(record)
    return records


def semantic(predicted: Path, truth: Path, split: str | None = None) -> Report:
    """`MeanIoU` over two folders of label PNGs with the same names; with a `split`, see `find_split`, `grouped_iou`.

    The maps have any classes from 1 to 254, since what occurs in neither folder does not count; 0 is background, or with a
    split unlabeled unless the categories name it; 255 does not count. The names of the classes are those of the truth's
    categories.json, or, since a COCO folder has none, of the predictions'. Reports predicted classes that the truth never has.
    """
    folders, names = (predicted, truth), {n for n in list_files(truth) if n.lower().endswith(".png")}
    if not names:
        raise DataError(f"{truth}: no label PNGs in this folder; give the folder of the true label maps")
    files = find_files(names, predicted)
    others = {n for n in list_files(predicted) if n.lower().endswith(".png")} - set(files.values())
    for folder, missing in ((predicted, names - set(files)), (truth, others)):
        if missing:
            first = min(missing)
            raise DataError(f"{folder}: {len(missing)} label maps of the other folder are missing, first {first}")
    metric, values = MeanIoU(IGNORE), torch.zeros(2, IGNORE + 1, dtype=torch.long)
    for name in progress(sorted(names), "images"):
        paths = predicted / files[name], truth / name
        maps = list(map(read_label_map, paths))
        values += torch.stack([m.flatten().bincount(minlength=IGNORE + 1) for m in maps])
        try:
            metric.update(*maps)
        except DataError as error:
            raise DataError(f"{paths[0]} or {paths[1]}: {error}") from error
    for folder, counts in zip(folders, values, strict=True):
        if counts.nonzero()[:, 0].tolist() == [BACKGROUND, IGNORE]:
            raise DataError(f"{folder}: the label maps hold 0 and 255 alone, and 255 is no class; write it as 1")
    alien = ((values[0] > 0) & (values[1] == 0)).nonzero()[:, 0].tolist()
    if alien := [v for v in alien if v not in (BACKGROUND, IGNORE)]:
        report(f"{predicted} has the classes {alien}, which {truth} never has; each counts as an IoU of 0")
    if split is None:
        return metric.result()
    own = truth.parent / "categories.json"
    classes, ids = read_categories(own if own.exists() else predicted / "categories.json")
    novel = [ids[label] - 1 for label in find_split(split, classes)]
    if BACKGROUND in ids:  # 0 becomes label 0, and every label one more
        metric.confusion = pad(metric.confusion, (1, 0, 1, 0))
        novel = [label + 1 for label in novel]
    return grouped_iou(metric, novel)


def measure(
    metric: Metric,
    predicted: Path,
    truth: Path,
    *,
    objects: Path | None = None,
    split: str | None = None,
    drop_invalid: bool = False,
) -> Report:
    """Compare masks, a COCO results list or data set (score 1 where it has none), or folders of label PNGs with the truth.

    coco, voc: average precision; labels are in the order of the categories. pseudo: `iou_by_size` by annotation id, of objects
    with a true mask. separated: `recall` of objects in pieces, and their number. semantic: see `semantic`, also for `split`. A
    result with a `file_name` is of the image of that name. drop_invalid: leave out unusable shapes of the truth.

    objects: a JSON list of rows [file name of the image, class name, ..., run length] of the objects to find, as the lists
    of Separated-COCO and Occluded-COCO have them (published as pickles, which can run code and are not read here: convert
    them once, where you trust them). By default the objects of the truth whose mask lies in two or more large pieces.

    Raises DataError for an unreadable file, an unknown image, category or class, a mask of another size than its image, pseudo
    masks without ids or of no true object, and label maps that differ in names or sizes; ConfigError for an option of another
    metric.
    """
    for option, value, owner in (("split", split, "semantic"), ("objects", objects, "separated")):
        if value is not None and metric != owner:
            raise ConfigError(f"--{option} belongs to --metric {owner}; with {metric} leave it out")
    if metric == "semantic":
        return semantic(predicted, truth, split)
    records, true = _pair(predicted, truth, drop_invalid, partly=drop_invalid or metric == "pseudo")
    if metric == "coco":
        return _coco_ap(records, true)
    found, real = _decode(records, true), _decode(true["annotations"], true)
    if metric == "voc":
        return voc_ap(found, real, len(true["categories"]))
    if metric == "separated":
        listed = objects and _decode(_listed(objects, true), true)
        targets = list(listed or (t[separated(t)] for t in real))
        return {"separated_recall": recall(found, targets), "objects": float(sum(map(len, targets)))}
    if not all("id" in record for record in records):
        raise DataError(f"{predicted}: masks without ids; give what python -m wsis label wrote, or use --metric coco")
    image_of = {annotation["id"]: annotation["image_id"] for annotation in true["annotations"]}
    if others := [r["id"] for r in records if image_of.get(r["id"]) != r["image_id"]]:
        words = f"{predicted}: mask {others[0]} was made for no object of the truth"
        raise DataError(f"{words}, as those from tags; give the truth it was made for, or use --metric voc or coco")
    return iou_by_size(found, real)
