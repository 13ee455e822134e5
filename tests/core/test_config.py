"""Settings: each has a source, TINY is the same algorithm, misspelt names and wrong values are told."""

import dataclasses
import importlib
import re
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Literal

import pytest

from wsis.core.config import changed, fingerprint, flatten, ours, paper, sources, to_dict
from wsis.core.errors import ConfigError
from wsis.data.world import WorldConfig
from wsis.methods import METHODS
from wsis.training.schedule import Schedule

BIBLIOGRAPHY = Path(__file__).parents[2] / "book" / "references.bib"
METHOD_CONFIGS = [importlib.import_module(f"wsis.methods.{name}") for name in METHODS]


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = paper(0.5, cite="smith2020", where="Table 1", unit="1 / s")
    steps: int = ours(10, why="short", scales=True)


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = Inner()
    scheduled: Inner = paper(Inner(steps=99), cite="smith2020", where="Table 2")
    kind: Literal["a", "b"] = ours("a", why="first")
    on: bool = ours(True, why="on")
    name: str = ours("x", why="short")
    pair: tuple[float, ...] = ours((1.0, 2.0), why="two")
    span: tuple[float, float] = ours((0.0, 1.0), why="two")
    limit: int | None = ours(None, why="no limit")


def settings(config, inherited=None):
    """(field, metadata) of every setting, nested ones with their group's source where it has one."""
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            yield from settings(value, dict(f.metadata) or inherited)
        else:
            yield f, f.metadata, inherited


@pytest.mark.parametrize(
    "config", [*(m.FULL for m in METHOD_CONFIGS), Schedule(), WorldConfig()], ids=lambda c: type(c).__name__
)
def test_every_setting_names_its_source(config):
    for f, metadata, _ in settings(config):
        assert metadata, f"{f.name} has neither paper() nor ours()"
        assert ("cite" in metadata and metadata["where"]) or metadata["why"], f.name


def test_cited_keys_are_in_the_bibliography():
    known = set(re.findall(r"@\w+\{(\w+),", BIBLIOGRAPHY.read_text()))
    cited = {
        source["cite"]
        for method in METHOD_CONFIGS
        for _, metadata, group in settings(method.FULL)
        for source in (metadata, group or {})
        if "cite" in source
    }
    assert cited <= known
    assert cited


@pytest.mark.parametrize("method", METHOD_CONFIGS, ids=METHODS)
def test_tiny_is_the_same_algorithm(method):
    full, tiny = flatten(method.FULL), flatten(method.TINY)
    scales = {row["name"] for row in sources(method.FULL) if row["scales"]}
    differing = {name for name in full if full[name] != tiny[name]}
    assert differing <= scales
    assert differing


def test_changed_reaches_into_groups():
    config = changed(Outer(), kind="b", inner__rate=2, **{"inner.steps": 3})
    assert flatten(config)["inner.rate"] == 2.0
    assert isinstance(config.inner.rate, float)
    assert (config.inner.steps, config.kind, config.scheduled) == (3, "b", Inner(steps=99))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("inner.rate", "1e-3", 1e-3),
        ("inner.steps", "12", 12),
        ("on", "false", False),
        ("kind", "b", "b"),
        ("name", "12", "12"),
        ("pair", "[0.5, 3]", (0.5, 3.0)),
        ("pair", "[]", ()),
        ("limit", "5", 5),
        ("limit", "null", None),
    ],
)
def test_text_of_the_command_line_is_parsed(name, text, value):
    found = flatten(changed(Outer(), **{name: text}))[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("knid", "a", "kind"),
        ("inner.stesp", 1, "steps"),
        ("kind", "c", "a, b"),
        ("kind", 3, "a, b"),
        ("inner", 3, "inner.rate"),
        ("name.x", 3, "single value"),
        ("inner.steps", "many", "int"),
        ("inner.steps", 1.5, "int"),
        ("inner.steps", True, "int"),
        ("on", 1, "bool"),
        ("pair", "0.5", "tuple"),
        ("pair", '["a"]', "float"),
        ("span", [1, 2, 3], "tuple"),
    ],
)
def test_wrong_names_and_values_are_explained(name, value, message):
    with pytest.raises(ConfigError, match=message) as raised:
        changed(Outer(), **{name: value})
    assert name in str(raised.value)


def test_changed_leaves_the_original():
    original = Outer()
    changed(original, on=False)
    assert original == Outer()


def test_mutable_defaults_are_refused():
    with pytest.raises(TypeError, match="immutable"):
        ours([1], why="a list")


@pytest.mark.parametrize("name", flatten(METHOD_CONFIGS[0].FULL))
def test_fingerprint_changes_with_any_setting(name):
    config = METHOD_CONFIGS[0].FULL
    path, leaf = name.split(".")[:-1], name.split(".")[-1]
    groups = [config]
    for part in path:
        groups.append(getattr(groups[-1], part))
    other = dataclasses.replace(groups[-1], **{leaf: "something else"})
    for group, part in zip(reversed(groups[:-1]), reversed(path), strict=True):
        other = dataclasses.replace(group, **{part: other})
    assert fingerprint(config) != fingerprint(other)


def test_fingerprint_is_stable():
    assert fingerprint(Outer(), "a", {"b": 1}) == fingerprint(Outer(), "a", {"b": 1})
    assert re.fullmatch("[0-9a-f]{12}", fingerprint(Outer()))


def test_sources_has_one_row_per_setting():
    rows = {row["name"]: row for row in sources(changed(Outer(), **{"inner.steps": 3}))}
    assert list(rows) == list(flatten(Outer()))
    assert rows["inner.rate"] == {
        "name": "inner.rate",
        "value": "0.5",
        "unit": "1 / s",
        "source": "smith2020, Table 1",
        "scales": "",
    }
    assert rows["inner.steps"]["source"] == "10 at full scale (ours: short)"
    assert rows["scheduled.steps"]["source"] == "smith2020, Table 2"
    assert rows["scheduled.steps"]["scales"] == "yes"


@pytest.mark.parametrize("method", METHOD_CONFIGS, ids=METHODS)
def test_presets_survive_json(method):
    for preset in (method.FULL, method.TINY):
        assert changed(method.FULL, **flatten(preset)) == preset
        assert set(to_dict(preset)) == {f.name for f in fields(preset)}
