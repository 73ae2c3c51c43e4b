"""The paper's evaluations: which ones a table needs, with which flags, on which data."""

import json
import pathlib
import shlex
import shutil

import pytest

from input_pipeline.prepared.records import Recipe
from input_pipeline.programs import config_flag
from tests.saved_runs import save_run
from xkd_jax import ablate
from xkd_jax.ablation import evaluations, plan, selection, weights
from xkd_jax.ablation.weights import Weights
from xkd_jax.config import checks
from xkd_jax.encoders import pretrained
from xkd_jax.paper import rows, tables

K400 = "configs/k400.py"
OUTPUT = pathlib.Path("out")


def make_base(*flags, data=None):
    config = config_flag.load_config(K400, flags)
    return plan.Base(K400, flags, config, True, data or {})


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Prepared data sets without recordings, of the sizes that the paper's protocols need."""
    root = tmp_path_factory.mktemp("data")

    def make(name, side):
        path = root / f"{name}_{side}"
        path.mkdir(exist_ok=True)
        Recipe(name, 8.0, side, ("clap",), ()).save(path)
        return str(path)

    return evaluations.Folders(
        {name: make(name, 128) for name in evaluations.DATASETS},
        {name: make(name, 256) for name in evaluations.FINETUNED},
        {name: make(name, 128) for name in evaluations.PRETRAINING},
    )


def planned(folders, *names, flags=()):
    """Returns the evaluations of each pretraining that rows need."""
    base, selected = make_base(data=folders.pretraining), selection.select(names)
    paper = evaluations.Paper(selected, folders, flags)
    return {job.run: paper.of(job) for job in plan.jobs(base, selected, [0], OUTPUT)}


def test_a_table_is_measured_by_its_own_protocols_on_split_1(folders):
    found = planned(folders, "table4")
    assert list(found) == ["no_refine", "xkd"]
    assert [e.name for e in found["xkd"]] == [
        "teacher/hmdb51_svm_split1",
        "teacher/ucf101_svm_split1",
        "teacher/esc50_svm_split1",
    ]
    first = found["xkd"][0]
    assert (first.title, first.config) == (
        "HMDB51 SVM of the teacher, split 1",
        "configs/eval/svm_hmdb51.py",
    )
    config = first.protocol()
    assert config.data.partitions == ("1",)
    assert config.data.path == folders.evaluation["hmdb51"]
    assert (config.checkpoint, config.network) == ("out/xkd/seed0", "teacher")
    assert config.features.cache == "out/features"
    assert (config.clips.train.count, config.clips.test.count) == (25, 3)
    [job, _] = plan.jobs(make_base(), selection.select(["table4"]), [0], OUTPUT)
    command = first.command(job)
    assert command[-1] == "--workdir=out/no_refine/seed0/teacher/hmdb51_svm_split1"
    assert shlex.split(shlex.join(command)) == command


def test_tables_of_all_splits_have_all_of_them_and_larger_frames_for_finetuning(folders):
    found = {e.name: e.protocol() for e in planned(folders, "table7")["xkd_audioset"]}
    assert list(found) == [
        *("teacher/ucf101_svm", "teacher/ucf101_finetune"),
        *("teacher/hmdb51_svm", "teacher/hmdb51_finetune"),
        *("teacher/kinetics400_linear", "teacher/kinetics400_finetune"),
    ]
    assert all(config.data.partitions == () for config in found.values())
    path = found["teacher/ucf101_finetune"].data.path
    assert path == folders.finetuning["ucf101"] != found["teacher/ucf101_svm"].data.path
    sounds = {e.name: e.protocol() for e in planned(folders, "table8")["mas"]}
    assert "student/esc50_finetune" in sounds
    assert sounds["student/esc50_finetune"].data.path == folders.evaluation["esc50"]


def test_every_benchmark_of_the_paper_has_a_config_of_its_own_protocol(folders):
    found = [e for runs in planned(folders, "all").values() for e in runs]
    measured = {}
    for evaluation in found:
        benchmark = tuple(evaluation.protocol().paper.split("/"))
        assert pathlib.Path(evaluation.name).name.startswith("_".join(benchmark))
        measured[benchmark] = evaluation.config
    assert set(measured) == set(tables.BENCHMARKS)


def test_an_evaluation_that_two_tables_share_is_made_once(folders):
    names = [e.name for e in planned(folders, "table4", "table5", "tableS15")["xkd"]]
    assert len(names) == len(set(names)) == 6  # three of the teacher, three of the student
    names = [e.name for e in planned(folders, "table1", "table7")["xkd"]]
    assert {"teacher/ucf101_svm_split1", "teacher/ucf101_svm"} <= set(names)


