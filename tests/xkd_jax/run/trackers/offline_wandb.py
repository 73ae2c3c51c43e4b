"""Reads what W&B keeps of a run on disk until it is sent."""

import json
import pathlib
import struct
from collections.abc import Iterator
from typing import Any

_HEADER, _BLOCK = 7, 32768  # bytes, of a log of LevelDB, which the file is


def history(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Returns what was logged in each step, of a folder such as `wandb/offline-run-*`."""
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
        for items in (record.history.item for record in _records(folder))
        if items
    ]


def config(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the config of the run."""
    return {
        item.key: json.loads(item.value_json)
        for record in _records(folder)
        for item in [*record.config.update, *record.run.config.update]
    }


def _records(folder: pathlib.Path) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    [path] = folder.glob("*.wandb")
    content, place, parts = path.read_bytes(), _HEADER, b""
    while place + _HEADER <= len(content):
        left = _BLOCK - place % _BLOCK
        if left < _HEADER:  # padding at the end of a block
            place += left
            continue
        _, size, kind = struct.unpack_from("<IHB", content, place)
        parts += content[place + _HEADER : place + _HEADER + size]
        place += _HEADER + size
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""
