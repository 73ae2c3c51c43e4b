import numpy as np
import pytest
from PIL import Image

from xkd_jax.downstream import figures

BLUE = np.array([0x3B, 0x6E, 0xA5])


def names(count):
    return [f"playing the harmonica {place}" for place in range(count)]


@pytest.mark.parametrize("classes", [5, 60])
def test_a_confusion_matrix_shows_shares_of_the_rows(classes):
    counts = 90 * np.eye(classes, dtype=int)
    counts[0, 2] = 10
    counts[3] = 0
    picture = figures.confusion(counts, names(classes), "title")
    picture = picture[:, :-100]  # without the color bar
    dark = np.argwhere((picture[..., 0] < 30) & (picture[..., 2] > 80))
    (top, left), (bottom, right) = dark.min(axis=0), dark.max(axis=0)
    cell = (bottom - top) / classes
    assert cell == pytest.approx((right - left) / classes, abs=2) and cell >= 12

    def shade(row, column):  # away from the number in the middle of the cell
        y, x = top + (row + 0.2) * cell, left + (column + 0.2) * cell
        return int(picture[int(y), int(x)].sum())

    assert shade(1, 1) < shade(0, 2) < shade(0, 1), "all, a tenth, none"
    assert shade(3, 3) == shade(3, 1) == 3 * 0xE8, "not tested"


def test_every_name_has_room():
    """A name is at least 7 points high, so every row needs a tenth of an inch."""
    picture = figures.confusion(np.eye(60, dtype=int), names(60), "title")
    assert picture.shape[0] > 60 * 12 and picture.dtype == np.uint8


def test_names_are_no_mathematics_and_no_longer_than_there_is_room_for():
    strange = [r"$5 or $\frac", "x" * 10**5]
    assert max(figures.confusion(np.eye(2, dtype=int), strange, "title").shape) < 2000
    assert max(figures.class_bars(np.ones(2), strange, "accuracy", "title").shape) < 2000


def test_bars_are_as_long_as_the_scores_and_the_best_comes_first():
    values = np.array([0.2, np.nan, 0.8, 0.4])
    picture = figures.class_bars(values, names(4), "accuracy", "title")
    lengths = (picture == BLUE).all(axis=-1).sum(axis=1)
    # A bar is a run of pixel rows of the same length. A class without a score has no bar.
    bars = [length for length in dict.fromkeys(lengths) if length > 10]
    assert bars == sorted(bars, reverse=True) and len(bars) == 3
    np.testing.assert_allclose(np.array(bars) / bars[0], [1, 0.5, 0.25], atol=0.03)


def test_bars_of_many_classes_stand_in_columns():
    picture = figures.class_bars(np.linspace(0, 1, 200), names(200), "accuracy", "title")
    height, width, _ = picture.shape
    assert 0.5 < width / height < 2


def test_grouped_bars_with_chance_and_spreads(tmp_path):
    values = np.array([[0.5, 0.25], [1.0, 0.1]])
    arguments = (values, ["video", "audio"], ["pretrained", "untrained"], "top-1", "title")
    plain = figures.grouped_bars(*arguments)
    full = figures.grouped_bars(*arguments, chance=0.1, spreads=0.05 * np.ones((2, 2)))
    assert plain.shape[2] == 3 and not np.array_equal(plain[:, :600], full[:, :600])
    figures.save(tmp_path / "bars.png", full)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "bars.png")), full)
    assert [path.name for path in tmp_path.iterdir()] == ["bars.png"]
