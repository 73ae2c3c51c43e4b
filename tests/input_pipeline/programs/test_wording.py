import pytest

from input_pipeline.programs.wording import counted


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
    assert counted(count, noun) == text
