"""Opens the writers that `config.log.writers` names."""

import importlib
import json
import pathlib
from collections.abc import Iterator, Sequence

from clu import metric_writers

from input_pipeline.files import atomic
from input_pipeline.programs import program
from xkd_jax.run import console
from xkd_jax.run.trackers import TrackerError
from xkd_jax.run.trackers.background import Background
from xkd_jax.run.trackers.tensorboard_writer import TensorBoardWriter

IDS = "trackers.json"
# Modules with `open_run(workdir, run_id)`, which import the library of the service.
_SERVICES = {
    "wandb": "xkd_jax.run.trackers.wandb_writer",
    "mlflow": "xkd_jax.run.trackers.mlflow_writer",
}


def open_writers(
    names: Sequence[str], workdir: pathlib.Path
) -> Iterator[metric_writers.MetricWriter]:
    """Opens the writers of a run.

    `trackers.json` in the workdir holds the services' names of the run, with which a resumed one
    goes on. It also goes on, with a warning, if a service is not there then.

    Args:
        names: Value of `config.log.writers`.
        workdir: Folder of the run.

    Yields:
        The writers, in this order.

    Raises:
        TrackerError: A service cannot start a new run, or `trackers.json` is damaged.
    """
    for name in names:
        if name == "tensorboard":
            yield TensorBoardWriter(str(workdir / "tensorboard"))
        elif writer := _open_service(name, workdir):
            yield writer


def _open_service(name: str, workdir: pathlib.Path) -> Background | None:
    ids = _read_ids(workdir / IDS)
    run_id = ids.get(name)
    try:
        writer = importlib.import_module(_SERVICES[name]).open_run(workdir, run_id)
    except Exception as error:  # of the service's library, of any kind
        reason = program.one_line(error)
        if run_id is None:
            raise TrackerError(
                f"config.log.writers names {name}, which cannot start a run: {reason}"
            ) from error
        console.warn(
            f"{name} cannot go on with its run {run_id}: {reason}. This run goes on without it, "
            "and metrics.jsonl has all of the log"
        )
        return None
    if writer.run_id != run_id:
        atomic.write_text(workdir / IDS, json.dumps(ids | {name: writer.run_id}))
    return Background(name, writer)


def _read_ids(path: pathlib.Path) -> dict[str, str]:
    """Reads the services' names of the run; none if there is no file."""
    if not path.exists():
        return {}
    try:
        ids = json.loads(path.read_bytes())
        if isinstance(ids, dict) and all(isinstance(value, str) for value in ids.values()):
            return ids
    except ValueError:
        pass
    raise TrackerError(
        f"{path} is damaged: it has to be a JSON object with the trackers' names of this run. "
        "Without it, they start new runs"
    )
