"""Setup that all tests share: devices, compiled programs, a folder, selection and order."""

import os
import pathlib
import signal

import numpy as np
import pytest

from input_pipeline.programs import program
from tests import compile_cache, damage, garbage, session, xla_flags

# Set these before anything imports jax.
if os.environ.get("XKD_TESTS_ON") == "gpu":  # for tests of numbers; others count on eight devices
    os.environ["JAX_PLATFORMS"] = "cuda,cpu"
    os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"  # the default rounds to 10 bits
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
else:
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {xla_flags.EIGHT_DEVICES}"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
compile_cache.use()
program.collect_garbage_rarely()

# A background process of a shell without job control ignores SIGINT, one that nohup started ignores
# SIGHUP, and their children inherit that. The programs under test must receive both.
for number, default in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, default)

session.begin()


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="also run the tests marked slow")
    parser.addoption("--reverse", action="store_true", help="run files and tests last one first")


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # only in the process that starts the workers
        compile_cache.tidy_own()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Starts one worker per core, or none for a single file, which is faster without."""
    files = {argument.partition("::")[0] for argument in config.args}
    if len(files) == 1 and pathlib.Path(*files).is_file():
        return 0
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def pytest_unconfigure():
    session.end()


def pytest_collection_modifyitems(config, items):
    if config.getoption("--reverse"):
        items.reverse()
    if config.getoption("--all") or "slow" in (config.getoption("-m") or ""):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(autouse=True, scope="module")
def _older_objects_set_aside():
    garbage.set_older_objects_aside()


@pytest.fixture(autouse=True)
def _seeded():
    """Seeds NumPy's global state for libraries that use it; tests use `np.random.default_rng`."""
    np.random.seed(0)  # noqa: NPY002


@pytest.fixture
def rng():
    """Each test's own generator, so that no test's numbers depend on what others have drawn."""
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _damages_counted(record_property):
    before = damage.made()
    yield
    if made := damage.made() - before:
        record_property("damages", made)


def pytest_terminal_summary(terminalreporter):
    ends = (report for report in terminalreporter.getreports("") if report.when == "teardown")
    made = sum(dict(report.user_properties).get("damages", 0) for report in ends)
    if made:
        terminalreporter.write_line(f"{made} damages were made to files")
