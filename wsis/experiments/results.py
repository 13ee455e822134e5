"""From the reports of runs to the content of a results file: rows, verdicts on claims, provenance."""

import math
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from wsis.core.config import Scale, fingerprint, option
from wsis.core.files import read_json
from wsis.experiments.environment import weights
from wsis.experiments.table import Row, Table
from wsis.experiments.verdicts import judge
from wsis.weak.sources import Data

Facts = dict[str, Any]
"""Of one row and seed: reports by stage, commit, hardware, versions, date."""

NOT_FIGURES = ("key", "minutes")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A table that is being filled.

    settings: changes of every row. configs: by row name. data, facts: by row name and seed, facts where done.
    """

    table: Table
    scale: Scale
    settings: dict[str, Any]
    configs: dict[str, Any]
    data: dict[str, dict[int, Data]]
    facts: dict[str, dict[int, Facts]]

    def results(self) -> dict[str, Any]:
        """The content of the results file so far."""
        values = {
            metric: {name: percents(of, metric) for name, of in self.facts.items()} for metric in self.table.metrics
        }
        return {
            "table": self.table.id,
            "title": self.table.title,
            "scale": self.scale,
            "data": self.name,
            "metrics": list(self.table.metrics),
            "rows": [self._row(row, values) for row in self.table.rows],
            "claims": [judge(claim, values) for claim in self.table.claims],
            "provenance": self._provenance() if any(self.facts.values()) else {},
        }

    @property
    def name(self) -> str:
        """What the images are, as in the name of the results file."""
        return next(data.name for of in self.data.values() for data in of.values())

    def _row(self, row: Row, values: Mapping[str, Mapping[str, Mapping[int, float]]]) -> dict[str, Any]:
        done = self.facts[row.name]
        metrics = self.table.metrics
        return {
            "name": row.name,
            "changes": dict(row.settings(self.scale)),
            "published": row.published,
            "ours": {m: spread(list(values[m][row.name].values())) for m in metrics if values[m][row.name]},
            "n": len(done),
            "also": also([facts["reports"] for facts in done.values()], metrics),
            "curves": curves({seed: facts["reports"] for seed, facts in done.items()}),
        }

    def _provenance(self) -> dict[str, Any]:
        facts = [f for of in self.facts.values() for f in of.values()]
        seeds = sorted({seed for of in self.facts.values() for seed in of})
        # by key: rows share stages
        minutes = {r["key"]: r["minutes"] for f in facts for r in f["reports"].values()}
        command = f"python -m wsis table {self.table.id} --scale {self.scale} --data {self.name}"
        changes = [shlex.quote(option(k, _without_folder(v))) for k, v in self.settings.items()]
        return {
            "command": " ".join([command, f"--seeds {max(map(len, self.data.values()))}", *changes]),
            "images": "; ".join(dict.fromkeys(of[s].description for s in seeds for of in self.data.values())),
            "split": "val",
            "seeds": seeds,
            "commit": _different(facts, "commit"),
            "config_hash": fingerprint(*self.configs.values()),
            "weights": weights(self.configs.values()),
            "hardware": _different(facts, "hardware"),
            "versions": facts[-1]["versions"],
            "minutes": round(sum(minutes.values()), 1),
            "date": max(f["date"] for f in facts),
        }


def _without_folder(value: Any) -> Any:
    """A file's name: where it lay is nobody's business."""
    return Path(value).name if isinstance(value, str) and Path(value).is_file() else value


def percents(of: Mapping[int, Facts], metric: str) -> dict[int, float]:
    """A figure in percent by seed, of the runs that have it."""
    return {s: percent(of[s], metric) for s in sorted(of) if any(metric in r for r in of[s]["reports"].values())}


def percent(facts: Facts, metric: str) -> float:
    """A figure of the last report that has it."""
    return 100 * next(r[metric] for r in reversed(facts["reports"].values()) if metric in r)


def spread(values: list[float]) -> dict[str, Any]:
    """Mean, sample standard deviation (0 for one value) and the values themselves."""
    return {"mean": mean(values), "std": stdev(values) if len(values) > 1 else 0.0, "values": values}


def also(reports: list[dict[str, Any]], metrics: Sequence[str]) -> dict[str, float]:
    """Means over seeds of all other figures, `<stage>.<figure>`: fractions and counts, as reported."""
    figures: dict[str, list[float]] = {}
    for of_seed in reports:
        for stage, report in of_seed.items():
            for name, value in report.items():
                number = isinstance(value, (int, float)) and math.isfinite(value)
                if number and name not in (*NOT_FIGURES, *metrics):
                    figures.setdefault(f"{stage}.{name}", []).append(value)
    return {name: mean(values) for name, values in figures.items()}


def curves(reports: Mapping[int, dict[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """What was measured during training: lists of rows by `<stage>.<figure>` and seed."""
    found: dict[str, dict[str, list[Any]]] = {}
    for seed, of_seed in reports.items():
        for stage, report in of_seed.items():
            for name, value in report.items():
                if isinstance(value, list):
                    found.setdefault(f"{stage}.{name}", {})[str(seed)] = value
    return found


def _different(facts: list[Facts], name: str) -> str:
    """The different values of a fact, in the order of the runs."""
    return ", ".join(dict.fromkeys(f[name] for f in facts))


def read_results(tables: Sequence[Table], folder: Path, name: str = "tiny.world") -> dict[str, dict[str, Any]]:
    """The results files in `folder`, of the tables that have one; name: scale and data."""
    paths = {table.id: folder / f"{table.id}.{name}.json" for table in tables}
    return {table: read_json(path) for table, path in paths.items() if path.exists()}


def claim_rows(tables: Sequence[Table], results: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """All claims of some tables as rows to show, run or not; results: see `read_results`."""
    rows = []
    for table in tables:
        judged = {c["id"]: c for c in results[table.id]["claims"]} if table.id in results else {}
        for claim in table.claims:
            c = judged.get(claim.id) or judge(claim, defaultdict(dict))
            cells = {"claim": claim.id, "table": table.id, "says": claim.text, "published": claim.published}
            rows.append({**cells, "here": difference(c), "verdict": c["verdict"]})
    return rows


def as_text(results: dict[str, Any]) -> str:
    """Results for a terminal: rows, published and ours, and the verdicts."""
    from wsis.core.table import table

    rows = []
    for row in results["rows"]:
        cells: dict[str, Any] = {"row": row["name"]}
        for m in results["metrics"]:
            ours, published = row["ours"].get(m), row["published"].get(m)
            cells[f"{m} published"] = "" if published is None else str(published)
            cells[f"{m} {results['scale']}"] = f"{ours['mean']:.1f} +- {ours['std']:.1f}" if ours else None
        rows.append({**cells, "seeds": row["n"]})
    claims = [
        {k: c[k] for k in ("id", "text", "published")} | {"measured": difference(c), "verdict": c["verdict"]}
        for c in results["claims"]
    ]
    heading = f"{results['table']}: {results['title']} ({results['scale']}, {results['data']})"
    return f"{table(rows, heading)!r}\n\n{table(claims)!r}"


def difference(claim: dict[str, Any]) -> str:
    """Difference over seeds with its interval; of a claim of several comparisons how many of them hold."""
    if claim["mean"] is None:
        return f"{claim['seeds']} seeds"
    if parts := [part["verdict"] for part in claim.get("parts", [])]:
        against = parts.count("contradicted")
        return f"{parts.count('holds')} of {len(parts)} hold" + f", {against} contradicted" * bool(against)
    return f"{claim['mean']:+.1f} [{claim['low']:+.1f}, {claim['high']:+.1f}]"
