"""Reads and writes PyTorch's files of tensors with NumPy alone, without running code in them.

Such a file is a zip archive of a pickle, which describes the tensors, and their raw numbers. A
pickle is a program that may call anything. Here it can only call what builds tensors (Python's
documentation calls this restricting globals). A file that asks for more is refused, and the message
names what it asks for. Nothing is decompressed. Every tensor has to lie within the numbers in the
file, and all tensors together must not take more than a few times the file's size.

A pickle of a few hundred bytes can hold tuples nested so deeply that it takes years to hash,
compare or print them. So the type of a value is checked before anything else is done with it.
"""

import math
import os
import pickle
import reprlib
import stat
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, BinaryIO, ClassVar, NamedTuple

import ml_dtypes
import numpy as np

# PyTorch's classes of storages. An encoder needs none of the others.
_DTYPES = {
    "FloatStorage": np.dtype(np.float32),
    "DoubleStorage": np.dtype(np.float64),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}


# Allowed types of a dictionary's keys, which are fast to hash.
_KEYS = (str, int, float, bool, bytes, type(None))
# Most bytes of all tensors relative to the file. Tensors that share numbers each get a copy.
_MOST_COPIES = 4


class TorchFileError(ValueError):
    """Raised if a file is damaged, holds no tensors, or asks for anything but tensors."""


class _Storage(NamedTuple):
    """Numbers in the archive: their kind, name and count."""

    kind: str
    key: str
    size: int


class _Tensor(NamedTuple):
    """A tensor: its storage, and its offset, shape and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


# Instances without attributes instead of functions: a pickle could change a function's attributes.
class _RebuildTensor:
    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
        if type(storage) is not _Storage:
            raise pickle.UnpicklingError("a tensor without a storage")
        if type(shape) is not tuple or type(strides) is not tuple or len(shape) != len(strides):
            raise pickle.UnpicklingError("a tensor without a shape")
        if any(type(n) is not int or not 0 <= n < 2**63 for n in (offset, *shape, *strides)):
            raise pickle.UnpicklingError("a tensor with an impossible shape")
        return _Tensor(storage, offset, shape, strides)


class _RebuildParameter:
    __slots__ = ()

    def __call__(self, tensor: Any, *_: Any) -> Any:
        return tensor


class _MakeDict:
    __slots__ = ()

    def __call__(self) -> OrderedDict:
        return OrderedDict()


_ALLOWED = {
    ("collections", "OrderedDict"): _MakeDict(),
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
} | {("torch", kind): kind for kind in _DTYPES}


# The unpickler in Python, because the one in C hashes a dictionary's keys before they are checked.
class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("an operation that files of tensors do not need")

    for _code in (
        *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET),
        *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
        *(pickle.EXT1, pickle.EXT2, pickle.EXT4),
    ):
        dispatch[_code[0]] = _refuse

    def _fill(self, filled: Any, items: list[Any]) -> None:
        keys, values = items[::2], items[1::2]
        if not isinstance(filled, dict) or any(type(key) not in _KEYS for key in keys):
            raise pickle.UnpicklingError("a dictionary with a key of a type that is not allowed")
        filled.update(zip(keys, values, strict=True))

    def _load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._fill(self.stack[-1], items)

    def _load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill(self.stack[-1], [key, value])

    def _load_setitems(self) -> None:
        items = self.pop_mark()
        self._fill(self.stack[-1], items)

    def _load_build(self) -> None:
        """Drops what PyTorch adds to a dictionary, such as the versions of its modules."""
        self.stack.pop()
        if type(self.stack[-1]) is not OrderedDict:
            raise pickle.UnpicklingError("a change of attributes of what is not an OrderedDict")

    dispatch[pickle.DICT[0]] = _load_dict
    dispatch[pickle.SETITEM[0]] = _load_setitem
    dispatch[pickle.SETITEMS[0]] = _load_setitems
    dispatch[pickle.BUILD[0]] = _load_build

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise TorchFileError(
                f"it asks for {module[:80]}.{name[:80]}, which files of tensors do not need: "
                "it may be malicious; nothing in it was run"
            )
        return _ALLOWED[module, name]

    def persistent_load(self, saved: Any) -> _Storage:
        if type(saved) is not tuple or len(saved) != 5:
            raise pickle.UnpicklingError("numbers without a name or a size")
        label, kind, key, _, size = saved
        if any(type(text) is not str for text in (label, kind, key)) or type(size) is not int:
            raise pickle.UnpicklingError("numbers without a name or a size")
        if label != "storage" or kind not in _DTYPES:
            raise pickle.UnpicklingError(f"numbers of kind {reprlib.repr(kind)}")
        return _Storage(kind, key, size)


def read(path: str | os.PathLike, entry: str | None = None) -> dict[str, np.ndarray]:
    """Reads the tensors of a file, such as a state dict.

    Args:
        path: A file that `torch.save` made, by PyTorch 1.6 or newer.
        entry: Name of a dictionary in the file. If the file has it, only its tensors are read;
            otherwise, the file itself has to be a dictionary of tensors.

    Returns:
        Contiguous arrays by name, in the file's order, each of its tensor's dtype. Names that share
        a tensor have the same array.

    Raises:
        FileNotFoundError: There is no such file.
        TorchFileError: The file is damaged, holds no tensors, or asks for anything but tensors.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would block
            raise TorchFileError("it is not a regular file")
        with zipfile.ZipFile(path) as archive:
            return _read(archive, entry)
    except FileNotFoundError:
        raise FileNotFoundError(f"{os.fspath(path)}: no such file") from None
    except TorchFileError as error:
        raise TorchFileError(f"{os.fspath(path)} is refused: {error}") from None
    except Exception as error:  # a damaged archive or pickle may raise anything
        raise TorchFileError(
            f"{os.fspath(path)} is not a file of tensors by PyTorch 1.6 or newer, or is damaged "
            f"({type(error).__name__}: {str(error)[:200]})"
        ) from error


