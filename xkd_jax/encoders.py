"""Pretrained encoders on raw frames, waveforms and media files, without TensorFlow."""

import functools
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xkd_jax import checkpoint, preprocessing
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
    `frame_rate`, or waveforms (S,) float in [-1, 1] with their `sample_rate`, or paths of media
    files. Several of one shape may be one array with a leading axis. A clip longer than the
    encoder's view is seen through its central window; a shorter one repeats.

    Attributes:
        modality: video or audio.
        network: teacher or student.
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
            frame_rate: Of raw frames, per second; one for all clips or one for each.
            sample_rate: Of waveforms, in Hz; likewise.
            windows: How many windows of a clip to encode, evenly from its first to its last, and
                to average over. 1: the central one.

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
        """
        places = preprocessing.positions(windows)
        if isinstance(clip, str | os.PathLike):
            of_file = {
                "video": preprocessing.video_views_of_file,
                "audio": preprocessing.audio_views_of_file,
            }
            return of_file[self.modality](clip, self.view, places)
        clip = np.asarray(clip)
        if self.modality == "video":
            if clip.ndim != 4 or clip.shape[-1] != 3 or clip.dtype != np.uint8 or not clip.size:
                raise ValueError(
                    f"clips holds {clip.dtype}{list(clip.shape)}; allowed for an encoder of video: "
                    "uint8 frames (T, H, W, 3), or paths of media files"
                )
            rate = _positive("frame_rate", frame_rate, "the rate of the frames per second")
            return preprocessing.video_views(clip, rate, self.view, places)
        if clip.ndim != 1 or not np.issubdtype(clip.dtype, np.floating) or not clip.size:
            raise ValueError(
                f"clips holds {clip.dtype}{list(clip.shape)}; allowed for an encoder of audio: "
                "mono waveforms (S,) of floats in [-1, 1], or paths of media files"
            )
        if not np.isfinite(clip).all():
            raise ValueError("clips holds a waveform with NaN or infinity; allowed: finite numbers")
        rate = _positive("sample_rate", sample_rate, "the rate of the waveforms in Hz")
        return preprocessing.audio_views(clip, rate, self.view, places)

    def encode_views(
        self, views: Iterable[np.ndarray] | np.ndarray, output: str = "features"
    ) -> np.ndarray:
        """Encodes what `views` made, or anything of another size that patches divide.

        Args:
            views: Of one shape each: uint8 frames (T, H, W, 3) or normalized ones (floats), or
                normalized log-mels (F, W). Taken one by one, so a generator never has to be held.
            output: features (D,), tokens (1 + N, D) or attention (H, N).

        Returns:
            (B, ...) float32.
        """
        shape = {
            "features": (self.sizes.width,),
            "tokens": (1 + self.sizes.tokens, self.sizes.width),
            "attention": (self.sizes.heads, self.sizes.tokens),
        }[output]
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
        if type(windows) is not int or windows < 1:
            raise ValueError(f"windows is {windows!r}; allowed: 1 or more")
        clips = self._listed(clips)
        frame_rates = _one_each("frame_rate", frame_rate, len(clips))
        sample_rates = _one_each("sample_rate", sample_rate, len(clips))

        def views() -> Iterator[np.ndarray]:
            for clip, frames, samples in zip(clips, frame_rates, sample_rates, strict=True):
                yield from self.views(clip, frame_rate=frames, sample_rate=samples, windows=windows)

        return self.encode_views(views(), output)

    def _listed(self, clips: Clip | Sequence[Clip]) -> Sequence[Clip]:
        """The clips as a sequence, where there may be one alone."""
        if isinstance(clips, str | os.PathLike):
            return [clips]
        rank = 4 if self.modality == "video" else 1
        if not isinstance(clips, list | tuple):
            clips = np.asarray(clips)
            if clips.ndim == rank:
                return [clips]
            if clips.ndim != rank + 1:
                allowed = "(T, H, W, 3) or (B, T, H, W, 3)" if rank == 4 else "(S,) or (B, S)"
                raise ValueError(f"clips is of shape {clips.shape}; allowed: {allowed}, or a list")
        return clips

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
        modality: video or audio.
        network: teacher or student.
        frame_size: Height and width of the frames to see, in pixels, a multiple of the patch's; by
            default those of the training. Positions are resized.
        seconds: Length of the clips to see, likewise.
        batch_size: Largest number of clips that the accelerator sees at a time.
        dtype: Of the computation: float32, or bfloat16, which is faster on GPU and TPU.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: An argument is none of those allowed, or the folder does not hold that encoder.
    """
    for name, value, allowed in (
        ("modality", modality, MODALITIES),
        ("network", network, tuple(pretrained.NETWORKS)),
        ("dtype", dtype, DTYPES),
    ):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; allowed: 1 or more")
    if frame_size is not None and modality != "video":
        raise ValueError(f"frame_size is {frame_size}; allowed for an encoder of audio: None")

    root = pretrained.NETWORKS[network]
    description, trees = pretrained.load(
        path,
        lambda p: pretrained.encoders_only(p) and p[0] == root and p[1] in (modality, "shared"),
    )
    if modality not in trees.get(root, {}):
        held = [f"{n} of {m}" for n, parts in description["networks"].items() for m in parts]
        raise ValueError(
            f"{os.fspath(path)} holds no {network} of {modality}; it holds: {', '.join(held)}"
        )
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


def _positive(name: str, value: float | None, meaning: str) -> float:
    if value is None:
        raise ValueError(f"{name} is missing; give {meaning}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}; allowed: above 0")
    return value


def _one_each(name: str, value: Any, count: int) -> list[Any]:
    if value is None or np.ndim(value) == 0:
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{name} has {len(value)} values; allowed: one, or one for each clip")
    return list(value)


def _batched(items: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    batch: list[np.ndarray] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
