"""What the writers for services have in common."""

import abc
from collections.abc import Mapping
from typing import Any

import numpy as np
from clu import metric_writers

# Name of the project or experiment that runs are filed under, unless the user's environment says.
PROJECT = "xkd_jax"


class Tracker(metric_writers.MetricWriter, abc.ABC):
    """Writes to one run of a service. Names of metrics and the like are as in `metrics.jsonl`.

    Attributes:
        run_id: The service's name of the run, with which a later process goes on with it.
    """

    run_id: str

    @abc.abstractmethod
    def write_videos(
        self, step: int, videos: Mapping[str, np.ndarray], *, frame_rate: float = 1.0
    ) -> None:
        """Writes videos.

        Args:
            step: Number of steps done.
            videos: `(N, T, H, W, 3)` uint8 by name.
            frame_rate: Frames per second.
        """

    def write_summaries(
        self, step: int, values: Mapping[str, Any], metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Refuses TensorBoard's own format."""
        raise NotImplementedError("summaries are for TensorBoard")

    def write_histograms(
        self,
        step: int,
        arrays: Mapping[str, np.ndarray],
        num_buckets: Mapping[str, int] | None = None,
    ) -> None:
        """Refuses histograms, which a run does not log."""
        raise NotImplementedError("a run logs no histograms")

    @abc.abstractmethod
    def close(self, failed: bool = False) -> None:
        """Writes what is left and ends the run.

        Args:
            failed: Whether to mark the run as failed.
        """
