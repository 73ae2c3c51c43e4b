"""Ablations as a user runs them: real pretrainings and evaluations, stopped and resumed."""

import json
import pathlib
import subprocess
import time

import pytest

from tests.integration import runs
from tests.saved_runs import logged_lines

STEPS = 10
FLAGS = (
    f"--config.steps={STEPS}",
    *("--config.data.generated.train=40", "--config.data.generated.test=10"),
    *("--config.saving.every_steps=1", "--config.log.every_steps=1"),
    *("--eval.classifier.svm.c=(0.1,)", "--eval.classifier.knn.k=(1,)"),
    "--eval.clips.train.count=1",
    "--eval.clips.test.count=1",
)


def ablate(*flags: str, base: str = runs.TINY, cold: bool = False) -> subprocess.Popen:
    return runs.start_module("xkd_jax.ablate", f"--base={base}", *flags, cold=cold)


def output_of(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    return output


def logged_steps(workdir: pathlib.Path) -> list[int]:
    return [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").open()]


@pytest.mark.slow
def test_rows_are_run_stopped_gone_on_with_and_tabled(tmp_path):
    output = tmp_path / "out"
    flags = [f"--config.data.path={runs.clips(40, 10)}", "--rows=student,ae,no_refine,xkd"]
    flags += [f"--output={output}", *FLAGS]

    process = ablate(*flags)
    runs.wait_for_step(process, output / "xkd/seed0", 3)
    process.terminate()
    assert "Stopped. To go on" in output_of(process)
    stopped_at = runs.saved_steps(output / "xkd/seed0")[-1]
    assert 3 <= stopped_at < STEPS
    finished = [output / "ae/seed0" / name for name in ("metrics.jsonl", "teacher/results.json")]
    times = [path.stat().st_mtime_ns for path in finished]
    assert not (output / "no_refine").exists()

    said = output_of(ablate(*flags))
    # Finished runs are not repeated, a started run is resumed, and no step is done twice.
    assert times == [path.stat().st_mtime_ns for path in finished]
    for run in ("xkd", "ae", "no_refine"):
        assert logged_steps(output / run / "seed0") == list(range(1, STEPS + 1))
    assert "left" in said  # the time left

    # Each row trained what its name says.
    def last(run, term):
        return logged_lines(output / run / "seed0")[-1][term]

    assert last("ae", "gradient_norm/video/projector") == 0
    assert last("xkd", "gradient_norm/video/projector") > 0
    results = json.loads((output / "results.json").read_text())
    table = {row["row"]: row for study in results["studies"] for row in study["rows"]}
    assert list(table) == ["ae", "xkd", "no_refine", "student"]
    for name, row in table.items():
        run = {"student": "xkd"}.get(name, name)
        path = output / run / "seed0" / row["network"] / "results.json"
        for result in json.loads(path.read_text())["rows"]:
            measure = f"{result['features']} {result['classifier']}"
            score = result["pretrained"]["scores"]["top1"]["mean"]
            assert row["scores"][measure] == {"mean": score, "spread": None}
    assert table["no_refine"]["paper"]["HMDB51 SVM"] == 53.5
    for text in (said, (output / "table.md").read_text()):
        assert "53.5" in text and "no_refine" in text and "The paper's" in text
    assert (output / "table.png").stat().st_size > 1000

    # Another call has nothing left to do.
    start = time.monotonic()
    output_of(ablate(*flags, "--table_only"))
    assert time.monotonic() - start < 100
    assert json.loads((output / "results.json").read_text()) == results
    listed = output_of(ablate(*flags, "--dry_run")).splitlines()
    assert len(listed) == 3 and all(": finished (" in line for line in listed)


@pytest.mark.slow  # trains and evaluates, each in a program of its own
def test_a_table_is_measured_as_the_paper_measures_it(data, tmp_path):
    """One row of a table, on a miniature of one of the table's three data sets."""
    output = tmp_path / "out"
    flags = [f"--config.data.path={runs.clips()}", "--rows=student", "--evaluate=paper"]
    flags += [f"--eval.ucf101={data('ucf101')}", "--eval.clips.train.count=2"]
    flags += ["--eval.classifier.svm.c=(0.01,100.0)", f"--output={output}"]
    said = output_of(ablate(*flags))

    content = json.loads((output / "paper.json").read_text())
    [study] = content["studies"]
    assert (study["number"], list(study["gaps"])) == ("6", ["HMDB51 SVM", "ESC50 SVM"])
    student, teacher = study["entries"]
    assert (student["label"], teacher["label"], teacher["ours"]) == ("Student", "Teacher", None)
    folder = output / "xkd" / "seed0" / "student" / "ucf101_svm_split1"
    results = json.loads((folder / "results.json").read_text())
    assert list(results["partitions"]) == ["1"]
    assert results["checkpoint"]["network"] == "student"
    ours = student["ours"]["UCF101 SVM"]
    assert ours["ours"] == results["best_on_test"]
    assert ours["held_out"]["mean"] == results["scores"]["top1"]["mean"]
    assert student["ours"]["HMDB51 SVM"] == {"by_seed": {}}
    assert (student["paper"]["HMDB51 SVM"], teacher["paper"]["HMDB51 SVM"]) == (57.8, 59.3)
    # The evaluation itself says so too.
    assert "clips.train.count is 2, not 25" in results["unlike_paper"]
    assert (output / "table6.png").stat().st_size > 1000
    assert "![Table 6](table6.png)" in (output / "paper.md").read_text()
    # What is not the paper's is said before any number.
    header = " ".join(said[: said.index("UCF101 SVM  ")].split())
    assert "Table 6. Comparison between students and teachers" in header
    assert "NOT the paper's setting: data.dataset is 'generated', not kinetics400" in header
    assert (
        "No data were given for HMDB51 SVM, ESC50 SVM (see --eval.hmdb51, --eval.esc50)" in header
    )
    assert "UCF101 SVM: clips.train.count is 2, not 25" in study["differences"]

    # Another call has nothing left to do, and another protocol is another evaluation.
    [line] = output_of(ablate(*flags, "--dry_run")).splitlines()
    assert line.endswith("seed0: finished (student)")
    [line] = output_of(ablate(*flags, "--eval.clips.test.count=1", "--dry_run")).splitlines()
    assert "pretrained, at step 24" in line


def refusal(*flags: str, **kwargs) -> str:
    process = ablate(*flags, **kwargs)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 1
    [line] = output.splitlines()
    return line


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--rows=no_refin"], "no_refine"),
        (["--rows=xkd", "--config.xkd.lambda_aee=1"], "lambda_ae"),
        (["--rows=xkd", "--seeds=0"], "allowed: 1 or more"),
        (["--rows=xkd", "--evaluate=papers"], "--evaluate=papers; allowed: compare, paper"),
        (["--rows=xkd", "--eval.esc50=X"], "--eval.esc50 is allowed with --evaluate=paper alone"),
        (["--rows=table4", "--evaluate=paper"], "--eval.hmdb51=DIR is missing"),
        (["--rows=table4", "--evaluate=paper", "--eval.esc50=no"], "holds no prepared data"),
        (["--rows=xkd", "--run=mas"], "--run=mas; allowed with these --rows: xkd"),
        (["--rows=xkd", "--steps=3"], "--steps=3 is not a flag; allowed: --config.FIELD=VALUE"),
        (["--rows=xkd", "--checkpoint.xkd="], "--checkpoint.xkd is empty; allowed: a value"),
        (["--rows=xkd", "--eval.esc50="], "--eval.esc50 is empty; allowed: a value"),
        (["--rows=xkd", "--checkpoint.xkt=A"], "--checkpoint.xkt=A is of no row; allowed rows: "),
    ],
)
def test_wrong_flags_are_refused_in_one_line(flags, part, tmp_path):
    line = refusal(*flags, f"--output={tmp_path / 'out'}")
    assert line.startswith("error: ") and part in line
    assert not (tmp_path / "out").exists()


