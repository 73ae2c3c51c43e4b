"""Files of tensors: what is read and written, and what is refused without running it."""

import io
import os
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest

from tests import torch_pickles
from xkd_jax.interop import torch_files


def tensors():
    rng = np.random.default_rng(0)
    return {
        "a.weight": rng.normal(size=(3, 4)).astype(np.float32),
        "scalar": np.float32(2.5).reshape(()),
        "empty": np.zeros((0, 3), np.float32),
        "half": rng.normal(size=5).astype(np.float16),
        "brain": rng.normal(size=(2, 2)).astype(ml_dtypes.bfloat16),
        "double": rng.normal(size=(2, 1, 3)),
        "count": np.array([1, -(2**40)]),
        "flags": np.array([True, False]),
        "µ": np.arange(300, dtype=np.uint8),
    }


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
        assert found[name].tobytes() == tensor.tobytes()


def test_what_is_written_is_read(tmp_path):
    with open(tmp_path / "a.pth", "wb") as file:
        torch_files.write(file, tensors())
    assert_same(torch_files.read(tmp_path / "a.pth"), tensors())


def test_the_same_tensors_make_the_same_bytes():
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        torch_files.write(file, tensors())
    assert files[0].getvalue() == files[1].getvalue()


def test_one_entry_of_a_checkpoint(tmp_path):
    model = {"w": np.ones((2, 2), np.float32)}
    content = {"model": model, "optimizer": {"state": [{"step": 3}]}, "epoch": 7, "amp": {}}
    path = torch_pickles.save(tmp_path / "full.pth.tar", content)
    assert_same(torch_files.read(path, entry="model"), model)
    with pytest.raises(torch_files.TorchFileError, match=r"'model'.* not a tensor"):
        torch_files.read(path)


def test_tensors_that_are_parts_of_others(tmp_path):
    """The tensor is transposed and has strides."""
    program = pickle.PROTO + b"\x02}X\x01\x00\x00\x00a" + b"ctorch._utils\n_rebuild_tensor_v2\n("
    program += b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
    program += b"X\x03\x00\x00\x00cpuK\x06tQ" + b"K\x01K\x02K\x02\x86K\x01K\x02\x86\x89}tRs."
    numbers = np.arange(6, dtype=np.float32)
    path = torch_pickles.write_archive(tmp_path / "x", program, {"data/0": numbers.tobytes()})
    np.testing.assert_array_equal(torch_files.read(path)["a"], [[1, 3], [2, 4]])


