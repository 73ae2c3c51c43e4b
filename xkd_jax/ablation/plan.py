"""Which pretrainings and evaluations some rows need on a base config, and what is there already.

    OUTPUT/<row>/seed<n>           the pretraining: a run as any other
    OUTPUT/<row>/seed<n>/<network> its evaluation
    OUTPUT/features                what evaluations share

Rows that come to the same config on this base, as `xkd` and `student`, are pretrained once, under
the name of the first of them.
"""

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from input_pipeline import sealed
from xkd_jax import checkpoint, config_check
from xkd_jax.ablation import rows
from xkd_jax.downstream import results

EVALUATION = "configs/eval/compare.py"
# What may change between two starts of a run: not what it learns.
_FREE = ("log.", "checkpoint.", "probe.", "parallel.", "data.path", "data.threads", "data.prefetch")
# Fields of an evaluation that say where, not what.
_PLACES = ("checkpoint", "features", "data.path", "data.threads", "data.prefetch")


class Base(NamedTuple):
    """What all rows are changes of.

    Attributes:
        path: The config file.
        flags: `--config.FIELD=VALUE`, on top of it.
        config: Of both.
    """

    path: str
    flags: tuple[str, ...]
    config: ml_collections.ConfigDict


class Job(NamedTuple):
    """A pretraining, and what is to be evaluated of it.

    Attributes:
        run: Its name: that of a row.
        seed: From 0; added to that of the base.
        rows: Names of the rows that it is for.
        workdir: Of the pretraining.
    """

    run: str
    seed: int
    rows: tuple[str, ...]
    workdir: pathlib.Path

    def evaluation(self, network: str) -> pathlib.Path:
        """The folder of what a network's features are worth."""
        return self.workdir / network

    def networks(self) -> tuple[str, ...]:
        """Those to evaluate, none twice."""
        return tuple(dict.fromkeys(rows.ROWS[row].network for row in self.rows))


def row_config(base: Base, row: str, seed: int) -> ml_collections.ConfigDict:
    """The config of a row's pretraining.

    Raises:
        ConfigError: The row's changes are impossible on this base.
    """
    config = base.config.copy_and_resolve_references()
    config.update_from_flattened_dict(_changes(base, row, seed))
    return config


def _changes(base: Base, row: str, seed: int) -> dict[str, Any]:
    return {"seed": base.config.seed + seed, **rows.changed(base.config, rows.ROWS[row])}


def runs_of_rows(base: Base) -> dict[str, str]:
    """For each row the name of its pretraining: the first row with the same config."""
    first: dict[str, str] = {}
    return {
        row: first.setdefault(_as_text(row_config(base, row, 0).to_dict()), row)
        for row in rows.ROWS
    }


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def impossible(base: Base, selected: Sequence[rows.Selected]) -> dict[str, str]:
    """Of the selected rows, those that this base cannot have, and why not."""
    reasons = {}
    for row in _names(selected):
        try:
            config_check.check_step(row_config(base, row, 0))
        except config_check.ConfigError as error:
            reasons[row] = str(error)
    return reasons


def jobs(
    base: Base, selected: Sequence[rows.Selected], seeds: Sequence[int], output: pathlib.Path
) -> list[Job]:
    """The pretrainings that rows need: all with the first seed, then all with the next.

    Those of rows that are impossible on this base are left out.

    Raises:
        ConfigError: All of them are.
    """
    left_out = impossible(base, selected)
    runs = runs_of_rows(base)
    wanted: dict[str, list[str]] = {}
    for row in _names(selected):
        if row not in left_out:
            wanted.setdefault(runs[row], []).append(row)
    if not wanted:
        row, reason = next(iter(left_out.items()))
        raise config_check.ConfigError(f"row {row} is impossible on {base.path}: {reason}")
    return [
        Job(run, seed, tuple(names), output / run / f"seed{seed}")
        for seed in seeds
        for run, names in wanted.items()
    ]


def _names(selected: Sequence[rows.Selected]) -> list[str]:
    return list(dict.fromkeys(row for study in selected for row in study.rows))


def pretraining_flags(base: Base, job: Job) -> list[str]:
    """Of `python -m xkd_jax.main`; the row's changes last, for no flag of the user's to undo."""
    changes = [
        f"--config.{field}={value}" for field, value in _changes(base, job.run, job.seed).items()
    ]
    return [f"--config={base.path}", *base.flags, *changes, f"--workdir={job.workdir}"]


def evaluation_flags(base: Base, job: Job, network: str, flags: Sequence[str]) -> list[str]:
    """Likewise, of an evaluation on the base's data.

    Args:
        base: Of the pretraining.
        job: It.
        network: teacher or student.
        flags: `--config.FIELD=VALUE` of the evaluation, on top.
    """
    data = base.config.data
    fields = {
        "checkpoint": job.workdir,
        "network": network,
        "data.dataset": data.dataset,
        "data.path": data.path,
        **{f"data.generated.{name}": value for name, value in data.generated.items()},
        # Of fresh weights the features are the same for all rows of one architecture.
        "features.cache": job.workdir.parents[1] / "features",
    }
    return [
        f"--config={EVALUATION}",
        *(f"--config.{field}={value}" for field, value in fields.items()),
        *flags,
        f"--workdir={job.evaluation(network)}",
    ]


def is_pretrained(base: Base, job: Job) -> bool:
    """Whether a run has reached its end, as far as its folder says.

    One whose length is of epochs is known by `xkd_jax.main` alone, which knows the data.
    """
    step = checkpoint.latest_step(job.workdir)
    return step is not None and 0 < base.config.steps <= step


def check_same_run(base: Base, job: Job) -> None:
    """Refuses a folder that holds the run of another config.

    Raises:
        ConfigError: Naming the first field that differs.
    """
    path = job.workdir / "config.json"
    if not path.is_file():
        return
    config = row_config(base, job.run, job.seed)
    theirs = dict(_flat(sealed.load_json(path)))
    for field, value in _flat(json.loads(_as_text(config.to_dict()))):
        if not field.startswith(_FREE) and theirs.get(field, value) != value:
            raise config_check.ConfigError(
                f"config.{field} is {value!r}; allowed: {theirs[field]!r}, as {job.workdir} was "
                "begun with, or another --output"
            )


def evaluated(
    job: Job, network: str, protocol: ml_collections.ConfigDict | None = None
) -> dict[str, Any] | None:
    """What an evaluation has found; None where there is none yet, or none by this protocol.

    Args:
        job: The pretraining.
        network: Of it.
        protocol: The evaluation's config; None: any.
    """
    path = job.evaluation(network) / results.FILE
    if not path.is_file():
        return None
    found = sealed.load_json(path)
    if protocol is None or _what(found["protocol"]) == _what(json.loads(protocol.to_json())):
        return found
    return None


def _what(protocol: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in _flat(protocol) if not field.startswith(_PLACES)}


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