def test_data_that_are_not_given_leave_gaps(folders):
    given = evaluations.Folders({"esc50": folders.evaluation["esc50"]})
    assert [e.name for e in planned(given, "table4")["xkd"]] == ["teacher/esc50_svm_split1"]
    paper = evaluations.Paper(selection.select(["table4"]), given, ())
    gaps = paper.gaps(tables.TABLES["4"])
    assert gaps == [("hmdb51", "svm"), ("ucf101", "svm")]
    assert evaluations.missing_flag(("hmdb51", "finetune")) == "--finetune.hmdb51"
    with pytest.raises(ValueError, match=r"--eval.hmdb51=DIR is missing: .*HMDB51 SVM, UCF101"):
        planned(evaluations.Folders(), "table4")


def test_a_folder_with_other_data_is_refused(folders, tmp_path):
    folders.check()
    wrong = evaluations.Folders({"ucf101": folders.evaluation["esc50"]})
    with pytest.raises(ValueError, match=r"^--eval.ucf101=\S+ holds esc50; allowed: a folder"):
        wrong.check()
    empty = evaluations.Folders(finetuning={"ucf101": str(tmp_path)})
    with pytest.raises(ValueError, match=r"^--finetune.ucf101=\S+ holds no prepared data; allowed"):
        empty.check()


def test_a_field_is_set_where_there_is_one(folders):
    flags = ["--config.clips.train.count=2", "--config.dropout=0.1"]
    found = {e.name: e.protocol() for e in planned(folders, "table8", flags=flags)["xkd"]}
    assert found["teacher/esc50_svm"].clips.train.count == 2
    assert found["teacher/esc50_finetune"].dropout == 0.1
    with pytest.raises(ValueError, match=r"--eval.clip.train.count is not a field .*svm_hmdb51.py"):
        planned(folders, "table4", flags=["--config.clip.train.count=2"])
    with pytest.raises(ValueError, match=r"^--eval.data.partitions=\(\); allowed with"):
        planned(folders, "table4", flags=["--config.data.partitions=()"])


def differences(base, folders, study, *flags):
    [selected] = selection.select([study])
    paper = evaluations.Paper([selected], folders, flags)
    return paper.differences(base, study, selected.rows)


def test_the_papers_setting_has_no_difference(folders):
    base = make_base(data=folders.pretraining)
    for study in rows.STUDIES:
        assert differences(base, folders, study) == []


def test_every_difference_is_told(folders):
    base = make_base("--config.epochs=20")
    assert differences(base, folders, "refinement") == ["epochs is 20.0, not 800.0"]
    assert differences(base, folders, "alignment") == ["epochs is 20.0, not 400.0"]
    base = make_base(f"--config.data.path={folders.evaluation['kinetics_sound']}")
    assert differences(base, folders, "networks") == [
        "pretrained on kinetics_sound, not kinetics400"
    ]
    small = folders._replace(finetuning={"ucf101": folders.evaluation["ucf101"]})
    assert differences(
        make_base(data=folders.pretraining),
        small,
        "video_recognition",
        "--config.clips.test.count=1",
    ) == [
        "UCF101 SVM: clips.test.count is 1, not 3",
        "UCF101 FT: the data were prepared with --short_side=128, not 256",
        "HMDB51 SVM: clips.test.count is 1, not 3",
        "K400 linear: clips.test.count is 1, not 3",
    ]


def test_rows_get_the_papers_recipe_where_the_base_has_none_of_its_own(folders):
    base = make_base(data=folders.pretraining)
    for row, epochs in (("xkd", 800), ("default", 400), ("xkd_audioset", 400)):
        assert plan.row_config(base, row, 0).epochs == epochs
    assert plan.row_config(base, "xkd_audioset", 0).data.path == folders.pretraining["audioset"]
    assert plan.row_config(base, "mas", 0).xkd.teacher_temperature.video_end == 0.11
    assert plan.runs_of_rows(base)["default"] == "default"
    own = make_base("--config.epochs=20")
    assert plan.row_config(own, "default", 0).epochs == 20
    assert plan.row_config(own, "default", 0).xkd.teacher_temperature.video_end == 0.06
    # Without AudioSet its row is left out.
    left_out = plan.impossible(own, selection.select(["table7"]))
    assert left_out == {
        "xkd_audioset": "the paper pretrains it on audioset: --data.audioset=DIR is missing"
    }


@pytest.mark.parametrize("row", ["xkd", "default", "mas", "xkd_audioset", "local_2s_2s"])
def test_the_flags_of_a_pretraining_give_its_config(row, folders):
    base = make_base("--config.batch_size=512", data=folders.pretraining)
    [job] = plan.jobs(base, selection.select([row]), [1], OUTPUT)
    _, *flags, _ = plan.pretraining_flags(base, job)
    assert config_flag.load_config(K400, flags).to_dict() == plan.row_config(base, row, 1).to_dict()


