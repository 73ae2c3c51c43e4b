"""Every pretraining that the paper has numbers or claims for, as changes of its main recipe.

A row is a method; `xkd_jax.paper.tables` has its numbers under the row's name. A row has none if
the paper only shows a curve or makes a remark. A study is a table or a figure of the paper.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from input_pipeline.programs.config_fields import value_of
from xkd_jax.paper.tables import MEAN, SPLIT_1, TABLES, THREE, Benchmark, Entry, Table


class Times(NamedTuple):
    """A multiple of the base config's value, for lengths that the paper varies by factors."""

    factor: int


class Row(NamedTuple):
    """A method of the paper.

    Attributes:
        about: Short description.
        changes: Values, or `Times`, of the config's fields in which the pretraining differs from
            the study's default.
        network: Network whose features are evaluated: `teacher` or `student`.
        recipe: Fields in which the paper's run also differs from configs/k400.py, although they are
            not what the row is about. They are not applied to a base config with a recipe of its
            own.
        data: Name of the pretraining data in `python -m input_pipeline.prepare`.
        same_as: Name of a row with the same recipe in the paper, whose numbers are this row's too.
    """

    about: str
    changes: Mapping[str, Any]
    network: str = "teacher"
    recipe: Mapping[str, Any] = {}
    data: str = "kinetics400"
    same_as: str = ""


class Study(NamedTuple):
    """A table or a figure of the paper.

    Attributes:
        title: Title of the study.
        rows: Names of its rows in `ROWS`.
        number: Number of its table in `xkd_jax.paper.tables`; empty if it is a figure.
        recipe: As `Row.recipe`, for all its rows.
        figures: Numbers of its figures in the paper.
        benchmarks: What a figure measures its rows by. Empty if it shows the runs themselves.
        splits: Splits of the data sets in `tables.WITH_SPLITS` that a figure's results are for.
        checkpoints: Number of checkpoints, evenly over the pretraining, that a figure shows.
        note: What the paper says of a figure in words.
    """

    title: str
    rows: tuple[str, ...]
    number: str = ""
    recipe: Mapping[str, Any] = {}
    figures: tuple[str, ...] = ()
    benchmarks: tuple[Benchmark, ...] = ()
    splits: str = SPLIT_1
    checkpoints: int = 1
    note: str = ""

    @property
    def table(self) -> Table | None:
        """The table of the paper."""
        return TABLES.get(self.number)

    @property
    def where(self) -> str:
        """The table or figure, splits and length of pretraining, in words."""
        epochs = f"{self.recipe.get('epochs', 800):g} epochs"
        if "xkd_audioset" in self.rows:
            epochs += ", of AudioSet 400"
        if self.table is None:
            return ", ".join([self.name, *([self.splits] if self.benchmarks else []), epochs])
        splits = {self.table.splits_of(dataset) for dataset, _ in self.table.benchmarks}
        return ", ".join([self.name, *filter(None, splits), epochs])

    @property
    def name(self) -> str:
        """The name in the paper, such as "Table 4", "Figure S1" or "Figures 3, S7"."""
        if self.number:
            return f"Table {self.number}"
        return f"Figure{'s' if len(self.figures) > 1 else ''} {', '.join(self.figures)}"


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
    sizes = {"encoder": (1024, 24, 16), "decoder": (512, 8, 16)}
    return {
        f"model.video.{network}.{field}": value
        for network, size in sizes.items()
        for field, value in zip(("width", "depth", "heads"), size, strict=True)
    }


_NO_KD, _NO_DA = {"xkd.lambda_kd": 0.0}, {"xkd.lambda_da": 0.0}
_MAS = {"model.variant": "xkd_mas"}
# The authors' release of this variant has these ramps.
_MAS_RECIPE = {
    **_temperatures((0.09, 0.11), (0.04, 0.06)),
    "xkd.teacher_temperature.shape": "linear",
}
_MATS = {"model.variant": "xkd_mats"}

