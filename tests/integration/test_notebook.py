"""The notebook of docs/ runs from its first cell to its last, on a few videos."""

import json
import pathlib

import matplotlib
import numpy as np
import pytest
from PIL import Image

from tests import saved_runs
from tests.integration import runs

DOCS = pathlib.Path("docs")
CELLS = json.loads((DOCS / "folder_map.ipynb").read_text())["cells"]
CODE = {cell["id"]: "".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"}


def test_it_is_shipped_without_outputs_and_with_a_small_picture():
    for cell in CELLS:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    assert any("(images/folder_map.png)" in "".join(cell["source"]) for cell in CELLS)
    assert (DOCS / "images/folder_map.png").stat().st_size < 100_000


@pytest.mark.slow  # it prepares videos in a process of its own, and compiles a step
def test_it_goes_from_a_folder_of_videos_to_a_map(tmp_path, monkeypatch):
    monkeypatch.setattr(matplotlib, "rcParams", matplotlib.rcParams.copy())
    matplotlib.use("Agg")
    smaller = {
        "FOLDER": tmp_path,
        "VIDEOS": runs.clips(),
        "SHOWN": runs.clips() / "test",
        "TRAIN": 12,
        "TEST": 2,
        "CONFIG": runs.TINY,
    }
    names = {}
    for cell, code in CODE.items():
        exec(compile(code, cell, "exec"), names)
        if cell == "parameters":
            assert names.keys() >= smaller.keys()
            names |= smaller
            names["FIELDS"] |= {"steps": 2, "batch_size": 8}
    assert (tmp_path / "prepared/prepared.json").is_file()
    assert len(saved_runs.logged_lines(tmp_path / "run")) == 1
    for vectors in names["features"].values():
        assert vectors.shape == (2, 32) and np.isfinite(vectors).all()
    picture = np.asarray(Image.open(tmp_path / "map.png").convert("RGB"))
    assert picture.shape == (320, 720, 3) and (picture != 255).any()
