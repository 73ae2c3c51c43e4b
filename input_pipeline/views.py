"""The views of a clip, on TensorFlow ops: crops of its frames and log-mels of its sound.

Every random draw is stateless. Its key is (seed, epoch, example id, what is drawn), plus the index
of the view if there are several of a kind. A view is therefore the same in any order, on any thread
and on any machine, and adding a local view does not change the others. Drawing and applying a draw
are separate functions, so each can be used and tested alone.

Frames leave this module as uint8. The accelerator flips, colors, grays, blurs and normalizes them.
"""

import enum
import math
from collections.abc import Sequence

import ml_collections
import tensorflow as tf

from input_pipeline.spectrogram import log_mel

# Number of crops to try before taking the central one, as in torchvision's RandomResizedCrop.
_TRIES = 10


class Draw(enum.IntEnum):
    """What is drawn. The values define what a seed means: add new ones, never renumber."""

    CLIP_POSITION = 0
    VIDEO_GLOBAL_CROP = 1
    VIDEO_LOCAL_WINDOW = 2
    VIDEO_LOCAL_CROP = 3
    AUDIO_GLOBAL_GAIN = 4
    AUDIO_LOCAL_WINDOW = 5
    AUDIO_LOCAL_GAIN = 6
    AUDIO_LOCAL_CROP = 7


def example_key(seed: int, epoch: int | tf.Tensor, example_id: int | tf.Tensor) -> tf.Tensor:
    """Makes the key from which all draws for one example in one epoch derive.

    Args:
        seed: Seed of the run.
        epoch: Scalar, index of the epoch.
        example_id: Scalar, id of the example.

    Returns:
        (2,) int64 key.
    """
    return _fold(tf.constant([seed, 0], tf.int64), epoch, example_id)


def draw_key(key: tf.Tensor, draw: Draw, view: int | tf.Tensor = 0) -> tf.Tensor:
    """Makes the key of one draw.

    Args:
        key: (2,) int64 key from `example_key`.
        draw: What is drawn.
        view: Index of the view among those of its kind.

    Returns:
        (2,) int64 key for the `tf.random.stateless_*` functions.
    """
    return _fold(key, draw, view)


def _fold(key: tf.Tensor, *numbers: int | tf.Tensor) -> tf.Tensor:
    for number in numbers:
        key = tf.random.experimental.stateless_fold_in(key, tf.cast(number, tf.int64))
    return key


def clip_position(key: tf.Tensor, clip: int | tf.Tensor = 0) -> tf.Tensor:
    """Draws where in its recording a clip starts.

    Args:
        key: (2,) int64 key from `example_key`.
        clip: Index of the clip, if several are drawn from one recording.

    Returns:
        () float32, uniform in [0, 1). 0 is the first possible clip of the recording, 1 the last.
    """
    return tf.random.stateless_uniform([], draw_key(key, Draw.CLIP_POSITION, clip))


def training_views(
    key: tf.Tensor,
    frames: tf.Tensor | None,
    waveform: tf.Tensor,
    config: ml_collections.ConfigDict,
    modalities: Sequence[str] = ("video", "audio"),
) -> dict[str, tf.Tensor]:
    """Makes all views of one example.

    Args:
        key: (2,) int64 key from `example_key`.
        frames: (T, h, w, 3) uint8, T = `config.video.global_frames`. May be None without "video".
        waveform: (S,) float32 sound of the same clip, or zeros. S is known when the graph is built.
        config: `views` section of the run's config.
        modalities: Modalities to make views of.

    Returns:
        `video_global` (T, P, P, 3) uint8, `video_local` (n, t, p, p, 3) uint8, `audio_global` (F,
        W) float32 and `audio_local` (m, F, w) float32. n and m are the numbers of local views, P
        and p the sizes of the global and local crops, t the local frames, F the mel bands, W and w
        the numbers of global and local log-mel frames.
    """
    views = {}
    if "video" in modalities:
        views |= video_views(key, frames, config.video)
    if "audio" in modalities:
        views |= audio_views(key, waveform, config.audio)
    return views


