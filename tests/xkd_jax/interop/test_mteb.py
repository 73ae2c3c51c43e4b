"""The example that evaluates exports on MTEB's tasks, on small tasks in MTEB's own runner."""

import os
import pathlib
import pickle
import re
import shutil
import subprocess

import av
import numpy as np
import pytest

import xkd_jax
from tests.media_files import write_media
from tests.saved_runs import save_run
from xkd_jax.interop import export

PROGRAM = pathlib.Path(__file__).parents[3] / "docs/mteb/evaluate.py"
RNG = np.random.default_rng(0)
REFUSED = {
    "--tasks names 'ESC51'; allowed: video, audio, both, or": ["--tasks=ESC51"],
    "--windows is 0; allowed: 1 or more": ["--windows=0"],
    "--workers is 0; allowed: 1 or more": ["--workers=0"],
    "--device is none; allowed: cpu, or": ["--device=none"],
    "torn/model.safetensors is damaged: ": ["--model=torn"],
    "--model is nowhere; allowed: a folder that": ["--model=nowhere"],
    "network is 'third'; allowed: teacher, student": ["--network=third"],
    "--output is job.pickle; allowed: a folder that": ["--output=job.pickle"],
    "GreatestHitsA2VRetrieval compares video with audio": ["--tasks=GreatestHitsA2VRetrieval"],
    "MSRVTTV2T has inputs of text and video; the encoders are of": ["--tasks=MSRVTTV2T"],
}


def recording(color, tone):
    """Returns noise of one of two colors, and a tone of one of two pitches in noise."""
    frames = RNG.integers(0, 100, (10, 20, 32, 3))
    frames[..., color] += 120
    times = np.arange(11025) / 11025
    waveform = 0.3 * np.sin(2 * np.pi * (400, 3000)[tone] * times + RNG.uniform(0, 6))
    waveform += 0.01 * RNG.normal(size=len(times))
    sampled = {"fps": 12.5, "rate": 11025, "waveform": waveform.astype(np.float32)}
    return sampled | {"frames": frames.astype(np.uint8)}


def labeled(recordings, labels):
    return [r | {"label": int(label)} for r, label in zip(recordings, labels, strict=True)]


def decoded(path):
    """Returns all frames and all samples of a file."""
    with av.open(path) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(path) as container:
        samples = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return np.stack(frames), np.concatenate(samples, axis=1).mean(axis=0)


