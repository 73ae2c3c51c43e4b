import pytest

from input_pipeline.programs import wording


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "clip", "0 clips"),
        (1, "clip", "1 clip"),
        (2, "clip", "2 clips"),
        (1, "class", "1 class"),
        (2, "class", "2 classes"),
        (8, "process", "8 processes"),
        (3, "batch", "3 batches"),
    ],
)
def test_counted(count, noun, text):
    assert wording.counted(count, noun) == text


def test_reasons_are_listed_with_the_most_frequent_first():
    counts = wording.frequent_first({"corrupt": 1, "empty file": 2, "cannot be accessed": 1})
    assert wording.in_words(counts) == "2 empty file, 1 cannot be accessed, 1 corrupt"
