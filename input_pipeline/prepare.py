"""Makes a data set of the media that people have: shards to train from, and a report.

    python -m input_pipeline.prepare --dataset=ucf101 --source=UCF --output=prepared/ucf101

SOURCE is the data set as its publisher lays it out (docs/data.md says how), OUTPUT becomes a folder
that TFDS reads. Stopped in any way and started again, it goes on with the shards that are not
finished, and the result is the same. Every recording is either in the data or, with the reason, in
OUTPUT/report.json.
"""

if __name__ == "__main__":  # before what takes long to import
    from input_pipeline import program

    program.start()

import argparse
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
import tqdm

from input_pipeline import (
    atomic,
    beam,
    manifest,
    metadata,
    records,
    report,
    shards,
    terminal,
    verification,
    workers,
)
from input_pipeline import plan as plans
from input_pipeline.datasets import listing
from input_pipeline.datasets.readers import READERS
from input_pipeline.plan import PrepareError

_VERSION = 2  # of what the same files and settings give
_FEWEST_SHARDS = 16  # of a split with as many recordings, so that many processes have work


@dataclasses.dataclass(frozen=True)
class Task:
    """What is to be prepared.

    Attributes:
        dataset: Name of the data set, out of `READERS`.
        source: Folder of its files.
        output: Folder to prepare it in.
        frame_rate: Frames per second to keep.
        short_side: Pixels of the frames' shorter side.
        require: What a recording must have, out of `listing.REQUIREMENTS`; empty: what its data
            set is there for.
        min_seconds: Shorter recordings are left out.
        max_seconds: Longer recordings are left out.
        shard_size: Largest number of recordings in a shard.
        max_bad_fraction: Share of recordings left out above which it fails.
        workers: Number of processes.
        beam: Flags of a Beam pipeline to run in place of processes; None for processes.
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
    """Prepares a data set, or what is missing of it.

    Args:
        task: What, from where, and how.

    Returns:
        The report, which is also written (docs/data.md describes it).

    Raises:
        PrepareError: An argument is not allowed, there is no data set in the source, the output
            holds something else, or too much is left out; in the last case the report is written.
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
    plan = _asked(task) | {
        "require": settings.require,
        "software": f"av {av.__version__}, pillow {PIL.__version__}",
        "files": plans.fingerprint(recordings, task.source),
    }
    for note in recordings.notes:
        print(f"note: {note}", flush=True)
    with plans.working_folder(task.output, plan):
        jobs = _jobs(task, recordings, settings, plan)
        # What is missing is known now, not after days of decoding.
        _judge(task, _write_report(task, recordings, jobs, plan))
        _write_shards(task, [job for of_split in jobs.values() for job in of_split])
        result = _write_report(task, recordings, jobs, plan)
        _judge(task, result)
        _complete(task, recordings, jobs)
    shutil.rmtree(task.output / plans.WORK)
    return result


def _check(task: Task) -> None:
    """Raises PrepareError where an argument is not allowed."""
    if task.dataset not in READERS:
        raise PrepareError(f"--dataset is {task.dataset!r}; allowed: {', '.join(READERS)}")
    if task.output.exists() and not task.output.is_dir():
        raise PrepareError(f"--output is {str(task.output)!r}, a file; allowed: a folder")
    output = task.output.resolve()
    if terminal.printable(str(output)) != str(output):  # ArrayRecord takes Unicode alone
        raise PrepareError(f"--output is {str(output)!r}; allowed: names in UTF-8, on one line")
    if task.source.resolve() in (output, *output.parents):
        raise PrepareError(f"--output is {str(task.output)!r}, in --source; allowed: elsewhere")
    if task.require and task.require not in listing.REQUIREMENTS:
        raise PrepareError(
            f"--require is {task.require!r}; allowed: {', '.join(listing.REQUIREMENTS)}"
        )
    lowest, highest = records.FRAME_RATES
    limits = {
        "frame_rate": (lowest <= task.frame_rate <= highest, f"{lowest:g} to {highest:g}"),
        "short_side": (16 <= task.short_side <= 4096, "16 to 4096"),
        "min_seconds": (0 <= task.min_seconds < task.max_seconds, "0 or more, below max_seconds"),
        "max_seconds": (task.max_seconds <= 4 * 3600, "at most 14400"),  # a record has 2 GB
        "shard_size": (task.shard_size >= 1, "1 or more"),
        "max_bad_fraction": (0 <= task.max_bad_fraction <= 1, "0 to 1"),
        "workers": (task.workers >= 1, "1 or more; 0 for one a core"),
    }
    for name, (allowed, words) in limits.items():
        if not allowed:
            raise PrepareError(f"--{name} is {getattr(task, name)}; allowed: {words}")


