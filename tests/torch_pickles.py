"""Files as `torch.save` writes them, made without PyTorch: by Python's pickler and stand-ins."""

import collections
import contextlib
import io
import pathlib
import pickle
import sys
import types
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


class _Storage:
    """Numbers that the pickler puts outside the pickle."""

    def __init__(self, array: np.ndarray, kind: type) -> None:
        self.array, self.kind = array, kind


class _Tensor:
    """What an array is wrapped in, to be pickled as a tensor is."""

    def __init__(self, array: np.ndarray, storage: _Storage, rebuild: Any) -> None:
        self._array, self._storage, self._rebuild = array, storage, rebuild

    def __reduce__(self):
        strides = tuple(step // self._array.itemsize for step in self._array.strides)
        hooks = collections.OrderedDict()
        return self._rebuild, (self._storage, 0, self._array.shape, strides, False, hooks)


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=2)
        self.storages: list[np.ndarray] = []

    def persistent_id(self, found: Any) -> Any:
        if not isinstance(found, _Storage):
            return None
        # An array that stands in several places is stored once.
        keys = [key for key, array in enumerate(self.storages) if array is found.array]
        if not keys:
            self.storages.append(found.array)
        key = keys[0] if keys else len(self.storages) - 1
        return "storage", found.kind, str(key), "cuda:0", found.array.size


@contextlib.contextmanager
def _stand_ins() -> Iterator[tuple[type, Any]]:
    """PyTorch's names in this process, which the pickler looks up, for a while."""

    def _rebuild_tensor_v2():
        raise AssertionError("only its name is wanted")

    storage = type("FloatStorage", (), {"__module__": "torch"})
    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    modules = {"torch": types.ModuleType("torch"), "torch._utils": types.ModuleType("torch._utils")}
    modules["torch"].FloatStorage = storage
    modules["torch._utils"]._rebuild_tensor_v2 = _rebuild_tensor_v2
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield storage, _rebuild_tensor_v2
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def save(path: pathlib.Path, content: Any) -> pathlib.Path:
    """Writes nested dictionaries and lists of plain values and float32 arrays, as tensors."""
    contiguous: dict[int, np.ndarray] = {}
    with _stand_ins() as (kind, rebuild):

        def wrapped(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                storage = _Storage(
                    contiguous.setdefault(id(value), np.ascontiguousarray(value)), kind
                )
                return _Tensor(storage.array, storage, rebuild)
            if isinstance(value, Mapping):
                return collections.OrderedDict((k, wrapped(v)) for k, v in value.items())
            return [wrapped(v) for v in value] if isinstance(value, list) else value

        file = io.BytesIO()
        pickler = _Pickler(file)
        pickler.dump(wrapped(content))
    storages = {f"data/{i}": array.tobytes() for i, array in enumerate(pickler.storages)}
    return write_archive(path, file.getvalue(), storages)


def write_archive(
    path: pathlib.Path,
    program: bytes,
    storages: Mapping[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> pathlib.Path:
    """Puts a pickle and raw numbers into an archive laid out as PyTorch's."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x/data.pkl", program)
        archive.writestr("x/byteorder", "little")
        for name, content in (storages or {}).items():
            archive.writestr(f"x/{name}", content)
        archive.writestr("x/version", "3\n")
    return path