def _read(archive: zipfile.ZipFile, entry: str | None) -> dict[str, np.ndarray]:
    roots = [n.removesuffix("data.pkl") for n in archive.namelist() if n.endswith("/data.pkl")]
    if len(roots) != 1:
        raise TorchFileError("it is an archive, but not PyTorch's")
    (root,) = roots
    if f"{root}byteorder" in archive.namelist() and _content(archive, f"{root}byteorder") != (
        b"little"
    ):
        raise TorchFileError("its numbers are big-endian; allowed: little-endian")
    with archive.open(_stored(archive, f"{root}data.pkl")) as file:
        content = _Unpickler(file).load()
    if entry is not None and isinstance(content, dict) and isinstance(content.get(entry), dict):
        content = content[entry]
    if not isinstance(content, dict):
        raise TorchFileError(f"it holds a {type(content).__name__}, not tensors by name")
    tensors, arrays = {}, {}
    room = _MOST_COPIES * os.fstat(archive.fp.fileno()).st_size
    for name, tensor in content.items():
        if type(name) is not str or not isinstance(tensor, _Tensor):
            raise TorchFileError(
                f"its entry {reprlib.repr(name)} is a {type(tensor).__name__}, not a tensor"
            )
        if tensor not in arrays:
            arrays[tensor] = _array(archive, root, name, tensor)
            room -= arrays[tensor].nbytes
            if room < 0:
                raise TorchFileError(
                    f"its tensors up to {reprlib.repr(name)} take more than {_MOST_COPIES} times "
                    "the size of the file: many of them share numbers"
                )
        tensors[name] = arrays[tensor]
    return tensors


def _array(archive: zipfile.ZipFile, root: str, name: str, tensor: _Tensor) -> np.ndarray:
    """Reads one tensor's numbers.

    Raises:
        TorchFileError: The file lacks some of the numbers.
    """
    dtype = _DTYPES[tensor.storage.kind]
    entry = _stored(archive, f"{root}data/{tensor.storage.key}")
    steps = (s * (n - 1) for s, n in zip(tensor.strides, tensor.shape, strict=True))
    needed = tensor.offset + 1 + sum(steps) if math.prod(tensor.shape) else 0
    largest = max(needed, math.prod(tensor.shape))  # a small file cannot ask for a large array
    if entry.file_size != tensor.storage.size * dtype.itemsize or largest > tensor.storage.size:
        raise TorchFileError(f"some numbers of {reprlib.repr(name)} are missing")
    numbers = np.frombuffer(_content(archive, entry.filename), dtype)[tensor.offset :]
    strides = [s * dtype.itemsize for s in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides).copy()


def _content(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(_stored(archive, name)) as file:
        return file.read()


def _stored(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Returns an entry; refuses a compressed one, which PyTorch never writes: a zip bomb."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise TorchFileError(f"its entry {name} is compressed; allowed: uncompressed")
    return entry


def write(file: BinaryIO, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes tensors in the format of `torch.save`, for `torch.load`.

    The same tensors always make the same bytes.

    Args:
        file: Binary file, open for writing.
        tensors: Arrays by name, of dtypes that `read` supports.

    Raises:
        ValueError: A dtype is not supported.
    """
    kinds = {dtype: kind for kind, dtype in _DTYPES.items()}
    for name, tensor in tensors.items():
        if tensor.dtype not in kinds:
            raise ValueError(f"{name} is {tensor.dtype}; allowed: {', '.join(map(str, kinds))}")
    program = [pickle.PROTO, b"\x02", _global("collections", "OrderedDict"), _CALL_WITH_NOTHING]
    program.append(pickle.MARK)
    for key, (name, tensor) in enumerate(tensors.items()):
        program += [_string(name), *_tensor_program(tensor, str(key), kinds[tensor.dtype])]
    program += [pickle.SETITEMS, pickle.STOP]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, content: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)

        add("data.pkl", b"".join(program))
        add("byteorder", b"little")
        for key, tensor in enumerate(tensors.values()):
            add(f"data/{key}", np.ascontiguousarray(tensor).tobytes())
        add("version", b"3\n")


# Pieces of a pickle of protocol 2.

_CALL_WITH_NOTHING = pickle.EMPTY_TUPLE + pickle.REDUCE


def _tensor_program(tensor: np.ndarray, key: str, kind: str) -> list[bytes]:
    """Returns the program that builds a tensor from contiguous numbers in C order."""
    strides = [math.prod(tensor.shape[axis + 1 :]) for axis in range(tensor.ndim)]
    storage = [_string("storage"), _global("torch", kind), _string(key), _string("cpu")]
    return [
        _global("torch._utils", "_rebuild_tensor_v2"),
        pickle.MARK,
        _tuple(*storage, _integer(tensor.size)),
        pickle.BINPERSID,
        _integer(0),
        _tuple(*map(_integer, tensor.shape)),
        _tuple(*map(_integer, strides)),
        pickle.NEWFALSE,  # needs no gradient
        _global("collections", "OrderedDict"),
        _CALL_WITH_NOTHING,  # has no hooks
        pickle.TUPLE,
        pickle.REDUCE,
    ]


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _string(text: str) -> bytes:
    encoded = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _integer(number: int) -> bytes:
    encoded = pickle.encode_long(number)
    return pickle.LONG1 + bytes([len(encoded)]) + encoded


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE
