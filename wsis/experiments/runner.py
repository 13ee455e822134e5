"""Fill a published table: run its rows over seeds, resume where it was killed, write numbers with provenance.

RUNS/rows/<method>-<fingerprint>.json   reports of one row and seed, shared by all tables that have the row
RUNS/<method>-<fingerprint>/            its run folder; stages that several rows share are in RUNS/cache
OUT/<table>.<scale>.<data>.json         written again after every row
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from itertools import product
from pathlib import Path

from wsis.core.config import Scale, changed, fingerprint
from wsis.core.errors import ConfigError, DataError, WeightsError
from wsis.core.files import read_json, write_json
from wsis.core.report import is_first_process, report
from wsis.experiments.environment import commit, hardware, versions
from wsis.experiments.results import Facts, Results, RowRun, collect, figures
from wsis.experiments.table import Settings, Table
from wsis.methods import BASELINES
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
    rows: Sequence[str] = (),
    settings: Settings | None = None,
    device: str = "auto",
    workers: int = 0,
    drop_invalid: bool = False,
) -> Results:
    """Run what is missing of a table and return its results, which are also in `out`.

    seeds: outermost, so that a sweep that stops early has all rows of the first seeds. rows: names of those to run; the
    others show what has been run of them. settings: changes of every row, before its own. data is not read for a table that
    is measured on random numbers. Raises DataError if there is no split val to measure on, ConfigError for a scale or a row
    that the table does not have and for a file in `out` that would lose runs, and whatever a run raises; the rows before it
    are stored. The row of a baseline whose weights are not here stays blank.
    """
    if scale not in table.scales:
        raise ConfigError(f"{table.id} has no rows at scale {scale}; choose {' or '.join(table.scales)}")
    names = [row.name for row in table.rows]
    if unknown := set(rows) - set(names):
        raise ConfigError(f"{table.id} has no row {', '.join(map(repr, sorted(unknown)))}; it has {', '.join(names)}")
    commit()  # of the code that is loaded now, whatever happens to the checkout during a long sweep
    settings = settings or {}

    @cache
    def opened(seed: int, clicks: Clicks | None) -> Data:
        options = {"drop_invalid": drop_invalid, "val_scenes": table.val_scenes}
        images = open_data(data, scale, clicks=clicks, seed=seed, **options)
        if images.val is None:
            raise DataError(f"{data} has no annotations/instances_val.json; a table is measured on the split val")
        return images

    planned: list[RowRun] = []
    for seed, row in product(seeds, table.rows):
        others = {k: v for k, v in settings.items() if k not in row.settings(scale)}
        cfg = changed(table.config(row, scale), **others)
        noise = Data(train=[], val=[], name="noise", description=f"random numbers, {cfg.image_side} px")  # pyright: ignore
        images, method = noise if table.measure else opened(seed, cfg.clicks), table.method_of(row)
        path = folder / "rows" / f"{method}-{fingerprint(method, cfg, images.description, seed)}.json"
        planned.append(RowRun(row, seed, cfg, images, path, finished(path)))

    stored = out / f"{table.id}.{scale}.{planned[0].data.name}.json"
    refuse_to_lose(stored, planned, folder)

    def write() -> Results:
        shown = [replace(run, facts=run.facts or finished(run.path)) for run in planned]  # perhaps by another process
        results = collect(table, scale, settings, shown, " --drop-invalid" * drop_invalid)
        if is_first_process():
            write_json(stored, results, indent=1)
        return results

    for run in planned:
        if run.facts is None and run.row.name in (rows or names):
            try:
                run.facts = run_row(table, run, device, workers)
            except WeightsError as error:
                if table.method_of(run.row) not in BASELINES:
                    raise
                # what has to be downloaded keeps no row waiting
                report(f"{table.id}  {run.row.name}: not run; {error}")
                continue
            write()
            shown = ", ".join(f"{metric} {value:.1f}" for metric, value in figures(run.facts, table).items())
            minutes = sum(stage["minutes"] for stage in run.facts["reports"].values())
            report(f"{table.id}  seed {run.seed}  {run.row.name}: {shown} ({minutes:.1f} min)")
    return write()


def finished(path: Path) -> Facts | None:
    """What is stored of a run; None until it has finished."""
    return read_json(path) if path.exists() else None


def refuse_to_lose(path: Path, planned: Sequence[RowRun], folder: Path) -> None:
    """Raise ConfigError where the results file at `path` has more runs of a row than were found in `folder`."""
    found = Counter(run.row.name for run in planned if run.facts)
    rows = read_json(path)["rows"] if path.exists() else []
    if lost := [row["name"] for row in rows if row["n"] > found[row["name"]]]:
        words = (
            f"{path} would lose runs of {', '.join(lost)}, which {folder} does not hold with these settings and seeds"
        )
        raise ConfigError(f"{words}; choose another --out, or delete the file")


def run_row(table: Table, run: RowRun, device: str, workers: int) -> Facts:
    """Run one row with one seed; write its reports, with commit, machine and date, to its path."""
    path, data = run.path, run.data
    if table.measure:
        began = time.perf_counter()
        reports = table.measure(run.cfg, device)
        minutes = (time.perf_counter() - began) / 60 / len(reports)
        reports = {stage: report | {"key": path.stem, "minutes": minutes} for stage, report in reports.items()}
    else:
        method, folder = find_method(table.method_of(run.row)), path.parents[1]
        options = {"seed": run.seed, "device": device, "cache": folder / "cache", "workers": workers}
        out = folder / path.stem
        reports = runs.fit(method, run.cfg, data.train, data.val, out, data=data.description, **options)
    date = datetime.now(UTC).date().isoformat()
    facts = Facts(reports=reports, commit=commit(), hardware=hardware(device), versions=versions(), date=date)
    if is_first_process():
        write_json(path, facts, indent=1)
    make_accelerator(device).wait_for_everyone()  # no process may look for the file before it is there
    return facts
