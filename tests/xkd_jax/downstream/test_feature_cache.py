"""Cached features are read as they were written; damaged ones are refused with a line."""

import numpy as np
import pytest

from tests import full_disk
from tests.damage import damages
from xkd_jax.downstream.feature_cache import FeatureCache

FEATURES = {
    "video": np.random.default_rng(0).normal(size=(6, 2, 4)).astype(np.float32),
    "replaced": np.array([False, True, False, False, True, False]),
}


def empty():
    return {name: np.zeros_like(array) for name, array in FEATURES.items()}


@pytest.fixture
def cache(tmp_path):
    made = FeatureCache(tmp_path, {"weights": "abc"}, recordings=6, part_size=2)
    for part in range(made.parts):
        made.write(part, FEATURES)
    return made


def assert_made_again(cache, part, capsys):
    """Asserts that the part is refused, changes no array, and that a line names the file."""
    capsys.readouterr()
    found = empty()
    assert not cache.read(part, found)
    assert not any(array.any() for array in found.values())
    (line,) = capsys.readouterr().out.splitlines()
    assert f"part-0000{part}-of-00003.npz" in line
    assert line.endswith("these features are computed again")


def test_features_come_back(cache, capsys):
    found = empty()
    assert all(cache.read(part, found) for part in range(3))
    for name, array in FEATURES.items():
        np.testing.assert_array_equal(found[name], array)
    assert not capsys.readouterr().out


def test_a_part_that_was_never_there_is_no_damage(cache, capsys):
    (cache.folder / "part-00001-of-00003.npz").unlink()
    assert not cache.read(1, empty())
    assert not capsys.readouterr().out


@pytest.mark.faults
def test_any_damage_is_noticed(cache, capsys):
    path = cache.folder / "part-00001-of-00003.npz"
    for damaged in damages(path.read_bytes(), 400):
        path.write_bytes(damaged)
        assert_made_again(cache, 1, capsys)
    cache.write(1, FEATURES)
    assert cache.read(1, empty())


@pytest.mark.faults
def test_damage_to_what_says_what_they_are_of_is_harmless(cache, tmp_path):
    path = cache.folder / "identity.json"
    for damaged in damages(path.read_bytes(), 20):
        path.write_bytes(damaged)
        again = FeatureCache(tmp_path, {"weights": "abc"}, recordings=6, part_size=2)
        assert all(again.read(part, empty()) for part in range(3))


def test_another_part_or_one_of_other_features_is_noticed(cache, tmp_path, capsys):
    """The file is intact and has the right shape but is in the wrong place."""
    first, second = (cache.folder / f"part-0000{part}-of-00003.npz" for part in (0, 1))
    whole = second.read_bytes()
    second.write_bytes(first.read_bytes())
    assert_made_again(cache, 1, capsys)
    other = FeatureCache(tmp_path, {"weights": "other"}, recordings=6, part_size=2)
    (other.folder / second.name).write_bytes(whole)
    assert_made_again(other, 1, capsys)


@pytest.mark.parametrize("written", [b"", b"PK", b"no archive of arrays"])
def test_what_is_no_archive_is_noticed(cache, capsys, written):
    (cache.folder / "part-00002-of-00003.npz").write_bytes(written)
    assert_made_again(cache, 2, capsys)


@pytest.mark.faults
def test_a_full_disk_names_the_part_and_leaves_the_old_one(cache, tmp_path):
    path = cache.folder / "part-00001-of-00003.npz"
    before = path.read_bytes()
    with full_disk.largest_file(len(before) - 1), pytest.raises(OSError, match=f"'{path}'$"):
        cache.write(1, FEATURES)
    with full_disk.largest_file(10), pytest.raises(OSError, match=r"/identity\.json'$"):
        FeatureCache(tmp_path / "new", {"weights": "abc"}, recordings=6, part_size=2)
    assert path.read_bytes() == before and len(list(cache.folder.iterdir())) == 4