def video_views(
    key: tf.Tensor, frames: tf.Tensor, video: ml_collections.ConfigDict
) -> dict[str, tf.Tensor]:
    """Makes `video_global` and `video_local`, as `training_views` describes them."""
    local = [local_video(key, view, frames, video) for view in range(video.local_count)]
    shape = (video.local_frames, video.local_size, video.local_size, 3)
    return {
        "video_global": global_video(key, frames, video),
        "video_local": _stack(local, shape, tf.uint8),
    }


def audio_views(
    key: tf.Tensor, waveform: tf.Tensor, audio: ml_collections.ConfigDict
) -> dict[str, tf.Tensor]:
    """Makes `audio_global` and `audio_local`, as `training_views` describes them."""
    local = [local_audio(key, view, waveform, audio) for view in range(audio.local_count)]
    shape = (audio.mel_bands, audio.local_frames)
    return {
        "audio_global": global_audio(key, waveform, audio),
        "audio_local": _stack(local, shape, tf.float32),
    }


def _stack(views: list[tf.Tensor], shape: Sequence[int], dtype: tf.DType) -> tf.Tensor:
    """Stacks the views of a kind. There may be none."""
    return tf.stack(views) if views else tf.zeros([0, *shape], dtype)


# Video.


def global_video(key: tf.Tensor, frames: tf.Tensor, video: ml_collections.ConfigDict) -> tf.Tensor:
    """Makes the global video view: a random resized crop of all frames.

    Args:
        key: (2,) int64 key from `example_key`.
        frames: (T, h, w, 3) uint8.
        video: `views.video` section of the run's config.

    Returns:
        (T, global_size, global_size, 3) uint8.
    """
    crop_key = draw_key(key, Draw.VIDEO_GLOBAL_CROP)
    box = draw_video_crop(crop_key, tf.shape(frames)[1:3], video.global_scale, video.aspect_ratio)
    return resized_video_crop(frames, box, video.global_size)


def local_video(
    key: tf.Tensor, view: int, frames: tf.Tensor, video: ml_collections.ConfigDict
) -> tf.Tensor:
    """Makes one local video view: a random resized crop of consecutive frames.

    Args:
        key: (2,) int64 key from `example_key`.
        view: Index of the view.
        frames: (T, h, w, 3) uint8, T >= `video.local_frames`.
        video: `views.video` section of the run's config.

    Returns:
        (local_frames, local_size, local_size, 3) uint8.
    """
    start = draw_video_window(draw_key(key, Draw.VIDEO_LOCAL_WINDOW, view), video)
    crop_key = draw_key(key, Draw.VIDEO_LOCAL_CROP, view)
    box = draw_video_crop(crop_key, tf.shape(frames)[1:3], video.local_scale, video.aspect_ratio)
    window = frames[start : start + video.local_frames]
    resized = resized_video_crop(window, box, video.local_size)
    return tf.ensure_shape(resized, [video.local_frames, video.local_size, video.local_size, 3])


def draw_video_window(key: tf.Tensor, video: ml_collections.ConfigDict) -> tf.Tensor:
    """Draws the first frame of a local view, uniformly from those that leave room for the rest.

    Args:
        key: (2,) int64 key from `draw_key`.
        video: `views.video` section of the run's config.

    Returns:
        () int32.
    """
    starts = video.global_frames - video.local_frames + 1
    return tf.random.stateless_uniform([], key, maxval=starts, dtype=tf.int32)


