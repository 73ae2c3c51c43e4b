"""What of the names of files, and of all that a program prints, may reach a terminal.

A file may be called anything. Escape sequences in its name would move the cursor, color or retitle
the terminal, a line break would forge a line of the log, and bytes that are not UTF-8 cannot be
printed at all. All these are written out, with backslashes.
"""

import contextlib
import os
import re
import typing
from collections.abc import Iterator

# Control characters, line separators, what turns the direction of text around, and surrogates, as
# which Python has the bytes of names that are not UTF-8.
_UNSAFE = r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
_IN_NAMES = re.compile(_UNSAFE)
# What is printed may have lines and columns, and progress bars go back to the beginning of a line.
_IN_TEXT = re.compile(rf"(?![\n\t]|\A\r){_UNSAFE}")


def printable(name: str) -> str:
    """A name as one line of valid Unicode that no terminal obeys."""
    return _IN_NAMES.sub(_written_out, name)


class OutputError(OSError):
    """What a program prints cannot be written, as where its output is a file on a full disk."""


def guard(stream: typing.TextIO) -> None:
    """Lets a stream print whatever it is given, unsafe characters written out, lines as they are.

    Where nobody reads it any longer, as after `| head`, the program goes on without being heard.
    The stream itself is changed, since loggers keep the one that they have found.

    Raises:
        OutputError: By what prints to the stream, where that cannot be written.
    """
    if reconfigure := getattr(stream, "reconfigure", None):
        reconfigure(errors="backslashreplace")  # of letters that the terminal does not know
    write, flush = stream.write, stream.flush

    @contextlib.contextmanager
    def heard_or_not() -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
        except OSError as error:
            raise OutputError(error.errno, error.strerror, stream.name) from error

    def guarded_write(text: str) -> int:
        with heard_or_not():
            write(_IN_TEXT.sub(_written_out, text))
        return len(text)

    def guarded_flush() -> None:
        with heard_or_not():
            flush()

    stream.write, stream.flush = guarded_write, guarded_flush


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # the byte of a name
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode()
