"""Names that fields had in earlier versions: in saved configs, plans and results, and in flags."""

from collections.abc import Mapping
from typing import Any

# Sections, by their former names. In evaluations, `checkpoint` is a field: the path of the weights.
_SECTIONS = {"checkpoint": "saving", "augment": "augmentation"}
# Fields, by their former names, which are names of sections today.
_FIELDS = {"selection": "selection.epoch"}


def renamed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a saved config with the names that its fields have today.

    Args:
        config: Nested dicts of plain values, from a file of any version and of any task.
    """
    config = dict(config)
    for former, today in _SECTIONS.items():
        if isinstance(config.get(former), Mapping):
            config[today] = config.pop(former)
    for former, today in _FIELDS.items():
        if former in config and not isinstance(config[former], Mapping):
            section, field = today.split(".")
            config[section] = {field: config.pop(former)}
    return config


def todays(name: str) -> str | None:
    """Returns the name that a field has today.

    Args:
        name: Name as in a flag, such as `augment.gain`.

    Returns:
        Its name today, such as `augmentation.gain`; None if `name` is not a former one.
    """
    section, _, field = name.partition(".")
    if field and section in _SECTIONS:
        return f"{_SECTIONS[section]}.{field}"
    return _FIELDS.get(name)
