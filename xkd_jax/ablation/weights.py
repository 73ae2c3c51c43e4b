"""Weights that stand for the pretraining of a row: exported, converted, or of a run elsewhere."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from xkd_jax.encoders import pretrained


class Weights(NamedTuple):
    """Weights of a row.

    Attributes:
        path: Their folder, as `xkd_jax.load_encoder` takes it.
        config: Config of their pretraining as nested dictionaries; None if it is not known.
        provenance: Where they come from: others in the same folder come from elsewhere.
    """

    path: str
    config: Mapping[str, Any] | None
    provenance: Mapping[str, Any]


def read(folders: Mapping[str, str]) -> dict[str, Weights]:
    """Reads the descriptions of weights.

    Args:
        folders: Folders by name of the row.

    Returns:
        The weights by name of the row.

    Raises:
        ValueError: A folder holds no weights; the message names the flag.
    """
    found = {}
    for row, folder in folders.items():
        try:
            description, _ = pretrained.load(folder, lambda path: False)
        except (OSError, ValueError) as error:
            raise ValueError(f"--checkpoint.{row}={folder}: {error}") from error
        found[row] = Weights(folder, description["config"] or None, description["provenance"])
    return found
