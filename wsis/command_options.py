"""The options of the command line's verbs."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from wsis.core.config import Scale


def verbs_parser(runs: Mapping[str, Callable[[argparse.Namespace], int | None]]) -> argparse.ArgumentParser:
    """The parser of the command line; runs: what each verb calls with its options."""
    parser = argparse.ArgumentParser(prog="python -m wsis", description="segmentation from cheap labels")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _data_verbs(verbs)
    _run_verbs(verbs)
    verb = _verb(verbs, "evaluate", "masks or label maps against the truth")
    verb.add_argument(
        "predicted", type=Path, metavar="PREDICTED", help="COCO results, COCO JSON, or a folder of label PNGs"
    )
    verb.add_argument(
        "truth", type=Path, metavar="TRUTH", help="COCO JSON, or a folder of label PNGs with the same names"
    )
    verb.add_argument("--metric", choices=("coco", "voc", "pseudo", "separated", "semantic"), required=True)
    verb.add_argument(
        "--objects", type=Path, help="with separated: a JSON list of the objects to find (default: those in pieces)"
    )
    verb.add_argument(
        "--split",
        help="with semantic: which classes are novel (S4, random:SHARE:SEED, names:A,B), of ../categories.json of the truth",
    )
    verb.add_argument("--out", type=Path, help="also write the figures as JSON")
    verb = _verb(verbs, "table", "run a published table, or all, with verdicts on its claims")
    verb.add_argument("id", metavar="ID", help="bestie.table1, ..., or all")
    _training_options(verb, scale="tiny")
    verb.add_argument("--seeds", type=_positive, default=3, help="number of seeds, from 0 on (default 3)")
    verb.add_argument("--out", type=Path, default=Path("book/results"), help="folder of the results files")
    verb.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder of the runs; what is there is not run again"
    )
    _verb(verbs, "doctor", "what is installed and found; exit status 1, with the remedy, when something is missing")
    for name, verb in verbs.choices.items():
        verb.set_defaults(run=runs[name])
    return parser


def _data_verbs(verbs: Any) -> None:
    verb = _verb(verbs, "world", "write the embedded world as a data set")
    verb.add_argument("--out", type=Path, required=True)
    verb.add_argument("--train", type=int, default=2000, help="number of scenes (default 2000)")
    verb.add_argument("--val", type=int, default=200, help="number of scenes (default 200)")
    verb.add_argument("--size", type=int, help="side of the pictures, pixels (default: as --data world at tiny scale)")
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--class-maps", action="store_true", help="a class for every pixel, for simformer")
    verb = _verb(verbs, "weak", "simulate an annotator: masks -> clicks, extreme points, tags in the same JSON")
    verb.add_argument("source", type=Path, metavar="SRC.json")
    verb.add_argument("--points", choices=("box_center", "mask_centroid", "mask_random"))
    verb.add_argument("--extreme", action="store_true", help="top, left, bottom and right click of each object")
    verb.add_argument("--tags", action="store_true", help="which classes are in each image")
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--drop-invalid", action="store_true", help="leave out annotations with unusable shapes")
    verb.add_argument("--out", type=Path, required=True)


def _run_verbs(verbs: Any) -> None:
    verb = _verb(verbs, "train", "run all stages of a method, or one")
    verb.add_argument("method", metavar="METHOD", help="bestie, exits, attentionshift or simformer")
    _training_options(verb, scale=None)
    verb.add_argument("--recipe", type=Path, help="YAML or JSON file: scale, data, seed, device and settings")
    verb.add_argument("--weak", type=Path, help="COCO JSON whose weak labels replace those of the training images")
    verb.add_argument("--out", type=Path, help="folder of the run")
    verb.add_argument("--seed", type=int)
    verb.add_argument("--stage", action="append", default=[], metavar="NAME", help="run only this stage (repeatable)")
    verb.add_argument("--resume", action="store_true", help="go on with the run in --out")
    verb.add_argument(
        "--dry-run", action="store_true", help="a few steps on random numbers of the true size: time, memory"
    )
    verb = _verb(verbs, "label", "clicks or tags -> masks in COCO JSON, or label PNGs")
    verb.add_argument("folder", type=Path, metavar="RUN")
    verb.add_argument("--data", type=Path, required=True, metavar="DIR", help="a folder in COCO format")
    verb.add_argument("--split", default="val")
    verb.add_argument("--weak", type=Path, help="COCO JSON with the weak labels")
    verb.add_argument("--drop-invalid", action="store_true", help="leave out annotations with unusable shapes")
    verb.add_argument("--device", default="auto", help="auto, cpu or cuda")
    verb.add_argument("--out", type=Path, required=True)
    verb = _verb(verbs, "predict", "pictures without labels -> scored masks in COCO results format, or label PNGs")
    verb.add_argument("folder", type=Path, metavar="RUN")
    verb.add_argument("--images", type=Path, required=True, metavar="DIR", help="a folder of pictures")
    verb.add_argument("--device", default="auto", help="auto, cpu or cuda")
    verb.add_argument("--out", type=Path, required=True)


def _verb(verbs: Any, name: str, words: str) -> argparse.ArgumentParser:
    return verbs.add_parser(name, help=words, description=words)


def _training_options(verb: argparse.ArgumentParser, scale: str | None) -> None:
    verb.add_argument("--scale", choices=get_args(Scale), default=scale)
    verb.add_argument(
        "--data",
        default=None if scale is None else "world",
        metavar="world|DIR",
        help="a folder in COCO format, for simformer with class maps",
    )
    verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting (repeatable)")
    verb.add_argument("--drop-invalid", action="store_true", help="leave out annotations with unusable shapes")
    verb.add_argument("--device", default=None if scale is None else "auto", help="auto, cpu or cuda")
    verb.add_argument("--workers", type=int, default=0, help="processes that load images")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)
