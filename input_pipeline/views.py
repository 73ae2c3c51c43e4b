"""The views of a clip: crops and windows of its picture, log-mels of its sound, on TensorFlow ops.

Every draw is stateless and keyed by what it is for: (seed, epoch, example id, purpose), and the
number of the view where there are several. So a view is the same in whatever order, on whatever
thread or machine it is made, and one more local view leaves the others as they are. What is drawn
and what is done with it are separate functions, so that each can be used and tested alone.

Frames leave here as uint8. Flip, color, gray, blur and normalization are the accelerator's work.
"""

import enum
import math
from collections.abc import Sequence

import ml_collections
import tensorflow as tf

from input_pipeline.spectrogram import log_mel

# Crops drawn before the central one is taken, as in torchvision's RandomResizedCrop.
_TRIES = 10


class Purpose(enum.IntEnum):
    """What a draw is for. The values are part of what a seed means: add, never renumber."""

    CLIP_POSITION = 0
    VIDEO_GLOBAL_CROP = 1
    VIDEO_LOCAL_WINDOW = 2
    VIDEO_LOCAL_CROP = 3
    AUDIO_GLOBAL_GAIN = 4
    AUDIO_LOCAL_WINDOW = 5
    AUDIO_LOCAL_GAIN = 6
    AUDIO_LOCAL_CROP = 7


def example_key(seed: int, epoch: int | tf.Tensor, example_id: int | tf.Tensor) -> tf.Tensor:
    """Makes the key from which all draws of one example in one epoch come.

    Args:
        seed: The run's seed.
        epoch: Scalar, the pass over the data in which the example is seen.
        example_id: Scalar, the example's number in the data.

    Returns:
        (2,) int64 key.
    """
    return _fold(tf.constant([seed, 0], tf.int64), epoch, example_id)


def draw_key(key: tf.Tensor, purpose: Purpose, view: int | tf.Tensor = 0) -> tf.Tensor:
    """Makes the key of one draw from `example_key`'s, for one of the views of a kind.

    Returns:
        (2,) int64 key, for the `tf.random.stateless_*` functions.
    """
    return _fold(key, purpose, view)


def _fold(key: tf.Tensor, *numbers: int | tf.Tensor) -> tf.Tensor:
    for number in numbers:
        key = tf.random.experimental.stateless_fold_in(key, tf.cast(number, tf.int64))
    return key


def clip_position(key: tf.Tensor, clip: int | tf.Tensor = 0) -> tf.Tensor:
    """Draws where in its file an example's clip starts, one of several clips if need be.

    Returns:
        () float32, uniform in [0, 1): 0 for the first clip that the file holds, 1 for the last.
    """
    return tf.random.stateless_uniform([], draw_key(key, Purpose.CLIP_POSITION, clip))


def training_views(
    key: tf.Tensor,
    frames: tf.Tensor | None,
    waveform: tf.Tensor,
    config: ml_collections.ConfigDict,
    modalities: Sequence[str] = ("video", "audio"),
) -> dict[str, tf.Tensor]:
    """Makes all views of one example.

    Args:
        key: (2,) int64, of `example_key`.
        frames: (T, h, w, 3) uint8, T = `config.video.global_frames`.
        waveform: (S,) float32, the sound of the same interval; zeros if there is none. S is known
            when the graph is built.
        config: `views` of the run's config.
        modalities: Whose views to make; without video's there need be no frames.

    Returns:
        With n and m the numbers of local views, P and p the sizes of the global and local crops, F
        the mel bands and W and w the global and local log-mel frames: `video_global` (T, P, P, 3)
        uint8, `video_local` (n, t, p, p, 3) uint8, `audio_global` (F, W) float32, `audio_local`
        (m, F, w) float32.
    """
    made = {}
    if "video" in modalities:
        made |= video_views(key, frames, config.video)
    if "audio" in modalities:
        made |= audio_views(key, waveform, config.audio)
    return made


def video_views(
    key: tf.Tensor, frames: tf.Tensor, video: ml_collections.ConfigDict
) -> dict[str, tf.Tensor]:
    """Makes `video_global` and `video_local`, see `training_views`."""
    local = [local_video(key, view, frames, video) for view in range(video.local_count)]
    shape = (video.local_frames, video.local_size, video.local_size, 3)
    return {
        "video_global": global_video(key, frames, video),
        "video_local": _stack(local, shape, tf.uint8),
    }


