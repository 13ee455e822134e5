"""Fill a published table: run its rows over seeds, resume where it was killed, write numbers with provenance.

RUNS/rows/<method>-<fingerprint>.json   reports of one row and seed, shared by all tables that have the row
RUNS/<method>-<fingerprint>/            its run folder; stages that several rows share are in RUNS/cache
OUT/<table>.<scale>.<data>.json         written again after every row
"""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from wsis.core.config import Scale, changed, fingerprint
from wsis.core.errors import DataError
from wsis.core.files import read_json, write_json
from wsis.core.report import is_first_process, report
from wsis.experiments.environment import commit, hardware, versions
from wsis.experiments.results import Facts, Sweep, figures
from wsis.experiments.table import Table
from wsis.methods import method as find_method
from wsis.training import runs
from wsis.training.loop import make_accelerator
from wsis.weak.sources import Clicks, Data, open_data


def run_table(
    table: Table,
    scale: Scale,
    data: str = "world",
    seeds: Sequence[int] = (0, 1, 2),
    out: Path = Path("book/results"),
    folder: Path = Path("runs"),
    *,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    workers: int = 0,
    drop_invalid: bool = False,
) -> dict[str, Any]:
    """Run what is missing of a table and return its results, which are also in `out`.

    seeds: outermost, so that a sweep that stops early has all rows of the first seeds. settings: changes of every row,
    before its own. data is not read for a table that is measured on random numbers.

    Raises:
        DataError: there is no split val to measure on.
        WsisError: whatever a run raises; the rows before it are stored.
    """
    commit()  # of the code that is loaded now, whatever happens to the checkout during a long sweep
    settings = dict(settings or {})

    @cache
    def opened(seed: int, clicks: Clicks | None) -> Data:
        images = open_data(data, scale, clicks=clicks, seed=seed, drop_invalid=drop_invalid)
        if images.val is None:
            raise DataError(f"{data} has no annotations/instances_val.json; a table is measured on the split val")
        return images

    configs: dict[str, Any] = {}
    images: dict[str, dict[int, Data]] = {}
    facts: dict[str, dict[int, Facts]] = {}
    paths: dict[tuple[int, str], Path] = {}
    for row in table.rows:
        method, others = table.method_of(row), {k: v for k, v in settings.items() if k not in row.settings(scale)}
        cfg = configs[row.name] = changed(table.config(row, scale), **others)
        noise = Data(train=[], val=[], name="noise", description=f"random numbers, {cfg.image_side} px")  # pyright: ignore
        images[row.name] = {seed: noise if table.measure else opened(seed, cfg.clicks) for seed in seeds}
        for seed, of_seed in images[row.name].items():
            key = fingerprint(method, cfg, of_seed.description, seed)
            paths[seed, row.name] = folder / "rows" / f"{method}-{key}.json"
        facts[row.name] = {s: read_json(paths[s, row.name]) for s in seeds if paths[s, row.name].exists()}
    sweep = Sweep(table=table, scale=scale, settings=settings, configs=configs, data=images, facts=facts)
    for seed, row in product(seeds, table.rows):
        if seed not in facts[row.name]:
            path, cfg, of_seed = paths[seed, row.name], configs[row.name], images[row.name][seed]
            facts[row.name][seed] = run = run_row(
                table, table.method_of(row), cfg, of_seed, seed, path, device, workers
            )
            _write(out, sweep.results())
            shown = [f"{m} {value:.1f}" for m in table.metrics for value in figures({seed: run}, m, table).values()]
            minutes = sum(stage["minutes"] for stage in run["reports"].values())
            report(f"{table.id}  seed {seed}  {row.name}: {', '.join(shown)} ({minutes:.1f} min)")
    _write(out, sweep.results())
    return sweep.results()


def run_row(table: Table, method: str, cfg: Any, data: Data, seed: int, path: Path, device: str, workers: int) -> Facts:
    """The reports of one row and seed with commit, machine and date, which are also written to `path`."""
    if table.measure:
        began = time.perf_counter()
        reports = table.measure(cfg, device)
        minutes = (time.perf_counter() - began) / 60 / len(reports)
        reports = {stage: figures | {"key": path.stem, "minutes": minutes} for stage, figures in reports.items()}
    else:
        out, cache = path.parents[1] / path.stem, path.parents[1] / "cache"
        options = {"data": data.description, "seed": seed, "device": device, "cache": cache, "workers": workers}
        reports = runs.fit(find_method(method), cfg, data.train, data.val, out, **options)
    date = datetime.now(UTC).date().isoformat()
    facts = {"reports": reports, "commit": commit(), "hardware": hardware(device), "versions": versions(), "date": date}
    if is_first_process():
        write_json(path, facts, indent=1)
    make_accelerator(device).wait_for_everyone()  # no process may look for the file before it is there
    return facts


def _write(out: Path, results: dict[str, Any]) -> None:
    if is_first_process():
        write_json(out / f"{results['table']}.{results['scale']}.{results['data']}.json", results, indent=1)
