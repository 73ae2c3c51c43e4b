"""The paper's tables in its own layout, with ours beside, and what the header must say."""

import json

import pytest

from input_pipeline.prepared.records import Recipe
from input_pipeline.programs import config_flag
from xkd_jax.ablation import evaluations, paper_tables, plan, selection

K400 = "configs/k400.py"


def write_results(folder, held_out, best, classifier="svm", unlike=()):
    content = {
        "metric": "top1",
        "scores": {"top1": {"mean": held_out, "spread": 0.01}},
        "best_on_test": {"mean": best, "spread": 0.01},
        "protocol": {"classifier": {"name": classifier}},
        "unlike_paper": list(unlike),
    }
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(content))


@pytest.fixture
def collect(tmp_path):
    """A function `names, datasets, results, flags -> content of paper.json`."""

    def make(names, datasets, results, *flags, seeds=2):
        given = {}
        for name in datasets:
            given[name] = str(tmp_path / name)
            (tmp_path / name).mkdir()
            Recipe(name, 8.0, 128, ("clap",), ()).save(given[name])
        base = plan.Base(K400, flags, config_flag.load_config(K400, flags), True)
        selected = selection.select(names)
        jobs = plan.jobs(base, selected, range(seeds), tmp_path / "out")
        for (run, seed, name), scores in results.items():
            write_results(tmp_path / "out" / run / f"seed{seed}" / name, *scores)
        paper = evaluations.Paper(selected, evaluations.Folders(given), ())
        return paper_tables.collect(paper, base, selected, jobs)

    return make


REFINE = {
    ("no_refine", 0, "teacher/ucf101_svm_split1"): (0.79, 0.80),
    ("no_refine", 1, "teacher/ucf101_svm_split1"): (0.81, 0.82),
    ("xkd", 0, "teacher/ucf101_svm_split1"): (0.84, 0.85),
    ("xkd", 1, "teacher/ucf101_svm_split1"): (0.84, 0.85),
    ("no_refine", 0, "teacher/esc50_svm_split1"): (0.87, 0.88),
    ("no_refine", 1, "teacher/esc50_svm_split1"): (0.87, 0.88),
    ("xkd", 0, "teacher/esc50_svm_split1"): (0.9, 0.91),
}


def test_the_table_of_refinement(collect):
    content = collect(["table4"], ["ucf101", "esc50"], REFINE)
    lines = [
        ("", "without", "with"),
        ("HMDB51 SVM", "53.5", "59.3"),
        ("  ours", "-", "-"),
        ("UCF101 SVM", "81.0", "84.7"),
        ("  ours", "81.0 ± 1.4", "85.0 ± 0.0"),
        ("  ours, C held out", "80.0 ± 1.4", "84.0 ± 0.0"),
        ("ESC50 SVM", "88.0", "91.0"),
        ("  ours", "88.0 ± 0.0", "91.0"),
        ("  ours, C held out", "87.0 ± 0.0", "90.0"),
    ]
    assert paper_tables.text(content).splitlines() == [
        "Table 4. Effect of refine",
        "The paper's, in %: Table 4, split 1, 800 epochs. Ours, below: mean ± spread of 2 seeds on",
        "configs/k400.py; C chosen on the test set, as the paper chooses it, and C chosen on",
        "held-out recordings.",
        "No data were given for HMDB51 SVM (see --eval.hmdb51).",
        "Of ours, not all seeds are evaluated: ESC50 SVM of xkd (1 of 2).",
        *(f"  {label:<18}  {first:>10}  {second:>10}" for label, first, second in lines),
    ]


def test_methods_of_others_stand_in_the_papers_order(collect):
    results = {("xkd", 0, "teacher/kinetics_sound_fusion"): (0.7, 0.75)}
    [study] = collect(["table9"], ["kinetics_sound"], results, seeds=1)["studies"]
    assert [entry["label"] for entry in study["entries"]] == [
        *("CrissCross", "L_ae (AV-MAE)", "XKD", "XKD-MAS", "XKD-MATS")
    ]
    assert study["entries"][0] == {
        "label": "CrissCross",
        "row": "",
        "place": None,
        "paper": {"KS fusion": 66.7},
        "ours": None,
    }
    assert study["entries"][2]["ours"]["KS fusion"]["ours"] == {"mean": 0.75, "spread": None}