def test_a_figure_over_the_length_of_a_pretraining_has_its_checkpoints(folders, tmp_path):
    base, selected = make_base(), selection.select(["figureS6", "table6"])
    paper = evaluations.Paper(selected, folders, ())
    [job] = plan.jobs(base, selected, [0], tmp_path)
    assert "--config.saving.milestones=8" in plan.pretraining_flags(base, job)
    found = {e.name: e for e in paper.of(job)}
    of_video = [name for name in found if name.startswith("teacher/ucf101")]
    # The end of the run is evaluated once, for the table and for the figure.
    assert sorted(of_video) == [
        "teacher/ucf101_svm_split1",
        *(f"teacher/ucf101_svm_split1_{part}of8" for part in range(1, 8)),
    ]
    third = found["student/hmdb51_svm_split1_3of8"]
    assert third.title == "HMDB51 SVM of the student, split 1, after 3/8"
    with pytest.raises(plan.NotKeptError, match=r"config\.saving\.milestones=8"):
        third.command(job)
    for step in (282, 750):
        folder = job.workdir / "checkpoints" / str(step)
        folder.mkdir(parents=True)
        (folder / "_CHECKPOINT_METADATA").write_text("{}")
    config_file, *flags, workdir = third.command(job)
    config = config_flag.load_config(config_file.removeprefix("--config="), flags)
    assert config.checkpoint == str(job.workdir / "checkpoints" / "282")
    assert workdir.endswith("student/hmdb51_svm_split1_3of8")
    assert found["teacher/hmdb51_svm_split1"].protocol().checkpoint == str(job.workdir)
    # Tables alone keep no checkpoints.
    [job] = plan.jobs(base, selection.select(["table6"]), [0], tmp_path)
    assert not any("milestones" in flag for flag in plan.pretraining_flags(base, job))


def test_a_figure_of_the_runs_themselves_needs_no_evaluation(folders):
    base, selected = make_base(), selection.select(["figure3", "table4"])
    paper = evaluations.Paper(selected, folders, ())
    for job in plan.jobs(base, selected, [0], OUTPUT):
        assert paper.draws(job) and paper.of(job)
    alone = evaluations.Paper(selection.select(["figureS3"]), evaluations.Folders(), ())
    [job, *_] = plan.jobs(base, selection.select(["figureS3"]), [0], OUTPUT)
    assert alone.draws(job) and not alone.of(job)


def test_the_papers_numbers_in_a_figure_are_those_of_its_tables():
    def numbers(figure):
        [(study, _)] = selection.select([figure])
        table = evaluations.table_of(rows.STUDIES[study])
        return {e.row: e.percents for e in table.entries if any(p is not None for p in e.percents)}

    default = (58.5, 82.6, 88.0)
    assert numbers("figure4") == {"xkd": (83.8, 57.4, 89.4), "xkd_audioset": (88.4, 62.2, 93.6)}
    assert numbers("figureS1") == {"default": default, "ema_0.997": default}
    assert numbers("figureS2") == {"default": default, "mask_v0.85_a0.80": default}
    assert numbers("figureS5") == {"default": default}
    assert numbers("figureS6") == {"xkd": (84.7, 59.3), "student": (84.4, 57.8)}


def test_given_weights_stand_for_a_pretraining(folders, tmp_path):
    release = {"source": "release", "files": {"teacher": "0a1b"}}
    given = {
        "student": Weights("release", None, release),
        "mas": Weights("runs/mine", {"seed": 1}, {"source": "run"}),
    }
    base = make_base()._replace(weights=given)
    selected = selection.select(["table6", "table5"])
    left_out = plan.impossible(base, selected)
    assert left_out == {"mats": "its weights are not given: --checkpoint.mats=FOLDER is missing"}
    jobs = {job.run: job for job in plan.jobs(base, selected, [0], tmp_path)}
    # Student and teacher are of one pretraining, so of the same weights.
    assert {run: (job.rows, job.weights) for run, job in jobs.items()} == {
        "xkd": (("xkd", "student"), given["student"]),
        "mas": (("mas",), given["mas"]),
    }
    xkd = jobs["xkd"]
    assert plan.is_pretrained(base, xkd) and xkd.workdir == tmp_path / "xkd/given"
    paper = evaluations.Paper(selected, folders, ())
    found = {e.name: e.protocol() for e in paper.of(xkd)}
    student = found["student/ucf101_svm_split1"]
    assert (student.checkpoint, student.network) == ("release", "student")
    # Results of other weights do not count, whether they have another path or the same one.
    others = release | {"files": {"teacher": "0a1c"}}
    for path, provenance, counts in (
        ("release", release, True),
        ("another", release, False),
        ("release", others, False),
    ):
        assert _counts(xkd, student, "student/ucf101_svm_split1", path, provenance) == counts


