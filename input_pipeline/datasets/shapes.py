"""Moving shapes whose movements are heard: what the generated clips show and sound.

Each class is a way to move and the sound that it makes: a shape bounces and thuds, two collide and
clack, and so on. A clip repeats its event at a steady beat, seen and heard at the same instant, and
what is bigger sounds lower. What does not tell the class is random: forms, colors, places, tilts,
loudness, the dim clouds that move behind, the silent shapes that drift about, and the noise. So are
sizes and tempo, about those of the class.
"""

import collections.abc
import colorsys
import dataclasses
import itertools

import numpy as np
import PIL.Image

SPLITS = ("train", "test", "val")
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
    return [_Path(y=30 - size - 4 * rng.uniform(44, 54) * fraction * (1 - fraction))]


def _collide(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    gap = size + rng.uniform(22, 32) * np.abs(np.sin(np.pi * phase))
    return [_Path(x=-gap), _Path(x=gap)]


def _tick(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    step = np.floor(phase) + np.minimum(phase % 1 / 0.15, 1)
    return [_Path(angle=rng.choice([-1, 1]) * np.pi / 4 * step, scale=1.7)]


def _flash(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    return [_Path(alpha=np.where(phase % 1 < 0.4, 1.0, 0.1), scale=1.3)]


def _jump(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    whole = np.floor(phase).astype(int)
    turns = np.cumsum(rng.uniform(0.25, 0.75, whole.max() - whole.min() + 1))[whole - whole.min()]
    radius = rng.uniform(22, 28)
    return [_Path(x=1.4 * radius * np.cos(2 * np.pi * turns), y=radius * np.sin(2 * np.pi * turns))]


def _grow(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    return [_Path(scale=0.4 + 1.3 * (phase % 1))]


def _orbit(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    angle = rng.choice([-1, 1]) * 2 * np.pi * phase
    radius = rng.uniform(24, 30)
    return [_Path(x=radius * np.sin(angle), y=-radius * np.cos(angle))]


def _rattle(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    shaking = np.where(phase % 1 < 0.6, np.sin(2 * np.pi * 3 * phase), 0.0)
    places = rng.uniform((-34, -24), (34, 24), (5, 2))
    return [_Path(x=x + rng.uniform(7, 10) * shaking, y=y, scale=0.55) for x, y in places]


def _pass(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    way = rng.choice([-1, 1]) * 150 * ((phase + 0.5) % 1 - 0.5)
    return [_Path(x=way, y=y) for y in (-18, 18)]


def _split(phase: np.ndarray, size: float, rng: np.random.Generator) -> list[_Path]:
    fraction = phase % 1
    apart = np.clip(np.minimum(fraction / 0.1, (0.6 - fraction) / 0.1), 0, 1)
    distance = 0.5 * size + rng.uniform(18, 26) * apart
    return [_Path(y=-distance), _Path(y=distance)]


# Sounds: seconds since the event (S,), seconds between events, and a factor of pitch -> (S,).


def _thud(time: np.ndarray, period: float, pitch: float, rng: np.random.Generator) -> np.ndarray:
    return _sine(pitch * (110 * time - 4 * np.exp(-np.maximum(time, 0) / 0.05))) * _decay(
        time, 0.09
    )


def _clack(time: np.ndarray, period: float, pitch: float, rng: np.random.Generator) -> np.ndarray:
    return sum(_sine(pitch * f * time) * _decay(time, 0.06) for f in (1150, 1810, 2390))


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


# Signed distance to the edge, negative inside, of forms of radius 1 at (u, v).
_FORMS: dict[str, collections.abc.Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": lambda u, v: np.hypot(u, v) - 0.95,
    "half": lambda u, v: np.maximum(np.hypot(u, v) - 1.0, v - 0.1),
    "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.8) - 0.25,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) - 0.85,
    "triangle": lambda u, v: np.maximum(np.abs(u) * 0.87 + v * 0.5, -v) - 0.6,
    "bar": lambda u, v: np.maximum(np.abs(u) - 1.0, np.abs(v) - 0.3),
    "cross": lambda u, v: np.maximum(
        np.minimum(np.abs(u), np.abs(v)) - 0.32, np.maximum(np.abs(u), np.abs(v)) - 1.0
    ),
}


@dataclasses.dataclass(frozen=True)
class _Class:
    """How something moves, and how it sounds.

    Attributes:
        movement: (phase, size, rng) -> paths.
        sound: (time, period, pitch, rng) -> samples.
        speed: How many times faster than most it repeats.
        forms: Names of `_FORMS` that show the movement.
    """

    movement: collections.abc.Callable[..., list[_Path]]
    sound: collections.abc.Callable[..., np.ndarray]
    speed: float = 1.0
    forms: tuple[str, ...] = tuple(_FORMS)


# What ticks turns in its place, which a disc and a ring do not show.
_TURNING = ("half", "square", "triangle", "bar", "cross")
_CLASSES = {
    "bounce": _Class(_bounce, _thud),
    "collide": _Class(_collide, _clack),
    "flash": _Class(_flash, _buzz),
    "grow": _Class(_grow, _rise),
    "jump": _Class(_jump, _chirp),
    "orbit": _Class(_orbit, _bell),
    "pass": _Class(_pass, _whoosh),
    "rattle": _Class(_rattle, _shaker, speed=0.8),
    "split": _Class(_split, _ding_dong, speed=0.8),
    "tick": _Class(_tick, _click, speed=2.0, forms=_TURNING),
}
CLASS_NAMES = tuple(_CLASSES)
_SMALLEST, _LARGEST = 16.0, 22.0  # radius of a shape, in pixels


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
    kind = _CLASSES[CLASS_NAMES[label]]
    period = rng.uniform(0.8, 1.25) / kind.speed  # seconds between events
    first = rng.uniform(-1, 0) * period
    frame_times = np.arange(SECONDS * FRAME_RATE) / FRAME_RATE
    size = rng.uniform(_SMALLEST, _LARGEST)
    # Bigger is lower, by an octave from the smallest to the largest.
    pitch = 2 ** (((_SMALLEST + _LARGEST) / 2 - size) / (_LARGEST - _SMALLEST))
    frames = _background(rng)
    for _ in range(rng.integers(1, 3)):
        form = rng.choice(list(_FORMS))
        color = _color(rng)
        color = color if rng.random() < 0.5 else 0.6 * (1 - color)
        way = _drift(frame_times, rng)
        _draw(frames, way, form, rng.uniform(4, 7), rng.uniform(-np.pi, np.pi), color, (0, 0))
    color, center = _color(rng), rng.uniform((-12, -6), (12, 6))
    form, tilt = rng.choice(kind.forms), rng.uniform(-np.pi, np.pi)
    for path in kind.movement((frame_times - first) / period, size, rng):
        _draw(frames, path, form, size, tilt, color, center)
    frames = np.clip(frames * 255, 0, 255).round().astype(np.uint8)
    return frames, _soundtrack(kind.sound, first, period, pitch, rng), label


def _color(rng: np.random.Generator) -> np.ndarray:
    """A bright color, (3,) float32 in [0, 1]."""
    return np.float32(colorsys.hsv_to_rgb(*rng.uniform((0, 0.1, 0.85), (1, 0.35, 1))))


def _background(rng: np.random.Generator) -> np.ndarray:
    """A dim sky above a ground, clouded, that moves: (T, HEIGHT, WIDTH, 3) float32 in [0, 1].

    Its colors are muted: the decoder predicts patches without their mean and deviation, and if hue
    were most of what is left, it would be most of what is learned. Its contrast is low: no sound
    tells of a scene, and if scenes were most of what differs between clips, they would be most of
    what a teacher asks of the other modality's student.
    """
    margin = 32
    size = (HEIGHT + margin, WIDTH + margin)
    sky, far, ground = np.float32(
        [colorsys.hsv_to_rgb(*rng.uniform((0, 0.1, 0.12), (1, 0.35, 0.45))) for _ in range(3)]
    )
    down = np.linspace(-1, 1, size[0])[:, None] + rng.uniform(-0.3, 0.3)
    across = np.linspace(-1, 1, size[1])[None, :] * rng.uniform(-0.5, 0.5)
    below = 1 / (1 + np.exp(-6 * (down + across + 1.2 * (_clouds(4, size, rng) - 0.5))))
    aside = np.clip(2 * _clouds(3, size, rng) - 0.5, 0, 1)
    below, aside = below[..., None].astype(np.float32), aside[..., None]
    scene = below * ground + (1 - below) * (aside * far + (1 - aside) * sky)
    scene *= 0.7 + 0.6 * _clouds(5, size, rng)[..., None]
    mean = scene.mean(axis=(0, 1))
    scene = mean + 0.6 * (scene - mean)
    start, end = rng.integers(0, margin + 1, (2, 2))
    corners = np.linspace(start, end, SECONDS * FRAME_RATE).round().astype(int)
    return np.stack([scene[y : y + HEIGHT, x : x + WIDTH] for y, x in corners])


def _clouds(cells: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of so many cells a side: (*size) float32, about [0, 1]."""
    grain = PIL.Image.fromarray(rng.random((cells, cells), np.float32))
    return np.asarray(grain.resize(size[::-1], PIL.Image.BICUBIC))


def _drift(times: np.ndarray, rng: np.random.Generator) -> _Path:
    """A slow, silent way across the picture."""
    rates, phases = rng.uniform(0.05, 0.2, 3), rng.uniform(0, 2 * np.pi, 3)
    waves = np.sin(2 * np.pi * rates[:, None] * times + phases[:, None])
    return _Path(50 * waves[0], 36 * waves[1], angle=2 * waves[2], alpha=rng.uniform(0.4, 0.8))


def _draw(
    frames: np.ndarray,
    path: _Path,
    form: str,
    size: float,
    tilt: float,
    color: np.ndarray,
    center: tuple[float, float] | np.ndarray,
) -> None:
    """Draws a form along its path into frames (T, HEIGHT, WIDTH, 3), in place."""
    distance_to_edge = _FORMS[form]
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
        distance = radius * distance_to_edge(
            (cos * across + sin * down) / radius, (cos * down - sin * across) / radius
        )
        cover = (alpha * np.clip(0.5 - distance, 0, 1))[..., None].astype(np.float32)
        area = frame[top:bottom, left:right]
        area += cover * (color - area)


def _soundtrack(
    sound: collections.abc.Callable,
    first: float,
    period: float,
    pitch: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """The sounds of all events, and noise: (S,) float32 in [-1, 1]."""
    times = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
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
