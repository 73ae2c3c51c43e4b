"""Views match plain NumPy definitions, and draws match their distributions."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from configs import base
from input_pipeline import spectrogram, views
from input_pipeline.views import Draw

CONFIG = base.get_config().views
VIDEO, AUDIO = CONFIG.video, CONFIG.audio
SAMPLES = 64_000
DRAWS = 3000
# Seeds are fixed, so a test of a distribution fails always or never. A new seed would fail once in
# a thousand.
SIGNIFICANCE = 1e-3


def key_of(example_id, epoch=0, seed=0):
    return views.example_key(seed, epoch, example_id)


def drawn(draw, dtype=tf.float32, count=DRAWS):
    """Returns the results of `draw(key)` for `count` examples."""
    mapped = tf.function(
        lambda: tf.map_fn(lambda i: draw(key_of(i)), tf.range(count), fn_output_signature=dtype)
    )
    return mapped().numpy()


def assert_uniform(values, low=0.0, high=1.0):
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > SIGNIFICANCE


def assert_same_distribution(ours, expected):
    assert stats.ks_2samp(ours, expected).pvalue > SIGNIFICANCE


@pytest.fixture(scope="module")
def frames():
    shape = (VIDEO.global_frames, 112, 149, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def waveform():
    return 0.1 * np.random.default_rng(1).standard_normal(SAMPLES).astype(np.float32)


# Keys.


def test_keys_differ_by_seed_epoch_example_purpose_and_view():
    keys = [
        tuple(views.draw_key(key_of(example, epoch, seed), purpose, view).numpy())
        for seed, epoch, example, purpose, view in itertools.product(
            range(2), range(3), range(3), list(Draw)[:3], range(2)
        )
    ]
    draws = [float(tf.random.stateless_uniform([], key)) for key in keys]
    assert len(set(draws)) == len(draws)


def test_keys_take_any_example_and_seed():
    large = tf.constant(2**62, tf.int64)
    assert views.example_key(2**32 - 1, 10_000, large).shape == (2,)


def test_the_meaning_of_a_seed_has_not_changed():
    """These numbers change only where everybody's data are meant to change."""
    key = key_of(5, epoch=3, seed=7)
    assert float(views.clip_position(key)) == pytest.approx(0.6935966, abs=1e-6)
    crop_key = views.draw_key(key, Draw.VIDEO_LOCAL_CROP, 1)
    box = views.draw_video_crop(crop_key, [112, 149], VIDEO.local_scale, VIDEO.aspect_ratio)
    np.testing.assert_array_equal(box, [23, 32, 58, 46])


def test_draws_are_independent_of_one_another():
    def draw(key):
        def crop(purpose, view):
            crop_key = views.draw_key(key, purpose, view)
            box = views.draw_video_crop(crop_key, [4000, 4000], (0.08, 0.4), VIDEO.aspect_ratio)
            return tf.unstack(tf.cast(box, tf.float32))

        def canvas(view):
            crop_key = views.draw_key(key, Draw.AUDIO_LOCAL_CROP, view)
            return tf.unstack(
                tf.cast(
                    views.draw_audio_crop(crop_key, [80, 112], (0.6, 0.9), [80, 168]), tf.float32
                )
            )

        def video_window(view):
            window_key = views.draw_key(key, Draw.VIDEO_LOCAL_WINDOW, view)
            return tf.cast(views.draw_video_window(window_key, VIDEO), tf.float32)

        def audio_window(view):
            window_key = views.draw_key(key, Draw.AUDIO_LOCAL_WINDOW, view)
            return tf.cast(views.draw_audio_window(window_key, SAMPLES, 16_000, 100), tf.float32)

        top, left, height, width = crop(Draw.VIDEO_GLOBAL_CROP, 0)
        numbers = [views.clip_position(key), height * width, height / width]
        numbers += [top / (4000 - height), left / (4000 - width)]
        numbers.append(views.draw_gain(views.draw_key(key, Draw.AUDIO_GLOBAL_GAIN), 0.1))
        for view in range(2):
            top, left, height, width = crop(Draw.VIDEO_LOCAL_CROP, view)
            numbers += [height * width, height / width]
            numbers += [top / (4000 - height), left / (4000 - width)]
            band, frame, bands, count = canvas(view)
            numbers += [bands, count, band / (80 - bands + 1), frame / (168 - count + 1)]
            numbers += [video_window(view), audio_window(view)]
            gain_key = views.draw_key(key, Draw.AUDIO_LOCAL_GAIN, view)
            numbers.append(views.draw_gain(gain_key, 0.2))
        return tf.stack(numbers)

    ranks = stats.spearmanr(drawn(draw)).statistic
    ranks = ranks[np.triu_indices_from(ranks, 1)]
    # The largest of some 400 normal deviates stays below 4.5 standard deviations.
    assert np.abs(ranks).max() < 4.5 / math.sqrt(DRAWS)