def _counts(job, protocol, name, path, provenance):
    """Returns whether results of weights at a path and of an origin count as those of a job."""
    content = {"protocol": protocol.to_dict() | {"checkpoint": str(path)}}
    content["checkpoint"] = {"provenance": provenance}
    folder = job.evaluation(name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(content))
    return bool(plan.evaluated(job, name, protocol))


def test_results_of_a_run_that_has_changed_do_not_count(folders, tmp_path):
    save_run(tmp_path / "run", step=5)
    save_run(tmp_path / "run", step=7)
    flags = {"no_refine": str(tmp_path / "run")}
    base = make_base()._replace(weights=weights.read(flags))
    [job] = plan.jobs(base, selection.select(["table4"]), [0], tmp_path / "out")
    name, of = "teacher/ucf101_svm_split1", base.weights["no_refine"].provenance
    paper = evaluations.Paper(selection.select(["table4"]), folders, ())
    protocol = next(e for e in paper.of(job) if e.name == name).protocol()
    earlier = tmp_path / "run/checkpoints/5"
    of_earlier = pretrained.load(earlier, lambda _: False).description["provenance"]
    assert _counts(job, protocol, name, tmp_path / "run", of)
    assert _counts(job, protocol, name, earlier, of_earlier)
    assert not _counts(job, protocol, name, earlier, of)
    assert not _counts(job, protocol, name, tmp_path / "run/checkpoints/6", of)
    # The same path and step, but other weights.
    shutil.rmtree(tmp_path / "run")
    save_run(tmp_path / "run", step=7, query="mean")
    job = job._replace(weights=weights.read(flags)["no_refine"])
    assert not _counts(job, protocol, name, tmp_path / "run", of)


def test_the_recipe_of_given_weights_is_told_as_far_as_it_is_known(folders):
    config = make_base("--config.batch_size=8").config.to_dict()
    given = {"no_refine": Weights("release", None, {}), "xkd": Weights("runs/mine", config, {})}
    base, selected = make_base()._replace(weights=given), selection.select(["table4"])
    jobs = plan.jobs(base, selected, [0], OUTPUT)
    paper = evaluations.Paper(selected, folders, ())
    found = paper.differences(base, "refinement", ["no_refine", "xkd"], jobs)
    assert found == ["how release was pretrained is not known", "batch_size is 8, not 256"]


def test_weights_of_a_run_come_with_its_config(tmp_path):
    config, _, _ = save_run(tmp_path / "run", "xkd_mas")
    [found] = weights.read({"mas": str(tmp_path / "run")}).values()
    assert found.path == str(tmp_path / "run")
    assert found.config["model"]["variant"] == "xkd_mas"
    assert found.config["batch_size"] == config.batch_size


def test_two_weights_for_one_pretraining_are_refused():
    given = {"xkd": Weights("one", None, {}), "student": Weights("two", None, {})}
    base = make_base()._replace(weights=given)
    with pytest.raises(checks.ConfigError, match=r"--checkpoint.student=two; allowed: one, since"):
        plan.jobs(base, selection.select(["table6"]), [0], OUTPUT)


def refusal(*flags):
    with pytest.raises(SystemExit) as stopped:
        ablate.main(["--rows=table4", *flags])
    return str(stopped.value.code)


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--checkpoint.xkd=a"], "--checkpoint.xkd is allowed with --evaluate=paper alone"),
        (["--checkpoint.xkd=a", "--evaluate=paper", "--seeds=2"], "without --seeds and --seed"),
        (["--evaluate=paper"], "--base is missing; allowed: one of configs/*.py"),
        (["--base=configs/demo.py", "--input", "a"], "--input is allowed with --evaluate=paper"),
        (
            ["--evaluate=paper", "--checkpoint.xkd=/none/here"],
            "--checkpoint.xkd=/none/here: /none/here: no such folder; allowed:",
        ),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, part, capsys):
    said = refusal(*flags) + capsys.readouterr().err
    assert part in said and "Traceback" not in said


def test_the_score_beside_the_papers_has_c_chosen_as_the_paper_does():
    def content(classifier, best):
        return {
            "metric": "top1",
            "scores": {"top1": {"mean": 0.5, "spread": None}},
            "best_on_test": best and {"mean": best, "spread": None},
            "protocol": {"classifier": {"name": classifier}} if classifier else {},
        }

    assert evaluations.scores(content("svm", 0.6)) == {"ours": 0.6, "held_out": 0.5}
    assert evaluations.scores(content("linear", 0.6)) == {"ours": 0.5}  # the epoch is not C
    assert evaluations.scores(content(None, None)) == {"ours": 0.5}
