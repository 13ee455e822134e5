"""Settings: each has a source, SMALL and TINY are the same algorithm, misspelt names and wrong values are told."""

import dataclasses
import importlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from wsis.core.config import changed, fingerprint, flatten, ours, paper, sources
from wsis.core.errors import ConfigError
from wsis.data.world import WorldConfig
from wsis.methods import METHODS
from wsis.training.schedule import Schedule

BIBLIOGRAPHY = Path(__file__).parents[2] / "book" / "references.bib"
METHOD_CONFIGS = [importlib.import_module(f"wsis.methods.{name}") for name in METHODS]


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = paper(0.5, "Table 1", unit="1 / s")
    decay: float = paper(0.1, "Sec. 2", cite="jones2021")
    steps: int = ours(10, "short", scales=True)


@dataclass(frozen=True, kw_only=True)
class Outer:
    CITE: ClassVar[str] = "smith2020"
    inner: Inner = Inner()
    scheduled: Inner = paper(Inner(steps=99), "Table 2")
    kind: Literal["a", "b"] = ours("a", "first")
    on: bool = ours(True, "on")
    name: str = ours("x", "short")
    pair: tuple[float, ...] = ours((1.0, 2.0), "two")
    span: tuple[float, float] = ours((0.0, 1.0), "two")
    limit: int | None = ours(None, "no limit")


def test_every_setting_names_its_source():
    configs = [*(m.FULL for m in METHOD_CONFIGS), Schedule(), WorldConfig()]
    rows = [(type(c).__name__, row["name"], row["source"]) for c in configs for row in sources(c)]
    assert [row for row in rows if not re.fullmatch(r"(ours: |\w+\d{4}\w+, ).+", row[-1], re.DOTALL)] == []


def test_cited_keys_are_in_the_bibliography():
    known = set(re.findall(r"@\w+\{(\w+),", BIBLIOGRAPHY.read_text()))
    cited = {row["source"].split(", ")[0] for m in METHOD_CONFIGS for row in sources(m.FULL)}
    cited = {key for key in cited if not key.startswith("ours: ")}
    assert cited <= known
    assert cited


@pytest.mark.parametrize("scale", ["SMALL", "TINY"])
def test_smaller_scales_are_the_same_algorithm(scale):
    offenders = {}
    for method in METHOD_CONFIGS:
        full, small = flatten(method.FULL), flatten(getattr(method, scale))
        scales = {row["name"] for row in sources(method.FULL) if row["scales"]}
        differing = {name for name in full if full[name] != small[name]}
        if not differing or differing - scales:
            offenders[method.__name__] = sorted(differing - scales) or f"{scale} is as large as FULL"
    assert not offenders, offenders


POWERS = {"px": 1, "px²": 2, "1 / px": -1}  # of the images' side
# Few steps leave the place of a center, and what is typical of a class, less certain than the papers' schedules do.
UNCERTAIN = {"bestie.sigma", "bestie.center_kernel", "bestie.cues.kernel"}
FIXED = {
    # Clustered centers hardly change a result: the thresholds stay those of full scale, which are about a pixel.
    *("bestie.cluster.threshold", "bestie.cluster.area", "bestie.cluster.tolerance")
}


@pytest.mark.parametrize("scale", ["SMALL", "TINY"])
def test_what_has_a_unit_scales_with_the_image(scale):
    """To a factor of three, since a length has to stay above the stride of the maps; of seven, where places are uncertain."""
    offenders = {}
    for method in METHOD_CONFIGS:
        preset, rows = getattr(method, scale), sources(method.FULL)
        values, small, shrink = flatten(method.FULL), flatten(preset), preset.image_side / method.FULL.image_side
        for name, unit in ((row["name"], row["unit"].partition(" of ")[0].partition(",")[0]) for row in rows):
            key = f"{method.__name__.split('.')[-1]}.{name}"
            if (
                unit in POWERS
                and key not in FIXED
                and isinstance(values[name], (int, float))
                and values[name]
                and small[name]
            ):
                factor = small[name] / values[name] / shrink ** POWERS[unit]
                if abs(math.log(factor)) > abs(POWERS[unit]) * math.log(7 if key in UNCERTAIN else 3):
                    offenders[key] = round(factor, 2)
    assert not offenders, offenders


