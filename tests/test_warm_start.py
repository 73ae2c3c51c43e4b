"""The stand-in for python starts, hears signals and ends as a process of its own does."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest

from tests import warm_start

PROGRAM = """
import os, signal, sys, time
print(sys.argv[1:], os.getcwd(), os.environ["XKD_OF_THE_CALLER"], __name__, flush=True)
print("tensorflow" in sys.modules, "jax" in sys.modules, file=sys.stderr, flush=True)
how = sys.argv[1]
if how == "waits":
    print(os.getpid(), flush=True)
    while True:  # a signal just before a sleep is heard only after it
        time.sleep(0.05)
elif how == "dies":
    os.kill(os.getpid(), signal.SIGABRT)
elif how == "says":
    sys.exit("error: told")
sys.exit(7 if how == "ends" else None)
"""


@pytest.fixture
def start(tmp_path):
    """Function of arguments that starts a program, with a pipe for each stream."""
    (tmp_path / "program.py").write_text(PROGRAM)
    python = warm_start.environment() / "bin" / "python"

    def start(*arguments, **environment):
        return subprocess.Popen(
            [python, "-m", "program", *arguments],
            cwd=tmp_path,
            env=os.environ | {"XKD_OF_THE_CALLER": "yes"} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.mark.parametrize(
    ("how", "code", "last"),
    [("ends", 7, ""), ("says", 1, "error: told\n"), ("dies", -signal.SIGABRT, ""), ("", 0, "")],
)
def test_arguments_go_in_and_output_and_end_come_out(how, code, last, start, tmp_path):
    process = start(how, "two words")
    output, errors = process.communicate(timeout=100)
    assert output == f"['{how}', 'two words'] {tmp_path} yes __main__\n"
    assert errors == f"True True\n{last}"
    assert process.returncode == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_reach_the_program(number, start):
    process = start("waits")
    process.stdout.readline()
    child = int(process.stdout.readline())
    assert child != process.pid and running(child)
    process.send_signal(number)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in errors) == (number == signal.SIGINT)
    end = time.monotonic() + 60
    while running(child):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_program_is_killed_where_the_stand_in_was_before_it_knew_of_it():
    ours, theirs = socket.socketpair()
    request = json.dumps({}).encode()
    socket.send_fds(theirs, [len(request).to_bytes(8)], [os.open(os.devnull, os.O_RDWR)] * 3)
    theirs.sendall(request)
    theirs.close()
    supervisor = os.fork()
    if not supervisor:
        try:
            warm_start._supervise(ours)
            time.sleep(100)  # as the program
        finally:
            os._exit(1)
    started = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(supervisor, 0)[1]) == 0
    assert time.monotonic() - started < 50


def running(process: int) -> bool:
    return pathlib.Path(f"/proc/{process}").exists()


@pytest.mark.parametrize("name", ["JAX_ENABLE_X64", "TF_ENABLE_ONEDNN_OPTS"])
def test_what_has_been_read_already_cannot_be_changed(name, start):
    process = start("ends", **{name: "1"})
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    assert errors == f"error: {name} is read when imported: start this one with python -m\n"


def test_what_is_no_module_is_run_by_python_itself():
    python = warm_start.environment() / "bin" / "python"
    program = "import sys; print('jax' in sys.modules, sys.argv)"
    output = subprocess.run([python, "-c", program, "x"], capture_output=True, text=True).stdout
    assert output == "False ['-c', 'x']\n"
