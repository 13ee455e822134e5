"""A Sphinx extension: no page asks a network for anything.

Formulas are set by the MathJax that a Python package carries, figures that can be turned by plotly's own copy of its script;
both are copied beside the pages. Thebe, which the theme loads from elsewhere to run code in the page, is left out.
"""

import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

MATHJAX = ("tex-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")


def without_thebe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Take Thebe's scripts from a page."""
    scripts = context.get("script_files", [])
    context["script_files"] = [s for s in scripts if "thebe" not in f"{s.filename} {s.attributes.get('body')}".lower()]


def add_scripts(app: Sphinx, error: Exception | None) -> None:
    """Copy the scripts of MathJax and plotly to where the pages look for them."""
    static = Path(app.outdir) / "_static"
    if error or not static.exists():
        return
    with as_file(files("mathjax") / "static" / "mathjax" / "es5") as source:
        for name in MATHJAX:
            copy(source / name, static / "mathjax" / name)
    with as_file(files("plotly") / "package_data" / "plotly.min.js") as source:
        copy(source, static / "plotly.min.js")


def copy(source: Path, target: Path) -> None:
    """A file, or all of a folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


def write_one_page(app: Sphinx) -> None:
    """Let the builder of one page (book/pdf.py) write all that HTML can: extensions that name it hide those that do not."""
    handlers = app.registry.translation_handlers
    handlers["singlehtml"] = handlers["html"] | handlers.get("singlehtml", {})


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write_one_page)
    app.connect("html-page-context", without_thebe, priority=900)
    app.connect("build-finished", add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
