"""Command that prepares a data set of media files: it makes shards to train from, and a report.

    python -m input_pipeline.prepare --dataset=ucf101 --source=UCF --output=prepared/ucf101

SOURCE is the data set as its publisher lays it out (see docs/data.md). OUTPUT becomes a folder that
TFDS reads. If the command is stopped and run again, it continues with the shards that are not
finished, and the result is the same. Every recording is either in the data or in OUTPUT/report.json
with the reason why it was left out.
"""

if __name__ == "__main__":  # before the slow imports
    from input_pipeline.programs import program

    program.start()

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Mapping, Sequence

import av
import numpy as np
import PIL

from input_pipeline import cores
from input_pipeline.datasets import listing, readers, source_files
from input_pipeline.datasets.readers import READERS
from input_pipeline.files import atomic
from input_pipeline.prepare import beam, shards, workers
from input_pipeline.prepare import output_plan as plans
from input_pipeline.prepare.output_plan import PrepareError
from input_pipeline.prepared import manifest, metadata, preparation_report, records, verification
from input_pipeline.programs import program, progress, terminal, wording

_VERSION = 2  # increases when the same files and settings give other data
_FEWEST_SHARDS = 16  # shards of a split with that many recordings, so that many processes have work


@dataclasses.dataclass(frozen=True)
class Task:
    """A data set to prepare.

    Attributes:
        dataset: Name of the data set, from `READERS`.
        source: Folder with the files of the data set.
        output: Folder to prepare the data set in.
        frame_rate: Frames per second to keep.
        short_side: Shorter side of the frames in pixels.
        require: What a recording must have, from `listing.REQUIREMENTS`. Empty for the default of
            the data set.
        min_seconds: Recordings shorter than this are left out.
        max_seconds: Recordings longer than this are left out.
        shard_size: Largest number of recordings in a shard.
        max_bad_fraction: Largest share of recordings that may be left out.
        workers: Number of processes.
        beam: Flags of the Beam pipeline to run. None to use processes instead.
    """

    dataset: str
    source: pathlib.Path
    output: pathlib.Path
    frame_rate: float = 8.0
    short_side: int = 128
    require: str = ""
    min_seconds: float = 0.0
    max_seconds: float = 3600.0
    shard_size: int = 256
    max_bad_fraction: float = 0.05
    workers: int = 1
    beam: tuple[str, ...] | None = None


def prepare(task: Task) -> dict[str, object]:
    """Prepares a data set, or the part of it that is missing.

    Args:
        task: The data set and the settings.

    Returns:
        The report, which is also written to the output (see docs/data.md).

    Raises:
        PrepareError: An argument is not allowed, the source holds no such data set, the output
            holds something else, or too much is left out. In the last case the report is written
            first.
    """
    _check(task)
    if (finished := _finished(task)) is not None:
        return finished
    recordings = _list(task)
    settings = shards.Settings(
        frame_rate=task.frame_rate,
        short_side=task.short_side,
        require=task.require or recordings.require,
        min_seconds=task.min_seconds,
        max_seconds=task.max_seconds,
    )
    plan = _requested(task) | {
        "require": settings.require,
        "software": f"av {av.__version__}, pillow {PIL.__version__}",
        "files": plans.fingerprint(recordings, task.source),
    }
    for note in recordings.notes:
        print(f"note: {note}", flush=True)
    with plans.working_folder(task.output, plan):
        jobs = _jobs(task, recordings, settings, plan)
        # Fail now if too many files are missing, not after days of decoding.
        _judge(task, _write_report(task, recordings, jobs, plan))
        _write_shards(task, [job for split_jobs in jobs.values() for job in split_jobs])
        result = _write_report(task, recordings, jobs, plan)
        _judge(task, result)
        _complete(task, recordings, jobs)
    shutil.rmtree(task.output / plans.WORK)
    return result


