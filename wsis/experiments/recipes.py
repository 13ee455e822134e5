"""Recipes: files of parameters, the same for a chapter and for the command line."""

from pathlib import Path
from typing import Any

from wsis.core.errors import ConfigError, DataError
from wsis.core.files import read_json

KEYS = ("scale", "data", "seed", "device", "settings")


def read_recipe(path: Path) -> dict[str, Any]:
    """The parameters of a .yaml or .json file: scale, data, seed, device, and `settings` by dotted name.

    Raises:
        ConfigError: an unknown key, a value that is none, or YAML without the package that reads it.
        DataError: no such file, or not what its name says.
    """
    found = read_json(path) if path.suffix == ".json" else _read_yaml(path)
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is not a list of `key: value`; known keys are {', '.join(KEYS)}")
    unknown = [k for k in found if k not in KEYS]
    if unknown:
        raise ConfigError(
            f"{path}: {unknown[0]!r} is no key of a recipe; they are {', '.join(KEYS)} "
            "(settings of the method go below `settings:`, as network.steps: 100)"
        )
    if found.get("scale", "tiny") not in ("tiny", "full"):
        raise ConfigError(f"{path}: scale {found['scale']!r}; choose tiny or full")
    if type(found.get("seed", 0)) is not int:
        raise ConfigError(f"{path}: seed {found['seed']!r} is not a whole number")
    if not isinstance(found.get("settings", {}), dict):
        raise ConfigError(f"{path}: settings are `name: value`, one a line")
    return found


def _read_yaml(path: Path) -> Any:
    try:
        import yaml
    except ImportError:
        raise ConfigError(
            f"{path}: reading YAML needs the package pyyaml; install it, or write the recipe as .json"
        ) from None
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; the recipes of the book are in notebooks/recipes") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from None
