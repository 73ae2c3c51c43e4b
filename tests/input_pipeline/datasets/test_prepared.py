"""Prepared data: clips by time, labels and other properties, batches, and errors."""

import dataclasses
import io
import os
import pathlib
import pickle
import re
import subprocess
import sys
import textwrap

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from configs import base
from input_pipeline import datasets, sources
from input_pipeline.datasets import prepared
from input_pipeline.loader import Loader, ReadError
from input_pipeline.prepared import records
from tests.input_pipeline.prepared_files import CLASSES, clock_record, jpeg, write_prepared
from tests.media_files import heard_times, seen_times

REPOSITORY = pathlib.Path(__file__).parents[3]
TRAIN, TEST, UNUSED = records.Role.TRAIN, records.Role.TEST, records.Role.UNUSED
SECONDS = 6.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    train = [
        clock_record("long.mp4", SECONDS, labels=(1,), roles=(TRAIN, TEST)),
        clock_record("short.mp4", 1.5, labels=(0,), roles=(TEST, TRAIN)),
        clock_record("mute.mp4", SECONDS, sound=0, labels=(2,), roles=(TRAIN, UNUSED)),
        clock_record("tall.mp4", SECONDS, size=(48, 80), labels=(1,), roles=(TRAIN, TRAIN)),
        clock_record("half heard.mp4", SECONDS, sound=3.0, labels=(1,), roles=(TRAIN, TRAIN)),
    ]
    test = [
        clock_record("a.wav", 5.0, picture=False, labels=(0, 2)),
        clock_record("b.wav", 0.5, picture=False, labels=()),
    ]
    test = [dataclasses.replace(record, roles=(TEST, TEST)) for record in test]
    path = tmp_path_factory.mktemp("data") / "with space"
    return write_prepared(path, {"train": train, "test": test}, partitions=("1", "2"))


def data_of(path, split=""):
    data = base.get_config().data
    data.dataset, data.path, data.split = "prepared", str(path), split
    return data


def views_of(frames=16, frame_rate=8.0):
    """Returns a config for small views; clips last two seconds by default."""
    config = base.get_config().views
    video, audio = config.video, config.audio
    video.global_frames, video.frame_rate, video.local_frames = frames, frame_rate, 4
    video.global_size, video.local_size = 32, 16
    audio.global_frames = round(frames / frame_rate * 112)
    audio.local_seconds, audio.local_frames = 0.5, 56
    return config


def opened(path, split="", picture=True, **form):
    return prepared.open_prepared(data_of(path, split), views_of(**form), picture=picture)


def assert_in_sync(clip, frame_rate, start):
    """Asserts that frames and sound show the times from `start` on."""
    times = start + np.arange(len(clip.frames)) / frame_rate
    assert np.abs(seen_times(clip.frames) - times).max() <= 0.5 / 8 + 1e-3
    at = np.linspace(0.1, len(clip.waveform) / 16_000 - 0.1, 9)
    heard = heard_times(clip.waveform.astype(np.float64), 16_000, at)
    assert np.abs(heard - start - at).max() < 5e-4


# Clips by time.


@pytest.mark.parametrize("position", [0.0, 0.31, 0.62, 0.99, 1.0])
def test_a_clip_starts_on_the_frame_grid_in_picture_and_sound(folder, position):
    clip = opened(folder).read(0, position)
    assert clip.frames.shape == (16, 48, 64, 3) and clip.frames.dtype == np.uint8
    assert clip.waveform.shape == (32_000,) and clip.waveform.dtype == np.float32
    start = seen_times(clip.frames[:1])[0]
    assert start * 8 == round(start * 8)
    np.testing.assert_allclose(seen_times(clip.frames), start + np.arange(16) / 8, atol=1e-3)
    assert abs(start - position * (SECONDS - 2)) <= 1 / 8
    assert_in_sync(clip, 8, start)
    assert clip.has_audio and not clip.padded
    assert opened(folder).start_time(0, position) == pytest.approx(start, abs=1e-3)


