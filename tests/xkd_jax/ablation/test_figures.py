"""Pictures of the paper's tables and figures, drawn from finished runs."""

import json
from typing import NamedTuple

import numpy as np
import pytest

from input_pipeline.prepared.records import Recipe
from input_pipeline.programs import config_flag
from tests.xkd_jax.ablation.test_paper_tables import write_results
from xkd_jax.ablation import evaluations, figures, paper_tables, plan, run_figures, selection
from xkd_jax.encoders import networks
from xkd_jax.report import clips, panels
from xkd_jax.report.panels import Value

K400 = "configs/k400.py"


def base_of(*flags, data=None):
    return plan.Base(K400, flags, config_flag.load_config(K400, flags), True, data or {})


@pytest.fixture
def collect(tmp_path):
    """A function `figure, score by (run, seed, evaluation), flags -> content of paper.json`."""

    def make(figure, scores, *flags, data=(), recordings=()):
        def prepared(name):
            (tmp_path / name).mkdir()
            Recipe(name, 8.0, 128, ("clap",), ()).save(tmp_path / name)
            return str(tmp_path / name)

        folders = {name: prepared(name) for name in ("ucf101", "hmdb51", "esc50")}
        base = base_of(*flags, data={name: prepared(name) for name in data})
        selected = selection.select([figure])
        jobs = plan.jobs(base, selected, [0, 1], tmp_path / "out")
        for (run, seed, name), score in scores.items():
            write_results(tmp_path / "out" / run / f"seed{seed}" / name, 0.1, score)
        for run, count in dict(recordings).items():
            counts = {"recordings": count + 9, "used": count, "without_sound": 9}
            path = tmp_path / "out" / run / "seed0" / "data.json"
            path.write_text(json.dumps(counts | {"without_picture": 0}))
        paper = evaluations.Paper(selected, evaluations.Folders(folders), ())
        return paper_tables.collect(paper, base, selected, jobs)

    return make


@pytest.fixture
def drawn(monkeypatch):
    """A function `content -> (title, panels)` of its only picture."""

    def draw(content):
        found = []
        monkeypatch.setattr(panels, "picture", lambda *args: found.append(args))
        [name] = figures.pictures(content)
        assert name == content["studies"][0]["picture"]
        return found[0]

    return draw


def of_teacher(run, dataset, splits, *scores):
    return {
        (run, seed, f"teacher/{dataset}_svm{splits}"): score for seed, score in enumerate(scores)
    }


def close(value, mean, spread):
    return value.mean == pytest.approx(mean) and value.spread == pytest.approx(spread)


def test_a_table_is_bars_with_the_spread_over_seeds_beside_the_papers(collect, drawn):
    scores = of_teacher("xkd", "ucf101", "_split1", 0.80, 0.82)
    scores |= of_teacher("no_refine", "ucf101", "_split1", 0.70)
    title, (hmdb, ucf, esc) = drawn(collect("table4", scores))
    assert title.startswith("Table 4. Effect of refine. In %; the paper's: Table 4, split 1, 800")
    assert (ucf.title, ucf.names) == ("UCF101 SVM", ["without", "with"])
    assert close(ucf.ours[1], 81, 2**0.5) and ucf.ours[0] == Value(pytest.approx(70), None)
    assert ucf.paper == [Value(81.0), Value(84.7)]
    assert hmdb.ours == [None, None] == esc.ours


def test_what_is_not_the_papers_is_said_in_the_picture(collect, drawn):
    title, _ = drawn(collect("figureS1", {}, "--config.batch_size=8"))
    assert "NOT the paper's setting: batch_size is 8, not 256" in title
    assert "0.997 is the most stable" in title


def test_figure_4_has_recordings_across_and_a_curve_for_each_network(collect, drawn):
    scores = of_teacher("xkd", "ucf101", "", 0.8, 0.8)
    scores |= of_teacher("xkd_kinetics_sound", "ucf101", "", 0.7)
    scores |= of_teacher("xkd_audioset_base", "ucf101", "", 0.85)
    scores |= of_teacher("xkd_audioset", "ucf101", "", 0.9)
    counts = {"xkd": 238_000, "xkd_kinetics_sound": 22_700}
    counts |= dict.fromkeys(("xkd_audioset", "xkd_audioset_base"), 1_750_000)
    data = ("audioset", "kinetics_sound")
    _, (ucf, *_) = drawn(collect("figure4", scores, data=data, recordings=counts))
    base, base_paper, large, large_paper = ucf.curves
    means = {x: round(value.mean, 6) for x, value in base.points.items()}
    assert means == {22_700: 70, 238_000: 80, 1_750_000: 85}
    assert {x: round(value.mean, 6) for x, value in large.points.items()} == {1_750_000: 90}
    assert base_paper.points == {240_000: Value(83.8)} and base_paper.single
    assert large_paper.points == {1_800_000: Value(88.4)}
    assert ucf.log and list(ucf.ticks.values()) == ["22K", "240K", "1.8M"]