def _finished(task: Task) -> dict[str, object] | None:
    """The report of a data set that is complete, or None."""
    try:
        recipe = records.load_recipe(task.output)
        verification.check(task.output, recipe, metadata.splits(task.output, recipe))
        result = verification.load_report(task.output)
        begun = result["plan"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise PrepareError(f"--output is {str(task.output)!r}, where {error}") from error
    plans.compare(task.output, begun, _asked(task))
    shutil.rmtree(task.output / plans.WORK, ignore_errors=True)
    return result


def _list(task: Task) -> listing.Listing:
    """The recordings in the source."""
    if task.dataset != "generated" and not task.source.is_dir():
        raise PrepareError(f"--source is {str(task.source)!r}; allowed: a folder that exists")
    try:
        return READERS[task.dataset](task.source)
    except listing.AnnotationsError as error:
        raise PrepareError(
            f"--source is {str(task.source)!r}, in which {error}; allowed: annotations as they are "
            "published; mend it, or take it away if it is none"
        ) from error
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise PrepareError(f"--source is {str(task.source)!r}, which {reason}") from error
    except ValueError as error:
        raise PrepareError(
            f"--source is {str(task.source)!r}, which does not hold {task.dataset}: there is "
            f"{error} in it or below it"
        ) from error


def _asked(task: Task) -> dict[str, object]:
    """What was asked for, as far as what is written depends on it."""
    names = ("dataset", "frame_rate", "short_side", "min_seconds", "max_seconds", "shard_size")
    asked = {name: getattr(task, name) for name in names}
    if task.require:
        asked["require"] = task.require
    source = terminal.printable(str(task.source.resolve()))
    return asked | {"version": _VERSION, "source": source}


def _jobs(
    task: Task,
    recordings: listing.Listing,
    settings: shards.Settings,
    plan: dict[str, object],
) -> dict[str, list[shards.Job]]:
    """The shards of each split; the same whatever the number of workers or of broken files."""
    mark = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
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
                plan=mark,
            )
            for number, (begin, end) in enumerate(zip([0, *ends], ends, strict=False))
        ]
    return jobs


def _write_shards(task: Task, jobs: Sequence[shards.Job]) -> None:
    """Writes those shards that are not finished."""
    waiting = [job for job in jobs if shards.finished(job) is None]
    clips = sum(len(job.entries) for job in jobs)
    done = clips - sum(len(job.entries) for job in waiting)
    if done:
        print(f"{task.output}: going on after {done} of {clips} recordings", flush=True)
    if task.beam is not None:
        beam.write_shards(waiting, task.beam)
        return
    name = f"preparing {task.dataset}"
    with tqdm.tqdm(None, name, clips, initial=done, unit="clip", disable=None) as progress:
        workers.write_shards(waiting, task.workers, progress.update)


def _write_report(
    task: Task,
    recordings: listing.Listing,
    jobs: Mapping[str, Sequence[shards.Job]],
    plan: dict[str, object],
) -> dict[str, object]:
    """Writes the report of what has been done so far, and returns it."""
    left_out = [dataclasses.asdict(problem) for problem in recordings.left_out]
    splits: dict[str, dict[str, object]] = {}
    for split in sorted({*recordings.splits, *(problem["split"] for problem in left_out)}):
        kept, size, not_read = [], 0, 0
        for job in jobs.get(split, ()):
            if (note := shards.finished(job)) is None:
                not_read += len(job.entries)
                continue
            kept += note.kept
            size += note.file.bytes
            left_out += [
                {"split": split, "name": job.entries[place].name, "reason": reason}
                for place, reason in sorted(note.left_out.items())
            ]
        splits[split] = report.split_counts(
            frames=[frames for _, frames, _ in kept],
            samples=[samples for _, _, samples in kept],
            frame_rate=task.frame_rate,
            reasons=[item["reason"] for item in left_out if item["split"] == split],
            not_read=not_read,
            size=size,
        )
    total = report.total(splits.values())
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
    report.write(task.output, result)
    return result


