import numpy as np
import pytest

from tests.xkd_jax import toy
from xkd_jax.run import bottlenecks


def looked(capsys, intervals, shares=None):
    """Returns the lines printed after intervals of (data_wait, away), and the gathered shares."""
    asked = []

    def gather(share):
        asked.append(share)
        return np.asarray([share, *shares], np.float32)

    one = bottlenecks.Bottlenecks(1 + len(shares or ()), gather)
    for number, interval in enumerate(intervals, start=1):
        one.look(50 * number, *interval)
    return capsys.readouterr().err.splitlines(), asked


def test_waiting_for_data_is_said_once_with_what_to_do(capsys):
    said, _ = looked(capsys, [(0.1, 0.2), (0.1, 0.2), (0.34, 0.5), (0.4, 0.5)])
    assert len(said) == 1
    assert said[0].startswith("warning: step 150: 34% of the time goes into waiting for data: ")
    assert "input_pipeline.prepare" in said[0] and "--config.data.threads" in said[0]


def test_the_first_interval_may_be_slow(capsys):
    assert looked(capsys, [(0.9, 0.9), (0.0, 0.1)]) == ([], [])


def test_the_process_that_all_others_wait_for_is_named_once(capsys):
    said, asked = looked(capsys, [(0.0, 0.1)] * 4, shares=[0.12, 0.6, 0.1])
    assert len(said) == 1
    assert "step 100: all wait for process 2, which spends 60% of its time" in said[0]
    assert "the median process 11%" in said[0]
    assert len(asked) == 1, "no communication once it is said"


@pytest.mark.parametrize("shares", [[0.7, 0.75], [0.72, 0.6]])
def test_where_all_are_slow_none_lags(capsys, shares):
    said, asked = looked(capsys, [(0.0, 0.7)] * 3, shares)
    assert said == [] and len(asked) == 2


def test_a_run_that_waits_for_data_says_so(tmp_path, capsys):
    toy.run(tmp_path, 20, batches=lambda start: toy.batches(start, delay=0.05))
    said = [x for x in capsys.readouterr().err.splitlines() if x.startswith("warning: ")]
    assert len(said) == 1 and "waiting for data" in said[0]


def test_gathering_in_one_process():
    np.testing.assert_allclose(bottlenecks.gather(0.25), [0.25])
