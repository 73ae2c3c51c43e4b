"""Prepares a data set: lists its recordings, divides them into shards, and has these written."""

import hashlib
import json
import shutil
from collections.abc import Sequence

import av
import PIL

from input_pipeline.datasets import listing, readers, source_files
from input_pipeline.prepare import beam, outcome, shards, workers
from input_pipeline.prepare import output_plan as plans
from input_pipeline.prepare.output_plan import PrepareError
from input_pipeline.prepare.task import Task, check, requested
from input_pipeline.prepared import metadata, records, verification
from input_pipeline.programs import progress, wording

_FEWEST_SHARDS = 16  # shards of a split with that many recordings, so that many processes have work


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
    check(task)
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
    plan = requested(task) | {
        "require": settings.require,
        "software": f"av {av.__version__}, pillow {PIL.__version__}",
        "files": plans.fingerprint(recordings, task.source),
    }
    for note in recordings.notes:
        print(f"note: {note}", flush=True)
    with plans.working_folder(task.output, plan):
        jobs = _jobs(task, recordings, settings, plan)
        # Fail now if too many files are missing, not after days of decoding.
        outcome.judge(task, outcome.write_report(task, recordings, jobs, plan))
        _write_shards(task, [job for split_jobs in jobs.values() for job in split_jobs])
        result = outcome.write_report(task, recordings, jobs, plan)
        outcome.judge(task, result)
        outcome.complete(task, recordings, jobs)
    shutil.rmtree(task.output / plans.WORK)
    return result


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
    plans.compare(task.output, plan, requested(task))
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
