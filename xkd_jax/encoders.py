"""Pretrained encoders on raw frames, waveforms and media files, without TensorFlow."""

import functools
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xkd_jax import arguments, checkpoint, preprocessing
from xkd_jax.interop import pretrained
from xkd_jax.models import patches
from xkd_jax.models.vit import Encoder
from xkd_jax.models.xkd import MODALITIES, encoder_params

DTYPES = ("float32", "bfloat16")

# A recording: raw frames or a waveform, or the path of a media file.
Clip = np.ndarray | str | os.PathLike


class Sizes(NamedTuple):
    """Of what goes into an encoder and of what comes out.

    Attributes:
        view: What it sees of a clip: (frames, height, width, 3), or (mel bands, frames).
        seconds: Of that.
        rate: Frames per second of video, or samples per second of sound.
        grid: Tokens along (time, height, width), or (frequency, time).
        tokens: N, their number, CLS not counted.
        width: D, of a token, and of the features.
        heads: H, of the attention.
    """

    view: tuple[int, ...]
    seconds: float
    rate: float
    grid: tuple[int, ...]
    tokens: int
    width: int
    heads: int


class Form(NamedTuple):
    """What an encoder computes, but for its weights: encoders of one form share programs.

    Attributes:
        module: The network.
        patch: What a token is made from: frames, pixels, pixels, or mel bands and frames.
        moments: Mean and deviation of the three colors, which uint8 frames are normalized by; None
            for sound.
    """

    module: Encoder
    patch: tuple[int, ...]
    moments: tuple[tuple[float, ...], tuple[float, ...]] | None

    def apply(
        self, params: Mapping[str, Any], views: jax.Array, output: str = "features"
    ) -> jax.Array:
        """What `PretrainedEncoder.encode_views` computes of a batch, as a pure function.

        Args:
            params: As in `PretrainedEncoder.params`, wherever they are.
            views: (B, ...) uint8 frames or normalized ones, or log-mels.
            output: See `PretrainedEncoder.encode_views`.

        Returns:
            (B, ...) float32.
        """
        if self.moments is not None:
            if views.dtype == jnp.uint8:
                mean, std = map(jnp.array, self.moments)
                views = (views.astype(jnp.float32) / 255 - mean) / std
            cut = patches.patchify_video(views, self.patch)
        else:
            cut = patches.patchify_audio(views, self.patch)
        grid = tuple(n // p for n, p in zip(views.shape[1:], self.patch, strict=False))
        tokens, attention = self.module.apply({"params": params}, cut, grid)
        tokens = tokens.astype(jnp.float32)
        if output == "attention":
            return attention
        return tokens if output == "tokens" else tokens[:, 1:].mean(axis=1)


_apply = jax.jit(Form.apply, static_argnames=("self", "output"))


class PretrainedEncoder:
    """One modality's encoder with its preprocessing. `load_encoder` makes it.

    Clips are recordings, one or a list: raw frames (T, H, W, 3) uint8 RGB of any size with their
    `frame_rate`, or mono waveforms (S,) float in [-1, 1] with their `sample_rate`, or paths of
    media files. Several of frames may be one array (B, T, H, W, 3); of sound they may not, since
    its two axes may as well be channels. A clip longer than the encoder's view is seen through its
    central window; a shorter one repeats.

    Attributes:
        modality: Video or audio.
        network: Teacher or student.
        sizes: Of its inputs and outputs.
        module: The network, of Flax.
        params: Of the encoder, float32, on the device.
        patch: What a token is made from: frames, pixels, pixels, or mel bands and frames.
        view: The preprocessing of the encoder's training, at the sizes asked for.
        description: Of the weights, their preprocessing and their origin; of
            `xkd_jax.interop.pretrained.describe`.
    """

    def __init__(
        self,
        module: Encoder,
        params: Mapping[str, Any],
        description: Mapping[str, Any],
        modality: str,
        network: str,
        view: Mapping[str, Any],
        batch_size: int,
    ) -> None:
        self.modality = modality
        self.network = network
        self.description = description
        self.view = view
        self._batch_size = batch_size
        self.module = module
        self.patch = tuple(description["architecture"][modality]["patch"])
        self.params = jax.device_put(params)
        video = modality == "video"
        moments = (tuple(view["mean"]), tuple(view["std"])) if video else None
        self.form = Form(module, self.patch, moments)
        shape = view_shape(view, modality)
        grid = tuple(n // p for n, p in zip(shape, self.patch, strict=False))
        self.sizes = Sizes(
            view=shape,
            seconds=view["frames"] / view["frame_rate"] if video else view["seconds"],
            rate=view["frame_rate"] if video else view["sample_rate"],
            grid=grid,
            tokens=math.prod(grid),
            width=module.width,
            heads=module.heads,
        )

    def features(
        self,
        clips: Clip | Sequence[Clip],
        *,
        frame_rate: float | Sequence[float] | None = None,
        sample_rate: float | Sequence[float] | None = None,
        windows: int = 1,
    ) -> np.ndarray:
        """Encodes clips as one vector each: the mean of the last layer's patch tokens.

        Args:
            clips: See the class.
            frame_rate: Of raw frames, per second, 0.01 to 10,000; one for all clips or one for
                each.
            sample_rate: Of waveforms, in Hz, 1,000 to 1,000,000; likewise.
            windows: How many windows of a clip to encode, evenly from its first to its last, and to
                average over. 1: the central one.

        Returns:
            (B, D) float32, after the final norm, CLS excluded.

        Raises:
            ValueError: A clip, or another argument, is not as it has to be.
            MediaError: A file is not usable; of `input_pipeline.media`, a ValueError.
        """
        rows = self._encode(clips, frame_rate, sample_rate, windows, "features")
        return rows.reshape(-1, windows, self.sizes.width).mean(axis=1)

    def tokens(
        self,
        clips: Clip | Sequence[Clip],
        *,
        frame_rate: float | Sequence[float] | None = None,
        sample_rate: float | Sequence[float] | None = None,
    ) -> np.ndarray:
        """Encodes the central windows of clips, see `features`.

        Returns:
            (B, 1 + N, D) float32, CLS first, after the final norm. Patches are in the order of
            `sizes.grid`, its last axis fastest.
        """
        return self._encode(clips, frame_rate, sample_rate, 1, "tokens")

    def attention(
        self,
        clips: Clip | Sequence[Clip],
        *,
        frame_rate: float | Sequence[float] | None = None,
        sample_rate: float | Sequence[float] | None = None,
    ) -> np.ndarray:
        """What CLS attends to in the last block, in the central windows of clips, see `features`.

        Returns:
            (B, H, N) float32, the row of the softmax without its CLS column, not renormalized.
        """
        return self._encode(clips, frame_rate, sample_rate, 1, "attention")

    def views(
        self,
        clip: Clip,
        *,
        frame_rate: float | None = None,
        sample_rate: float | None = None,
        windows: int = 1,
    ) -> list[np.ndarray]:
        """Makes of one clip what the encoder sees of it, see `features`.

        Returns:
            For each window, uint8 frames or a float32 normalized log-mel, of shape `sizes.view`.

        Raises:
            ValueError: As `features`.
        """
        windows = arguments.count("windows", windows)
        (rate,) = self._rates(frame_rate, sample_rate, 1)
        return self._views(arguments.clip("clip", clip, self.modality, rate), rate, windows)

    def encode_views(
        self, views: Iterable[np.ndarray] | np.ndarray, output: str = "features"
    ) -> np.ndarray:
        """Encodes what `views` made, or anything of another size that patches divide.

        Args:
            views: Of one shape each: uint8 frames (T, H, W, 3) or normalized ones (floats), or
                normalized log-mels (F, W). Taken one by one, so a generator never has to be held.
            output: Features (D,), tokens (1 + N, D) or attention (H, N).

        Returns:
            (B, ...) float32.

        Raises:
            ValueError: A view is not as it has to be, or not like the first.
        """
        shapes = {
            "features": (self.sizes.width,),
            "tokens": (1 + self.sizes.tokens, self.sizes.width),
            "attention": (self.sizes.heads, self.sizes.tokens),
        }
        shape = shapes[arguments.choice("output", output, tuple(shapes))]
        views = arguments.views(views, self.modality, self.patch)
        made = [self._encode_batch(batch, output) for batch in _batched(views, self._batch_size)]
        return np.concatenate(made) if made else np.zeros((0, *shape), np.float32)

    def _encode(
        self,
        clips: Clip | Sequence[Clip],
        frame_rate: float | Sequence[float] | None,
        sample_rate: float | Sequence[float] | None,
        windows: int,
        output: str,
    ) -> np.ndarray:
        windows = arguments.count("windows", windows)
        clips = arguments.listed(clips, self.modality)
        rates = self._rates(frame_rate, sample_rate, len(clips))
        # All of them before the first is encoded: the last may be hours away.
        clips = [
            arguments.clip(f"clips[{place}]", clip, self.modality, rate)
            for place, (clip, rate) in enumerate(zip(clips, rates, strict=True))
        ]
        views = (
            view
            for clip, rate in zip(clips, rates, strict=True)
            for view in self._views(clip, rate, windows)
        )
        return self.encode_views(views, output)

    def _rates(self, frame_rate: Any, sample_rate: Any, clips: int) -> list[float | None]:
        """The rates of clips of this modality; those of the other are only checked."""
        rates = {
            "video": arguments.frame_rates(frame_rate, clips),
            "audio": arguments.sample_rates(sample_rate, clips),
        }
        return rates[self.modality]

    def _views(self, clip: Clip, rate: float | None, windows: int) -> list[np.ndarray]:
        """What `views` makes of a clip that is checked."""
        of_array, of_file = {
            "video": (preprocessing.video_views, preprocessing.video_views_of_file),
            "audio": (preprocessing.audio_views, preprocessing.audio_views_of_file),
        }[self.modality]
        places = preprocessing.positions(windows)
        if arguments.is_path(clip):
            return of_file(clip, self.view, places)
        return of_array(clip, rate, self.view, places)

    def _encode_batch(self, batch: list[np.ndarray], output: str) -> np.ndarray:
        # Powers of two, so that few programs are compiled whatever the lists' lengths, and a
        # single clip does not cost a full batch.
        rows = min(self._batch_size, 1 << (len(batch) - 1).bit_length())
        padded = np.zeros((rows, *batch[0].shape), batch[0].dtype)
        padded[: len(batch)] = batch
        precision = "highest" if self.module.dtype == jnp.float32 else "default"
        with jax.default_matmul_precision(precision):
            return np.asarray(_apply(self.form, self.params, padded, output))[: len(batch)]


def load_encoder(
    path: str | os.PathLike,
    modality: str = "video",
    network: str = "teacher",
    *,
    frame_size: int | None = None,
    seconds: float | None = None,
    batch_size: int = 16,
    dtype: str = "float32",
) -> PretrainedEncoder:
    """Loads an encoder, of which nothing else is read.

    Args:
        path: The workdir of a run, whose newest checkpoint is taken, or one of its checkpoints; or
            what `python -m xkd_jax.interop.export` or `python -m xkd_jax.interop.import_release`
            wrote.
        modality: Video or audio.
        network: Teacher or student.
        frame_size: Height and width of the frames to see, in pixels, a multiple of the patch's; by
            default those of the training. Positions are resized.
        seconds: Length of the clips to see, likewise.
        batch_size: Largest number of clips that the accelerator sees at a time.
        dtype: Of the computation: float32, or bfloat16, which is faster on GPU and TPU.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: An argument is none of those allowed, or the folder does not hold that encoder;
            the message says what is.
    """
    path = arguments.location("path", path)
    arguments.choice("modality", modality, MODALITIES)
    arguments.choice("network", network, tuple(pretrained.NETWORKS))
    arguments.choice("dtype", dtype, DTYPES)
    batch_size = arguments.count("batch_size", batch_size)
    if frame_size is not None:
        if modality != "video":
            raise ValueError(f"frame_size is {frame_size}; allowed for an encoder of audio: None")
        frame_size = arguments.count("frame_size", frame_size)
    if seconds is not None:
        seconds = arguments.number("seconds", seconds, arguments.SECONDS, "seconds")

    root = pretrained.NETWORKS[network]
    description, trees = pretrained.load(
        path,
        lambda p: pretrained.encoders_only(p) and p[0] == root and p[1] in (modality, "shared"),
    )
    if modality not in trees.get(root, {}):
        held = [f"{n} of {m}" for n, parts in description["networks"].items() for m in parts]
        raise ValueError(f"{path} holds no {network} of {modality}; it holds: {', '.join(held)}")
    patch = description["architecture"][modality]["patch"]
    view = preprocessing.resized(description["preprocessing"][modality], patch, frame_size, seconds)
    module = make_module(description, modality, dtype)
    params = encoder_params(trees[root], modality)
    _check_weights(module, patch, modality, params, path)
    return PretrainedEncoder(module, params, description, modality, network, view, batch_size)


def make_module(description: Mapping[str, Any], modality: str, dtype: str) -> Encoder:
    """The network of an encoder that is described so, see `interop.pretrained.describe`."""
    return Encoder(
        grid=pretrained.native_grid(description, modality),
        row="cls",
        dtype=jnp.dtype(dtype),
        **description["architecture"][modality]["encoder"],
    )


def view_shape(view: Mapping[str, Any], modality: str) -> tuple[int, ...]:
    """What an encoder sees of a clip: (frames, height, width, 3), or (mel bands, frames)."""
    if modality == "video":
        return view["frames"], view["size"], view["size"], 3
    return view["mel_bands"], view["frames"]


def _check_weights(
    module: Encoder, patch: Sequence[int], modality: str, params: Any, path: str | os.PathLike
) -> None:
    """Refuses weights that are not of the architecture that their description states."""
    values = math.prod(patch) * (3 if modality == "video" else 1)
    checkpoint.check_fits(params, _shapes(module, values), path)


@functools.cache
def _shapes(module: Encoder, values: int) -> Any:
    """The shapes of an encoder's weights, whose patches have so many values."""
    cut = jax.ShapeDtypeStruct((1, math.prod(module.grid), values), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), cut)["params"]


def _batched(items: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    batch: list[np.ndarray] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