# Picture.


def numpy_resized_crop(frames, box, size):
    """Bilinear, pixel centers at halves, edges clamped; float64, not rounded."""
    top, left, height, width = box
    result = frames[:, top : top + height, left : left + width].astype(np.float64)
    for axis, length in ((1, height), (2, width)):
        place = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        below = np.floor(place).astype(int)
        above = np.minimum(below + 1, length - 1)
        weight = np.expand_dims(place - below, [a for a in range(4) if a != axis])
        result = (1 - weight) * result.take(below, axis) + weight * result.take(above, axis)
    return result


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((0, 0, 112, 149), 112),  # the whole frame, made smaller
        ((7, 20, 61, 45), 112),  # made larger
        ((12, 37, 100, 112), 112),  # cut at the right and lower edges
        ((50, 60, 32, 32), 96),
        ((3, 4, 1, 1), 8),  # a single pixel
    ],
)
def test_resized_video_crop(frames, box, size):
    result = views.resized_video_crop(frames[:3], tf.constant(box), size).numpy()
    assert result.dtype == np.uint8
    expected = numpy_resized_crop(frames[:3], box, size)
    # The implementation rounds to the nearest, and its coordinates are float32.
    assert np.abs(result - expected).max() < 0.51


def test_white_stays_white():
    white = np.full((2, 20, 20, 3), 255, np.uint8)
    assert (views.resized_video_crop(white, tf.constant([1, 2, 13, 7]), 16).numpy() == 255).all()


def numpy_video_crop(rng, height, width, scale, aspect_ratio):
    """Draws a crop's height and width as the specification says: until one fits."""
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(*np.log(aspect_ratio)))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if h <= height and w <= width:
            return h, w
    return height, width  # the central crop of a frame that itself has an allowed aspect


def test_video_crop_area_and_aspect_are_uniform_and_log_uniform():
    # In a square frame, no crop of 0.4 of the area with these aspect ratios is too large.
    boxes = drawn(
        lambda key: views.draw_video_crop(key, [4000, 4000], (0.08, 0.4), (3 / 4, 4 / 3)), tf.int32
    )
    top, left, height, width = boxes.T
    assert_uniform(height * width / 4000**2, 0.08, 0.4)
    assert_uniform(np.log(width / height), math.log(3 / 4), math.log(4 / 3))
    assert_uniform(top / (4000 - height))
    assert_uniform(left / (4000 - width))


def test_video_crop_tries_again_where_it_does_not_fit():
    size = (1120, 1490)
    boxes = drawn(
        lambda key: views.draw_video_crop(key, size, VIDEO.global_scale, VIDEO.aspect_ratio),
        tf.int32,
    )
    top, left, height, width = boxes.T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= size[0]).all() and (left + width <= size[1]).all()
    rng = np.random.default_rng(2)
    expected = np.array(
        [numpy_video_crop(rng, *size, VIDEO.global_scale, VIDEO.aspect_ratio) for _ in height]
    )
    assert_same_distribution(height, expected[:, 0])
    assert_same_distribution(width, expected[:, 1])
    assert_same_distribution(height * width, expected.prod(1))


@pytest.mark.parametrize(
    ("frame", "box"),
    [
        ([60, 1000], [0, 460, 60, 80]),
        ([1000, 60], [460, 0, 80, 60]),
        ([90, 100], [0, 0, 90, 100]),
    ],
)
def test_video_crop_falls_back_on_the_central_one(frame, box):
    # The crops exceed the frame's area, so that none ever fits.
    draw = views.draw_video_crop(key_of(0), frame, (1.1, 1.2), VIDEO.aspect_ratio)
    np.testing.assert_array_equal(draw, box)


def test_video_crop_reaches_every_place():
    boxes = drawn(
        lambda key: views.draw_video_crop(key, [12, 12], (0.69, 0.70), (1.0, 1.0001)), tf.int32
    )
    assert set(boxes[:, 0]) == {0, 1, 2} == set(boxes[:, 1])
    assert set(boxes[:, 2]) == {10} == set(boxes[:, 3])


def test_global_video_is_a_crop_of_every_frame(frames):
    view = views.global_video(key_of(3), frames, VIDEO).numpy()
    assert view.shape == (32, 112, 112, 3)
    box = views.draw_video_crop(
        views.draw_key(key_of(3), Draw.VIDEO_GLOBAL_CROP),
        frames.shape[1:3],
        VIDEO.global_scale,
        VIDEO.aspect_ratio,
    )
    assert np.abs(view - numpy_resized_crop(frames, box.numpy(), 112)).max() < 0.51


