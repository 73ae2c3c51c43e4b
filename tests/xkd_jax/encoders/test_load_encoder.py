"""An encoder loaded from a run: its outputs, its arguments, and what it refuses."""

import fractions
import functools
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import tensorflow as tf

import xkd_jax
from input_pipeline import evaluation, views
from input_pipeline.datasets import open_dataset
from tests.media_files import clock_frame, clock_sound, seen_times, write_media
from tests.saved_runs import save_run
from xkd_jax.encoders import descriptions, preprocessing, pretrained_encoder
from xkd_jax.method import augment
from xkd_jax.method.models.xkd import MODALITIES, modality_params

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("plain")
    config, _, _ = save_run(workdir)
    return workdir, config


@functools.cache
def load(workdir, modality="video"):
    """Loads a teacher once for all tests, which share its compiled programs."""
    return xkd_jax.load_encoder(workdir, modality, batch_size=4)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Returns a folder of files whose frames and sound encode the time."""
    root = tmp_path_factory.mktemp("media")
    write_media(root / "long.mp4", 3.0)
    write_media(root / "short.mp4", 0.6)
    write_media(root / "silent.mp4", 2.0, audio_codec=None)
    return root


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("query", ["cls", "mean"])
def test_outputs_are_those_of_training(query, tmp_path):
    """Tests teachers that share blocks; other tests compare the rest to the release's features."""
    _, model, state = save_run(tmp_path, "xkd_mats", query=query)
    clips = noise(2, 8, 32, 32, 3)
    sound = np.random.default_rng(1).normal(size=(2, 16, 64)).astype(np.float32)
    normalized = {"video": augment.normalize(clips), "audio": sound}
    for m, seen in (("video", clips), ("audio", sound)):
        encode = functools.partial(getattr(model, m).encode, row=query)
        expected = jax.jit(encode)(modality_params(state.teacher, m), normalized[m])
        encoder = xkd_jax.load_encoder(tmp_path, m)
        close = {"rtol": 1e-4, "atol": 1e-5}
        tokens = encoder.encode_views(seen, "tokens")
        np.testing.assert_allclose(tokens, expected.tokens, **close)
        attention = encoder.encode_views(seen, "attention")
        np.testing.assert_allclose(attention, expected.attention, **close)
        features = encoder.encode_views(seen)
        np.testing.assert_allclose(features, tokens[:, 1:].mean(axis=1), **close)
        assert features.dtype == np.float32


def test_sizes(plain):
    workdir, _ = plain
    video = xkd_jax.load_encoder(workdir).sizes
    assert video == ((8, 32, 32, 3), 1.0, 8.0, (2, 4, 4), 32, 32, 4)
    audio = xkd_jax.load_encoder(workdir, "audio", "student").sizes
    assert audio == ((16, 64), 1.0, 16000, (4, 4), 16, 32, 4)


@pytest.mark.slow
def test_other_sizes_than_those_of_training(plain):
    larger = xkd_jax.load_encoder(plain[0], frame_size=48, seconds=1.5)
    assert larger.sizes.view == (12, 48, 48, 3)
    assert larger.tokens(noise(12, 60, 50, 3), frame_rate=8).shape == (1, 1 + 3 * 6 * 6, 32)
    shorter = xkd_jax.load_encoder(plain[0], "audio", seconds=0.5)
    assert shorter.sizes.view == (16, 32)
    assert shorter.attention(np.zeros(8000), sample_rate=16000).shape == (1, 4, 8)


def test_one_clip_a_list_and_an_array_are_the_same(plain):
    encoder = load(plain[0])
    clips = noise(3, 10, 40, 36, 3)
    together = encoder.features(clips, frame_rate=8)
    assert together.shape == (3, 32)
    np.testing.assert_array_equal(encoder.features(list(clips), frame_rate=[8, 8, 8]), together)
    alone = [encoder.features(clip, frame_rate=8) for clip in clips]
    np.testing.assert_allclose(np.concatenate(alone), together, rtol=1e-4, atol=1e-6)
    assert encoder.features([]).shape == (0, 32)


