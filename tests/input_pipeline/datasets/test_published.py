"""What a data set lacks of the published one is said, and nothing where it is whole."""

import pytest

from input_pipeline.datasets import listing, published, readers

END = " are there; published results are those of the whole data set"


@pytest.mark.parametrize("dataset", published.SIZES)
def test_nothing_is_said_of_a_whole_data_set(dataset):
    size = published.SIZES[dataset]
    assert dataset in readers.READERS
    assert published.shortfall(dataset, size.classes, size.recordings) == ""
    assert published.shortfall(dataset, size.classes, {}) != ""


@pytest.mark.parametrize(
    ("dataset", "classes", "recordings", "missing"),
    [
        ("ucf101", 57, {"full": 120}, "120 of 13,320 recordings, 57 of 101 classes"),
        ("ucf101", 101, {"full": 13_319}, "13,319 of 13,320 recordings"),
        ("esc50", 49, {"full": 2000}, "49 of 50 classes"),
        ("kinetics400", 400, {"train": 238_000, "val": 19_700}, None),  # videos vanish
        (
            *("kinetics400", 400, {"train": 200_000}),
            "200,000 of about 240,000 recordings in train, 0 of about 19,800 recordings in val",
        ),
        ("audioset", None, {"train": 2_000_000, "eval": 17_000}, None),  # without labels
        ("audioset", 500, {"train": 2_000_000, "eval": 20_000}, "500 of 527 classes"),
        (
            *("vggsound", 308, {"train": 183_730, "test": 15_000}),
            "15,000 of about 15,400 recordings in test, 308 of 309 classes",
        ),
        ("folder", 2, {"train": 3}, None),
    ],
)
def test_what_is_missing_is_counted(dataset, classes, recordings, missing):
    said = published.shortfall(dataset, classes, recordings)
    assert said == (f"{dataset} is not whole: {missing}{END}" if missing else "")


def test_a_part_of_a_data_set_is_noted_when_it_is_listed(tmp_path):
    for name in ("1-a", "2-b"):
        (tmp_path / f"{name}.wav").touch()
    rows = ["1-a.wav,1,0,dog", "2-b.wav,2,14,chirping_birds", "3-c.wav,3,36,vacuum_cleaner"]
    (tmp_path / "esc50.csv").write_text("\n".join(["filename,fold,target,category", *rows]))
    found = readers.read("esc50", tmp_path)
    assert found.notes == (f"esc50 is not whole: 2 of 2,000 recordings, 2 of 50 classes{END}",)
    assert [problem.reason for problem in found.left_out] == [listing.MISSING]
