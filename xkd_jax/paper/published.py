"""Results reported by the paper (arXiv 2211.13929), to compare with one's own.

They are in percent: top-1, or mean average precision on FSD50K. The paper chooses C and epochs on
the test set. The protocols are svm and linear (a linear layer) on features, finetune, and fusion
(SVM on the features of both modalities).
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_MEAN = "mean of all splits"
_SPLIT_1 = "split 1"
_WITH_SPLITS = ("ucf101", "hmdb51", "esc50")
_RESULTS = "comparison with other methods"


class Published(NamedTuple):
    """A result of the paper.

    Attributes:
        dataset: Name of the data set in `python -m input_pipeline.prepare`.
        protocol: "svm", "linear", "finetune" or "fusion".
        model: Description of the evaluated model, for display.
        percent: The result.
        of: Splits or epochs that the result is for, such as "split 1". Empty if the data set has
            one split and the table says nothing else.
        table: Table of the paper with the result.
        recipe: Fields of the pretraining config that differ from `_RECIPE`, with their values.
        is_main: Whether to show it for every model of its variant. Other results are shown only for
            models with the same recipe.
    """

    dataset: str
    protocol: str
    model: str
    percent: float
    of: str
    table: str
    recipe: Mapping[str, Any]
    is_main: bool


# Fields of the pretraining config that the paper varies, with their defaults.
_RECIPE = {
    "model.variant": "xkd",
    "model.projector.layers": 3,
    "model.projector.out": 8192,
    "views.video.local_count": 1,
    "views.video.local_frames": 8,
    "views.audio.local_count": 1,
    "views.audio.local_seconds": 1.0,
    "xkd.lambda_da": 1.0,
    "xkd.lambda_kd": 1.0,
    "xkd.refine": True,
    "xkd.cross_attention": "mean",
    "xkd.query": "cls",
    "xkd.alignment": "da",
    "xkd.teacher_temperature.video_start": 0.1,
    "xkd.teacher_temperature.video_end": 0.1,
    "xkd.teacher_temperature.audio_start": 0.07,
    "xkd.teacher_temperature.audio_end": 0.07,
}


def _temperatures(
    audio: float, video: float, audio_end: float | None = None, video_end: float | None = None
) -> dict[str, float]:
    """Makes the recipe of teacher temperatures, which are constant if no end is given."""
    ends = {"video_start": video, "video_end": video_end or video}
    ends |= {"audio_start": audio, "audio_end": audio_end or audio}
    return {f"xkd.teacher_temperature.{name}": value for name, value in ends.items()}


_MAS, _MATS = {"model.variant": "xkd_mas"}, {"model.variant": "xkd_mats"}
_RECONSTRUCTION = {"xkd.lambda_da": 0.0, "xkd.lambda_kd": 0.0}

_ALL = (
    *(("ucf101", "svm"), ("ucf101", "finetune"), ("hmdb51", "svm"), ("hmdb51", "finetune")),
    *(("kinetics400", "linear"), ("kinetics400", "finetune")),
    *(("esc50", "svm"), ("esc50", "finetune"), ("fsd50k", "linear"), ("fsd50k", "finetune")),
    ("kinetics_sound", "fusion"),
)
_VIDEO = (("ucf101", "svm"), ("hmdb51", "svm"), ("kinetics_sound", "svm"), ("kinetics400", "svm"))
_AUDIO = (("fsd50k", "linear"), ("esc50", "svm"))
_THREE = (("ucf101", "svm"), ("hmdb51", "svm"), ("esc50", "svm"))

# Entries are (columns, table, of, is_main, rows), and rows are (model, recipe, percents by column).
_TABLES = (
    (_ALL, _RESULTS, _MEAN, True, (
        ("XKD, Kinetics400", {},
         (83.8, 94.1, 57.4, 69.0, 51.4, 77.6, 89.4, 93.6, 45.8, 54.1, 81.2)),
        ("XKD-MAS, Kinetics400", _MAS,
         (81.7, 93.4, 55.1, 65.9, 50.1, 75.9, 87.3, 92.7, 43.0, 52.3, 78.8)),
        ("XKD-MATS, Kinetics400", _MATS,
         (80.1, 93.1, 53.1, 65.7, 48.8, 75.7, 88.7, 92.9, 43.4, 53.8, 78.3)),
        ("XKD, AudioSet, ViT-L for video", {},
         (88.4, 95.8, 62.2, 75.7, 56.5, 80.1, 93.6, 96.5, 51.5, 58.5, None)),
    )),
    (_ALL, _RESULTS, _MEAN, False, (
        ("L_ae alone, Kinetics400", _RECONSTRUCTION, (None,) * 10 + (75.7,)),
    )),
    (_VIDEO, "Tables 1-3", _SPLIT_1, True, (
        ("XKD, Kinetics400", {}, (84.7, 59.3, 70.7, 46.4)),
    )),
    (_AUDIO, "Tables 1-3", _SPLIT_1, True, (
        ("XKD, Kinetics400", {}, (45.8, 91.0)),
    )),
    (_VIDEO, "Tables 1-3", _SPLIT_1, False, (
        ("masked video alone, Kinetics400", _RECONSTRUCTION, (76.1, 51.1, 56.8, 30.7)),
        ("L_ae alone, Kinetics400", _RECONSTRUCTION, (76.3, 51.2, 56.9, 32.2)),
        ("L_ae + L_kd, Kinetics400", {"xkd.lambda_da": 0.0}, (76.3, 51.2, None, 32.2)),
        ("L_ae + L_da, Kinetics400", {"xkd.lambda_kd": 0.0}, (77.8, 51.4, None, 33.7)),
    )),
    (_AUDIO, "Tables 1-3", _SPLIT_1, False, (
        ("masked sound alone, Kinetics400", _RECONSTRUCTION, (44.6, 90.0)),
    )),
    (_THREE, "Tables 1-3", _SPLIT_1, True, (
        ("XKD, student, Kinetics400", {}, (84.4, 57.8, 90.3)),
        ("XKD-MAS, student, Kinetics400", _MAS, (81.5, 55.2, 89.5)),
        ("XKD-MAS, teacher, Kinetics400", _MAS, (81.9, 56.4, 91.0)),
        ("XKD-MATS, Kinetics400", _MATS, (80.3, 53.5, 90.3)),
    )),
    (_THREE, "Tables 1-3", _SPLIT_1, False, (
        ("without refinement, Kinetics400", {"xkd.refine": False}, (81.0, 53.5, 88.0)),
    )),
    ((*_VIDEO, ("kinetics400", "linear")), "Table S16", _MEAN, False, (
        ("masked video alone, Kinetics400", _RECONSTRUCTION, (78.9, 51.5, 56.8, 30.7, 38.4)),
    )),
    # Pretrained for 400 epochs on Kinetics400. The columns are HMDB51, UCF101, ESC-50.
    ((_THREE[1], _THREE[0], _THREE[2]), "ablations", "400 epochs", False, tuple(
        (f"XKD with {change}, Kinetics400", _temperatures(0.04, 0.04, 0.06, 0.06) | recipe, row)
        for change, recipe, row in (
            ("the ablations' defaults", {}, (58.5, 82.6, 88.0)),
            ("2 projector layers", {"model.projector.layers": 2}, (55.4, 81.0, 83.4)),
            ("4 projector layers", {"model.projector.layers": 4}, (55.7, 81.0, 84.6)),
            ("4096 outputs", {"model.projector.out": 4096}, (53.2, 78.1, 87.5)),
            ("16384 outputs", {"model.projector.out": 16384}, (57.0, 81.5, 84.1)),
            ("32768 outputs", {"model.projector.out": 32768}, (54.4, 81.7, 83.8)),
            ("alignment DA1", {"xkd.alignment": "da1"}, (56.1, 81.1, 87.3)),
            ("alignment DA2", {"xkd.alignment": "da2"}, (55.4, 82.2, 87.5)),
            ("softmax cross-attention", {"xkd.cross_attention": "softmax"}, (54.6, 79.8, 88.3)),
            ("mean query", {"xkd.query": "mean"}, (54.5, 79.3, 84.5)),
            *(
                (
                    f"local windows of {video} s of video and {audio} s of sound",
                    {
                        "views.video.local_frames": 8 * video,
                        "views.audio.local_seconds": float(audio),
                    },
                    row,
                )
                for video, audio, row in (
                    (2, 2, (55.2, 81.1, 86.8)),
                    (2, 1, (57.1, 82.3, 87.3)),
                    (1, 2, (55.6, 81.0, 86.8)),
                    (4, 1, (58.4, 82.6, 82.3)),
                )
            ),
            *(
                (
                    f"{video} local views of video and {audio} of sound",
                    {"views.video.local_count": video, "views.audio.local_count": audio},
                    row,
                )
                for video, audio, row in (
                    (1, 2, (56.3, 79.5, 85.8)),
                    (2, 1, (58.8, 82.2, 87.0)),
                    (2, 2, (56.1, 79.0, 90.8)),
                    (3, 1, (57.5, 82.9, 88.8)),
                )
            ),
            *(
                (
                    f"teacher temperatures {audio} (audio) and {video} (video)",
                    _temperatures(audio, video),
                    row,
                )
                for audio, video, row in (
                    (0.04, 0.04, (55.3, 80.0, 85.8)),
                    (0.06, 0.06, (57.5, 81.0, 85.3)),
                    (0.07, 0.07, (57.5, 82.0, 84.3)),
                    (0.08, 0.08, (55.6, 81.6, 85.8)),
                    (0.07, 0.09, (54.4, 81.0, 87.0)),
                    (0.07, 0.10, (55.9, 81.9, 89.0)),
                    (0.07, 0.11, (54.5, 79.5, 89.0)),
                    (0.07, 0.12, (53.8, 78.5, 87.3)),
                )
            ),
            (
                "teacher temperatures 0.04 to 0.06 (audio) and 0.09 to 0.11 (video)",
                _temperatures(0.04, 0.09, 0.06, 0.11),
                (52.7, 79.0, 86.5),
            ),
        )
    )),
)  # fmt: skip


def find(dataset: str, protocol: str, config: Mapping[str, Any] | None = None) -> list[Published]:
    """Finds the paper's results to compare a result with.

    Args:
        dataset: Name of the data set in `python -m input_pipeline.prepare`.
        protocol: "svm", "linear", "finetune" or "fusion".
        config: Config of the pretraining as nested dictionaries. None if it is unknown.

    Returns:
        The main results of the config's variant and the results of an ablation with the same
        recipe. All main results if the config is unknown. Empty for data sets and protocols that
        the paper does not have.
    """
    recipe = config and {field: _value(config, field) for field in _RECIPE}
    return [
        number
        for number in numbers()
        if (number.dataset, number.protocol) == (dataset, protocol) and _is_shown(number, recipe)
    ]


def numbers() -> Iterator[Published]:
    """Yields all results of the paper."""
    for columns, table, of, is_main, rows in _TABLES:
        for model, recipe, row in rows:
            for (dataset, protocol), percent in zip(columns, row, strict=True):
                if percent is None:
                    continue
                splits = "" if of in (_MEAN, _SPLIT_1) and dataset not in _WITH_SPLITS else of
                yield Published(dataset, protocol, model, percent, splits, table, recipe, is_main)


def _is_shown(number: Published, recipe: Mapping[str, Any] | None) -> bool:
    if recipe is None:
        return number.is_main
    paper_recipe = _RECIPE | dict(number.recipe)
    fields = ["model.variant"] if number.is_main else list(_RECIPE)
    return all(recipe[field] == paper_recipe[field] for field in fields)


def _value(config: Mapping[str, Any], field: str) -> Any:
    for name in field.split("."):
        config = config[name]
    return config
