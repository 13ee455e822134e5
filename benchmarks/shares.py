"""python -m benchmarks.shares [METHOD ...]: what part of a full-size training step a method's own branch takes.

One step on random images of the true size (`wsis.training.dry_run`). AttentionShift: the chain from attention to labels,
which has no gradient. SimFormer: what a step with pairs of pixels takes more than one without.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import Any
from unittest.mock import patch

import torch

from wsis.core.config import changed
from wsis.methods import attentionshift, simformer
from wsis.methods.attentionshift import detector, objective
from wsis.training import dry_run
from wsis.training.stages import Method

CHAIN = {detector: ("find_candidates", "find_labels"), objective: ("point_targets",)}


def now() -> float:
    """Seconds that the device has worked; on a CPU those of this process, so that other load does not count."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def step(method: Method, cfg: Any) -> float:
    """Seconds of one training step."""
    with patch.object(dry_run, "now", lambda gpu: now()):
        return dry_run.measure(method, cfg, stages=("network",))[0].seconds


def attentionshift_share() -> tuple[float, float]:
    """Seconds of the chain, and of the step with it."""
    spent: list[float] = []

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*args: Any, **settings: Any) -> Any:
            began = now()
            result = function(*args, **settings)
            spent.append(now() - began)
            return result

        return run

    with ExitStack() as patches:
        for module, names in CHAIN.items():
            patches.enter_context(patch.multiple(module, **{name: timed(getattr(module, name)) for name in names}))
        seconds = step(attentionshift, attentionshift.FULL)
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    steps = dry_run.TIMED_STEPS[kind]
    counted = spent[-len(spent) * steps // (dry_run.WARMUP_STEPS[kind] + steps) :]
    return sum(counted) / steps, seconds


def simformer_share() -> tuple[float, float]:
    """Seconds that pairs of pixels add, and of the step with them."""
    full = step(simformer, simformer.FULL)
    return full - step(simformer, changed(simformer.FULL, **{"pairs.mode": "basic"})), full


SHARES = {"attentionshift": attentionshift_share, "simformer": simformer_share}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.shares", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("methods", nargs="*", default=list(SHARES), help=", ".join(SHARES))
    for method in parser.parse_args().methods:
        part, whole = SHARES[method]()
        print(f"{method}: {part:.2f} of {whole:.2f} s a step, {part / whole:.1%}", flush=True)


if __name__ == "__main__":
    main()