def _check(task: Task) -> None:
    """Checks the arguments.

    Raises:
        PrepareError: An argument is not allowed.
    """
    if task.dataset not in READERS:
        raise PrepareError(f"--dataset is {task.dataset!r}; allowed: {', '.join(READERS)}")
    if task.output.exists() and not task.output.is_dir():
        raise PrepareError(f"--output is {str(task.output)!r}, a file; allowed: a folder")
    output = task.output.resolve()
    if terminal.printable(str(output)) != str(output):  # ArrayRecord accepts Unicode only
        raise PrepareError(f"--output is {str(output)!r}; allowed: names in UTF-8, on one line")
    if task.source.resolve() in (output, *output.parents):
        raise PrepareError(
            f"--output is {str(task.output)!r}, inside --source; allowed: a folder outside it"
        )
    if task.require and task.require not in listing.REQUIREMENTS:
        raise PrepareError(
            f"--require is {task.require!r}; allowed: {', '.join(listing.REQUIREMENTS)}"
        )
    lowest, highest = records.FRAME_RATES
    smallest, largest = records.SHORT_SIDES
    limits = {
        "frame_rate": (lowest <= task.frame_rate <= highest, f"{lowest:g} to {highest:g}"),
        "short_side": (smallest <= task.short_side <= largest, f"{smallest} to {largest}"),
        "min_seconds": (0 <= task.min_seconds < task.max_seconds, "0 or more, below max_seconds"),
        "max_seconds": (task.max_seconds <= 4 * 3600, "at most 14400"),  # a record holds 2 GB
        "shard_size": (task.shard_size >= 1, "1 or more"),
        "max_bad_fraction": (0 <= task.max_bad_fraction <= 1, "0 to 1"),
        "workers": (task.workers >= 1, "1 or more; 0 for one per core"),
    }
    for name, (is_allowed, allowed) in limits.items():
        if not is_allowed:
            raise PrepareError(f"--{name} is {getattr(task, name)}; allowed: {allowed}")


