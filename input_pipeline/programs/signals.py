"""Handling of SIGINT, SIGTERM and SIGHUP, from a program's first instant to its last.

A signal ends the program. The main thread leaves by an exception, so that drafts are deleted and
results so far are kept. If it has not left a few seconds later, the process ends anyway: a compiler
does not notice exceptions, and a library's callback may swallow one. While a program has something
to save, it takes signals as requests, see `requests`. Signals that are ignored, as under nohup,
stay ignored.
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

from input_pipeline.programs import terminal

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# If this variable is set, the end of standard input counts as SIGTERM: the program that started
# this one, and holds the other end, is gone.
STARTED_BY_A_PROGRAM = "XKD_STARTED_BY_A_PROGRAM"
GRACE = 5.0  # seconds in which the main thread has to leave

_request: Callable[[int], None] | None = None  # called at a signal, instead of ending the program
_ending: int | None = None  # signal that is ending the program
_ignored = False  # whether the program ends by itself, with a message of its own
_last_act: Callable[[int], None] | None = None  # called before a signal ends a stuck program
_done = False  # whether the program has done what a signal requested, and ends by itself
_terminals: tuple[int, ...] = ()  # outputs that are terminals, which a hangup closes


class Stopped(KeyboardInterrupt):
    """Exception with which a signal ends the program.

    Args:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"by {signal.Signals(number).name}")
        self.number = number


def install() -> None:
    """Makes signals end this process. Call it in the main thread, before long imports.

    The process prints one line, and its exit code is 128 plus the signal's number, as in a shell.
    """
    global _terminals
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    _terminals = tuple(file for file in (1, 2) if os.isatty(file))
    for number in NUMBERS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _handle)
    # Python's handlers wait until the main thread returns from a call. The watching thread does
    # not.
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), name="signals", daemon=True).start()
    atexit.register(_end_late)  # before the imports, so that it runs after all that they register
    sys.excepthook = _handle_exception
    sys.unraisablehook = _handle_unraisable


@contextlib.contextmanager
def requests(handler: Callable[[int], None]) -> Iterator[None]:
    """Takes signals as requests within the context, whether `install` was called or not.

    Outside of the main thread, where Python allows no handlers, it takes those of `install` alone.

    Args:
        handler: Called in the main thread with the signal's number, at each signal.

    Raises:
        Stopped: A signal came before the context, but its exception was swallowed.
    """
    global _request, _done
    if _ending is not None:
        raise Stopped(_ending)
    _request, _done = handler, False
    is_main = threading.current_thread() is threading.main_thread()
    previous = {number: signal.getsignal(number) for number in NUMBERS if is_main}
    for number, before in previous.items():
        if before != signal.SIG_IGN:
            signal.signal(number, _handle)
    try:
        yield
    finally:
        _request = None
        for number, before in previous.items():
            signal.signal(number, before)


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    """Ignores signals within the context, in which the program ends by itself. For any thread."""
    global _ignored
    _ignored = True
    try:
        yield
    finally:
        _ignored = False


@contextlib.contextmanager
def last_act(function: Callable[[int], None]) -> Iterator[None]:
    """Calls a function before a signal ends the process because its main thread does not leave.

    Args:
        function: Called in a thread of its own, with the signal's number.
    """
    global _last_act
    _last_act = function
    try:
        yield
    finally:
        _last_act = None


def finish() -> None:
    """Notes that a signal's request is done. Another signal does not change the exit code, 0."""
    global _done
    _done = True


def end(code: int, line: str) -> None:
    """Ends the process at once, from any thread.

    Args:
        code: Exit code.
        line: Line to print to stderr. Empty for none.
    """
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode() if line else b"")
    os._exit(code)


def last_line(number: int) -> str:
    """Returns the line that a program prints when a signal ends it."""
    return f"\n{signal.Signals(number).name}: stopped. To go on, run the same command again."


def _handle(number: int, frame: object) -> None:
    """Handles a signal in the main thread: as a request, or by raising Stopped."""
    global _ending
    if number == signal.SIGHUP:
        _detach_terminals()
    if _ignored:
        return
    if _request:
        _request(number)
    elif _ending is None and not _done:
        _ending = number
        raise Stopped(number)


def _watch(reading: int) -> None:
    """Ends the process if a signal is to end it and the main thread does not."""
    watches_stdin = bool(os.environ.get(STARTED_BY_A_PROGRAM))
    while True:
        ready = select.select([reading, 0] if watches_stdin else [reading], [], [])[0]
        if watches_stdin and 0 in ready and not os.read(0, 1024):
            watches_stdin = False
            os.kill(os.getpid(), signal.SIGTERM)
        if reading in ready and (number := os.read(reading, 1)[0]) in NUMBERS and not _request:
            time.sleep(GRACE)
            if _done:
                os._exit(0)
            # Meanwhile the main thread may have entered a context in which signals are requests.
            if not _ignored and (not _request or _ending is not None):
                if _last_act:
                    _last_act(number)
                end(128 + number, last_line(number))


def _handle_exception(kind: type[BaseException], error: BaseException, trace: object) -> None:
    """Ends the process if a signal or an unwritable output has ended the main thread.

    Other exceptions are handled as Python does.
    """
    if isinstance(error, terminal.OutputError):
        end(1, f"error: {error}")
    # An extension whose import is interrupted raises an ImportError from the interruption.
    stopped = error
    while stopped is not None and not isinstance(stopped, Stopped):
        stopped = stopped.__cause__
    if stopped is None:
        sys.__excepthook__(kind, error, trace)
        return
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    # End at once: exit handlers of libraries may wait for other processes or threads.
    end(128 + stopped.number, last_line(stopped.number))


def _end_late() -> None:
    """Sets the exit code of a program that has finished without noticing its signal."""
    if _ending is not None and not _done:
        _handle_exception(Stopped, Stopped(_ending), None)


def _handle_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Hides a `Stopped` that a callback swallows. `_watch` ends the process."""
    if not isinstance(unraisable.exc_value, Stopped):
        sys.__unraisablehook__(unraisable)


def _detach_terminals() -> None:
    """Redirects terminals to /dev/null. After a hangup, printing to them would be an error."""
    null = os.open(os.devnull, os.O_WRONLY)
    for file in _terminals:
        os.dup2(null, file)
    os.close(null)
