"""Fill a published table: run its rows over seeds, go on where it was killed, write numbers with provenance.

RUNS/rows/<method>-<fingerprint>.json   reports of one row and seed, shared by all tables that have the row
RUNS/<method>-<fingerprint>/            its run folder; stages that several rows share are in RUNS/cache
OUT/<table>.<scale>.<data>.json         written again after every row
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wsis.core.config import Scale, changed, fingerprint
from wsis.core.errors import DataError
from wsis.core.files import read_json, write_json
from wsis.experiments.environment import commit, hardware, is_first, versions
from wsis.experiments.results import Facts, Sweep, percents
from wsis.experiments.table import Row, Table
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

    seeds: outermost, so that a sweep that stops early has all rows of the first seeds. settings: changes of
    every row, before its own.

    Raises:
        DataError: there is no split val to measure on.
        WsisError: whatever a run raises; the rows before it are kept.
    """
    commit()  # of the code that is loaded now, whatever happens to the checkout during a long sweep
    settings = dict(settings or {})
    configs = {row.name: _config(table, row, scale, settings) for row in table.rows}
    needs: dict[str, Clicks | None] = {name: cfg.clicks for name, cfg in configs.items()}
    opened = {
        (s, clicks): open_data(data, scale, clicks=clicks, seed=s, drop_invalid=drop_invalid)
        for s in seeds
        for clicks in set(needs.values())
    }
    if any(o.val is None for o in opened.values()):
        raise DataError(f"{data} has no annotations/instances_val.json; a table is measured on the split val")
    images = {name: {s: opened[s, clicks] for s in seeds} for name, clicks in needs.items()}
    methods = {row.name: table.method_of(row) for row in table.rows}
    facts = {
        name: {s: found for s in seeds if (found := finished(methods[name], cfg, images[name][s], s, folder))}
        for name, cfg in configs.items()
    }
    sweep = Sweep(table=table, scale=scale, settings=settings, configs=configs, data=images, facts=facts)
    for seed in seeds:
        for row in table.rows:
            if seed not in facts[row.name]:
                cfg, of_seed = configs[row.name], images[row.name][seed]
                facts[row.name][seed] = run_row(methods[row.name], cfg, of_seed, seed, folder, device, workers)
                write(out, sweep.results())
                _say(table, row, seed, facts[row.name][seed])
    write(out, sweep.results())
    return sweep.results()


def run_row(
    method: str, cfg: Any, data: Data, seed: int, folder: Path, device: str = "auto", workers: int = 0
) -> Facts:
    """The reports of one row and seed with commit, machine and date; from its file if it was run before."""
    before = finished(method, cfg, data, seed, folder)
    if before:
        return before
    path = _path(method, cfg, data, seed, folder)
    reports = runs.fit(
        find_method(method),
        cfg,
        data.train,
        data.val,
        folder / path.stem,
        data=data.description,
        seed=seed,
        device=device,
        cache=folder / "cache",
        workers=workers,
    )
    facts = {
        "reports": reports,
        "commit": commit(),
        "hardware": hardware(device),
        "versions": versions(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    if is_first():
        write_json(path, facts, indent=1)
    make_accelerator(device).wait_for_everyone()  # none may look for the file before it is there
    return facts


def finished(method: str, cfg: Any, data: Data, seed: int, folder: Path) -> Facts | None:
    """What `run_row` returned for this row and seed before, if it did."""
    path = _path(method, cfg, data, seed, folder)
    return read_json(path) if path.exists() else None


def _path(method: str, cfg: Any, data: Data, seed: int, folder: Path) -> Path:
    return folder / "rows" / f"{method}-{fingerprint(method, cfg, data.description, seed)}.json"


def _config(table: Table, row: Row, scale: Scale, settings: dict[str, Any]) -> Any:
    own = row.settings(scale)
    return changed(table.config(row, scale), **{k: v for k, v in settings.items() if k not in own})


def write(out: Path, results: dict[str, Any]) -> None:
    """Write a results file, in the first process only."""
    if is_first():
        write_json(out / f"{results['table']}.{results['scale']}.{results['data']}.json", results, indent=1)


def _say(table: Table, row: Row, seed: int, facts: Facts) -> None:
    if is_first():
        found = {m: percents({seed: facts}, m) for m in table.metrics}
        figures = ", ".join(f"{m} {of[seed]:.1f}" for m, of in found.items() if of)
        minutes = sum(r["minutes"] for r in facts["reports"].values())
        print(f"{table.id}  seed {seed}  {row.name}: {figures} ({minutes:.1f} min)", flush=True)
