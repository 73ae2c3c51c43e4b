"""Names that fields have in files of earlier versions: saved configs, plans, and results."""

from collections.abc import Mapping
from typing import Any


def renamed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a saved config with the names that its fields have today.

    Args:
        config: Nested dicts of plain values, from a file of any version and of any task.
    """
    config = dict(config)
    if isinstance(config.get("checkpoint"), Mapping):  # text, the path, in evaluations
        config["saving"] = config.pop("checkpoint")
    if isinstance(config.get("augment"), Mapping):
        config["augmentation"] = config.pop("augment")
    if isinstance(config.get("selection"), str):
        config["selection"] = {"epoch": config["selection"]}
    return config
