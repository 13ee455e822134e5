"""python -m benchmarks.memory [--quick] [--out FILE]: peak memory of `weak`, `label`, `predict` and `evaluate` against the
pixels and the objects of one photograph.

Each call is a process of its own, whose resident memory has what torch and the package take; the first row shows that.
Networks are tiny ones with random weights, and what they find does not matter. Exit 1 beyond LIMIT.
"""

import argparse
import math
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from benchmarks.measure import Report
from wsis.core.config import changed
from wsis.core.files import Entry, write_json
from wsis.core.table import table
from wsis.data.coco import CocoFolder
from wsis.data.semantic import WithBackground
from wsis.data.wrappers import Mapped
from wsis.evaluation import files
from wsis.methods import method
from wsis.training.apply import Run, class_maps, label, predict
from wsis.weak import simulate_file
from wsis.weak.simulate import with_extreme_points, with_points

LIMIT = 2000  # MB
SIZES = [(4000, 3000, 100), (4000, 3000, 1000), (8000, 6000, 100), (8000, 6000, 1000)]  # width, height, objects
QUICK = [(2000, 1500, 100)]
CLASSES = ("cup", "plate")
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bestie": ("bestie", {"supervision": "points"}),
    "attentionshift": ("attentionshift", {}),
    "exits solov2": ("exits", {"final.segmenter": "solov2"}),
    "exits mask2former": ("exits", {"final.segmenter": "mask2former"}),
    "exits maskrcnn": ("exits", {"final.segmenter": "maskrcnn"}),
    "simformer": ("simformer", {"split": "names:plate"}),
}


def untrained(name: str, classes: tuple[str, ...] = CLASSES, **settings: Any) -> Run:
    """A run of `SETTINGS` whose tiny networks have random weights."""
    package, changes = SETTINGS[name]
    m = method(package)
    cfg = changed(m.TINY, **changes, **settings).for_classes(classes).for_dry_run()
    torch.manual_seed(0)
    ids = tuple(range(1, len(classes) + 1))
    where = {"folder": Path(name), "data": "", "seed": 0}
    return Run(method=m, cfg=cfg, classes=classes, category_ids=ids, model=m.build(cfg).eval(), **where)


def write_data(folder: Path, width: int, height: int, objects: int) -> None:
    """Write discs on a grid as one photograph in both splits, with polygons."""
    columns = math.ceil(math.sqrt(objects * width / height))
    rows = math.ceil(objects / columns)
    radius = 0.4 * min(width / columns, height / rows)
    image = Image.new("RGB", (width, height), (110, 120, 110))
    draw, annotations = ImageDraw.Draw(image), []
    for k in range(objects):
        x, y = (k % columns + 0.5) * width / columns, (k // columns + 0.5) * height / rows
        box, angles = [x - radius, y - radius, x + radius, y + radius], (t * math.pi / 12 for t in range(24))
        draw.ellipse(box, fill=(200, 60, 50))
        outline = [v for a in angles for v in (x + radius * math.cos(a), y + radius * math.sin(a))]
        references = {"id": k + 1, "image_id": 1, "category_id": 1 + k % 2, "iscrowd": 0}
        annotations.append(references | {"bbox": [*box[:2], 2 * radius, 2 * radius], "segmentation": [outline]})
    record = {"id": 1, "file_name": "photograph.jpg", "width": width, "height": height}
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
    content = {"images": [record], "annotations": annotations, "categories": categories}
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        image.save(folder / "images" / split / "photograph.jpg", quality=85)
        write_json(folder / "annotations" / f"instances_{split}.json", content)


def measure(call: Callable[[], object]) -> dict[str, float]:
    """Seconds and largest resident memory in MB of a call in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(_measured, call).result()


def _measured(call: Callable[[], object]) -> dict[str, float]:
    start = time.perf_counter()
    call()
    unit = 2**20 if sys.platform == "darwin" else 2**10
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return {"MB": round(memory), "seconds": round(time.perf_counter() - start, 1)}


def nothing() -> None:
    """What the imports take."""


def applied(name: str, verb: str, data: Path, out: Path) -> None:
    """`label` or `predict` of a run."""
    folder, place = CocoFolder(data, "val"), out / f"{name}.{verb}"
    if name == "simformer":
        whole = WithBackground(folder)
        class_maps(untrained(name, whole.classes), whole, place, "", tags=verb == "label")
    elif verb == "predict":
        predict(untrained(name), data / "images" / "val", place)
    else:
        label(untrained(name), Mapped(folder, lambda s: with_extreme_points(with_points(s))), place)


def calls(data: Path, out: Path) -> dict[str, Callable[[], object]]:
    """What the commands do with a data set, by their names."""
    truth = data / "annotations" / "instances_val.json"
    found: dict[str, Callable[[], object]] = {
        "weak": partial(simulate_file, truth, out / "weak.json", points="mask_random", extreme=True),
        "evaluate": partial(files.measure, "coco", truth, truth),
    }
    verbs = [(verb, name) for name in SETTINGS for verb in ("label", "predict")]
    return found | {f"{verb} {name}": partial(applied, name, verb, data, out) for verb, name in verbs}


def rows(folder: Path, sizes: list[tuple[int, int, int]]) -> list[Entry]:
    """Measure each call on each photograph."""
    measured = [{"call": "imports", "Mpx": 0, "objects": 0, **measure(nothing)}]
    for width, height, objects in sizes:
        data = folder / f"{width}x{height}x{objects}"
        write_data(data, width, height, objects)
        for name, call in calls(data, data / "out").items():
            measured.append({"call": name, "Mpx": width * height / 1e6, "objects": objects, **measure(call)})
            print(*measured[-1].values(), flush=True)
    return measured


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one photograph of 3 Mpx")
    parser.add_argument("--out", help="JSON file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = rows(Path(folder), QUICK if options.quick else SIZES)
    print(table(measured))
    if options.out:
        report = Report.on(torch.device("cpu")).to_dict()
        write_json(options.out, report | {"limit": LIMIT, "rows": measured}, indent=1)
    return int(max(row["MB"] for row in measured) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