def audio_views(
    key: tf.Tensor, waveform: tf.Tensor, audio: ml_collections.ConfigDict
) -> dict[str, tf.Tensor]:
    """Makes `audio_global` and `audio_local`, see `training_views`."""
    local = [local_audio(key, view, waveform, audio) for view in range(audio.local_count)]
    shape = (audio.mel_bands, audio.local_frames)
    return {
        "audio_global": global_audio(key, waveform, audio),
        "audio_local": _stack(local, shape, tf.float32),
    }


def _stack(views: list[tf.Tensor], shape: Sequence[int], dtype: tf.DType) -> tf.Tensor:
    """Stacks the views of a kind, of which there may be none."""
    return tf.stack(views) if views else tf.zeros([0, *shape], dtype)


# Picture.


def global_video(key: tf.Tensor, frames: tf.Tensor, video: ml_collections.ConfigDict) -> tf.Tensor:
    """Makes the global video view: a random resized crop of all frames.

    Args:
        key: (2,) int64, of `example_key`.
        frames: (T, h, w, 3) uint8.
        video: `views.video` of the run's config.

    Returns:
        (T, global_size, global_size, 3) uint8.
    """
    crop_key = draw_key(key, Purpose.VIDEO_GLOBAL_CROP)
    box = draw_video_crop(crop_key, tf.shape(frames)[1:3], video.global_scale, video.aspect_ratio)
    return resized_video_crop(frames, box, video.global_size)


def local_video(
    key: tf.Tensor, view: int, frames: tf.Tensor, video: ml_collections.ConfigDict
) -> tf.Tensor:
    """Makes one local video view: a random resized crop of consecutive frames.

    Args:
        key: (2,) int64, of `example_key`.
        view: Number of the view.
        frames: (T, h, w, 3) uint8, T >= `video.local_frames`.
        video: `views.video` of the run's config.

    Returns:
        (local_frames, local_size, local_size, 3) uint8.
    """
    start = draw_video_window(draw_key(key, Purpose.VIDEO_LOCAL_WINDOW, view), video)
    crop_key = draw_key(key, Purpose.VIDEO_LOCAL_CROP, view)
    box = draw_video_crop(crop_key, tf.shape(frames)[1:3], video.local_scale, video.aspect_ratio)
    window = frames[start : start + video.local_frames]
    view = resized_video_crop(window, box, video.local_size)
    return tf.ensure_shape(view, [video.local_frames, video.local_size, video.local_size, 3])


