"""Pages made from files: book/results and executed chapters -> book/generated/*.md, which the pages of the book include.

A results file, book/results/*.json, is one table at one scale on one data set:
    {"table", "scale", "data", "upper", "trivial": {metric: value}, "provenance": {},
     "rows": [{"name", "published": {metric: value}, "ours": {metric: {"mean", "std", "values"}}, "n"}],
     "claims": [{"id", "text", "published", "seeds", "mean", "low", "high", "noise", "needed", "room",
      "effect", "verdict", "reason"}]}
The files of book/results/benchmarks are what `python -m benchmarks` and `python -m benchmarks.memory` write.
No result of the book is typed by hand: it comes from here or is computed on the page.
"""

import json
import re
import textwrap
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any, get_args

import yaml

from book.glance import TITLES, glance
from wsis.core import sources
from wsis.core.config import option
from wsis.core.errors import DataError
from wsis.experiments import find
from wsis.experiments.results import difference, in_words
from wsis.experiments.table import Row, Table
from wsis.experiments.verdicts import Judged, Part, Verdict
from wsis.methods import METHODS, method

KEYS = {"table", "scale", "data", "rows", "claims", "provenance"}
PROVENANCE = {"seeds", "commit", "hardware"}
AGAIN = "write it again with python -m wsis table"
VERDICTS = get_args(Verdict)
TRIVIAL = "trivial bound"
SCALES = ("full", "small", "tiny")
Result = dict[str, Any]
CODE = "https://github.com/wsis/wsis/blob/main/"
ROOT = Path(__file__).parents[1]
CHAPTERS = {  # where the claims of a method are discussed
    "bestie": "12_bestie_training",
    "exits": "21_exits_masks",
    "attentionshift": "31_attentionshift_training",
    "simformer": "41_simformer_retraining",
}


def load(path: Path) -> Result:
    """One results file. Raises DataError: not JSON, a key missing, a name that is not the content's, numbers of unknown origin,
    or numbers of the scale small, which stands between the scales, without the bounds of their table beside them.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON ({error}); {AGAIN}") from None
    missing = KEYS - result.keys()
    if missing:
        raise DataError(f"{path} misses {', '.join(sorted(missing))}; {AGAIN}")
    name = f"{result['table']}.{result['scale']}.{result['data']}"
    if path.stem != name:
        raise DataError(f"{path} holds {name}; rename it to {name}.json")
    wrong = [c["verdict"] for c in result["claims"] if c["verdict"] not in VERDICTS]
    if wrong:
        raise DataError(f"{path}: {wrong[0]!r} is not a verdict; the verdicts are {', '.join(VERDICTS)}")
    numbers = {row["name"] for row in result["rows"] if row["ours"]}
    unknown = PROVENANCE - result["provenance"].keys() if numbers else ()
    if unknown:
        raise DataError(f"{path} has numbers without {', '.join(sorted(unknown))}; {AGAIN}")
    if result["scale"] == "small" and not (result["upper"] in {"", *numbers} and result["trivial"]):
        raise DataError(f"{path} has no upper or no trivial bound; {AGAIN}, with the row of true labels")
    return result


def write(results: Path, out: Path) -> None:
    """Write the generated pages of all results files, the settings and the citations into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    tables: dict[str, list[Result]] = {}
    for path in sorted(results.glob("*.json")):
        result = load(path)
        tables.setdefault(result["table"], []).append(result)
    reports = sorted((results / "benchmarks").glob("*.json"))
    benchmarks = "\n".join(_benchmark(json.loads(p.read_text(encoding="utf-8"))) for p in reports)
    not_run: dict[str, list[Result]] = {t.id: [] for t in find("all") if t.claims and t.id not in tables}
    sections = "\n".join(_section(name, runs) for name, runs in sorted((tables | not_run).items()))
    every = [run for runs in tables.values() for run in runs]
    made = {
        "glance": glance(every),
        "results": sections,
        "promptable": "\n".join(_promptable(t, tables.get(t.id, [])) for t in find("all") if "promptable." in t.id),
        "table_times": _table_times(every),
        "cite": _citations(),
        "settings": "\n".join(map(_settings, METHODS)),
        "benchmarks": benchmarks or "No benchmark has been run yet.\n",
    }
    for name, text in made.items():
        (out / f"{name}.md").write_text(text, encoding="utf-8")


