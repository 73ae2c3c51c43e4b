"""How many classes and recordings the published data sets have, to tell whether one is whole.

Those of web videos are about what published results were trained and tested on. Fewer are left of
them each year, and nobody has all that were ever listed:

- Kinetics-400: MMAction2 has 240,436 and 19,796 (tools/data/kinetics/README.md there).
- Kinetics-600: a survey has some 392,000 and 30,000; the host of the videos has 427,549 and 29,793,
  by FiftyOne (docs/source/user_guide/dataset_zoo/datasets.rst there).
- Kinetics-700: the host has 529,046 and 33,925 of 2019, and 534,073 and 33,914 of the 542,352 and
  34,125 of 2020, by the same page.
- AudioSet: its tables name 2,041,789, 22,160 and 20,371 segments (its page says 2,042,985, 22,176
  and 20,383). PANNs (arXiv 1912.10211) had 1,913,637, 20,550 and 18,887 of them, a copy of 2023 the
  last two as 18,685 and 17,142 (https://huggingface.co/datasets/agkphysics/AudioSet).
- VGGSound: 183,000 and 15,000, by AV-SUPERB (https://av.superbbenchmark.org/tasks); its table names
  15,446 of test.

Something-Something is the same for everybody, and its numbers are those of its publisher's page.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Size(NamedTuple):
    """Size of a published data set.

    Attributes:
        recordings: Number of recordings by split.
        classes: Number of classes; 0 if labels are not used.
        is_exact: Whether everybody has the same recordings. Those of web videos vanish with time;
            for them, the numbers are about those that published results are for.
    """

    recordings: Mapping[str, int]
    classes: int = 0
    is_exact: bool = True


SIZES = {
    "kinetics400": Size({"train": 240_000, "val": 19_800}, 400, is_exact=False),
    "kinetics_sound": Size({"train": 22_700, "val": 1_600}, 32, is_exact=False),
    "kinetics600": Size({"train": 390_000, "val": 29_700}, 600, is_exact=False),
    "kinetics700": Size({"train": 530_000, "val": 34_000}, 700, is_exact=False),
    # Those without labels are in test: 27,157.
    "something_something": Size({"train": 168_913, "val": 24_777}, 174),
    "audioset": Size({"train": 1_800_000, "eval": 17_000}, 527, is_exact=False),
    "audioset_20k": Size({"train": 20_000, "eval": 17_000}, 527, is_exact=False),
    "vggsound": Size({"train": 183_000, "test": 15_400}, 309, is_exact=False),
    "ucf101": Size({"full": 13_320}, 101),
    "hmdb51": Size({"full": 6_766}, 51),
    "esc50": Size({"full": 2_000}, 50),
    "fsd50k": Size({"train": 36_796, "val": 4_170, "test": 10_231}, 200),
}
_ENOUGH = 0.99  # share of a number that is not exact


def shortfall(dataset: str, classes: int | None, recordings: Mapping[str, int]) -> str:
    """Says what a data set lacks of the published one.

    Args:
        dataset: Name of the data set in `python -m input_pipeline.prepare`.
        classes: Number of classes with recordings. None if labels are not used.
        recordings: Number of recordings by split.

    Returns:
        One line, which is empty if nothing is missing or if no size is known.
    """
    if (size := SIZES.get(dataset)) is None:
        return ""
    about, share = ("", 1.0) if size.is_exact else ("about ", _ENOUGH)
    missing = [
        f"{recordings.get(split, 0):,} of {about}{count:,} recordings"
        + (f" in {split}" if len(size.recordings) > 1 else "")
        for split, count in size.recordings.items()
        if recordings.get(split, 0) < share * count
    ]
    if classes is not None and classes < size.classes:
        missing.append(f"{classes} of {size.classes} classes")
    if not missing:
        return ""
    return (
        f"{dataset} is not whole: {', '.join(missing)} are there; published results are those of "
        "the whole data set"
    )
