"""An evaluation pass gives every clip of every recording once, in order, in even batches."""

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline import evaluation, views
from input_pipeline.evaluation import EvaluationClips, Recipe
from input_pipeline.reading import ReadError
from input_pipeline.spectrogram import log_mel
from tests.input_pipeline.datasets.test_prepared import opened, views_of
from tests.input_pipeline.prepared_files import clock_record, write_prepared
from tests.input_pipeline.test_loader import FakeSource, small_config
from tests.media_files import seen_times


def passed(source=None, config=None, batch_size=4, **options):
    clips = EvaluationClips(source or FakeSource(), config or small_config(), batch_size, **options)
    batches = list(clips.batches())
    assert len(batches) == clips.steps
    return batches


def joined(batches):
    """Concatenates the valid rows of batches."""
    return {
        name: np.concatenate([batch[name][batch["valid"]] for batch in batches])
        for name in batches[0]
    }


# Rows.


@pytest.mark.parametrize(("count", "clips", "batch_size"), [(10, 1, 4), (10, 3, 4), (3, 2, 16)])
def test_every_clip_of_every_recording_once_and_in_order(count, clips, batch_size):
    batches = passed(FakeSource(count), batch_size=batch_size, recipe=Recipe(clips=clips))
    rows = joined(batches)
    np.testing.assert_array_equal(rows["example_id"], np.repeat(np.arange(count), clips))
    np.testing.assert_array_equal(rows["clip"], np.tile(np.arange(clips), count))
    np.testing.assert_array_equal(rows["has_audio"], rows["example_id"] % 3 > 0)


def test_batches_have_one_shape_and_say_what_fills_them_up():
    batches = passed(FakeSource(5), recipe=Recipe(clips=2, crops=3))
    expected = {
        "video": ((4, 3, 8, 24, 24, 3), np.uint8),
        "audio": ((4, 80, 112), np.float32),
        "has_audio": ((4,), bool),
        "example_id": ((4,), np.int64),
        "clip": ((4,), np.int32),
        "valid": ((4,), bool),
    }
    for batch in batches:
        assert {name: (array.shape, array.dtype) for name, array in batch.items()} == expected
    np.testing.assert_array_equal(batches[-1]["valid"], [True, True, False, False])
    np.testing.assert_array_equal(batches[-1]["example_id"], [4, 4, -1, -1])
    np.testing.assert_array_equal(batches[-1]["clip"], [0, 1, -1, -1])
    assert not batches[-1]["video"][2:].any()


@pytest.mark.parametrize("count", [8, 9, 10, 1])
def test_processes_make_slices_of_the_one_pass(count):
    whole = passed(FakeSource(count))
    parts = [passed(FakeSource(count), process_index=i, process_count=2) for i in range(2)]
    # If the rows do not fill the batches evenly, all processes get the same number of batches, the
    # last of which is padded.
    assert len(parts[0]) == len(parts[1]) == len(whole)
    for batch, *halves in zip(whole, *parts, strict=True):
        for name, array in batch.items():
            np.testing.assert_array_equal(np.concatenate([half[name] for half in halves]), array)


def test_a_choice_of_recordings():
    rows = joined(passed(example_ids=[7, 2, 2]))
    np.testing.assert_array_equal(rows["example_id"], [7, 2, 2])
    assert passed(example_ids=[]) == []


@pytest.mark.parametrize("threads", [1, 8])
def test_threads_change_nothing(threads):
    source = FakeSource(slow=0.02)
    recipe = Recipe(clips=2, placement="random")
    ours = joined(passed(source, recipe=recipe, threads=threads))
    expected = joined(passed(recipe=recipe, threads=2))
    for name, array in expected.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)
    assert source.most_running <= threads


# Positions in time.


@pytest.mark.parametrize(("clips", "positions"), [(1, [0.5]), (2, [0, 1]), (3, [0, 0.5, 1])])
def test_uniform_clips_reach_from_the_first_place_to_the_last(clips, positions):
    source = FakeSource(2)
    passed(source, recipe=Recipe(clips=clips), threads=1)
    assert source.reads == [(index, position) for index in range(2) for position in positions]


def test_uniform_clips_of_prepared_data(tmp_path):
    write_prepared(tmp_path, {"train": [clock_record("a.mp4", 6.0), clock_record("b.mp4", 1.0)]})
    rows = joined(passed(opened(tmp_path), views_of(), recipe=Recipe(clips=3)))
    assert rows["video"].shape == (6, 1, 16, 32, 32, 3)
    starts = [seen_times(video[0, :1])[0] for video in rows["video"]]
    np.testing.assert_allclose(starts, [0, 2, 4, 0, 0, 0], atol=1e-3)
    assert rows["has_audio"].all()


def test_random_clips_are_keyed_by_seed_recording_and_clip():
    def positions(seed=0, **options):
        source = FakeSource(4)
        recipe = Recipe(clips=3, placement="random", seed=seed)
        passed(source, recipe=recipe, threads=1, **options)
        return source.reads

    once = positions()
    assert positions() == once
    assert len({position for _, position in once}) == 12
    assert not set(positions(seed=1)) & set(once)
    # Nothing else changes the result, such as the other recordings of the pass.
    assert positions(example_ids=[2]) == [read for read in once if read[0] == 2]


