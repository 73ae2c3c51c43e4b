"""No name reaches a terminal as anything but letters."""

import io
import logging

import pytest

from input_pipeline import terminal

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
    handler = logging.StreamHandler(stream)  # that has the stream from before, as absl's has
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
