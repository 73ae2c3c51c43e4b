"""TensorBoard: clu's writer, with videos, texts of several lines, and sounds as others get them."""

import textwrap
from collections.abc import Mapping

import numpy as np
from clu import metric_writers
from tensorboard.plugins.audio import metadata as audio_metadata
from tensorboard.plugins.image import metadata as image_metadata

from xkd_jax.run.trackers import encoding


class TensorBoardWriter(metric_writers.SummaryWriter):
    """Writes TensorBoard's event files.

    Args:
        logdir: Folder of the files.
    """

    def write_videos(
        self, step: int, videos: Mapping[str, np.ndarray], *, frame_rate: float = 1.0
    ) -> None:
        """Writes videos as animated images, which browsers play in the tab of images.

        Args:
            step: Number of steps done.
            videos: `(N, T, H, W, 3)` uint8 by name.
            frame_rate: Frames per second.
        """
        for name, clips in videos.items():
            height, width = clips.shape[2:4]
            files = [encoding.animated_png(clip, frame_rate) for clip in clips]
            values = {name: np.array([str(width), str(height), *files], object)}
            described = image_metadata.create_summary_metadata(display_name=None, description=None)
            self.write_summaries(step, values, {name: described})

    def write_audios(
        self, step: int, audios: Mapping[str, np.ndarray], *, sample_rate: int
    ) -> None:
        """Writes sounds. TensorFlow's own encoder logs an error on some processors.

        Args:
            step: Number of steps done.
            audios: `(N, S, C)` float in [-1, 1] by name.
            sample_rate: Sample rate in Hz.
        """
        described = audio_metadata.create_summary_metadata(
            display_name=None, description=None, encoding=audio_metadata.Encoding.Value("WAV")
        )
        for name, sounds in audios.items():
            rows = [(encoding.wav(sound, sample_rate), "") for sound in sounds]  # with no caption
            self.write_summaries(step, {name: np.array(rows, object)}, {name: described})

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Writes texts as they are: Markdown, which TensorBoard reads, would join their lines."""
        super().write_texts(
            step, {name: textwrap.indent(text, "    ") for name, text in texts.items()}
        )

    def close(self, failed: bool = False) -> None:
        """Closes the files, in which nothing says whether the run has failed."""
        super().close()
