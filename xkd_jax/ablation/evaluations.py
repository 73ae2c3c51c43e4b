"""The evaluations of a pretraining: on the base's own data, or as the paper measures its tables.

OUTPUT/<run>/seed<n>/<network>                       on the base's data, by compare.py
OUTPUT/<run>/seed<n>/<network>/ucf101_svm_split1     as the paper, one folder each
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from input_pipeline import data_folders
from input_pipeline.prepared import records
from input_pipeline.programs import config_fields, config_flag
from xkd_jax.ablation import plan
from xkd_jax.ablation.selection import Selected
from xkd_jax.ablation.weights import Weights
from xkd_jax.downstream import comparable, protocols
from xkd_jax.paper import published, rows, tables
from xkd_jax.paper.tables import Benchmark, Table

FLAG = "--config."
DATASETS = tuple(dict.fromkeys(dataset for dataset, _ in tables.BENCHMARKS))
# Those that are finetuned on with larger frames, and those of pretraining that are not Kinetics400.
FINETUNED = tuple(b[0] for b in tables.BENCHMARKS if protocols.needs_large_frames(b))
PRETRAINING = tuple({row.data: None for row in rows.ROWS.values() if row.data != "kinetics400"})
# Fields that `Paper` sets.
_SET_HERE = ("checkpoint", "network", "untrained", "paper", "data.path", "data.partitions")


class Evaluation(NamedTuple):
    """An evaluation of a pretraining.

    Attributes:
        name: Path of its folder in the workdir of the pretraining.
        title: Description.
        config: Config file.
        flags: Flags `--config.FIELD=VALUE`.
        part: Which of the `parts` of the pretraining it evaluates the end of, from 1.
        parts: Number of equal parts of the pretraining.
    """

    name: str
    title: str
    config: str
    flags: tuple[str, ...]
    part: int = 1
    parts: int = 1

    def protocol(self) -> ml_collections.ConfigDict:
        """Loads its config."""
        return config_flag.load_config(self.config, self.flags)

    def command(self, job: plan.Job) -> list[str]:
        """Returns the flags of `python -m xkd_jax.main`, once the pretraining is at its end.

        Raises:
            NotKeptError: The pretraining has not kept the checkpoint.
        """
        flags = [f"--config={self.config}", *self.flags]
        if self.part < self.parts:
            path = plan.kept_checkpoint(job, self.part, self.parts)
            flags.append(f"{FLAG}checkpoint={path}")
        return [*flags, f"--workdir={job.evaluation(self.name)}"]


class Compare:
    """Evaluations on the base's own data, by configs/eval/compare.py.

    Args:
        base: Base config of the pretrainings.
        flags: Flags `--config.FIELD=VALUE` for all of them.

    Raises:
        ValueError: The base's data are a mixture, and no flag names others to evaluate on.
    """

    def __init__(self, base: plan.Base, flags: Sequence[str]) -> None:
        names_data = any(flag.startswith(f"{FLAG}data.path=") for flag in flags)
        if data_folders.is_mixture(base.config.data) and not names_data:
            raise ValueError(
                "--eval.data.path=DIR is missing; allowed: labeled data, as the mixture of "
                "config.data.sources has none"
            )
        self._base = base
        self._flags = flags

    def of(self, job: plan.Job) -> list[Evaluation]:
        """Lists the evaluations of a pretraining: one of each network."""
        return [
            Evaluation(
                network,
                f"the {network}",
                plan.EVALUATION,
                tuple(plan.evaluation_flags(self._base, job, network, self._flags)),
            )
            for network in job.networks()
        ]

    def draws(self, job: plan.Job) -> bool:
        """Returns whether a figure shows the pretraining itself: none does."""
        return False


class Folders(NamedTuple):
    """Folders of prepared data, by name of the data set.

    Attributes:
        evaluation: For evaluations of features, and of sounds by finetuning.
        finetuning: For finetuning on video, which needs larger frames.
        pretraining: For rows that the paper pretrains on other data than the base's.
    """

    evaluation: Mapping[str, str] = {}
    finetuning: Mapping[str, str] = {}
    pretraining: Mapping[str, str] = {}

    def of(self, benchmark: Benchmark) -> str | None:
        """Returns the folder for a benchmark, if there is one."""
        is_large = protocols.needs_large_frames(benchmark)
        return (self.finetuning if is_large else self.evaluation).get(benchmark[0])

    def check(self) -> None:
        """Checks that each folder holds the data set of its flag.

        Raises:
            ValueError: It does not, or is not prepared; the message names the flag.
        """
        for flag in self.flags():
            name, _, folder = flag.partition("=")
            dataset = name.partition(".")[2]
            allowed = f"allowed: a folder that input_pipeline.prepare --dataset={dataset} made"
            try:
                found = records.load_recipe(folder).dataset
            except OSError:
                raise ValueError(f"{flag} holds no prepared data; {allowed}") from None
            if found != dataset:
                raise ValueError(f"{flag} holds {found}; {allowed}")

    def flags(self) -> list[str]:
        """Returns the flags of `xkd_jax.ablate` that give these folders."""
        return [
            f"--{kind}.{dataset}={folder}"
            for kind, folders in zip(("eval", "finetune", "data"), self, strict=True)
            for dataset, folder in folders.items()
        ]


def missing_flag(benchmark: Benchmark) -> str:
    """Returns the name of the flag that gives the data of a benchmark."""
    return f"--{'finetune' if protocols.needs_large_frames(benchmark) else 'eval'}.{benchmark[0]}"


def table_of(study: rows.Study) -> Table:
    """Returns the paper's table of a study, or, of a figure, its results as a table.

    The paper's numbers in a figure are those that a table or the text has.
    """
    if study.table is not None:
        return study.table
    parts = study.checkpoints
    empty = Table("", study.title, study.benchmarks, (), study.splits, note=study.note, parts=parts)
    entries = [
        tables.Entry(
            f"{name} after {part}/{parts}" if part < parts else name,
            tuple(_published(name, b, empty) if part == parts else None for b in study.benchmarks),
            name,
            part=part,
        )
        for name in study.rows
        for part in range(1, parts + 1)
    ]
    return empty._replace(entries=tuple(entries))


def _published(row: str, benchmark: Benchmark, table: Table) -> float | None:
    return published.percent(row, benchmark, table.splits_of(benchmark[0]))


class Paper:
    """Evaluations by the paper's protocols, for the tables of the selected rows.

    Args:
        selected: Rows by study.
        folders: Folders of the data sets; a benchmark without a folder is left out.
        flags: Flags `--config.FIELD=VALUE`, each for the evaluations that have its field.

    Raises:
        ValueError: There are benchmarks, but no folder for any; or no evaluation has the field of a
            flag.
    """

    def __init__(
        self, selected: Sequence[Selected], folders: Folders, flags: Sequence[str]
    ) -> None:
        self._selected = selected
        self._folders = folders
        needed = {
            b: None for study, _ in selected for b in table_of(rows.STUDIES[study]).benchmarks
        }
        given = [benchmark for benchmark in needed if folders.of(benchmark)]
        if needed and not given:
            first = next(iter(needed))
            raise ValueError(
                f"{missing_flag(first)}=DIR is missing: the tables of --rows have columns of "
                f"{', '.join(map(tables.title, needed))}; allowed: the folder of at least one of "
                f"these data sets, such as {', '.join(dict.fromkeys(map(missing_flag, needed)))}"
            )
        self._flags = {benchmark: self._applicable(benchmark, flags) for benchmark in given}
        for flag in flags:
            if flag.removeprefix(FLAG).partition("=")[0] in _SET_HERE:
                raise ValueError(
                    f"--eval.{flag.removeprefix(FLAG)}; allowed with --evaluate=paper: other "
                    "fields, since the tables and the flags of the data sets set this one"
                )
            if not any(flag in applicable for applicable in self._flags.values()):
                name = flag.removeprefix(FLAG).partition("=")[0]
                raise ValueError(
                    f"--eval.{name} is not a field of these evaluations; allowed: fields of "
                    f"{', '.join(map(_config_file, given))}, or a data set: {', '.join(DATASETS)}"
                )

    def _applicable(self, benchmark: Benchmark, flags: Sequence[str]) -> tuple[str, ...]:
        fields = set(config_fields.fields(protocols.protocol(benchmark)))
        return tuple(f for f in flags if f.removeprefix(FLAG).partition("=")[0] in fields)

    def of(self, job: plan.Job) -> list[Evaluation]:
        """Lists the evaluations of a pretraining, each once for all tables."""
        found: dict[str, Evaluation] = {}
        for study, names in self._selected:
            table = table_of(rows.STUDIES[study])
            for entry in table.entries:
                if entry.row not in names or entry.row not in job.rows:
                    continue
                for benchmark in table.benchmarks:
                    if self._folders.of(benchmark):
                        evaluation = self._evaluation(job, entry, benchmark, table)
                        found.setdefault(evaluation.name, evaluation)
        return list(found.values())

    def draws(self, job: plan.Job) -> bool:
        """Returns whether a figure shows the pretraining itself."""
        return any(
            not table_of(rows.STUDIES[study]).benchmarks and set(names) & set(job.rows)
            for study, names in self._selected
        )

    def _evaluation(
        self, job: plan.Job, entry: tables.Entry, benchmark: Benchmark, table: Table
    ) -> Evaluation:
        folder, network = self._folders.of(benchmark), rows.ROWS[entry.row].network
        fields = {"checkpoint": job.source, "network": network, "data.path": folder}
        if benchmark[1] != "finetune":
            fields["features.cache"] = job.workdir.parents[1] / "features"
        splits = table.splits_of(benchmark[0])
        if splits == tables.SPLIT_1:
            fields["data.partitions"] = ("1",)
        flags = [f"{FLAG}{field}={value}" for field, value in fields.items()]
        after = "" if entry.part == table.parts else f"after {entry.part}/{table.parts}"
        title = f"{tables.title(benchmark)} of the {network}"
        return Evaluation(
            name(entry, benchmark, table),
            ", ".join(filter(None, (title, splits, after))),
            _config_file(benchmark),
            (*flags, *self._flags[benchmark]),
            entry.part,
            table.parts,
        )

    def gaps(self, table: Table) -> list[Benchmark]:
        """Lists the benchmarks of a table for which there are no data."""
        return [benchmark for benchmark in table.benchmarks if not self._folders.of(benchmark)]

    def differences(
        self, base: plan.Base, study: str, names: Sequence[str], jobs: Sequence[plan.Job] = ()
    ) -> list[str]:
        """Lists in words what is not as the paper has it in our numbers of a study.

        Args:
            base: Base config of the pretrainings.
            study: Name of the study.
            names: Rows of the study.
            jobs: Their pretrainings; those that are not here are the base's.
        """
        found: dict[str, None] = {}
        weights = {row: job.weights for job in jobs for row in job.rows}
        for row in names:
            found |= dict.fromkeys(_unlike_in_pretraining(base, row, weights.get(row)))
        for benchmark in table_of(rows.STUDIES[study]).benchmarks:
            if self._folders.of(benchmark):
                title = tables.title(benchmark)
                found |= {f"{title}: {text}": None for text in self._departures(benchmark)}
        return list(found)

    def _departures(self, benchmark: Benchmark) -> list[str]:
        data = f"{FLAG}data.path={self._folders.of(benchmark)}"
        flags = (data, *self._flags[benchmark])
        return protocols.departures(config_flag.load_config(_config_file(benchmark), flags))


Suite = Compare | Paper


def _unlike_in_pretraining(base: plan.Base, row: str, given: Weights | None) -> list[str]:
    if given is None:
        config = plan.row_config(base, row, 0).to_dict()
    elif given.config is None:
        return [f"how {given.path} was pretrained is not known"]
    else:
        config = given.config
    return comparable.differences(config, rows.ROWS[row].network, row)


def name(entry: tables.Entry, benchmark: Benchmark, table: Table) -> str:
    """Returns the name of the evaluation of one of our methods by a benchmark of a table."""
    splits = "_split1" if table.splits_of(benchmark[0]) == tables.SPLIT_1 else ""
    after = "" if entry.part == table.parts else f"_{entry.part}of{table.parts}"
    network = rows.ROWS[entry.row].network
    return os.path.join(network, "_".join(benchmark) + splits + after)


def _config_file(benchmark: Benchmark) -> str:
    """Returns the path of the config with the paper's protocol of a benchmark."""
    return f"configs/eval/{protocols.config_name(benchmark)}"


def scores(content: Mapping[str, Any]) -> dict[str, float]:
    """Returns the scores of an evaluation's `results.json` that a table shows, as shares of 1.

    Args:
        content: Content of the file.

    Returns:
        `ours`: the score to set beside the paper's, for which C is chosen on the test set as the
        paper chooses it. `held_out`: the score with C chosen on held-out recordings, if a C is
        chosen at all.
    """
    score = float(content["scores"][content["metric"]]["mean"])
    best = content["best_on_test"]
    if best is None or content["protocol"].get("classifier", {}).get("name") != "svm":
        return {"ours": score}
    return {"ours": float(best["mean"]), "held_out": score}
