"""The requirements agree with each other; marked slow, the wheel holds what it needs and works by itself."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [Requirement(r) for r in [*PROJECT["dependencies"], *sum(EXTRAS.values(), [])]]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split("\n") if line and line[0] != "#")


def test_every_direct_requirement_is_pinned_within_its_range():
    wrong = [str(r) for r in DIRECT if r.name not in PINS or PINS[r.name] not in r.specifier]
    assert not wrong


def test_conda_environment_installs_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["dependencies"][-1] == {"pip": ["-c constraints.txt", "-e .[photos,book,dev]"]}
    (python,) = [d for d in environment["dependencies"] if str(d).startswith("python=")]
    assert python.removeprefix("python=") in PROJECT["requires-python"]


def test_citation_and_changelog_know_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]
    assert re.search(r"^## (Unreleased|\d)", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_package_imports_none_of_the_books_packages():
    """A GPU image with torch and pycocotools is enough to train."""
    code = "import sys, pkgutil, wsis\nfor m in pkgutil.walk_packages(wsis.__path__, 'wsis.'):\n"
    code += "    if not m.name.endswith('__main__'): __import__(m.name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"jupytext", "papermill", "jupyter_book", "sphinx", "nbformat", "plotly", "pytest"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_wheel_holds_what_it_needs_and_works_by_itself(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    source = tmp_path / "source"  # a build leaves files behind
    shutil.copytree(ROOT / "wsis", source / "wsis", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("wsis-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(p.relative_to(ROOT)) for kind in ("*.py", "*.yaml") for p in (ROOT / "wsis").rglob(kind)}
    weights = {str(p.relative_to(ROOT)) for p in (ROOT / "wsis" / "models" / "shipped").glob("*.*")}
    assert sources | weights | {"wsis/py.typed", "wsis/viz/canvas.js"} <= names
    assert not [n for n in names if n.startswith(("tests", "book", "notebooks", "benchmarks"))]

    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    site = tmp_path / "venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    zipfile.ZipFile(wheel).extractall(site)
    here = [p for p in sys.path if p.endswith("site-packages")]
    (site / "libraries.pth").write_text("\n".join(here))  # torch and the rest, but not the checkout
    python = tmp_path / "venv" / "bin" / "python"
    code = "import wsis; from wsis.__main__ import main; print(wsis.__file__)"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout.strip() == str(site / "wsis" / "__init__.py"), done.stderr
