"""Names reach a terminal only as printable characters."""

import io
import logging
import os
import pathlib
import subprocess
import sys

import pytest

from input_pipeline.programs import terminal

ROOT = pathlib.Path(__file__).parents[3]
NAMES = {
    "\x1b]0;owned\x07\x1b[31mred.mp4": r"\x1b]0;owned\x07\x1b[31mred.mp4",
    "two\nlines\r\tand a tab.mp4": r"two\nlines\r\tand a tab.mp4",
    b"Caf\xe9.mp4".decode(errors="surrogateescape"): r"Caf\xe9.mp4",
    "\x9b2Jcleared.mp4": r"\x9b2Jcleared.mp4",
    "photo\u202egpj.mp4": r"photo\u202egpj.mp4",
    "half \ud83d of a pair": r"half \ud83d of a pair",
}
LETTERS = ["Bögen & Pfeile", "弓と　矢", "👩‍🚀", "قوس", r"a\b"]


@pytest.mark.parametrize(("name", "written"), NAMES.items())
def test_what_a_terminal_would_obey_is_written_out(name, written):
    assert terminal.printable(name) == written
    assert terminal.printable(written) == written


@pytest.mark.parametrize("name", LETTERS)
def test_letters_of_all_scripts_stay(name):
    assert terminal.printable(name) == name


def guarded(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    return stream, lambda: (stream.flush(), stream.buffer.getvalue().decode(encoding))[1]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_guarded_stream_prints_anything(encoding):
    stream, printed = guarded(encoding)
    handler = logging.StreamHandler(stream)  # keeps the previous stream, as absl's handler does
    terminal.guard(stream)
    for name in [*NAMES, *LETTERS]:
        print("left out:", name, file=stream)
        handler.handle(logging.LogRecord("a", logging.INFO, "", 0, name, None, None))
    text = printed()
    assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert r"\x1b]0;owned\x07\x1b[31mred.mp4" in text and r"Caf\xe9.mp4" in text


def test_lines_columns_and_progress_bars_stay_as_they_are():
    stream, printed = guarded("utf-8")
    terminal.guard(stream)
    for text in ("a\tb\n\n", "\r 10%|█ ", "x\rhidden\n"):
        stream.write(text)
    assert printed() == "a\tb\n\n\r 10%|█ x\\rhidden\n"


@pytest.fixture
def unread():
    """Returns a stream whose other end is closed."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stream:
        terminal.guard(stream)
        yield stream


def test_a_program_goes_on_where_nobody_reads_what_it_prints(unread):
    for _ in range(3):
        print("x" * 100_000, file=unread)
        unread.flush()


def test_an_output_that_cannot_be_written_is_an_error_of_its_own():
    stream = open("/dev/full", "w")  # noqa: SIM115 - closing it raises as well
    terminal.guard(stream)
    with pytest.raises(terminal.OutputError, match=r"No space left on device: '/dev/full'"):
        print("x", file=stream, flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    stream.close()


START = "from input_pipeline.programs import program; program.start()"


def run(code, redirections=""):
    command = f"exec '{sys.executable}' -c \"$CODE\" {redirections}"
    environment = os.environ | {"CODE": f"{START}\n{code}"}
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_a_full_disk_under_an_output_is_one_line():
    ended = run("print('x', flush=True)", ">/dev/full")
    assert ended.returncode == 1
    assert ended.stderr == "error: [Errno 28] No space left on device: '<stdout>'\n"


def test_no_file_is_taken_for_a_standard_stream_that_is_missing(tmp_path):
    """Libraries write to file descriptors 1 and 2, whatever is open there."""
    code = f"""
import os, sys
with open({str(tmp_path / "file")!r}, "w") as file:
    print("printed")
    print("printed", file=sys.stderr)
    os.write(1, b"printed")
    os.write(2, b"printed")
    file.write(repr(sys.stdin.read()))
"""
    assert run(code, "<&- >&- 2>&-").returncode == 0
    assert (tmp_path / "file").read_text() == "''"