def draw_video_crop(
    key: tf.Tensor,
    frame_size: tf.Tensor,
    scale: Sequence[float],
    aspect_ratio: Sequence[float],
) -> tf.Tensor:
    """Draws a crop as torchvision's RandomResizedCrop does.

    The area, the logarithm of the aspect ratio (width over height) and the place are uniform. A
    crop that does not fit into the frame is drawn again. After ten failures, the crop is the
    largest central one with an allowed aspect ratio.

    Args:
        key: (2,) int64 key from `draw_key`.
        frame_size: (2,) int32 height and width of the frames, in pixels.
        scale: Smallest and largest area of the crop, as fractions of the frame's area.
        aspect_ratio: Smallest and largest aspect ratio of the crop.

    Returns:
        (4,) int32 top, left, height and width of the crop, in pixels.
    """
    draws = tf.random.stateless_uniform([_TRIES + 1, 2], key)
    tries, place = draws[:-1], draws[-1]
    frame = tf.cast(frame_size, tf.float32)
    area = _between(tries[:, 0], *scale) * frame[0] * frame[1]
    aspect = tf.exp(_between(tries[:, 1], *map(math.log, aspect_ratio)))
    sizes = tf.round(tf.sqrt(tf.stack([area / aspect, area * aspect], axis=1)))
    fits = tf.reduce_all((sizes >= 1) & (sizes <= frame), axis=1)

    aspect = tf.clip_by_value(frame[1] / frame[0], *aspect_ratio)
    central = tf.round(tf.minimum(frame, tf.stack([frame[1] / aspect, frame[0] * aspect])))
    first = tf.argmax(tf.concat([fits, [True]], axis=0))
    size = tf.concat([sizes, central[None]], axis=0)[first]
    room = frame - size
    corner = tf.floor(tf.where(first < _TRIES, place * (room + 1), room / 2))
    return tf.cast(tf.concat([corner, size], axis=0), tf.int32)


def resized_video_crop(frames: tf.Tensor, box: tf.Tensor, size: int) -> tf.Tensor:
    """Cuts the same crop out of all frames and resizes it bilinearly.

    Pixel centers are at halves, edges are clamped, and there is no antialiasing, as in
    `torch.nn.functional.interpolate`.

    Args:
        frames: (T, h, w, 3) uint8.
        box: (4,) int32 top, left, height and width of the crop, in pixels.
        size: Height and width of the result, in pixels.

    Returns:
        (T, size, size, 3) uint8, rounded to nearest.
    """
    top, left, height, width = tf.unstack(box)
    # The op is nearly twice as fast on floats as on bytes, with the same result.
    crop = tf.cast(frames[:, top : top + height, left : left + width], tf.float32)
    resized = tf.raw_ops.ResizeBilinear(images=crop, size=[size, size], half_pixel_centers=True)
    # The cast truncates, so adding 0.5 rounds, in one pass over the pixels.
    return tf.cast(resized + 0.5, tf.uint8)


# Audio.


def global_audio(
    key: tf.Tensor, waveform: tf.Tensor, audio: ml_collections.ConfigDict
) -> tf.Tensor:
    """Makes the global audio view: the log-mel of the whole waveform at a random volume.

    Args:
        key: (2,) int64 key from `example_key`.
        waveform: (S,) float32. S is known when the graph is built.
        audio: `views.audio` section of the run's config.

    Returns:
        (mel_bands, global_frames) float32.
    """
    gain = draw_gain(draw_key(key, Draw.AUDIO_GLOBAL_GAIN), audio.global_gain)
    return log_mel(gain * waveform, audio.global_frames, audio)


def local_audio(
    key: tf.Tensor, view: int, waveform: tf.Tensor, audio: ml_collections.ConfigDict
) -> tf.Tensor:
    """Makes one local audio view: a random resized crop of the log-mel of a random window.

    Args:
        key: (2,) int64 key from `example_key`.
        view: Index of the view.
        waveform: (S,) float32. S is known when the graph is built.
        audio: `views.audio` section of the run's config.

    Returns:
        (mel_bands, local_frames) float32.
    """
    length = round(audio.local_seconds * audio.sample_rate)
    window_key = draw_key(key, Draw.AUDIO_LOCAL_WINDOW, view)
    start = draw_audio_window(window_key, waveform.shape[0], length, audio.local_start_step)
    gain = draw_gain(draw_key(key, Draw.AUDIO_LOCAL_GAIN, view), audio.local_gain)
    source = log_mel(gain * tf.slice(waveform, [start], [length]), audio.local_frames, audio)
    size = (audio.mel_bands, audio.local_frames)
    canvas = [int(extent * n) for extent, n in zip(audio.local_crop_canvas, size, strict=True)]
    crop_key = draw_key(key, Draw.AUDIO_LOCAL_CROP, view)
    box = draw_audio_crop(crop_key, size, audio.local_crop_extent, canvas)
    return resized_audio_crop(source, box, canvas)


