"""The plan of an ablation: which pretrainings it needs, in which folders, with which flags."""

import json
import pathlib
import shlex

import pytest

from input_pipeline.programs import config_flag
from tests.tiny import tiny_config
from xkd_jax.ablation import evaluations, plan, selection
from xkd_jax.config.checks import ConfigError
from xkd_jax.paper import rows

DEMO = "configs/demo.py"
OUTPUT = pathlib.Path("out")


def make_base(*flags, path=DEMO):
    return plan.Base(path, flags, config_flag.load_config(path, flags))


def jobs(base, *names, seeds=(0,), output=OUTPUT):
    return plan.jobs(base, selection.select(names), seeds, output)


def test_rows_of_one_config_share_a_pretraining():
    first, second = jobs(make_base(), "xkd", "student", "default", "no_refine")
    assert first == ("xkd", 0, ("xkd", "student", "default"), OUTPUT / "xkd/seed0", 1, None)
    assert second.rows == ("no_refine",)
    assert first.networks() == ("teacher", "student")
    # The name is the same if only one of them is selected.
    assert jobs(make_base(), "student")[0].workdir == OUTPUT / "xkd/seed0"
    # The demo's momentum is 0.998, unlike the paper's.
    runs = plan.runs_of_rows(
        make_base("--config.xkd.ema_video=0.99", "--config.xkd.ema_audio=0.99")
    )
    assert runs["ema_0.99"] == "xkd" and runs["ema_0.997"] == "ema_0.997"


def test_every_seed_has_a_run_of_its_own_counted_from_the_bases():
    base = make_base("--config.seed=7")
    found = jobs(base, "xkd", "da1", seeds=range(2))
    assert [(j.run, j.seed) for j in found] == [("xkd", 0), ("da1", 0), ("xkd", 1), ("da1", 1)]
    assert [plan.row_config(base, j.run, j.seed).seed for j in found] == [7, 7, 8, 8]
    assert base.config.seed == 7 and base.config.xkd.alignment == "da"  # unchanged


# Rows that are `xkd` on any base whose data are not the paper's.
OF_OTHER_DATA = {"xkd_kinetics_sound", "xkd_audioset_base"}


@pytest.mark.parametrize("row", sorted(set(rows.ROWS) - OF_OTHER_DATA))
def test_the_flags_give_the_rows_config(row):
    """The program gets flags, so it trains the config that was checked."""
    base = make_base("--config.steps=3", path="configs/k400.py")
    [job] = jobs(base, row, seeds=[2])
    path, *flags, workdir = plan.pretraining_flags(base, job)
    made = config_flag.load_config(path.removeprefix("--config="), flags)
    assert made.to_dict() == plan.row_config(base, row, 2).to_dict()
    assert made.steps == 3
    assert workdir == f"--workdir={job.workdir}"
    assert shlex.split(shlex.join(flags)) == flags


def test_an_evaluation_is_of_the_bases_data():
    base = make_base("--config.data.path=clips", "--config.data.generated.test=5")
    [job] = jobs(base, "mas")
    flags = plan.evaluation_flags(base, job, "student", ["--config.classifiers=('knn',)"])
    config = config_flag.load_config(plan.EVALUATION, flags)
    assert (config.checkpoint, config.network) == ("out/mas/seed0", "student")
    assert (config.data.dataset, config.data.path) == ("generated", "clips")
    assert config.data.generated.test == 5
    assert config.classifiers == ("knn",)
    assert config.features.cache == "out/features"


def test_what_a_base_cannot_have_is_left_out_and_refused_alone():
    base = make_base()  # its local views are as long as its clips
    longer = {"local_1s_2s", "local_2s_1s", "local_2s_2s", "local_4s_1s"}
    found = jobs(base, "local_windows")
    assert found and not longer & {row for job in found for row in job.rows}
    assert set(plan.impossible(base, selection.select(["local_windows"]))) == longer
    with pytest.raises(ConfigError, match=r"row local_4s_1s .*demo.py: .*local_frames is 64"):
        jobs(base, "local_4s_1s")


