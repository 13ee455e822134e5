"""From the reports of runs to the content of a results file: rows, verdicts on claims, provenance."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from wsis.core.config import Scale, fingerprint, option
from wsis.core.files import read_json
from wsis.core.table import table as text_table
from wsis.experiments.environment import weights
from wsis.experiments.table import Reports, Row, Table
from wsis.experiments.verdicts import judge
from wsis.weak.sources import Data

Facts = dict[str, Any]
"""Of one row and seed: reports by stage, commit, hardware, versions, date."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A table that is being filled. configs: by row name. data, facts: by row name and seed, facts of finished runs."""

    table: Table
    scale: Scale
    settings: dict[str, Any]
    configs: dict[str, Any]
    data: dict[str, dict[int, Data]]
    facts: dict[str, dict[int, Facts]]

    def results(self) -> dict[str, Any]:
        table = self.table
        values = {m: {name: figures(runs, m, table) for name, runs in self.facts.items()} for m in table.metrics}
        return {
            "table": table.id,
            "title": table.title,
            "scale": self.scale,
            "data": self.name,
            "metrics": list(table.metrics),
            "rows": [self._row(row, values) for row in table.rows],
            "claims": [judge(claim, values, self.scale, table.upper) for claim in table.claims],
            "provenance": self._provenance() if any(self.facts.values()) else {},
        }

    @property
    def name(self) -> str:
        """What the images are, as in the name of the results file."""
        return next(data.name for seeds in self.data.values() for data in seeds.values())

    def _row(self, row: Row, values: Mapping[str, Mapping[str, Mapping[int, float]]]) -> dict[str, Any]:
        reports = {seed: facts["reports"] for seed, facts in self.facts[row.name].items()}
        metrics = self.table.metrics
        return {
            "name": row.name,
            "changes": dict(row.settings(self.scale)),
            "published": row.published,
            "ours": {m: spread(list(values[m][row.name].values())) for m in metrics if values[m][row.name]},
            "n": len(reports),
            "also": also(list(reports.values()), metrics),
            "curves": curves(reports),
        }

    def _provenance(self) -> dict[str, Any]:
        facts = [f for seeds in self.facts.values() for f in seeds.values()]
        seeds = sorted({seed for runs in self.facts.values() for seed in runs})
        minutes = {r["key"]: r["minutes"] for f in facts for r in f["reports"].values()}  # rows share stages
        # Of a file the name alone is stored: its folder may be private.
        plain = {k: Path(v).name if isinstance(v, str) and Path(v).is_file() else v for k, v in self.settings.items()}
        command = f"python -m wsis table {self.table.id} --scale {self.scale} --data {self.name}"
        command += f" --seeds {max(map(len, self.data.values()))}"
        return {
            "command": " ".join([command, *(shlex.quote(option(k, v)) for k, v in plain.items())]),
            "images": "; ".join(dict.fromkeys(data[s].description for s in seeds for data in self.data.values())),
            "split": "val",
            "seeds": seeds,
            "commit": ", ".join(dict.fromkeys(f["commit"] for f in facts)),
            "config_hash": fingerprint(*self.configs.values()),
            "weights": weights(self.configs.values()),
            "hardware": ", ".join(dict.fromkeys(f["hardware"] for f in facts)),
            "versions": facts[-1]["versions"],
            "minutes": round(sum(minutes.values()), 1),
            "date": max(f["date"] for f in facts),
        }


def figures(runs: Mapping[int, Facts], metric: str, table: Table) -> dict[int, float]:
    """A figure by seed as the table shows it, of the runs that have it: that of the last report with it."""
    values: dict[int, float] = {}
    for seed in sorted(runs):
        reported = [report[metric] for report in runs[seed]["reports"].values() if metric in report]
        if reported:
            values[seed] = table.factor * reported[-1]
    return values


