"""The tables of results of the paper (arXiv 2211.13929), as it prints them.

Numbers are in percent: top-1, or mean average precision on FSD50K. The paper reports the best C of
its support vector machines on the test set. The protocols are `svm` and `linear` (a linear layer)
on features, `finetune`, and `fusion` (SVM on the features of both modalities).
tests/reference/paper_numbers.py has the same numbers, typed independently.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

SPLIT_1, MEAN = "split 1", "mean of all splits"
WITH_SPLITS = ("ucf101", "hmdb51", "esc50")

Benchmark = tuple[str, str]  # (data set, protocol)


class Entry(NamedTuple):
    """A method of a table.

    Attributes:
        label: Its name in the table.
        percents: A number for each benchmark of the table. None where the paper has a dash.
        row: Name of the method in `xkd_jax.paper.rows.ROWS`; empty for the methods of others.
        pretraining: Pretraining data, where the table has a column for them.
        modalities: Modalities of the pretraining, where the table has a column for them.
        part: Which of the `Table.parts` of the pretraining it is measured after, from 1.
    """

    label: str
    percents: tuple[float | None, ...]
    row: str = ""
    pretraining: str = ""
    modalities: str = ""
    part: int = 1


class Table(NamedTuple):
    """A table of results.

    Attributes:
        number: Number in the paper, such as "4" or "S8".
        title: Its caption, shortened.
        benchmarks: What the methods are measured by.
        entries: The methods, in the paper's order.
        splits: Splits of the data sets in `WITH_SPLITS` that the numbers are for.
        methods_across: Whether methods are columns and benchmarks lines, not the reverse.
        note: What the table's marks mean, if it has any.
        parts: Number of equal parts of the pretraining, after some of which methods are measured.
    """

    number: str
    title: str
    benchmarks: tuple[Benchmark, ...]
    entries: tuple[Entry, ...]
    splits: str = SPLIT_1
    methods_across: bool = False
    note: str = ""
    parts: int = 1

    def splits_of(self, dataset: str) -> str:
        """Returns the splits that the numbers of a data set are for; empty if it has only one."""
        return self.splits if dataset in WITH_SPLITS else ""


def _entries(*lines: tuple) -> tuple[Entry, ...]:
    """Makes entries of lines (label, row, percent, percent, ...)."""
    return tuple(Entry(label, tuple(percents), row) for label, row, *percents in lines)


def _across(
    methods: Sequence[tuple[str, str]], lines: Mapping[str, tuple[float, ...]]
) -> tuple[Entry, ...]:
    """Makes entries of a table whose columns are methods.

    Args:
        methods: Label and row of each column.
        lines: Numbers of each data set of `THREE`.
    """
    columns = zip(*(lines[dataset] for dataset, _ in THREE), strict=True)
    return tuple(
        Entry(label, percents, row) for (label, row), percents in zip(methods, columns, strict=True)
    )


def _compared(lines: str) -> tuple[Entry, ...]:
    """Makes entries of lines of Tables 7 and 8, with fields apart by at least two spaces.

    The fields are label, pretraining data, modalities, numbers, and the row if the method is ours.
    """
    entries = []
    for line in lines.strip().splitlines():
        label, pretraining, modalities, numbers, *row = line.strip().split("  ")
        percents = tuple(None if text == "-" else float(text) for text in numbers.split())
        entries.append(Entry(label, percents, "".join(row), pretraining, modalities))
    return tuple(entries)


THREE = (("hmdb51", "svm"), ("ucf101", "svm"), ("esc50", "svm"))
_DEFAULT = "default"

_TABLES = (
    Table(
        "1",
        "Effect of cross-modal knowledge distillation in video action recognition",
        (
            *(("ucf101", "svm"), ("hmdb51", "svm")),
            *(("kinetics_sound", "svm"), ("kinetics400", "svm")),
        ),
        _entries(
            ("L_recon, video", "recon_video", 76.1, 51.1, 56.8, 30.7),
            ("L_ae", "ae", 76.3, 51.2, 56.9, 32.2),
            ("L_xkd", "xkd", 84.7, 59.3, 70.7, 46.4),
        ),
    ),
    Table(
        "2",
        "Effect of cross-modal knowledge distillation in sound classification",
        (("fsd50k", "linear"), ("esc50", "svm")),
        _entries(
            ("L_recon, audio", "recon_audio", 44.6, 90.0),
            ("L_ae", "ae", 44.3, 90.0),
            ("L_xkd", "xkd", 45.8, 91.0),
        ),
    ),
    Table(
        "3",
        "Effect of domain alignment",
        (("ucf101", "svm"), ("hmdb51", "svm"), ("kinetics400", "svm")),
        _entries(
            ("L_ae", "ae", 76.3, 51.2, 32.2),
            ("+ L_kd", "ae_kd", 76.3, 51.2, 32.2),
            ("+ L_da", "ae_da", 77.8, 51.4, 33.7),
            ("+ L_kd + L_da", "xkd", 84.7, 59.3, 46.4),
        ),
    ),
    Table(
        "4",
        "Effect of refine",
        THREE,
        _across(
            (("without", "no_refine"), ("with", "xkd")),
            {"hmdb51": (53.5, 59.3), "ucf101": (81.0, 84.7), "esc50": (88.0, 91.0)},
        ),
        methods_across=True,
    ),
    Table(
        "5",
        "Comparison between modality-agnostic and modality-specific variants",
        THREE,
        _across(
            (("MATS", "mats"), ("MAS", "mas"), ("MS", "xkd")),
            {
                "hmdb51": (53.5, 55.2, 59.3),
                "ucf101": (80.3, 81.5, 84.7),
                "esc50": (90.3, 89.5, 91.0),
            },
        ),
        methods_across=True,
    ),
    Table(
        "6",
        "Comparison between students and teachers",
        THREE,
        _across(
            (("Student", "student"), ("Teacher", "xkd")),
            {"hmdb51": (57.8, 59.3), "ucf101": (84.4, 84.7), "esc50": (90.3, 91.0)},
        ),
        methods_across=True,
    ),
    Table(
        "7",
        "Comparison on video action recognition",
        (
            *(("ucf101", "svm"), ("ucf101", "finetune"), ("hmdb51", "svm"), ("hmdb51", "finetune")),
            *(("kinetics400", "linear"), ("kinetics400", "finetune")),
        ),
        _compared("""
            AVSlowFast (2020)  K400  VA  77.4 87.0 44.1 54.6 - -
            SeLaVi (2020)  K400  VA  - 83.1 - 47.1 - -
            XDC (2020)  K400  VA  - 86.8 - 52.6 - -
            CMACC (2020)  K400  VA  - 90.2 - 61.8 - -
            AVID (2021)  K400  VA  72.3 87.5 41.4 60.8 44.5 -
            CMAC (2021)  K400  VA  - 90.3 - 61.1 - -
            GDT (2021a)  K400  VA  70.1 90.9 38.5 62.3 - -
            STiCA (2021b)  K400  VA  - 93.1 - 67.0 - -
            CrissCross (2023)  K400  VA  83.9 91.5 50.0 64.7 44.5 -
            XKD  K400  VA  83.8 94.1 57.4 69.0 51.4 77.6  xkd
            XKD-MAS  K400  VA  81.7 93.4 55.1 65.9 50.1 75.9  mas
            XKD-MATS  K400  VA  80.1 93.1 53.1 65.7 48.8 75.7  mats
            XDC (2020)  AS  VA  85.3 93.0 56.0 63.7 - -
            MMV (2020)  AS  VA  83.9 91.5 60.0 70.1 - -
            CM-ACC (2020)  AS  VA  - 93.5 - 67.2 - -
            BraVe** (2021)  AS  VA  90.0 93.6 63.6 70.8 - -
            AVID (2021)  AS  VA  - 91.5 - 64.7 48.9 -
            CrissCross (2023)  AS  VA  87.7 92.4 56.2 67.4 50.1 -
            XKD  AS  VA  88.4 95.8 62.2 75.7 56.5 80.1  xkd_audioset
            VideoMAE (2022)  U101/H51  V  - 91.3 - 62.6 - -
            BEVT (2021)  K400  V  - - - - - 76.2
            VideoMAE (2022)  K400  V  - - - - - 79.0
            VideoMAE** (2022)  K400  V  80.0 96.1 54.3 73.3 - 80.0
            CPD (2020)  K400  VT  - 90.5 - 63.6 - -
            CoCLR (2020)  K400  VF  74.5 - 46.1 - - -
            BraVe** (2021)  AS  VFA  93.2 96.9 69.9 79.4 - -
            MIL-NCE (2020)  HT  VT  - 91.3 - 61.0 - -
            VATT (2021)  AS+HT  VAT  89.6 - 65.2 - - 81.1
            VATT-MA (2021)  AS+HT  VAT  84.4 - 63.1 - - 79.9
            ELo (2020)  YT  VFA  - 93.8 - 67.4 - -
        """),
        MEAN,
        note="V: video, A: audio, T: text, F: flow. **: industry-level computation. The paper's "
        "authors computed SVMs of AVID (72.3, 41.4), GDT (70.1, 38.5) and VideoMAE** (80.0, 54.3) "
        "on K400 from official checkpoints",
    ),
    Table(
        "8",
        "Comparison on sound classification",
        (("esc50", "svm"), ("esc50", "finetune"), ("fsd50k", "linear"), ("fsd50k", "finetune")),
        _compared("""
            XDC (2020)  K400  VA  78.0 - - -
            AVID (2021)  K400  VA  79.1 - - -
            STiCA (2021b)  K400  VA  81.1 - - -
            CrissCross (2023)  K400  VA  86.8 - - -
            XKD  K400  VA  89.4 93.6 45.8 54.1  xkd
            XKD-MAS  K400  VA  87.3 92.7 43.0 52.3  mas
            XKD-MATS  K400  VA  88.7 92.9 43.4 53.8  mats
            AVTS (2018)  AS  VA  80.6 - - -
            AVID (2021)  AS  VA  89.2 - - -
            GDT (2021a)  AS  VA  88.5 - - -
            CrissCross (2023)  AS  VA  90.5 - - -
            XKD  AS  VA  93.6 96.5 51.5 58.5  xkd_audioset
            AudioMAE (2022)  AS  A  - 93.6 - -
            MaskSpec (2022)  AS  A  - 89.6 - -
            MAE-AST (2022)  AS  A  - 90.0 - -
            BYOL-A (2022a)  AS  A  - - 44.8 -
            Aud. T-former (2021)  AS  A  - - - 53.7
            SS-AST (2021a)  AS  A  - 88.8 - -
            PSLA (2021b)  AS  A  - - - 55.8
            VATT (2021)  AS+HT  VAT  84.7 - - -
            VATT-MA (2021)  AS+HT  VAT  81.2 - - -
            PaSST(SL) (2021)  AS+IN  AI  - 95.5 - 58.4
        """),
        MEAN,
        note="I: image, IN: ImageNet",
    ),
    Table(
        "9",
        "Multimodal action classification by late fusion",
        (("kinetics_sound", "fusion"),),
        _entries(
            ("CrissCross", "", 66.7),
            ("L_ae (AV-MAE)", "ae", 75.7),
            ("XKD", "xkd", 81.2),
            ("XKD-MAS", "mas", 78.8),
            ("XKD-MATS", "mats", 78.3),
        ),
        MEAN,
    ),
    Table(
        "S8",
        "Effect of temperature schedules; audio, video",
        THREE,
        _across(
            (
                ("0.04, 0.04", "temperature_v0.04_a0.04"),
                ("0.06, 0.06", "temperature_v0.06_a0.06"),
                ("0.07, 0.07", "temperature_v0.07_a0.07"),
                ("0.08, 0.08", "temperature_v0.08_a0.08"),
                ("0.07, 0.09", "temperature_v0.09_a0.07"),
                ("0.07, 0.10", "temperature_v0.10_a0.07"),
                ("0.07, 0.11", "temperature_v0.11_a0.07"),
                ("0.07, 0.12", "temperature_v0.12_a0.07"),
                ("[.04, .06], [.04, .06]", _DEFAULT),
                ("[.04, .06], [.09, .11]", "temperature_v0.09-0.11_a0.04-0.06"),
            ),
            {
                "hmdb51": (55.3, 57.5, 57.5, 55.6, 54.4, 55.9, 54.5, 53.8, 58.5, 52.7),
                "ucf101": (80.0, 81.0, 82.0, 81.6, 81.0, 81.9, 79.5, 78.5, 82.6, 79.0),
                "esc50": (85.8, 85.3, 84.3, 85.8, 87.0, 89.0, 89.0, 87.3, 88.0, 86.5),
            },
        ),
        methods_across=True,
    ),
    Table(
        "S9",
        "Effect of different temporal window sizes for local views; video-audio, seconds",
        THREE,
        _across(
            (
                ("1-1", _DEFAULT),
                *((f"{v}-{a}", f"local_{v}s_{a}s") for v, a in ((2, 2), (2, 1), (1, 2), (4, 1))),
            ),
            {
                "hmdb51": (58.5, 55.2, 57.1, 55.6, 58.4),
                "ucf101": (82.6, 81.1, 82.3, 81.0, 82.6),
                "esc50": (88.0, 86.8, 87.3, 86.8, 82.3),
            },
        ),
        methods_across=True,
    ),
    Table(
        "S10",
        "Effect of additional local views; video-audio, number",
        THREE,
        _across(
            (
                ("1-1", _DEFAULT),
                *((f"{v}-{a}", f"views_{v}_{a}") for v, a in ((1, 2), (2, 1), (2, 2), (3, 1))),
            ),
            {
                "hmdb51": (58.5, 56.3, 58.8, 56.1, 57.5),
                "ucf101": (82.6, 79.5, 82.2, 79.0, 82.9),
                "esc50": (88.0, 85.8, 87.0, 90.8, 88.8),
            },
        ),
        methods_across=True,
    ),
    Table(
        "S11",
        "Effect of different number of projector layers",
        THREE,
        _across(
            (("2", "projector_layers_2"), ("3", _DEFAULT), ("4", "projector_layers_4")),
            {
                "hmdb51": (55.4, 58.5, 55.7),
                "ucf101": (81.0, 82.6, 81.0),
                "esc50": (83.4, 88.0, 84.6),
            },
        ),
        methods_across=True,
    ),
    Table(
        "S12",
        "Effect of different projector output dimensions",
        THREE,
        _across(
            (
                ("4096", "projector_out_4096"),
                ("8192", _DEFAULT),
                ("16384", "projector_out_16384"),
                ("32768", "projector_out_32768"),
            ),
            {
                "hmdb51": (53.2, 58.5, 57.0, 54.4),
                "ucf101": (78.1, 82.6, 81.5, 81.7),
                "esc50": (87.5, 88.0, 84.1, 83.8),
            },
        ),
        methods_across=True,
    ),
    Table(
        "S13",
        "Exploring the design choices for domain alignment",
        THREE,
        _across(
            (("L_da^1", "da1"), ("L_da^2", "da2"), ("L_da (default)", _DEFAULT)),
            {
                "hmdb51": (56.1, 55.4, 58.5),
                "ucf101": (81.1, 82.2, 82.6),
                "esc50": (87.3, 87.5, 88.0),
            },
        ),
        methods_across=True,
    ),
    Table(
        "S14",
        "Exploring design choices for feature refinement",
        THREE,
        _across(
            (("A'x (softmax)", "attention_softmax"), ("w/o CLS", "no_cls"), ("default", _DEFAULT)),
            {
                "hmdb51": (54.6, 54.5, 58.5),
                "ucf101": (79.8, 79.3, 82.6),
                "esc50": (88.3, 84.5, 88.0),
            },
        ),
        methods_across=True,
    ),
    Table(
        "S15",
        "Comparison between teachers (T) and students (S) of all variants",
        THREE,
        _across(
            (
                *(("XKD-MATS T", "mats"), ("XKD-MATS S", "mats_student")),
                *(("XKD-MAS T", "mas_teacher"), ("XKD-MAS S", "mas")),
                *(("XKD T", "xkd"), ("XKD S", "student")),
            ),
            {
                "hmdb51": (53.5, 52.4, 56.4, 55.2, 59.3, 57.8),
                "ucf101": (80.3, 80.0, 81.9, 81.5, 84.7, 84.4),
                "esc50": (90.3, 89.8, 91.0, 89.5, 91.0, 90.3),
            },
        ),
        methods_across=True,
    ),
    Table(
        "S16",
        "Comparison between VideoMAE and XKD in linear evaluation",
        (
            *(("ucf101", "svm"), ("hmdb51", "svm"), ("kinetics_sound", "svm")),
            *(("kinetics400", "svm"), ("kinetics400", "linear")),
        ),
        _entries(
            ("VideoMAE** (224)", "", 80.0, 54.3, None, None, None),
            ("VideoMAE (112)", "", 77.1, 51.6, None, None, None),
            ("VideoMAE*", "", 78.9, 51.5, 56.8, 30.7, 38.4),
            ("XKD", "xkd", 83.8, 57.4, 70.7, 46.4, 51.4),
        ),
        MEAN,
        note="**: industry-level computation. VideoMAE (112) and VideoMAE*: pretrained by the "
        "paper's authors with VideoMAE's code, the latter on XKD's inputs and patches; it is not "
        "L_recon of Table 1",
    ),
)

TABLES: Mapping[str, Table] = {table.number: table for table in _TABLES}

_DATASETS = {
    "ucf101": "UCF101",
    "hmdb51": "HMDB51",
    "kinetics400": "K400",
    "kinetics_sound": "KS",
    "esc50": "ESC50",
    "fsd50k": "FSD50K",
}
_PROTOCOLS = {"svm": "SVM", "linear": "linear", "finetune": "FT", "fusion": "fusion"}
# All that the paper measures pretrained models by.
BENCHMARKS: tuple[Benchmark, ...] = tuple(
    dict.fromkeys(benchmark for table in _TABLES for benchmark in table.benchmarks)
)


def title(benchmark: Benchmark) -> str:
    """Returns a short title of a benchmark, such as "KS fusion"."""
    dataset, protocol = benchmark
    return f"{_DATASETS[dataset]} {_PROTOCOLS[protocol]}"
