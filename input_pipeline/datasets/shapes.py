"""Moving shapes whose movements are heard: what the generated clips show and sound.

Each class is a way to move, with the sound that it makes: a ball-like bounce thuds, two shapes that
collide clack, and so on. A clip repeats its event at a steady beat, seen and heard at the same
instant. What does not tell the class is random: shapes, colors, sizes, places, tempo, pitch within
a third, loudness, the texture that moves behind, the silent shapes that drift about, and the noise.
"""

import collections.abc
import colorsys
import dataclasses
import itertools

import numpy as np
import PIL.Image

SPLITS = ("train", "test")
SECONDS = 5
WIDTH, HEIGHT = 128, 96  # pixels
FRAME_RATE = 16  # frames per second
SAMPLE_RATE = 16000  # Hz


@dataclasses.dataclass(frozen=True)
class _Path:
    """How a shape moves; every array is (T,) or broadcasts to it.

    Attributes:
        x: Pixels to the right of the scene's center.
        y: Pixels below it.
        scale: Size over the shape's own.
        angle: Radians.
        alpha: Opacity, in [0, 1].
    """

    x: np.ndarray | float = 0.0
    y: np.ndarray | float = 0.0
    scale: np.ndarray | float = 1.0
    angle: np.ndarray | float = 0.0
    alpha: np.ndarray | float = 1.0


# Movements: phase (T,) -> paths. The event happens whenever the phase is whole; `size` is the
# shape's radius in pixels.


