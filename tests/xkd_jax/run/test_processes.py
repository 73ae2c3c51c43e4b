import jax
import numpy as np
import pytest

from xkd_jax.run import processes


def test_alone_by_default():
    assert processes.find(None, None, None, {}) is None


def test_by_flags():
    group = processes.find("host:1234", 4, 3, {"SLURM_STEP_NUM_TASKS": "9", "SLURM_PROCID": "0"})
    assert group == ("host:1234", 4, 3, "flags")


def test_by_slurm():
    group = processes.find(None, None, None, {"SLURM_STEP_NUM_TASKS": "9", "SLURM_PROCID": "2"})
    assert group == (None, 9, 2, "Slurm")
    assert processes.find(None, None, None, {"SLURM_STEP_NUM_TASKS": "1"}) is None
    # An allocation without srun.
    assert processes.find(None, None, None, {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("host:1234", None, 3), "--processes missing"),
        ((None, 4, None), "--coordinator, --process missing"),
        (("host", 4, 3), "--coordinator is 'host'; allowed: HOST:PORT"),
        (("host:99999", 4, 3), "--coordinator is 'host:99999'"),
        (("host:1", 4, 4), "--process is 4; allowed: 0 to 3, below --processes"),
    ],
)
def test_refuses_flags_that_do_not_go_together(flags, message):
    with pytest.raises(processes.GroupError, match=message):
        processes.find(*flags, {})


def test_one_process_agrees_with_itself():
    processes.check_same("text", "the config")


def test_a_process_that_differs_is_named(monkeypatch):
    def gathered(digest):
        return np.stack([digest, digest, digest[::-1]])

    monkeypatch.setattr(processes.jax, "process_count", lambda: 3)
    monkeypatch.setattr(processes.multihost_utils, "process_allgather", gathered)
    with pytest.raises(processes.GroupError, match=r"^the data of process 2 differs .* process 0;"):
        processes.check_same("text", "the data")


def test_slurm_says_where_process_0_is(monkeypatch):
    variables = {
        "SLURM_JOB_ID": "70000",
        "SLURM_STEP_NODELIST": "node[07-09]",
        "SLURM_NTASKS": "3",
        "SLURM_STEP_NUM_TASKS": "3",
        "SLURM_PROCID": "2",
        "SLURM_LOCALID": "0",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    address, index = processes._place(processes.find(None, None, None), 1.0)
    assert address.startswith("node07:") and index == 2


def test_the_hardware_in_words():
    assert processes.describe() == f"{jax.device_count()} cpu devices, 1 process"
