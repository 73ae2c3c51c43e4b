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

import pathlib
import sys
from collections.abc import Sequence

from input_pipeline import cores
from input_pipeline.datasets import listing
from input_pipeline.datasets.readers import READERS
from input_pipeline.prepare import workers
from input_pipeline.prepare.output_plan import PrepareError
from input_pipeline.prepare.preparation import prepare
from input_pipeline.prepare.task import Task
from input_pipeline.programs import program, wording


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