def _bounce(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    fraction = phase % 1
    return [_Path(y=22 - size / 2 - 4 * rng.uniform(26, 36) * fraction * (1 - fraction))]


def _collide(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    gap = size + rng.uniform(18, 26) * np.abs(np.sin(np.pi * phase))
    return [_Path(x=-gap), _Path(x=gap)]


def _tick(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    step = np.floor(phase) + np.minimum(phase % 1 / 0.15, 1)
    return [_Path(angle=rng.choice([-1, 1]) * np.pi / 5 * step, scale=1.3)]


def _flash(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    return [_Path(alpha=np.where(phase % 1 < 0.4, 1.0, 0.15))]


def _jump(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    whole = np.floor(phase).astype(int)
    turns = np.cumsum(rng.uniform(0.25, 0.75, whole.max() - whole.min() + 1))[whole - whole.min()]
    radius = rng.uniform(20, 26)
    return [_Path(x=1.4 * radius * np.cos(2 * np.pi * turns), y=radius * np.sin(2 * np.pi * turns))]


def _grow(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    return [_Path(scale=0.4 + 1.6 * (phase % 1))]


def _orbit(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    angle = rng.choice([-1, 1]) * 2 * np.pi * phase
    radius = rng.uniform(20, 26)
    return [_Path(x=radius * np.sin(angle), y=-radius * np.cos(angle))]


def _rattle(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    shaking = np.where(phase % 1 < 0.5, np.sin(2 * np.pi * 4 * phase), 0.0)
    return [_Path(x=rng.uniform(8, 12) * shaking)]


def _pass(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    return [_Path(x=rng.choice([-1, 1]) * 150 * ((phase + 0.5) % 1 - 0.5))]


def _split(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    fraction = phase % 1
    apart = np.clip(np.minimum(fraction / 0.1, (0.6 - fraction) / 0.1), 0, 1)
    distance = rng.uniform(16, 24) * apart
    return [_Path(y=-distance), _Path(y=distance)]


# Sounds: seconds since the event (S,), seconds between events, and a factor of pitch -> (S,).


def _thud(time: np.ndarray, period: float, pitch: float, rng: np.random.Generator) -> np.ndarray:
    return _sine(pitch * (110 * time - 4 * np.exp(-np.maximum(time, 0) / 0.05))) * _decay(
        time, 0.09
    )


def _clack(time: np.ndarray, period: float, pitch: float, rng: np.random.Generator) -> np.ndarray:
    return sum(_sine(pitch * f * time) * _decay(time, 0.02) for f in (1150, 1810, 2390))


def _click(time: np.ndarray, period: float, pitch: float, rng: np.random.Generator) -> np.ndarray:
    return sum(_sine(pitch * f * time) * _decay(time, 0.008) for f in (4100, 5300))


def _buzz(time: np.ndarray, period: float, pitch: float, rng: np.random.Generator) -> np.ndarray:
    sounding = (time >= 0) & (time < 0.4 * period)
    return np.sign(_sine(pitch * 210 * time)) * sounding * 0.5


def _chirp(time: np.ndarray, period: float, pitch: float, rng: np.random.Generator) -> np.ndarray:
    sweep = 700 * time + 5500 * np.clip(time, 0, 0.2) ** 2
    return _sine(pitch * sweep) * ((time >= 0) & (time < 0.2)) * 0.8


def _rise(time: np.ndarray, period: float, pitch: float, rng: np.random.Generator) -> np.ndarray:
    part = time / period  # a glide of two octaves from one event to the next
    glide = 160 * period / np.log(4) * 4 ** np.clip(part, 0, 1)
    tone = _sine(pitch * glide) + 0.4 * _sine(2 * pitch * glide)
    return tone * ((part >= 0) & (part < 1)) * np.clip(0.3 + 0.7 * part, 0, 1)


def _bell(time: np.ndarray, period: float, pitch: float, rng: np.random.Generator) -> np.ndarray:
    partials = ((880, 1.0), (2426, 0.6), (4751, 0.3))
    return sum(w * _sine(pitch * f * time) * _decay(time, 0.25) for f, w in partials)


def _shaker(time: np.ndarray, period: float, pitch: float, rng: np.random.Generator) -> np.ndarray:
    strokes = np.sin(2 * np.pi * 4 * time / period) ** 8
    noise = np.diff(rng.standard_normal(len(time) + 1))  # no lows
    return noise * strokes * ((time >= 0) & (time < 0.5 * period)) * 0.5


def _whoosh(time: np.ndarray, period: float, pitch: float, rng: np.random.Generator) -> np.ndarray:
    width = round(SAMPLE_RATE / (900 * pitch))
    noise = np.convolve(rng.standard_normal(len(time)), np.hanning(width), "same")
    return noise / noise.std() * np.exp(-((time / (0.18 * period)) ** 2)) * 0.4


def _ding_dong(
    time: np.ndarray, period: float, pitch: float, rng: np.random.Generator
) -> np.ndarray:
    later = time - 0.55 * period
    high = _sine(pitch * 659 * time) * _decay(time, 0.12)
    return high + _sine(pitch * 440 * later) * _decay(later, 0.12)


def _sine(turns: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * turns)


def _decay(time: np.ndarray, seconds: float) -> np.ndarray:
    """Starts within a millisecond of the event and dies away."""
    return np.clip(time / 0.001, 0, 1) * np.exp(-np.maximum(time, 0) / seconds)


# name: movement, sound, how many times faster than the others it repeats
_CLASSES = {
    "bounce": (_bounce, _thud, 1.0),
    "collide": (_collide, _clack, 1.0),
    "flash": (_flash, _buzz, 1.0),
    "grow": (_grow, _rise, 1.0),
    "jump": (_jump, _chirp, 1.0),
    "orbit": (_orbit, _bell, 1.0),
    "pass": (_pass, _whoosh, 1.0),
    "rattle": (_rattle, _shaker, 0.8),
    "split": (_split, _ding_dong, 0.8),
    "tick": (_tick, _click, 2.0),
}
CLASS_NAMES = tuple(_CLASSES)

# Signed distance to the edge, negative inside, of shapes of radius 1 at (u, v). None of them looks
# the same after a fifth of half a turn.
_SHAPES: tuple[collections.abc.Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (
    lambda u, v: np.maximum(np.abs(u), np.abs(v)) - 0.8,  # square
    lambda u, v: np.maximum(np.abs(u) * 0.87 + v * 0.5, -v) - 0.6,  # triangle
    lambda u, v: np.maximum(np.abs(u) - 1.0, np.abs(v) - 0.4),  # bar
    lambda u, v: np.maximum(np.hypot(u, v) - 1.0, v - 0.1),  # half a disc
    lambda u, v: np.maximum(
        np.minimum(np.abs(u), np.abs(v)) - 0.32, np.maximum(np.abs(u), np.abs(v)) - 1.0
    ),  # cross
)


def render(seed: int, split: str, index: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Makes one clip, a function of the arguments alone.

    Args:
        seed: Of the whole data set, not negative.
        split: One of `SPLITS`.
        index: Number of the clip in its split; classes take turns.

    Returns:
        frames: (80, 96, 128, 3) uint8, at `FRAME_RATE`.
        waveform: (80000,) float32 in [-1, 1], at `SAMPLE_RATE`.
        label: Index into `CLASS_NAMES`.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    label = index % len(CLASS_NAMES)
    movement, sound, speed = _CLASSES[CLASS_NAMES[label]]
    period = rng.uniform(0.8, 1.25) / speed  # seconds between events
    first = rng.uniform(-1, 0) * period
    frame_times = np.arange(SECONDS * FRAME_RATE) / FRAME_RATE
    size = rng.uniform(9, 14)
    frames = _background(rng)
    for _ in range(rng.integers(1, 3)):
        _draw(frames, _drift(frame_times, rng), rng.uniform(5, 9), _color(rng), (0, 0), rng)
    color, center = _color(rng), rng.uniform((-14, -8), (14, 8))
    for path in movement((frame_times - first) / period, size, rng):
        _draw(frames, path, size, color, center, rng)
    frames = np.clip(frames * 255, 0, 255).round().astype(np.uint8)
    return frames, _soundtrack(sound, first, period, rng), label


def _color(rng: np.random.Generator) -> np.ndarray:
    """A bright color, (3,) in [0, 1]."""
    return np.array(colorsys.hsv_to_rgb(*rng.uniform((0, 0.5, 0.75), (1, 1, 1))), np.float32)


def _background(rng: np.random.Generator) -> np.ndarray:
    """A texture that moves steadily, dim to middling: (T, HEIGHT, WIDTH, 3) float32 in [0, 1]."""
    margin = 64
    texture = np.zeros((HEIGHT + margin, WIDTH + margin), np.float32)
    for cells, weight in ((rng.integers(4, 8), 0.6), (rng.integers(12, 28), 0.4)):
        grain = PIL.Image.fromarray(rng.random((cells, cells), np.float32))
        texture += weight * np.asarray(grain.resize(texture.shape[::-1], PIL.Image.BICUBIC))
    dark = colorsys.hsv_to_rgb(*rng.uniform((0, 0, 0.05), (1, 0.8, 0.2)))
    light = colorsys.hsv_to_rgb(*rng.uniform((0, 0, 0.35), (1, 0.8, 0.6)))
    colored = texture[..., None] * np.subtract(light, dark, dtype=np.float32) + np.float32(dark)
    start, end = rng.integers(0, margin + 1, (2, 2))
    corners = np.linspace(start, end, SECONDS * FRAME_RATE).round().astype(int)
    return np.stack([colored[y : y + HEIGHT, x : x + WIDTH] for y, x in corners])


def _drift(times: np.ndarray, rng: np.random.Generator) -> _Path:
    """A slow, silent way across the picture."""
    rates, phases = rng.uniform(0.05, 0.2, 3), rng.uniform(0, 2 * np.pi, 3)
    waves = np.sin(2 * np.pi * rates[:, None] * times + phases[:, None])
    return _Path(50 * waves[0], 36 * waves[1], angle=2 * waves[2], alpha=rng.uniform(0.4, 0.8))


def _draw(
    frames: np.ndarray,
    path: _Path,
    size: float,
    color: np.ndarray,
    center: tuple[float, float] | np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Draws a random shape along its path into frames (T, HEIGHT, WIDTH, 3), in place."""
    shape = _SHAPES[rng.integers(len(_SHAPES))]
    tilt = rng.uniform(0, 2 * np.pi)
    ways = np.broadcast_arrays(np.arange(len(frames)), *dataclasses.astuple(path))
    for frame, (_, x, y, scale, angle, alpha) in zip(frames, zip(*ways, strict=True), strict=True):
        radius = size * scale
        x, y = WIDTH / 2 + center[0] + x, HEIGHT / 2 + center[1] + y
        reach = 1.5 * radius + 1
        left, right = np.clip(np.round((x - reach, x + reach)), 0, WIDTH).astype(int)
        top, bottom = np.clip(np.round((y - reach, y + reach)), 0, HEIGHT).astype(int)
        if left >= right or top >= bottom:
            continue
        across = np.arange(left, right)[None, :] + 0.5 - x
        down = np.arange(top, bottom)[:, None] + 0.5 - y
        cos, sin = np.cos(angle + tilt), np.sin(angle + tilt)
        distance = radius * shape(
            (cos * across + sin * down) / radius, (cos * down - sin * across) / radius
        )
        cover = (alpha * np.clip(0.5 - distance, 0, 1))[..., None].astype(np.float32)
        area = frame[top:bottom, left:right]
        area += cover * (color - area)


def _soundtrack(
    sound: collections.abc.Callable,
    first: float,
    period: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """The sounds of all events, and noise: (S,) float32 in [-1, 1]."""
    times = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    pitch = 2 ** rng.uniform(-0.15, 0.15)
    events = np.zeros(len(times))
    for count in itertools.count(-1):
        begin = first + count * period
        if begin - period > SECONDS:
            break
        # Long enough for what comes before an event and what rings on after it.
        near = slice(*np.searchsorted(times, (begin - 0.5 * period, begin + 2 * period)))
        if near.start < near.stop:
            events[near] += sound(times[near] - begin, period, pitch, rng)
    events *= rng.uniform(0.25, 0.7) / max(np.abs(events).max(), 1e-9)
    noise = rng.standard_normal(len(times))
    noise = np.convolve(noise, np.hanning(rng.integers(3, 24)), "same")  # white to dull
    noise *= rng.uniform(0.002, 0.02) / noise.std()
    return np.clip(events + noise, -1, 1).astype(np.float32)
