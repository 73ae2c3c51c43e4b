"""A running pretraining when the ablations are stopped or killed."""

import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import pytest

from tests import full_disk
from tests.integration import runs
from xkd_jax.ablation import runner

# Stands for a training: waits, and logs the signal that ends it.
RUN = """
import os, sys, time
from input_pipeline.programs import signals

signals.install()
try:
    print("runs", os.getpid(), flush=True)
    while True:  # a signal just before a sleep is heard only after it
        time.sleep(0.05)
except signals.Stopped as stopped:
    print("saved", stopped.number, flush=True)
    signals.finish()
"""
ABLATE = """
import collections, pathlib, sys
from input_pipeline.programs import signals
signals.install()
from xkd_jax.ablation import runner

run, folder = sys.argv[1:]
sys.executable = run
Job = collections.namedtuple("Job", ["workdir", "run", "seed", "row"])
runs = runner.Runner(None, None)
runs._remaining = lambda job: [("pretraining", None)]
runs._pretrain = lambda job: runs._start((), job)
try:
    runs.run([Job(pathlib.Path(folder), "xkd", 0, "xkd")])
except runner.Stopped:
    print("stopped")
"""


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGHUP, marks=pytest.mark.slow), signal.SIGKILL],
    ids=lambda n: n.name,
)
def test_the_run_under_way_saves_and_ends(tmp_path, number):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{RUN}'\n")
    python.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-c", ABLATE, python, tmp_path / "run"],
        cwd=runs.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    log = tmp_path / "run" / runner.LOG
    wait_for(lambda: log.exists() and "runs" in log.read_text())
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert process.returncode == 0 and output.endswith("stopped\n")
    child = int(log.read_text().split("runs ")[1].split()[0])
    wait_for(lambda: not os.path.exists(f"/proc/{child}"))
    assert log.read_text().endswith("saved 15\n")


class Job(NamedTuple):
    workdir: pathlib.Path


@pytest.mark.faults
def test_a_full_disk_names_the_log(tmp_path):
    log = tmp_path / "run" / runner.LOG
    with full_disk.largest_file(0), pytest.raises(OSError, match=f"'{log}'$"):
        runner.Runner(None, None)._start((), Job(log.parent))
