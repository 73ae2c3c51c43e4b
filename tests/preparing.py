"""Preparing data without worker processes, which take seconds to start."""

from collections.abc import Callable, Sequence

from input_pipeline.prepare import shards, workers


def in_this_process(monkeypatch) -> None:
    """Has shards written in this process for the time of a test."""

    def write_shards(jobs: Sequence[shards.Job], count: int, advance: Callable[[int], None]):
        for job in jobs:
            shards.write(job)
            advance(len(job.entries))

    monkeypatch.setattr(workers, "write_shards", write_shards)
