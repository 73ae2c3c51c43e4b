"""The sound of media files as a mono waveform, which is silent where the file has no sound.

In the mix to mono, left and right have weight 1. Center and surrounds have the weights of a stereo
mix (0.707 to each side, surrounds to their own side only), and the bass channel has weight 0. The
sum is divided by the sum of the weights, so full-scale channels mix to full scale. Ambisonic sound
is reduced to its omnidirectional channel W. Channels without known positions are averaged.

Sound is placed by its timestamps, averaged over time. Browsers and phones write timestamps of
single packets that waver, and containers may round them.
"""

import collections.abc
import contextlib

import av
import numpy as np

from input_pipeline.media import packets

# Seconds by which a timestamp may differ from the end of the samples before it; more is a gap.
_LARGEST_WAVERING = 0.1
_LARGEST_DRIFT = 0.01  # largest difference in seconds on average over `_PERSISTS`
_PERSISTS = 1.0  # seconds
_CHUNK = 1 << 14  # samples that the resampler returns at once, except the last time
_PUSHES = 32  # frames pushed to the resampler before pulling, since each exchange takes time
_PREROLL = 0.2  # seconds of sound decoded ahead, for decoders that need to settle


def read(
    container: av.container.InputContainer,
    sound: av.AudioStream,
    begin: float,
    length: int,
    sample_rate: int,
) -> np.ndarray:
    """Decodes the sound from a time on, mixed to mono.

    Args:
        container: The open file.
        sound: The stream of the sound.
        begin: Begin in seconds on the container's clock.
        length: Number of samples S.
        sample_rate: Sample rate of the waveform in Hz.

    Returns:
        (S,) float32 in [-1, 1]. Zeros where there is no sound or it does not decode.
    """
    track = Track(begin, length, sample_rate)
    for packet in packets.needed(container, sound, begin - _PREROLL, begin + length / sample_rate):
        track.add(packet)
    return track.waveform()


