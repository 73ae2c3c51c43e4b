"""Sealed files are read back as written, or not at all."""

import io
import json
import os
import zipfile

import numpy as np
import pytest

from input_pipeline.files import sealed
from tests.damage import damages

ARRAYS = {
    "numbers": np.arange(12, dtype=np.float32).reshape(3, 4),
    "names": np.array(["a", "Ünï"]),
    "key": "text",
    "none": np.zeros((0, 2), np.int64),
}


def test_arrays_come_back_and_numpy_reads_them(tmp_path):
    path = tmp_path / "sub" / "file.npz"
    sealed.save_arrays(path, ARRAYS)
    with np.load(path, allow_pickle=False) as theirs:
        for found in (sealed.load_arrays(path), theirs):
            assert set(found) == set(ARRAYS)
            for name, array in ARRAYS.items():
                np.testing.assert_array_equal(found[name], array)
    assert sealed.pack(ARRAYS) == path.read_bytes()


@pytest.mark.faults
def test_any_damage_to_arrays_is_one_error_that_names_the_file(tmp_path):
    path = tmp_path / "file.npz"
    data = sealed.pack(ARRAYS)
    for damaged in damages(data, 300):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"file\.npz is damaged"):
            sealed.load_arrays(path)


@pytest.mark.faults
def test_arrays_without_a_seal_are_none_or_the_arrays(tmp_path):
    """Damage raises ValueError, whatever zipfile and NumPy raise."""
    data = sealed.pack(ARRAYS)
    for damaged in damages(data, 500):
        try:
            sealed.unpack(damaged)
        except ValueError as error:
            assert "\n" not in str(error)


def test_objects_are_neither_written_nor_read(tmp_path):
    with pytest.raises(ValueError, match="Object arrays"):
        sealed.pack({"x": np.array([{}], object)})
    np.savez(tmp_path / "x.npz", x=np.array([{}], object))
    np.save(tmp_path / "x.npy", np.zeros(3))
    for name in ("x.npz", "x.npy"):
        with pytest.raises(ValueError, match="not an archive of arrays"):
            sealed.unpack((tmp_path / name).read_bytes())


def test_an_archive_that_would_become_larger_than_it_is_is_no_archive():
    """Such bombs compress zeros, or refer to the same bytes several times."""
    array, bomb, twice = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(array, np.zeros(1000))
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", array.getvalue())
    with zipfile.ZipFile(twice, "w") as archive:
        archive.writestr("x.npy", array.getvalue())
        archive.filelist *= 2
    for file in (bomb, twice):
        with pytest.raises(ValueError, match="not an archive of arrays"):
            sealed.unpack(file.getvalue())


@pytest.mark.parametrize("load", [sealed.load_json, sealed.load_arrays])
def test_what_may_never_end_is_not_read(tmp_path, load):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link"):
        with pytest.raises(ValueError, match=f"{name} is damaged: it is not a regular file"):
            load(tmp_path / name)


def test_json_comes_back(tmp_path):
    content = {"a": [1.5, (2, "ü")], "b": {3: None, 20: "x", 100: ""}}
    plain = json.loads(json.dumps(content))
    read = json.loads(json.dumps(sealed.seal(content)))
    assert next(iter(read)) == "sha256" and sealed.unseal(read) == plain


@pytest.mark.faults
def test_any_damage_to_json_is_an_error_or_harmless(tmp_path):
    path = tmp_path / "file.json"
    content = {"a": [1.5, [2, "ü"]], "b": {"sha256": 1e5, "ten": None}}
    data = json.dumps(sealed.seal(content), indent=1, ensure_ascii=False).encode()
    refused = 0
    for damaged in damages(data, 500):
        path.write_bytes(damaged)
        try:
            assert sealed.unseal(sealed.load_json(path)) == content
        except ValueError:
            refused += 1
    assert refused > 490


@pytest.mark.parametrize("text", ["", "[1", "[" * 100_000, "9" * 10_000, "\ud800"])
def test_what_is_no_json_is_one_error_that_names_the_file(tmp_path, text):
    (tmp_path / "file.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"file\.json is damaged: ") as caught:
        sealed.load_json(tmp_path / "file.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, [], 3, {}, {"sha256": None}, {"sha256": [1], "a": 2}])
def test_what_was_never_sealed_is_refused(content):
    with pytest.raises(ValueError, match=r"no sha256|has changed"):
        sealed.unseal(content)