def test_all_frames_of_a_view_are_cropped_alike(frames):
    still = np.repeat(frames[:1], 32, axis=0)
    for example in range(5):
        key = key_of(example)
        for view in (
            views.global_video(key, still, VIDEO).numpy(),
            views.local_video(key, 0, still, VIDEO).numpy(),
        ):
            assert (view == view[:1]).all()


def test_local_video_is_of_consecutive_frames():
    clock = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None, None, None], (32, 50, 60, 3))
    for example in range(5):
        view = views.local_video(key_of(example), 1, clock, VIDEO).numpy()
        assert view.shape == (8, 96, 96, 3)
        times = view[:, 0, 0, 0].astype(int)
        assert (view == times[:, None, None, None]).all()
        np.testing.assert_array_equal(times, times[0] + np.arange(8))


@pytest.mark.parametrize("local_frames", [8, 16, 32])
def test_local_video_windows_are_uniform_over_all_starts(local_frames):
    video = base.get_config().views.video
    video.local_frames = local_frames
    starts = drawn(lambda key: views.draw_video_window(key, video), tf.int32)
    counts = np.bincount(starts)
    assert len(counts) == 32 - local_frames + 1
    assert len(counts) == 1 or stats.chisquare(counts).pvalue > SIGNIFICANCE


@pytest.mark.parametrize("local_frames", [16, 32])
def test_longer_local_video(local_frames):
    video = base.get_config().views.video
    video.local_frames = local_frames
    clock = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None, None, None], (32, 50, 60, 3))
    view = views.local_video(key_of(3), 0, clock, video).numpy()
    assert view.shape == (local_frames, 96, 96, 3)
    assert (view == view[:, :1, :1]).all()
    np.testing.assert_array_equal(np.diff(view[:, 0, 0, 0].astype(int)), 1)


# Sound.


@pytest.mark.parametrize("gain", [0.1, 0.2])
def test_gains_are_uniform(gain):
    assert_uniform(drawn(lambda key: views.draw_gain(key, gain)), 1 - gain, 1 + gain)


def test_clip_positions_are_uniform():
    assert_uniform(drawn(views.clip_position))