def test_figure_s1_has_the_momenta_in_order(collect, drawn):
    scores = of_teacher("ema_0.999", "esc50", "_split1", 0.8)
    scores |= of_teacher("default", "esc50", "_split1", 0.9)  # the same run as ema_0.997
    _, (*_, esc) = drawn(collect("figureS1", scores))
    assert esc.ticks == {0: "0.98", 1: "0.99", 2: "0.997", 3: "0.999"}
    ours, theirs = esc.curves
    assert {x: round(value.mean, 6) for x, value in ours.points.items()} == {2: 90, 3: 80}
    assert theirs.points == {2: Value(88.0)}


def test_figure_s2_has_video_down_and_sound_across(collect, drawn):
    scores = of_teacher("mask_v0.80_a0.85", "hmdb51", "_split1", 0.5)
    _, (hmdb, *_) = drawn(collect("figureS2", scores))
    assert (hmdb.rows, hmdb.columns) == ([0.8, 0.85, 0.9], [0.75, 0.8, 0.85])
    assert list(hmdb.ours) == [(0.8, 0.85)] and hmdb.ours[0.8, 0.85].mean == 50
    assert hmdb.paper == {(0.85, 0.8): Value(58.5)}


def test_figure_s6_has_both_networks_along_the_pretraining(collect, drawn):
    scores = of_teacher("xkd", "hmdb51", "_split1_2of8", 0.4)
    scores |= of_teacher("xkd", "hmdb51", "_split1", 0.6)
    scores["xkd", 0, "student/hmdb51_svm_split1_7of8"] = 0.5
    content = collect("figureS6", scores)
    _, (_, hmdb) = drawn(content)
    teacher, teacher_paper, student, student_paper = hmdb.curves
    assert {x: round(value.mean, 6) for x, value in teacher.points.items()} == {200: 40, 800: 60}
    assert list(student.points) == [700] and student.dashed and not teacher.dashed
    assert teacher_paper.points == {800: Value(59.3)} and student_paper.points == {800: Value(57.8)}
    assert hmdb.x_label == "epochs of pretraining"
    lines = [line.split() for line in paper_tables.text(content).splitlines()]
    assert lines[lines.index(["xkd", "after", "2/8", "-", "-"]) + 1] == ["ours", "-", "40.0"]


def test_a_length_that_is_not_the_papers_is_said_on_the_axis(collect, drawn):
    _, (ucf, _) = drawn(collect("figureS6", {}, "--config.steps=400"))
    assert ucf.x_label == "steps of pretraining (the paper's: 800 epochs)"
    assert ucf.curves[1].points == {400: Value(84.7)}


def test_every_kind_of_panel_is_drawn():
    curve = panels.Curve("ours", {1.0: Value(50, 2), 9.0: Value(60)}, 0)
    kinds = (
        panels.Curves("a", "x", [curve, curve._replace(single=True)], True, {1.0: "one"}),
        panels.Bars("a", ["first", "second $x$"], [Value(50, 2), None], [Value(55), Value(60)]),
        panels.Heat("a", ("y", "x"), [1, 2], [3], {(1, 3): Value(50)}, {(2, 3): Value(60)}),
    )
    for panel in kinds:
        one, two = (panels.picture("title", [panel] * count) for count in (1, 2))
        assert one.dtype == np.uint8 and two.shape[1] > one.shape[1]
        assert len(np.unique(one.reshape(-1, 3), axis=0)) > 20


def test_bars_are_as_long_as_their_values():
    def blue(mean):
        picture = panels.picture("", [panels.Bars("a", ["x"], [Value(mean)], [Value(100.0)])])
        return (picture == (0x3B, 0x6E, 0xA5)).all(axis=-1).any(axis=0).sum()

    assert blue(80.0) / blue(40.0) == pytest.approx(2, rel=0.2)