def test_a_folder_with_another_run_is_refused(tmp_path):
    base = make_base()
    [job] = jobs(base, "da1", output=tmp_path)
    plan.check_same_run(base, job)
    job.workdir.mkdir(parents=True)
    config = plan.row_config(base, "da1", 0)
    (job.workdir / "config.json").write_text(json.dumps(config.to_dict()))
    plan.check_same_run(base, job)
    # The interval of the log does not change what a run learns.
    plan.check_same_run(make_base("--config.log.every_steps=7"), job)
    with pytest.raises(ConfigError, match=r"config.steps is 9; allowed: 2200, as .*da1/seed0"):
        plan.check_same_run(make_base("--config.steps=9"), job)
    (job.workdir / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        plan.check_same_run(base, job)


def test_a_run_is_at_its_end_by_its_newest_checkpoint(tmp_path):
    base = make_base("--config.steps=20")
    [job] = jobs(base, "xkd", output=tmp_path)
    for step, is_end in ((10, False), (20, True)):
        assert not plan.is_pretrained(base, job)
        folder = job.workdir / "checkpoints" / str(step)
        folder.mkdir(parents=True)
        (folder / "_CHECKPOINT_METADATA").write_text("{}")
        assert plan.is_pretrained(base, job) == is_end
    # The number of steps in an epoch depends on the data.
    assert not plan.is_pretrained(make_base("--config.steps=0"), job)


def test_evaluations_are_of_one_protocol(tmp_path):
    base = make_base()
    [job] = jobs(base, "xkd", output=tmp_path)

    def protocol(*more):
        flags = plan.evaluation_flags(base, job, "teacher", more)
        return config_flag.load_config(plan.EVALUATION, flags)

    assert plan.evaluated(job, "teacher") is None
    folder = job.evaluation("teacher")
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({"protocol": protocol().to_dict()}))
    assert plan.evaluated(job, "teacher", protocol())
    assert plan.evaluated(job, "teacher", protocol("--config.features.cache=elsewhere"))
    assert plan.evaluated(job, "teacher", protocol("--config.clips.test.count=3")) is None
    assert plan.evaluated(job, "student", protocol()) is None
    # Results of an earlier version, whose protocol had another name for a section.
    former = protocol().to_dict()
    former["augment"] = former.pop("augmentation")
    (folder / "results.json").write_text(json.dumps({"protocol": former}))
    assert plan.evaluated(job, "teacher", protocol())


def test_the_tiny_config_takes_every_row_that_its_clips_are_long_enough_for():
    base = plan.Base("tiny", (), tiny_config())
    left_out = plan.impossible(base, selection.select(["all"]))
    assert set(left_out) == {"local_4s_1s"} | OF_OTHER_DATA
    assert left_out["xkd_audioset_base"] == (
        "it is xkd on audioset: it needs --evaluate=paper and --data.audioset=DIR"
    )


MIXTURE = [f"--config.data.sources={name}" for name in "AB"] + ["--config.data.weights=2,1"]


def test_a_row_on_other_data_takes_the_place_of_a_mixture():
    """Two flags for a field of several values would add up."""
    made = make_base(*MIXTURE, path="configs/k400.py")
    base = made._replace(as_paper=True, data={"audioset": "AUDIOSET"})
    for row, data in (("xkd", ("", ("A", "B"), (2, 1))), ("xkd_audioset", ("AUDIOSET", (), ()))):
        [job] = jobs(base, row)
        path, *flags, _ = plan.pretraining_flags(base, job)
        config = config_flag.load_config(path.removeprefix("--config="), flags)
        assert config.to_dict() == plan.row_config(base, row, 0).to_dict()
        assert (config.data.path, config.data.sources, config.data.weights) == data


def test_a_mixture_may_move_but_keeps_its_weights(tmp_path):
    base = make_base(*MIXTURE, path="configs/k400.py")
    [job] = jobs(base, "xkd", output=tmp_path)
    job.workdir.mkdir(parents=True)
    saved = plan.row_config(base, "xkd", 0)
    saved.data.sources = ("/mnt/A", "/mnt/B")
    (job.workdir / "config.json").write_text(json.dumps(saved.to_dict()))
    plan.check_same_run(base, job)
    saved.data.weights = (1, 1)
    (job.workdir / "config.json").write_text(json.dumps(saved.to_dict()))
    with pytest.raises(ConfigError, match=r"config\.data\.weights is \[2, 1\]; allowed: \[1, 1\]"):
        plan.check_same_run(base, job)


def test_a_mixture_is_evaluated_on_labeled_data_alone():
    base = make_base(*MIXTURE, path="configs/k400.py")
    with pytest.raises(
        ValueError, match=r"--eval\.data\.path=DIR is missing; allowed: labeled data"
    ):
        evaluations.Compare(base, ["--config.seed=1"])
    [job] = jobs(base, "xkd")
    flags = evaluations.Compare(base, ["--config.data.path=UCF"]).of(job)[0].flags
    assert config_flag.load_config(plan.EVALUATION, flags).data.path == "UCF"
