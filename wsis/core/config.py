"""Settings with sources: every default says which paper it is from, or why we chose it.

    @dataclass(frozen=True, kw_only=True)
    class Config:
        CITE: ClassVar[str] = "kim2022bestie"
        crop_size: int = paper(416, "official main.py", unit="px", scales=True)
        workers: int = ours(4, "saturates two cores")

`CITE` also holds for the groups of settings inside the class that have none of their own. `scales=True` marks what a tiny
run may change (sizes, steps, data, backbone). Everything else is the algorithm, which a test holds equal in FULL and TINY.
"""

import dataclasses
import difflib
import hashlib
import json
import typing
from dataclasses import field, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from wsis.core.errors import ConfigError

Scale = Literal["tiny", "full"]
T = TypeVar("T")


def paper(value: T, where: str, *, unit: str = "", scales: bool = False, cite: str = "") -> T:
    """A dataclass field whose default is published, at the place `where` in the paper `cite`, by default the class's `CITE`."""
    return _field(value, {"cite": cite, "where": where, "unit": unit, "scales": scales})


def ours(value: T, why: str, *, unit: str = "", scales: bool = False) -> T:
    """A dataclass field whose default is our choice, with the reason."""
    return _field(value, {"why": why, "unit": unit, "scales": scales})


def _field(value: T, metadata: dict[str, str | bool]) -> T:
    if isinstance(value, (list, dict, set)):
        raise TypeError("a default must be immutable: use a tuple or a frozen dataclass")
    return field(default=value, metadata=metadata)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """All settings as `{"network.lr": 5e-5, ...}`, nested dataclasses joined by dots."""
    flat: dict[str, Any] = {}
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            flat |= flatten(value, f"{prefix}{f.name}.")
        else:
            flat[prefix + f.name] = value
    return flat


def option(name: str, value: object) -> str:
    """A setting as the command line takes it, which `changed` reads back: `--set=size.short=[96, 128]`."""
    return f"--set={name}={value if isinstance(value, str) else json.dumps(value)}"


def changed(config: T, **values: object) -> T:
    """`config` with settings replaced; keys are names, or dotted names with `__` or `.` (`network.lr`).

    The settings of a group may also be given together: `network={"lr": 1e-4, "steps": 100}`. Raises ConfigError for an
    unknown name (the nearest ones are listed) or a value of the wrong type.
    """
    for name, value in values.items():
        if isinstance(value, dict):
            config = changed(config, **{f"{name}.{key}": part for key, part in value.items()})
        else:
            config = _set(config, name.replace("__", ".").split("."), value, name)
    return config


def _set(config: Any, path: list[str], value: object, full_name: str) -> Any:
    names = [f.name for f in fields(config)]
    if path[0] not in names:
        near = difflib.get_close_matches(path[0], names, n=3) or sorted(names)
        raise ConfigError(f"{type(config).__name__} has no setting {full_name!r}; did you mean {', '.join(near)}?")
    old = getattr(config, path[0])
    if len(path) > 1:
        if not is_dataclass(old):
            raise ConfigError(f"{full_name!r}: {path[0]} is a single value, it has no part {path[1]!r}")
        return replace(config, **{path[0]: _set(old, path[1:], value, full_name)})
    if is_dataclass(old):
        raise ConfigError(f"{full_name!r} is a group of settings; name one of {sorted(flatten(old, path[0] + '.'))}")
    kind = typing.get_type_hints(type(config))[path[0]]
    return replace(config, **{path[0]: _checked(value, kind, full_name)})


def _checked(value: object, kind: Any, name: str) -> object:
    """`value` as `kind`; text that is not meant as such is parsed as JSON, so that one check serves `--set` and Python."""
    adapter, errors = TypeAdapter(kind), []
    for text in [json.dumps(value, default=str), *([value] if isinstance(value, str) else [])]:
        try:
            return adapter.validate_json(text, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            if first["type"] != "json_invalid":
                errors.append(
                    first["msg"].replace("Input", "the value").replace("a valid array", "an array such as [1, 2]")
                )
    raise ConfigError(f"{name}={value!r}: {errors[-1]}")


def sources(config: Any) -> list[dict[str, str]]:
    """One row per setting (name, value, unit, source, scales), for the table that each chapter shows."""
    return _rows(config, type(config)(), "", "", "")


def _rows(config: Any, default: Any, prefix: str, group: str, cite: str) -> list[dict[str, str]]:
    """Rows of one (nested) dataclass, of a group with the source `group`, in a class of the paper `cite`."""
    rows: list[dict[str, str]] = []
    cite = getattr(config, "CITE", cite)
    for f in fields(config):
        value, published, m = getattr(config, f.name), getattr(default, f.name), f.metadata
        source = group
        if m and not group:
            source = f"ours: {m['why']}" if "why" in m else f"{m['cite'] or cite}, {m['where']}"
        if is_dataclass(value):
            rows += _rows(value, published, f"{prefix}{f.name}.", source, cite)
            continue
        if value != published:
            source = f"{published} at full scale ({source})"
        scales = "yes" if m["scales"] else ""
        rows.append(
            {"name": prefix + f.name, "value": str(value), "unit": m["unit"], "source": source, "scales": scales}
        )
    return rows


def to_dict(config: Any) -> dict[str, Any]:
    return dataclasses.asdict(config)


def fingerprint(*parts: Any) -> str:
    """12 hex digits that change when any setting changes; dataclasses, dicts and plain values are accepted."""
    plain = [to_dict(p) if is_dataclass(p) and not isinstance(p, type) else p for p in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:12]
