"""The pretrainings and evaluations that rows need on a base config, and which of them are done.

    OUTPUT/<row>/seed<n>           workdir of the pretraining, an ordinary run
    OUTPUT/<row>/seed<n>/<network> its evaluation
    OUTPUT/features                cache of features that evaluations share

Rows with the same config on this base, such as `xkd` and `student`, share one pretraining. It has
the name of the first of them.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from input_pipeline.files import sealed
from input_pipeline.programs import config_fields, former_names
from xkd_jax.ablation.selection import Selected
from xkd_jax.ablation.weights import Weights
from xkd_jax.config import checks, pretraining
from xkd_jax.downstream import results
from xkd_jax.encoders import pretrained
from xkd_jax.paper import rows
from xkd_jax.run import checkpoint, saved_checkpoint

EVALUATION = "configs/eval/compare.py"
# Fields that may change when a run is resumed, because they do not change what it learns.
_FREE = (
    *("log.", "saving.", "probe.", "parallel."),
    *("data.path", "data.sources", "data.threads", "data.prefetch"),
)
# Fields of an evaluation that do not change its results.
_PLACES = ("checkpoint", "features", "data.path", "data.threads", "data.prefetch")


class Base(NamedTuple):
    """The base config that rows change.

    Attributes:
        path: Path of the config file.
        flags: Flags `--config.FIELD=VALUE` that override its fields.
        config: The resulting config.
        as_paper: Whether rows get the paper's recipe too, in the fields that the base leaves at
            the paper's default, and its pretraining data.
        data: Folders of pretraining data that are not the base's, by name of the data set.
        weights: Weights of rows, by name of the row. If there are any, nothing is pretrained, and
            other rows are left out.
    """

    path: str
    flags: tuple[str, ...]
    config: ml_collections.ConfigDict
    as_paper: bool = False
    data: Mapping[str, str] = {}
    weights: Mapping[str, Weights] = {}


class NotKeptError(ValueError):
    """A pretraining has not kept a checkpoint that is to be evaluated."""


class Job(NamedTuple):
    """A pretraining and the rows that need it.

    Attributes:
        run: Name of the pretraining: the first row with its config.
        seed: Offset, from 0, that is added to the base's seed.
        rows: Names of the rows that need it.
        workdir: Workdir of the pretraining.
        parts: Number of its checkpoints to evaluate, evenly over its length.
        weights: Weights that stand for it; None if it is to be pretrained.
    """

    run: str
    seed: int
    rows: tuple[str, ...]
    workdir: pathlib.Path
    parts: int = 1
    weights: Weights | None = None

    @property
    def source(self) -> pathlib.Path:
        """Folder of the weights: the workdir, unless they are from elsewhere."""
        return pathlib.Path(self.weights.path) if self.weights else self.workdir

    def evaluation(self, name: str) -> pathlib.Path:
        """Returns the folder of an evaluation, by its name or its network."""
        return self.workdir / name

    def networks(self) -> tuple[str, ...]:
        """Returns the networks to evaluate, without duplicates."""
        return tuple(dict.fromkeys(rows.ROWS[row].network for row in self.rows))


def row_config(base: Base, row: str, seed: int) -> ml_collections.ConfigDict:
    """Builds the config of a row's pretraining.

    Args:
        base: Base config.
        row: Name of the row.
        seed: Offset that is added to the base's seed.
    """
    config = base.config.copy_and_resolve_references()
    config.update_from_flattened_dict(_changes(base, row, seed))
    return config


def _changes(base: Base, row: str, seed: int) -> dict[str, Any]:
    recipe = _papers_own(base, row) if base.as_paper else {}
    changes = rows.changed(base.config, rows.ROWS[row])
    return {"seed": base.config.seed + seed, **recipe, **changes}


def _papers_own(base: Base, row: str) -> dict[str, Any]:
    """Returns what else the paper's run of a row has, except where the base has its own value."""
    default = pretraining.get_config()
    fields = {
        field: value
        for field, value in rows.recipe_of(row).items()
        if config_fields.value_of(base.config, field) == config_fields.value_of(default, field)
    }
    data = rows.ROWS[row].data
    if data in base.data:
        fields |= {"data.dataset": "prepared", "data.path": base.data[data], "data.split": "train"}
        fields |= {"data.sources": (), "data.weights": ()}
    return fields