def test_the_sound_is_that_of_the_record_to_the_sample(folder):
    source = opened(folder)
    whole = clock_record("long.mp4", SECONDS).waveform / np.float32(32768)
    for position in (0.0, 0.4, 1.0):
        clip = source.read(0, position)
        first = round(seen_times(clip.frames[:1])[0] * 16_000)
        np.testing.assert_array_equal(clip.waveform, whole[first : first + 32_000])


def test_all_starts_are_equally_likely(folder):
    source = opened(folder)
    positions = (np.arange(200) + 0.5) / 200
    starts = [seen_times(source.read(0, p).frames[:1])[0] for p in positions]
    counts = np.bincount(np.round(np.array(starts) * 8).astype(int))
    assert len(counts) == round((SECONDS - 2) * 8) + 1
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(("frame_rate", "frames"), [(4.0, 8), (2.0, 8), (5.0, 11), (6.0, 13)])
def test_fewer_frames_a_second_are_those_nearest_in_time(folder, frame_rate, frames):
    source = opened(folder, frame_rate=frame_rate, frames=frames)
    for position in (0.0, 0.5, 1.0):
        clip = source.read(0, position)
        assert clip.waveform.shape == (round(frames / frame_rate * 16_000),)
        assert_in_sync(clip, frame_rate, seen_times(clip.frames[:1])[0])


def test_a_clip_may_be_the_whole_record(folder):
    source = opened(folder, frames=48)
    for position in (0.0, 0.7, 1.0):
        clip = source.read(0, position)
        assert not clip.padded
        assert_in_sync(clip, 8, 0.0)


@pytest.mark.parametrize("position", [0.0, 0.9])
def test_a_short_record_repeats_in_picture_and_sound(folder, position):
    clip = opened(folder, frames=40).read(1, position)
    assert clip.padded
    np.testing.assert_allclose(seen_times(clip.frames), np.arange(40) / 8 % 1.5, atol=1e-3)
    np.testing.assert_array_equal(clip.waveform, np.resize(clip.waveform[:24_000], 80_000))
    at = np.array([0.2, 0.7, 1.2])
    assert np.abs(heard_times(clip.waveform, 16_000, at + 1.5) - at).max() < 0.002


def test_missing_sound_is_silence(folder):
    source = opened(folder)
    clip = source.read(2, 0.5)
    assert not clip.has_audio and not clip.waveform.any()
    # Where the sound ends before the picture:
    clip = source.read(4, 0.5)
    assert clip.has_audio
    first = round(seen_times(clip.frames[:1])[0] * 16_000)
    assert clip.waveform[: 48_000 - first].any()
    assert not clip.waveform[48_000 - first :].any()
    assert not source.read(4, 1.0).waveform.any()


def test_frames_keep_their_shape(folder):
    assert opened(folder).read(3, 0.2).frames.shape == (16, 80, 48, 3)


def test_sound_without_picture(folder):
    source = opened(folder, "test", picture=False)
    for position in (0.0, 0.5, 1.0):
        clip = source.read(0, position)
        assert clip.has_audio and not clip.padded
        at = np.linspace(0.2, 1.8, 5)
        starts = heard_times(clip.waveform, 16_000, at) - at
        assert np.ptp(starts) < 0.002
        assert abs(starts[0] - position * 3) <= 1 / 8
    short = source.read(1, 0.7)
    assert short.padded
    np.testing.assert_array_equal(short.waveform, np.resize(short.waveform[:8000], 32_000))
    assert short.waveform.any()