def _finished(task: Task) -> dict[str, object] | None:
    """Returns the report of a data set that is complete, or None if it is not complete.

    Raises:
        PrepareError: The data set is damaged, or was prepared with other settings.
    """
    try:
        recipe = records.load_recipe(task.output)
        verification.check(task.output, recipe, metadata.splits(task.output, recipe))
        result = verification.load_report(task.output)
        plan = result["plan"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise PrepareError(f"--output is {str(task.output)!r}, where {error}") from error
    plans.compare(task.output, plan, _requested(task))
    shutil.rmtree(task.output / plans.WORK, ignore_errors=True)
    return result


def _list(task: Task) -> listing.Listing:
    """Lists the recordings in the source.

    Raises:
        PrepareError: The source cannot be read, or does not hold the data set.
    """
    if task.dataset != "generated" and not task.source.is_dir():
        raise PrepareError(f"--source is {str(task.source)!r}; allowed: a folder that exists")
    try:
        return readers.read(task.dataset, task.source)
    except source_files.AnnotationsError as error:
        raise PrepareError(
            f"--source is {str(task.source)!r}, in which {error}; allowed: annotations as they are "
            "published; repair that file, or remove it if it holds no annotations"
        ) from error
    except OSError as error:
        raise PrepareError(
            f"--source is {str(task.source)!r}, which cannot be read: {error.strerror}"
        ) from error
    except ValueError as error:
        raise PrepareError(
            f"--source is {str(task.source)!r}, which does not hold {task.dataset}: there is "
            f"{error} in it or below it"
        ) from error


def _requested(task: Task) -> dict[str, object]:
    """Returns the settings of the task that the written data depend on."""
    names = ("dataset", "frame_rate", "short_side", "min_seconds", "max_seconds", "shard_size")
    settings = {name: getattr(task, name) for name in names}
    if task.require:
        settings["require"] = task.require
    source = terminal.printable(str(task.source.resolve()))
    return settings | {"version": _VERSION, "source": source}


def _jobs(
    task: Task,
    recordings: listing.Listing,
    settings: shards.Settings,
    plan: dict[str, object],
) -> dict[str, list[shards.Job]]:
    """Divides each split into shards, in the same way for any number of workers or broken files."""
    plan_digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
    jobs: dict[str, list[shards.Job]] = {}
    for split, entries in recordings.splits.items():
        count = max(-(-len(entries) // task.shard_size), min(len(entries), _FEWEST_SHARDS))
        ends = [len(entries) * (number + 1) // count for number in range(count)]
        jobs[split] = [
            shards.Job(
                path=str(metadata.shard_path(task.output, task.dataset, split, number, count)),
                note_path=str(task.output / plans.WORK / f"{split}-{number:05d}.json"),
                root=str(task.source),
                entries=entries[begin:end],
                settings=settings,
                plan=plan_digest,
            )
            for number, (begin, end) in enumerate(zip([0, *ends], ends, strict=False))
        ]
    return jobs


def _write_shards(task: Task, jobs: Sequence[shards.Job]) -> None:
    """Writes the shards that are not finished."""
    waiting = [job for job in jobs if shards.finished(job) is None]
    total = sum(len(job.entries) for job in jobs)
    done = total - sum(len(job.entries) for job in waiting)
    if done:
        print(
            f"{task.output}: continuing after {done} of {wording.counted(total, 'recording')}",
            flush=True,
        )
    if task.beam is not None:
        beam.write_shards(waiting, task.beam)
        return
    name = f"preparing {task.dataset}"
    with progress.bar(name, total, "recording", done=done) as bar:
        workers.write_shards(waiting, task.workers, bar.update)


def _write_report(
    task: Task,
    recordings: listing.Listing,
    jobs: Mapping[str, Sequence[shards.Job]],
    plan: dict[str, object],
) -> dict[str, object]:
    """Writes the report on what has been done so far, and returns it."""
    left_out = [dataclasses.asdict(problem) for problem in recordings.left_out]
    splits: dict[str, dict[str, object]] = {}
    for split in sorted({*recordings.splits, *(problem["split"] for problem in left_out)}):
        records_kept, size, not_read = [], 0, 0
        for job in jobs.get(split, ()):
            if (note := shards.finished(job)) is None:
                not_read += len(job.entries)
                continue
            records_kept += note.kept
            size += note.file.bytes
            left_out += [
                {"split": split, "name": job.entries[place].name, "reason": reason}
                for place, reason in sorted(note.left_out.items())
            ]
        splits[split] = preparation_report.split_counts(
            frames=[frames for _, frames, _ in records_kept],
            samples=[samples for _, _, samples in records_kept],
            frame_rate=task.frame_rate,
            reasons=[item["reason"] for item in left_out if item["split"] == split],
            not_read=not_read,
            size=size,
        )
    total = preparation_report.total(splits.values())
    result = {
        "dataset": task.dataset,
        "complete": total["not_read"] == 0,
        "total": total,
        "splits": splits,
        "ignored_files": recordings.ignored,
        "notes": list(recordings.notes),
        "plan": plan,
        "left_out": sorted(left_out, key=lambda item: (item["split"], item["name"])),
    }
    preparation_report.write(task.output, result)
    return result


def _judge(task: Task, result: Mapping[str, object]) -> None:
    """Checks that not too much is left out.

    Raises:
        PrepareError: Too much is left out.
    """
    total = result["total"]
    reasons = f"{wording.in_words(total['reasons'])} (see {task.output / 'report.json'})"
    if total["kept"] + total["not_read"] == 0:
        raise PrepareError(f"--source is {str(task.source)!r}, where nothing is usable: {reasons}")
    bad = _bad_fraction(total)
    if bad > task.max_bad_fraction:
        raise PrepareError(
            f"--max_bad_fraction is {task.max_bad_fraction}, but {bad:.3g} of {total['listed']} "
            f"recordings are left out: {reasons}"
        )


def _bad_fraction(counts: Mapping[str, object]) -> float:
    """Returns the share of a data set's recordings that are left out.

    Files that the annotations do not name, duplicates, and recordings outside the splits do not
    count as recordings of the data set.
    """
    not_counted = (listing.NOT_LISTED, listing.DUPLICATE, listing.BESIDE_SPLITS)
    others = sum(counts["reasons"].get(reason, 0) for reason in not_counted)
    listed = counts["listed"] - others
    return (counts["left_out"] - others) / listed if listed else 0.0


def _complete(
    task: Task, recordings: listing.Listing, jobs: Mapping[str, Sequence[shards.Job]]
) -> None:
    """Writes the indices, TFDS's metadata and the recipe, which make the shards a data set."""
    lengths, sizes, shard_files = {}, {}, {}
    for split, split_jobs in jobs.items():
        notes = [shards.finished(job) for job in split_jobs]
        rows = [
            (job.entries[place], frames, samples)
            for job, note in zip(split_jobs, notes, strict=True)
            for place, frames, samples in note.kept
        ]
        roles = [entry.roles for entry, _, _ in rows]
        records.Index(
            names=[entry.name for entry, _, _ in rows],
            labels=[entry.labels for entry, _, _ in rows],
            roles=np.array(roles, np.int64).reshape(len(rows), len(recordings.partitions)),
            frames=np.array([frames for _, frames, _ in rows], np.int64),
            samples=np.array([samples for _, _, samples in rows], np.int64),
        ).save(records.index_path(task.output, split))
        lengths[split] = [len(note.kept) for note in notes]
        sizes[split] = sum(note.file.bytes for note in notes)
        shard_files |= {
            os.path.basename(job.path): note.file
            for job, note in zip(split_jobs, notes, strict=True)
        }
    with atomic.named(task.output):
        metadata.write(task.output, task.dataset, lengths, sizes)
    # The shards' digests were taken when they were written, so later changes to them are noticed.
    files = {
        name: shard_files.get(name) or manifest.describe(task.output / name)
        for name in metadata.list_files(task.output, task.dataset, sorted(jobs))
    }
    records.Recipe(
        dataset=task.dataset,
        frame_rate=task.frame_rate,
        short_side=task.short_side,
        class_names=recordings.class_names,
        partitions=recordings.partitions,
        contents=manifest.Manifest(tuple(sorted(jobs)), files),
    ).save(task.output)


def _parser() -> program.Parser:
    """Returns the parser of the command line."""
    parser = program.Parser("input_pipeline.prepare", __doc__)
    flag = parser.add_argument
    flag("--dataset", required=True, help=", ".join(READERS))
    flag("--source", required=True, type=pathlib.Path, help="folder of media and annotations")
    flag("--output", required=True, type=pathlib.Path, help="folder to prepare the data in")
    flag("--workers", type=int, default=0, help="processes; no effect on data (0: one per core)")
    flag("--frame_rate", type=float, default=8.0, help="frames per second to keep (8)")
    flag("--short_side", type=int, default=128, help="shorter side of the frames in pixels (128)")
    flag("--require", default="", help=f"{', '.join(listing.REQUIREMENTS)}: what a recording must "
         "have to be kept (sound for esc50 and fsd50k, else picture)")  # fmt: skip
    flag("--min_seconds", type=float, default=0.0, help="leave out shorter recordings (0)")
    flag("--max_seconds", type=float, default=3600.0, help="leave out longer recordings (3600)")
    flag("--max_bad_fraction", type=float, default=0.05, help="fail, with exit code 1 and after "
         "writing the report, above this share of recordings left out (0.05)")  # fmt: skip
    flag("--shard_size", type=int, default=256, help="most recordings in one shard (256)")
    flag("--beam", action="store_true", help="run on Apache Beam, which gets all flags not named "
         "here, such as --runner")  # fmt: skip
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepares a data set as the command line says, and returns the exit code."""
    parser = _parser()
    flags, others = parser.parse_known_args(arguments)
    values = vars(flags)
    values["workers"] = values["workers"] or cores.count()
    values["beam"] = tuple(others) if values["beam"] else None
    if others and values["beam"] is None:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    task = Task(**values)
    try:
        result = prepare(task)
    except (PrepareError, workers.WorkerError, OSError) as error:
        print(f"error: {program.one_line(error)}", file=sys.stderr)
        return 1
    total = result["total"]
    summary = (
        f"{task.output}: {wording.counted(total['kept'], 'recording')}, "
        f"{total['video_seconds']:.0f} s of picture and "
        f"{total['sound_seconds']:.0f} s of sound, {total['without_sound']} without sound"
    )
    if total["left_out"]:
        summary += f"; left out {total['left_out']}: {wording.in_words(total['reasons'])}"
    print(f"{summary} (see {task.output / 'report.json'})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
