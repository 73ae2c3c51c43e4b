"""Each published layout is prepared and read back completely, with the right labels, in sync."""

import collections
import io

import av
import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from configs import base
from input_pipeline import evaluation
from input_pipeline.datasets import kinetics
from input_pipeline.datasets.prepared import open_prepared
from input_pipeline.media import containers
from input_pipeline.prepare import __main__ as prepare
from input_pipeline.prepare import shards
from input_pipeline.prepared import preparation_report, records
from tests import media_files, preparing
from tests.input_pipeline import layouts
from tests.input_pipeline.test_loader import small_config
from tests.integration import miniatures

EVERYTHING = {"max_bad_fraction": 1.0, "short_side": 32}


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    return layouts.Media(tmp_path_factory.mktemp("media"))


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    """Runs the jobs in this process; test_prepare_processes.py tests the processes."""
    preparing.in_this_process(monkeypatch)


def task(layout, output, **changes):
    return prepare.Task(layout.dataset, layout.root, output, **(EVERYTHING | changes))


def read_back(output, split):
    return list(tfds.builder_from_directory(output).as_data_source(split))


@pytest.mark.parametrize("build", layouts.ALL, ids=lambda build: build.__name__)
def test_every_recording_is_in_the_data_or_in_the_report(tmp_path, media, build):
    layout = build(tmp_path / "source with spaces", media)
    result = prepare.prepare(task(layout, tmp_path / "out"))
    recipe = records.load_recipe(tmp_path / "out")
    assert (recipe.class_names, recipe.partitions) == (layout.class_names, layout.partitions)
    assert result == preparation_report.load(tmp_path / "out") and result["complete"]
    assert {item["name"]: item["reason"] for item in result["left_out"]} == layout.left_out
    for split, wanted in layout.kept.items():
        index = records.load_index(records.index_path(tmp_path / "out", split))
        read = read_back(tmp_path / "out", split)
        found = {}
        for place, record in enumerate(read):
            name = record["name"].decode()
            found[name] = (
                tuple(layout.class_names[label] for label in record["labels"]),
                tuple(record["roles"]),
            )
            assert index.names[place] == name
            assert index.labels[place] == tuple(record["labels"])
            np.testing.assert_array_equal(index.roles[place], record["roles"])
            assert index.frames[place] == len(record["frames"]) == len(record["frame_times"])
            assert index.samples[place] == len(record["waveform"])
        assert found == wanted and len(read) == len(wanted) == len(index.names)
    check_counts(result, layout)


def check_counts(result, layout):
    """Checks that every file is counted as kept, left out or ignored."""
    kept = {split: len(names) for split, names in layout.kept.items()}
    for counts in (result["total"], *result["splits"].values()):
        assert counts["listed"] == counts["kept"] + counts["left_out"] + counts["not_read"]
        assert counts["left_out"] == sum(counts["reasons"].values())
    assert result["total"]["kept"] == sum(kept.values()) and not result["total"]["not_read"]
    assert result["total"]["left_out"] == len(layout.left_out)
    assert collections.Counter(layout.left_out.values()) == result["total"]["reasons"]
    for split, count in kept.items():
        assert result["splits"][split]["kept"] == count


@pytest.mark.parametrize("build", layouts.ALL, ids=lambda build: build.__name__)
def test_every_kept_recording_gets_into_a_batch(tmp_path, media, build):
    layout = build(tmp_path / "source", media)
    prepare.prepare(task(layout, tmp_path / "out"))
    config = base.get_config()
    config.views = small_config()
    config.views.video.short_side = 32
    config.data.dataset, config.data.path = "prepared", str(tmp_path / "out")
    listens = layout.dataset in ("esc50", "fsd50k")
    for config.data.split, wanted in layout.kept.items():
        source = open_prepared(config.data, config.views, picture=not listens)
        assert {source.name(index) for index in range(len(source))} == set(wanted)
        clips = evaluation.EvaluationClips(
            source, config.views, 4, modalities=("audio",) if listens else ("video", "audio")
        )
        batches = list(clips.batches())
        ids = np.concatenate([batch["example_id"][batch["valid"]] for batch in batches])
        assert sorted(ids) == list(range(len(wanted)))
        for batch in batches:
            assert listens or batch["video"][batch["valid"]].std(axis=(1, 2, 3, 4, 5)).min() > 20
            heard = batch["audio"][batch["valid"] & batch["has_audio"]]
            assert not len(heard) or heard.std(axis=(1, 2)).min() > 0.1


