"""Fields of a config with their defaults and rules, from which configs and checks are made."""

import dataclasses
import types
from collections.abc import Iterator
from typing import Any

import ml_collections

from xkd_jax.config.rules import Rule


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a config.

    Attributes:
        default: Its value unless a config or a flag sets another one.
        rule: Rule for its values.
    """

    default: Any
    rule: Rule

    def with_default(self, default: Any) -> "Field":
        """Returns the field with another default."""
        return dataclasses.replace(self, default=default)


class Section(types.SimpleNamespace):
    """Fields and sections by name, in the order in which they are written."""


def defaults(section: Section) -> ml_collections.ConfigDict:
    """Makes a config of the defaults of all fields."""
    config = ml_collections.ConfigDict()
    for name, item in vars(section).items():
        config[name] = item.default if isinstance(item, Field) else defaults(item)
    return config


def rules(section: Section) -> dict[str, Rule]:
    """Returns the rules of all fields by their names, such as `model.video.patch`."""
    return {name: field.rule for name, field in _named(section)}


def _named(section: Section, prefix: str = "") -> Iterator[tuple[str, Field]]:
    for name, item in vars(section).items():
        if isinstance(item, Field):
            yield f"{prefix}{name}", item
        else:
            yield from _named(item, f"{prefix}{name}.")