@pytest.fixture(scope="module")
def python():
    path = os.environ.get("XKD_MTEB_PYTHON")
    if not path:
        pytest.skip("needs XKD_MTEB_PYTHON, an environment of requirements-mteb.txt, as in .ci/run")
    return os.path.abspath(path)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Returns recordings, each decoded and as another one's file."""
    found = []
    for number in range(4):
        path = tmp_path_factory.mktemp("clips") / f"{number}.mkv"
        write_media(path, 1.4 + number, layout="mono", start=0.5 * (number % 2))
        one = recording(number % 2, number // 2)
        noise = RNG.integers(0, 256, (30, 24, 40, 3), np.uint8)
        waveform = RNG.uniform(-1, 1, 11025 * 2).astype(np.float32)
        found.append(one | {"frames": noise, "waveform": waveform, "path": path, "label": 0})
    return found


@pytest.fixture(scope="module")
def answers(python, clips, tmp_path_factory):
    """Returns what the program answers, in one process for all tests."""
    folder = tmp_path_factory.mktemp("mteb")
    save_run(folder / "run")
    flags = [f"--checkpoint={folder / 'run'}", f"--output={folder / 'hub'}"]
    export.main([*flags, "--format=huggingface"])
    shutil.copytree(folder / "hub", folder / "torn")
    os.truncate(folder / "torn" / "model.safetensors", 1000)
    classes = RNG.permutation(np.arange(96) % 4)
    recordings = [recording(label % 2, label // 2) for label in classes]
    both = ["video", "audio"]
    job = {
        "program": PROGRAM,
        "folder": folder / "hub",
        "tasks": {
            "Color": (["video"], labeled(recordings, classes % 2)),
            "Pitch": (["audio"], labeled(recordings, classes // 2)),
            "ColorAndPitch": (both, labeled(recordings, classes)),
            "PitchOfVideo": (["video"], labeled(recordings, classes // 2)),
            "Shuffled": (both, labeled(recordings, RNG.permutation(classes))),
        },
        "recordings": clips,
        "refused": [*REFUSED.values()],
    }
    (folder / "job.pickle").write_bytes(pickle.dumps(job))
    environment = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    environment |= {"HOME": str(folder), "OMP_NUM_THREADS": "1", "MTEB_CACHE": str(folder / "no")}
    environment |= {k: v for k, v in os.environ.items() if k == "LD_LIBRARY_PATH"}
    script = pathlib.Path(__file__).with_name("in_mteb.py")
    done = subprocess.run(
        [python, "-I", script, folder / "job.pickle"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "run", pickle.loads((folder / "job.answers").read_bytes())


def test_planted_classes_are_found_and_others_are_not(answers):
    code, said = answers[1]["run"]
    scores = answers[1]["scores"]
    assert code == 0
    for name, score in scores.items():
        assert re.search(rf"^{name} +accuracy +{score:.4f}$", said, re.M)
    assert min(scores["Color"], scores["Pitch"], scores["ColorAndPitch"]) > 0.95
    assert 0.3 < scores["PitchOfVideo"] < 0.7  # of two
    assert 0.05 < scores["Shuffled"] < 0.45  # of four


def test_results_are_made_once_for_each_setting_and_failures_are_told(answers):
    code, said = answers[1]["again"]
    assert code == 0 and "accuracy" in said
    code, said = answers[1]["failed"]
    assert code == 1
    assert "Color has failed: two lines\n" in said and "Shuffled has failed: two lines\n" in said


@pytest.mark.parametrize("windows", [1, 3])
def test_features_are_ours(answers, clips, windows):
    run, found = answers
    video, audio = (
        xkd_jax.load_encoder(run, m).features(
            [clip[key] for clip in clips], windows=windows, **rates
        )
        for m, key, rates in (
            ("video", "frames", {"frame_rate": 12.5}),
            ("audio", "waveform", {"sample_rate": 11025}),
        )
    )
    np.testing.assert_allclose(found["features"][("video",), windows], video, atol=1e-5)
    np.testing.assert_allclose(found["features"][("audio",), windows], audio, atol=1e-5)
    scaled = [x / np.sqrt(np.mean(x**2, axis=1, keepdims=True)) for x in (video, audio)]
    joint = found["features"][("video", "audio"), windows]
    np.testing.assert_allclose(joint, np.concatenate(scaled, axis=1), atol=1e-4)


def test_what_a_recording_lacks_is_zeros(answers):
    expected = answers[1]["features"][("video", "audio"), 1].copy()
    expected[1, 32:] = 0
    np.testing.assert_allclose(answers[1]["lacking"], expected, atol=1e-6)


def test_files_give_our_features(answers, clips):
    run, found = answers
    if not found["files"]:
        pytest.skip("needs torchcodec and FFmpeg's libraries where MTEB is")
    frames, waveforms = zip(*(decoded(clip["path"]) for clip in clips), strict=True)
    video = xkd_jax.load_encoder(run, "video").features([*frames], frame_rate=25)
    audio = xkd_jax.load_encoder(run, "audio").features([*waveforms], sample_rate=44100)
    assert min(np.ptp(video, axis=0).max(), np.ptp(audio, axis=0).max()) > 0.05
    np.testing.assert_allclose(found["files"]["video"], video, atol=2e-3)
    # Sound that starts late: decoders cut off a different number of the codec's first samples.
    np.testing.assert_allclose(found["files"]["audio"], audio, atol=1e-2)


def test_the_documented_tasks_exist_and_have_these_inputs(answers):
    inputs = {"video": {"video"}, "audio": {"audio"}, "both": {"video", "audio"}}
    page = PROGRAM.with_name("README.md").read_text()
    rows = dict(re.findall(r"^\| `(video|audio|both)` \| (.*) \|$", page, re.M))
    for group, tasks in answers[1]["named"].items():
        assert re.findall(r"`(\w+)`", rows[group]) == [*tasks]
        assert all(found == inputs[group] for found in tasks.values())


def test_what_cannot_be_evaluated_is_one_line(answers):
    for expected, (code, said) in zip(REFUSED, answers[1]["refused"], strict=True):
        last = said.splitlines()[-1]
        assert code == 2 and last.startswith("error: ") and expected in last
