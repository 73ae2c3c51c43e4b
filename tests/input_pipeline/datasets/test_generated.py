"""The generated data set: reproducible, resumable, in sync, and telling its classes both ways."""

import itertools
import subprocess
import sys
import time

import numpy as np
import pytest
import sklearn.neighbors
import sklearn.pipeline
import sklearn.preprocessing

from configs import base
from input_pipeline.datasets import generated, open_dataset, shapes
from input_pipeline.media import reader

SEED = 3


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small data set."""
    output = tmp_path_factory.mktemp("generated")
    generated.generate(output, train=80, test=40, seed=SEED)
    return output


def contents(output):
    return {path.relative_to(output): path.read_bytes() for path in output.rglob("*.mp4")}


def settings(path, **fields):
    config = base.get_config()
    config.data.dataset = "generated"
    config.data.path = str(path)
    config.data.generated.update({"train": 12, "test": 3, "seed": SEED} | fields)
    config.views.video.short_side = 48
    return config.data, config.views


def test_layout_is_that_of_a_folder(made):
    files = sorted(path.relative_to(made).as_posix() for path in made.rglob("*.mp4"))
    assert len(files) == 120
    assert files[0] == "test/bounce/00000.mp4" and files[-1] == "train/tick/00079.mp4"
    assert len(shapes.CLASS_NAMES) == 10
    info = reader.measure(made / files[0])
    assert info.duration == 5.0 and info.sound_duration == pytest.approx(5.0, abs=0.07)


def test_a_clip_is_a_function_of_seed_split_and_index(made, tmp_path):
    for name, arguments in {
        "same": (SEED, "train", 37),
        "seed": (SEED + 1, "train", 37),
        "split": (SEED, "test", 37),
    }.items():
        generated.write_clip(tmp_path / f"{name}.mp4", *arguments)
        same = (tmp_path / f"{name}.mp4").read_bytes() == (
            made / "train" / shapes.CLASS_NAMES[7] / "00037.mp4"
        ).read_bytes()
        assert same == (name == "same")


def test_an_interrupted_generation_goes_on(made, tmp_path, monkeypatch):
    write, count = generated.write_clip, itertools.count()

    def fail_at_the_eighth(*arguments):
        if next(count) >= 7:
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(generated, "write_clip", fail_at_the_eighth)
    with pytest.raises(KeyboardInterrupt):
        generated.generate(tmp_path / "data", 12, 3, SEED)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.mp4")}
    assert 0 < len(kept) < 15
    monkeypatch.setattr(generated, "write_clip", write)
    monkeypatch.setattr(generated, "_WORTH_A_PROCESS", 4)
    generated.generate(tmp_path / "data", 12, 3, SEED, processes=2)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    whole = contents(made)
    assert contents(tmp_path / "data") == {
        name: whole[name] for name in contents(tmp_path / "data")
    }
    assert len(contents(tmp_path / "data")) == 15


@pytest.mark.slow  # a program and its processes, which start and end
def test_processes_end_with_the_program_however_it_ends(tmp_path):
    """All of them hold the program's output, which ends with the last."""
    program = subprocess.Popen(
        [
            *(sys.executable, "-m", "input_pipeline.datasets.generated"),
            *(f"--output={tmp_path}", "--processes=2"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 60
        while len(list(tmp_path.rglob("*.mp4"))) < 3:
            assert time.monotonic() < end
            time.sleep(0.1)
    finally:
        program.kill()
    program.communicate(timeout=30)
    assert len(list(tmp_path.rglob("*.mp4"))) < 300, "they had nothing more to do"


def test_half_written_clips_are_never_seen(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(generated.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        generated.generate(tmp_path / "data", 1, 0, SEED)
    assert not list((tmp_path / "data").rglob("*.mp4"))


def test_opening_makes_the_clips_once(tmp_path, monkeypatch):
    source = open_dataset(*settings(tmp_path / "data"))
    assert len(source) == 12 and source.class_names == shapes.CLASS_NAMES
    np.testing.assert_array_equal(np.bincount(source.labels), [2, 2] + [1] * 8)
    monkeypatch.setattr(generated, "write_clip", None)
    data, views = settings(tmp_path / "data")
    data.split = "test"
    assert len(open_dataset(data, views)) == 3
    assert source.read(0, 0.5).frames.shape == (32, 48, 64, 3)


def test_a_split_to_choose_on_has_clips_of_its_own(tmp_path):
    data, views = settings(tmp_path / "data", train=2, test=2, val=2)
    first = {}
    for split in shapes.SPLITS:
        data.split = split
        source = open_dataset(data, views)
        assert len(source) == 2
        first[split] = source.read(0, 0.0).frames
    assert not any(np.array_equal(first[a], first[b]) for a, b in itertools.combinations(first, 2))


def test_other_peoples_files_are_left_alone(tmp_path):
    open_dataset(*settings(tmp_path / "data"))
    for fields, words in (
        ({"seed": SEED + 1}, "whose files are from"),
        ({"train": 5}, "holds 7 beyond these"),
        ({"test": -1}, "config.data.generated.test is -1; allowed: 0 or more"),
    ):
        with pytest.raises(ValueError, match=r"^config\.data") as caught:
            open_dataset(*settings(tmp_path / "data", **fields))
        assert words in str(caught.value) and "\n" not in str(caught.value)
    data, views = settings("")
    with pytest.raises(ValueError, match=r"config\.data\.path is ''"):
        open_dataset(data, views)
    data.path, data.split = str(tmp_path / "data"), "val"
    with pytest.raises(ValueError, match=r"config\.data\.split is 'val'; allowed: 'train', 'test'"):
        open_dataset(data, views)


def test_flashes_are_heard_when_they_are_seen(made):
    """A buzz sounds just as long as the shape is bright; the two onsets are within a frame."""
    for path in sorted((made / "train" / "flash").iterdir())[:5]:
        clip = reader.read_clip(path, 0.0, 4.0, shapes.FRAME_RATE, 96, 16000)
        changes = np.abs(np.diff(clip.frames.astype(float).mean(axis=(1, 2, 3))))
        seen = (np.sort(np.argsort(changes)[-6:]) + 1) / shapes.FRAME_RATE
        loudness = np.sqrt((clip.waveform.reshape(-1, 160) ** 2).mean(axis=1))
        heard = (np.flatnonzero(np.diff(loudness > loudness.max() / 3)) + 1) * 0.01
        distance = np.abs(seen[:, None] - heard[None, :]).min(axis=1)
        assert np.median(distance) < 1.2 / shapes.FRAME_RATE


def test_every_form_shows_its_movement():
    """A disc that ticks would stand still, but for the outlines' pixels."""
    ticks = range(len(shapes.CLASS_NAMES) - 1, 300, len(shapes.CLASS_NAMES))
    for index in {*range(40), *ticks}:
        frames, _, label = shapes.render(SEED, "train", index)
        light = frames[: 2 * shapes.FRAME_RATE].max(axis=-1).astype(int)
        changed = np.abs(light - light[0]).max(axis=0) > 80
        assert changed.sum() > 300, (shapes.CLASS_NAMES[label], index)


def sound_features(clip):
    """Mean and spread of the log spectrum."""
    windows = clip.waveform[: 125 * 512].reshape(125, 512) * np.hanning(512)
    power = np.abs(np.fft.rfft(windows)[:, 1:]) ** 2
    bands = np.log(power.reshape(125, 32, 8).sum(axis=2) + 1e-4)
    return np.concatenate(
        [bands.mean(axis=0), bands.std(axis=0), np.abs(np.diff(bands, axis=0)).mean(axis=0)]
    )


def picture_features(clip):
    """How much changes from frame to frame, over time and over the picture."""
    gray = clip.frames.astype(np.float32).mean(axis=-1)
    change = np.abs(np.diff(gray, axis=0))
    strong = np.maximum(change - 20, 0)
    energy = strong.mean(axis=(1, 2)) + 1e-3
    rhythm = np.sort(energy / energy.mean())
    spectrum = np.abs(np.fft.rfft(energy - energy.mean()))
    rows, columns = strong.mean(axis=(0, 2)), strong.mean(axis=(0, 1))
    extent = [profile.std() / (profile.mean() + 1e-3) for profile in (rows, columns)]
    return np.concatenate([rhythm, spectrum / spectrum.sum(), extent, [np.log(energy.mean())]])


def test_both_modalities_tell_the_class_and_sound_does_so_better(made):
    accuracy = {}
    clips = {}
    for split in shapes.SPLITS:
        paths = sorted((made / split).rglob("*.mp4"))
        labels = [shapes.CLASS_NAMES.index(path.parent.name) for path in paths]
        clips[split] = [reader.read_clip(path, 0.5, 4.0, 8, 48, 16000) for path in paths], labels
    for name, features in {"sound": sound_features, "picture": picture_features}.items():
        classifier = sklearn.pipeline.make_pipeline(
            sklearn.preprocessing.StandardScaler(), sklearn.neighbors.NearestCentroid()
        )
        (train, train_labels), (test, test_labels) = clips["train"], clips["test"]
        classifier.fit([features(clip) for clip in train], train_labels)
        accuracy[name] = classifier.score([features(clip) for clip in test], test_labels)
    assert accuracy["sound"] > 0.8, accuracy
    assert accuracy["picture"] > 0.4, accuracy  # by chance: 0.1
    assert accuracy["sound"] >= accuracy["picture"]


def test_what_does_not_tell_the_class_is_random(made):
    """Mean color and loudness say next to nothing of it."""
    colors, labels = [], []
    for path in sorted((made / "train").rglob("*.mp4")):
        clip = reader.read_clip(path, 0.0, 0.5, 8, 16, 16000)
        colors.append(clip.frames.mean(axis=(0, 1, 2)))
        labels.append(path.parent.name)
    classifier = sklearn.neighbors.NearestCentroid().fit(colors[::2], labels[::2])
    assert classifier.score(colors[1::2], labels[1::2]) < 0.3
