"""Fill a published table: run its rows over seeds, resume where it was killed, write numbers with their provenance.

    RUNS/rows/<method>-<fingerprint>.json       the reports of one row and seed, shared by all tables that have the row
    RUNS/<method>-<fingerprint>/                its run folder     RUNS/cache/ stages that several rows share
    OUT/<table>.<scale>.<data>.json             written again after every row
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from wsis import runs
from wsis.config import Scale, changed, fingerprint
from wsis.errors import DataError
from wsis.experiments.data import Data, open_data
from wsis.experiments.provenance import commit, hardware, versions, weights
from wsis.experiments.tables import Row, Table
from wsis.experiments.verdicts import judge
from wsis.files import read_json, write_json
from wsis.train import make_accelerator

Reports = dict[str, dict[str, Any]]
NOT_FIGURES = ("key", "minutes")


def run_table(
    table: Table, scale: Scale, data: str = "world", seeds: Sequence[int] = (0, 1, 2), out: Path = Path("book/results"),
    folder: Path = Path("runs"), *, settings: Mapping[str, Any] | None = None, device: str = "auto", workers: int = 0,
    drop_invalid: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Run what is missing of a table and return its results, which are also in `out`.

    seeds: outermost, so that a sweep that stops early has all rows of the first seeds. settings: changes of every row,
    before its own.

    Raises:
        WsisError: whatever a run raises; the rows before it are kept.
    """
    configs = {row.name: changed(table.config(row, scale), **_without(row, scale, settings)) for row in table.rows}
    commit()  # of the code that is loaded now, whatever happens to the checkout during a long sweep
    points = any(c.supervision == "points" for c in configs.values())
    done: dict[str, dict[int, dict[str, Any]]] = {row.name: {} for row in table.rows}
    result: dict[str, Any] = {}
    for seed in seeds:
        opened = open_data(data, scale, points=points, seed=seed, drop_invalid=drop_invalid)
        if opened.val is None:
            raise DataError(f"{data} has no annotations/instances_val.json; a table is measured on the split val")
        for row in table.rows:
            done[row.name][seed] = run_row(table.method, configs[row.name], opened, seed, folder, device, workers)
            result = summary(table, scale, opened, done, configs, settings or {})
            if make_accelerator(device).is_main_process:
                write_json(out / f"{table.id}.{scale}.{opened.name}.json", result, indent=1)
                _say(table, row, seed, done[row.name][seed])
    return result


