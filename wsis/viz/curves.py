"""Training curves from the CSV that a run writes."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from wsis.core.errors import DataError
from wsis.viz.style import headline, styled

Log = dict[str, np.ndarray]


def read_log(path: str | Path) -> Log:
    """The columns of a run's log: step, seconds, lr and the loss terms, float64 [steps] each.

    Raises DataError for a missing or empty file, or a value that is no number (with its line).
    """
    try:
        with Path(path).open(newline="") as file:
            lines = list(csv.reader(file))
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror}); is this the folder of a run?") from e
    if len(lines) < 2 or "step" not in lines[0]:
        raise DataError(f"{path}: holds no steps yet; it starts with a header that names the column step")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            rows.append([float(v) for v in line])
            assert len(line) == len(lines[0])
        except (ValueError, AssertionError):
            raise DataError(f"{path}: line {number} is damaged: {','.join(line)[:60]!r}; remove it") from None
    return dict(zip(lines[0], np.array(rows).T, strict=True))


def training_curves(logs: Mapping[str, Log], terms: Sequence[str], *, title: str = "", window: int = 20) -> Figure:
    """Loss terms over the steps, one plot per term, one line per run.

    logs: {name of the run: what `read_log` returned}. window: rows of the running mean drawn over the pale raw values.
    """
    with styled():
        size = (2.9 * len(terms) + 0.4, 2.7)
        figure, axes = plt.subplots(1, len(terms), figsize=size, squeeze=False, layout="constrained")
        for ax, term in zip(axes[0], terms, strict=True):
            for run, log in ((run, log) for run, log in logs.items() if term in log):
                line = ax.plot(log["step"], _running_mean(log[term], window), label=run, linewidth=1.8)[0]
                ax.plot(log["step"], log[term], color=line.get_color(), alpha=0.2, linewidth=0.8, zorder=0)
            ax.set(title=term, xlabel="step", ylabel="loss")
        if len(logs) > 1:
            axes[0, -1].legend()
        return headline(figure, title)


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    total = np.cumsum(values)
    before = np.concatenate([np.zeros(min(window, len(values))), total[:-window]])
    return (total - before) / np.minimum(np.arange(1, len(values) + 1), window)
