import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.integration import runs
from tests.tiny import tiny_batch, tiny_config
from xkd_jax import benchmark


def test_noise_has_the_form_of_a_batch():
    config = tiny_config()
    made, expected = benchmark.noise(config), tiny_batch(config)
    assert {name: (x.shape, x.dtype) for name, x in made.items()} == {
        name: (x.shape, x.dtype) for name, x in expected.items()
    }


def test_rates_and_memory_are_of_this_machine():
    assert 1e8 < benchmark.matmul_rate(np.dtype(np.float32)) < 1e15
    before = benchmark.peak_memory()
    kept = np.ones(2**27, np.uint8)
    assert benchmark.peak_memory() >= before and kept.all()


@pytest.mark.slow
def test_the_program_prints_one_line_of_json(tmp_path):
    process = runs.start_module(
        "xkd_jax.benchmark",
        *(f"--config={runs.TINY}", "--steps=3", "--breakdown", f"--profile={tmp_path}"),
        stderr=None,
    )
    code, output = runs.ended(process)
    assert code == 0
    result = json.loads(output.splitlines()[-1])
    assert result["batch_size"] == 4 and result["dtype"] == "float32"
    parts = {"views", "teachers", "student_encoders", "decoders", "heads_and_losses"}
    assert {*parts, "optimizer_and_ema"} == set(result["milliseconds_by_part"])
    spread = result["milliseconds_per_step"]
    assert 0 < spread["p10"] <= spread["median"] <= spread["p90"]
    np.testing.assert_allclose(result["clips_per_second"], 4e3 / spread["median"], rtol=1e-2)
    assert 0 < result["share_of_matmul_rate"] < 1
    assert list(tmp_path.rglob("*.xplane.pb")), "a trace"


@pytest.mark.slow  # a program of its own
def test_an_impossible_config_is_one_line():
    done = subprocess.run(
        [
            *(sys.executable, "-m", "xkd_jax.benchmark"),
            *("--config=configs/k400.py", "--config.model.video.patch=(4,15,16)"),
        ],
        cwd=runs.ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 1
    assert done.stderr.strip().startswith("error: config.model.video.patch is (4, 15, 16)")
