"""The floors of the package: what imports what, and the drawing of it."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from book import diagram

ROOT = Path(__file__).parents[1]


def test_contracts_on_imports_are_kept():
    code = "from importlinter.cli import lint_imports; import sys; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_eleven_rooms_and_a_door():
    graph = diagram.imports()
    assert len(graph) == 12 and graph["core"] == set() and graph["viz"] == {"core", "data"}


def test_floors_and_arrows_of_a_small_house():
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert diagram.floors(graph) == {"c": 0, "b": 1, "a": 2}
    assert diagram.reduced(graph) == {("a", "b"), ("b", "c")}
    with pytest.raises(ValueError, match="a, b"):
        diagram.floors({"a": {"b"}, "b": {"a"}, "c": set()})


def test_drawing_has_every_room_once(tmp_path):
    diagram.write(tmp_path)
    tree = ElementTree.parse(tmp_path / "rooms.svg")
    names = [text.text for text in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert sorted(names) == sorted(diagram.imports())
    assert (tmp_path / "rooms.md").read_text().count("\n") == 2 + len(names) - 1


PATHS = {
    "wsis/methods/bestie/verbs.py": ("pseudo_labels", "batch.points"),
    "wsis/methods/bestie/labels.py": ("point_labels", "unbind"),
    "wsis/methods/exits/config.py": ("tau_fg", "tau_bg"),
    "wsis/methods/exits/labels.py": ("threshold", "select"),
    "wsis/weak/sources.py": ("open_data",),
}


def test_paths_for_newcomers_lead_where_contributing_says():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for path, names in PATHS.items():
        source = (ROOT / path).read_text()
        assert f"`{path}`" in text and all(name in text and name in source for name in names), path