_MAIN = {
    "xkd": Row("XKD", {}),
    "recon_video": Row("masked video alone", _NO_KD | _NO_DA | {"xkd.reconstruct": ("video",)}),
    "recon_audio": Row("masked sound alone", _NO_KD | _NO_DA | {"xkd.reconstruct": ("audio",)}),
    "ae": Row("L_ae alone", _NO_KD | _NO_DA),
    "ae_kd": Row("L_ae + L_kd", _NO_DA),
    "ae_da": Row("L_ae + L_da", _NO_KD),
    "no_refine": Row("XKD without refinement", {"xkd.refine": False}),
    "student": Row("XKD, its student", {}, "student"),
    # Table S15 has both networks of XKD-MAS; its student is the one of Table 5. Tables 7 to 9 do
    # not say which they have; the student's numbers are nearer.
    "mas": Row("XKD-MAS, its student", _MAS, "student", _MAS_RECIPE),
    "mas_teacher": Row("XKD-MAS, its teacher", _MAS, recipe=_MAS_RECIPE),
    "mats": Row("XKD-MATS", _MATS),
    "mats_student": Row("XKD-MATS, its student", _MATS, "student"),
    "xkd_audioset": Row(
        "XKD, ViT-L for video", _large_video(), recipe={"epochs": 400.0}, data="audioset"
    ),
    "xkd_audioset_base": Row("XKD, ViT-B for video", {}, recipe={"epochs": 400.0}, data="audioset"),
    "xkd_kinetics_sound": Row("XKD on less data", {}, data="kinetics_sound"),
}

