"""Recipes: files of parameters, the same for a chapter and for the command line."""

from pathlib import Path
from typing import Any, get_args

import yaml

from wsis.core.config import Scale
from wsis.core.errors import ConfigError, DataError
from wsis.core.files import read_json

DEFAULTS = {"scale": "tiny", "data": "world", "seed": 0, "device": "auto", "settings": {}}


def read_recipe(path: Path | None, **given: Any) -> dict[str, Any]:
    """Scale, data, seed, device, and `settings` by dotted name: as given, else as in a .yaml or .json file, else defaults.

    Raises ConfigError for an unknown key or a wrong value, and DataError if there is no such file or its content is not what
    its name says.
    """
    recipe = {} if path is None else read_json(path) if path.suffix == ".json" else _read_yaml(path)
    if not isinstance(recipe, dict):
        raise ConfigError(f"{path} is not a list of `key: value`; known keys are {', '.join(DEFAULTS)}")
    unknown = [k for k in recipe if k not in DEFAULTS]
    if unknown:
        advice = f"they are {', '.join(DEFAULTS)} (settings of the method go below `settings:`, as network.steps: 100)"
        raise ConfigError(f"{path}: {unknown[0]!r} is no key of a recipe; {advice}")
    recipe = DEFAULTS | recipe
    if recipe["scale"] not in get_args(Scale):
        raise ConfigError(f"{path}: scale {recipe['scale']!r}; choose {', '.join(get_args(Scale))}")
    if type(recipe["seed"]) is not int:
        raise ConfigError(f"{path}: seed {recipe['seed']!r} is not a whole number")
    if not isinstance(recipe["settings"], dict):
        raise ConfigError(f"{path}: settings are `name: value`, one a line")
    return recipe | {k: v for k, v in given.items() if v is not None}


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; the recipes of the book are in notebooks/recipes") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from None