def draw_gain(key: tf.Tensor, gain: float) -> tf.Tensor:
    """Draws a volume factor.

    Args:
        key: (2,) int64 key from `draw_key`.
        gain: Largest deviation from 1.

    Returns:
        () float32, uniform in [1 - gain, 1 + gain).
    """
    return _between(tf.random.stateless_uniform([], key), 1 - gain, 1 + gain)


def draw_audio_window(key: tf.Tensor, samples: int, length: int, step: int) -> tf.Tensor:
    """Draws the first sample of a local view's window, uniformly from the multiples of `step`.

    Args:
        key: (2,) int64 key from `draw_key`.
        samples: Number of samples in the waveform.
        length: Number of samples in the window, at most `samples`.
        step: Number of samples between possible starts.

    Returns:
        () int32.
    """
    starts = (samples - length) // step + 1
    return step * tf.random.stateless_uniform([], key, maxval=starts, dtype=tf.int32)


def draw_audio_crop(
    key: tf.Tensor, size: Sequence[int], extent: Sequence[float], canvas: Sequence[int]
) -> tf.Tensor:
    """Draws a crop of the canvas that holds a log-mel, as BYOL-A does (arXiv 2103.06695).

    Args:
        key: (2,) int64 key from `draw_key`.
        size: Numbers of mel bands and frames of the log-mel.
        extent: Smallest and largest extent of the crop, as fractions of the log-mel's. It is drawn
            uniformly and independently for the two axes, then limited to the canvas.
        canvas: Numbers of mel bands and frames of the canvas.

    Returns:
        (4,) int32 first band, first frame, number of bands and number of frames of the crop, on the
        canvas.
    """
    extents, places = tf.unstack(tf.random.stateless_uniform([2, 2], key))
    canvas = tf.constant(canvas, tf.float32)
    crop = tf.floor(_between(extents, *extent) * tf.constant(size, tf.float32))
    crop = tf.clip_by_value(crop, 1, canvas)
    corner = tf.floor(places * (canvas - crop + 1))
    return tf.cast(tf.concat([corner, crop], axis=0), tf.int32)


def resized_audio_crop(source: tf.Tensor, box: tf.Tensor, canvas: Sequence[int]) -> tf.Tensor:
    """Centers a log-mel on a canvas of zeros, cuts a crop out of the canvas and resizes it.

    The interpolation is bicubic with a = -0.75 and clamped edges, and the outermost values of the
    crop map to the outermost values of the result. BYOL-A does the same (PyTorch's
    `align_corners=True`).

    Args:
        source: (F, W) float32 normalized log-mel. Its mean over the data is 0, like the canvas.
        box: (4,) int32 first band, first frame, number of bands and number of frames of the crop,
            on the canvas.
        canvas: Numbers of bands and frames of the canvas, no less than the log-mel's.

    Returns:
        (F, W) float32.
    """
    margins = [whole - part for whole, part in zip(canvas, source.shape, strict=True)]
    on_canvas = tf.pad(source, [(n // 2, n - n // 2) for n in margins])
    crop = tf.slice(on_canvas, box[:2], box[2:])
    # With aligned corners, this op's cubic has a = -0.75. tf.image.resize's has a = -0.5.
    resized = tf.raw_ops.ResizeBicubic(
        images=crop[None, :, :, None], size=source.shape, align_corners=True
    )
    return resized[0, :, :, 0]


def _between(uniform: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """Maps draws uniform in [0, 1) to [low, high)."""
    return low + (high - low) * uniform
