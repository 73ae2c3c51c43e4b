"""Weights & Biases. Its own environment variables choose project, entity and mode."""

import html
import io
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import wandb

from xkd_jax.run.trackers import encoding
from xkd_jax.run.trackers.tracker import PROJECT, Tracker


def open_run(workdir: pathlib.Path, run_id: str | None) -> "WandbWriter":
    """Starts a run of W&B, or goes on with one.

    Args:
        workdir: Folder of the run. W&B keeps its files in `wandb` there, and sends them to its
            server unless WANDB_MODE is "offline".
        run_id: `run_id` of the run to go on with; None for a new one.
    """
    return WandbWriter(
        wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", workdir.name),
            dir=workdir,
            id=run_id,
            resume="allow",
            settings=wandb.Settings(console="off"),  # it would replace stdout and stderr
        )
    )


class WandbWriter(Tracker):
    """Writes to a run of W&B.

    A resumed run repeats the steps since its last checkpoint, bit for bit. W&B keeps the values
    that it has.

    Args:
        run: The run, started.
    """

    def __init__(self, run: wandb.Run) -> None:
        self._run = run
        self.run_id = run.id

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Writes the config, nested dicts of plain values; values of a resumed run may change."""
        self._run.config.update(dict(hparams), allow_val_change=True)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes numbers by name."""
        self._log(step, dict(scalars))

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes images, `(H, W, 3)` uint8 by name."""
        self._log(step, {name: wandb.Image(image) for name, image in images.items()})

    def write_videos(
        self, step: int, videos: Mapping[str, np.ndarray], *, frame_rate: float = 1.0
    ) -> None:
        """Writes videos, see `Tracker`."""
        self._log(
            step,
            {
                name: [
                    wandb.Video(io.BytesIO(encoding.mp4(clip, frame_rate)), format="mp4")
                    for clip in clips
                ]
                for name, clips in videos.items()
            },
        )

    def write_audios(
        self, step: int, audios: Mapping[str, np.ndarray], *, sample_rate: int
    ) -> None:
        """Writes sounds, `(N, S, C)` float in [-1, 1] by name."""
        self._log(
            step,
            {
                name: [wandb.Audio(sound, sample_rate=sample_rate) for sound in sounds]
                for name, sounds in audios.items()
            },
        )

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Writes texts by name."""
        self._log(
            step,
            {name: wandb.Html(f"<pre>{html.escape(text)}</pre>") for name, text in texts.items()},
        )

    def _log(self, step: int, values: dict[str, Any]) -> None:
        if step >= self._run.step:  # W&B takes no earlier one
            self._run.log(values, step=step)

    def flush(self) -> None:
        """Does nothing: W&B sends its log by itself."""

    def close(self, failed: bool = False) -> None:
        """Ends the run, see `Tracker`."""
        self._run.finish(exit_code=int(failed))
