"""Files of features: NPZ archives of arrays, and Parquet tables for pandas, DuckDB and others.

Both are written whole or not at all, and hold the same. A table has the arrays as columns, and all
else as metadata of its schema.
"""

import hashlib
import io
import json
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from input_pipeline.files import atomic, sealed
from xkd_jax.method.models.xkd import MODALITIES

if TYPE_CHECKING:  # takes a part of a second
    import pyarrow

FORMATS = ("npz", "parquet")
_DIGEST = "sha256"

Arrays = Mapping[str, np.ndarray | str]


def format_of(output: pathlib.Path) -> str:
    """Returns the format that the end of an --output names.

    Raises:
        ValueError: It names none of `FORMATS`.
    """
    form = output.suffix.removeprefix(".")
    if form not in FORMATS:
        endings = " or ".join(f".{name}" for name in FORMATS)
        raise ValueError(
            f"--output={output}; allowed without --stride: a name that ends in {endings}"
        )
    return form


def save_of_files(path: pathlib.Path, arrays: Arrays) -> None:
    """Writes one vector for each of many recordings.

    Args:
        path: File to write, whose end names the format.
        arrays: `names` (N,), `features` (N, D), `left_out` (M, 2) and `encoder`, JSON. In a table,
            a recording is a row with `name` and `features`; bytes of a name that are not UTF-8 are
            escaped there.
    """
    if format_of(path) == "npz":
        sealed.save_arrays(path, arrays)
        return
    import pyarrow

    names = [
        name.encode(errors="surrogateescape").decode(errors="backslashreplace")
        for name in arrays["names"].tolist()
    ]
    columns = {
        "name": pyarrow.array(names, pyarrow.string()),
        "features": _vectors(arrays["features"]),
    }
    _write(path, columns, {name: arrays[name] for name in ("left_out", "encoder")})


def save_in_time(path: pathlib.Path, arrays: Arrays) -> None:
    """Writes the features of one recording in time.

    Args:
        path: File to write, whose end names the format.
        arrays: By modality (T, L, D) or (T, D) float32, its times such as `video_times` (T,), and
            `encoder`, JSON with the numbers of the `layers` by modality, besides entries for
            `load_in_time`. In a table, a view is one row for each layer, with `modality`, `time`,
            `layer` and `features`.
    """
    if path.suffix == ".npz":
        sealed.save_arrays(path, arrays)
        return
    import pyarrow

    layers = json.loads(str(arrays["encoder"]))["layers"]
    held = [m for m in MODALITIES if m in arrays]
    rows = {m: arrays[m].reshape(-1, arrays[m].shape[-1]) for m in held}
    columns = {
        "modality": np.concatenate([np.full(len(rows[m]), m) for m in held]),
        "time": np.concatenate([np.repeat(arrays[f"{m}_times"], len(layers[m])) for m in held]),
        "layer": np.concatenate(
            [np.tile(np.array(layers[m], np.int32), len(arrays[m])) for m in held]
        ),
    }
    columns = {name: pyarrow.array(column) for name, column in columns.items()}
    # The encoders' widths may differ.
    columns["features"] = pyarrow.chunked_array([_vectors(rows[m], fixed=False) for m in held])
    rest = {name: x for name, x in arrays.items() if name.partition("_")[0] not in held}
    _write(path, columns, rest | {_DIGEST: _digest(arrays)})


def load_in_time(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads what `save_in_time` wrote, in either format.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is damaged. The message names it.
    """
    path = pathlib.Path(path)
    if path.suffix == ".npz":
        return sealed.load_arrays(path)
    try:
        arrays, digest = _parse(sealed.read(path))
        if _digest(arrays) != digest:
            raise ValueError("its content does not match its digest")
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    return arrays


def _parse(content: bytes) -> tuple[dict[str, np.ndarray], str]:
    """Returns the arrays of a table as they were saved, and the digest in it."""
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(io.BytesIO(content))
        entries = {name.decode(): json.loads(text) for name, text in table.schema.metadata.items()}
        digest = entries.pop(_DIGEST)
        layers = json.loads(entries["encoder"])["layers"]
        of_row = np.array(table["modality"].to_pylist())
        times = table["time"].to_numpy()
        vectors = table["features"].combine_chunks()
        arrays: dict[str, np.ndarray] = {}
        for m in (m for m in MODALITIES if m in of_row):
            rows = vectors.filter(pyarrow.array(of_row == m))
            shape = (len(rows), -1) if len(layers[m]) == 1 else (-1, len(layers[m]), len(rows[0]))
            arrays[m] = rows.flatten().to_numpy().reshape(shape)
            arrays[f"{m}_times"] = times[of_row == m][:: len(layers[m])]
        arrays |= {name: _as_array(name, value) for name, value in entries.items()}
    # pyarrow may raise any error for a damaged file.
    except Exception as error:
        raise ValueError(f"it is no table of features ({type(error).__name__})") from None
    return arrays, digest


def _as_array(name: str, value: Any) -> np.ndarray:
    return np.array(value, str).reshape(-1, 2) if name == "left_out" else np.array(value)


def _vectors(rows: np.ndarray, fixed: bool = True) -> "pyarrow.Array":
    """Makes a column of vectors of rows (N, D), each of the type's length if it is fixed."""
    import pyarrow

    values = pyarrow.array(np.ascontiguousarray(rows, np.float32).reshape(-1))
    if fixed:
        return pyarrow.FixedSizeListArray.from_arrays(values, rows.shape[-1])
    ends = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[-1]
    return pyarrow.ListArray.from_arrays(pyarrow.array(ends), values)


def _digest(arrays: Arrays) -> str:
    return hashlib.sha256(sealed.pack(dict(sorted(arrays.items())))).hexdigest()


def _write(path: pathlib.Path, columns: Mapping[str, Any], metadata: Arrays) -> None:
    import pyarrow.parquet

    texts = {name: json.dumps(np.asarray(value).tolist()) for name, value in metadata.items()}
    table = pyarrow.table(columns).replace_schema_metadata(texts)
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file, write_page_checksum=True)
    atomic.write_bytes(path, file.getvalue())
