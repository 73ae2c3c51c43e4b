"""Every row of the paper's ablations as changes of a config, with the paper's numbers.

The numbers are in `xkd_jax.paper.published`; a row names their titles there. A row has no
numbers if the paper only shows a curve or makes a remark. docs/method.md knows the paper's tables
only as groups: Tables 1-3, Table S16, the comparison with other methods, and the studies of
appendix B. So `table2` selects all rows of Tables 1-3, and so on; see `TABLES`.
"""

import difflib
import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from xkd_jax.config import pretraining
from xkd_jax.paper import published


class Times(NamedTuple):
    """A multiple of the base config's value, for lengths that the paper varies by factors."""

    factor: int


class Row(NamedTuple):
    """A line of a table.

    Attributes:
        about: Short description.
        changes: Values, or `Times`, of the config's fields in which the pretraining differs from
            the study's default.
        published: Titles of the row in the tables of `xkd_jax.paper.published`.
        network: Network whose features are evaluated: `teacher` or `student`.
    """

    about: str
    changes: Mapping[str, Any]
    published: tuple[str, ...] = ()
    network: str = "teacher"


class Study(NamedTuple):
    """A table of the paper, or a group of rows that belong together.

    Attributes:
        title: Title of the study.
        where: Place of its numbers in the paper.
        rows: Names of its rows in `ROWS`.
        tables: Names of tables in `xkd_jax.paper.published`. The first one decides which
            columns there are; numbers that it lacks are taken from the others.
        recipe: Fields in which all its pretrainings in the paper differ from configs/k400.py. The
            rows do not include them, because another base config has its own recipe.
    """

    title: str
    where: str
    rows: tuple[str, ...]
    tables: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = {}


def _temperatures(video: Sequence[float], audio: Sequence[float]) -> dict[str, float]:
    """Returns the config's fields for teachers' temperatures, (start, end) of each modality."""
    return {
        f"xkd.teacher_temperature.{m}_{end}": value
        for m, values in (("video", video), ("audio", audio))
        for end, value in zip(("start", "end"), values, strict=True)
    }


def _local_windows(video: int, audio: int) -> dict[str, Times]:
    """Returns changes that lengthen local views by factors; the paper's base has 1 s."""
    changes = {}
    if video > 1:
        changes["views.video.local_frames"] = Times(video)
    if audio > 1:
        changes["views.audio.local_seconds"] = Times(audio)
        changes["views.audio.local_frames"] = Times(audio)
    return changes


def _large_video() -> dict[str, int]:
    """Returns the config's fields for ViT-L for video and its decoder."""
    sizes = {"encoder": pretraining.ENCODERS["large"], "decoder": pretraining.DECODERS["large"]}
    return {
        f"model.video.{network}.{field}": value
        for network, size in sizes.items()
        for field, value in zip(("width", "depth", "heads"), size, strict=True)
    }


def _ablation(change: str) -> tuple[str]:
    """Returns the title in `published` of a row of the ablations of 400 epochs."""
    return (f"XKD with {change}, Kinetics400",)


_NO_KD, _NO_DA = {"xkd.lambda_kd": 0.0}, {"xkd.lambda_da": 0.0}
_DEFAULT = "default"

_MAIN = {
    "xkd": Row("XKD", {}, ("XKD, Kinetics400",)),
    "recon_video": Row(
        "masked video alone",
        _NO_KD | _NO_DA | {"xkd.reconstruct": ("video",)},
        ("masked video alone, Kinetics400",),
    ),
    "recon_audio": Row(
        "masked sound alone",
        _NO_KD | _NO_DA | {"xkd.reconstruct": ("audio",)},
        ("masked sound alone, Kinetics400",),
    ),
    "ae": Row("L_ae alone", _NO_KD | _NO_DA, ("L_ae alone, Kinetics400",)),
    "ae_kd": Row("L_ae + L_kd", _NO_DA, ("L_ae + L_kd, Kinetics400",)),
    "ae_da": Row("L_ae + L_da", _NO_KD, ("L_ae + L_da, Kinetics400",)),
    "no_refine": Row(
        "without refinement", {"xkd.refine": False}, ("without refinement, Kinetics400",)
    ),
    "student": Row(
        "XKD, its student evaluated", {}, ("XKD, student, Kinetics400",), network="student"
    ),
    # The paper evaluates XKD-MAS by its students, which share their blocks.
    "mas": Row(
        "XKD-MAS, its student",
        {"model.variant": "xkd_mas"},
        ("XKD-MAS, student, Kinetics400", "XKD-MAS, Kinetics400"),
        network="student",
    ),
    "mas_teacher": Row(
        "XKD-MAS, its teacher", {"model.variant": "xkd_mas"}, ("XKD-MAS, teacher, Kinetics400",)
    ),
    "mats": Row("XKD-MATS", {"model.variant": "xkd_mats"}, ("XKD-MATS, Kinetics400",)),
    "xkd_audioset": Row(
        "XKD, ViT-L for video, on AudioSet", _large_video(), ("XKD, AudioSet, ViT-L for video",)
    ),
}