def write_run_times(chapters: Path, out: Path) -> None:
    """run_times.md: how long each executed chapter took."""
    runs = [(p, json.loads(p.read_text(encoding="utf-8"))["metadata"]["run"]) for p in sorted(chapters.glob("*.ipynb"))]
    lines = ["| chapter | with | seconds | threads | on |", "|---|---|--:|--:|---|"]
    for path, run in runs:
        cells = (f"[](chapters/{path.name})", run["with"], f"{run['seconds']:.0f}", str(run["threads"]), run["on"])
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(f"| *together* | | {sum(run['seconds'] for _, run in runs):.0f} | | |")
    (out / "run_times.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _table_times(results: Iterable[Result]) -> str:
    """How long the runs behind each results file took; not every file tells."""
    lines = ["| table | scale | data | seeds | minutes | on |", "|---|---|---|--:|--:|---|"]
    for result in results:
        run = result["provenance"]
        if "minutes" in run:
            place = f"[{result['table']}](#{result['table']}) | {result['scale']} | {result['data']}"
            lines.append(f"| {place} | {len(run['seeds'])} | {run['minutes']:.0f} | {run['hardware']} |")
    return "\n".join(lines) + "\n"


def _citations() -> str:
    """BibTeX of the package, from CITATION.cff, and of the paper of each method, from references.bib."""
    root = Path(__file__).resolve().parent
    facts = yaml.safe_load((root.parent / "CITATION.cff").read_text(encoding="utf-8"))
    authors = " and ".join(f"{{{author['name']}}}" for author in facts["authors"])
    fields = {
        "author": authors,
        "title": f"{{{facts['title']}}}",
        "version": facts["version"],
        "url": facts["repository-code"],
    }
    lines = [f"  {name:<9} = {{{value}}}," for name, value in fields.items()]
    entries = {"The package": "\n".join(["@software{wsis,", *lines, "}"])}
    bibliography = (root / "references.bib").read_text(encoding="utf-8")
    for name in METHODS:
        found = re.search(rf"^@\w+{{{method(name).FULL.CITE},.*?^}}", bibliography, re.M | re.S)
        entries[TITLES[name]] = found.group() if found else ""
    sections = []
    for title, entry in entries.items():
        short = [
            textwrap.fill(line, 88, subsequent_indent=15 * " ", break_long_words=False) for line in entry.split("\n")
        ]
        sections.append("\n".join([f"## {title}\n", "```bibtex", *short, "```\n"]))
    return "\n".join(sections)


def _settings(name: str) -> str:
    """The settings of a method at every scale, with the source of the full one; below it a blank cell is the same value."""
    module = method(name)
    full, *others = ({row["name"]: row for row in sources(getattr(module, scale.upper()))} for scale in SCALES)
    lines = [f"({name}-settings)=\n## {TITLES[name]}\n", f"| setting | {' | '.join(SCALES)} | unit | source |"]
    lines.append("|---" * (len(SCALES) + 3) + "|")
    for key, row in full.items():
        values = [row["value"], *(other[key]["value"] * (other[key]["value"] != row["value"]) for other in others)]
        cells = " | ".join(f"`{value}`" if value else "" for value in values)
        paper, _, place = row["source"].partition(", ")
        source = f"{{cite:t}}`{paper}`, {place}" if place and " " not in paper and ":" not in paper else row["source"]
        lines.append(f"| `{key}` | {cells} | {row['unit']} | {source.replace('*', chr(92) + '*')} |")
    return "\n".join(lines) + "\n"


def _section(name: str, runs: list[Result]) -> str:
    """One table: what it varies, its numbers, its claims, and where the numbers come from."""
    table = next((table for table in find("all") if table.id == name), None)
    shown = runs or [_not_run(table)] if table else runs
    parts = [f"({name})=\n## {name}\n", *([_subject(table)] if table else [])]
    parts += [_raw(_numbers(shown))] if runs or table and any(row.published for row in table.rows) else []
    claims = [(run, claim) for run in shown for claim in run["claims"]]
    if claims:
        parts.append(_raw(_claims(name, claims)))
    parts += [_raw(_changes(table))] if table else []
    parts += [_raw(_provenance(run)) for run in runs]
    return "\n".join(parts)


def _not_run(table: Table) -> Result:
    """What a results file would hold before any run: published numbers, and claims that nothing decides."""
    rows = [{"name": row.name, "published": row.published, "ours": {}, "n": 0} for row in table.rows]
    return {"table": table.id, "scale": "", "data": "", "rows": rows, "claims": table.judged({}, "full")}


def _subject(table: Table) -> str:
    """What a table varies, the chapter that discusses it, and the file that defines its rows and claims."""
    method = table.id.split(".")[0]
    chapter = f"[](chapters/{CHAPTERS[method]}.ipynb) and, " if method in CHAPTERS else ""
    title = f"{table.title[0].upper()}{table.title[1:]}".replace("*", r"\*")
    file, line = _defined(table.id, table.id)
    return f"{title}. See {chapter}for the definition of rows and claims, [{file}]({CODE}{file}{line}).\n"


def _defined(table: str, id: str) -> tuple[str, str]:
    """The file of a table's rows and claims, and #L and the line that names the table or a claim of it."""
    method, _, name = table.partition(".")
    key = f"{name}:" if id == table else f"    {id}:"
    for file in (f"wsis/experiments/tables/{method}.yaml", "wsis/experiments/costs.py"):
        text = (ROOT / file).read_text(encoding="utf-8") if (ROOT / file).exists() else ""
        for number, line in enumerate(text.splitlines(), 1):
            if line.startswith(key) or f'"{id}"' in line:
                return file, f"#L{number}"
    return "", ""


def _changes(table: Table) -> str:
    """A folded list of the settings that each row changes, as the command line takes them."""
    rows = ""
    for row in table.rows:
        words = [" ".join(option(k, v) for k, v in row.settings(s).items()) or "the preset" for s in ("full", "tiny")]
        text = (f"{row.method}: " if row.method else "") + "; below full scale ".join(dict.fromkeys(words))
        rows += f"<dt>{escape(row.name)}</dt><dd><code>{escape(text)}</code></dd>"
    title = f"what the rows of {escape(table.id)} change"
    return f'<details class="provenance"><summary>{title}</summary><dl>{rows}</dl></details>'


def _promptable(table: Table, runs: list[Result]) -> str:
    """Methods and promptable models with the same labels: IoU and cost from each results file, blank where it has none."""
    parts = []
    for run in runs or [{}]:
        stored = {row["name"]: row for row in run.get("rows", [])}
        where = f"{run['scale']}, {run['data']}" if run else "not run"
        heads = (f"mIoU ({where})", "seconds per object", "GB", "command")
        head = f"<tr><td></td>{''.join(f'<th scope=col>{escape(title)}</th>' for title in heads)}</tr>"
        body = "".join(_prompted(table, row, stored.get(row.name, {})) for row in table.rows)
        parts.append(_raw(_table(head, body, "results")))
    return "\n".join(parts)


def _prompted(table: Table, row: Row, stored: Result) -> str:
    """The line of a row, with the command that makes its masks."""
    also, value, method = stored.get("also", {}), stored.get("ours", {}).get("mIoU"), table.method_of(row)
    costs = [(also.get("labels.seconds_per_object"), ".2f"), (also.get("labels.memory_gb"), ".1f")]
    cells = ["" if value is None else _text(value), *("" if n is None else format(n, style) for n, style in costs)]
    if method == "promptable":
        name = f"{row.changes['model']}:{row.changes['checkpoint']} --prompt {row.changes['prompt']}"
        command = f"label {name} --data DIR --split train --out masks.json"
    else:
        command = " ".join([f"train {method}", *(option(k, v) for k, v in row.changes.items()), "--data DIR --out RUN"])
    line = "".join(f"<td>{cell}</td>" for cell in (*cells, f"<code>python -m wsis {escape(command)}</code>"))
    return f'<tr><th scope="row">{escape(row.name)}</th>{line}</tr>'


def _numbers(runs: list[Result]) -> str:
    """Rows by name; a group of columns for what was published and one for each run, the tiny ones in grey."""
    names = list(dict.fromkeys(row["name"] for run in runs for row in run["rows"]))
    names += [TRIVIAL] * any(run.get("trivial") for run in runs)
    upper = {run["upper"] for run in runs if run.get("upper")}
    groups = [("published", "published", _cells(runs, "published"))]
    for run in runs:
        seeds = sorted({row["n"] for row in run["rows"] if row["n"]}) or [0]  # not every row has all
        many = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
        title = f"ours, {run['scale']}, {run['data']}, {many} seed{'s' * (many != '1')}"
        if run["scale"] != "full":
            title += "<br><small>not comparable with published numbers</small>"
        groups.append((title, run["scale"], _cells([run], "ours")))
    groups = [g for g in groups if g[2]]
    columns = [(style, metric, cells) for _, style, group in groups for metric, cells in group.items()]
    head = "".join(f'<th class="{s}" colspan="{len(g)}" scope="colgroup">{t}</th>' for t, s, g in groups)
    metrics = "".join(f'<th class="{s}" scope="col">{escape(m)}</th>' for s, m, _ in columns)
    body = ""
    for name in names:
        cells = "".join(f'<td class="{s}">{c.get(name, "")}</td>' for s, _, c in columns)
        words = f"{escape(name)} <small>(upper bound)</small>" if name in upper else escape(name)
        body += f'<tr><th scope="row">{words}</th>{cells}</tr>'
    return _table(f'<tr><td rowspan="2"></td>{head}</tr><tr>{metrics}</tr>', body, "results")


def _cells(runs: list[Result], source: str) -> dict[str, dict[str, str]]:
    """metric -> row name -> text of the cell; rows that were not run have none."""
    cells: dict[str, dict[str, str]] = {}
    for run in runs:
        for row in run["rows"]:
            for metric, value in row[source].items():
                cells.setdefault(metric, {})[row["name"]] = _text(value)
        for metric, value in run.get("trivial", {}).items() if source == "ours" else ():
            cells.setdefault(metric, {})[TRIVIAL] = f"{value:.1f}"
    return cells


def _text(value: Any) -> str:
    """A number as published, or mean and standard deviation of ours."""
    if isinstance(value, dict):
        spread = f" <small>± {value['std']:.1f}</small>" if len(value["values"]) > 1 else ""
        return f"{value['mean']:.1f}{spread}"
    return "" if value is None else escape(f"{value:g}" if isinstance(value, float) else str(value))


def _claims(table: str, claims: Iterable[tuple[Result, Judged]]) -> str:
    """Each ordinal claim, linked to the line that decides it, with the measured difference, its noise and its verdict.

    Of a claim of several parts each has a line.
    """
    lines: list[tuple[str, ...]] = [("claim", "", "published", "measured", "noise", "room", "verdict", "on")]
    for run, claim in claims:
        where = f"{run['scale']}, {run['data']}".strip(", ")
        file, line = _defined(table, claim["id"])
        id = f'<a href="{CODE}{file}{line}">{claim["id"]}</a>' if line else claim["id"]
        lines.append(_claim(id, escape(claim["text"]), escape(str(claim["published"])), claim, where))
        lines += [_claim("", escape(part["comparison"]), "", part, "") for part in claim.get("parts", [])]
    columns = [column for column in zip(*lines, strict=True) if any(column[1:])]  # most tables know of no room
    titles, *rows = zip(*columns, strict=True)
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return _table(f"<tr>{head}</tr>", body, "claims")


def _claim(id: str, text: str, published: str, entry: Part, where: str) -> tuple[str, ...]:
    """The line of a claim or of one of its parts; room and noise of a claim of several parts are in the parts' lines."""
    measured = "" if entry["mean"] is None else difference(entry)
    noise, room = ("" if entry[k] is None or "parts" in entry else f"{entry[k]:.1f}" for k in ("noise", "room"))
    verdict = f'<span class="verdict {entry["verdict"].replace(" ", "-")}">{in_words(entry)}</span>'
    return id, text, published, measured, noise, room, verdict, where


def _provenance(run: Result) -> str:
    """A folded list of where the numbers of a run come from."""
    rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(_plain(v))}</dd>" for k, v in run["provenance"].items())
    title = f"where the numbers of {escape(run['table'])}, {run['scale']}, {run['data']} come from"
    return f'<details class="provenance"><summary>{title}</summary><dl>{rows}</dl></details>'


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)


