"""What SIGINT, SIGTERM and SIGHUP do to a program, from its first instant to its last.

They end it: the main thread leaves by an exception, so that drafts are taken away and what was
found is kept. A moment later the process ends in any case: a compiler does not hear of exceptions,
and a callback of a library may swallow one. A program that has something to save takes the signals
as requests meanwhile, see `requests`. Ignored signals, as of nohup, stay ignored.
"""

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

from input_pipeline import terminal

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Where this variable is set, the end of the standard input is as good as SIGTERM: the program that
# holds its other end, and has started this one, is no more.
STARTED_BY_A_PROGRAM = "XKD_STARTED_BY_A_PROGRAM"
GRACE = 5.0  # seconds that the main thread has to leave

_request: Callable[[int], None] | None = None  # what a signal calls, in place of ending the program
_ending: int | None = None  # the signal that is ending it
_done = False  # it has done what a signal asked for, and ends by itself
_terminals: tuple[int, ...] = ()  # of its outputs, those that are gone with a hangup


class Stopped(KeyboardInterrupt):
    """A signal ends the program.

    Args:
        number: The signal's number.
    """

    def __init__(self, number: int):
        super().__init__(f"by {signal.Signals(number).name}")
        self.number = number


def install() -> None:
    """Has signals end this process; to be called in the main thread, before long imports.

    The exit code is 128 and the signal's number, as in a shell, and one line says so.
    """
    global _terminals
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    _terminals = tuple(file for file in (1, 2) if os.isatty(file))
    for number in NUMBERS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _handle)
    # Python's handlers wait for the main thread to come back from a call. This does not.
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), name="signals", daemon=True).start()
    atexit.register(_end_late)  # before the imports, so that it is called after all they register
    sys.excepthook = _tell_of
    sys.unraisablehook = _tell_of_unraisable


@contextlib.contextmanager
def requests(handler: Callable[[int], None]) -> Iterator[None]:
    """Takes signals as requests, in a process where they are installed or not.

    Args:
        handler: Is called in the main thread with a signal's number, at each one that comes.

    Raises:
        Stopped: One has come before, and was not heard.
    """
    global _request, _done
    if _ending is not None:
        raise Stopped(_ending)
    _request, _done = handler, False
    previous = {number: signal.getsignal(number) for number in NUMBERS}
    for number, before in previous.items():
        if before != signal.SIG_IGN:
            signal.signal(number, _handle)
    try:
        yield
    finally:
        _request = None
        for number, before in previous.items():
            signal.signal(number, before)


def finish() -> None:
    """Says that what a signal asked for is done: one more does not change the exit code, 0."""
    global _done
    _done = True


def end(code: int, line: str) -> None:
    """Ends the process from any thread, at once.

    Args:
        code: The exit code.
        line: What to say on stderr; empty for nothing.
    """
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode() if line else b"")
    os._exit(code)


def last_line(number: int) -> str:
    """What a program says that a signal has ended."""
    return f"\n{signal.Signals(number).name}: stopped. To go on, run the same command again."


def _handle(number: int, frame: object) -> None:
    global _ending
    if number == signal.SIGHUP:
        _let_terminals_go()
    if _request:
        _request(number)
    elif _ending is None and not _done:
        _ending = number
        raise Stopped(number)


def _watch(reading: int) -> None:
    """Ends the process where a signal is to end it and the main thread does not."""
    held = bool(os.environ.get(STARTED_BY_A_PROGRAM))
    while True:
        ready = select.select([reading, 0] if held else [reading], [], [])[0]
        if held and 0 in ready and not os.read(0, 1024):
            held = False
            os.kill(os.getpid(), signal.SIGTERM)
        if reading in ready and (number := os.read(reading, 1)[0]) in NUMBERS and not _request:
            time.sleep(GRACE)
            if _done:
                os._exit(0)
            # Before it heard of it, the main thread may have come to where signals are requests.
            if not _request or _ending is not None:
                end(128 + number, last_line(number))


def _tell_of(kind: type[BaseException], error: BaseException, trace: object) -> None:
    """Ends the process where the main thread has left for a signal, or for want of an output.

    Otherwise it does as Python does.
    """
    if isinstance(error, terminal.OutputError):
        end(1, f"error: {error}")
    if not isinstance(error, Stopped):
        sys.__excepthook__(kind, error, trace)
        return
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    # At once: what libraries do at the end of a process may wait for other processes, or threads.
    end(128 + error.number, last_line(error.number))


def _end_late() -> None:
    """Has a program that has come to its end without hearing of its signal not end with 0."""
    if _ending is not None and not _done:
        _tell_of(Stopped, Stopped(_ending), None)


def _tell_of_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Says nothing of a signal that came within a callback, which swallows it: `_watch` ends us."""
    if not isinstance(unraisable.exc_value, Stopped):
        sys.__unraisablehook__(unraisable)


def _let_terminals_go() -> None:
    """After a hangup, whatever is printed to a terminal would be an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for file in _terminals:
        os.dup2(nowhere, file)
    os.close(nowhere)