def test_few_programs_are_compiled_whatever_the_number_of_clips(plain):
    pretrained_encoder._apply.clear_cache()
    encoder = xkd_jax.load_encoder(plain[0], "audio", batch_size=4)
    sounds = list(0.1 * np.random.default_rng(2).normal(size=(11, 16000)))
    whole = encoder.features(sounds, sample_rate=16000)
    for count in range(1, 11):
        found = encoder.features(sounds[:count], sample_rate=16000)
        np.testing.assert_allclose(found, whole[:count], rtol=1e-4, atol=1e-6)
    assert 0 < pretrained_encoder._apply._cache_size() <= 3  # for 1, 2 and 4 clips


def test_windows_are_averaged(plain):
    encoder = load(plain[0])
    frames = noise(24, 32, 32, 3)
    parts = [frames[0:8], frames[8:16], frames[16:24]]
    expected = encoder.features(parts, frame_rate=8).mean(axis=0, keepdims=True)
    found = encoder.features(frames, frame_rate=8, windows=3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    middle = encoder.features(frames, frame_rate=8)
    np.testing.assert_allclose(middle, encoder.features(parts[1], frame_rate=8), rtol=1e-5)


@pytest.mark.parametrize(
    ("frame_rate", "count", "expected"),
    [
        (25, 75, 1.0 + np.floor(np.arange(8) / 8 * 25) / 25),  # 3 s: the middle second
        (8, 8, np.arange(8) / 8),
        (4, 4, np.arange(8) // 2 / 4),  # each frame is on screen twice
        (25, 10, np.floor(np.arange(8) / 8 % 0.4 * 25 + 1e-9) / 25),  # 0.4 s, repeated
        (29.97, 1, np.zeros(8)),
    ],
)
def test_frames_are_those_on_screen(frame_rate, count, expected):
    frames = np.stack([clock_frame(n / frame_rate, 64, 64) for n in range(count)])
    video = {"frames": 8, "frame_rate": 8.0, "size": 32}
    (view,) = preprocessing.video_views(frames, frame_rate, video, [0.5])
    assert view.shape == (8, 32, 32, 3) and view.dtype == np.uint8
    np.testing.assert_allclose(seen_times(view), expected, atol=6e-4)


@pytest.mark.parametrize("size", [(50, 90), (90, 50), (20, 30), (32, 40)])
def test_the_central_square_is_taken(size):
    frame = np.zeros((*size, 3), np.uint8)
    side = min(size)
    top, left = ((n - side) // 2 for n in size)
    frame[top : top + side, left : left + side] = 200
    square = preprocessing.central_square(frame, 32)
    assert square.shape == (32, 32, 3) and (square == 200).all()


def test_log_mels_are_the_releases():
    vectors = np.load(ROOT / "tests" / "reference" / "log_mel.npz")
    audio = paper_audio()
    for name in (n for n in vectors.files if n.startswith("mel_")):
        expected = vectors[name]
        wave = vectors[name.replace("mel_", "wave_")]
        found = preprocessing.log_mel(wave, {**audio, "frames": expected.shape[1]})
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def paper_audio():
    from configs import base

    config = base.get_config().to_dict()
    trees = {"teacher": {m: {"encoder": {}} for m in MODALITIES}}
    return descriptions.describe(config, trees, {})["preprocessing"]["audio"]


@pytest.mark.parametrize("rate", [16000, 44100, 8000, 48000.0])
def test_sound_is_resampled_and_cut_in_the_middle(rate):
    audio = paper_audio()
    whole = clock_sound(np.arange(round(6.0 * rate)) / rate)
    (view,) = preprocessing.audio_views(whole, rate, audio, [0.5])
    middle = clock_sound(1.0 + np.arange(64000) / 16000)
    expected = preprocessing.log_mel(middle, audio)
    loud = expected > 0  # elsewhere, resampling changes the values
    np.testing.assert_allclose(view[loud], expected[loud], atol=0.1)
    assert loud.mean() > 0.02


def test_files_are_seen_as_in_evaluation(plain, media):
    """Frames are equal, log-mels within 1e-3, for a long file and for one that is repeated."""
    workdir, config = plain
    config.data.path = str(media)
    source = open_dataset(config.data, config.views)
    (batch,) = evaluation.EvaluationClips(source, config.views, len(source)).batches()
    video, audio = (load(workdir, m) for m in MODALITIES)
    for row in range(len(source)):
        path = media / source.name(int(batch["example_id"][row]))
        np.testing.assert_array_equal(video.views(path)[0], batch["video"][row, 0])
        if batch["has_audio"][row]:
            np.testing.assert_allclose(audio.views(path)[0], batch["audio"][row], rtol=0, atol=1e-3)


def test_files_of_sound_alone(plain, tmp_path):
    write_media(tmp_path / "a.wav", 2.0, video_codec=None, audio_codec="pcm_s16le")
    audio = load(plain[0], "audio")
    assert audio.features(tmp_path / "a.wav").shape == (1, 32)
    with pytest.raises(ValueError, match=r"no picture: .*a\.wav"):
        load(plain[0]).features(str(tmp_path / "a.wav"))


def test_a_file_without_sound_is_refused_by_an_encoder_of_sound(plain, media):
    with pytest.raises(ValueError, match=r"no sound: .*silent\.mp4"):
        load(plain[0], "audio").features([media / "silent.mp4"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modality": "smell"}, "modality is 'smell'; allowed: 'video', 'audio'"),
        ({"network": "both"}, "network is 'both'; allowed: 'teacher', 'student'"),
        ({"dtype": "int8"}, "dtype is 'int8'; allowed: 'float32', 'bfloat16'"),
        ({"dtype": np.float32}, "dtype is <class 'numpy.float32'>; allowed: 'float32'"),
        ({"modality": ["video"]}, r"modality is \['video'\]; allowed: 'video', 'audio'"),
        ({"batch_size": 0}, "batch_size is 0; allowed: a whole number, 1 or more"),
        ({"batch_size": 2.5}, "batch_size is 2.5; allowed: a whole number"),
        ({"batch_size": True}, "batch_size is True; allowed: a whole number"),
        ({"batch_size": "16"}, "batch_size is '16'; allowed: a whole number"),
        ({"frame_size": 33}, "frame_size is 33, .* multiple of the patch's 8"),
        ({"frame_size": 10**6}, "frame_size is 1000000; allowed: a whole number, 1 to"),
        ({"frame_size": 32.0}, "frame_size is 32.0; allowed: a whole number"),
        ({"seconds": 0.7}, "seconds is 0.7, which makes 6 frames; .* the patch's 4"),
        ({"seconds": float("nan")}, "seconds is nan; allowed: 0.01 to 3600 seconds"),
        ({"seconds": float("inf")}, "seconds is inf; allowed: 0.01 to 3600 seconds"),
        ({"seconds": "4"}, "seconds is '4'; allowed: 0.01 to 3600 seconds"),
        ({"modality": "audio", "frame_size": 32}, "frame_size is 32; allowed .* audio: None"),
        ({"modality": "audio", "seconds": 0.1}, "seconds is 0.1, which makes 6 log-mel frames"),
        ({"path": None}, "path is None; allowed: a path"),
        ({"path": b"run"}, "path is b'run'; allowed: a path"),
        ({"path": ""}, "path is ''; allowed: a path that is not empty"),
        ({"path": "gs://bucket/run"}, "path is 'gs://bucket/run'; .*not a URL: download it"),
    ],
)
def test_arguments_that_cannot_work(plain, arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        xkd_jax.load_encoder(**{"path": plain[0], **arguments})


def test_paths_beside_the_right_one(plain, tmp_path):
    """Each error says which path is the right one."""
    run = plain[0]
    with pytest.raises(ValueError, match=f"give the run, {run}, or one of them, .*checkpoints/7"):
        xkd_jax.load_encoder(run / "checkpoints")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(FileNotFoundError, match=f"is a file; .*give its folder, {tmp_path}"):
        xkd_jax.load_encoder(tmp_path / "model.safetensors")


def test_tilde_is_the_home_folder(plain, media, monkeypatch):
    run, encoder = plain[0], load(plain[0])
    monkeypatch.setenv("HOME", str(media))
    [expected], [found] = (encoder.views(path) for path in (media / "long.mp4", "~/long.mp4"))
    np.testing.assert_array_equal(found, expected)
    monkeypatch.setenv("HOME", str(run.parent))
    assert xkd_jax.load_encoder(f"~/{run.name}").sizes == encoder.sizes


FRAMES, WAVE = noise(8, 32, 32, 3), 0.1 * np.ones(300)
STEREO = np.stack([WAVE, -WAVE])


@pytest.mark.parametrize(
    ("modality", "clips", "arguments", "message"),
    [
        ("video", FRAMES, {}, "frame_rate is missing"),
        ("video", FRAMES, {"frame_rate": 0}, "frame_rate is 0; allowed: 0.01 to 10000 per second"),
        ("video", FRAMES, {"frame_rate": "8"}, "frame_rate is '8'; allowed: 0.01 to 10000"),
        ("video", FRAMES, {"frame_rate": True}, "frame_rate is True; allowed: 0.01 to 10000"),
        ("video", FRAMES, {"frame_rate": {8: 8}}, "frame_rate is {8: 8}; allowed: 0.01"),
        ("video", [FRAMES] * 2, {"frame_rate": [8, "8"]}, r"frame_rate\[1\] is '8'; allowed"),
        ("video", [FRAMES] * 2, {"frame_rate": [8]}, "frame_rate has 1 values"),
        ("video", [FRAMES] * 2, {"frame_rate": "88"}, "frame_rate is '88'; allowed"),
        ("video", FRAMES, {"frame_rate": 8, "sample_rate": "x"}, "sample_rate is 'x'; allowed"),
        ("video", FRAMES / 255, {"frame_rate": 8}, r"clips\[0\] is float64.*give \(255 \* x\)"),
        ("video", FRAMES.astype(int), {"frame_rate": 8}, r"is int64.*give x\.astype\(np\.uint8\)"),
        ("video", FRAMES.transpose(0, 3, 1, 2), {"frame_rate": 8}, r"give x\.transpose\(0, 2, 3"),
        ("video", noise(8, 32, 32, 4), {"frame_rate": 8}, r"32, 4\].*give x\[\.\.\., :3\]"),
        ("video", FRAMES[0], {"frame_rate": 8}, r"uint8\[32, 32, 3\]; allowed.*x\[None\]"),
        ("video", [FRAMES[:0]], {"frame_rate": 8}, r"clips\[0\] is uint8\[0, 32, 32, 3\]"),
        ("video", FRAMES, {"frame_rate": 8, "windows": 0}, "windows is 0; allowed: a whole number"),
        ("video", FRAMES, {"frame_rate": 8, "windows": 10**9}, "a whole number, 1 to 10000$"),
        ("video", FRAMES, {"frame_rate": 8, "windows": 1.5}, "windows is 1.5; allowed"),
        ("video", [FRAMES, None], {"frame_rate": 8}, r"clips\[1\] is None; allowed: an array"),
        ("video", ["a.mp4", "https://a.org/b.mp4"], {}, r"clips\[1\] is 'https.*not a URL"),
        ("video", iter([FRAMES]), {"frame_rate": 8}, "clips is <list_iterator.*; allowed"),
        ("audio", WAVE, {}, "sample_rate is missing"),
        ("audio", WAVE, {"sample_rate": 44.1}, "sample_rate is 44.1; allowed: 1000 to 1000000 Hz"),
        ("audio", WAVE, {"sample_rate": "16000"}, "sample_rate is '16000'; allowed: 1000"),
        ("audio", WAVE, {"sample_rate": np.nan}, "sample_rate is nan; allowed: 1000"),
        ("audio", WAVE.astype(np.int16), {"sample_rate": 16000}, r"int16\[300\].*give x / 32768"),
        ("audio", WAVE * 32768, {"sample_rate": 16000}, "peak of 3276.8; .*give x / 32768"),
        ("audio", STEREO.T, {"sample_rate": 16000}, r"float64\[300, 2\].*give x.mean\(axis=1\)"),
        ("audio", STEREO, {"sample_rate": 16000}, r"float64\[2, 300\].*give x.mean\(axis=0\)"),
        ("audio", [STEREO], {"sample_rate": 16000}, r"clips\[0\] is float64\[2, 300\].*mono"),
        ("audio", list(STEREO.T), {"sample_rate": 16000}, "of 2 samples, .*; allowed: 0.01 s"),
        ("audio", WAVE.tolist(), {"sample_rate": 16000}, r"clips\[0\] is float64\[\]; allowed"),
        ("audio", np.full(300, np.nan), {"sample_rate": 16000}, "NaN or infinity"),
    ],
)  # fmt: skip
def test_clips_that_cannot_be(plain, modality, clips, arguments, message):
    encoder = load(plain[0], modality)
    with pytest.raises(ValueError, match=message):
        encoder.features(clips, **arguments)
    if "windows" not in arguments:  # only `features` has this argument
        for method in (encoder.tokens, encoder.attention):
            with pytest.raises(ValueError, match=message):
                method(clips, **arguments)


@pytest.mark.parametrize(
    ("views", "output", "message"),
    [
        (noise(1, 8, 32, 32, 3), "logits", "output is 'logits'; allowed: 'features', 'tokens'"),
        (noise(8, 32, 32, 3), "features", r"views\[0\] is uint8\[32, 32, 3\]; .*`encoder.views`"),
        (noise(1, 8, 30, 32, 3), "features", "H and W multiples of the patch's 4x8x8"),
        ([noise(8, 32, 32, 3), noise(4, 32, 32, 3)], "features", r"views\[1\].*like the first"),
        (np.full((1, 8, 32, 32, 3), np.nan), "features", r"views\[0\] holds NaN or infinity"),
        (None, "features", "views is None; allowed: an array"),
    ],
)
def test_views_that_cannot_be(plain, views, output, message):
    with pytest.raises(ValueError, match=message):
        load(plain[0]).encode_views(views, output)


def test_nothing_is_encoded_before_all_clips_are_checked(plain, monkeypatch):
    encoder = load(plain[0])
    monkeypatch.setattr(type(encoder), "_views", lambda *_: pytest.fail("encoded"))
    with pytest.raises(ValueError, match=r"clips\[1\] is float64"):
        encoder.features([FRAMES, FRAMES / 255], frame_rate=8)


def test_numbers_of_libraries_are_numbers(plain):
    """PyAV's rates are fractions, and NumPy's numbers have their own types."""
    encoder = load(plain[0])
    expected = encoder.views(FRAMES, frame_rate=25)
    for rate in (fractions.Fraction(25), np.float32(25), np.array(25)):
        np.testing.assert_array_equal(encoder.views(FRAMES, frame_rate=rate), expected)
    assert len(encoder.views(FRAMES, frame_rate=25, windows=np.int64(2))) == 2


def test_bfloat16_is_near(plain):
    clips = noise(2, 8, 32, 32, 3)
    exact = load(plain[0]).features(clips, frame_rate=8)
    fast = xkd_jax.load_encoder(plain[0], dtype="bfloat16").features(clips, frame_rate=8)
    assert fast.dtype == np.float32 and not np.array_equal(fast, exact)
    np.testing.assert_allclose(fast, exact, atol=0.05 * np.abs(exact).max())


WITHOUT = """
import sys
from importlib.machinery import PathFinder
class Without:
    "Finds modules as if neither TensorFlow nor PyTorch were installed."
    def find_spec(name, path=None, target=None):
        absent = name.split(".")[0] in ("tensorflow", "tensorflow_datasets", "torch")
        return None if absent else PathFinder.find_spec(name, path, target)
sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
import numpy as np, xkd_jax
assert not any(name.split(".")[0] == "jax" for name in sys.modules), "importing is cheap"
video, audio = (xkd_jax.load_encoder(sys.argv[1], m) for m in ("video", "audio"))
assert video.features(np.zeros((20, 40, 50, 3), np.uint8), frame_rate=25).shape == (1, 32)
assert audio.features(np.zeros(30000), sample_rate=44100).shape == (1, 32)
assert video.features(sys.argv[2]).shape == audio.features(sys.argv[2]).shape == (1, 32)
import xkd_jax.features, xkd_jax.interop.export, xkd_jax.interop.import_release
assert not any(name.split(".")[0] in ("tensorflow", "torch") for name in sys.modules)
"""


@pytest.mark.slow  # a program of its own; test_imports.py always has one
def test_it_works_without_tensorflow_and_pytorch(plain, media):
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT, plain[0], media / "long.mp4"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_training_crops_of_the_whole_square_are_the_same_pixels():
    """If nothing is resized, neither TensorFlow's crops nor ours change a pixel."""
    frames = noise(2, 32, 48, 3)
    theirs = views.resized_video_crop(tf.constant(frames), tf.constant([0, 8, 32, 32]), 32)
    ours = np.stack([preprocessing.central_square(frame, 32) for frame in frames])
    np.testing.assert_array_equal(ours, theirs.numpy())