def _benchmark(report: dict[str, Any]) -> str:
    """The measurements on one device, one table for each operation, or one of the memory of the commands."""
    if "limit" in report:
        return _memory(report)
    cases = dict.fromkeys(row["case"] for row in report["rows"])
    parts = [f"## {report['device']}\n\n{_conditions(report)}.\n"]
    titles = ("px", "batch", "instances", "ms", "plain, ms", "times faster", "MiB", "plain, MiB")
    head = "<tr>" + "".join(f'<th scope="col">{t}</th>' for t in titles) + "</tr>"
    for case in cases:
        rows = [row for row in report["rows"] if row["case"] == case]
        body = "".join(f"<tr>{''.join(f'<td>{c}</td>' for c in _measurement(row))}</tr>" for row in rows)
        parts.append(f"### {case}\n\n{_raw(_table(head, body, 'results'))}")
    return "\n".join(parts)


def _memory(report: dict[str, Any]) -> str:
    """A line for each command, a column for each photograph."""
    measured = {(row["call"], row["Mpx"], row["objects"]): row for row in report["rows"]}
    imports = [row["MB"] for row in report["rows"] if not row["Mpx"]]
    sizes = dict.fromkeys(key[1:] for key in measured if key[1])
    titles = ["command", *(f"{pixels:.0f} Mpx<br>{objects} objects" for pixels, objects in sizes)]
    head = "<tr>" + "".join(f'<th scope="col">{title}</th>' for title in titles) + "</tr>"
    body = ""
    for call in dict.fromkeys(key[0] for key in measured if key[1]):
        cells = [measured.get((call, *size)) for size in sizes]
        cells = [f"{cell['MB']} MB, {cell['seconds']:.0f} s" if cell else "" for cell in cells]
        body += f"<tr><td>{call}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    words = f"{report['device']}, {_conditions(report)}; at most {report['limit']} MB are allowed"
    words += f", of which imports take {max(imports)}." if imports else "."
    return f"## Memory of the commands\n\n{words}\n\n{_raw(_table(head, body, 'results'))}"


def _conditions(report: dict[str, Any]) -> str:
    threads = report["threads"]
    return f"{threads} thread{'s' * (threads != 1)}, {_plain(report['versions'])}"


def _measurement(row: dict[str, Any]) -> list[str]:
    """The cells of one measurement; blank where the plain version would have taken too long."""
    size, mebi = row["size"], 2**20
    cells = [size["pixels"], size["batch"], size["instances"], f"{1e3 * row['seconds']:.1f}"]
    if row["plain_seconds"] is None:
        cells += ["", "", f"{row['peak_bytes'] / mebi:.1f}", ""]
    else:
        cells += [f"{1e3 * row['plain_seconds']:.1f}", f"{row['speedup']:.1f}"]
        cells += [f"{row['peak_bytes'] / mebi:.1f}", f"{row['plain_peak_bytes'] / mebi:.1f}"]
    return [str(c) for c in cells]


def _table(head: str, body: str, style: str) -> str:
    scroll = '<div class="wide" tabindex="0" role="region" aria-label="table">'
    return f'{scroll}<table class="table {style}"><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _raw(html: str) -> str:
    return f"```{{raw}} html\n{html}\n```\n"
