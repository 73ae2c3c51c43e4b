"""What malloc does with the memory of steps."""

import platform
import subprocess
import sys

import pytest

# Allocates 60 MB in a thread again and again, and prints how often the system had to map a page.
STEPS = """
import resource, sys, threading
import numpy as np
from xkd_jax.run import host_memory

def allocate():
    np.ones(60_000_000, np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(60_000_000, np.uint8)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

getattr(host_memory, sys.argv[1])()
thread = threading.Thread(target=allocate)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc's malloc")
def test_a_step_keeps_the_memory_that_it_frees():
    def faults(setting):
        command = [sys.executable, "-c", STEPS, setting]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("keep") < 10
    assert faults("give_back") > 100, "otherwise there is nothing to gain"
