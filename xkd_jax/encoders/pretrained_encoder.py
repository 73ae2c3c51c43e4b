"""Pretrained encoders for raw frames, waveforms and media files, without TensorFlow."""

import functools
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xkd_jax import sharding
from xkd_jax.config.rules import PIXELS
from xkd_jax.encoders import arguments, descriptions, preprocessing, pretrained
from xkd_jax.encoders.form import Form, make_module
from xkd_jax.method.models.patches import token_grid
from xkd_jax.method.models.vit import Encoder, init_params
from xkd_jax.method.models.xkd import MODALITIES, encoder_params
from xkd_jax.run import checkpoint

DTYPES = ("float32", "bfloat16")

# A recording: an array of raw frames, a waveform, or the path of a media file.
Clip = np.ndarray | str | os.PathLike


class Sizes(NamedTuple):
    """Sizes of an encoder's input and output.

    Attributes:
        view: Shape of a view: (frames, height, width, 3), or (mel bands, frames).
        seconds: Length of a view.
        rate: Frames per second of video, or samples per second of sound.
        grid: Number of tokens along (time, height, width), or (frequency, time).
        tokens: N, the number of tokens without CLS.
        width: D, the width of tokens and features.
        heads: H, the number of attention heads.
    """

    view: tuple[int, ...]
    seconds: float
    rate: float
    grid: tuple[int, ...]
    tokens: int
    width: int
    heads: int


_apply = jax.jit(Form.apply, static_argnames=("self", "output", "layers"))


