"""Protection of terminals from file names and from other text that a program prints.

A file may have any name. Escape sequences in it would move the cursor, color the text or change the
title of the terminal. A line break would forge a line of the log. Bytes that are not UTF-8 cannot
be printed at all. All of these are written as backslash escapes.
"""

import contextlib
import os
import re
import typing
from collections.abc import Iterator

# Control characters, line separators, characters that change the direction of text, and surrogates,
# which stand for bytes of names that are not UTF-8.
_UNSAFE = r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
_IN_NAMES = re.compile(_UNSAFE)
# Output may contain newlines and tabs, and progress bars return to the start of the line.
_IN_TEXT = re.compile(rf"(?![\n\t]|\A\r){_UNSAFE}")


def printable(name: str) -> str:
    """Returns a name as one line of valid Unicode without control characters."""
    return _IN_NAMES.sub(_escaped, name)


class OutputError(OSError):
    """Output of a program that cannot be written, for example to a file on a full disk."""


def guard(stream: typing.TextIO) -> None:
    """Makes a stream escape unsafe characters in whatever it prints. Lines stay as they are.

    If nobody reads the output any more, as after `| head`, the program continues and the output is
    dropped. The stream is changed in place, since loggers keep references to it.

    Raises:
        OutputError: Raised later, when the stream is printed to and cannot be written.
    """
    if reconfigure := getattr(stream, "reconfigure", None):
        reconfigure(errors="backslashreplace")  # for characters that the terminal cannot show
    write, flush = stream.write, stream.flush

    @contextlib.contextmanager
    def output_errors() -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            with open(os.devnull, "wb") as null:
                os.dup2(null.fileno(), stream.fileno())
        except OSError as error:
            raise OutputError(error.errno, error.strerror, stream.name) from error

    def guarded_write(text: str) -> int:
        with output_errors():
            write(_IN_TEXT.sub(_escaped, text))
        return len(text)

    def guarded_flush() -> None:
        with output_errors():
            flush()

    stream.write, stream.flush = guarded_write, guarded_flush


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode()