_PROJECTOR = {
    **{
        f"projector_layers_{n}": Row(
            f"{n} projector layers",
            {"model.projector.layers": n},
        )
        for n in (2, 4)
    },
    **{
        f"projector_out_{n}": Row(f"{n} projector outputs", {"model.projector.out": n})
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
    "da1": Row("alignment DA1 (S1)", {"xkd.alignment": "da1"}),
    "da2": Row("alignment DA2 (S2)", {"xkd.alignment": "da2"}),
    "attention_softmax": Row(
        "cross-modal attention by softmax (S3)",
        {"xkd.cross_attention": "softmax"},
    ),
    "no_cls": Row("no CLS token; the mean of queries instead", {"xkd.query": "mean"}),
    "no_alignment": Row("lambda_da = 0: collapses", _NO_DA),
    "no_centering": Row("no centering: collapses", {"xkd.centering": False}),
    "no_reconstruction": Row("lambda_ae = 0: collapses", {"xkd.lambda_ae": 0.0}),
}

_VIEWS = {
    **{
        f"local_{video}s_{audio}s": Row(
            f"local windows of {video} s of video, {audio} s of sound",
            _local_windows(video, audio),
        )
        for video, audio in ((2, 2), (2, 1), (1, 2), (4, 1))
    },
    **{
        f"views_{video}_{audio}": Row(
            f"local views: {video} of video, {audio} of sound",
            {"views.video.local_count": video, "views.audio.local_count": audio},
        )
        for video, audio in ((1, 2), (2, 1), (2, 2), (3, 1))
    },
    **{
        f"mask_v{video:.2f}_a{audio:.2f}": Row(
            f"mask ratios {video:.2f} of video, {audio:.2f} of sound",
            {"model.video.mask_ratio": video, "model.audio.mask_ratio": audio},
            same_as="default" if (video, audio) == (0.85, 0.80) else "",
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
        )
        for video, audio in (
            *((0.04, 0.04), (0.06, 0.06), (0.07, 0.07), (0.08, 0.08)),
            *((0.09, 0.07), (0.10, 0.07), (0.11, 0.07), (0.12, 0.07)),
        )
    },
    "temperature_v0.09-0.11_a0.04-0.06": Row(
        "teacher temperatures 0.09 to 0.11 of video, 0.04 to 0.06 of sound",
        _temperatures((0.09, 0.11), (0.04, 0.06)),
    ),
}

# The ends are those of the paper's range; the values between them are chosen here.
_EMA = {
    f"ema_{momentum}": Row(
        f"teachers' momentum from {momentum}",
        {"xkd.ema_video": momentum, "xkd.ema_audio": momentum},
        same_as="default" if momentum == 0.997 else "",
    )
    for momentum in (0.98, 0.99, 0.997, 0.999)
}

ROWS: Mapping[str, Row] = {
    **_MAIN,
    "default": Row("the default of appendix B", {}),
    **_PROJECTOR,
    **_OBJECTIVE,
    **_VIEWS,
    **_TEMPERATURES,
    **_EMA,
}

# Numbers of recordings of the pretraining data (section 4.7).
RECORDINGS = {"kinetics_sound": 22_000, "kinetics400": 240_000, "audioset": 1_800_000}

_NOTHING: Mapping[str, Any] = {}
# Appendix B's default: half the epochs of the other tables, and a ramp of teacher temperatures.
_APPENDIX = {"epochs": 400.0} | _temperatures((0.04, 0.06), (0.04, 0.06))


def _tabled(number: str, recipe: Mapping[str, Any] = _NOTHING) -> Study:
    """Makes the study of a table, whose rows are our methods in the table's order."""
    table = TABLES[number]
    names = tuple(entry.row for entry in table.entries if entry.row)
    return Study(table.title, names, number, recipe)


def _figure(title: str, number: str, rows: Sequence[str], note: str) -> Study:
    """Makes the study of a figure of appendix B that shows results."""
    return Study(title, tuple(rows), "", _APPENDIX, (number,), THREE, note=note)


def _starting_with(prefix: str) -> list[str]:
    return [name for name in ROWS if name.startswith(prefix)]


STUDIES: Mapping[str, Study] = {
    "distillation_video": _tabled("1"),
    "distillation_sound": _tabled("2"),
    "alignment_terms": _tabled("3"),
    "refinement": _tabled("4"),
    "variants": _tabled("5"),
    "networks": _tabled("6"),
    "video_recognition": _tabled("7"),
    "sound_classification": _tabled("8"),
    "fusion": _tabled("9"),
    "temperatures": _tabled("S8", _APPENDIX),
    "local_windows": _tabled("S9", _APPENDIX),
    "local_views": _tabled("S10", _APPENDIX),
    "projector_layers": _tabled("S11", _APPENDIX),
    "projector_out": _tabled("S12", _APPENDIX),
    "alignment": _tabled("S13", _APPENDIX),
    "attention": _tabled("S14", _APPENDIX),
    "all_networks": _tabled("S15"),
    "masked_video": _tabled("S16"),
    "scale": Study(
        "Scalability with the size of the data and of the model",
        ("xkd_kinetics_sound", "xkd", "xkd_audioset_base", "xkd_audioset"),
        figures=("4",),
        benchmarks=(("ucf101", "svm"), ("hmdb51", "svm"), ("esc50", "svm")),
        splits=MEAN,
        note="The paper: better with more recordings and with the larger network (4.7)",
    ),
    "ema": _figure(
        "Teachers' momentum",
        "S1",
        ("default", *_EMA),
        "The paper: 0.997 is the most stable of 0.98 to 0.999 (B.2)",
    ),
    "mask_ratios": _figure(
        "Mask ratios",
        "S2",
        ("default", *_starting_with("mask_")),
        "The paper: 0.85 of video is best on UCF101 and HMDB51, 0.80 of sound on ESC50 (B.4)",
    ),
    "projector_norm": _figure(
        "Projector's norms",
        "S5",
        ("projector_norm_none", "projector_norm_last", "default"),
        "The paper: it fails without a norm, and norms on every layer gain 2.9 to 4.5 over one on "
        "the last layer (B.6)",
    ),
    "epochs": Study(
        "Longer pretraining",
        ("xkd", "student"),
        figures=("S6",),
        benchmarks=(("ucf101", "svm"), ("hmdb51", "svm")),
        checkpoints=8,
        note="The paper: the teacher is always better, and little is gained after 600 epochs "
        "(B.10)",
    ),
    "collapse": Study(
        "Instability and collapse",
        ("default", "projector_norm_none", "no_alignment", "no_centering", "no_reconstruction"),
        recipe=_APPENDIX,
        figures=("S3",),
        note="The paper: without norms and without L_da the KL goes to 0, without centering L_kd "
        "does (B.5)",
    ),
    "training_curves": Study("Training curves", ("default",), recipe=_APPENDIX, figures=("S4",)),
    "attention_maps": Study(
        "Attention without and with refinement", ("no_refine", "xkd"), figures=("3", "S7")
    ),
}


def entry_of(study: Study, row: str) -> Entry | None:
    """Returns the entry of a row in its study's table; None if the paper has no table."""
    if study.table is None:
        return None
    return next(entry for entry in study.table.entries if entry.row == row)


def numbers(study: Study, row: str) -> dict[Benchmark, float]:
    """Returns the paper's numbers of a row, in percent."""
    entry = entry_of(study, row)
    if entry is None:
        return {}
    pairs = zip(study.table.benchmarks, entry.percents, strict=True)
    return {benchmark: percent for benchmark, percent in pairs if percent is not None}


def study_of(name: str) -> str:
    """Returns the name of the first study that has a row."""
    return next(study for study in STUDIES if name in STUDIES[study].rows)


def recipe_of(name: str) -> dict[str, Any]:
    """Returns all fields in which the paper's run of a row differs from its main recipe.

    Multiples are not among them, because they need a config (see `changed`).
    """
    return {**STUDIES[study_of(name)].recipe, **ROWS[name].recipe}


def changed(config: ml_collections.ConfigDict, row: Row) -> dict[str, Any]:
    """Returns the fields that a row changes, with their values on top of a config."""
    return {
        field: value_of(config, field) * change.factor if isinstance(change, Times) else change
        for field, change in row.changes.items()
    }
