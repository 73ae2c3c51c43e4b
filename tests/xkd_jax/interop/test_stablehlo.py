"""Programs for JAX alone: they give our features, whatever the sizes, without this package."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

import xkd_jax
from tests.saved_runs import save_run
from xkd_jax.encoders import preprocessing
from xkd_jax.interop import export, stablehlo


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns the folder of a run whose encoders share blocks, with its export in `programs`."""
    folder = tmp_path_factory.mktemp("run")
    save_run(folder / "run", "xkd_mats")
    flags = [f"--checkpoint={folder / 'run'}", f"--output={folder / 'programs'}"]
    export.main([*flags, "--format=stablehlo"])
    return folder


def noise(rng, *shape):
    return rng.integers(0, 256, shape, np.uint8)


def program(run, name):
    return jax.jit(jax.export.deserialize(bytearray((run / "programs" / name).read_bytes())).call)


def test_features_are_ours_where_this_package_is_not(run, tmp_path, rng):
    frames = noise(rng, 3, 60, 48, 70, 3)
    waveforms = rng.uniform(-1, 1, (2, 40001)).astype(np.float32)
    np.savez(tmp_path / "recordings.npz", frames=frames, waveforms=waveforms)
    script = pathlib.Path(__file__).with_name("in_jax_alone.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, script, run / "programs", tmp_path / "recordings.npz"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "answers.npz")
    for m, clips, rate in (("video", frames, 25), ("audio", list(waveforms), 16000)):
        assert found[f"{m}_platforms"].tolist() == ["cpu", "cuda", "tpu"]
        encoder = xkd_jax.load_encoder(run / "run", m)
        name = "frame_rate" if m == "video" else "sample_rate"
        np.testing.assert_allclose(found[m], encoder.features(clips, **{name: rate}), atol=1e-5)


def test_the_student_has_the_same_program(run, rng):
    frames = noise(rng, 1, 5, 20, 33, 3)  # shorter than a clip
    weights = dict(np.load(run / "programs" / "student_video.npz"))
    found = program(run, "video.jax_export")(weights, frames, np.float32(12.5))
    encoder = xkd_jax.load_encoder(run / "run", network="student")
    np.testing.assert_allclose(found, encoder.features(frames, frame_rate=12.5), atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "rate"),
    [
        ((8, 32, 32), 8),
        ((3, 100, 90), 24),
        ((41, 20, 33), 30000 / 1001),
        ((200, 64, 48), 12.5),
        ((9, 240, 320), 8),
    ],
)
def test_frames_are_those_of_pillow(shape, rate, rng):
    frames = noise(rng, *shape, 3)
    view = {"frames": 8, "frame_rate": 8.0, "size": 32}
    [expected] = preprocessing.video_views(frames, rate, view, [0.5])
    found = stablehlo.sample(frames, np.float32(rate), view)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("samples", [5000, 16000, 16001, 16003, 50000])
def test_log_mels_are_ours(samples, rng):
    view = {"seconds": 1.0, "frames": 64, "sample_rate": 16000, "mel_bands": 16, "window": 1024}
    view |= {"hop": 160, "max_frequency": 8000.0, "log_offset": 1e-6, "mean": -5.0, "std": 4.0}
    waveform = rng.uniform(-1, 1, samples).astype(np.float32)
    [expected] = preprocessing.audio_views(waveform, 16000, view, [0.5])
    np.testing.assert_allclose(stablehlo.log_mel(waveform, view), expected, atol=1e-5)


def test_the_same_programs_are_the_same_bytes(run, capsys):
    flags = [f"--checkpoint={run / 'run'}", f"--output={run / 'programs'}"]
    export.main([*flags, "--format=stablehlo"])
    assert "left as it is" in capsys.readouterr().out


def test_load_encoder_says_what_the_folder_is(run):
    with pytest.raises(ValueError, match="an export for JAX alone; export the run with"):
        xkd_jax.load_encoder(run / "programs")


def test_programs_name_no_files_of_this_machine(run):
    for path in (run / "programs").glob("*.jax_export"):
        content = path.read_bytes()
        assert b"xkd_jax" not in content and b".py" not in content
