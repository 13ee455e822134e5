"""python -m benchmarks.memory [--quick] [--out FILE]: peak memory of `weak`, `label`, `predict` and `evaluate` against the
pixels and the objects of one photograph.

Every command is a process of its own, whose resident memory counts from torch's import on (`doctor` shows what that takes).
The runs are trained for a few steps on drawn scenes: what a network finds does not matter here. Exit 1 beyond LIMIT.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageDraw

from wsis.core.files import Entry, write_json
from wsis.core.table import table

LIMIT = 2000  # MB
SIZES = [(4000, 3000, 100), (4000, 3000, 1000), (8000, 6000, 100), (8000, 6000, 1000)]  # width, height, objects
QUICK = [(2000, 1500, 100)]
CLASSES = ("cup", "plate")
EXITS = "warmup.steps=1 network.steps=1 walk.crops=5 size.min_area=4 final.schedule.steps=2"
SETTINGS = {
    "bestie": "supervision=points semantic.source=truth classifier.steps=1 network.steps=2",
    "exits solov2": EXITS,
    "exits mask2former": f"{EXITS} final.segmenter=mask2former",
    "exits maskrcnn": f"{EXITS} final.segmenter=maskrcnn",
    "attentionshift": "network.steps=1",
    "simformer": "split=names:plate network.steps=1 final.steps=1",
}


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


def run(*words: str | Path) -> dict[str, float]:
    """Run a command of the command line: its seconds and its largest resident memory in MB."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "wsis", *map(str, words)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"python -m wsis {' '.join(map(str, words))} failed")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return {"MB": round(usage.ru_maxrss / unit), "seconds": round(time.perf_counter() - start, 1)}


def rows(folder: Path, sizes: list[tuple[int, int, int]]) -> list[Entry]:
    """Train the runs, and measure each command on each photograph."""
    write_data(folder / "small", 160, 120, 6)
    for name, settings in SETTINGS.items():
        options = [word for setting in settings.split() for word in ("--set", setting)]
        words = ("--data", folder / "small", "--scale", "tiny", "--device", "cpu", "--out", folder / name)
        run("train", name.split()[0], *words, *options)
    measured = []
    for width, height, objects in sizes:
        data, out = folder / f"{width}x{height}x{objects}", folder / f"{width}x{height}x{objects}.out"
        write_data(data, width, height, objects)
        truth = data / "annotations" / "instances_val.json"
        commands = {"weak": ("weak", truth, "--points", "mask_random", "--extreme", "--out", out / "weak.json")}
        commands["evaluate"] = ("evaluate", truth, truth, "--metric", "coco")
        for name in SETTINGS:
            commands[f"label {name}"] = ("label", folder / name, "--data", data, "--out", out / f"label {name}")
            images = ("--images", data / "images" / "val", "--out", out / f"predict {name}")
            commands[f"predict {name}"] = ("predict", folder / name, *images)
        for name, words in commands.items():
            row = {"command": name, "Mpx": width * height / 1e6, "objects": objects, **run(*words)}
            print(row, flush=True)
            measured.append(row)
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
        write_json(options.out, {"limit": LIMIT, "rows": measured}, indent=1)
    return int(max(row["MB"] for row in measured) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
