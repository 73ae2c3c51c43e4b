"""Exports encoders with their preprocessing as programs that JAX runs without this package.

A program is a file of `jax.export`, which holds StableHLO for CPUs, NVIDIA GPUs and TPUs. It takes
raw frames of any number and size, or waveforms of any length, and any number of recordings. The
weights are its first argument, so that the teacher and the student share one program, and stand in
NumPy's files beside it.
"""

import contextlib
import io
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xkd_jax.encoders import descriptions, exports, preprocessing
from xkd_jax.encoders.form import Form, make_module
from xkd_jax.encoders.weight_trees import by_name, nest
from xkd_jax.interop import folders
from xkd_jax.method.models.xkd import MODALITIES, encoder_params

PLATFORMS = ("cpu", "cuda", "tpu")
# A time at most this many frames before a frame counts as in it: float32's quotients of rates are
# not exact.
_ROUNDING = 1e-4
_HALF = 11  # half of the bits of a weight in Pillow's resizing

Weights = dict[str, jax.Array]

_README = """\
# XKD encoders for JAX

Programs of `jax.export` with their preprocessing. They need `jax`, `numpy` and `flatbuffers`, not
xkd_jax, and run on CPUs, NVIDIA GPUs and TPUs.

```python
import pathlib
import jax
import numpy as np
{calls}```

The first argument is the weights: `NETWORK_MODALITY.npz`. The result is (B, D) float32, the mean
of the last layer's patch tokens. Of a recording longer than a clip, the central clip is taken; a
shorter one repeats. Each new shape is compiled once. `config.json` says what the encoders are and
where they come from.
"""

_CALLS = {
    "video": """
# frames (B, T, H, W, 3) uint8 RGB of any size, and their number per second
program = jax.export.deserialize(bytearray(pathlib.Path("video.jax_export").read_bytes()))
features = jax.jit(program.call)(dict(np.load("{network}_video.npz")), frames, np.float32(25))
""",
    "audio": """
# waveforms (B, S) float32 in [-1, 1] at {rate} Hz, mono
program = jax.export.deserialize(bytearray(pathlib.Path("audio.jax_export").read_bytes()))
features = jax.jit(program.call)(dict(np.load("{network}_audio.npz")), waveforms)
""",
}


def write(folder: pathlib.Path, weights: exports.Pretrained, overwrite: bool) -> bool:
    """Writes programs, weights, their description and how to call them.

    Args:
        folder: Folder to create.
        weights: The encoders.
        overwrite: Whether to replace existing content of `folder`.

    Returns:
        Whether anything was written. Nothing is written if `folder` holds the same already.

    Raises:
        FileExistsError: `folder` holds something else, and `overwrite` is not set.
    """
    description, trees = weights
    files, networks = {}, {}
    for network, parts in description["networks"].items():
        for m in parts:
            params = encoder_params(trees[descriptions.NETWORKS[network]], m)
            arrays = {name: np.asarray(leaf, np.float32) for name, leaf in by_name(params).items()}
            files[f"{network}_{m}.npz"] = _npz(arrays)
            if m not in networks:
                networks[m] = network
                files[f"{m}.jax_export"] = program(description, m, arrays)
    calls = [
        _CALLS[m].format(
            network=networks[m], rate=description["preprocessing"][m].get("sample_rate")
        )
        for m in MODALITIES
        if m in networks
    ]
    files["README.md"] = _README.format(calls="".join(calls)).encode()
    text = exports.as_json({**description, "config": None, "weights": "stablehlo"}, {})
    return folders.write(folder, {**files, exports.CONFIG: text.encode()}, overwrite)


def program(description: Mapping[str, Any], modality: str, weights: Mapping[str, Any]) -> bytes:
    """Compiles an encoder with its preprocessing to a file of `jax.export`.

    Args:
        description: Description of the weights.
        modality: "video" or "audio".
        weights: Weights of the encoder by name, or anything of their shapes.

    Returns:
        The file. Its program takes weights by name; for video, frames (B, T, H, W, 3) uint8 and
        their float32 number per second; for audio, waveforms (B, S) float32. It returns features
        (B, D) float32.
    """
    view = description["preprocessing"][modality]
    patch = tuple(description["architecture"][modality]["patch"])
    module = make_module(description, modality, "float32", cls="cls_token" in weights)
    moments = (tuple(view["mean"]), tuple(view["std"])) if modality == "video" else None
    form = Form(module, patch, moments)
    prepare = {"video": sample, "audio": log_mel}[modality]

    def encode(weights: Weights, recording: jax.Array, *rate: jax.Array) -> jax.Array:
        params = nest({tuple(name.split("/")): array for name, array in weights.items()})
        return form.apply(params, prepare(recording, *rate, view)[None])[0]

    several = jax.vmap(encode, in_axes=(None, 0, None) if modality == "video" else (None, 0))
    shapes = {name: jax.ShapeDtypeStruct(x.shape, jnp.float32) for name, x in weights.items()}
    with jax.default_matmul_precision("highest"), _no_source_paths():
        exported = jax.export.export(jax.jit(several), platforms=PLATFORMS)(
            shapes, *_arguments(modality)
        )
    return bytes(exported.serialize())