def runs_of_rows(base: Base) -> dict[str, str]:
    """Returns the name of each row's pretraining: the first row with the same config and data."""
    first: dict[tuple[str, str], str] = {}
    return {
        name: first.setdefault((row.data, _as_text(row_config(base, name, 0).to_dict())), name)
        for name, row in rows.ROWS.items()
    }


def _weights_of_runs(base: Base) -> dict[str, Weights]:
    """Returns the given weights by name of the pretraining that they stand for.

    Raises:
        ConfigError: Two rows of one pretraining have different weights.
    """
    if not base.weights:
        return {}
    runs, found = runs_of_rows(base), {}
    for row, weights in base.weights.items():
        if found.setdefault(runs[row], weights) != weights:
            raise checks.ConfigError(
                f"--checkpoint.{row}={weights.path}; allowed: {found[runs[row]].path}, since the "
                "row has the same pretraining"
            )
    return found


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def impossible(base: Base, selected: Sequence[Selected]) -> dict[str, str]:
    """Returns the selected rows that are impossible on this base, each with the reason."""
    reasons = {}
    given = _weights_of_runs(base)
    runs = runs_of_rows(base) if given else {}
    for row in _names(selected):
        if given:
            if runs[row] not in given:
                reasons[row] = f"its weights are not given: --checkpoint.{row}=FOLDER is missing"
            continue
        if reason := _lacks_data(base, row):
            reasons[row] = reason
            continue
        try:
            checks.check_step(row_config(base, row, 0))
        except checks.ConfigError as error:
            reasons[row] = str(error)
    return reasons


def _lacks_data(base: Base, row: str) -> str:
    """Returns why there are no data to pretrain a row on; empty if there are."""
    main, data = rows.ROWS["xkd"], rows.ROWS[row].data
    if data in (main.data, *base.data):
        return ""
    if base.as_paper:
        return f"the paper pretrains it on {data}: --data.{data}=DIR is missing"
    if rows.ROWS[row].changes == main.changes:
        return f"it is xkd on {data}: it needs --evaluate=paper and --data.{data}=DIR"
    return ""


def jobs(
    base: Base, selected: Sequence[Selected], seeds: Sequence[int], output: pathlib.Path
) -> list[Job]:
    """Lists the pretrainings that rows need: all with the first seed, then all with the next.

    Rows that are impossible on this base are left out.

    Args:
        base: Base config.
        selected: Rows by study.
        seeds: Offsets that are added to the base's seed.
        output: Folder of all runs.

    Returns:
        The jobs in the order in which to run them.

    Raises:
        ConfigError: All rows are impossible on this base.
    """
    left_out = impossible(base, selected)
    runs = runs_of_rows(base)
    wanted: dict[str, list[str]] = {}
    for row in _names(selected):
        if row not in left_out:
            wanted.setdefault(runs[row], []).append(row)
    if not wanted:
        row, reason = next(iter(left_out.items()))
        raise checks.ConfigError(f"row {row} is impossible on {base.path}: {reason}")
    given = _weights_of_runs(base)
    return [
        Job(
            run,
            seed,
            tuple(names),
            output / run / ("given" if given else f"seed{seed}"),
            _parts(base, selected, names),
            given.get(run),
        )
        for seed in seeds
        for run, names in wanted.items()
    ]


def _parts(base: Base, selected: Sequence[Selected], names: Sequence[str]) -> int:
    """Returns how many checkpoints of a pretraining the figures of its rows show."""
    if not base.as_paper:
        return 1
    return max(rows.STUDIES[s].checkpoints for s, shown in selected if set(shown) & set(names))


def _names(selected: Sequence[Selected]) -> list[str]:
    return list(dict.fromkeys(row for study in selected for row in study.rows))


def pretraining_flags(base: Base, job: Job) -> list[str]:
    """Returns the flags of `python -m xkd_jax.main` for a pretraining.

    The row's changes replace the user's flags for the same fields. If a field holds several values,
    a second flag would add to the first.
    """
    changes = {f"--config.{field}": v for field, v in _changes(base, job.run, job.seed).items()}
    if job.parts > 1:
        changes["--config.saving.milestones"] = job.parts
    flags = [flag for flag in base.flags if flag.partition("=")[0] not in changes]
    flags += [f"{name}={value}" for name, value in changes.items()]
    return [f"--config={base.path}", *flags, f"--workdir={job.workdir}"]


