"""MLflow. Its own environment variables choose the server and the experiment."""

import logging
import os
import pathlib
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from input_pipeline.programs import config_fields
from xkd_jax.run.trackers import encoding
from xkd_jax.run.trackers.tracker import PROJECT, Tracker

_BATCH = 100  # parameters that MLflow takes at once
_LONGEST = 6000  # letters of a parameter
# MLflow's own values would wait for a server that is not there for many minutes.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


def open_run(workdir: pathlib.Path, run_id: str | None) -> "MlflowWriter":
    """Starts a run of MLflow, or goes on with one.

    Args:
        workdir: Folder of the run. Without MLFLOW_TRACKING_URI, MLflow's database is `mlflow.db`
            there, and its files are in `mlflow`.
        run_id: `run_id` of the run to go on with; None for a new one.
    """
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):  # errors that they log, with tracebacks, they raise too
        logging.getLogger(name).setLevel(logging.CRITICAL)
    workdir = workdir.absolute()
    server = os.environ.get("MLFLOW_TRACKING_URI")
    client = MlflowClient(tracking_uri=server or f"sqlite:///{workdir / 'mlflow.db'}")
    if run_id is None:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = client.get_experiment_by_name(name)
        files = None if server else (workdir / "mlflow").as_uri()
        experiment = known.experiment_id if known else client.create_experiment(name, files)
        run_id = client.create_run(experiment, run_name=workdir.name).info.run_id
    else:
        client.update_run(run_id, status="RUNNING")
    return MlflowWriter(client, run_id)


class MlflowWriter(Tracker):
    """Writes to a run of MLflow: numbers as metrics, all else as files.

    Args:
        client: MLflow's client.
        run_id: Id of the run.
    """

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client = client
        self.run_id = run_id

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Writes the config, nested dicts of plain values, as parameters.

        MLflow refuses other values for those that it has. If a resumed run has other ones, the tag
        `resumed.NAME` holds the newest.
        """
        fields = config_fields.fields(hparams)
        values = {name: str(value)[:_LONGEST] for name, value in fields.items()}
        known = self._client.get_run(self.run_id).data.params
        new = [Param(name, value) for name, value in values.items() if name not in known]
        for start in range(0, len(new), _BATCH):
            self._client.log_batch(self.run_id, params=new[start : start + _BATCH])
        changed = [
            RunTag(f"resumed.{name}", values[name])
            for name in known
            if values.get(name, known[name]) != known[name]
        ]
        self._client.log_batch(self.run_id, tags=changed)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes numbers by name."""
        now = round(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in scalars.items()]
        self._client.log_batch(self.run_id, metrics=metrics)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes images, `(H, W, 3)` uint8 by name."""
        for name, image in images.items():
            self._write_file(f"{name}/{step:08d}.png", encoding.png(image))

    def write_videos(
        self, step: int, videos: Mapping[str, np.ndarray], *, frame_rate: float = 1.0
    ) -> None:
        """Writes videos, see `Tracker`."""
        for name, clips in videos.items():
            for number, clip in enumerate(clips):
                content = encoding.mp4(clip, frame_rate)
                self._write_file(f"{name}/{step:08d}_{number}.mp4", content)

    def write_audios(
        self, step: int, audios: Mapping[str, np.ndarray], *, sample_rate: int
    ) -> None:
        """Writes sounds, `(N, S, C)` float in [-1, 1] by name."""
        for name, sounds in audios.items():
            for number, sound in enumerate(sounds):
                content = encoding.wav(sound, sample_rate)
                self._write_file(f"{name}/{step:08d}_{number}.wav", content)

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Writes texts by name."""
        for name, text in texts.items():
            self._write_file(f"{name}/{step:08d}.txt", text.encode())

    def _write_file(self, path: str, content: bytes) -> None:
        folder, _, name = path.rpartition("/")
        with tempfile.TemporaryDirectory() as draft:
            (pathlib.Path(draft) / name).write_bytes(content)
            self._client.log_artifact(self.run_id, f"{draft}/{name}", folder)

    def flush(self) -> None:
        """Does nothing: every call has written what it was given."""

    def close(self, failed: bool = False) -> None:
        """Ends the run, see `Tracker`."""
        self._client.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")
