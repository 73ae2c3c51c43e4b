"""A run gives the same losses for any division of four devices into processes and of the state."""

import numpy as np
import pytest

from input_pipeline.programs.wording import counted
from tests import xla_flags
from tests.integration import runs
from tests.saved_runs import logged_lines

STEPS = 10  # of 2 s each, which are spent between four processes


def losses(workdir, processes, devices, fsdp) -> dict[str, list[float]]:
    """Runs `processes` processes of `devices` devices; returns each loss term at every step."""
    count = f"--xla_force_host_platform_device_count={devices}"
    process = runs.start_several(
        processes,
        *(f"--workdir={workdir}", f"--config.data.path={runs.clips()}"),
        *(f"--config.steps={STEPS}", f"--config.saving.every_steps={STEPS}"),
        *("--config.log.every_steps=1", f"--config.parallel.fsdp={fsdp}"),
        xla=f"{xla_flags.ONE_DEVICE} {count}",
    )
    code, output = runs.ended(process)
    assert code == 0, output
    assert f"4 cpu devices, {counted(processes, 'process')}" in output
    lines = logged_lines(workdir)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    terms = [name for name in lines[0] if name.startswith(("recon", "align", "distill", "total"))]
    return {name: [line[name] for line in lines] for name in terms}


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    return losses(tmp_path_factory.mktemp("runs") / "run", 1, 4, fsdp=1)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices", "fsdp"), [(2, 2, 1), (4, 1, 1), (2, 2, 4)])
def test_losses_are_those_of_one_process(one_process, tmp_path, processes, devices, fsdp):
    """This requires the same examples, views, masks and colors."""
    actual = losses(tmp_path / "run", processes, devices, fsdp)
    assert list(actual) == list(one_process)
    for name, expected in one_process.items():
        np.testing.assert_allclose(actual[name], expected, rtol=1e-5, atol=1e-5, err_msg=name)
    assert one_process["total"][-1] < one_process["total"][0], "nothing has been learned"
