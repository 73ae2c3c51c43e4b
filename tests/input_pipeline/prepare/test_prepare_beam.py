"""Beam's local runner with several processes writes the same bytes as no Beam."""

import pathlib
import subprocess
import sys

import pytest

from input_pipeline.prepare import __main__ as prepare
from tests import media_files

ROOT = pathlib.Path(__file__).parents[3]
RUNNER = ["--runner=DirectRunner", "--direct_num_workers=2"]


def test_gives_the_same_bytes_and_goes_on_where_it_was(tmp_path, monkeypatch):
    """The first run with Beam is the real command; the others use this process's TensorFlow."""
    pytest.importorskip("apache_beam", reason="needs requirements-beam.txt, as .ci/run installs it")
    source = tmp_path / "source"
    source.mkdir()
    for number in range(5):
        media_files.write_media(source / f"{number} ü.mp4", 1.0 + number / 5)
    (source / "empty.mp4").write_bytes(b"")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for Beam's processes too
    monkeypatch.chdir(ROOT)
    flags = ["--dataset=folder", f"--source={source}", "--short_side=32", "--max_bad_fraction=0.5"]
    assert prepare.main([*flags, f"--output={tmp_path / 'alone'}", "--workers=2"]) == 0
    output = f"--output={tmp_path / 'beam'}"
    beam = [*flags, output, "--beam", *RUNNER, "--direct_running_mode=multi_processing"]
    command = [sys.executable, "-m", "input_pipeline.prepare", *beam, "--max_bad_fraction=0.1"]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 1 and "--max_bad_fraction is 0.1" in first.stderr, first.stderr
    shard = next((tmp_path / "beam").glob("*.array_record-00001-*"))
    identity = shard.stat().st_ino
    next((tmp_path / "beam").glob("*.array_record-00002-*")).unlink()
    assert prepare.main(beam) == 0
    assert shard.stat().st_ino == identity
    wanted = {path.name: path.read_bytes() for path in (tmp_path / "alone").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "beam").iterdir()} == wanted


def test_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    media_files.write_media(tmp_path / "clip.mp4", 1.0)
    out = tmp_path.with_name("out")
    flags = ["--dataset=folder", f"--source={tmp_path}", f"--output={out}"]
    assert prepare.main([*flags, "--beam"]) == 1
    assert "--beam needs Apache Beam" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="unrecognized arguments: --runner=FlinkRunner"):
        prepare.main([*flags, "--runner=FlinkRunner"])