def test_changed_reaches_into_groups():
    config = changed(Outer(), kind="b", inner__rate=2, **{"inner.steps": 3})
    assert flatten(config)["inner.rate"] == 2.0
    assert isinstance(config.inner.rate, float)
    assert (config.inner.steps, config.kind, config.scheduled) == (3, "b", Inner(steps=99))


def test_text_of_the_command_line_is_parsed():
    cases = [
        ("inner.rate", "1e-3", 1e-3),
        ("inner.steps", "12", 12),
        ("on", "false", False),
        ("kind", "b", "b"),
        ("name", "12", "12"),
        ("pair", "[0.5, 3]", (0.5, 3.0)),
        ("pair", "[]", ()),
        ("inner.rate", ".5", 0.5),
        ("pair", "[-.5, 3]", (-0.5, 3.0)),
        ("name", "a.5", "a.5"),
        ("limit", "5", 5),
        ("limit", "null", None),
    ]
    parsed = [(name, text, flatten(changed(Outer(), **{name: text}))[name]) for name, text, _ in cases]
    assert parsed == cases
    assert [type(value) for *_, value in parsed] == [type(value) for *_, value in cases]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("knid", "a", "kind"),
        ("inner.stesp", 1, "steps"),
        ("kind", "c", "'a' or 'b'"),
        ("kind", 3, "'a' or 'b'"),
        ("inner", 3, "inner.rate"),
        ("name.x", 3, "single value"),
        ("inner.steps", "many", "int"),
        ("inner.steps", 1.5, "int"),
        ("inner.steps", True, "int"),
        ("on", 1, "bool"),
        ("pair", "0.5", "array"),
        ("pair", '["a"]', "number"),
        ("span", [1, 2, 3], "at most 2 items"),
    ],
)
def test_wrong_names_and_values_are_explained(name, value, message):
    with pytest.raises(ConfigError, match=message) as raised:
        changed(Outer(), **{name: value})
    assert name in str(raised.value)


def test_settings_of_a_group_may_be_given_together():
    assert changed(Outer(), inner={"rate": 2, "steps": 3}) == changed(Outer(), inner__rate=2.0, inner__steps=3)
    with pytest.raises(ConfigError, match=r"'inner\.stesp'; did you mean steps"):
        changed(Outer(), inner={"stesp": 3})


def test_changed_leaves_the_original():
    original = Outer()
    changed(original, on=False)
    assert original == Outer()


def test_fingerprint_changes_with_any_setting():
    config, same = METHOD_CONFIGS[0].FULL, []
    for name in flatten(config):
        path, leaf = name.split(".")[:-1], name.split(".")[-1]
        groups = [config]
        for part in path:
            groups.append(getattr(groups[-1], part))
        other = dataclasses.replace(groups[-1], **{leaf: "something else"})
        for group, part in zip(reversed(groups[:-1]), reversed(path), strict=True):
            other = dataclasses.replace(group, **{part: other})
        if fingerprint(config) == fingerprint(other):
            same.append(name)
    assert same == []


def test_fingerprint_is_stable():
    assert fingerprint(Outer(), "a", {"b": 1}) == fingerprint(Outer(), "a", {"b": 1})
    assert re.fullmatch("[0-9a-f]{12}", fingerprint(Outer()))


def test_sources_has_one_row_per_setting():
    rows = {row["name"]: row for row in sources(changed(Outer(), **{"inner.steps": 3}))}
    assert list(rows) == list(flatten(Outer()))
    rate = ("inner.rate", "0.5", "1 / s", "smith2020, Table 1", "")
    assert rows["inner.rate"] == dict(zip(("name", "value", "unit", "source", "scales"), rate, strict=True))
    assert rows["inner.decay"]["source"] == "jones2021, Sec. 2"
    assert rows["inner.steps"]["source"] == "10 at full scale (ours: short)"
    assert rows["scheduled.steps"]["source"] == "smith2020, Table 2"
    assert rows["scheduled.steps"]["scales"] == "yes"


def test_presets_survive_json():
    presets = [
        (m.__name__, scale, m.FULL, getattr(m, scale)) for m in METHOD_CONFIGS for scale in ("FULL", "SMALL", "TINY")
    ]
    offenders = [(name, scale) for name, scale, full, p in presets if changed(full, **flatten(p)) != p]
    assert not offenders, offenders
