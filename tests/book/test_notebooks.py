"""The rules that every chapter keeps, read from its source; marked slow, its execution."""

import ast
import functools
import importlib.util
import inspect
import re
import sys
import types

import jupytext
import pytest

from book import execute
from wsis.data.checks import read_coco

CHAPTERS = sorted(p.stem for p in execute.NOTEBOOKS.glob("*.py"))
PARAMETERS = {"scale": "tiny", "data": "world", "seed": 0, "device": "auto"}
OTHERS = {"60_your_data": PARAMETERS | {"scale": "small", "data": "photographs", "method": "exits"}}
IMPORTS = {"wsis", "torch", "matplotlib", "numpy", "PIL", "skimage", "pycocotools"} | set(sys.stdlib_module_names)
IMPORTS |= {"IPython", "myst_nb", "plotly"}
FIGURES = {"show", "scrub", "explore", "record", "training_curves"}  # of wsis.viz
LINES, FOLDED, PLOT_LINES = 15, 40, 6  # of a cell, of one that the page folds, of a function
WIDTH = 92  # columns of code that a page of 1280 px has room for

read = functools.cache(execute.read)


def cells(kind):
    """The cells of this kind, with the names of their chapters."""
    return [(name, c) for name in CHAPTERS for c in read(name).cells if c.cell_type == kind]


@functools.cache
def nodes():
    """The syntax nodes of all code cells, with the names of their chapters."""
    return [(name, node) for name, cell in cells("code") for node in ast.walk(ast.parse(cell.source))]


def text(name):
    return "\n".join(c.source for c in read(name).cells if c.cell_type == "markdown")


def tags(cell):
    return cell.metadata.get("tags", [])


def draws(cell):
    """Whether a code cell shows a figure."""
    called = [ast.unparse(n.func) for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Call)]
    return any(re.match(r"plt\.(?!rc)", name) or name.split(".")[-1] in FIGURES for name in called)


def is_python(source):
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def resolve(module, name):
    """The object or submodule that `from module import name` binds, or None."""
    try:
        parent = importlib.import_module(module)
        return getattr(parent, name) if hasattr(parent, name) else importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return None


def test_starts_with_a_title_and_then_the_parameters():
    starts = {name: read(name).cells[:2] for name in CHAPTERS}
    titles = {name for name, (first, *_) in starts.items() if re.match(r"# \S.*\n\n\S", first.source)}
    offenders = [n for n, (first, *_) in starts.items() if first.cell_type != "markdown" or n not in titles]
    assert not offenders, offenders
    offenders = [n for n, (_, *second) in starts.items() if not second or "parameters" not in tags(second[0])]
    assert not offenders, offenders


def test_names_the_kernel_that_runs_it():
    sources = {name: jupytext.read(execute.NOTEBOOKS / f"{name}.py", fmt="py:percent") for name in CHAPTERS}
    offenders = [
        n for n, notebook in sources.items() if notebook.metadata.get("kernelspec", {}).get("name") != "python3"
    ]
    assert not offenders, offenders  # JupyterLab would ask the reader for a kernel


def test_has_the_parameters_that_every_chapter_has():
    values = {name: [] for name in CHAPTERS}
    for name, cell in cells("code"):
        if "parameters" in tags(cell):
            values[name].append(sorted(ast.unparse(ast.parse(cell.source)).splitlines()))
    wanted = {name: OTHERS.get(name, PARAMETERS) for name in CHAPTERS}
    expected = {name: [sorted(f"{key} = {value!r}" for key, value in wanted[name].items())] for name in CHAPTERS}
    offenders = {name: lines for name, lines in values.items() if lines != expected[name]}
    assert not offenders, offenders


def test_code_is_python_in_short_cells():
    sources = [(name, cell.source) for name, cell in cells("code")]
    offenders = [(name, source) for name, source in sources if not is_python(source)]
    assert not offenders, offenders
    limits = [FOLDED if "hide-input" in tags(cell) else LINES for _, cell in cells("code")]
    lengths = [len([line for line in source.splitlines() if line.strip()]) for _, source in sources]
    offenders = [s for s, length, most in zip(sources, lengths, limits, strict=True) if length > most]
    assert not offenders, offenders


def test_what_the_page_folds_is_folded_in_jupyterlab():
    folded = [
        (n, c)
        for n, c in cells("code")
        if {"hide-input", "solution"} & set(tags(c)) and not execute.only_imports(c.source)
    ]
    assert folded
    offenders = [(n, c.source[:60]) for n, c in folded if not c.metadata.get("jupyter", {}).get("source_hidden")]
    assert not offenders, offenders


def test_defines_nothing_but_short_plot_functions():
    definitions = [(n, d) for n, d in nodes() if isinstance(d, ast.ClassDef | ast.AsyncFunctionDef | ast.FunctionDef)]
    offenders = [
        (name, node.name)
        for name, node in definitions
        if not isinstance(node, ast.FunctionDef) or node.end_lineno - node.lineno >= PLOT_LINES
    ]
    assert not offenders, offenders