def test_silence_may_follow_a_short_sound(folder):
    data = data_of(folder, "test")
    with data.unlocked():
        data.short_sound = "silence"
    source = prepared.open_prepared(data, views_of(), picture=False)
    repeating = opened(folder, "test", picture=False)
    short = source.read(1, 0.7).waveform
    np.testing.assert_array_equal(short[:8000], repeating.read(1, 0.7).waveform[:8000])
    assert len(short) == 32_000 and short[:8000].any() and not short[8000:].any()
    for position in (0.0, 0.6):  # the other record is longer than a clip
        long = source.read(0, position).waveform
        np.testing.assert_array_equal(long, repeating.read(0, position).waveform)
    assert source.fingerprint != repeating.fingerprint


# Names, labels and fingerprints.


def test_labels_roles_and_names(folder):
    source = opened(folder)
    assert len(source) == 5
    assert source.name(4) == "half heard.mp4"
    np.testing.assert_array_equal(source.labels, [1, 0, 2, 1, 1])
    assert source.class_names == CLASSES
    assert source.partitions == ("1", "2")
    np.testing.assert_array_equal(source.roles[:3], [(TRAIN, TEST), (TEST, TRAIN), (TRAIN, UNUSED)])
    np.testing.assert_array_equal(sources.multi_hot(source), np.eye(3)[source.labels])


def test_none_or_several_labels(folder):
    source = opened(folder, "test", picture=False)
    assert source.labels is None
    assert list(source.label_sets) == [(0, 2), ()]
    np.testing.assert_array_equal(sources.multi_hot(source), [[1, 0, 1], [0, 0, 0]])


def test_the_fingerprint_follows_the_records(folder, tmp_path):
    fingerprint = opened(folder).fingerprint
    assert opened(folder, frame_rate=4.0, frames=8).fingerprint == fingerprint
    assert opened(folder, "test", picture=False).fingerprint != fingerprint

    def of(number, *forms, **changes):
        made = [clock_record(f"{n}.mp4", *form, **changes) for n, form in enumerate(forms)]
        return opened(write_prepared(tmp_path / str(number), {"train": made})).fingerprint

    first = of(0, [2.0], [2.0])
    assert of(1, [2.0], [2.0]) == first
    others = {of(2, [2.0], [2.5]), of(3, [2.0]), of(4, [2.0], [2.0], sound=1.0)}
    assert len(others | {first}) == 4
    # These data have the same names and lengths.
    assert of(5, [2.0], [2.0], size=(48, 48)) != first


def test_says_which_records_have_sound(folder):
    np.testing.assert_array_equal(opened(folder).has_audio, [True, True, False, True, True])
    assert opened(folder).has_video.all()
    assert opened(folder, "test", picture=False).has_audio.all()


# Batches.


def batches_of(path, first=0, last=3, **options):
    config = views_of()
    source = datasets.open_dataset(data_of(path), config)
    return list(Loader(source, config, 4, seed=7, **options).batches(first, last))


def assert_same(ours, expected):
    for our_batch, expected_batch in zip(ours, expected, strict=True):
        assert our_batch.keys() == expected_batch.keys()
        for name, value in expected_batch.items():
            np.testing.assert_array_equal(our_batch[name], value, err_msg=name)


@pytest.mark.parametrize("threads", [2, 8])
def test_threads_and_the_first_step_change_nothing(folder, threads):
    once = batches_of(folder, threads=1)
    assert_same(batches_of(folder, 1, threads=threads), once[1:])
    assert {int(i) for batch in once for i in batch["example_id"]} == {0, 1, 2, 3, 4}
    for batch in once:
        np.testing.assert_array_equal(batch["has_audio"], batch["example_id"] != 2)


