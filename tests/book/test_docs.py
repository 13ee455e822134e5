"""What the pages name exists: commands, citations, fidelity entries, settings, results, chapters."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from book import build, pages
from wsis.__main__ import app
from wsis.core.config import flatten
from wsis.methods import attentionshift, bestie, exits, simformer

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(ROOT / "book").glob("*.md"),
    *(ROOT / "book" / "decisions").glob("*.md"),
]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
SOURCES = sorted((ROOT / "wsis").rglob("*.py"))
TEXTS = {p.relative_to(ROOT).as_posix(): p.read_text() for p in [*PAGES, *NOTEBOOKS]}
BIB = set(re.findall(r"^@\w+\{([^,]+),", (ROOT / "book" / "references.bib").read_text(), re.M))
FIDELITY = re.findall(r"^\(fidelity:(\S+)\)=\n#### (\S+)$", (ROOT / "book" / "fidelity.md").read_text(), re.M)


def mentions(pattern):
    """Each match of the pattern's group in the pages and notebooks, with the name of its file."""
    return [(name, match) for name, text in TEXTS.items() for match in re.findall(pattern, text, re.M)]


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    offenders = [m for m in mentions(r"(?:`|^)(?:\w+=\w+ )?make ([a-z]+)") if m[1] not in targets]
    assert not offenders, offenders


def test_files_of_the_repository_that_are_named_exist():
    paths = mentions(r"`((?:book|notebooks|wsis|tests|benchmarks)/[\w./-]*)`")
    offenders = [(name, path) for name, path in paths if not (ROOT / path).exists()]
    assert not offenders, offenders


def test_citations_are_in_the_bibliography():
    cited = {
        k.strip() for t in TEXTS.values() for c in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", t) for k in c.split(",")
    }
    for path in SOURCES:
        cited |= set(re.findall(r'(?:cite|CITE) ?= ?"([^"]+)"', path.read_text()))
    assert cited and cited - BIB == set()


def test_code_of_the_pages_fits_their_column():
    pages = {name: text for name, text in TEXTS.items() if name.startswith("book/") and name.endswith(".md")}
    blocks = [
        (name, b)
        for name, text in pages.items()
        for b in re.findall(r"^```(?:bash|python|json)\n(.*?)^```", text, re.M | re.S)
    ]
    assert [(name, line) for name, block in blocks for line in block.splitlines() if len(line) > 92] == []


def test_headings_skip_no_level():
    """Sphinx would warn, and a warning fails the build of the book: here it is found without one."""
    offenders = []
    for name, text in TEXTS.items():
        start = "# " if name.endswith(".py") else ""  # of a notebook's markdown cells
        outside = re.sub(rf"(?ms)^{start}(`{{3,}}).*?^{start}\1", "", text)
        headings = re.findall(rf"^{start}(#+) (.+)$", outside, re.M)
        offenders += [
            (name, words)
            for (above, _), (here, words) in zip(headings, headings[1:], strict=False)
            if len(here) > len(above) + 1
        ]
    assert offenders == []


def test_the_python_of_the_readme_runs():
    names = {}
    exec(re.findall(r"^## In Python.*?^```python\n(.*?)^```", TEXTS["README.md"], re.M | re.S)[0], names)
    assert [len(found) for found in names["instances"]] == [len(names["data"].train[i].points) for i in range(4)]
    assert any(p.grad is not None for p in names["model"].parameters())


def test_terms_are_in_the_glossary():
    glossary = re.findall(r"^([^\s`#].*)\n    ", TEXTS["book/glossary.md"], re.M)
    used = [(name, re.sub(r"(?s).*<(.*)>", r"\1", words)) for name, words in mentions(r"\{term\}`([^`]+)`")]
    assert glossary and [use for use in used if use[1] not in glossary] == []


def test_fidelity_labels_and_headings_agree():
    assert FIDELITY and [label for label, heading in FIDELITY if label != heading] == []


def test_fidelity_ids_of_code_and_pages_have_an_entry():
    used = {}
    for path in [*SOURCES, *NOTEBOOKS]:
        for entry in re.findall(r"fidelity:([\w-]+)", path.read_text()):
            used[entry] = path.name
    assert {e: used[e] for e in used.keys() - {label for label, _ in FIDELITY}} == {}


def test_switches_of_the_fidelity_page_are_settings():
    lines = re.findall(r"^Switch\n: (.*)$", (ROOT / "book" / "fidelity.md").read_text(), re.M)
    named = {s for line in lines for s in re.findall(r"`([^`]+)`", line)}
    settings = {k: v for m in (bestie, exits, attentionshift, simformer) for k, v in flatten(m.FULL).items()}
    groups = {key[: -len(part)] for key in settings for part in [key.split(".")[-1]]}
    assert {s for s in named if s not in settings and f"{s}." not in groups} == set()


def test_results_files_are_well_formed():
    results = {path.stem: pages.load(path) for path in sorted((ROOT / "book" / "results").glob("*.json"))}
    assert results
    offenders = [name for name, result in results.items() if not result["provenance"]]
    assert not offenders, offenders
    offenders = [
        (name, row["name"], metric)
        for name, result in results.items()
        for row in result["rows"]
        for metric, value in row["ours"].items()
        if len(value["values"]) != row["n"] or value["mean"] != pytest.approx(sum(value["values"]) / row["n"])
    ]
    assert not offenders, offenders


def test_contents_list_exactly_what_there_is():
    assert [f"{n}.py" for n in build.chapters()] == [p.name for p in NOTEBOOKS]
    documents = [d for d in build.documents() if not d.startswith("chapters/")]
    assert [d for d in documents if not (ROOT / "book" / f"{d}.md").exists()] == []


def test_command_lines_are_accepted():
    offenders = []
    for name, text in TEXTS.items():
        text = re.sub(r"\\\n(?:# )?\s*", "", text)
        for line in re.findall(r"^(?:# )?(?:\S*python|torchrun .*) -m wsis ([^`\n]+)$", text, re.M):
            try:
                command, words = typer.main.get_command(app), shlex.split(line)
                while hasattr(command, "commands"):
                    command, *words = command.commands[words[0]], *words[1:]
                command.make_context(command.name, words)
            except Exception as error:  # an unknown command or option, or a wrong value
                offenders.append((name, line, repr(error)))
    assert not offenders, offenders