def test_a_base_that_is_not_there_or_no_pretraining_is_refused():
    assert "no such file" in refusal("--rows=xkd", base="configs/no.py")
    assert "is not a pretraining" in refusal("--rows=xkd", base="configs/eval/svm.py")


@pytest.mark.slow  # two cold programs
def test_a_run_that_fails_is_told_of_and_its_row_stays_empty(tmp_path):
    flags = ["--rows=da1", f"--output={tmp_path}", f"--config.data.path={tmp_path / 'nowhere'}"]
    process = ablate(*flags, base="configs/folder.py", cold=True)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 1
    assert output.splitlines()[-1].startswith(f"error: {tmp_path}/da1/seed0 ended with 1: error: ")
    assert output.splitlines()[-1].endswith("allowed: an existing folder")
    [study] = json.loads((tmp_path / "results.json").read_text())["studies"]
    assert [(row["row"], row["scores"]) for row in study["rows"]] == [("da1", {})]


def test_the_program_lists_all_rows_and_asks_for_no_workdir():
    code, output = runs.call(config="configs/ablation.py:list")
    assert code == 0
    assert "\n  no_refine " in output and "\n  ema_0.99 " in output
    code, output = runs.call(config="configs/ablation.py:da1")
    assert code == 1 and "--workdir=FOLDER is missing" in output


def test_jobs_of_the_papers_tables_keep_their_tables(data):
    folder = data("esc50")
    flags = ["--rows=table4,tableS15", "--evaluate=paper", f"--eval.esc50={folder}", "--output=out"]
    lines = output_of(ablate(*flags, "--jobs")).splitlines()
    assert [line.split("--run=")[1].split()[0] for line in lines] == [
        *("no_refine", "xkd", "mats", "mas")
    ]
    assert lines[0] == (
        "python -m xkd_jax.ablate --base=tests/integration/tiny_run.py --rows=table4,tableS15 "
        f"--run=no_refine --evaluate=paper --output=out --seed=0 --eval.esc50={folder}"
    )


def test_jobs_are_commands_that_make_the_same_runs():
    flags = ["--rows=xkd,student,ae", "--seeds=2", "--output=my out", "--config.steps=3"]
    lines = output_of(ablate(*flags, "--eval.classifier.knn.k=(1,)", "--jobs")).splitlines()
    assert len(lines) == 4  # two pretrainings, of two seeds
    assert lines[2] == (
        "python -m xkd_jax.ablate --base=tests/integration/tiny_run.py --rows=ae "
        "'--output=my out' --seed=1 --config.steps=3 '--eval.classifier.knn.k=(1,)'"
    )