def _without(row: Row, scale: Scale, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings of the whole table that the row does not set itself."""
    return {k: v for k, v in (settings or {}).items() if k not in row.settings(scale)}


def run_row(method: str, cfg: Any, data: Data, seed: int, folder: Path, device: str = "auto", workers: int = 0) -> dict:
    """The reports of one row and seed by stage, with commit and date; from its file if it was run before."""
    name = f"{method}-{fingerprint(method, cfg, data.description, seed)}"
    path = folder / "rows" / f"{name}.json"
    if path.exists():
        return read_json(path)
    reports = runs.fit(
        method, cfg, data.train, data.val, folder / name, data=data.description, seed=seed, device=device,
        cache=folder / "cache", workers=workers,
    )  # fmt: skip
    facts = {"reports": reports, "commit": commit(), "hardware": hardware(device), "versions": versions(), "date": _today()}
    accelerator = make_accelerator(device)
    if accelerator.is_main_process:
        write_json(path, facts, indent=1)
    accelerator.wait_for_everyone()
    return facts


def summary(
    table: Table, scale: Scale, data: Data, done: Mapping[str, Mapping[int, dict]], configs: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """The content of a results file: rows, claims and provenance of what is done; percent, except counts."""
    values = {
        metric: {name: {seed: _percent(facts["reports"], metric) for seed, facts in of.items()} for name, of in done.items()}
        for metric in table.metrics
    }
    rows = [
        {
            "name": row.name,
            "changes": dict(row.settings(scale)),
            "published": row.published,
            "ours": {m: statistics(list(values[m][row.name].values())) for m in table.metrics if done[row.name]},
            "n": len(done[row.name]),
            "also": also([facts["reports"] for facts in done[row.name].values()], table.metrics),
        }
        for row in table.rows
    ]
    return {
        "table": table.id,
        "title": table.title,
        "scale": scale,
        "data": data.name,
        "metrics": list(table.metrics),
        "rows": rows,
        "claims": [judge(claim, values) for claim in table.claims],
        "provenance": _provenance(table, scale, data, done, configs, settings),
    }


def _percent(reports: Reports, metric: str) -> float:
    """A figure of the last report that has it."""
    return 100 * next(r[metric] for r in reversed(list(reports.values())) if metric in r)


def statistics(values: list[float]) -> dict[str, Any]:
    """Mean, sample standard deviation (0 for one value) and the values themselves."""
    return {"mean": mean(values), "std": stdev(values) if len(values) > 1 else 0.0, "values": values}


def also(reports: list[Reports], metrics: Sequence[str]) -> dict[str, float]:
    """Means over seeds of every other figure, `<stage>.<figure>`: fractions and counts as they were reported."""
    figures: dict[str, list[float]] = {}
    for of_seed in reports:
        for stage, report in of_seed.items():
            for name, value in report.items():
                if name not in (*NOT_FIGURES, *metrics) and isinstance(value, (int, float)) and math.isfinite(value):
                    figures.setdefault(f"{stage}.{name}", []).append(value)
    return {name: mean(v) for name, v in figures.items()}


def _provenance(
    table: Table, scale: Scale, data: Data, done: Mapping[str, Mapping[int, dict]], configs: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    facts = [f for of in done.values() for f in of.values()]
    seeds = sorted({seed for of in done.values() for seed in of})
    minutes = {r["key"]: r["minutes"] for f in facts for r in f["reports"].values()}  # shared stages count once
    changes = " ".join(f"--set {k}={v}" for k, v in settings.items())
    return {
        "command": f"python -m wsis table {table.id} --scale {scale} --data {data.name} --seeds {len(seeds)} {changes}".rstrip(),
        "images": data.description,
        "split": "val",
        "seeds": seeds,
        "commit": _all(facts, "commit"),
        "config_hash": fingerprint(*configs.values()),
        "weights": weights(configs.values()),
        "hardware": _all(facts, "hardware"),
        "versions": facts[-1]["versions"],
        "minutes": round(sum(minutes.values()), 1),
        "date": max(f["date"] for f in facts),
    }


def _all(facts: list[dict], name: str) -> str:
    """The different values of a fact, in the order of the runs."""
    return ", ".join(dict.fromkeys(f[name] for f in facts))


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _say(table: Table, row: Row, seed: int, facts: dict) -> None:
    figures = ", ".join(f"{m} {_percent(facts['reports'], m):.1f}" for m in table.metrics)
    minutes = sum(r["minutes"] for r in facts["reports"].values())
    print(f"{table.id}  seed {seed}  {row.name}: {figures} ({minutes:.1f} min)", flush=True)


def as_text(result: dict[str, Any]) -> str:
    """A results file for a terminal: its rows, published and ours, and its verdicts."""
    from wsis.viz.tables import table as draw

    rows = []
    for row in result["rows"]:
        cells: dict[str, Any] = {"row": row["name"]}
        for m in result["metrics"]:
            ours = row["ours"].get(m)
            cells[f"{m} published"] = float(row["published"][m]) if m in row["published"] else None
            cells[f"{m} {result['scale']}"] = f"{ours['mean']:.1f} +- {ours['std']:.1f}" if ours else None
        rows.append({**cells, "seeds": row["n"]})
    claims = [
        {"claim": c["id"], "text": c["text"], "published": c["published"], "measured": _measured(c), "verdict": c["verdict"]}
        for c in result["claims"]
    ]
    heading = f"{result['table']}: {result['title']} ({result['scale']}, {result['data']})"
    return f"{draw(rows, heading)!r}\n\n{draw(claims)!r}"


def _measured(claim: dict[str, Any]) -> str:
    if claim["mean"] is None:
        return f"{claim['seeds']} seeds"
    return f"{claim['mean']:+.1f} [{claim['low']:+.1f}, {claim['high']:+.1f}]"