class Harmful:
    """An object that creates a file if it is unpickled."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.faults
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", ["alone", "name", "value", "beside the model"])
def test_harmful_pickles_are_refused_and_not_run(tmp_path, protocol, place):
    mark = tmp_path / "harmed"
    harm = Harmful(os.system, f"touch {mark}")
    content = {
        "alone": harm,
        "name": {"a": {(harm,): 1}},
        "value": {"a": harm},
        "beside the model": {"model": {}, "optimizer": [harm]},
    }[place]
    path = torch_pickles.write_archive(tmp_path / "x.pth", pickle.dumps(content, protocol))
    with pytest.raises(torch_files.TorchFileError, match=r"x\.pth is refused.*posix\.system"):
        torch_files.read(path, entry="model")
    assert not mark.exists()


@pytest.mark.faults
@pytest.mark.parametrize(
    "program",
    [
        b'cbuiltins\neval\n(S\'open("harmed", "w")\'\ntR.',
        b"(S'touch harmed'\nios\nsystem\n.",  # the old opcode INST
        b"cbuiltins\ngetattr\n.",
        b"ctorch.serialization\nload\n.",
        b"ctorch._utils\n_rebuild_tensor_v2\n}S'__class__'\nNsb.",  # changes what is called
        b"ctorch._utils\n_rebuild_tensor_v2\nN}S'__call__'\nNs\x86b.",
        b"cnumpy\nload\n.",
        b"ccollections\nOrderedDict.__init__.__globals__\n.",
    ],
)
def test_other_ways_to_call_are_refused(tmp_path, monkeypatch, program):
    monkeypatch.chdir(tmp_path)
    torch_pickles.write_archive(tmp_path / "x.pth", program)
    with pytest.raises(torch_files.TorchFileError):
        torch_files.read("x.pth")
    assert os.listdir() == ["x.pth"]


@pytest.mark.faults
def test_a_bare_pickle_is_refused_and_not_run(tmp_path):
    mark = tmp_path / "harmed"
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Harmful(os.system, f"touch {mark}")))
    with pytest.raises(torch_files.TorchFileError, match=r"old\.pth is not a file of tensors"):
        torch_files.read(tmp_path / "old.pth")
    assert not mark.exists()


@pytest.mark.faults
@pytest.mark.parametrize(("size", "shape", "stride"), [(4, 5, 1), (4, 2, 4), (1, 10**12, 0)])
def test_tensors_larger_than_their_numbers_are_refused(tmp_path, size, shape, stride):
    def integer(n):
        encoded = pickle.encode_long(n)
        return pickle.LONG1 + bytes([len(encoded)]) + encoded

    program = pickle.PROTO + b"\x02}X\x01\x00\x00\x00a" + b"ctorch._utils\n_rebuild_tensor_v2\n("
    program += b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
    program += b"X\x03\x00\x00\x00cpu" + integer(size) + b"tQK\x00" + integer(shape) + b"\x85"
    program += integer(stride) + b"\x85\x89}tRs."
    numbers = {"data/0": bytes(4 * size)}
    path = torch_pickles.write_archive(tmp_path / "x", program, numbers)
    with pytest.raises(torch_files.TorchFileError, match="numbers of 'a' are missing"):
        torch_files.read(path)


def deep(middle=b"N"):
    """Returns a pickle's program of some 250 bytes for a tuple that holds 2 ** 60 items."""
    return middle + b"".join(b"q\x07h\x07\x86" for _ in range(60))


TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n("
STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ"
)


@pytest.mark.faults
@pytest.mark.timeout(60, method="thread")  # a tuple's hash cannot be interrupted
@pytest.mark.parametrize(
    "program",
    [
        b"}" + deep() + b"K\x01s.",
        b"}(" + deep() + b"K\x01u.",
        b"(" + deep() + b"K\x01d.",
        b"}X\x01\x00\x00\x00a" + deep() + b"s.",
        b"}X\x01\x00\x00\x00a}" + deep() + b"K\x01ss.",
        b"\x8f(" + deep() + b"\x90.",
        b"(" + deep() + b"\x91.",
        b"ccollections\nOrderedDict\n" + deep() + b"K\x01\x86\x85\x85R.",
        b"ccollections\nOrderedDict\n)R}" + deep() + b"K\x01sb.",
        deep() + b".",
        deep() + b"Q.",
        b"(" + deep() + 4 * b"K\x01" + b"tQ.",
        b"(X\x07\x00\x00\x00storage" + deep() + 3 * b"K\x01" + b"tQ.",
        TENSOR + STORAGE + b"K\x00" + deep() + b"K\x01\x85\x89}tR.",
        TENSOR + STORAGE + b"K\x00" + deep() + b"\x85K\x01\x85\x89}tR.",
        TENSOR + STORAGE + deep() + b"K\x01\x85K\x01\x85\x89}tR.",
        TENSOR + deep() + b"K\x00K\x01\x85K\x01\x85\x89}tR.",
        deep(TENSOR + STORAGE + b"K\x00K\x01\x85K\x01\x85\x89}tR") + b".",
    ],
)
def test_what_is_too_deep_to_look_at_is_refused(tmp_path, program):
    path = torch_pickles.write_archive(tmp_path / "x", pickle.PROTO + b"\x04" + program)
    with pytest.raises(torch_files.TorchFileError) as caught:
        torch_files.read(path, entry="model")
    assert len(str(caught.value)) < 500 + len(str(path))


