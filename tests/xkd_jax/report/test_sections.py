"""What sections of the page say and in which order, without networks."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tests.xkd_jax.report.conftest import log_line, write_log
from xkd_jax.report import history, page, representations
from xkd_jax.report.clips import Clips
from xkd_jax.report.health.verdict import Verdict
from xkd_jax.report.sections import retrieval, training
from xkd_jax.report.survey import Survey


@pytest.fixture
def charts_of(tmp_path):
    """Returns a function from more metrics to the section on a log that has them."""

    def charts_of(**metrics):
        write_log(tmp_path, [log_line(1, **metrics), log_line(2, **metrics)])
        return training.build(history.read(tmp_path), Verdict("note", "", ()))

    return charts_of


def test_charts_are_grouped_and_what_matters_less_is_folded_up(charts_of):
    section = charts_of(**{"schedule/learning_rate": 1.0, "center_norm/video": 1.0, "new": 1.0})
    html = "".join(section.parts)
    marks = ("<h3>Losses<", "training_total_loss", "training_cross_modal_distillation")
    marks += ("<h3>Teachers and students<", "KL: how far", "Centers: ", "LiDAR: ")
    marks += ("training_kl_of_the_teacher", "training_centers")
    marks += ("<summary>Norms and schedules<", "training_gradient_norms", "training_learning_rate")
    marks += (
        "</details>",
        "<summary>Data and speed<",
        "training_throughput",
        "</details><h3>Others<",
    )
    marks += ("training_others",)
    places = [html.index(mark) for mark in marks]
    assert places == sorted(places)
    assert html.count("data-chart=") == len(section.charts)


def test_shares_have_an_end_of_their_axis(charts_of):
    shares = ("probe/video_teacher", "linear_probe/video_teacher", "data/with_sound")
    section = charts_of(**dict.fromkeys(shares, 0.9))
    ending = {name for name, chart in section.charts.items() if chart.highest == 1.0}
    assert ending == {
        "training_online_probe_nearest_neighbors",
        "training_online_probe_linear_classifier",
        "training_share_of_the_outputs_that_differs_between_clips",
        "training_share_of_the_clips_with_sound_with_a_picture",
        "training_share_of_the_time_spent_waiting_for_data",
    }
    assert all(
        chart.highest is None for name, chart in section.charts.items() if name not in ending
    )


def survey_of(similarities, labels):
    """Returns what the section on retrieval needs of a survey, of one pair of networks."""
    count = len(similarities)
    views = {"video": np.zeros((count, 2, 8, 8, 3), np.uint8), "audio": np.zeros((count, 8, 8))}
    names = [f"{n}.mp4" for n in range(count)]
    clips = Clips(views, names, labels, ("a", "b"), np.ones(count, bool), "", [])
    pair = [
        representations.Retrieval(m, similarities, {1: 0.5, 5: 1.0}, {1: 0.5})
        for m in ("audio", "video")
    ]
    return Survey(
        clips=clips,
        examples=np.arange(2),
        encoded={},
        untrained={},
        restored={},
        baselines={},
        outputs={},
        log_probabilities={},
        classes={},
        spreads={},
        retrievals={"teacher asks, student answers": pair},
    )


@pytest.mark.parametrize(
    ("similarities", "labels", "green", "orange"),
    [
        (np.eye(20), np.arange(20) % 2, True, True),
        (np.eye(20), np.arange(20), True, False),
        (-np.eye(20), np.arange(20) % 2, False, True),
        (-np.eye(20), None, False, False),
    ],
)
def test_the_legend_of_retrieval_has_what_occurs(similarities, labels, green, orange):
    html = "".join(retrieval.build(survey_of(similarities, labels)).parts)
    assert ("Green: " in html) == ('class="own"' in html) == green
    assert ("Orange: " in html) == ('class="alike"' in html) == orange


def test_retrieval_says_what_chance_is_which_networks_are_pictured_and_where_the_clip_is():
    html = "".join(retrieval.build(survey_of(-np.eye(20), None)).parts)
    assert "A guess is right in 5.0% of the cases" in html
    assert "<h3>Sound → video: the nearest (teacher asks, student answers)</h3>" in html
    assert "asked: 1.mp4; its own clip is answer 20" in html


def test_pictures_without_loss_keep_their_edges():
    pixels = np.zeros((64, 32, 3), np.uint8)
    pixels[::2, 7:] = (255, 0, 90)
    for lossless in (True, False):
        data = base64.b64decode(page.webp(pixels, lossless).partition(",")[2])
        kept = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.array_equal(kept, pixels) == lossless
