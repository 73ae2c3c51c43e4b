"""Videos of masked and reconstructed clips: their content, and what is refused."""

from unittest import mock

import av
import numpy as np
import pytest

from tests.media_files import seen_times, write_media
from tests.saved_runs import save_run
from xkd_jax import inpaint
from xkd_jax.interop import export


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns the workdir of a tiny run, whose views have one second of 8 frames."""
    workdir = tmp_path_factory.mktemp("run")
    save_run(workdir)
    return workdir


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_media(tmp_path_factory.mktemp("media") / "clip.mp4", 2.5, size=(64, 64))


@pytest.fixture(scope="module")
def silent(tmp_path_factory):
    return write_media(tmp_path_factory.mktemp("media") / "silent.mp4", 0.75, audio_codec=None)


def read(path):
    """Reads the frames (T, H, W, 3) and the sound (S,) of a file."""
    with av.open(path) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    with av.open(path) as container:
        if not container.streams.audio:
            return frames, None
        assert container.streams.audio[0].codec_context.name == "aac"
        sound = [f.to_ndarray()[0] for f in container.decode(audio=0)]
    return frames, np.concatenate(sound)


def test_a_clip_of_several_windows_plays_with_both_sounds(run, clip, tmp_path, capsys):
    output = tmp_path / "out.mp4"
    flags = [f"--checkpoint={run}", f"--input={clip}", "--mask=0.8,0.7", f"--output={output}"]
    titles = mock.Mock(wraps=inpaint._titles)
    with mock.patch.object(inpaint, "_titles", titles):
        inpaint.main(flags)
    assert {call.args[1:] for call in titles.call_args_list} >= {
        ("80%, 70% masked", "original"),
        ("80%, 70% masked", "reconstructed"),
    }
    frames, sound = read(output)
    assert len(frames) == 2 * 20  # 2.5 s at 8 frames per second, twice
    assert len(sound) == pytest.approx(5 * 16000, abs=2500)
    assert np.abs(sound[4000:36000]).max() > 0.2  # that of the original
    assert frames.shape[1] % 2 == 0
    assert frames.shape[2] % 2 == 0
    assert "2.5 s" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_windows_follow_one_another_without_a_gap(run, clip):
    made = inpaint.inpaint(run, clip, inpaint.Shares(video=0.5, audio=0.75))
    original, masked, restored = made.frames
    assert original.shape == (20, 32, 32, 3)
    # The frames on screen at these times, at 25 per second.
    np.testing.assert_allclose(seen_times(original), np.arange(20) / 8, atol=0.06)
    gray = (masked == 128).all(axis=-1)
    assert 0.4 < gray.mean() < 0.6
    np.testing.assert_array_equal(restored[~gray], original[~gray])
    assert made.waveforms.shape == (2, 40000)
    assert np.isnan(made.log_mels[1]).mean() == pytest.approx(0.75, abs=0.05)
    assert np.isfinite(made.log_mels[[0, 2]]).all()


def test_no_more_than_is_asked_for(run, clip):
    shares = inpaint.Shares(0.5, 0.75)
    assert inpaint.inpaint(run, clip, shares, seconds=1.25).frames.shape[1] == 10
    assert inpaint.inpaint(run, clip, shares, seconds=0.1).frames.shape[1] == 8  # a window at least


def test_a_short_file_without_sound_plays_once(run, silent, tmp_path):
    inpaint.main([f"--checkpoint={run}", f"--input={silent}", f"--output={tmp_path / 'out.mp4'}"])
    frames, sound = read(tmp_path / "out.mp4")
    assert len(frames) == 6
    assert sound is None


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"checkpoint": "nowhere"}, "no such folder"),
        ({"input": "nowhere.mp4"}, "--input=nowhere.mp4: no such file"),
        ({"output": "out.avi"}, "a name that ends in .mp4"),
        ({"output": "nowhere/out.mp4"}, "there is no such folder"),
        ({"output": "/proc/out.mp4"}, "--output=/proc/out.mp4 cannot be written"),
        ({"seed": "-1"}, "argument --seed: -1; allowed: whole numbers, 0 or more"),
        ({"mask": "0.999"}, "--mask=0.999 leaves 0 of 32 patches of video"),
        ({"mask": "0.999,0.5"}, "--mask=0.999,0.5 leaves 0 of 32 patches of video"),
    ],
)
def test_refusals_are_one_line(run, silent, tmp_path, monkeypatch, flags, words):
    monkeypatch.chdir(tmp_path)
    given = {"checkpoint": run, "input": silent, "output": "out.mp4"} | flags
    with pytest.raises(SystemExit) as exit:
        inpaint.main([f"--{name}={value}" for name, value in given.items()])
    assert words in str(exit.value)
    assert "\n" not in str(exit.value)
    assert not list(tmp_path.iterdir())


def test_encoders_alone_are_refused(run, silent, tmp_path):
    export.export(run, tmp_path / "export")
    with pytest.raises(ValueError, match="holds encoders and no decoder"):
        inpaint.inpaint(tmp_path / "export", silent, inpaint.Shares(0.8, 0.8))


@pytest.mark.parametrize("mask", ["0", "1", "half", "0.8,1", "0.8,0.7,0.6", "0.8,"])
def test_a_share_is_between_0_and_1(run, silent, mask):
    with pytest.raises(SystemExit, match="allowed: between 0 and 1"):
        inpaint.main(
            [f"--checkpoint={run}", f"--input={silent}", f"--mask={mask}", "--output=o.mp4"]
        )
