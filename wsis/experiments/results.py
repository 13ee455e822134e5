"""From the reports of runs to the content of a results file: rows, verdicts on claims, provenance."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, TypedDict, cast

from wsis.core.config import Scale, fingerprint, option
from wsis.core.files import read_json
from wsis.core.table import table as text_table
from wsis.experiments.environment import weights
from wsis.experiments.table import Reports, Row, Settings, Table
from wsis.experiments.verdicts import MAX_SEEDS, Judged, Part, half_width
from wsis.weak.sources import Data

Curves = dict[str, list[Any]]  # rows that were listed during training, by seed


class Facts(TypedDict):
    """What is stored of a finished run of a row."""

    reports: Reports
    commit: str
    hardware: str
    versions: dict[str, str]
    date: str


@dataclass
class RowRun:
    """One row of a table with one seed."""

    row: Row
    seed: int
    cfg: Any
    data: Data
    path: Path  # of the facts
    facts: Facts | None  # None until it has finished


class Spread(TypedDict):
    """The values of the seeds, their mean, and their sample standard deviation (0 for one value)."""

    mean: float
    std: float
    values: list[float]


class RowResult(TypedDict):
    """A row in a results file: `ours` by metric over `n` seeds; for the rest see `other_figures`."""

    name: str
    changes: Settings
    published: dict[str, float]
    ours: dict[str, Spread]
    n: int
    also: dict[str, float]
    curves: dict[str, Curves]


class Results(TypedDict):
    """The content of a results file; `upper` names the row with true labels, `trivial` has what needs no method, by metric."""

    table: str
    title: str
    scale: Scale
    data: str
    metrics: list[str]
    rows: list[RowResult]
    upper: str
    trivial: dict[str, float]
    claims: list[Judged]
    provenance: dict[str, Any]


def collect(table: Table, scale: Scale, settings: Settings, runs: Sequence[RowRun], flags: str = "") -> Results:
    """The results of a table that is being filled; settings: changes of every row that the command was given, as its flags."""
    runs = sorted(runs, key=lambda run: run.seed)
    finished = [(run, run.facts) for run in runs if run.facts]
    values: dict[str, dict[str, dict[int, float]]] = {m: {row.name: {} for row in table.rows} for m in table.metrics}
    for run, facts in finished:
        for metric, value in figures(facts, table).items():
            values[metric][run.row.name][run.seed] = value
    rows: list[RowResult] = []
    for row in table.rows:
        reports = {run.seed: facts["reports"] for run, facts in finished if run.row is row}
        cells = {metric: list(of_rows[row.name].values()) for metric, of_rows in values.items() if of_rows[row.name]}
        ours = {m: Spread(mean=mean(v), std=stdev(v) if len(v) > 1 else 0.0, values=v) for m, v in cells.items()}
        also, curves = other_figures(reports, table.metrics)
        entry = {"name": row.name, "changes": row.settings(scale), "published": row.published, "ours": ours}
        rows.append(cast(RowResult, {**entry, "n": len(reports), "also": also, "curves": curves}))
    return {
        "table": table.id,
        "title": table.title,
        "scale": scale,
        "data": runs[0].data.name,
        "metrics": list(table.metrics),
        "rows": rows,
        "upper": table.upper,
        "trivial": trivial(table, [facts for _, facts in finished]),
        "claims": table.judged(values, scale),
        "provenance": provenance(table, scale, settings, runs, flags) if finished else {},
    }


def provenance(table: Table, scale: Scale, settings: Settings, runs: Sequence[RowRun], flags: str) -> dict[str, Any]:
    """Where the numbers come from: the command, and what it ran on."""
    finished = [run.facts for run in runs if run.facts]
    seeds = sorted({run.seed for run in runs if run.facts})
    configs = {run.row.name: run.cfg for run in runs}
    minutes = {r["key"]: r["minutes"] for facts in finished for r in facts["reports"].values()}  # rows share stages
    # Of a file the name alone is stored: its folder may be private.
    plain = {k: Path(v).name if isinstance(v, str) and Path(v).is_file() else v for k, v in settings.items()}
    command = f"python -m wsis table {table.id} --scale {scale} --data {runs[0].data.name}"
    command += f" --seeds {len({run.seed for run in runs})}{flags}"
    return {
        "command": " ".join([command, *(shlex.quote(option(k, v)) for k, v in plain.items())]),
        "images": "; ".join(dict.fromkeys(run.data.description for run in runs if run.seed in seeds)),
        "split": "val",
        "seeds": seeds,
        "commit": ", ".join(dict.fromkeys(facts["commit"] for facts in finished)),
        "config_hash": fingerprint(*configs.values()),
        "weights": weights(configs.values()),
        "hardware": ", ".join(dict.fromkeys(facts["hardware"] for facts in finished)),
        "versions": finished[-1]["versions"],
        "minutes": round(sum(minutes.values()), 1),
        "date": max(facts["date"] for facts in finished),
    }


def figures(facts: Facts, table: Table) -> dict[str, float]:
    """The metrics as the table shows them, each of the last report that has it."""
    reported = {name: value for report in facts["reports"].values() for name, value in report.items()}
    return {metric: table.factor * reported[metric] for metric in table.metrics if metric in reported}


def trivial(table: Table, facts: Sequence[Facts]) -> dict[str, float]:
    """The trivial bounds that the stages report beside a metric, as `trivial_<metric>`: means over all runs."""
    reported = [(name, value) for f in facts for report in f["reports"].values() for name, value in report.items()]
    values = {metric: [value for name, value in reported if name == f"trivial_{metric}"] for metric in table.metrics}
    return {metric: table.factor * mean(v) for metric, v in values.items() if v}


def other_figures(reports: Mapping[int, Reports], metrics: Sequence[str]) -> tuple[dict[str, float], dict[str, Curves]]:
    """All other figures of the stages as `<stage>.<figure>`: means over seeds, and by seed what was listed in training."""
    numbers: dict[str, list[float]] = {}
    curves: dict[str, Curves] = {}
    for seed, stages in reports.items():
        for stage, name, value in ((stage, *item) for stage, report in stages.items() for item in report.items()):
            if isinstance(value, list):
                curves.setdefault(f"{stage}.{name}", {})[str(seed)] = value
            elif isinstance(value, (int, float)) and math.isfinite(value) and name not in ("minutes", *metrics):
                numbers.setdefault(f"{stage}.{name}", []).append(value)
    return {name: mean(values) for name, values in numbers.items()}, curves


def read_results(tables: Sequence[Table], folder: Path, name: str = "tiny.world") -> dict[str, Results]:
    """The results files in `folder`, of the tables that have one; name: scale and data."""
    paths = {table.id: folder / f"{table.id}.{name}.json" for table in tables}
    return {table: read_json(path) for table, path in paths.items() if path.exists()}


def comparisons(tables: Sequence[Table], results: Mapping[str, Results]) -> list[dict[str, Any]]:
    """The comparisons of all claims that were run, for `viz.room_and_noise`, each with the claim's id.

    unresolved: half of the interval that the most seeds would leave, in points.
    """
    entries = [entry for table in tables if table.id in results for entry in results[table.id]["claims"]]
    parts = [(entry["id"], part) for entry in entries for part in entry.get("parts", [entry])]
    return [
        {"claim": id, **part, "unresolved": half_width(noise, MAX_SEEDS)}
        for id, part in parts
        if (noise := part["noise"]) is not None
    ]


def as_text(results: Results) -> str:
    """Results for a terminal: rows, published and ours, and the verdicts."""
    rows = []
    for row in results["rows"]:
        cells: dict[str, object] = {"row": row["name"]}
        for m in results["metrics"]:
            ours = row["ours"].get(m)
            cells[f"{m} published"] = str(row["published"].get(m, ""))
            cells[f"{m} {results['scale']}"] = f"{ours['mean']:.1f} +- {ours['std']:.1f}" if ours else None
        rows.append({**cells, "seeds": row["n"]})
    if trivial := results["trivial"]:
        rows.append({"row": "trivial bound"} | {f"{m} {results['scale']}": f"{v:.1f}" for m, v in trivial.items()})
    keys = ("id", "text", "published")
    claims = [{k: c[k] for k in keys} | {"measured": difference(c), "verdict": in_words(c)} for c in results["claims"]]
    heading = f"{results['table']}: {results['title']} ({results['scale']}, {results['data']})"
    return f"{text_table(rows, heading)!r}\n\n{text_table(claims)!r}"


def difference(claim: Part) -> str:
    """The difference over seeds with its interval; of a claim of several comparisons how many of them hold."""
    if claim["mean"] is None:
        return f"{claim['seeds']} seed{'s' * (claim['seeds'] != 1)}"
    if parts := [part["verdict"] for part in claim.get("parts", [])]:
        against = parts.count("contradicted")
        return f"{parts.count('holds')} of {len(parts)} hold" + f", {against} contradicted" * bool(against)
    return f"{claim['mean']:+.1f} [{claim['low']:+.1f}, {claim['high']:+.1f}]"


def in_words(claim: Part) -> str:
    """The verdict, with the number of seeds that are missing where anyone would run so many."""
    if claim["verdict"] != "needs seeds":
        return claim["verdict"]
    if claim["needed"] is None or claim["needed"] > MAX_SEEDS:
        return f"needs over {MAX_SEEDS} seeds"
    missing = claim["needed"] - claim["seeds"]
    return f"needs {missing} more seed{'s' * (missing > 1)}"