@pytest.mark.faults
def test_numbers_that_are_named_many_times_are_not_made_as_often(tmp_path):
    def text(name):
        return pickle.BINUNICODE + len(name).to_bytes(4, "little") + name.encode()

    def tensor(offset):
        storage = STORAGE.replace(b"K\x01tQ", b"M\xe8\x03tQ")  # 1000 numbers
        return TENSOR + storage + b"K" + bytes([offset]) + b"M\x84\x03\x85K\x01\x85\x89}tR"

    def program(count):
        return b"}(" + b"".join(text(str(n)) + tensor(n) for n in range(count)) + b"u."

    numbers = {"data/0": bytes(4000)}
    few = torch_pickles.write_archive(tmp_path / "few", program(3), numbers)
    assert len(torch_files.read(few)) == 3
    many = torch_pickles.write_archive(tmp_path / "many", program(100), numbers)
    with pytest.raises(torch_files.TorchFileError, match="more than 4 times the size of the file"):
        torch_files.read(many)


def test_what_pytorch_adds_to_a_state_dict_is_dropped(tmp_path):
    """PyTorch stores the versions of modules as attributes of the dictionary."""
    program = b"ccollections\nOrderedDict\n)R" + b"X\x01\x00\x00\x00a" + TENSOR + STORAGE
    program += b"K\x00K\x01\x85K\x01\x85\x89}tRs" + b"}X\x09\x00\x00\x00_metadataK\x01sb."
    path = torch_pickles.write_archive(tmp_path / "x", program, {"data/0": bytes(4)})
    assert_same(torch_files.read(path), {"a": np.zeros(1, np.float32)})


def test_compressed_entries_are_refused(tmp_path):
    program = pickle.dumps({})
    torch_pickles.write_archive(tmp_path / "x", program, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(torch_files.TorchFileError, match="compressed"):
        torch_files.read(tmp_path / "x")


@pytest.mark.faults
@pytest.mark.parametrize("kept", [0, 10, 300, 0.5, 0.99])
def test_damaged_files_are_refused(tmp_path, kept):
    file = io.BytesIO()
    torch_files.write(file, tensors())
    whole = file.getvalue()
    kept = kept if isinstance(kept, int) else int(kept * len(whole))
    (tmp_path / "x").write_bytes(whole[:kept])
    with pytest.raises(torch_files.TorchFileError, match=r"x is not a file of tensors"):
        torch_files.read(tmp_path / "x")


@pytest.mark.faults
def test_changed_numbers_are_noticed(tmp_path):
    """The archive has checksums of its entries."""
    file = io.BytesIO()
    torch_files.write(file, {"a": np.full(100, 7, np.uint8)})
    changed = file.getvalue().replace(b"\x07" * 100, b"\x07" * 99 + b"\x08")
    (tmp_path / "x").write_bytes(changed)
    with pytest.raises(torch_files.TorchFileError, match="CRC"):
        torch_files.read(tmp_path / "x")


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(torch_files.TorchFileError, match="refused: it is not a regular file"):
        torch_files.read(tmp_path / "pipe")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        torch_files.read(tmp_path / "nothing")


def test_dtypes_that_pytorch_lacks():
    with pytest.raises(ValueError, match="a is <U1; allowed: float32"):
        torch_files.write(io.BytesIO(), {"a": np.array(["b"])})


def test_pytorch_itself_reads_and_writes_the_same(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    with open(tmp_path / "ours.pth", "wb") as file:
        torch_files.write(file, tensors())
    loaded = torch.load(tmp_path / "ours.pth", weights_only=True)
    assert list(loaded) == list(tensors())
    torch.save(loaded, tmp_path / "theirs.pth")
    assert_same(torch_files.read(tmp_path / "theirs.pth"), tensors())

    whole = torch.arange(24.0).reshape(4, 6)
    part = {"t": whole.T, "p": torch.nn.Parameter(whole[1:3, ::2]), "module": whole[:, 1]}
    torch.save({"model": part, "optimizer": {"lr": 0.1}, "epoch": 3}, tmp_path / "full.pth")
    found = torch_files.read(tmp_path / "full.pth", entry="model")
    for name, tensor in part.items():
        np.testing.assert_array_equal(found[name], tensor.detach().numpy())