def evaluation_flags(base: Base, job: Job, network: str, flags: Sequence[str]) -> list[str]:
    """Returns the flags `--config.FIELD=VALUE` for an evaluation on the base's data.

    Args:
        base: Base config of the pretraining.
        job: The pretraining.
        network: `teacher` or `student`.
        flags: Flags `--config.FIELD=VALUE` that override fields of the evaluation.
    """
    data = base.config.data
    fields = {
        "checkpoint": job.workdir,
        "network": network,
        "data.dataset": data.dataset,
        "data.path": data.path,
        **{f"data.generated.{name}": value for name, value in data.generated.items()},
        # Rows of one architecture have the same features of initial weights.
        "features.cache": job.workdir.parents[1] / "features",
    }
    return [*(f"--config.{field}={value}" for field, value in fields.items()), *flags]


def is_pretrained(base: Base, job: Job) -> bool:
    """Returns whether a run's newest checkpoint is at or past `config.steps`, or weights are given.

    Returns False if `config.steps` is 0: then the length depends on the data, which only
    `xkd_jax.main` reads.
    """
    if job.weights:
        return True
    step = checkpoint.latest_step(job.workdir)
    return step is not None and 0 < base.config.steps <= step


def kept_checkpoint(job: Job, part: int, parts: int) -> pathlib.Path:
    """Returns the checkpoint at the end of one of the equal parts of a finished pretraining.

    Args:
        job: The pretraining.
        part: Which part, from 1.
        parts: Number of parts, as in `config.saving.milestones`.

    Raises:
        NotKeptError: The pretraining has not kept it.
    """
    last = checkpoint.latest_step(job.source) or 0
    path = job.source / "checkpoints" / str(min(last, part * checkpoint.interval(last, parts)))
    if not saved_checkpoint.is_checkpoint(path):
        raise NotKeptError(
            f"{path} is missing: this run has not kept its checkpoints; "
            f"another --output pretrains with config.saving.milestones={parts}, which does"
        )
    return path


def check_same_run(base: Base, job: Job) -> None:
    """Checks that a job's workdir does not hold the run of another config.

    Raises:
        ConfigError: A field differs; the message names the first one.
    """
    path = job.workdir / "config.json"
    if not path.is_file():
        return
    config = row_config(base, job.run, job.seed)
    theirs = config_fields.fields(_load(path))
    for field, value in config_fields.fields(json.loads(_as_text(config.to_dict()))).items():
        if not field.startswith(_FREE) and theirs.get(field, value) != value:
            raise checks.ConfigError(
                f"config.{field} is {value!r}; allowed: {theirs[field]!r}, as in the run in "
                f"{job.workdir}, or another --output"
            )


def evaluated(
    job: Job, name: str, protocol: ml_collections.ConfigDict | None = None
) -> dict[str, Any] | None:
    """Reads the results of an evaluation.

    Args:
        job: The pretraining.
        name: Name of the evaluation, such as `teacher`.
        protocol: Config that the evaluation must have; None accepts any.

    Returns:
        The content of `results.json`, or None if there is none with this protocol and these weights
        yet.

    Raises:
        ValueError: The file is damaged.
    """
    path = job.evaluation(name) / results.FILE
    if not path.is_file():
        return None
    content = _load(path)
    if not isinstance(content.get("protocol"), Mapping):
        raise ValueError(f"{path} is damaged: it lacks the protocol; remove it to evaluate again")
    if job.weights and not _is_of(job.weights, content):
        return None
    if protocol is None or (
        _relevant(content["protocol"]) == _relevant(json.loads(protocol.to_json()))
    ):
        return content
    return None


def _is_of(weights: Weights, content: Mapping[str, Any]) -> bool:
    """Returns whether results are of given weights, or of an earlier checkpoint of their run."""
    folder = pathlib.Path(weights.path)
    path = pathlib.Path(content["protocol"].get("checkpoint", ""))
    provenance = weights.provenance
    if path != folder:
        if folder not in path.parents:
            return False
        try:
            provenance = pretrained.load(path, lambda _: False).description["provenance"]
        except (OSError, ValueError):
            return False
    evaluated_on = content.get("checkpoint")
    return isinstance(evaluated_on, Mapping) and evaluated_on.get("provenance") == provenance


def _load(path: pathlib.Path) -> dict[str, Any]:
    """Reads a JSON file of named values.

    Raises:
        ValueError: The file is damaged.
    """
    content = sealed.load_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it does not hold named values")
    return content


def _relevant(protocol: Mapping[str, Any]) -> dict[str, Any]:
    fields = config_fields.fields(former_names.renamed(protocol))
    return {field: value for field, value in fields.items() if not field.startswith(_PLACES)}
