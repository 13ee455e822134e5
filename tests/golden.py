"""Short runs of every method under every supervision, and digests of all that they leave on disk.

    python -m tests.golden            compare with tests/golden.json
    python -m tests.golden --write    store today's digests

A change of the code that is not meant to change a number leaves every digest as it is. The digests depend on the
processor and on the version of torch, both of which the file names; on another machine write them before a change and
compare after it. Weights count without their names, so that a renamed module is no change.
"""

import argparse
import contextlib
import hashlib
import io
import json
import platform
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from wsis.__main__ import main

STORED = Path(__file__).with_suffix(".json")
MEANS_NOTHING = ("key", "minutes", "version")
"""Entries of JSON files that change with names, time and release."""

BESTIE = {
    "semantic.scales": [1.0],
    "classifier.steps": 6,
    "classifier.batch_size": 4,
    "network.steps": 6,
    "network.batch_size": 4,
    "network.warmup": 2,
    "semantic_network.steps": 4,
    "semantic_network.batch_size": 4,
    "loss.center_weight": 200.0,
    "loss.offset_weight": 0.01,
}
EXITS = {
    "warmup.steps": 4,
    "network.steps": 6,
    "final.schedule.steps": 6,
    "warmup.batch_size": 4,
    "network.batch_size": 4,
    "final.schedule.batch_size": 4,
    "walk.crops": 24,
    "network.warmup": 2,
    "final.schedule.warmup": 2,
}
SHIFT = {"network.steps": 5, "network.batch_size": 2, "statistics.times": 2, "statistics.images": 4}
SIMFORMER = {
    "network.steps": 6,
    "network.batch_size": 4,
    "final.steps": 0,
    "network.warmup": 2,
    "split": "random:0.25:48",
}
RUNS = {
    "bestie_tags": ("bestie", BESTIE | {"semantic.retrain": True, "final.steps": 3, "final.batch_size": 2}),
    "bestie_points": ("bestie", BESTIE | {"supervision": "points", "flip": True}),
    "bestie_agnostic": (
        "bestie",
        BESTIE | {"center_mode": "class_agnostic", "backbone": "resnet_tiny", "loss.iag": False, "pam.layers": [4, 6]},
    ),
    "exits_solov2": ("exits", EXITS),
    "exits_boxes_mask2former": (
        "exits",
        EXITS | {"supervision": "boxes", "loss.mil": 4.0, "final.segmenter": "mask2former", "final.schedule.steps": 3},
    ),
    "exits_limit_maskrcnn": (
        "exits",
        EXITS | {"walk.limit": True, "extractor.layer": 0, "final.segmenter": "maskrcnn", "final.schedule.steps": 3},
    ),
    "attentionshift_points": ("attentionshift", SHIFT),
    "attentionshift_masks": ("attentionshift", SHIFT | {"mask.supervision": "mask", "parts.shift": "kmeans"}),
    "simformer_cross": ("simformer", SIMFORMER | {"final.steps": 4, "final.batch_size": 4}),
    "simformer_self": ("simformer", SIMFORMER | {"pairs.mode": "self"}),
}


def digests(runs: list[str]) -> dict[str, str]:
    """SHA-256, in 12 digits, of every file that the data sets and the named runs leave."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(temporary):
        call("world", "--out", "scenes", "--train", 12, "--val", 4)
        call("world", "--out", "maps", "--train", 12, "--val", 4, "--class-maps")
        weak = ("--points", "mask_random", "--extreme", "--tags", "--seed", 3)
        call("weak", "scenes/annotations/instances_train.json", *weak, "--out", "weak/train.json")
        call("weak", "scenes/annotations/instances_val.json", *weak, "--out", "weak/val.json")
        found = contents("data", Path())
        for name in runs:
            found |= run(name, *RUNS[name])
    return found


def run(name: str, method: str, settings: dict[str, object]) -> dict[str, str]:
    """Train, label, predict and evaluate; digests by file, with what the evaluation prints."""
    folder, masks = Path("runs", name), method != "simformer"
    data, out = ("scenes", "json") if masks else ("maps", "maps")
    options = [f"--set={k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in settings.items()]
    weak = ("train.json", "val.json") if masks else None
    given = [("--weak", f"weak/{w}") for w in weak] if weak else [(), ()]
    call("train", method, "--data", data, "--scale", "tiny", "--device", "cpu", "--out", folder, *given[0], *options)
    pseudo, predicted = folder / f"pseudo.{out}", folder / f"predicted.{out}"
    call("label", folder, "--data", data, "--split", "val", "--device", "cpu", *given[1], "--out", pseudo)
    call("predict", folder, "--images", f"{data}/images/val", "--device", "cpu", "--out", predicted)
    if masks:
        truth, metrics = f"{data}/annotations/instances_val.json", ("voc", "coco")
    else:
        truth, metrics = f"{data}/semantic/val", ("semantic",)
    said = "".join(call("evaluate", predicted, truth, "--metric", metric) for metric in metrics)
    return contents(name, folder) | {f"{name}/evaluate": short(said.encode())}


def call(*words: object) -> str:
    """What a verb prints; it has to succeed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = main([str(word) for word in words])
    if status:
        raise RuntimeError(f"wsis {' '.join(map(str, words))} ended with {status}")
    return printed.getvalue()


def contents(name: str, folder: Path) -> dict[str, str]:
    """Digests of the files below a folder, one for all pictures of a subfolder; settings and keys are left out."""
    found: dict[str, str] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in ("run.json", "run.key")):
        inside = path.relative_to(folder)
        entry = f"{name}/{inside.parent / '*.png' if path.suffix == '.png' else inside}"
        found[entry] = short((found.get(entry, "") + digest(path)).encode())
    return found


def digest(path: Path) -> str:
    """Of what a file means: numbers of tensors in any order and name, JSON without times, logs without seconds."""
    if path.suffix == ".safetensors":
        tensors = load_file(path).values()
        return short(b"".join(sorted(hashlib.sha256(t.numpy().tobytes()).digest() for t in tensors)))
    if path.suffix == ".json":
        return short(json.dumps(plain(json.loads(path.read_text())), sort_keys=True).encode())
    if path.suffix == ".csv":
        rows = [line.split(",") for line in path.read_text().splitlines()]
        return short(json.dumps([row[:1] + row[2:] for row in rows]).encode())
    return short(path.read_bytes())


def plain(value: object) -> object:
    """JSON without the entries that mean nothing."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in MEANS_NOTHING}
    if isinstance(value, float):
        return float(f"{value:.6g}")  # the last bit of a mean depends on where in memory its numbers lie
    return [plain(v) for v in value] if isinstance(value, list) else value


def short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def machine() -> str:
    """What the digests depend on beside the code."""
    return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def differences(found: dict[str, str], stored: dict[str, str]) -> list[str]:
    """Files whose digests differ, or that only one side has."""
    return sorted(k for k in found.keys() | stored.keys() if found.get(k) != stored.get(k))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="store today's digests")
    parser.add_argument("runs", nargs="*", default=list(RUNS), help="only these")
    options = parser.parse_args()
    found = digests(options.runs)
    if options.write:
        STORED.write_text(json.dumps({"machine": machine(), "digests": found}, indent=1, sort_keys=True) + "\n")
        sys.exit()
    stored = json.loads(STORED.read_text())["digests"]
    chosen = {k: v for k, v in stored.items() if k.split("/")[0] in ("data", *options.runs)}
    changed = differences(found, chosen)
    print("\n".join(f"changed: {name}" for name in changed) or f"all {len(found)} digests are as stored")
    sys.exit(bool(changed))