def test_batches_of_pictures_sounds_and_both(tmp_path):
    """What a recording lacks is black or silent, and a flag says so."""
    forms = [{}, {"picture": False}, {"sound": 0.0}]
    records = [clock_record(f"{n}", 3.0, **form) for n, form in enumerate(forms)]
    folder = write_prepared(tmp_path, {"train": records})
    with pytest.raises(ValueError, match="1 of 3 recordings without picture"):
        opened(folder)
    source = opened(folder, picture=False)
    np.testing.assert_array_equal(source.has_video, [True, False, True])
    np.testing.assert_array_equal(source.has_audio, [True, True, False])
    silence = None
    for batch in Loader(source, views_of(), 4, seed=7).batches(0, 3):
        np.testing.assert_array_equal(batch["has_video"], batch["example_id"] != 1)
        np.testing.assert_array_equal(batch["has_audio"], batch["example_id"] != 2)
        for row, example in enumerate(batch["example_id"]):
            assert batch["video_global"][row].any() == batch["video_local"][row].any()
            assert batch["video_global"][row].any() == (example != 1)
            if example == 2:
                silence = batch["audio_global"][row] if silence is None else silence
                np.testing.assert_array_equal(batch["audio_global"][row], silence)
            else:
                assert np.ptp(batch["audio_global"][row]) > 0
    assert silence is not None and np.ptp(silence) == 0


@pytest.mark.slow
def test_two_real_processes_make_the_one_batch(folder, tmp_path):
    """Each process knows only its number. Together they make the batch of a single process."""
    program = textwrap.dedent("""
        import pickle, sys
        from tests.input_pipeline.datasets import test_prepared as here
        folder, output = sys.argv[1:]
        batches = here.batches_of(folder, process_index=1, process_count=2)
        open(output, "wb").write(pickle.dumps(batches))
    """)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    output = tmp_path / "batches"
    command = [sys.executable, "-c", program, str(folder), str(output)]
    subprocess.run(command, env=environment, check=True, timeout=120)
    # This is the other process.
    parts = [
        batches_of(folder, process_index=0, process_count=2),
        pickle.loads(output.read_bytes()),
    ]
    assert all(len(batch["example_id"]) == 2 for part in parts for batch in part)
    joined = [
        {name: np.concatenate([half[name] for half in halves]) for name in halves[0]}
        for halves in zip(*parts, strict=True)
    ]
    assert_same(joined, batches_of(folder))


# Errors.