def draw_video_window(key: tf.Tensor, video: ml_collections.ConfigDict) -> tf.Tensor:
    """Draws the first of a local view's frames, uniformly from those that leave room for the rest.

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

    The area is uniform, the logarithm of the aspect ratio (width over height) is, and so is the
    place. A crop that does not fit into the frame is drawn again, ten times in all; then it is the
    largest central one with an allowed aspect ratio.

    Args:
        key: (2,) int64, of `draw_key`.
        frame_size: (2,) int32, height and width of the frames in pixels.
        scale: Smallest and largest area of the crop over that of the frame.
        aspect_ratio: Smallest and largest aspect ratio of the crop.

    Returns:
        (4,) int32: top, left, height and width of the crop, in pixels.
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
    """Cuts the same crop out of all frames and resizes it, bilinearly.

    Pixel centers are at halves, edges are clamped, and nothing is smoothed before a reduction, as
    in `torch.nn.functional.interpolate`.

    Args:
        frames: (T, h, w, 3) uint8.
        box: (4,) int32: top, left, height and width of the crop, in pixels.
        size: Height and width of the result, in pixels.

    Returns:
        (T, size, size, 3) uint8, rounded to the nearest.
    """
    top, left, height, width = tf.unstack(box)
    # The operation takes floats nearly twice as fast as bytes, to the same result.
    crop = tf.cast(frames[:, top : top + height, left : left + width], tf.float32)
    resized = tf.raw_ops.ResizeBilinear(images=crop, size=[size, size], half_pixel_centers=True)
    # The cast cuts off: this rounds, in one pass over the pixels.
    return tf.cast(resized + 0.5, tf.uint8)


# Sound.


def global_audio(
    key: tf.Tensor, waveform: tf.Tensor, audio: ml_collections.ConfigDict
) -> tf.Tensor:
    """Makes the global audio view: the log-mel of the whole sound at a random volume.

    Args:
        key: (2,) int64, of `example_key`.
        waveform: (S,) float32, S known when the graph is built.
        audio: `views.audio` of the run's config.

    Returns:
        (mel_bands, global_frames) float32.
    """
    gain = draw_gain(draw_key(key, Purpose.AUDIO_GLOBAL_GAIN), audio.global_gain)
    return log_mel(gain * waveform, audio.global_frames, audio)


def local_audio(
    key: tf.Tensor, view: int, waveform: tf.Tensor, audio: ml_collections.ConfigDict
) -> tf.Tensor:
    """Makes one local audio view: a random resized crop of the log-mel of a random window.

    Args:
        key: (2,) int64, of `example_key`.
        view: Number of the view.
        waveform: (S,) float32, S known when the graph is built.
        audio: `views.audio` of the run's config.

    Returns:
        (mel_bands, local_frames) float32.
    """
    length = round(audio.local_seconds * audio.sample_rate)
    window_key = draw_key(key, Purpose.AUDIO_LOCAL_WINDOW, view)
    start = draw_audio_window(window_key, waveform.shape[0], length, audio.local_start_step)
    gain = draw_gain(draw_key(key, Purpose.AUDIO_LOCAL_GAIN, view), audio.local_gain)
    source = log_mel(gain * tf.slice(waveform, [start], [length]), audio.local_frames, audio)
    size = (audio.mel_bands, audio.local_frames)
    canvas = [int(extent * n) for extent, n in zip(audio.local_crop_canvas, size, strict=True)]
    crop_key = draw_key(key, Purpose.AUDIO_LOCAL_CROP, view)
    box = draw_audio_crop(crop_key, size, audio.local_crop_extent, canvas)
    return resized_audio_crop(source, box, canvas)


def draw_gain(key: tf.Tensor, gain: float) -> tf.Tensor:
    """Draws a volume factor.

    Returns:
        () float32, uniform in [1 - gain, 1 + gain).
    """
    return _between(tf.random.stateless_uniform([], key), 1 - gain, 1 + gain)


def draw_audio_window(key: tf.Tensor, samples: int, length: int, step: int) -> tf.Tensor:
    """Draws the first sample of a local window, uniformly from the multiples of `step`.

    Args:
        key: (2,) int64, of `draw_key`.
        samples: Length of the sound.
        length: Length of the window, at most `samples`.
        step: Of the starts, in samples.

    Returns:
        () int32.
    """
    starts = (samples - length) // step + 1
    return step * tf.random.stateless_uniform([], key, maxval=starts, dtype=tf.int32)


def draw_audio_crop(
    key: tf.Tensor, size: Sequence[int], extent: Sequence[float], canvas: Sequence[int]
) -> tf.Tensor:
    """Draws a crop of the canvas on which a log-mel lies, as BYOL-A does (arXiv 2103.06695).

    Args:
        key: (2,) int64, of `draw_key`.
        size: Mel bands and frames of the log-mel.
        extent: Smallest and largest extent of the crop over that of the log-mel. Drawn uniformly
            and independently for the two axes, then cut to the canvas.
        canvas: Mel bands and frames of the canvas.

    Returns:
        (4,) int32: first band, first frame, bands and frames of the crop, in the canvas.
    """
    extents, places = tf.unstack(tf.random.stateless_uniform([2, 2], key))
    canvas = tf.constant(canvas, tf.float32)
    crop = tf.floor(_between(extents, *extent) * tf.constant(size, tf.float32))
    crop = tf.clip_by_value(crop, 1, canvas)
    corner = tf.floor(places * (canvas - crop + 1))
    return tf.cast(tf.concat([corner, crop], axis=0), tf.int32)


def resized_audio_crop(source: tf.Tensor, box: tf.Tensor, canvas: Sequence[int]) -> tf.Tensor:
    """Cuts a crop out of a canvas of zeros with the log-mel in its middle, and resizes it.

    The interpolation is bicubic as in BYOL-A (PyTorch's with `align_corners=True`): a = -0.75, the
    outermost values of the crop go to the outermost ones of the result, edges are clamped.

    Args:
        source: (F, W) float32 normalized log-mel; its mean over the data is 0, as the canvas's.
        box: (4,) int32: first band, first frame, bands and frames of the crop, in the canvas.
        canvas: Bands and frames of the canvas, no fewer than the log-mel's.

    Returns:
        (F, W) float32.
    """
    room = [whole - part for whole, part in zip(canvas, source.shape, strict=True)]
    on_canvas = tf.pad(source, [(n // 2, n - n // 2) for n in room])
    crop = tf.slice(on_canvas, box[:2], box[2:])
    # With aligned corners this operation's cubic has a = -0.75; tf.image.resize's has -0.5.
    resized = tf.raw_ops.ResizeBicubic(
        images=crop[None, :, :, None], size=source.shape, align_corners=True
    )
    return resized[0, :, :, 0]


def _between(uniform: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """Maps draws uniform in [0, 1) to [low, high)."""
    return low + (high - low) * uniform
