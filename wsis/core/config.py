"""Settings with sources: every default says which paper it is from, or why we chose it.

    crop_size: int = paper(416, cite="kim2022bestie", where="official main.py", unit="px", scales=True)
    workers: int = ours(4, why="saturates two cores")

`scales=True` marks what a tiny run may change (sizes, steps, data, backbone). Everything else is the algorithm,
and a test holds FULL and TINY to the same value there.
"""

import dataclasses
import hashlib
import json
import typing
from dataclasses import field, fields, is_dataclass, replace
from typing import Any, Literal

from wsis.core.errors import ConfigError

Scale = Literal["tiny", "full"]


def paper(value: Any, *, cite: str, where: str, unit: str = "", scales: bool = False) -> Any:
    """A dataclass field whose default is published: `cite` is a key of book/references.bib, `where` the place in it."""
    return _field(value, {"cite": cite, "where": where, "unit": unit, "scales": scales})


def ours(value: Any, *, why: str, unit: str = "", scales: bool = False) -> Any:
    """A dataclass field whose default is our choice, with the reason."""
    return _field(value, {"why": why, "unit": unit, "scales": scales})


def _field(value: Any, metadata: dict[str, Any]) -> Any:
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


def option(name: str, value: Any) -> str:
    """A setting as the command line takes it, which `changed` reads back: `--set=size.short=[96, 128]`."""
    return f"--set={name}={value if isinstance(value, str) else json.dumps(value)}"


def changed(config: Any, **values: Any) -> Any:
    """`config` with settings replaced; keys are names, or dotted names with `__` or `.` (`network.lr`).

    Raises:
        ConfigError: unknown name (the nearest ones are listed) or a value of the wrong type.
    """
    for name, value in values.items():
        config = _set(config, name.replace("__", ".").split("."), value, name)
    return config


def _set(config: Any, path: list[str], value: Any, full_name: str) -> Any:
    names = [f.name for f in fields(config)]
    if path[0] not in names:
        import difflib

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


def _checked(value: Any, kind: Any, name: str) -> Any:
    """`value` as `kind`; text is parsed, so that the same check serves `--set` and Python callers."""
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(value, str) and kind is not str and not (origin is Literal and value in options):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            if origin is Literal:
                raise ConfigError(f"{name}={value!r}: choose one of {', '.join(map(str, options))}") from None
            raise ConfigError(f"{name}={value!r}: expected {_words(kind)}") from None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is tuple:
        parts = value if isinstance(value, (list, tuple)) else []
        kinds = options[:1] * len(parts) if options[-1] is ... else options
        if not isinstance(value, (list, tuple)) or len(kinds) != len(parts):
            raise ConfigError(f"{name}={value!r}: expected {_words(kind)}, as in [1, 2]")
        return tuple(_checked(part, k, name) for part, k in zip(parts, kinds, strict=True))
    if origin is Literal:
        if value not in options:
            raise ConfigError(f"{name}={value!r}: choose one of {', '.join(map(str, options))}")
        return value
    allowed = tuple(o if typing.get_origin(o) is None else typing.get_origin(o) for o in options) if options else kind
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{name}={value!r}: expected {_words(kind)}")
    return value


def _words(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def sources(config: Any) -> list[dict[str, str]]:
    """One row per setting (name, value, unit, source, scales), for the table that each chapter shows."""
    return _rows(config, type(config)(), "", {})


def _rows(config: Any, default: Any, prefix: str, group: dict[str, Any]) -> list[dict[str, str]]:
    """Rows of one (nested) dataclass; `group` is the source of the whole group, where it has one."""
    rows: list[dict[str, str]] = []
    for f in fields(config):
        value, published, m = getattr(config, f.name), getattr(default, f.name), f.metadata
        if is_dataclass(value):
            rows += _rows(value, published, f"{prefix}{f.name}.", dict(m))
            continue
        origin = group or m
        source = f"{origin['cite']}, {origin['where']}" if "cite" in origin else f"ours: {origin['why']}"
        if value != published:
            source = f"{published} at full scale ({source})"
        scales = "yes" if m["scales"] else ""
        rows.append(
            {"name": prefix + f.name, "value": str(value), "unit": m["unit"], "source": source, "scales": scales}
        )
    return rows


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain dict, ready for JSON."""
    return dataclasses.asdict(config)


def fingerprint(*parts: Any) -> str:
    """12 hex digits that change when any setting changes; dataclasses, dicts and plain values are accepted."""
    plain = [to_dict(p) if is_dataclass(p) and not isinstance(p, type) else p for p in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:12]
