"""The sound of media files: a stretch of time as a mono waveform, silent where there is none."""

import contextlib

import av
import numpy as np

from input_pipeline import packets

_LARGEST_DRIFT = 0.01  # seconds between a sound's timestamps and its samples before it is a gap
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
    unit = float(sound.time_base)
    runs: list[_Run] = []
    for packet in packets.needed(container, sound, begin - _PREROLL, begin + length / sample_rate):
        # Like a player, leave out what does not decode; the gap that it leaves is silence.
        with contextlib.suppress(av.FFmpegError):
            for frame in sound.codec_context.decode(packet):
                ticks = packets.ticks(frame)
                time = None if ticks is None else ticks * unit
                if not runs or not runs[-1].goes_on_with(frame, time):
                    runs.append(_Run(frame, begin if time is None else time, sample_rate))
                runs[-1].add(frame)
    waveform = np.zeros(length, np.float32)
    for run in runs:
        samples = run.samples()
        offset = round((run.start - begin) * sample_rate)
        samples = samples[max(-offset, 0) : max(length - offset, 0)]
        waveform[max(offset, 0) :][: len(samples)] = samples
    return np.clip(np.nan_to_num(waveform), -1.0, 1.0)


class _Run:
    """Sound without a gap, being resampled and mixed to mono.

    Args:
        frame: Its first frame, yet to be added.
        start: When that starts, in seconds on the container's clock.
        sample_rate: Hz, to resample to.

    Attributes:
        start: As given.
    """

    def __init__(self, frame: av.AudioFrame, start: float, sample_rate: int) -> None:
        self.start = start
        self._end = start
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
            # Weights of the channels sum to 1, so that a mix of full-scale channels is full-scale.
            self._graph.add("aresample", rematrix_maxval="1"),
            self._graph.add(
                "aformat", sample_rates=str(sample_rate), sample_fmts="flt", channel_layouts="mono"
            ),
            self._graph.add("abuffersink"),
        )
        self._graph.link_nodes(*chain).configure()
        self._samples: list[np.ndarray] = []

    def goes_on_with(self, frame: av.AudioFrame, time: float | None) -> bool:
        """Whether a frame of a time, if it has one, follows without a gap and in the same form."""
        return self._form_of(frame) == self._form and (
            time is None or abs(time - self._end) <= _LARGEST_DRIFT
        )

    def add(self, frame: av.AudioFrame) -> None:
        """Appends a frame."""
        self._end += frame.samples / frame.sample_rate
        frame.pts = None  # its place is known; the filters are to take it as it comes
        self._push(frame)

    def samples(self) -> np.ndarray:
        """All of it as (S,) float32, mono at the new rate; nothing can be added after."""
        self._push(None)
        return np.concatenate(self._samples) if self._samples else np.zeros(0, np.float32)

    def _push(self, frame: av.AudioFrame | None) -> None:
        self._graph.push(frame)
        with contextlib.suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                self._samples.append(self._graph.pull().to_ndarray()[0])

    @staticmethod
    def _form_of(frame: av.AudioFrame) -> tuple[int, str, str]:
        return frame.sample_rate, frame.format.name, frame.layout.name
