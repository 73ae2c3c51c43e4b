"""Processes that agree on their last step; threads stand for them."""

import contextlib
import random
import threading
import time

import pytest

from tests.xkd_jax import coordination
from xkd_jax.run import last_step

COUNT = 3
TOTAL = 400


@pytest.fixture
def processes(monkeypatch):
    """Starts threads that train. Returns their `LastStep`s and a function that ends their runs."""
    monkeypatch.setattr(last_step, "_PERIOD", 0.02)
    monkeypatch.setattr(last_step, "_uses", iter([0] * COUNT))
    service = coordination.Service()
    agreements = [last_step.LastStep(1, service, index, COUNT) for index in range(COUNT)]
    lockstep = threading.Barrier(COUNT)  # as a step's collective operations are
    ends = [None] * COUNT

    def train(index, total):
        step = 1
        with agreements[index]:
            while step < total and not agreements[index].reached(step):
                time.sleep(random.Random(f"{index} {step}").uniform(0, 0.005))
                lockstep.wait(timeout=20)
                step += 1
            ends[index] = step

    def start(total=TOTAL):
        threads = [threading.Thread(target=train, args=(i, total)) for i in range(COUNT)]
        for thread in threads:
            thread.start()

        def end():
            for thread in threads:
                thread.join(timeout=60)
            return ends

        return agreements, service, end

    return start


@pytest.mark.parametrize("told", [(0,), (2,), (0, 1, 2)])
def test_all_stop_after_the_same_step(processes, told):
    agreements, _, end = processes()
    time.sleep(0.2)
    for index in told:
        agreements[index].told = True
    ends = end()
    assert len(set(ends)) == 1, ends
    assert 1 < ends[0] < TOTAL


def test_nobody_stops_early_unless_told(processes):
    assert processes(total=50)[2]() == [50] * COUNT


def test_a_request_in_the_last_step_holds_nobody_up(processes):
    agreements, _, end = processes(total=20)
    while agreements[0]._begun < 19:
        time.sleep(0.001)
    agreements[1].told = True
    assert end() == [20] * COUNT


def test_a_service_that_fails_for_a_while_only_delays(processes, monkeypatch):
    agreements, service, end = processes()
    answers = {"get": service.key_value_dir_get, "set": service.key_value_set}
    failures = iter(range(15))

    def fail_at_first(name, *args, **kwargs):
        with contextlib.suppress(StopIteration):
            next(failures)
            raise coordination.Error("UNAVAILABLE")
        return answers[name](*args, **kwargs)

    monkeypatch.setattr(service, "key_value_dir_get", lambda *a, **k: fail_at_first("get", *a, **k))
    monkeypatch.setattr(service, "key_value_set", lambda *a, **k: fail_at_first("set", *a, **k))
    agreements[1].told = True
    ends = end()
    assert len(set(ends)) == 1 and ends[0] < TOTAL
    assert next(failures, None) is None