def spread(values: list[float]) -> dict[str, Any]:
    """The mean, the sample standard deviation (0 for one value) and the values themselves."""
    return {"mean": mean(values), "std": stdev(values) if len(values) > 1 else 0.0, "values": values}


def also(reports: Sequence[Reports], metrics: Sequence[str]) -> dict[str, float]:
    """Means over seeds of all other figures, `<stage>.<figure>`: fractions and counts, as reported."""
    others: dict[str, list[float]] = {}
    for stage, report in (item for stages in reports for item in stages.items()):
        for name, value in report.items():
            number = isinstance(value, (int, float)) and math.isfinite(value)
            if number and name not in ("key", "minutes", *metrics):
                others.setdefault(f"{stage}.{name}", []).append(value)
    return {name: mean(values) for name, values in others.items()}


def curves(reports: Mapping[int, Reports]) -> dict[str, dict[str, list[Any]]]:
    """What was measured during training: lists of rows by `<stage>.<figure>` and seed."""
    rows: dict[str, dict[str, list[Any]]] = {}
    for seed, stages in reports.items():
        for stage, report in stages.items():
            for name, value in report.items():
                if isinstance(value, list):
                    rows.setdefault(f"{stage}.{name}", {})[str(seed)] = value
    return rows


def read_results(tables: Sequence[Table], folder: Path, name: str = "tiny.world") -> dict[str, dict[str, Any]]:
    """The results files in `folder`, of the tables that have one; name: scale and data."""
    paths = {table.id: folder / f"{table.id}.{name}.json" for table in tables}
    return {table: read_json(path) for table, path in paths.items() if path.exists()}


def claim_rows(tables: Sequence[Table], results: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """All claims of some tables as rows to show, run or not; results: see `read_results`."""
    rows = []
    for table in tables:
        entries = {entry["id"]: entry for entry in results[table.id]["claims"]} if table.id in results else {}
        for claim in table.claims:
            entry = entries.get(claim.id) or judge(claim, {}, "full")
            cells = {"claim": claim.id, "table": table.id, "says": claim.text, "published": claim.published}
            rows.append({**cells, "here": difference(entry), "verdict": in_words(entry)})
    return rows


def as_text(results: dict[str, Any]) -> str:
    """Results for a terminal: rows, published and ours, and the verdicts."""
    rows = []
    for row in results["rows"]:
        cells: dict[str, Any] = {"row": row["name"]}
        for m in results["metrics"]:
            ours, published = row["ours"].get(m), row["published"].get(m)
            cells[f"{m} published"] = "" if published is None else str(published)
            cells[f"{m} {results['scale']}"] = f"{ours['mean']:.1f} +- {ours['std']:.1f}" if ours else None
        rows.append({**cells, "seeds": row["n"]})
    claims = [
        {k: c[k] for k in ("id", "text", "published")} | {"measured": difference(c), "verdict": in_words(c)}
        for c in results["claims"]
    ]
    heading = f"{results['table']}: {results['title']} ({results['scale']}, {results['data']})"
    return f"{text_table(rows, heading)!r}\n\n{text_table(claims)!r}"


def difference(claim: dict[str, Any]) -> str:
    """The difference over seeds with its interval; of a claim of several comparisons how many of them hold."""
    if claim["mean"] is None:
        return f"{claim['seeds']} seeds"
    if parts := [part["verdict"] for part in claim.get("parts", [])]:
        against = parts.count("contradicted")
        return f"{parts.count('holds')} of {len(parts)} hold" + f", {against} contradicted" * bool(against)
    return f"{claim['mean']:+.1f} [{claim['low']:+.1f}, {claim['high']:+.1f}]"


def in_words(claim: dict[str, Any]) -> str:
    """The verdict, with the number of seeds that are missing."""
    if claim["verdict"] != "needs seeds":
        return claim["verdict"]
    missing = claim["needed"] and claim["needed"] - claim["seeds"]
    return f"needs {missing} more seed{'s' * (missing > 1)}" if missing else "needs over 1000 seeds"
