"""Shards written with Apache Beam, on many machines or in Beam's own processes on one."""

from collections.abc import Sequence

from input_pipeline.prepare import shards, workers


class BeamError(workers.WorkerError):
    """A pipeline that could not be run."""


def write_shards(jobs: Sequence[shards.Job], arguments: Sequence[str]) -> None:
    """Writes shards on the runner that the flags select, each as `workers.write_shards` does.

    Every machine needs this package, and the source and the output under the same paths.

    Args:
        jobs: Shards to write.
        arguments: Flags of the pipeline, such as `--runner=FlinkRunner`.

    Raises:
        BeamError: Beam is not installed, or the pipeline failed.
    """
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise BeamError(
            "--beam needs Apache Beam, which is not installed: pip install apache-beam"
        ) from error
    if not jobs:
        return
    try:
        with apache_beam.Pipeline(options=PipelineOptions(list(arguments))) as pipeline:
            (
                pipeline
                | "Shards" >> apache_beam.Create(list(jobs))
                | "Spread" >> apache_beam.Reshuffle()
                | "Write" >> apache_beam.Map(workers.write_guarded)
            )
    except Exception as error:
        raise BeamError(f"--beam: the pipeline failed: {error}") from error
