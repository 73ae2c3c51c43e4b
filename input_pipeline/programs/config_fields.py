"""Fields of nested configs, by names such as `model.video.patch`.

A config is a `ConfigDict`, or a mapping as JSON holds it.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

_SECTION = (Mapping, ml_collections.ConfigDict)


def fields(config: Any) -> dict[str, Any]:
    """Returns the values of all fields by name, in the config's order."""
    values = {}
    for name, value in config.items():
        if isinstance(value, _SECTION):
            values |= {f"{name}.{inner}": v for inner, v in fields(value).items()}
        else:
            values[name] = value
    return values


def value_of(config: Any, field: str) -> Any:
    """Returns the value of a field or section.

    Raises:
        KeyError: The config has none of this name.
    """
    for name in field.split("."):
        if not isinstance(config, _SECTION) or name not in config:
            raise KeyError(field)
        config = config[name]
    return config


def has(config: Any, field: str) -> bool:
    """Returns whether a config has a field or section."""
    try:
        value_of(config, field)
    except KeyError:
        return False
    return True