class Track:
    """A waveform that is assembled from packets, each placed by its timestamp.

    Args:
        begin: Begin of the waveform, in seconds on the container's clock.
        length: Number of samples S.
        sample_rate: Sample rate of the waveform in Hz.

    Attributes:
        end: When the sound ends, in seconds on the container's clock. Valid after `waveform` was
            called. Minus infinity if there is no sound.
    """

    def __init__(self, begin: float, length: int, sample_rate: int) -> None:
        self.end = -np.inf
        self._begin = begin
        self._sample_rate = sample_rate
        self._waveform = np.zeros(length, np.float32)
        self._run: _Run | None = None

    def add(self, packet: av.Packet) -> None:
        """Decodes a packet. Like a player, it skips what does not decode, which leaves a gap.

        Raises:
            av.FFmpegError: The packet decodes, but cannot be mixed.
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
        """Ends the track and returns its waveform.

        Returns:
            (S,) float32 in [-1, 1]. Zeros where there is no sound.
        """
        self._place()
        return self._waveform

    def _place(self) -> None:
        """Copies the current run, if any, into the waveform."""
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
    """A stretch of sound without a large gap, which is resampled and mixed to mono.

    Args:
        frame: The first frame. It is not added yet.
        sample_rate: Sample rate of the result in Hz.
    """

    def __init__(self, frame: av.AudioFrame, sample_rate: int) -> None:
        self._format = self._format_of(frame)
        self._sample_rate = sample_rate
        self._graph = _mixer(*self._format, sample_rate)
        self._graph.set_audio_frame_size(_CHUNK)
        self._waiting = 0
        self._samples: list[np.ndarray] = []
        # Start of each frame, by its timestamp and by the samples before it.
        self._times: list[float] = []
        self._offsets: list[float] = []
        self._length = 0.0  # seconds
        self._end = -np.inf  # end of the last frame, by its timestamp

    def goes_on_with(self, frame: av.AudioFrame, time: float | None) -> bool:
        """Returns whether a frame follows without a gap and in the same format."""
        return self._format_of(frame) == self._format and (
            time is None or abs(time - self._end) <= _LARGEST_WAVERING
        )

    def add(self, frame: av.AudioFrame, time: float | None) -> None:
        """Appends a frame at a time, or at the end of the last frame if its time is unknown."""
        seconds = frame.samples / frame.sample_rate
        self._times.append(self._end if time is None else time)
        self._offsets.append(self._length)
        self._length += seconds
        self._end = self._times[-1] + seconds
        frame.pts = None  # the filters must not move the frame; its place is known
        self._push(frame)

    def pieces(self) -> collections.abc.Iterator[tuple[float, np.ndarray]]:
        """Ends the run and yields its sound. Nothing can be added after.

        Yields:
            The start of each piece, in seconds on the container's clock, and the piece as (S,)
            float32, mono at the new rate.
        """
        self._push(None)
        if not self._samples:
            return
        samples = np.concatenate(self._samples)
        offsets = np.array(self._offsets)
        run_starts = np.array(self._times) - offsets  # start of the run by each frame's timestamp
        window = max(1, round(_PERSISTS * len(run_starts) / max(self._length, 1e-6)))
        bounds = _steps(run_starts, window)
        cuts = np.round(offsets[bounds[:-1]] * self._sample_rate).astype(int)
        for first, end, piece in zip(bounds, bounds[1:], np.split(samples, cuts[1:]), strict=False):
            yield float(run_starts[first:end].mean() + offsets[first]), piece

    def _push(self, frame: av.AudioFrame | None) -> None:
        """Pushes a frame into the filters, or None for the end, and pulls samples now and then."""
        self._graph.push(frame)
        self._waiting += 1
        if frame is not None and self._waiting < _PUSHES:
            return
        self._waiting = 0
        with contextlib.suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                self._samples.append(self._graph.pull().to_ndarray()[0])

    @staticmethod
    def _format_of(frame: av.AudioFrame) -> tuple[int, str, str]:
        return frame.sample_rate, frame.format.name, frame.layout.name


def _mixer(rate: int, sample_format: str, layout: str, sample_rate: int) -> av.filter.Graph:
    """Returns a filter graph that mixes sound to mono and resamples it.

    Args:
        rate: Sample rate of the input in Hz.
        sample_format: FFmpeg's name of the sample format.
        layout: FFmpeg's name of the channel layout.
        sample_rate: Sample rate of the output in Hz.

    Raises:
        av.FFmpegError: There are more than 64 channels, too many for FFmpeg to mix.
    """
    count = av.AudioLayout(layout).nb_channels
    if layout.startswith("ambisonic"):
        own_mix = "c0"
    else:
        own_mix = "+".join(f"{1 / count}*c{number}" for number in range(count))
    source = {"sample_rate": str(rate), "sample_fmt": sample_format, "channel_layout": layout}
    try:
        return _graph(source, sample_rate)
    except av.FFmpegError:  # FFmpeg has no rule for these channels
        return _graph(source, sample_rate, f"mono|c0={own_mix}")


def _graph(source: dict[str, str], sample_rate: int, own_mix: str = "") -> av.filter.Graph:
    """Returns a filter graph that mixes to mono with FFmpeg's weights, or with `own_mix`."""
    graph = av.filter.Graph()
    chain = (
        graph.add("abuffer", time_base=f"1/{source['sample_rate']}", **source),
        *([graph.add("pan", own_mix)] if own_mix else []),
        # Normalizes the weights of the channels to a sum of 1.
        graph.add("aresample", rematrix_maxval="1"),
        graph.add(
            "aformat", sample_rates=str(sample_rate), sample_fmts="flt", channel_layouts="mono"
        ),
        graph.add("abuffersink"),
    )
    graph.link_nodes(*chain).configure()
    return graph


def _steps(values: np.ndarray, window: int) -> list[int]:
    """Divides wavering values into parts at the steps of their mean.

    Args:
        values: (N,) float64 seconds, N at least 1.
        window: Number of values over which the wavering averages out.

    Returns:
        The bounds of the parts, including 0 and N. Within a part, no average of `window` values
        differs by more than `_LARGEST_DRIFT` from the average of the part.
    """
    bounds, parts = [0], [(0, len(values))]
    while parts:
        first, end = parts.pop()
        part = values[first:end]
        sums = np.concatenate([[0.0], np.cumsum(part - part.mean())])
        averages = (sums[window:] - sums[:-window]) / window  # empty if the part is shorter
        if np.abs(averages).max(initial=0.0) <= _LARGEST_DRIFT:
            bounds.append(end)
        else:  # the step is where the averages before and after differ most
            middle = first + 1 + int(np.abs(sums[1:-1]).argmax())
            parts += [(middle, end), (first, middle)]
    return bounds