_PROJECTOR = {
    **{
        f"projector_layers_{n}": Row(
            f"{n} projector layers",
            {"model.projector.layers": n},
            _ablation(f"{n} projector layers"),
        )
        for n in (2, 4)
    },
    **{
        f"projector_out_{n}": Row(
            f"{n} projector outputs", {"model.projector.out": n}, _ablation(f"{n} outputs")
        )
        for n in (4096, 16384, 32768)
    },
    **{
        f"projector_norm_{norm}": Row(about, {"model.projector.norm": norm})
        for norm, about in (
            ("last", "a norm only after the projector's last layer"),
            ("none", "no norm in the projector: collapses"),
        )
    },
}

_OBJECTIVE = {
    "da1": Row("alignment DA1 (S1)", {"xkd.alignment": "da1"}, _ablation("alignment DA1")),
    "da2": Row("alignment DA2 (S2)", {"xkd.alignment": "da2"}, _ablation("alignment DA2")),
    "attention_softmax": Row(
        "cross-modal attention by softmax (S3)",
        {"xkd.cross_attention": "softmax"},
        _ablation("softmax cross-attention"),
    ),
    "no_cls": Row(
        "the mean of queries instead of CLS", {"xkd.query": "mean"}, _ablation("mean query")
    ),
    "no_centering": Row("no centering: collapses", {"xkd.centering": False}),
    "no_reconstruction": Row("lambda_ae = 0: collapses", {"xkd.lambda_ae": 0.0}),
}

_VIEWS = {
    **{
        f"local_{video}s_{audio}s": Row(
            f"local windows of {video} s of video, {audio} s of sound",
            _local_windows(video, audio),
            _ablation(f"local windows of {video} s of video and {audio} s of sound"),
        )
        for video, audio in ((2, 2), (2, 1), (1, 2), (4, 1))
    },
    **{
        f"views_{video}_{audio}": Row(
            f"local views: {video} of video, {audio} of sound",
            {"views.video.local_count": video, "views.audio.local_count": audio},
            _ablation(f"{video} local views of video and {audio} of sound"),
        )
        for video, audio in ((1, 2), (2, 1), (2, 2), (3, 1))
    },
    **{
        f"mask_v{video:.2f}_a{audio:.2f}": Row(
            f"mask ratios {video:.2f} of video, {audio:.2f} of sound",
            {"model.video.mask_ratio": video, "model.audio.mask_ratio": audio},
        )
        for video in (0.80, 0.85, 0.90)
        for audio in (0.75, 0.80, 0.85)
    },
}

_TEMPERATURES = {
    **{
        f"temperature_v{video:.2f}_a{audio:.2f}": Row(
            f"teacher temperatures {video:.2f} of video, {audio:.2f} of sound",
            _temperatures((video, video), (audio, audio)),
            _ablation(f"teacher temperatures {audio} (audio) and {video} (video)"),
        )
        for video, audio in (
            *((0.04, 0.04), (0.06, 0.06), (0.07, 0.07), (0.08, 0.08)),
            *((0.09, 0.07), (0.10, 0.07), (0.11, 0.07), (0.12, 0.07)),
        )
    },
    "temperature_v0.09-0.11_a0.04-0.06": Row(
        "teacher temperatures 0.09 to 0.11 of video, 0.04 to 0.06 of sound",
        _temperatures((0.09, 0.11), (0.04, 0.06)),
        _ablation("teacher temperatures 0.04 to 0.06 (audio) and 0.09 to 0.11 (video)"),
    ),
}

# The ends are those of the paper's range; the values between them are chosen here.
_EMA = {
    f"ema_{momentum}": Row(
        f"teachers' momentum from {momentum}",
        {"xkd.ema_video": momentum, "xkd.ema_audio": momentum},
    )
    for momentum in (0.98, 0.99, 0.997, 0.999)
}

ROWS: Mapping[str, Row] = {
    **_MAIN,
    _DEFAULT: Row("the ablations' default", {}, _ablation("the ablations' defaults")),
    **_PROJECTOR,
    **_OBJECTIVE,
    **_VIEWS,
    **_TEMPERATURES,
    **_EMA,
}

_TABLES_1_3, _TABLE_S16, _COMPARISON = "Tables 1-3", "Table S16", "comparison with other methods"
_BUDGET = {"epochs": 400.0}
_APPENDIX = _BUDGET | _temperatures((0.04, 0.06), (0.04, 0.06))


def _appendix(title: str, *rows: str) -> Study:
    return Study(title, "appendix B, 400 epochs", (_DEFAULT, *rows), ("ablations",), _APPENDIX)


def _starting_with(prefix: str) -> list[str]:
    return [name for name in ROWS if name.startswith(prefix)]