def _judge(task: Task, result: Mapping[str, object]) -> None:
    """Raises PrepareError where too much is left out."""
    total = result["total"]
    why = f"{report.in_words(total['reasons'])} (see {task.output / 'report.json'})"
    if total["kept"] + total["not_read"] == 0:
        raise PrepareError(f"--source is {str(task.source)!r}, where nothing is usable: {why}")
    bad = report.bad_fraction(total)
    if bad > task.max_bad_fraction:
        raise PrepareError(
            f"--max_bad_fraction is {task.max_bad_fraction}, but {bad:.3g} of {total['listed']} "
            f"recordings cannot be had: {why}"
        )


def _complete(
    task: Task, recordings: listing.Listing, jobs: Mapping[str, Sequence[shards.Job]]
) -> None:
    """Writes what makes shards a data set."""
    lengths, sizes, shard_files = {}, {}, {}
    for split, of_split in jobs.items():
        notes = [shards.finished(job) for job in of_split]
        kept = [
            (job.entries[place], frames, samples)
            for job, note in zip(of_split, notes, strict=True)
            for place, frames, samples in note.kept
        ]
        roles = [entry.roles for entry, _, _ in kept]
        records.Index(
            names=[entry.name for entry, _, _ in kept],
            labels=[entry.labels for entry, _, _ in kept],
            roles=np.array(roles, np.int64).reshape(len(kept), len(recordings.partitions)),
            frames=np.array([frames for _, frames, _ in kept], np.int64),
            samples=np.array([samples for _, _, samples in kept], np.int64),
        ).save(records.index_path(task.output, split))
        lengths[split] = [len(note.kept) for note in notes]
        sizes[split] = sum(note.file.bytes for note in notes)
        shard_files |= {
            os.path.basename(job.path): note.file for job, note in zip(of_split, notes, strict=True)
        }
    with atomic.named(task.output):
        metadata.write(task.output, task.dataset, lengths, sizes)
    # What the shards are is known since they were written: what happens to them from then on shows.
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


def _parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m input_pipeline.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flag = parser.add_argument
    flag("--dataset", required=True, help=", ".join(READERS))
    flag("--source", required=True, type=pathlib.Path, help="folder of media and annotations")
    flag("--output", required=True, type=pathlib.Path, help="folder to prepare the data in")
    flag("--workers", type=int, default=0, help="processes, changes no byte (0: one a core)")
    flag("--frame_rate", type=float, default=8.0, help="frames per second to keep (8)")
    flag("--short_side", type=int, default=128, help="pixels of the frames' shorter side (128)")
    flag("--require", default="", help=f"{', '.join(listing.REQUIREMENTS)}: what a recording must "
         "have to be kept (sound for esc50 and fsd50k, else picture)")  # fmt: skip
    flag("--min_seconds", type=float, default=0.0, help="leave out shorter recordings (0)")
    flag("--max_seconds", type=float, default=3600.0, help="leave out longer recordings (3600)")
    flag("--max_bad_fraction", type=float, default=0.05, help="fail, with exit code 1 and after "
         "writing the report, above this share of recordings left out (0.05)")  # fmt: skip
    flag("--shard_size", type=int, default=256, help="most recordings in a shard (256)")
    flag("--beam", action="store_true", help="run on Apache Beam; all flags not named here, such "
         "as --runner, are Beam's")  # fmt: skip
    return parser


def _cores() -> int:
    """Number of cores this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepares a data set as the command line says; returns the exit code."""
    parser = _parser()
    flags, others = parser.parse_known_args(arguments)
    values = vars(flags)
    values["workers"] = values["workers"] or _cores()
    values["beam"] = tuple(others) if values["beam"] else None
    if others and values["beam"] is None:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    task = Task(**values)
    try:
        result = prepare(task)
    except (PrepareError, workers.WorkerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    total = result["total"]
    words = (
        f"{task.output}: {total['kept']} recordings, {total['video_seconds']:.0f} s of picture and "
        f"{total['sound_seconds']:.0f} s of sound, {total['without_sound']} without sound"
    )
    if total["left_out"]:
        words += f"; left out {total['left_out']}: {report.in_words(total['reasons'])}"
    print(f"{words} (see {task.output / 'report.json'})")
    return 0


if __name__ == "__main__":
    # TensorFlow only writes down what the shards hold: nothing that it says matters here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    sys.exit(main())
