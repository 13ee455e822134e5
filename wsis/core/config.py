"""Settings with sources: every default says which paper it is from, or why we chose it.

    @dataclass(frozen=True, kw_only=True)
    class Config:
        CITE: ClassVar[str] = "kim2022bestie"
        crop_size: int = paper(416, "official main.py", unit="px", scales=True)
        workers: int = ours(4, "saturates two cores")

`CITE` also holds for the groups of settings inside the class that have none of their own. `scales=True` marks what a smaller
scale may change (sizes, steps, data, backbone). Everything else is the algorithm, which a test holds equal in FULL, SMALL
and TINY.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import Field, asdict, field, fields, is_dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, TypeVar, get_type_hints, runtime_checkable

from pydantic import TypeAdapter, ValidationError

from wsis.core.errors import ConfigError

Scale = Literal["tiny", "small", "full"]
T = TypeVar("T")


@runtime_checkable
class Settings(Protocol):
    """Any dataclass; as the value of a setting, a group of settings."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


S = TypeVar("S", bound=Settings)
LEADING_DOT = re.compile(r"(?<!\d)\.(?=\d)")  # people write .5, which is not JSON


def paper(value: T, where: str, *, unit: str = "", scales: bool = False, cite: str = "") -> T:
    """A dataclass field whose default is published, at the place `where` in the paper `cite`, by default the class's `CITE`."""
    return field(default=value, metadata={"cite": cite, "where": where, "unit": unit, "scales": scales})


def ours(value: T, why: str, *, unit: str = "", scales: bool = False) -> T:
    """A dataclass field whose default is our choice, with the reason."""
    return field(default=value, metadata={"why": why, "unit": unit, "scales": scales})


def flatten(config: Settings, prefix: str = "") -> dict[str, Any]:
    """All settings as `{"network.lr": 5e-5, ...}`, nested dataclasses joined by dots."""
    flat: dict[str, Any] = {}
    for f in fields(config):
        value = getattr(config, f.name)
        flat |= flatten(value, f"{prefix}{f.name}.") if isinstance(value, Settings) else {prefix + f.name: value}
    return flat


def option(name: str, value: object) -> str:
    """A setting as the command line takes it, which `changed` reads back: `--set=size.short=[96, 128]`."""
    return f"--set={name}={value if isinstance(value, str) else json.dumps(value)}"


def read_options(pairs: Sequence[str] | None) -> dict[str, str]:
    """`["a.b=1"]`, as after `--set`, as `{"a.b": "1"}`, which `changed` reads; ConfigError for a pair without `=`."""
    for wrong in (pair for pair in pairs or [] if "=" not in pair):
        raise ConfigError(f"--set {wrong}: write it as key=value")
    return dict(pair.split("=", 1) for pair in pairs or [])


def changed(config: S, **values: object) -> S:
    """`config` with settings replaced: `network__lr=1e-4`, `**{"network.lr": 1e-4}`, or `network={"lr": 1e-4, "steps": 100}`.

    Raises ConfigError for an unknown name (the nearest ones are listed) or a value of the wrong type.
    """
    for name, value in values.items():
        if isinstance(value, dict):
            config = changed(config, **{f"{name}.{key}": part for key, part in value.items()})
        else:
            config = _set(config, name.replace("__", ".").split("."), value, name)
    return config


def _set(config: S, path: list[str], value: object, full_name: str) -> S:
    names = [f.name for f in fields(config)]
    if path[0] not in names:
        near = difflib.get_close_matches(path[0], names, n=3) or sorted(names)
        raise ConfigError(f"{type(config).__name__} has no setting {full_name!r}; did you mean {', '.join(near)}?")
    old = getattr(config, path[0])
    if len(path) > 1:
        if not isinstance(old, Settings):
            raise ConfigError(f"{full_name!r}: {path[0]} is a single value, it has no part {path[1]!r}")
        return replace(config, **{path[0]: _set(old, path[1:], value, full_name)})
    if isinstance(old, Settings):
        raise ConfigError(f"{full_name!r} is a group of settings; name one of {sorted(flatten(old, path[0] + '.'))}")
    kind = get_type_hints(type(config))[path[0]]
    return replace(config, **{path[0]: _checked(value, TypeAdapter(kind), full_name)})


def _checked(value: object, kind: TypeAdapter[object], name: str) -> object:
    """`value` as `kind`; text that is not meant as such is parsed as JSON, so that one check serves `--set` and Python."""
    errors = []
    as_json = [LEADING_DOT.sub("0.", value)] if isinstance(value, str) else []
    for text in [json.dumps(value, default=str), *as_json]:
        try:
            return kind.validate_json(text, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            if first["type"] != "json_invalid":
                message = first["msg"].replace("Input", "the value")
                errors.append(message.replace("a valid array", "an array such as [1, 2]"))
    raise ConfigError(f"{name}={value!r}: {errors[-1]}")


def sources(config: Settings) -> list[dict[str, str]]:
    """One row per setting (name, value, unit, source, scales), for the table that each chapter shows."""

    def rows(config: Settings, default: Settings, prefix: str, group: str, cite: str) -> Iterator[dict[str, str]]:
        """Of one (nested) dataclass, of a group with the source `group`, in a class of the paper `cite`."""
        cite = getattr(config, "CITE", cite)
        for f in fields(config):
            value, published, m = getattr(config, f.name), getattr(default, f.name), f.metadata
            cause = f"ours: {m['why']}" if "why" in m else f"{m['cite'] or cite}, {m['where']}" if m else ""
            source, name = group or cause, prefix + f.name
            if isinstance(value, Settings):
                yield from rows(value, published, f"{name}.", source, cite)
                continue
            if value != published:
                source = f"{published} at full scale ({source})"
            scales = "yes" if m["scales"] else ""
            yield {"name": name, "value": str(value), "unit": m["unit"], "source": source, "scales": scales}

    return list(rows(config, type(config)(), "", "", ""))


def fingerprint(*parts: object) -> str:
    """12 hex digits that change when any setting changes; dataclasses, dicts and plain values are accepted."""
    plain = [asdict(p) if is_dataclass(p) and not isinstance(p, type) else p for p in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:12]


def seed_of(*parts: object) -> int:
    """A 63-bit seed from any values, the same on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
