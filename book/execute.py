"""Run a chapter: notebooks/<name>.py -> an executed notebook.

    python -m book.execute 12_bestie_training -f notebooks/recipes/bestie-voc.yaml -o runs/bestie-voc.ipynb

The options are papermill's; the names of the parameters are checked first, which papermill leaves out. The
book uses `cached`, which runs a chapter again only when its source, the package or a shipped file changed.
"""

import argparse
import ast
import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import papermill
import yaml
from nbformat import NotebookNode

from wsis.core.errors import ConfigError
from wsis.experiments.environment import hardware

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
BUILD = ROOT / "build"
CELL_LIMIT = 600  # seconds, for one cell of a chapter at tiny scale
INSTALL = """\
import importlib.util

if importlib.util.find_spec("wsis") is None:
    !git clone -q --depth 1 https://github.com/wsis/wsis
    %cd -q wsis/notebooks
    %pip install -q "..[book]"
"""


def read(name: str) -> NotebookNode:
    """The notebook of chapter `name`, not executed. Raises FileNotFoundError when there is none."""
    notebook = jupytext.read(NOTEBOOKS / f"{name}.py", fmt="py:percent")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for cell in notebook.cells:
        if cell.cell_type == "code" and only_imports(cell.source):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]  # closed on the page
    return notebook


def only_imports(source: str) -> bool:
    """Whether a cell imports names, sets the style of figures, and does nothing else."""
    lines = [ast.unparse(statement) for statement in ast.parse(source).body]
    return any(" import " in f" {line}" for line in lines) and all(
        line.startswith(("import ", "from ", "plt.rcParams.update(")) for line in lines
    )


def check_parameters(name: str, notebook: NotebookNode, parameters: dict[str, Any]) -> dict[str, Any]:
    """All parameters of a run, defaults included, as plain values. Raises ConfigError for an unknown name."""
    defaults = papermill.inspect_notebook(notebook)
    for given in parameters:
        if given not in defaults:
            raise ConfigError(f"notebooks/{name}.py has no parameter {given!r}; it has {', '.join(defaults)}")
    return {k: yaml.safe_load(v["default"]) for k, v in defaults.items()} | parameters


def run(
    name: str, parameters: dict[str, Any], out: Path, cell_limit: int | None = None, stream: bool = False
) -> NotebookNode:
    """Execute chapter `name` with `parameters`, from the folder notebooks/, as JupyterLab does.

    The notebook is saved to `out` also when a cell fails. Raises ConfigError (unknown parameter) and
    papermill.PapermillExecutionError, which carries the cell and its traceback.
    """
    notebook = read(name)
    values = check_parameters(name, notebook, parameters)
    os.environ.setdefault("OMP_NUM_THREADS", str(cores()))
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # the kernel of this environment, not one of the user's
    out.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    done = papermill.execute_notebook(
        notebook,
        out.resolve(),
        parameters,
        kernel_name="python3",
        cwd=NOTEBOOKS,
        progress_bar=False,
        log_output=stream,
        execution_timeout=cell_limit,
        extra_arguments=["--IPKernelApp.log_level=40"],  # only errors on the terminal
    )
    _finish(done, values, time.perf_counter() - started)
    nbformat.write(done, out)
    return done


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _finish(notebook: NotebookNode, values: dict[str, Any], seconds: float) -> None:
    """Make the executed notebook a page: what ran, and how long, stands under the title; papermill's marks go."""
    notebook.metadata.pop("papermill", None)
    notebook.metadata.pop("jupytext", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        tags = cell.metadata.get("tags", [])
        if {"parameters", "injected-parameters"} & set(tags):
            cell.metadata["tags"] = [*tags, "remove-cell"]
    ran = ", ".join(f"{k} `{v}`" for k, v in values.items() if k != "device")
    threads = int(os.environ.get("OMP_NUM_THREADS", cores()))
    on = hardware(values.get("device", "auto"))
    notebook.metadata["run"] = {"with": ran, "seconds": round(seconds, 1), "threads": threads, "on": on}
    note = f"*This page was run with {ran} in {_duration(seconds)} ([run times](../book/run_times.md)).*"
    notebook.cells[0].source += f"\n\n{note}\n"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":  # in notebooks/ a link leads to a source, in the book to a page
            cell.source = re.sub(r"\]\((\d\w+)\.py", r"](\1.ipynb", cell.source)
            cell.source = re.sub(r"(\]\(|\{image\} )\.\./book/", r"\1../", cell.source)
    install = nbformat.v4.new_code_cell(INSTALL, metadata={"tags": ["remove-cell"]}, id="install")
    notebook.cells.insert(1, install)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"


def cached(name: str, parameters: dict[str, Any]) -> tuple[Path, bool]:
    """The executed chapter `name`, and whether it had to be run for that."""
    key = _key(name, parameters)
    out = BUILD / "cache" / f"{name}-{key}.ipynb"
    if out.exists():
        return out, False
    draft = BUILD / "running" / f"{name}.ipynb"
    run(name, parameters, draft, cell_limit=CELL_LIMIT)
    out.parent.mkdir(parents=True, exist_ok=True)
    for old in out.parent.glob(f"{name}-????????????.ipynb"):
        old.unlink()
    os.replace(draft, out)
    return out, True


def _key(name: str, parameters: dict[str, Any]) -> str:
    """12 hex digits that change with anything that the chapter's outputs depend on."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    package = [p for p in (ROOT / "wsis").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    shipped = [*(ROOT / "book" / "results").glob("*.json"), *(NOTEBOOKS / "recipes").glob("*.yaml")]
    own = [*NOTEBOOKS.glob(f"{name}.*"), Path(__file__), ROOT / "constraints.txt"]
    for path in sorted([*package, *shipped, *own]):
        digest.update(os.path.relpath(path, ROOT).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def main() -> None:
    """The command line at the top of this file."""
    parser = argparse.ArgumentParser(prog="python -m book.execute", description="run a chapter as a notebook")
    parser.add_argument("name", help="a file of notebooks/ without its .py")
    parser.add_argument("-f", "--recipe", type=Path, help="YAML file of parameters, as in notebooks/recipes")
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("-o", "--out", type=Path, required=True, help="where the executed notebook goes")
    args = parser.parse_args()
    parameters = yaml.safe_load(args.recipe.read_text()) if args.recipe else {}
    parameters |= {k: yaml.safe_load(v) for k, v in args.parameter}
    try:
        run(args.name, parameters, args.out, stream=True)
    except (ConfigError, FileNotFoundError) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