class PretrainedEncoder:
    """An encoder of one modality with its preprocessing, from `load_encoder`.

    The argument `clips` of the methods is one recording or a list of them. A recording is an array
    of raw frames, (T, H, W, 3) uint8 RGB of any size, with its `frame_rate`; a mono waveform, (S,)
    float in [-1, 1], with its `sample_rate`; or the path of a media file. One array may hold
    several recordings of frames, (B, T, H, W, 3), but not several waveforms, because their axis
    could be that of channels. The encoder sees the central part of a recording that is longer than
    its view; a shorter recording repeats.

    Attributes:
        modality: "video" or "audio".
        network: "teacher" or "student".
        sizes: Sizes of the input and the output.
        module: The Flax module.
        params: Float32 parameters of the encoder, on the device.
        patch: Size of a patch: (frames, pixels, pixels), or (mel bands, frames).
        view: Preprocessing of the encoder's training, at the requested sizes.
        description: Description of the weights, their preprocessing and their origin, see
            `xkd_jax.encoders.descriptions.describe`.
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
        self._mesh: jax.sharding.Mesh | None = None
        self.module = module
        self.patch = tuple(description["architecture"][modality]["patch"])
        self.params = jax.device_put(params)
        video = modality == "video"
        moments = (tuple(view["mean"]), tuple(view["std"])) if video else None
        self.form = Form(module, self.patch, moments)
        shape = preprocessing.view_shape(view, modality)
        grid = token_grid(shape, self.patch)
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
        """Encodes each recording as one vector: the mean of the last layer's patch tokens.

        Args:
            clips: One recording or several, see the class.
            frame_rate: Frames per second of raw frames, 0.01 to 10,000; one number for all
                recordings or one for each.
            sample_rate: Samples per second of waveforms, 1,000 to 1,000,000; one number for all
                recordings or one for each.
            windows: Number of views of each recording, 1 to 10,000, evenly spaced from its
                beginning to its end, whose features are averaged. 1 takes the central view.

        Returns:
            (B, D) float32, after the final norm, without CLS.

        Raises:
            ValueError: An argument has a wrong type, shape or value.
            MediaError: A file is not usable (`media.reader.MediaError`, a ValueError).
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
        """Encodes the central view of each recording as tokens.

        Args:
            clips: As for `features`.
            frame_rate: As for `features`.
            sample_rate: As for `features`.

        Returns:
            (B, 1 + N, D) float32, after the final norm, CLS first; zeros for encoders without CLS.
            Patches are in the order of `sizes.grid`, the last axis fastest.

        Raises:
            ValueError, MediaError: As for `features`.
        """
        return self._encode(clips, frame_rate, sample_rate, 1, "tokens")

    def attention(
        self,
        clips: Clip | Sequence[Clip],
        *,
        frame_rate: float | Sequence[float] | None = None,
        sample_rate: float | Sequence[float] | None = None,
    ) -> np.ndarray:
        """Computes the last block's attention of CLS to the patches of each central view.

        For encoders without CLS, it is that of the mean query.

        Args:
            clips: As for `features`.
            frame_rate: As for `features`.
            sample_rate: As for `features`.

        Returns:
            (B, H, N) float32, the row of the attention map without its CLS column, not
            renormalized.

        Raises:
            ValueError, MediaError: As for `features`.
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
        """Makes the views of one recording that the encoder sees.

        Args:
            clip: The recording.
            frame_rate: As for `features`.
            sample_rate: As for `features`.
            windows: Number of views, as for `features`.

        Returns:
            The views, of shape `sizes.view`: uint8 frames or float32 normalized log-mels.

        Raises:
            ValueError, MediaError: As for `features`.
        """
        windows = arguments.count("windows", windows, arguments.MOST_WINDOWS)
        (rate,) = self._rates(frame_rate, sample_rate, 1)
        return self._views(arguments.clip("clip", clip, self.modality, rate), rate, windows)

    def encode_views(
        self,
        views: Iterable[np.ndarray] | np.ndarray,
        output: str = "features",
        layers: Sequence[int | str] | None = None,
    ) -> np.ndarray:
        """Encodes views from `views`, or of any other size that is a multiple of the patch.

        Args:
            views: Views of one shape: frames (T, H, W, 3), uint8 or normalized floats, or
                normalized log-mels (F, W). An iterator is read batch by batch.
            output: "features" (D,), "tokens" (1 + N, D) or "attention" (H, N).
            layers: L layers whose features or tokens to return, from one pass: 1 to the depth, or
                "last". The last layer's are those after the final norm, as without `layers`. Any
                other layer's are what its block hands to the next one, which no norm has scaled.

        Returns:
            (B, ...) float32, or (B, L, ...) with `layers`.

        Raises:
            ValueError: A layer does not exist, or a view has a wrong dtype or shape, or differs in
                them from the first.
        """
        shapes = {
            "features": (self.sizes.width,),
            "tokens": (1 + self.sizes.tokens, self.sizes.width),
            "attention": (self.sizes.heads, self.sizes.tokens),
        }
        if layers is not None:
            del shapes["attention"]
        shape = shapes[arguments.choice("output", output, tuple(shapes))]
        if layers is not None:
            layers = arguments.layers("layers", layers, self.module.depth)
            shape = (len(layers), *shape)
        views = arguments.views(views, self.modality, self.patch)
        rows = [
            self._encode_batch(batch, output, layers) for batch in _batched(views, self._batch_size)
        ]
        return np.concatenate(rows) if rows else np.zeros((0, *shape), np.float32)

    def _encode(
        self,
        clips: Clip | Sequence[Clip],
        frame_rate: float | Sequence[float] | None,
        sample_rate: float | Sequence[float] | None,
        windows: int,
        output: str,
    ) -> np.ndarray:
        windows = arguments.count("windows", windows, arguments.MOST_WINDOWS)
        clips = arguments.listed(clips, self.modality)
        rates = self._rates(frame_rate, sample_rate, len(clips))
        # Checks all recordings before it encodes the first: the last may come after hours.
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
        """Checks the rates of both modalities, and returns those of this encoder's."""
        rates = {
            "video": arguments.frame_rates(frame_rate, clips),
            "audio": arguments.sample_rates(sample_rate, clips),
        }
        return rates[self.modality]

    def _views(self, clip: Clip, rate: float | None, windows: int) -> list[np.ndarray]:
        """Makes the views of a recording that has been checked."""
        views_of_array, views_of_file = {
            "video": (preprocessing.video_views, preprocessing.video_views_of_file),
            "audio": (preprocessing.audio_views, preprocessing.audio_views_of_file),
        }[self.modality]
        places = preprocessing.positions(windows)
        if arguments.is_path(clip):
            return views_of_file(clip, self.view, places)
        return views_of_array(clip, rate, self.view, places)

    def use_devices(self, devices: Sequence[jax.Device]) -> None:
        """Splits every batch over devices from now on. Each holds all weights."""
        mesh = sharding.make_mesh(devices=devices)
        self.params = sharding.replicate(self.params, mesh)
        self._mesh = mesh

    def _encode_batch(
        self, batch: list[np.ndarray], output: str, layers: tuple[int, ...] | None
    ) -> np.ndarray:
        # Pads to a power of two, so that few programs are compiled, and a single recording does not
        # cost a full batch.
        rows = min(self._batch_size, 1 << (len(batch) - 1).bit_length())
        if self._mesh is not None:
            rows = -(-rows // self._mesh.size) * self._mesh.size
        padded = np.zeros((rows, *batch[0].shape), batch[0].dtype)
        padded[: len(batch)] = batch
        if self._mesh is not None:
            padded = jax.device_put(padded, sharding.batch_sharding(self._mesh))
        precision = "highest" if self.module.dtype == jnp.float32 else "default"
        with jax.default_matmul_precision(precision):
            return np.asarray(_apply(self.form, self.params, padded, output, layers))[: len(batch)]


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
    """Loads one pretrained encoder. Other weights of the checkpoint are not read.

    Args:
        path: Workdir of a pretraining, whose newest checkpoint is loaded; of a finetuning that has
            ended; one of their checkpoints; or the output of `python -m xkd_jax.interop.export` or
            `xkd_jax.interop.import_release`.
        modality: "video" or "audio".
        network: "teacher" or "student".
        frame_size: Height and width of the frames of a view in pixels, a multiple of the patch's;
            by default as in training. Positions are resized.
        seconds: Length of a view, a multiple of the patch's; by default as in training. Positions
            are resized.
        batch_size: Largest number of views in one batch on the accelerator.
        dtype: Dtype of the computation: "float32", or "bfloat16", which is faster on GPU and TPU.

    Returns:
        The encoder.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: An argument is not allowed, or the folder does not hold this encoder. The
            message says what is allowed.
    """
    path = arguments.location("path", path)
    arguments.choice("modality", modality, MODALITIES)
    arguments.choice("network", network, tuple(descriptions.NETWORKS))
    arguments.choice("dtype", dtype, DTYPES)
    batch_size = arguments.count("batch_size", batch_size)
    if frame_size is not None:
        if modality != "video":
            raise ValueError(f"frame_size is {frame_size}; allowed for an encoder of audio: None")
        frame_size = arguments.count("frame_size", frame_size, PIXELS)
    if seconds is not None:
        seconds = arguments.number("seconds", seconds, arguments.SECONDS, "seconds")

    root = descriptions.NETWORKS[network]
    description, trees = pretrained.load(
        path,
        lambda p: descriptions.encoders_only(p) and p[0] == root and p[1] in (modality, "shared"),
    )
    if modality not in trees.get(root, {}):
        names = [f"{n} of {m}" for n, parts in description["networks"].items() for m in parts]
        raise ValueError(f"{path} holds no {network} of {modality}; it holds: {', '.join(names)}")
    patch = description["architecture"][modality]["patch"]
    view = preprocessing.resized(description["preprocessing"][modality], patch, frame_size, seconds)
    params = encoder_params(trees[root], modality)
    module = make_module(description, modality, dtype, cls="cls_token" in params)
    _check_weights(module, patch, modality, params, path)
    return PretrainedEncoder(module, params, description, modality, network, view, batch_size)


def _check_weights(
    module: Encoder, patch: Sequence[int], modality: str, params: Any, path: str | os.PathLike
) -> None:
    """Refuses weights that do not have the architecture of their description."""
    checkpoint.check_fits(params, _shapes(module, tuple(patch)), path)


@functools.cache
def _shapes(module: Encoder, patch: tuple[int, ...]) -> Any:
    """Returns the shapes of an encoder's weights, without creating any."""
    return jax.eval_shape(functools.partial(init_params, module, patch), jax.random.key(0))


def _batched(items: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    batch: list[np.ndarray] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
