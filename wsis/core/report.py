"""What a command tells its user, once, however many processes run it."""

import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def is_first_process() -> bool:
    """Whether this process is the only one, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def report(*words: object) -> None:
    if is_first_process():
        print(*words, flush=True)


report_once = cache(report)  # what many images would repeat


def progress(items: Iterable[T], words: str, total: int | None = None) -> Iterable[T]:
    """Show a bar with the time left while `items` are gone through, in a terminal, unless it takes no longer than a moment."""
    return tqdm(items, words, total, disable=None if is_first_process() else True, leave=False, delay=2)


def one_line(figures: Mapping[str, object]) -> str:
    """Figures as one line, without the key of the stage."""
    plain = {k: v for k, v in figures.items() if k != "key"}
    return ", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {json.dumps(v)}" for k, v in plain.items())
