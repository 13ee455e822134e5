"""A JupyterLab for a browser to look at."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from book.browser import free_port, process, wait_for

ROOT = Path(__file__).parents[2]


@contextmanager
def jupyter_lab(folder: Path, cells: list[str]) -> Iterator[str]:
    """The address of a JupyterLab that runs in `folder` and shows a notebook of these cells."""
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}
    notebook["metadata"] = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    notebook["cells"] = [{**empty, "id": f"cell{i}", "source": source} for i, source in enumerate(cells)]
    (folder / "page.ipynb").write_text(json.dumps(notebook))
    port, own = free_port(), {f"JUPYTER_{k}_DIR": str(folder / f".{k}") for k in ("CONFIG", "DATA", "RUNTIME")}
    options = ["--no-browser", f"--ServerApp.port={port}", "--IdentityProvider.token=key", "--allow-root"]
    options += ["--ServerApp.port_retries=0", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None"]
    environment = {**os.environ, **own, "PYTHONPATH": str(ROOT)}
    with process([sys.executable, "-m", "jupyterlab", *options], cwd=folder, env=environment):

        def ready() -> bool:
            with urlopen(f"http://127.0.0.1:{port}/api/status?token=key") as answer:
                return answer.status == 200

        wait_for(ready)
        yield f"http://127.0.0.1:{port}/lab/tree/page.ipynb?token=key"