@contextlib.contextmanager
def _no_source_paths() -> Iterator[None]:
    """Keeps the paths of source files out of programs, which makes equal programs equal bytes."""
    wanted = {
        "jax_include_full_tracebacks_in_locations": False,
        "jax_hlo_source_file_canonicalization_regex": ".*",
    }
    before = {name: getattr(jax.config, name) for name in wanted}
    try:
        for name, value in wanted.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def _arguments(modality: str) -> list[jax.ShapeDtypeStruct]:
    if modality == "audio":
        return [jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, s"), jnp.float32)]
    frames = jax.export.symbolic_shape("b, t, h, w, 3")
    return [jax.ShapeDtypeStruct(frames, jnp.uint8), jax.ShapeDtypeStruct((), jnp.float32)]


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def sample(frames: jax.Array, frame_rate: jax.Array, view: Mapping[str, Any]) -> jax.Array:
    """Makes a view of frames as `preprocessing.video_views` does, in JAX.

    Args:
        frames: (T, H, W, 3) uint8; the sizes may be symbolic.
        frame_rate: Frames per second, () float32.
        view: Preprocessing of a video encoder.

    Returns:
        (frames, size, size, 3) uint8.
    """
    count = jnp.float32(frames.shape[0])
    seconds = view["frames"] / view["frame_rate"]
    start = 0.5 * jnp.maximum(0.0, count - seconds * frame_rate)
    places = start + jnp.arange(view["frames"]) * frame_rate / view["frame_rate"]
    places = jnp.floor((places + _ROUNDING) % count).astype(jnp.int32)
    pixels = frames[jnp.minimum(places, frames.shape[0] - 1)].astype(jnp.float32)
    height, width = frames.shape[1:3]
    pixels = _weighted("thwc,xw->thxc", pixels, _square_weights(width, height, view["size"]))
    pixels = _weighted("thwc,yh->tywc", pixels, _square_weights(height, width, view["size"]))
    return pixels.astype(jnp.uint8)


def _square_weights(length: int, other: int, size: int) -> jax.Array:
    """Computes the weights that cut out the central square and resize one axis of it.

    They are Pillow's for bilinear resizing with antialiasing: whole numbers, in units of 2**-22.

    Args:
        length: Length of the axis; may be symbolic.
        other: Length of the other axis; may be symbolic.
        size: Wanted length.

    Returns:
        (size, length) int32.
    """
    side = jnp.minimum(length, other)
    cell = jnp.arange(length) - (length - side) // 2
    distance = jnp.abs((2 * cell + 1) * size - (2 * jnp.arange(size)[:, None] + 1) * side)
    share = jnp.maximum(0, 2 * jnp.maximum(side, size) - distance)
    share = jnp.where((cell >= 0) & (cell < side), share, 0)
    total = share.sum(axis=1, keepdims=True)
    # Divides in two steps, since the dividend has more than 32 bits.
    high, rest = jnp.divmod(share << _HALF, total)
    return (high << _HALF) + ((rest << (_HALF + 1)) + total) // (2 * total)


def _weighted(axes: str, pixels: jax.Array, weights: jax.Array) -> jax.Array:
    """Sums pixels with weights in units of 2**-22, and rounds to whole numbers as Pillow does.

    Both halves of a weight's bits are multiplied as float32, which is exact below 2**24. Products
    of integers are slow on accelerators.
    """
    high, low = (
        jnp.einsum(axes, pixels, part.astype(jnp.float32)).astype(jnp.int32)
        for part in (weights >> _HALF, weights & (2**_HALF - 1))
    )
    total = (high << _HALF) + low + (1 << (2 * _HALF - 1))
    return (total >> (2 * _HALF)).astype(jnp.float32)


def log_mel(waveform: jax.Array, view: Mapping[str, Any]) -> jax.Array:
    """Makes a view of a waveform as `preprocessing.audio_views` does, in JAX.

    Args:
        waveform: (S,) float32 at the encoder's sample rate; S may be symbolic.
        view: Preprocessing of an audio encoder.

    Returns:
        (mel_bands, frames) float32.
    """
    samples, window = round(view["seconds"] * view["sample_rate"]), view["window"]
    room = jnp.maximum(0, waveform.shape[0] - samples)
    half = room // 2
    start = half + (room % 2) * (half % 2)  # rounds a half to even, as Python does
    clip = waveform[(start + jnp.arange(samples)) % waveform.shape[0]]
    padded = jnp.pad(clip, (window // 2, window // 2 + 1))
    firsts = np.arange(view["frames"]) * view["hop"]
    hann = np.hanning(window + 1)[:-1].astype(np.float32)
    spectrum = jnp.fft.rfft(padded[firsts[:, None] + np.arange(window)] * hann)
    filters = preprocessing.mel_filters(
        view["sample_rate"], window, view["mel_bands"], view["max_frequency"]
    )
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    return (jnp.log(filters @ power.T + view["log_offset"]) - view["mean"]) / view["std"]
