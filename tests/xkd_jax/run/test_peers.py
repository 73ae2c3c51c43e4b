"""Processes of a run that end together; in most tests, threads stand for them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import pytest

from input_pipeline.programs import signals
from tests.xkd_jax import coordination
from xkd_jax.run import peers

SECONDS = 0.4


@pytest.fixture
def run(monkeypatch):
    """Makes the Peers of a run's processes, and a record of how each ends: (exit code, line)."""
    monkeypatch.setattr(peers, "_PERIOD", 0.02)
    service, made = coordination.Service(), []

    def make(count):
        ends = [[] for _ in range(count)]
        for index in range(count):

            def end(code, line, index=index):
                ends[index].append((code, line))
                made[index]._left.set()  # an ended process does nothing more

            made.append(peers.Peers(service, index, count, SECONDS, end))
        return service, made, ends

    yield make
    for process in made:
        process._left.set()


def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_they_may_end_one_after_another(run):
    _, processes, ends = run(3)
    with processes[0]:
        with processes[1], processes[2]:
            time.sleep(2 * SECONDS)
        time.sleep(2 * SECONDS)
    assert ends == [[], [], []]


@pytest.mark.parametrize("lost", [0, 1])
def test_one_that_says_nothing_is_lost_and_the_others_end(run, lost):
    """Like a process that was killed, is stuck, or has not started to report yet."""
    service, processes, ends = run(3)
    with contextlib.ExitStack() as stack:
        for process in processes:
            stack.enter_context(process)
        time.sleep(SECONDS / 2)
        processes[lost]._left.set()
        service.down = lost == 0  # process 0 runs the service
        stack.callback(setattr, service, "down", False)
        others = [end for index, end in enumerate(ends) if index != lost]
        until(lambda: all(others))
    assert not ends[lost]
    for [(code, line), *_] in others:
        assert code == peers.LOST
        assert line.startswith(f"error: process {lost} has sent no sign of life for 0.4 s")


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize(
    ("error", "code", "own", "told"),
    [
        (
            SystemExit("error: another run is using --workdir=RUN"),
            1,
            "error: another run is using --workdir=RUN",
            "another run is using --workdir=RUN",
        ),
        (SystemExit(3), 3, "", "ended with exit code 3"),
        (signals.Stopped(15), 143, signals.last_line(15), "stopped by SIGTERM"),
        (KeyError("x"), 1, "KeyError: 'x'", "KeyError: 'x'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_ends_one_is_told_to_all(run, index, error, code, own, told):
    _, processes, ends = run(2)
    with processes[1 - index]:
        with pytest.raises(type(error)), processes[index]:
            raise error
        until(lambda: ends[1 - index])
    assert ends[1 - index][0] == (code, f"error: process {index}: {told}")
    [(found, line)] = ends[index]
    assert found == code and line.endswith(own)


def test_a_broken_connection_is_the_lost_process_s_fault(run):
    _, processes, ends = run(2)
    error = jax.errors.JaxRuntimeError("Gloo AllReduce failed: Connection closed by peer")
    processes[1].__enter__()
    with pytest.raises(jax.errors.JaxRuntimeError), processes[0]:
        time.sleep(SECONDS / 2)
        processes[1]._left.set()  # killed
        raise error
    code, line = ends[0][0]
    assert code == peers.LOST and line.startswith("error: process 1 has sent no sign of life")


LOSES_PROCESS_0 = """
import os, signal, sys, time
from xkd_jax.run import peers, processes

index = int(sys.argv[1])
processes.join(processes.Group(sys.argv[2], 2, index, "flags"), 60)
print("joined", flush=True)
with peers.Peers(seconds=3):
    time.sleep(2)
    if index == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
"""


@pytest.mark.slow  # two real processes that import JAX
def test_the_loss_of_process_0_is_one_line(tmp_path):
    """JAX alone aborts the other processes, with code 134 and a stack trace."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", LOSES_PROCESS_0, str(index), address],
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [-signal.SIGKILL, peers.LOST]
    assert outputs[1].splitlines() == [
        "joined",
        "error: process 0 has sent no sign of life for 3 s: it has died or hangs",
    ]
