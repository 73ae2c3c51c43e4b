"""A signal ends a program at any moment, once. Each case is a small process of its own."""

import os
import pathlib
import pty
import signal
import subprocess
import sys
import threading
import time

import pytest

from input_pipeline.programs import signals

ROOT = pathlib.Path(__file__).parents[3]
ALL = pytest.mark.parametrize("number", signals.NUMBERS, ids=lambda number: number.name)
BEGIN = """
import gc, hashlib, os, signal, sys, time
from input_pipeline.programs import signals

signals.GRACE = 0.3
signals.install()

def wait():
    print("waits", flush=True)
    while True:  # a signal just before a sleep is heard only after it
        time.sleep(0.05)
"""


def start(code: str, begin: str = BEGIN, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", begin + code],
        **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options),
        cwd=ROOT,
        text=True,
    )


def waiting(code: str, **options) -> subprocess.Popen:
    """Starts a process; returns it when it has reached the point where it waits."""
    process = start(code, **options)
    assert process.stdout.readline() == "waits\n"
    return process


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def line(number: signal.Signals) -> str:
    return f"\n{number.name}: stopped. To go on, run the same command again.\n"


@ALL
def test_it_leaves_in_order(number):
    process = waiting("try: wait()\nfinally: print('tidied')")
    process.send_signal(number)
    assert ended(process) == (128 + number, "tidied\n", line(number))


@ALL
def test_it_does_not_change_how_a_program_ends_by_itself(number):
    process = waiting(
        "with signals.ignored():\n  print('waits', flush=True)\n  time.sleep(1)\n"
        "  signals.end(7, 'error: its own')"
    )
    process.send_signal(number)
    assert ended(process) == (7, "", "error: its own\n")


@pytest.mark.parametrize(
    "code",
    [
        "print('waits', flush=True); hashlib.pbkdf2_hmac('sha512', b'', b'', 10**9)",
        "class Noisy:\n  def __del__(self): os.kill(os.getpid(), signal.SIGTERM)\nNoisy()\nwait()",
        "try: wait()\nexcept BaseException: time.sleep(100)",
    ],
    ids=["as a compiler", "in a callback", "swallowed"],
)
def test_it_ends_where_the_exception_does_not_get_through(code):
    process = waiting(code)
    process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    assert ended(process) == (143, "", line(signal.SIGTERM))
    assert time.monotonic() - started < 30


def test_a_program_that_ends_without_having_heard_of_its_signal_does_not_end_with_0():
    process = waiting("try: wait()\nexcept BaseException: print('went on')")
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, "went on\n", line(signal.SIGINT))


def test_an_import_that_it_interrupts_does_not_tell_of_it():
    """An extension of pybind11 raises this."""
    failed = "raise ImportError('initialization failed') from error"
    process = waiting(f"try: wait()\nexcept BaseException as error: {failed}")
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, "", line(signal.SIGINT))


def test_a_second_signal_does_not_disturb_the_tidying():
    tidies = "print('tidies', flush=True); time.sleep(0.1); print('tidied')"
    process = waiting(f"try: wait()\nfinally: {tidies}")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "tidies\n"
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (130, "tidied\n", line(signal.SIGINT))


def test_what_was_swallowed_is_raised_before_anything_is_trained():
    trains = "with signals.requests(print): print('trains')"
    process = waiting(f"try: wait()\nexcept BaseException: pass\n{trains}")
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (143, "", line(signal.SIGTERM))


REQUESTS = """
asked = []
with signals.requests(asked.append):
    print("takes requests", flush=True)
    while not asked:
        time.sleep(0.01)
    time.sleep(2 * signals.GRACE)  # a save may take its time
    signals.finish()
print("saved", asked[0], flush=True)
"""


@ALL
def test_a_request_is_left_to_the_program_and_one_more_after_it_changes_nothing(number):
    process = start(f"{REQUESTS}\ntime.sleep(0.2)\nprint('ends')")
    assert process.stdout.readline() == "takes requests\n"
    process.send_signal(number)
    assert process.stdout.readline() == f"saved {number}\n"
    process.send_signal(number)
    assert ended(process) == (0, "ends\n", "")


def test_after_the_request_is_done_nothing_can_keep_the_program():
    process = start(f"{REQUESTS}\ntime.sleep(100)")
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert ended(process) == (0, "", "")


def test_ignored_signals_stay_ignored():
    begin = BEGIN.replace("signals.install", "signal.signal(1, signal.SIG_IGN)\nsignals.install")
    code = (
        "print('waits', flush=True)\nsys.stdin.readline()\n"
        "with signals.requests(print): print('takes requests', flush=True); sys.stdin.readline()"
    )
    process = waiting(code, begin=begin, stdin=subprocess.PIPE)
    process.send_signal(signal.SIGHUP)
    print(file=process.stdin, flush=True)
    assert process.stdout.readline() == "takes requests\n"
    process.send_signal(signal.SIGHUP)
    assert ended(process) == (0, "", "")


def test_the_end_of_the_program_that_started_it_is_as_sigterm():
    environment = os.environ | {signals.STARTED_BY_A_PROGRAM: "1"}
    process = waiting("wait()", stdin=subprocess.PIPE, env=environment)
    process.stdin.close()
    assert process.wait(60) == 143
    assert process.stderr.read() == line(signal.SIGTERM)


def test_after_a_hangup_it_may_still_print(tmp_path):
    """The terminal is gone: the output is lost without an error."""
    ours, theirs = pty.openpty()
    log = tmp_path / "log"
    code = f"{REQUESTS}\nprint('unheard', flush=True)\nopen({str(log)!r}, 'w').write('whole')"
    process = start(code, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while b"takes requests" not in seen:
        seen += os.read(ours, 1024)
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0
    assert log.read_text() == "whole"


def test_other_errors_are_told_as_ever():
    code, _, errors = ended(start("raise RuntimeError('ours')"))
    assert code == 1 and errors.startswith("Traceback") and "RuntimeError: ours" in errors


@pytest.mark.parametrize("seconds", [0.5, pytest.param(2.5, marks=pytest.mark.slow)])
def test_in_the_first_seconds(seconds, tmp_path):
    command = [sys.executable, "-m", "xkd_jax.main", "--config=configs/demo.py"]
    process = subprocess.Popen(
        [*command, f"--workdir={tmp_path}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    code, _, errors = ended(process)
    assert code == 130 and errors.endswith(line(signal.SIGINT)) and "Traceback" not in errors


def test_requests_outside_of_the_main_thread_change_no_handlers():
    handlers = [signal.getsignal(number) for number in signals.NUMBERS]
    within = []

    def work():
        with signals.requests(lambda number: None):
            within.extend(signal.getsignal(number) for number in signals.NUMBERS)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert within == handlers