def log(workdir, **metrics):
    workdir.mkdir(parents=True)
    lines = [
        json.dumps({"step": step} | {name.replace("__", "/"): values[place]
                                     for name, values in metrics.items()})
        for place, step in enumerate((10, 20))
    ]  # fmt: skip
    (workdir / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def pictures(tmp_path, figure, inputs=()):
    base, selected = base_of(), selection.select([figure])
    jobs = plan.jobs(base, selected, [0], tmp_path)
    return dict(run_figures.pictures(base, selected, jobs, inputs))


def test_figure_s3_has_all_runs_in_each_chart(tmp_path, monkeypatch):
    charts = []
    monkeypatch.setattr(
        run_figures.Lines, "picture", lambda self: charts.append(self) or np.zeros((2, 3, 3))
    )
    assert pictures(tmp_path, "figureS3") == {"figureS3.png": None}  # nothing is pretrained
    log(tmp_path / "default/seed0", distillation__video=(3, 2), kl__audio_to_video=(2, 1))
    log(tmp_path / "no_alignment/seed0", distillation__video=(3, 3), kl__audio_to_video=(1, 0))
    [picture] = pictures(tmp_path, "figureS3").values()
    assert [chart.title for chart in charts] == ["distillation/video", "kl/audio_to_video"]
    series = {row: list(values) for row, values in charts[1].series.items()}
    assert series == {"default": [2, 1], "no_alignment": [1, 0]}
    assert picture.shape == (2, 6, 3)


def test_figure_s4_has_the_losses_of_the_default(tmp_path, monkeypatch):
    charts = []
    monkeypatch.setattr(
        run_figures.Lines, "picture", lambda self: charts.append(self) or np.zeros((2, 3, 3))
    )
    log(tmp_path / "default/seed0", total=(3, 2), reconstruction__video=(1, 1), probe__top1=(1, 1))
    assert pictures(tmp_path, "figureS4")["figureS4.png"] is not None
    assert [chart.title for chart in charts] == [
        "Total loss",
        "Reconstruction (masked patches)",
    ]


class Loaded(NamedTuple):
    """Stands for the networks of a run, whose attention is all on one token."""

    token: int

    def grid(self, modality):
        return (2, 1, 1)

    def view(self, modality):
        return {}

    def encode(self, views, batch_size):
        weights = np.zeros((len(views["video"]), 3, 2), np.float32)
        weights[..., self.token] = 1
        return {("teacher", "video"): networks.Encoded(None, weights, None, None)}


def test_figure_3_has_the_attention_of_both_models(tmp_path, monkeypatch):
    for row in ("no_refine", "xkd"):
        path = tmp_path / row / "seed0/checkpoints/5"
        path.mkdir(parents=True)
        (path / "_CHECKPOINT_METADATA").write_text("{}")
    tokens = {tmp_path / "no_refine/seed0": 0, tmp_path / "xkd/seed0": 1}
    monkeypatch.setattr(run_figures.networks, "load", lambda path: Loaded(tokens[path]))
    frames = np.full((3, 4, 8, 8, 3), 200, np.uint8)
    read = clips.Clips({"video": frames}, ["a/b.mp4"] * 3, np.array([0, 1, 1]), ("run", "$sing"),
                       np.ones(3, bool), "", [])  # fmt: skip
    monkeypatch.setattr(run_figures.clips, "of_files", lambda inputs, views, count: read)
    strips = []
    monkeypatch.setattr(
        run_figures.attention, "montage", lambda rows: strips.append(rows) or np.zeros((2, 3, 3))
    )
    [picture] = pictures(tmp_path, "figure3", ["a"]).values()
    assert picture.shape == (4, 6, 3)  # three clips, two across
    assert [list(rows) for rows in strips[:2]] == [
        ["run", "without refinement", "with refinement"],
        [r"\$sing", "without refinement", "with refinement"],
    ]
    plain, without, refined = strips[0].values()
    half = plain.shape[1] // 2
    assert (plain == 200).all()
    # The first token is the first half of the clip; attention is orange.
    assert (without[:, :half] == without[0, 0]).all()
    assert (without[:, :half] != without[:, half:]).any()
    np.testing.assert_array_equal(without[:, :half], refined[:, half:])
    # A run that has failed before its first checkpoint is not drawn, nor is one model alone.
    (tmp_path / "failed/xkd/seed0").mkdir(parents=True)
    assert pictures(tmp_path / "failed", "figure3") == {"figure3.png": None}
    assert pictures(tmp_path / "none", "figure3") == {"figure3.png": None}
