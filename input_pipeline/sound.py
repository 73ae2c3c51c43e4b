"""The sound of media files: a stretch of time as a mono waveform, silent where there is none.

To mono, left and right count 1 each, center and surrounds as they do in a stereo mix (0.707 to each
side; surrounds to their own), the bass channel not at all; all divided by their sum, so that a mix
of full-scale channels is full-scale. Of ambisonic sound, it is the omnidirectional channel W; of
channels of which nothing says where they belong, their mean.

Sound lies where its timestamps say, on the average: those of single packets waver, as browsers and
phones write them, and may be rounded.
"""

import collections.abc
import contextlib

import av
import numpy as np

from input_pipeline import packets

_LARGEST_WAVERING = 0.1  # seconds between two timestamps and the samples between before it is a gap
_LARGEST_DRIFT = 0.01  # the same, of the average over:
_PERSISTS = 1.0  # seconds
_CHUNK = 1 << 14  # samples that the resampler hands over at once, but for the last
_PUSHES = 32  # frames that are given to it at once, for every exchange takes its time
_PREROLL = 0.2  # seconds of sound decoded ahead, for decoders that need some to settle


def read(
    container: av.container.InputContainer,
    sound: av.AudioStream,
    begin: float,
    length: int,
    sample_rate: int,
) -> np.ndarray:
    """Sound from a time on, mixed to mono.

    Args:
        container: Where from.
        sound: Which of its streams.
        begin: Seconds on the container's clock.
        length: Number of samples S.
        sample_rate: Hz.

    Returns:
        (S,) float32 in [-1, 1]; zeros where there is no sound, or none that decodes.
    """
    track = Track(begin, length, sample_rate)
    for packet in packets.needed(container, sound, begin - _PREROLL, begin + length / sample_rate):
        track.add(packet)
    return track.waveform()


class Track:
    """A waveform being put together from packets, each at the time that it tells.

    Args:
        begin: Of the waveform, in seconds on the container's clock.
        length: Its number of samples S.
        sample_rate: Its rate in Hz.

    Attributes:
        end: When the sound ends, in seconds on the container's clock, once `waveform` was called;
            minus infinity where there is none.
    """

    def __init__(self, begin: float, length: int, sample_rate: int) -> None:
        self.end = -np.inf
        self._begin = begin
        self._sample_rate = sample_rate
        self._waveform = np.zeros(length, np.float32)
        self._run: _Run | None = None

    def add(self, packet: av.Packet) -> None:
        """Decodes a packet; like a player, leaves out what does not decode, which is a gap then.

        Raises:
            av.FFmpegError: It decodes, but cannot be mixed.
        """
        try:
            frames = packet.decode()
        except av.FFmpegError:
            return
        for frame in frames:
            ticks = packets.ticks(frame)
            time = None if ticks is None else ticks * float(packet.time_base)
            if self._run is None or not self._run.goes_on_with(frame, time):
                self._place()
                self._run = _Run(frame, self._sample_rate)
                time = self._begin if time is None else time
            self._run.add(frame, time)

    def waveform(self) -> np.ndarray:
        """All of it as (S,) float32 in [-1, 1], zeros where there was no sound; ends the track."""
        self._place()
        return self._waveform

    def _place(self) -> None:
        """Puts the present run, if any, where it belongs."""
        if self._run is None:
            return
        for start, samples in self._run.pieces():
            self.end = max(self.end, start + len(samples) / self._sample_rate)
            offset = round((start - self._begin) * self._sample_rate)
            samples = samples[max(-offset, 0) : max(len(self._waveform) - offset, 0)]
            samples = np.clip(np.nan_to_num(samples), -1.0, 1.0)
            self._waveform[max(offset, 0) :][: len(samples)] = samples
        self._run = None


