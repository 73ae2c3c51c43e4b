"""Where a run lies on the axes of a figure: ours, and the paper's."""

from typing import NamedTuple

from input_pipeline.programs.config_fields import value_of
from xkd_jax.ablation import plan
from xkd_jax.config import pretraining
from xkd_jax.paper import rows
from xkd_jax.paper.tables import Entry, Table
from xkd_jax.run import data_log

# By number of a figure, the fields of the config on its axes.
_FIELDS = {
    "S1": ("xkd.ema_video",),
    "S2": ("model.video.mask_ratio", "model.audio.mask_ratio"),
}
RECORDINGS, LENGTH = "4", "S6"


def unit_of_length(base: plan.Base) -> str:
    """Returns what the length of our pretrainings is counted in, and the paper's length."""
    config = plan.row_config(base, "xkd", 0)
    unit, theirs = "steps" if config.steps else "epochs", pretraining.get_config().epochs
    is_same = not config.steps and config.epochs == theirs
    return f"{unit} of pretraining" + ("" if is_same else f" (the paper's: {theirs:g} epochs)")


class Place(NamedTuple):
    """The place of a method in a figure.

    Attributes:
        ours: A number for each axis, of our run; empty if it is not known.
        paper: The same of the paper's run. The length of a pretraining is counted in ours.
    """

    ours: tuple[float, ...] = ()
    paper: tuple[float, ...] = ()


def place(
    base: plan.Base, study: rows.Study, table: Table, entry: Entry, job: plan.Job | None
) -> Place:
    """Returns the place of a method in the figure of a study.

    Args:
        base: Base config of our runs.
        study: The study.
        table: Its table.
        entry: The method, one of ours.
        job: Its pretraining; None if it is impossible on this base.
    """
    number = next(iter(study.figures), "")
    if number == RECORDINGS:
        counts = job and data_log.read_counts(job.source)
        theirs = rows.RECORDINGS[rows.ROWS[entry.row].data]
        if counts:
            return Place((float(counts.used),), (float(theirs),))
        # Of weights without a log it is known which of the paper's runs they are.
        return Place((float(theirs),) if job and job.weights else (), (float(theirs),))
    if number == LENGTH:
        config = plan.row_config(base, entry.row, 0)
        so_far = (config.steps or config.epochs) * entry.part / table.parts
        return Place((so_far,), (so_far,))
    paper = pretraining.get_config()
    paper.update_from_flattened_dict(rows.changed(paper, rows.ROWS[entry.row]))
    configs = plan.row_config(base, entry.row, 0), paper
    return Place(*(tuple(value_of(c, f) for f in _FIELDS.get(number, ())) for c in configs))