@pytest.mark.parametrize(
    ("dataset", "splits"),
    [
        ("something_something", ("train", "val")),
        ("audioset_20k", ("train", "eval")),
        ("vggsound", ("train", "test")),
    ],
)
def test_a_recording_has_the_class_of_what_it_shows(tmp_path, dataset, splits):
    """The files of the second class show a clock that is five seconds ahead."""
    files = miniatures.write_files(tmp_path)
    miniatures.PUBLISHED[dataset](tmp_path / "source", files)
    prepare.prepare(prepare.Task(dataset, tmp_path / "source", tmp_path / "out", short_side=64))
    for split in splits:
        labels = []
        for record in read_back(tmp_path / "out", split):
            seen = media_files.seen_times(np.stack([decode(frame) for frame in record["frames"]]))
            labels.append(record["labels"][0])
            assert labels[-1] == (seen.min() >= 5) and (seen.max() < 1.5) == (seen.min() < 5)
        assert set(labels) == {0, 1}


def test_counts_seconds_and_what_is_without_sound_or_picture(tmp_path, media):
    result = prepare.prepare(task(layouts.ucf101(tmp_path / "ucf", media), tmp_path / "u"))
    total = result["total"]
    assert total["without_sound"] == 1 and total["without_picture"] == 0
    assert total["video_seconds"] == pytest.approx(4.5, abs=0.3)
    assert total["sound_seconds"] == pytest.approx(3.0, abs=0.2)
    assert total["shorter_than_a_clip"] == 3
    assert total["bytes"] == sum(
        path.stat().st_size for path in (tmp_path / "u").glob("*.array_record-*")
    )
    result = prepare.prepare(task(layouts.esc50(tmp_path / "esc", media), tmp_path / "e"))
    total = result["total"]
    assert total["without_picture"] == 3 and total["video_seconds"] == 0
    assert total["sound_seconds"] == pytest.approx(4.5, abs=0.1)


@pytest.mark.parametrize(
    ("require", "kept"),
    [("picture", "ab"), ("sound", "ac"), ("both", "a"), ("any", "abc")],
)
def test_keeps_what_has_what_is_required(tmp_path, media, require, kept):
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.mp4").write_bytes(media.mp4)
    (source / "b.mp4").write_bytes(media.silent_mp4)
    (source / "c.wav").write_bytes(media.wav)
    wanted = prepare.Task("folder", source, tmp_path / "out", require=require, **EVERYTHING)
    result = prepare.prepare(wanted)
    found = {record["name"].decode()[0]: record for record in read_back(tmp_path / "out", "train")}
    assert sorted(found) == list(kept)
    reasons = {item["name"][0]: item["reason"] for item in result["left_out"]}
    assert set(reasons) == set("abc") - set(kept)
    assert reasons.get("b", containers.NO_SOUND) == containers.NO_SOUND
    assert reasons.get("c", containers.NO_PICTURE) == containers.NO_PICTURE
    for name, record in found.items():
        assert bool(len(record["frames"])) == (name in "ab")
        assert bool(len(record["waveform"])) == (name in "ac")