STUDIES: Mapping[str, Study] = {
    "main": Study(
        "Losses, refinement, variants and networks",
        f"{_TABLES_1_3}, linear evaluation, split 1",
        tuple(name for name in _MAIN if name != "xkd_audioset"),
        (_TABLES_1_3,),
        _BUDGET,
    ),
    "comparison": Study(
        "The methods compared",
        f"{_COMPARISON}, mean of all splits",
        ("xkd", "mas", "mats", "xkd_audioset", "ae"),
        (_COMPARISON,),
        _BUDGET,
    ),
    "masked_video": Study(
        "Masked video alone beside XKD",
        f"{_TABLE_S16}, mean of all splits",
        ("recon_video", "xkd"),
        (_TABLE_S16, _COMPARISON, _TABLES_1_3),
        _BUDGET,
    ),
    "projector_layers": _appendix("Projector's layers", *_starting_with("projector_layers_")),
    "projector_out": _appendix("Projector's outputs", *_starting_with("projector_out_")),
    "alignment": _appendix("Domain alignment", "da1", "da2"),
    "attention": _appendix("Cross-modal attention", "attention_softmax", "no_cls"),
    "local_windows": _appendix("Length of the local views", *_starting_with("local_")),
    "local_views": _appendix("Number of local views", *_starting_with("views_")),
    "temperatures": _appendix("Teachers' temperatures", *_starting_with("temperature_")),
    "ema": _appendix("Teachers' momentum", *_EMA),
    "mask_ratios": _appendix("Mask ratios", *_starting_with("mask_")),
    "projector_norm": _appendix("Projector's norms", *_starting_with("projector_norm_")),
    "collapse": _appendix("Against collapse", "no_centering", "no_reconstruction"),
}

# The studies that have a table in appendix B.
_TABLED = (
    *("projector_layers", "projector_out", "alignment", "attention"),
    *("local_windows", "local_views", "temperatures"),
)
# The studies that each table of the paper selects, as narrowly as is known.
TABLES: Mapping[str, tuple[str, ...]] = {
    **{f"table{n}": ("main",) for n in (1, 2, 3)},
    **{f"table{n}": ("comparison",) for n in (4, 5, 6)},
    **{f"tableS{n}": _TABLED for n in range(8, 16)},
    "tableS16": ("masked_video",),
}


class Selected(NamedTuple):
    """Selected rows of one study.

    Attributes:
        study: Name of the study.
        rows: Names of the rows, in the study's order.
    """

    study: str
    rows: tuple[str, ...]


def select(names: Sequence[str]) -> list[Selected]:
    """Selects rows by names of rows, studies or tables.

    Args:
        names: Names of rows, of studies, or of the paper's tables; `all` for everything.

    Returns:
        The studies in the order of `STUDIES`, each with its selected rows. A row that is selected
        by its own name is listed in the first study that has it.

    Raises:
        ValueError: A name is unknown.
    """
    wanted: dict[str, set[str]] = {study: set() for study in STUDIES}
    for name in names:
        if name in ROWS and name not in STUDIES:
            wanted[study_of(name)].add(name)
            continue
        for study in _studies_called(name):
            wanted[study] |= set(STUDIES[study].rows)
    return [
        Selected(study, tuple(name for name in STUDIES[study].rows if name in rows))
        for study, rows in wanted.items()
        if rows
    ]


def study_of(name: str) -> str:
    """Returns the name of the first study that has a row."""
    return next(study for study in STUDIES if name in STUDIES[study].rows)


def _studies_called(name: str) -> Sequence[str]:
    if name == "all":
        return tuple(STUDIES)
    if name in STUDIES:
        return (name,)
    if name in TABLES:
        return TABLES[name]
    raise ValueError(f"--rows has {name!r}: {unknown(name, (*TABLES, *STUDIES, *ROWS))}")


def unknown(name: str, known: Sequence[str]) -> str:
    """Returns the part of a message that suggests known names near an unknown one."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    listed = "--config=configs/ablation.py:list prints all"
    return f"the nearest are {', '.join(near)}; {listed}" if near else f"nothing like it; {listed}"


def changed(config: ml_collections.ConfigDict, row: Row) -> dict[str, Any]:
    """Returns the fields that a row changes, with their values on top of a config."""
    return {
        field: value_of(config, field) * change.factor if isinstance(change, Times) else change
        for field, change in row.changes.items()
    }


def value_of(config: ml_collections.ConfigDict, field: str) -> Any:
    """Returns the value of a nested field such as `model.video.patch`."""
    return functools.reduce(operator.getitem, field.split("."), config)


def paper(study: Study, row: Row) -> dict[tuple[str, str], float]:
    """Returns the paper's numbers of a row, in percent, by (data set, protocol)."""
    percents: dict[tuple[str, str], float] = {}
    for number in sorted(
        (number for number in published.numbers() if number.table in study.tables),
        key=lambda number: study.tables.index(number.table),
    ):
        column = number.dataset, number.protocol
        if number.model in row.published and column in columns(study):
            percents.setdefault(column, number.percent)
    return percents


@functools.cache
def _columns(table: str) -> tuple[tuple[str, str], ...]:
    numbers = (n for n in published.numbers() if n.table == table)
    return tuple(dict.fromkeys((number.dataset, number.protocol) for number in numbers))


def columns(study: Study) -> tuple[tuple[str, str], ...]:
    """Returns the columns of a study: (data set, protocol) each."""
    return _columns(study.tables[0])
