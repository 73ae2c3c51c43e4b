"""What all tests share: eight CPU devices, and which tests run by default."""

import os
import tempfile

from tests import xla_flags

# Before anything imports jax.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {xla_flags.EIGHT_DEVICES}"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Programs that several tests or processes compile are compiled once.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", tempfile.mkdtemp(prefix="xkd_jax_tests_"))

import numpy as np
import pytest


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--all") or "slow" in (config.getoption("-m") or ""):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(autouse=True)
def _seeded():
    """Tests draw with `np.random.default_rng`; this is for what draws behind their backs."""
    np.random.seed(0)  # noqa: NPY002
