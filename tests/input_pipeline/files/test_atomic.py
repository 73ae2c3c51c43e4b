"""Only files are replaced by files: not the devices and pipes that a path may lead to."""

import os

import pytest

from input_pipeline.files import atomic


def test_a_device_is_not_replaced(tmp_path):
    path = tmp_path / "null"
    path.symlink_to("/dev/null")
    for write in (lambda: atomic.write_text(path, "text"), lambda: atomic.check_writable(path)):
        with pytest.raises(OSError, match="Is a device"):
            write()
    assert path.is_char_device() and [path] == list(tmp_path.iterdir())


def test_a_pipe_is_no_output(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="Is a device or a pipe"):
        atomic.check_writable(path)
    assert path.is_fifo()