class _Run:
    """Sound without a large gap, being resampled and mixed to mono.

    Args:
        frame: Its first frame, yet to be added.
        sample_rate: Hz, to resample to.
    """

    def __init__(self, frame: av.AudioFrame, sample_rate: int) -> None:
        self._form = self._form_of(frame)
        self._sample_rate = sample_rate
        self._graph = _mixer(*self._form, sample_rate)
        self._graph.set_audio_frame_size(_CHUNK)
        self._waiting = 0
        self._samples: list[np.ndarray] = []
        # Of each frame, when it starts by its timestamp and by the samples before it.
        self._times: list[float] = []
        self._offsets: list[float] = []
        self._length = 0.0  # seconds
        self._end = -np.inf  # of the last frame, by its timestamp

    def goes_on_with(self, frame: av.AudioFrame, time: float | None) -> bool:
        """Whether a frame of a time, if it has one, follows without a gap and in the same form."""
        return self._form_of(frame) == self._form and (
            time is None or abs(time - self._end) <= _LARGEST_WAVERING
        )

    def add(self, frame: av.AudioFrame, time: float | None) -> None:
        """Appends a frame of a time; of that after the last one, if it has none."""
        seconds = frame.samples / frame.sample_rate
        self._times.append(self._end if time is None else time)
        self._offsets.append(self._length)
        self._length += seconds
        self._end = self._times[-1] + seconds
        frame.pts = None  # its place is known; the filters are to take it as it comes
        self._push(frame)

    def pieces(self) -> collections.abc.Iterator[tuple[float, np.ndarray]]:
        """All of it; nothing can be added after.

        Yields:
            When each piece starts, in seconds on the container's clock, and the piece as (S,)
            float32, mono at the new rate.
        """
        self._push(None)
        if not self._samples:
            return
        samples = np.concatenate(self._samples)
        offsets = np.array(self._offsets)
        zeros = np.array(self._times) - offsets  # when the run starts, as each frame has it
        window = max(1, round(_PERSISTS * len(zeros) / max(self._length, 1e-6)))
        bounds = _steps(zeros, window)
        cuts = np.round(offsets[bounds[:-1]] * self._sample_rate).astype(int)
        for first, end, piece in zip(bounds, bounds[1:], np.split(samples, cuts[1:]), strict=False):
            yield float(zeros[first:end].mean() + offsets[first]), piece

    def _push(self, frame: av.AudioFrame | None) -> None:
        self._graph.push(frame)
        self._waiting += 1
        if frame is not None and self._waiting < _PUSHES:
            return
        self._waiting = 0
        with contextlib.suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                self._samples.append(self._graph.pull().to_ndarray()[0])

    @staticmethod
    def _form_of(frame: av.AudioFrame) -> tuple[int, str, str]:
        return frame.sample_rate, frame.format.name, frame.layout.name


def _mixer(rate: int, sample_format: str, layout: str, sample_rate: int) -> av.filter.Graph:
    """A graph that mixes sound of a form to mono and resamples it.

    Args:
        rate: Of the sound, in Hz.
        sample_format: As FFmpeg calls it.
        layout: Of the channels, as FFmpeg calls it.
        sample_rate: Hz, to resample to.

    Raises:
        av.FFmpegError: There are too many channels for FFmpeg to mix, more than 64.
    """
    count = av.AudioLayout(layout).nb_channels
    if layout.startswith("ambisonic"):
        own_mix = "c0"
    else:
        own_mix = "+".join(f"{1 / count}*c{number}" for number in range(count))
    form = {"sample_rate": str(rate), "sample_fmt": sample_format, "channel_layout": layout}
    try:
        return _graph(form, sample_rate)
    except av.FFmpegError:  # it has no rule for such channels
        return _graph(form, sample_rate, f"mono|c0={own_mix}")


def _graph(form: dict[str, str], sample_rate: int, own_mix: str = "") -> av.filter.Graph:
    """A graph that mixes sound of a form as FFmpeg does, or in another way if one is given."""
    graph = av.filter.Graph()
    chain = (
        graph.add("abuffer", time_base=f"1/{form['sample_rate']}", **form),
        *([graph.add("pan", own_mix)] if own_mix else []),
        # The weights of the channels sum to 1.
        graph.add("aresample", rematrix_maxval="1"),
        graph.add(
            "aformat", sample_rates=str(sample_rate), sample_fmts="flt", channel_layouts="mono"
        ),
        graph.add("abuffersink"),
    )
    graph.link_nodes(*chain).configure()
    return graph


def _steps(values: np.ndarray, window: int) -> list[int]:
    """Divides values that waver about one that changes in steps.

    Args:
        values: (N,) float64 seconds, N at least 1.
        window: Number of values over which the wavering averages out.

    Returns:
        The bounds of the parts, 0 and N included: from one to the next, no average of `window`
        values is more than `_LARGEST_DRIFT` from the average of all.
    """
    bounds, parts = [0], [(0, len(values))]
    while parts:
        first, end = parts.pop()
        part = values[first:end]
        sums = np.concatenate([[0.0], np.cumsum(part - part.mean())])
        averages = (sums[window:] - sums[:-window]) / window  # none of a part that is shorter
        if np.abs(averages).max(initial=0.0) <= _LARGEST_DRIFT:
            bounds.append(end)
        else:  # where the averages of what is before and after differ most, there is a step
            middle = first + 1 + int(np.abs(sums[1:-1]).argmax())
            parts += [(middle, end), (first, middle)]
    return bounds