def test_imports_only_what_a_reader_has():
    modules = [(name, alias.name) for name, node in nodes() if isinstance(node, ast.Import) for alias in node.names]
    modules += [(name, node.module) for name, node in nodes() if isinstance(node, ast.ImportFrom)]
    offenders = [(name, module) for name, module in modules if module.split(".")[0] not in IMPORTS]
    assert not offenders, offenders


@functools.cache
def imported():
    """{(chapter, name): what it imports under this name from wsis}, and what is not there."""
    found, missing = {}, []
    for name, node in nodes():
        if isinstance(node, ast.ImportFrom) and node.module.startswith("wsis"):
            for alias in node.names:
                value = resolve(node.module, alias.name)
                missing += [(name, f"{node.module}.{alias.name}")] * (value is None)
                if isinstance(value, types.ModuleType | types.FunctionType):
                    found[name, alias.asname or alias.name] = value
    return found, missing


def test_what_it_takes_from_the_package_exists():
    """Names of wsis that a chapter imports, and those that it reads off imported modules; no cell is run."""
    modules, missing = imported()
    for name, node in nodes():
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get((name, node.value.id))
            missing = missing + [(name, ast.unparse(node))] * (module is not None and not hasattr(module, node.attr))
    assert not missing, missing


def test_functions_of_the_package_take_what_they_are_given():
    known, offenders = imported()[0], []
    own = {(name, n.name) for name, n in nodes() if isinstance(n, ast.FunctionDef)}
    for name, node in (pair for pair in nodes() if isinstance(pair[1], ast.Call)):
        first, _, rest = ast.unparse(node.func).partition(".")
        value = None if (name, first) in own else known.get((name, first))
        for part in rest.split(".") if rest else ():
            value = getattr(value, part, None)
        starred = any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords)
        if isinstance(value, types.FunctionType) and not starred:
            try:
                inspect.signature(value).bind(*node.args, **{k.arg: k.value for k in node.keywords})
            except TypeError as error:
                offenders.append((name, ast.unparse(node), str(error)))
    assert not offenders, offenders


def test_every_listing_exists_and_fits_the_page():
    """A chapter prints functions of the package by their names."""
    listing = re.compile(r"literalinclude\} \.\./\.\./(\S+)\n:pyobject: (\S+)")
    listings = [(name, *found) for name in CHAPTERS for found in listing.findall(text(name))]
    offenders = []
    for name, path, item in listings:
        source = (execute.ROOT / path).read_text()
        body = {n.name: n for n in ast.parse(source).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
        if item not in body:
            offenders.append(f"{name}: {item} is not in {path}")
            continue
        lines = source.splitlines()[body[item].lineno - 1 : body[item].end_lineno]
        offenders += [f"{name}: {path}: {line}" for line in lines if len(line) > WIDTH]
    assert listings and not offenders, "\n".join(offenders)


def test_every_figure_is_followed_by_what_to_see_in_it():
    offenders = []
    for name in CHAPTERS:
        all_cells = read(name).cells
        for cell, after in zip(all_cells, [*all_cells[1:], None], strict=True):
            figure = cell.cell_type == "code" and "solution" not in tags(cell) and draws(cell)
            if figure and not (after and after.source.startswith("**Takeaway.**")):
                offenders.append((name, cell.source))
    assert not offenders, offenders


def test_every_exercise_has_a_solution():
    exercises = {n: re.findall(r"\{exercise(?:-start)?\}.*\n:label: (\S+)", text(n)) for n in CHAPTERS}
    solutions = {n: re.findall(r"\{solution(?:-start)?\} (\S+)", text(n)) for n in CHAPTERS}
    offenders = [(n, exercises[n], solutions[n]) for n in CHAPTERS if sorted(exercises[n]) != sorted(solutions[n])]
    assert not offenders, offenders
    count = {n: len(re.findall(r"\{exercise(?:-start)?\}", text(n))) for n in CHAPTERS}
    offenders = [n for n in CHAPTERS if count[n] != len(exercises[n])]
    assert not offenders, f"an exercise has no label: {offenders}"


def test_links_lead_to_chapters_and_pages():
    links = [(name, link) for name in CHAPTERS for link in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text(name))]
    offenders = [(name, link) for name, link in links if not (execute.NOTEBOOKS / link).exists()]
    assert not offenders, f"link to a .py beside it or to ../book/...: {offenders}"


def test_the_clicks_on_the_photographs_are_sound():
    coco, dropped = read_coco(execute.NOTEBOOKS / "60_your_data.json")
    assert len(coco["images"]) == 10 and not dropped
    assert all({"point", "extreme_points"} <= annotation.keys() for annotation in coco["annotations"])


@pytest.mark.parametrize("name", CHAPTERS)
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runs_from_top_to_bottom(name, tmp_path):
    execute.run(name, {}, tmp_path / f"{name}.ipynb", cell_limit=execute.CELL_LIMIT)
