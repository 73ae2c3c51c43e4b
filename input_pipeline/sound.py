"""The sound of media files: a stretch of time as a mono waveform, silent where there is none.

To mono, left and right count 1 each, center and surrounds as they do in a stereo mix (0.707 to each
side; surrounds to their own), the bass channel not at all; all divided by their sum, so that a mix
of full-scale channels is full-scale.
"""

import contextlib

import av
import numpy as np

from input_pipeline import packets

_LARGEST_DRIFT = 0.01  # seconds between a sound's timestamps and its samples before it is a gap
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
        end: When the last sound decoded so far ends, in seconds on the container's clock; minus
            infinity before the first.
    """

    def __init__(self, begin: float, length: int, sample_rate: int) -> None:
        self.end = -np.inf
        self._begin = begin
        self._sample_rate = sample_rate
        self._waveform = np.zeros(length, np.float32)
        self._run: _Run | None = None

    def add(self, packet: av.Packet) -> None:
        """Decodes a packet; like a player, leaves out what does not decode, which is a gap then."""
        with contextlib.suppress(av.FFmpegError):
            for frame in packet.decode():
                ticks = packets.ticks(frame)
                time = None if ticks is None else ticks * float(packet.time_base)
                if self._run is None or not self._run.goes_on_with(frame, time):
                    self._place()
                    start = self._begin if time is None else time
                    self._run = _Run(frame, start, self._sample_rate)
                self._run.add(frame)
                self.end = max(self.end, self._run.end)

    def waveform(self) -> np.ndarray:
        """All of it as (S,) float32 in [-1, 1], zeros where there was no sound; ends the track."""
        self._place()
        return self._waveform

    def _place(self) -> None:
        """Puts the present run, if any, where it belongs."""
        if self._run is None:
            return
        samples = self._run.samples()
        offset = round((self._run.start - self._begin) * self._sample_rate)
        samples = samples[max(-offset, 0) : max(len(self._waveform) - offset, 0)]
        samples = np.clip(np.nan_to_num(samples), -1.0, 1.0)
        self._waveform[max(offset, 0) :][: len(samples)] = samples
        self._run = None


class _Run:
    """Sound without a gap, being resampled and mixed to mono.

    Args:
        frame: Its first frame, yet to be added.
        start: When that starts, in seconds on the container's clock.
        sample_rate: Hz, to resample to.

    Attributes:
        start: As given.
        end: When it ends, as far as it has come.
    """

    def __init__(self, frame: av.AudioFrame, start: float, sample_rate: int) -> None:
        self.start = start
        self.end = start
        self._form = self._form_of(frame)
        rate, sample_format, layout = self._form
        self._graph = av.filter.Graph()
        chain = (
            self._graph.add(
                "abuffer",
                sample_rate=str(rate),
                sample_fmt=sample_format,
                channel_layout=layout,
                time_base=f"1/{rate}",
            ),
            # The weights of the channels sum to 1.
            self._graph.add("aresample", rematrix_maxval="1"),
            self._graph.add(
                "aformat", sample_rates=str(sample_rate), sample_fmts="flt", channel_layouts="mono"
            ),
            self._graph.add("abuffersink"),
        )
        self._graph.link_nodes(*chain).configure()
        self._graph.set_audio_frame_size(_CHUNK)
        self._waiting = 0
        self._samples: list[np.ndarray] = []

    def goes_on_with(self, frame: av.AudioFrame, time: float | None) -> bool:
        """Whether a frame of a time, if it has one, follows without a gap and in the same form."""
        return self._form_of(frame) == self._form and (
            time is None or abs(time - self.end) <= _LARGEST_DRIFT
        )

    def add(self, frame: av.AudioFrame) -> None:
        """Appends a frame."""
        self.end += frame.samples / frame.sample_rate
        frame.pts = None  # its place is known; the filters are to take it as it comes
        self._push(frame)

    def samples(self) -> np.ndarray:
        """All of it as (S,) float32, mono at the new rate; nothing can be added after."""
        self._push(None)
        return np.concatenate(self._samples) if self._samples else np.zeros(0, np.float32)

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