@pytest.mark.parametrize("seconds", [1, 2, 4])
def test_audio_windows_are_uniform_over_all_steps(seconds):
    starts = drawn(
        lambda key: views.draw_audio_window(key, SAMPLES, seconds * 16_000, 100), tf.int32, 20_000
    )
    assert not (starts % 100).any()
    counts = np.bincount(starts // 100)
    assert len(counts) == (4 - seconds) * 160 + 1
    assert stats.chisquare(counts).pvalue > SIGNIFICANCE if seconds < 4 else True


def test_global_audio_is_the_log_mel_of_the_louder_or_softer_sound(waveform):
    key = key_of(4)
    gain = views.draw_gain(views.draw_key(key, Draw.AUDIO_GLOBAL_GAIN), AUDIO.global_gain)
    expected = spectrogram.log_mel(waveform * gain.numpy(), 448, AUDIO)
    view = views.global_audio(key, tf.constant(waveform), AUDIO)
    np.testing.assert_allclose(view, expected, atol=1e-5)


def cubic(distance):
    """Returns Keys' kernel with a = -0.75."""
    d, a = np.abs(distance), -0.75
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def bicubic_weights(length, size):
    """Returns the (size, length) matrix of cubic resizing, corners aligned, edges clamped."""
    place = np.arange(size) * (length - 1) / (size - 1)
    weights = np.zeros((size, length))
    for offset in range(-1, 3):
        neighbor = np.floor(place).astype(int) + offset
        np.add.at(
            weights,
            (np.arange(size), np.clip(neighbor, 0, length - 1)),
            cubic(place - neighbor),
        )
    return weights


def numpy_resized_audio_crop(source, box, canvas):
    bands, frames = source.shape
    whole = np.zeros(canvas)
    top, left = (canvas[0] - bands) // 2, (canvas[1] - frames) // 2
    whole[top : top + bands, left : left + frames] = source
    band, frame, height, width = box
    crop = whole[band : band + height, frame : frame + width]
    return bicubic_weights(height, bands) @ crop @ bicubic_weights(width, frames).T


@pytest.mark.parametrize(
    ("box", "canvas"),
    [
        ((0, 28, 80, 112), (80, 168)),  # the log-mel itself
        ((0, 0, 80, 168), (80, 168)),  # the whole canvas
        ((13, 90, 48, 67), (80, 168)),
        ((2, 5, 99, 120), (101, 141)),  # odd margins around the log-mel
    ],
)
def test_resized_audio_crop(box, canvas):
    source = np.random.default_rng(3).standard_normal((80, 112)).astype(np.float32)
    result = views.resized_audio_crop(tf.constant(source), tf.constant(box), canvas).numpy()
    # TensorFlow tabulates the kernel at 1024 points between two samples.
    np.testing.assert_allclose(result, numpy_resized_audio_crop(source, box, canvas), atol=5e-3)


def test_audio_crop_extents_are_uniform_and_cut_to_the_canvas():
    # The log-mel is large, so that rounding to whole numbers matters little.
    size, canvas = (100_000, 100_000), (100_000, 150_000)
    boxes = drawn(lambda key: views.draw_audio_crop(key, size, (0.6, 1.5), canvas), tf.int32)
    band, frame, bands, frames = boxes.T
    assert_uniform(frames / 100_000, 0.6, 1.5)
    assert_uniform(frame / (150_000 - frames + 1))
    whole = bands == 100_000
    assert stats.binomtest(int(whole.sum()), DRAWS, 0.5 / 0.9).pvalue > SIGNIFICANCE
    assert_uniform(bands[~whole] / 100_000, 0.6, 1.0)
    assert_uniform(band[~whole] / (100_001 - bands[~whole]))
    assert not band[whole].any()


def test_audio_crops_lie_in_the_canvas():
    boxes = drawn(
        lambda key: views.draw_audio_crop(key, (80, 112), (0.6, 1.5), (80, 168)), tf.int32
    )
    ends = boxes[:, :2] + boxes[:, 2:]
    assert (boxes[:, :2].min(0) == 0).all()
    assert (ends.max(0) == (80, 168)).all()
    assert (boxes[:, 2:].min(0) == (48, 67)).all()


def test_local_audio_is_a_crop_of_the_log_mel_of_a_window(waveform):
    key = key_of(6)
    start = views.draw_audio_window(
        views.draw_key(key, Draw.AUDIO_LOCAL_WINDOW, 1), SAMPLES, 16_000, 100
    ).numpy()
    gain = views.draw_gain(views.draw_key(key, Draw.AUDIO_LOCAL_GAIN, 1), AUDIO.local_gain)
    source = spectrogram.log_mel(gain * waveform[start : start + 16_000], 112, AUDIO).numpy()
    box = views.draw_audio_crop(
        views.draw_key(key, Draw.AUDIO_LOCAL_CROP, 1), (80, 112), (0.6, 1.5), (80, 168)
    )
    view = views.local_audio(key, 1, tf.constant(waveform), AUDIO).numpy()
    assert view.shape == (80, 112)
    expected = numpy_resized_audio_crop(source, box.numpy(), (80, 168))
    np.testing.assert_allclose(view, expected, atol=5e-3)


# All views.


def shrunk(video_views, audio_views):
    config = base.get_config().views
    config.video.local_count, config.audio.local_count = video_views, audio_views
    return config


@pytest.mark.parametrize("counts", [(3, 2), (2, 3), (1, 2)])
def test_any_number_of_local_views(frames, waveform, counts):
    few, none, many = (
        views.training_views(key_of(1), frames, tf.constant(waveform), shrunk(*numbers))
        for numbers in ((1, 1), (0, 0), counts)
    )
    assert none["video_local"].shape == (0, 8, 96, 96, 3)
    assert none["video_local"].dtype == tf.uint8
    assert none["audio_local"].shape == (0, 80, 112)
    assert none["audio_local"].dtype == tf.float32
    assert many["video_local"].shape == (counts[0], 8, 96, 96, 3)
    assert many["audio_local"].shape == (counts[1], 80, 112)
    for name in few:
        # One more local view does not change the others.
        count = len(few[name])
        np.testing.assert_array_equal(few[name], many[name][:count])
    for name in ("video_local", "audio_local"):
        for one, other in itertools.combinations(many[name], 2):
            assert not np.array_equal(one, other)


def test_a_clip_without_sound(frames):
    silence = tf.zeros(SAMPLES)
    made = views.training_views(key_of(2), frames, silence, CONFIG)
    assert all(np.isfinite(view).all() for view in made.values())
    assert np.ptp(made["audio_global"]) == 0


@pytest.mark.parametrize("seconds", [2, 4])
def test_longer_local_audio(waveform, seconds):
    config = base.get_config().views.audio
    config.local_seconds, config.local_frames = float(seconds), 112 * seconds
    view = views.local_audio(key_of(0), 0, tf.constant(waveform), config)
    assert view.shape == (80, 112 * seconds)