# Crops.


@pytest.mark.parametrize(
    ("size", "corners"),
    [
        ((32, 40), [(0, 0), (0, 4), (0, 8)]),
        ((41, 30), [(0, 0), (5, 0), (11, 0)]),
        ((7, 7), [(0, 0)] * 3),
    ],
)
def test_square_crops_lie_along_the_longer_side(size, corners):
    side = min(size)
    three = np.array(evaluation.square_crops(tf.constant(size), 3))
    np.testing.assert_array_equal(three, [(*corner, side, side) for corner in corners])
    np.testing.assert_array_equal(evaluation.square_crops(tf.constant(size), 1), three[1:2])


def test_smaller_squares_are_in_the_middle_of_the_shorter_side():
    [box] = evaluation.square_crops(tf.constant((128, 170)), 1, 112 / 128)
    assert box.numpy().tolist() == [8, 29, 112, 112]
    three = np.array(evaluation.square_crops(tf.constant((170, 128)), 3, 112 / 128))
    assert three.tolist() == [[8, 8, 112, 112], [29, 8, 112, 112], [50, 8, 112, 112]]
    config = small_config()
    config.video.global_size = 16
    rows = joined(
        passed(FakeSource(1), config, recipe=Recipe(crop_share=0.5))
    )  # of 32 by 40 pixels
    np.testing.assert_array_equal(
        rows["video"][0, 0], FakeSource(1).read(0, 0.5).frames[:, 8:24, 12:28]
    )


@pytest.mark.parametrize("size", [24, 56])
def test_clips_are_resized_square_crops_and_log_mels(size):
    config = small_config()
    config.video.global_size = size
    source = FakeSource(2)
    rows = joined(passed(source, config, recipe=Recipe(clips=2, crops=3)))
    for row, (example, position) in enumerate([(0, 0.0), (0, 1.0), (1, 0.0), (1, 1.0)]):
        clip = source.read(example, position)
        for crop, left in enumerate((0, 4, 8)):
            box = tf.constant([0, left, 32, 32])
            expected = views.resized_video_crop(clip.frames, box, size)
            np.testing.assert_array_equal(rows["video"][row, crop], expected)
        expected = log_mel(tf.constant(clip.waveform), 112, config.audio)
        np.testing.assert_allclose(rows["audio"][row], expected, atol=1e-5)


def test_augmented_clips_differ_and_are_repeatable():
    augmented = Recipe(clips=2, augment=True)
    rows, again = (joined(passed(FakeSource(2), recipe=augmented)) for _ in range(2))
    for name in rows:
        np.testing.assert_array_equal(rows[name], again[name])
    plain = joined(passed(FakeSource(2), recipe=Recipe(clips=2)))
    assert (rows["video"] != plain["video"]).any(axis=(1, 2, 3, 4, 5)).all()
    # Clips with sound are louder or softer by a tenth at most.
    loudness = (rows["audio"] - plain["audio"])[rows["has_audio"]] * 4.410007
    assert 0 < np.abs(loudness).max() <= 2 * np.log(1 / 0.9) + 1e-3


# Modalities.


def test_only_what_is_asked_for_is_made(tmp_path):
    write_prepared(tmp_path, {"train": [clock_record("a.wav", 4.0, picture=False)] * 3})
    source = opened(tmp_path, picture=False)
    rows = joined(passed(source, views_of(), modalities=("audio",)))
    assert "video" not in rows
    assert rows["audio"].shape == (3, 80, 224)
    assert rows["has_audio"].all()
    assert "audio" not in joined(passed(modalities=("video",)))


# Errors and ends.


def test_an_unreadable_example_is_one_clear_error():
    with pytest.raises(ReadError, match=r"example 3, clip 3\.mp4: the file is cut off"):
        passed(FakeSource(broken=3))


def test_closing_stops_reading():
    source = FakeSource(slow=0.05)
    stream = EvaluationClips(source, small_config(), 2, threads=4).batches()
    next(stream)
    stream.close()
    assert source.running == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"placement": "even"}, "placement is 'even'; allowed: 'uniform', 'random'"),
        ({"crops": 2}, "crops is 2; allowed: 1, 3"),
        ({"crops": 3, "augment": True}, "crops is 3; allowed with augment: 1"),
        ({"crop_share": 0.0}, "crop_share is 0.0; allowed: above 0, at most 1"),
        ({"clips": 0}, "clips is 0; allowed: 1 or more"),
    ],
)
def test_refuses_impossible_recipes(fields, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**fields)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": ()}, r"modalities is \(\); allowed: one or both of"),
        ({"modalities": ("text",)}, r"modalities is \('text',\); allowed: one or both"),
        ({"process_count": 3}, "batch_size is 4; allowed: a multiple of 3 processes"),
    ],
)
def test_refuses_what_is_not_allowed(options, message):
    with pytest.raises(ValueError, match=message):
        EvaluationClips(FakeSource(), small_config(), 4, **options)
