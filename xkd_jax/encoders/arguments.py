"""Checks the arguments of `load_encoder` and of its encoders before anything is computed.

Each error is a ValueError of one line: the argument, its value, what is allowed, and what to do.
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
SECONDS = (0.01, 3600.0)  # length of an encoder's view
SHORTEST = 0.01  # least length of a waveform in seconds
# Largest peak of a waveform. Decoders overshoot 1 by up to about 10 dB; 16-bit integers are far
# larger.
LOUDEST = 4.0
MOST_WINDOWS = 10_000  # views of a recording

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """Checks that a value is one of the allowed names."""
    if not isinstance(value, str) or value not in allowed:
        raise _error(name, value, ", ".join(map(repr, allowed)))
    return value


def count(name: str, value: Any, most: float = math.inf) -> int:
    """Checks that a value is a whole number, 1 to `most`, of Python or NumPy."""
    try:
        number = 0 if isinstance(value, bool | np.bool) else operator.index(value)
    except TypeError:
        number = 0
    if not 1 <= number <= most:
        limit = "or more" if most == math.inf else f"to {most}"
        raise _error(name, value, f"a whole number, 1 {limit}")
    return number


def number(name: str, value: Any, limits: tuple[float, float], unit: str) -> float:
    """Checks that a value is a number within limits, of Python or NumPy."""
    scalar = value.item() if isinstance(value, np.ndarray) and not value.ndim else value
    real = isinstance(scalar, numbers.Real) and not isinstance(scalar, bool)
    if not real or not limits[0] <= scalar <= limits[1]:
        raise _error(name, value, f"{limits[0]:.10g} to {limits[1]:.10g} {unit}")
    return float(scalar)


def layers(name: str, values: Any, depth: int) -> tuple[int, ...]:
    """Checks layers, numbers from 1 or "last", and returns their numbers."""
    listed = isinstance(values, Iterable) and not isinstance(values, str | bytes)
    if not listed or not (values := tuple(values)):
        raise _error(name, values, f"several of 1 to {depth} and 'last'")
    return tuple(depth if value == "last" else count(name, value, depth) for value in values)


def frame_rates(value: Any, clips: int) -> list[float | None]:
    """Checks frame rates: one for all recordings, one for each, or None if all are paths."""
    return _one_each("frame_rate", value, clips, FRAME_RATES, "per second")


def sample_rates(value: Any, clips: int) -> list[float | None]:
    """Checks sample rates: one for all recordings, one for each, or None if all are paths."""
    return _one_each("sample_rate", value, clips, SAMPLE_RATES, "Hz")


def location(name: str, value: Any) -> str:
    """Checks that a value is the path of a local file or folder, and expands `~` in it."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise _error(name, value, "a path: a str or os.PathLike")
    path = os.fspath(value)
    if not path or "\0" in path:
        raise _error(name, value, "a path that is not empty")
    if _URL.match(path):
        raise _error(name, value, "the path of a local file or folder, not a URL: download it")
    return os.path.expanduser(path)


def is_path(clip: Any) -> bool:
    """Returns whether a recording is given as a path."""
    return isinstance(clip, str | os.PathLike)


def listed(clips: Any, modality: str) -> Sequence[Any]:
    """Converts one recording or several to a sequence of recordings.

    Args:
        clips: The argument `clips` of an encoder's method.
        modality: Modality of the encoder. An array may hold several recordings of frames, but not
            several waveforms, because its first axis could be that of channels.

    Returns:
        The recordings, not checked yet.
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
    """Checks one recording: a path, or an array that the encoder accepts.

    Args:
        name: Name of the argument, such as "clips[1]".
        value: The recording.
        modality: Modality of the encoder.
        rate: Frames per second, or samples per second, already checked; None if not given.

    Returns:
        The path, or a NumPy array: (T, H, W, 3) uint8, or (S,) floating.

    Raises:
        ValueError: The recording is not allowed, or an array has no rate.
    """
    if is_path(value):
        return location(name, value)
    array = _array(name, value)
    check = _frames if modality == "video" else _waveform
    check(name, array)
    if rate is None:
        argument, meaning = _RATE_OF[modality]
        raise ValueError(f"{argument} is missing; give {meaning}")
    if modality == "audio" and len(array) < SHORTEST * rate:
        raise ValueError(
            f"{name} is a waveform of {len(array)} samples, {len(array) / rate:.2g} s; allowed: "
            f"{SHORTEST} s or more. If these are channels (S, 2), give x.mean(axis=1)"
        )
    return array


_RATE_OF = {
    "video": ("frame_rate", "the rate of the frames per second"),
    "audio": ("sample_rate", "the rate of the waveforms in Hz"),
}


def views(values: Any, modality: str, patch: Sequence[int]) -> Iterator[np.ndarray]:
    """Checks views, one after another.

    Args:
        values: (T, H, W, 3) uint8 or normalized frames, or (F, W) normalized log-mels, all of one
            shape and dtype.
        modality: Modality of the encoder.
        patch: Size of a patch, which divides the views.

    Yields:
        The views as NumPy arrays.

    Raises:
        ValueError: A view is not allowed, or differs from the first in shape or dtype.
    """
    if is_path(values) or not isinstance(values, Iterable) or not getattr(values, "ndim", 1):
        raise _error("views", values, "an array (B, ...) or several arrays, from `encoder.views`")
    first = None
    for place, value in enumerate(values):
        name = f"views[{place}]"
        array = _view(name, value, modality, patch)
        first = array if first is None else first
        if _form(array) != _form(first):
            raise ValueError(f"{name} is {_form(array)}; allowed: {_form(first)}, like the first")
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
        remedy = ": give x[None] for a single frame"
    elif array.ndim == 4 and _is_floating(array):
        remedy = ": give (255 * x).round().astype(np.uint8) for floats in [0, 1]"
    elif array.ndim == 4 and array.dtype.kind in "iu":
        remedy = ": give x.astype(np.uint8) for values in 0..255"
    raise ValueError(
        f"{name} is {_form(array)}; allowed for an encoder of video: uint8 RGB frames "
        f"(T, H, W, 3), several (B, T, H, W, 3) or a list, or paths of media files{remedy}"
    )


def _waveform(name: str, array: np.ndarray) -> None:
    if array.ndim != 1 or not _is_floating(array) or not array.size:
        remedy = ""
        if array.ndim == 2 and array.size:
            channels = int(np.argmin(array.shape))
            remedy = f": give x.mean(axis={channels}) for channels, list(x) for recordings"
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
            f"overshoots up to {LOUDEST:g}: give x / 32768 for 16-bit sound"
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
            f"{name} has {len(value)} values; allowed: one for all recordings, or one for each of "
            f"the {clips}"
        )
    return [
        None if rate is None else number(f"{name}[{place}]", rate, limits, unit)
        for place, rate in enumerate(value)
    ]


def _array(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except Exception as error:  # ragged lists and tensors on devices raise many types
        raise _error(name, value, "an array, or the path of a media file") from error
    if array.dtype.kind not in "biuc" and not _is_floating(array):
        raise _error(name, value, "an array of numbers, or the path of a media file")
    return array


def _is_floating(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"  # NumPy has no kind for it


def _form(array: np.ndarray) -> str:
    return f"{array.dtype}{list(array.shape)}"


def _error(name: str, value: Any, allowed: str) -> ValueError:
    return ValueError(f"{name} is {_shortened.repr(value)}; allowed: {allowed}")


_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = 100
