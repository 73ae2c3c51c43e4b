"""Verdicts on logs that a test writes line by line, and on measurements of clips."""

import math

import pytest

from tests.tiny import tiny_config
from tests.xkd_jax.report.conftest import write_log
from xkd_jax.report import history
from xkd_jax.report.health import verdict
from xkd_jax.report.health.outputs import Measured

OUTPUTS = 64
LOG_J = math.log(OUTPUTS)


@pytest.fixture
def judge_log(tmp_path):
    """Returns a function from the lines of a log, and a config, to the verdict."""

    def judge_log(lines, config=None):
        write_log(tmp_path, lines)
        return verdict.judge(history.read(tmp_path), config or tiny_config(), OUTPUTS, None)

    return judge_log


def judge_clips(table=None, **changes):
    """Returns the verdict on healthy measurements of 100 clips, but for the changes."""
    networks = [("teacher", "video"), ("teacher", "audio"), ("student", "video")]
    healthy = {
        "clips": 100,
        "information": dict.fromkeys(networks, 2.0),
        "similarity": dict.fromkeys(networks, 0.5),
        "errors": {"video": 0.5},
        "baselines": {"video": 1.0},
        "accuracies": {"video": (0.6, 0.2, 0.1)},
    }
    return verdict.judge(None, None, OUTPUTS, Measured(**(healthy | changes)), table)


def steps(count=10):
    return range(10, 10 * count + 10, 10)


def findings_of(verdict, level):
    return [finding for finding in verdict.findings if finding.level == level]
