import json
import subprocess
import sys
import time

from xkd_jax.run import watchdog

HANGS = """
import sys, time
from xkd_jax.run import watchdog

def waits_forever():
    time.sleep(1000)

with watchdog.Watchdog(sys.argv[1], 3, seconds=0.5) as dog:
    dog.beat(7)
    with dog.pause():
        time.sleep(1)
    print("paused", flush=True)
    waits_forever()
"""


def test_a_run_that_hangs_is_ended_and_says_where(tmp_path):
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGS, tmp_path], capture_output=True, text=True, timeout=100
    )
    assert time.monotonic() - started < 60
    assert done.returncode == watchdog.STALLED
    assert done.stdout == "paused\n"
    assert "error: process 3 has not ended a step for 0.5 s after step 7" in done.stderr
    assert "waits_forever" in (tmp_path / "stacks-3.txt").read_text()
    assert not (tmp_path / "heartbeat.json").exists(), "the first process's heart is the run's"


def test_a_run_that_moves_is_left_alone(tmp_path):
    with watchdog.Watchdog(tmp_path, 0, seconds=1) as dog:
        for step in range(5):
            dog.beat(step)
            time.sleep(0.3)
    heartbeat = json.loads((tmp_path / "heartbeat.json").read_text())
    assert heartbeat["step"] == 0, "written every ten seconds at most"
    assert abs(heartbeat["time"] - time.time()) < 60


def test_none_where_it_is_switched_off(tmp_path):
    with watchdog.Watchdog(tmp_path, 0, seconds=0) as dog:
        dog.beat(1)
        time.sleep(0.1)
    assert (tmp_path / "heartbeat.json").exists()
