"""Locks that keep other processes out of a folder."""

import fcntl

import pytest

from input_pipeline.files import file_lock


def test_one_holder_at_a_time(tmp_path):
    path = tmp_path / "lock"
    with (
        file_lock.held(path, "--output=OUT"),
        pytest.raises(file_lock.HeldError, match="--output=OUT"),
        file_lock.held(path, "--output=OUT"),
    ):
        pass
    with file_lock.held(path, "--output=OUT"):
        pass


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    with file_lock.held(tmp_path / "lock", "--output=OUT"):
        error = capsys.readouterr().err
    assert "warning: --output=OUT cannot be locked (Operation not supported)" in error
