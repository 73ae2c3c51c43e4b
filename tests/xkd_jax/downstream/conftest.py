"""What the tests of evaluations share."""

import pytest

from tests.saved_runs import save_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The workdir of a tiny run of random weights."""
    workdir = tmp_path_factory.mktemp("run")
    save_run(workdir)
    return str(workdir)
