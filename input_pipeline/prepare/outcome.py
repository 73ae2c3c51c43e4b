"""What a preparation leaves beside its shards: the report, and what makes the shards a data set."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np

from input_pipeline.datasets import listing
from input_pipeline.files import atomic
from input_pipeline.prepare import shards
from input_pipeline.prepare.output_plan import PrepareError
from input_pipeline.prepare.task import Task
from input_pipeline.prepared import manifest, metadata, preparation_report, records
from input_pipeline.programs import wording


def write_report(
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


def judge(task: Task, result: Mapping[str, object]) -> None:
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


def complete(
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
