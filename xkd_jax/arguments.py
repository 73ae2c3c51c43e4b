"""The arguments of `load_encoder` and of its encoders, checked before anything is computed.

Each error is a ValueError of one line: the argument, what it is, what is allowed, and what to do.
"""

import math
import numbers
import operator
import os
import re
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

FRAME_RATES = (0.01, 10_000.0)  # per second
SAMPLE_RATES = (1_000.0, 1_000_000.0)  # Hz
SECONDS = (0.01, 3600.0)  # of the clips that an encoder sees
SHORTEST = 0.01  # seconds of a waveform
# Decoders overshoot 1, by some 10 dB at the worst; numbers of 16 bits are far beyond it.
LOUDEST = 4.0

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """One of some names."""
    if not isinstance(value, str) or value not in allowed:
        raise _error(name, value, ", ".join(map(repr, allowed)))
    return value


def count(name: str, value: Any) -> int:
    """A whole number of 1 or more, of Python or NumPy."""
    try:
        number = 0 if isinstance(value, bool | np.bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise _error(name, value, "a whole number, 1 or more")
    return number


def number(name: str, value: Any, limits: tuple[float, float], unit: str) -> float:
    """A number between limits, of Python or NumPy."""
    scalar = value.item() if isinstance(value, np.ndarray) and not value.ndim else value
    real = isinstance(scalar, numbers.Real) and not isinstance(scalar, bool)
    if not real or not limits[0] <= scalar <= limits[1]:
        raise _error(name, value, f"{limits[0]:.10g} to {limits[1]:.10g} {unit}")
    return float(scalar)


def frame_rates(value: Any, clips: int) -> list[float | None]:
    """The rate of each clip's frames: one for all, one for each, or None for paths alone."""
    return _one_each("frame_rate", value, clips, FRAME_RATES, "per second")


def sample_rates(value: Any, clips: int) -> list[float | None]:
    """The rate of each clip's samples, likewise."""
    return _one_each("sample_rate", value, clips, SAMPLE_RATES, "Hz")


def location(name: str, value: Any) -> str:
    """The path of a file or a folder on this machine."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise _error(name, value, "a path: a str or os.PathLike")
    path = os.fspath(value)
    if not path or "\0" in path:
        raise _error(name, value, "a path, which is not empty")
    if _URL.match(path):
        raise _error(name, value, "the path of a file or folder here; a URL is none: download it")
    return path


def is_path(clip: Any) -> bool:
    """Whether a clip is a file."""
    return isinstance(clip, str | os.PathLike)


def listed(clips: Any, modality: str) -> Sequence[Any]:
    """Clips as a sequence of them, where there may be one alone.

    Args:
        clips: As a user gives them.
        modality: Of the encoder. One array may hold several clips of video, but not of sound, where
            it may as well hold the channels of one.
    """
    if is_path(clips):
        return [clips]
    if isinstance(clips, list | tuple):
        return clips
    array = _array("clips", clips)
    if modality == "audio":
        return [array]
    if array.ndim == 5:
        return list(array)
    return [array]


def clip(name: str, value: Any, modality: str, rate: float | None) -> Any:
    """One clip: a path, or an array that an encoder can see.

    Args:
        name: Of the argument, with its place where there are several.
        value: The clip.
        modality: Of the encoder.
        rate: Of its frames per second or of its samples in Hz, checked; None where not given.

    Returns:
        The path, or a NumPy array: (T, H, W, 3) uint8, or (S,) floating.
    """
    if is_path(value):
        return location(name, value)
    array = _array(name, value)
    check = _frames if modality == "video" else _waveform
    check(name, array)
    if rate is None:
        which, what = _RATE_OF[modality]
        raise ValueError(f"{which} is missing; give {what}")
    if modality == "audio" and len(array) < SHORTEST * rate:
        raise ValueError(
            f"{name} is a waveform of {len(array)} samples, {len(array) / rate:.2g} s; allowed: "
            f"{SHORTEST} s or more. Channels are no clips: give x.mean(axis=1) of (S, 2)"
        )
    return array


_RATE_OF = {
    "video": ("frame_rate", "the rate of the frames per second"),
    "audio": ("sample_rate", "the rate of the waveforms in Hz"),
}


def views(values: Any, modality: str, patch: Sequence[int]) -> Iterator[np.ndarray]:
    """What an encoder sees of clips, of any size that its patches divide, one after the other.

    Args:
        values: (T, H, W, 3) uint8 or normalized frames, or (F, W) normalized log-mels, all of one
            shape and dtype.
        modality: Of the encoder.
        patch: Of it.
    """
    if is_path(values) or not isinstance(values, Iterable) or not getattr(values, "ndim", 1):
        raise _error("views", values, "an array (B, ...) or several arrays, of `encoder.views`")
    first = None
    for place, value in enumerate(values):
        name = f"views[{place}]"
        array = _view(name, value, modality, patch)
        first = array if first is None else first
        if _form(array) != _form(first):
            raise ValueError(f"{name} is {_form(array)}; allowed: {_form(first)}, as the first is")
        yield array


def _view(name: str, value: Any, modality: str, patch: Sequence[int]) -> np.ndarray:
    array = _array(name, value)
    video = modality == "video"
    fits = array.ndim == (4 if video else 2) and (not video or array.shape[-1] == 3)
    fits = fits and array.size and not any(n % p for n, p in zip(array.shape, patch, strict=False))
    floating = _is_floating(array)
    if not fits or not (floating or (video and array.dtype == np.uint8)):
        divided = f"multiples of the patch's {'x'.join(map(str, patch))}"
        form = (
            f"(T, H, W, 3), uint8 or normalized floats, T, H and W {divided}"
            if video
            else f"(F, W), normalized log-mels of floats, {divided}"
        )
        raise ValueError(f"{name} is {_form(array)}; allowed: {form}. `encoder.views` makes them")
    if floating and not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity; allowed: finite numbers")
    return array


def _frames(name: str, array: np.ndarray) -> None:
    if array.ndim == 4 and array.shape[-1] == 3 and array.dtype == np.uint8 and array.size:
        return
    remedy = ""
    if array.ndim == 4 and array.shape[-1] != 3 and array.shape[1] == 3:
        remedy = ": give x.transpose(0, 2, 3, 1)"
    elif array.ndim == 4 and array.shape[-1] == 4:
        remedy = ": give x[..., :3]"
    elif array.ndim == 3 and array.shape[-1] == 3:
        remedy = ": give x[None] of a single frame"
    elif array.ndim == 4 and _is_floating(array):
        remedy = ": give (255 * x).round().astype(np.uint8) of floats in [0, 1]"
    elif array.ndim == 4 and array.dtype.kind in "iu":
        remedy = ": give x.astype(np.uint8) of values in 0..255"
    raise ValueError(
        f"{name} is {_form(array)}; allowed for an encoder of video: uint8 RGB frames "
        f"(T, H, W, 3), several (B, T, H, W, 3) or a list, or paths of media files{remedy}"
    )


def _waveform(name: str, array: np.ndarray) -> None:
    if array.ndim != 1 or not _is_floating(array) or not array.size:
        remedy = ""
        if array.ndim == 2 and array.size:
            channels = int(np.argmin(array.shape))
            remedy = f": give x.mean(axis={channels}) of channels, list(x) of clips"
        elif array.dtype.kind == "i" and array.size:
            remedy = f": give x / {np.iinfo(array.dtype).max + 1}"
        raise ValueError(
            f"{name} is {_form(array)}; allowed for an encoder of audio: mono waveforms (S,) of "
            f"floats in [-1, 1], a list of them, or paths of media files{remedy}"
        )
    peak = float(np.abs(array).max())
    if not math.isfinite(peak):
        raise ValueError(f"{name} is a waveform with NaN or infinity; allowed: finite numbers")
    if peak > LOUDEST:
        raise ValueError(
            f"{name} is a waveform with a peak of {peak:.5g}; allowed: floats in [-1, 1], "
            f"overshoots up to {LOUDEST:g}: give x / 32768 of 16-bit sound"
        )


def _one_each(
    name: str, value: Any, clips: int, limits: tuple[float, float], unit: str
) -> list[float | None]:
    if value is None:
        return [None] * clips
    several = isinstance(value, list | tuple) or getattr(value, "ndim", 0)
    if not several:
        return [number(name, value, limits, unit)] * clips
    if len(value) != clips:
        raise ValueError(
            f"{name} has {len(value)} values; allowed: one for all clips, or one for each of the "
            f"{clips}"
        )
    return [
        None if rate is None else number(f"{name}[{place}]", rate, limits, unit)
        for place, rate in enumerate(value)
    ]


def _array(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever ragged lists and tensors on devices raise
        raise _error(name, value, "an array, or the path of a media file") from error
    if array.dtype.kind not in "biuc" and not _is_floating(array):
        raise _error(name, value, "an array of numbers, or the path of a media file")
    return array


def _is_floating(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"  # of no kind to NumPy


def _form(array: np.ndarray) -> str:
    return f"{array.dtype}{list(array.shape)}"


def _error(name: str, value: Any, allowed: str) -> ValueError:
    return ValueError(f"{name} is {_shortened.repr(value)}; allowed: {allowed}")


_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = 100