def test_in_markdown(collect):
    results = {("xkd", 0, "teacher/fsd50k_linear"): (0.4, 0.5, "linear")}
    content = collect(["table2"], ["fsd50k"], results, seeds=1)
    lines = paper_tables.markdown(content).splitlines()
    assert (
        lines[0]
        == "**Table 2. Effect of cross-modal knowledge distillation in sound classification**"
    )
    assert "FSD50K: mean average precision" in lines[2]
    assert lines[lines.index("| L_xkd | 45.8 | 91.0 |") + 1] == "| ours | 40.0 | - |"
    assert "|  | FSD50K linear | ESC50 SVM |" in lines
    assert "| L_ae | 44.3 | 90.0 |" in lines


def test_another_setting_is_said_in_the_header(collect):
    flags = ("--config.epochs=20", "--config.batch_size=8", "--config.xkd.ema_video=0.9")
    content = collect(["table4"], ["ucf101"], {}, *flags, "--config.model.video.mask_ratio=0.5")
    header = " ".join(paper_tables.text(content).split())
    assert (
        "NOT the paper's setting: batch_size is 8, not 256; epochs is 20.0, not 800.0; "
        "model.video.mask_ratio is 0.5, not 0.85; and 1 more."
    ) in header


def test_an_evaluation_on_former_data_says_so_itself(collect):
    unlike = ["the data were prepared with --short_side=64, not 128"]
    results = {("xkd", 0, "teacher/ucf101_svm_split1"): (0.8, 0.9, "svm", unlike)}
    [study] = collect(["table4"], ["ucf101"], results)["studies"]
    assert study["differences"] == [f"UCF101 SVM: {unlike[0]}"]


def test_former_results_on_data_that_are_not_given_now_are_no_gap(collect):
    results = {("xkd", 0, "teacher/hmdb51_svm_split1"): (0.5, 0.6)}
    text = paper_tables.text(collect(["table4"], ["ucf101"], results))
    assert "No data were given for ESC50 SVM (see --eval.esc50)" in text and "60.0" in text


def test_rows_that_are_left_out_are_named(collect):
    content = collect(["table7"], ["ucf101"], {}, seeds=1)
    [study] = content["studies"]
    assert list(study["left_out"]) == ["xkd_audioset"]
    assert "--data.audioset=DIR is missing" in " ".join(paper_tables.text(content).split())
    assert next(e for e in study["entries"] if e["row"] == "xkd_audioset")["ours"] is None


def test_a_figure_of_appendix_b_has_its_three_benchmarks(collect):
    results = {("ema_0.99", 0, "teacher/esc50_svm_split1"): (0.8, 0.9)}
    content = collect(["ema"], ["esc50"], results, seeds=1)
    text = paper_tables.text(content)
    assert "Figure S1. Teachers' momentum" in text
    assert "Figure S1, split 1, 400 epochs" in text
    assert content["studies"][0]["benchmarks"] == ["HMDB51 SVM", "UCF101 SVM", "ESC50 SVM"]
    assert "90.0" in text


def test_damaged_results_are_named_in_one_line(collect, tmp_path):
    path = tmp_path / "out/xkd/seed0/teacher/esc50_svm_split1/results.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"protocol": {}, "metric": "top1", "scores": 3}))
    with pytest.raises(ValueError, match=rf"^{path} is damaged; remove it to evaluate again$"):
        collect(["table4"], ["esc50"], {})


def test_what_is_written(collect, tmp_path):
    content = collect(["table4"], ["ucf101", "esc50"], REFINE)
    paper_tables.write(tmp_path / "new", content)
    assert json.loads((tmp_path / "new/paper.json").read_text()) == content
    assert (tmp_path / "new/paper.md").read_text() == paper_tables.markdown(content)
