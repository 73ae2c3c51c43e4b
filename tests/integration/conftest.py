"""Fixtures: a checkpoint to evaluate, and data to evaluate it on."""

import pytest

from input_pipeline.prepare import __main__ as prepare
from tests import preparing
from tests.integration import miniatures
from tests.saved_runs import save_run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    save_run(workdir)
    return str(workdir)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    return miniatures.write_files(tmp_path_factory.mktemp("media"))


@pytest.fixture
def data(media, tmp_path, monkeypatch):
    """A function `name -> folder` that makes a data set, and prepares it if it is published."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    preparing.in_this_process(monkeypatch)

    def make(name):
        source, prepared = tmp_path / "source" / name, tmp_path / "prepared" / name
        if name == "folder":
            miniatures.folder(source, media)
            return source
        miniatures.PUBLISHED[name](source, media)
        prepare.prepare(prepare.Task(name, source, prepared, short_side=32))
        return prepared

    return make
