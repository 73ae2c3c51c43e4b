"""Fixtures shared by the tests of evaluations."""

import pytest

from tests.saved_runs import save_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Workdir of a tiny run with random weights."""
    workdir = tmp_path_factory.mktemp("run")
    save_run(workdir)
    return str(workdir)