def test_leaves_out_what_is_too_short_or_too_long(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for seconds in (1, 3, 5):
        media_files.write_media(source / f"{seconds}.mp4", seconds, frame_rate=10)
        wav = {"video_codec": None, "audio_codec": "pcm_s16le", "layout": "mono"}
        media_files.write_media(source / f"{seconds}.wav", seconds, **wav)
    limits = {"min_seconds": 2.0, "max_seconds": 4.0, "require": "any", **EVERYTHING}
    result = prepare.prepare(prepare.Task("folder", source, tmp_path / "out", **limits))
    assert {item["name"]: item["reason"] for item in result["left_out"]} == {
        "1.mp4": containers.TOO_SHORT,
        "1.wav": containers.TOO_SHORT,
        "5.mp4": shards.TOO_LONG,
        "5.wav": shards.TOO_LONG,
    }


def test_notes_and_odd_names_are_told_and_kept(tmp_path, media, capsys):
    """The source's own name is not UTF-8 either."""
    top = tmp_path / b"caf\xe9\x1b[31m".decode(errors="surrogateescape")
    odd = b"b\xe9\n".decode(errors="surrogateescape")
    for path in ("Train/Dog/a.mp4", f"Train/dog/{odd}.mp4", "Test/dog/c.mp4", "stray.mp4"):
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(media.mp4)
    flags = ["--dataset=folder", f"--source={top}", "--short_side=32", "--workers=1"]
    assert prepare.main([*flags, f"--output={tmp_path / 'out'}"]) == 0
    said = capsys.readouterr().out
    note = "2 classes are called 'Dog' and 'dog': they are kept apart"
    assert f"note: {note}\n" in said and "left out 1: 1 beside the folders of the splits" in said
    result = preparation_report.load(tmp_path / "out")
    assert result["notes"] == [note]
    assert {split: counts["kept"] for split, counts in result["splits"].items()} == {
        "": 0,
        "test": 1,
        "train": 2,
    }
    index = records.load_index(records.index_path(tmp_path / "out", "train"))
    assert sorted(index.names) == ["Train/Dog/a.mp4", r"Train/dog/b\xe9\n.mp4"]


def test_annotations_that_cannot_be_read_are_one_line(tmp_path, capsys):
    (tmp_path / "source").mkdir()
    flags = ["--dataset=kinetics400", f"--source={tmp_path / 'source'}"]
    (tmp_path / "source" / "train.csv").write_text('"label,youtube_id\n"a b,c\nd,e\n')
    assert prepare.main([*flags, f"--output={tmp_path / 'out'}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: --source is ") and error.count("\n") == 1
    assert "train.csv:1 cannot be read: a quote that is not closed in its line; allowed" in error


@pytest.mark.parametrize("name", ["clock.mp4", "clock.avi"])
def test_a_record_shows_and_sounds_what_its_source_does_when_it_does(tmp_path, name):
    avi = {"video_codec": "mpeg4", "audio_codec": "pcm_s16le"} if name.endswith("avi") else {}
    source = tmp_path / "source"
    source.mkdir()
    media_files.write_media(source / name, 6.0, sample_rate=48000, size=(340, 256), **avi)
    prepare.prepare(prepare.Task("folder", source, tmp_path / "out"))
    (record,) = read_back(tmp_path / "out", "train")
    frames = np.stack([decode(frame) for frame in record["frames"]])
    assert frames.shape == (48, 128, 170, 3)
    seen = media_files.seen_times(frames)
    age = np.arange(48) / 8 - seen  # the frame shown at k / 8 began up to 40 ms earlier
    assert age.min() > -0.0025 and age.max() < 0.041
    np.testing.assert_allclose(record["frame_times"], seen, atol=0.0015)
    waveform = record["waveform"].astype(np.float32) / 32768
    assert waveform.shape == (96000,) and 0.4 < np.abs(waveform[4000:-4000]).max() < 0.6
    at = np.arange(0.1, 5.9, 0.1)
    heard = media_files.heard_times(waveform, records.SAMPLE_RATE, at)
    np.testing.assert_allclose(heard, at, atol=0.01)


def test_kinetics_sound_has_32_classes_of_kinetics():
    names = kinetics.KINETICS_SOUND
    assert len(names) == len(set(names)) == 32
    assert all(kinetics._class_name(name.replace(" ", "_")) == name for name in names)


def test_red_stays_red(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    colors = np.array([(200, 30, 30), (30, 200, 30), (30, 30, 200), (220, 220, 30)])
    picture = np.repeat(np.repeat(colors[None], 64, 0), 32, 1).astype(np.uint8)
    with av.open(source / "colors.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    prepare.prepare(prepare.Task("folder", source, tmp_path / "out", **EVERYTHING))
    (record,) = read_back(tmp_path / "out", "train")
    for frame in record["frames"]:
        middles = decode(frame)[16, [8, 24, 40, 56]].astype(int)
        assert np.abs(middles - colors).max() < 30, middles


def test_jpeg_is_what_was_agreed_on():
    """Frames are 4:2:0 with the stated quality, and closer to the original than that allows."""
    rows, columns = np.mgrid[0:96, 0:128]
    frame = np.stack([rows * 2, columns, 255 - rows - columns // 2], -1).astype(np.uint8)
    image = PIL.Image.open(io.BytesIO(shards.encode_jpeg(frame)))
    assert image.format == "JPEG" and image.mode == "RGB"
    reference = io.BytesIO()
    PIL.Image.fromarray(frame).save(reference, "JPEG", quality=records.JPEG_QUALITY)
    assert image.quantization == PIL.Image.open(reference).quantization
    sampling = [(layer[1], layer[2]) for layer in image.layer]
    assert sampling == [(2, 2), (1, 1), (1, 1)]
    assert np.abs(np.asarray(image).astype(int) - frame).mean() < 2


def test_sound_takes_the_nearest_step():
    waveform = np.array([-1.0, -0.5, 0.0, 0.4 / 32768, 0.6 / 32768, 0.5, 1.0], np.float32)
    found = shards.to_int16(waveform)
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, [-32768, -16384, 0, 0, 1, 16384, 32767])


def decode(frame):
    return np.asarray(PIL.Image.open(io.BytesIO(frame)))
