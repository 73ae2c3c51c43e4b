"""The folder of compiled programs stays whole and small."""

import os
import zlib

import pytest

from tests import compile_cache


@pytest.fixture
def write(tmp_path):
    """Function `(name, content, age)` that writes a file of an age in seconds."""

    def write(name, content, age=0):
        (tmp_path / name).write_bytes(content)
        written = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (written, written))

    return write


def names(folder):
    return {path.name for path in folder.glob("*-cache")}


def test_what_a_killed_process_left_is_removed_and_the_whole_is_kept(tmp_path, write):
    whole = zlib.compress(bytes(range(256)) * 9)
    write("whole-cache", whole, age=9)
    write("half-cache", whole[: len(whole) // 2], age=9)
    write("nothing-cache", b"", age=9)
    write("other-format-cache", b"\x28\xb5\x2f\xfd", age=9)
    compile_cache.tidy(tmp_path)
    assert names(tmp_path) == {"whole-cache", "other-format-cache"}
    write("later-cache", whole[:-1])
    compile_cache.tidy(tmp_path)
    assert names(tmp_path) == {"whole-cache", "other-format-cache"}


def test_the_oldest_go_where_all_are_too_large(tmp_path, write):
    for age in range(5):
        write(f"{age}-cache", zlib.compress(b"program", level=0), age=10 * age)
    one = (tmp_path / "0-cache").stat().st_size
    compile_cache.tidy(tmp_path, largest=3 * one)
    assert names(tmp_path) == {"0-cache", "1-cache", "2-cache"}
