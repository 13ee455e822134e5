"""The rules that every chapter keeps, read from its source; marked slow, its execution."""

import ast
import importlib.util
import re
import sys
import types

import pytest

from book import execute

CHAPTERS = sorted(p.stem for p in execute.NOTEBOOKS.glob("*.py"))
PARAMETERS = {"scale": "tiny", "data": "world", "seed": 0, "device": "auto"}
IMPORTS = {"wsis", "torch", "matplotlib", "numpy", "IPython", "myst_nb"} | set(sys.stdlib_module_names)
FIGURES = {"show", "scrub", "explore", "training_curves"}  # of wsis.viz
LINES, PLOT_LINES = 15, 6

pytestmark = pytest.mark.parametrize("name", CHAPTERS)


def cells(name, kind):
    return [c for c in execute.read(name).cells if c.cell_type == kind]


def tags(cell):
    return cell.metadata.get("tags", [])


def draws(cell):
    """Whether a code cell shows a figure."""
    called = [ast.unparse(n.func) for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Call)]
    return any(re.match(r"plt\.(?!rc)", name) or name.split(".")[-1] in FIGURES for name in called)


def test_starts_with_a_title_and_then_the_parameters(name):
    first, second = execute.read(name).cells[:2]
    assert first.cell_type == "markdown" and re.match(r"# \S.*\n\n\S", first.source)
    assert "parameters" in tags(second)


def test_names_the_kernel_that_runs_it(name):
    assert execute.read(name).metadata["kernelspec"]["name"] == "python3"  # else JupyterLab asks the reader


def test_has_the_parameters_that_every_chapter_has(name):
    (cell,) = [c for c in cells(name, "code") if "parameters" in tags(c)]
    values = {s.targets[0].id: ast.literal_eval(s.value) for s in ast.parse(cell.source).body}
    assert values == PARAMETERS


def test_code_is_python_in_short_cells(name):
    for cell in cells(name, "code"):
        ast.parse(cell.source)
        assert len([line for line in cell.source.splitlines() if line.strip()]) <= LINES, cell.source


def test_defines_nothing_but_short_plot_functions(name):
    for cell in cells(name, "code"):
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, (ast.ClassDef, ast.AsyncFunctionDef)), cell.source
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < PLOT_LINES, cell.source


def test_imports_only_what_a_reader_has(name):
    for cell in cells(name, "code"):
        for node in ast.walk(ast.parse(cell.source)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {n.split(".")[0] for n in names} <= IMPORTS, cell.source


def test_what_it_takes_from_the_package_exists(name):
    """Names of wsis that a chapter imports, and those that it reads off imported modules; no cell is run."""
    tree = ast.parse("\n".join(c.source for c in cells(name, "code")))
    modules, missing = {}, []
    for node in (n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module.startswith("wsis")):
        for alias in node.names:
            found = getattr(importlib.import_module(node.module), alias.name, None)
            if found is None and importlib.util.find_spec(f"{node.module}.{alias.name}"):
                found = importlib.import_module(f"{node.module}.{alias.name}")
            missing += [f"{node.module}.{alias.name}"] * (found is None)
            if isinstance(found, types.ModuleType | types.FunctionType):
                modules[alias.asname or alias.name] = found
    for node in (n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)):
        module = modules.get(node.value.id)
        missing += [f"{node.value.id}.{node.attr}"] * (module is not None and not hasattr(module, node.attr))
    assert not missing


def test_every_figure_is_followed_by_what_to_see_in_it(name):
    all_cells = execute.read(name).cells
    for cell, after in zip(all_cells, [*all_cells[1:], None], strict=True):
        if cell.cell_type == "code" and "solution" not in tags(cell) and draws(cell):
            assert after and after.source.startswith("**Takeaway.**"), cell.source


def test_every_exercise_has_a_solution(name):
    text = "\n".join(c.source for c in cells(name, "markdown"))
    exercises = re.findall(r"\{exercise(?:-start)?\}.*\n:label: (\S+)", text)
    solutions = re.findall(r"\{solution(?:-start)?\} (\S+)", text)
    assert sorted(exercises) == sorted(solutions)
    assert len(re.findall(r"\{exercise(?:-start)?\}", text)) == len(exercises), "an exercise has no label"


def test_links_lead_to_chapters_and_pages(name):
    text = "\n".join(c.source for c in cells(name, "markdown"))
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text):
        assert (execute.NOTEBOOKS / target).exists(), f"{target}: link to a .py beside it or to ../book/..."


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runs_from_top_to_bottom(name, tmp_path):
    execute.run(name, {"scale": "tiny"}, tmp_path / f"{name}.ipynb", cell_limit=execute.CELL_LIMIT)