def test_a_frame_that_does_not_decode_is_one_clear_error(tmp_path):
    good, bad = (clock_record(name, 3.0) for name in ("good.mp4", "bad.mp4"))
    bad = dataclasses.replace(bad, frames=[b"\xff\xd8 no JPEG"] * len(bad.frames))
    write_prepared(tmp_path, {"train": [good, good, bad]})
    with pytest.raises(ReadError, match=r"^example 2, bad\.mp4: .*JPEG") as caught:
        batches_of(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_picture_larger_than_the_recipe_has_is_not_decoded(tmp_path):
    """A JPEG of some 100 kB takes 36 MB per frame."""
    good, bad = (clock_record(name, 3.0) for name in ("good.mp4", "bad.mp4"))
    huge = jpeg(np.zeros((4000, 3000, 3), np.uint8))
    bad = dataclasses.replace(bad, frames=[huge] * len(bad.frames))
    write_prepared(tmp_path, {"train": [good, bad]})
    with pytest.raises(ReadError, match=r"^example 1, bad\.mp4: .*more than .*4000 3000") as error:
        batches_of(tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(tf.errors.InvalidArgumentError, match="4000 3000"):
        opened(tmp_path).read(1, 0.0)


def test_a_frame_that_is_no_jpeg_is_not_decoded(tmp_path):
    """TensorFlow would decode it, but its size is not known beforehand."""
    file = io.BytesIO()
    PIL.Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(file, "PNG")
    bad = clock_record("bad.mp4", 3.0)
    bad = dataclasses.replace(bad, frames=[file.getvalue()] * len(bad.frames))
    write_prepared(tmp_path, {"train": [bad] * 2})
    with pytest.raises(ReadError, match=r"^example \d, bad\.mp4: .*JPEG"):
        batches_of(tmp_path)


def test_damage_on_the_disk_is_one_clear_error(tmp_path):
    write_prepared(tmp_path, {"train": [clock_record("a.mp4", 3.0)]}, shards=1)
    (shard,) = tmp_path.glob("*.array_record*")
    content = bytearray(shard.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    shard.write_bytes(content)
    with pytest.raises(ReadError, match=r"^example 0, a\.mp4: "):
        batches_of(tmp_path)


def test_names_in_the_data_import_nothing(tmp_path, monkeypatch):
    """TFDS takes the class of features from the data set, and would run any module named there."""
    folder = write_prepared(tmp_path / "data", {"train": [clock_record("a.mp4", 3.0)]})
    (folder / "payload.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    features = folder / "features.json"
    text = features.read_text()
    assert "pythonClassName" in text
    features.write_text(re.sub(r'("pythonClassName": ")[^"]*', r"\1payload.Features", text))
    monkeypatch.syspath_prepend(str(folder))
    assert opened(folder).name(0) == "a.mp4"
    assert next(iter(batches_of(folder)))["example_id"].tolist() == [0] * 4
    assert not (tmp_path / "ran").exists()


def refusal(path, split="", error=ValueError, views=None, **fields):
    with pytest.raises(error) as caught:
        datasets.open_dataset(data_of(path, split), views or views_of(**fields))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_refuses_what_is_not_prepared(tmp_path):
    assert "which does not exist" in refusal(tmp_path / "no", error=FileNotFoundError)
    assert "config.data.path is ''" in refusal("")
    reason = refusal(tmp_path)
    assert "not prepared, or preparing it has not finished" in reason
    assert "python -m input_pipeline.prepare" in reason


def test_refuses_an_unknown_split(folder):
    assert "config.data.split is 'val'" in refusal(folder, "val")
    assert "allowed: 'test', 'train'" in refusal(folder, "val")


def test_the_only_split_need_not_be_named(tmp_path):
    write_prepared(tmp_path, {"full": [clock_record("a.mp4", 3.0)]})
    assert opened(tmp_path).name(0) == "a.mp4"
    assert "config.data.split is 'train'" in refusal(tmp_path, "train")


def test_pretraining_refuses_sound_without_picture(folder):
    assert "split 'test' has 2 of 2 recordings without picture" in refusal(folder, "test")


def test_refuses_rates_that_the_records_do_not_have(folder):
    assert "config.views.video.frame_rate is 16; allowed" in refusal(folder, frame_rate=16.0)
    views = views_of()
    views.audio.sample_rate = 22_050
    assert "config.views.audio.sample_rate is 22050" in refusal(folder, views=views)


def test_refuses_an_index_of_other_records(tmp_path):
    write_prepared(tmp_path, {"train": [clock_record("a.mp4", 2.0)] * 2}, sealed=False)
    index = records.load_index(records.index_path(tmp_path, "train"))
    shorter = records.Index(
        index.names[:1], index.labels[:1], index.roles[:1], index.frames[:1], index.samples[:1]
    )
    shorter.save(records.index_path(tmp_path, "train"))
    assert "2 records, but its index lists 1" in refusal(tmp_path)


def test_refuses_missing_shards(tmp_path):
    folder = write_prepared(tmp_path, {"train": [clock_record("a.mp4", 2.0)] * 3}, shards=3)
    (folder / "tiny-train.array_record-00001-of-00003").unlink()
    assert "holds 2 shards of split 'train'; allowed: 3" in refusal(tmp_path)
    for path in folder.glob("*.array_record*"):
        path.unlink()
    assert "holds 0 shards of split 'train'; allowed: at least 1" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no records", bytes(70_000)])
def test_refuses_a_shard_that_is_none(tmp_path, content):
    folder = write_prepared(tmp_path, {"train": [clock_record("a.mp4", 2.0)] * 3}, shards=3)
    (folder / "tiny-train.array_record-00001-of-00003").write_bytes(content)
    assert "config.data.path" in refusal(tmp_path)


def test_refuses_an_empty_split(tmp_path):
    write_prepared(tmp_path, {"train": []})
    assert "is empty" in refusal(tmp_path)
