"""Processor time is that of the metered threads alone."""

import math
import pathlib
import threading
import time

import pytest

from input_pipeline import processor_time

pytestmark = pytest.mark.skipif(
    not pathlib.Path("/proc/self/task").exists(), reason="the system does not tell"
)


def burn(seconds):
    """Keeps a core busy for so many seconds of its time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_threads_are_metered_and_the_caller_is_not():
    meter, burned, done = processor_time.ThreadMeter(), threading.Event(), threading.Event()

    def work():
        burn(0.3)
        burned.set()
        done.wait()

    assert math.isnan(meter.seconds())
    with meter.starting():
        thread = threading.Thread(target=work)
        thread.start()
    burn(0.3)
    burned.wait()
    try:
        assert meter.seconds() == pytest.approx(0.3, abs=0.05)
    finally:
        done.set()
        thread.join()
    assert meter.seconds() == pytest.approx(0.3, abs=0.05)  # what was seen is not forgotten
