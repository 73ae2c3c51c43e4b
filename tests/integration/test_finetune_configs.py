"""Every finetuning config under configs/eval gives a result on a miniature of its data set.

The configs are as shipped, except for the sizes of frames and batches and the number of steps.
"""

import importlib
import json
import pkgutil

import numpy as np
import pytest

import configs.eval
from tests.integration import runs
from xkd_jax.downstream.finetuning import finetune, finetune_folder

# Data set of each config; what follows a colon is the config's argument. The fast one is the one
# that no other test resembles.
FAST = {"finetune_fsd50k": "fsd50k"}
SLOW = {
    "finetune_ucf101": "ucf101",
    "finetune_hmdb51": "hmdb51",
    "finetune_k400": "kinetics400",
    "finetune_audioset_20k": "audioset_20k",
    "finetune_vggsound:video": "vggsound",
    "finetune_vggsound:joint": "vggsound",
    "finetune_esc50": "esc50",
    "finetune_video": "folder",
    "finetune_audio": "folder",
    "finetune_joint": "kinetics_sound",
}
PARTITIONS = {
    "ucf101": ["1", "2", "3"],
    "hmdb51": ["1", "2", "3"],
    "esc50": list("12345"),
    "kinetics400": ["val"],
    "kinetics_sound": ["val"],
    "fsd50k": ["test"],
    "audioset_20k": ["eval"],
    "vggsound": ["test"],
    "folder": ["random"],
}


def small(name, checkpoint, path, dataset):
    module, *argument = name.split(":")
    config = importlib.import_module(f"configs.eval.{module}").get_config(*argument)
    config.checkpoint, config.data.path = checkpoint, str(path)
    if dataset in ("folder", "generated"):
        config.data.dataset = dataset
    config.steps = 2
    config.batch_size = config.evaluation.batch_size = 8
    if config.modality != "audio":
        config.frame_size, config.short_side = 40, 48
    return config


def test_all_finetunings_are_tested():
    names = {module.name for module in pkgutil.iter_modules(configs.eval.__path__)}
    tested = {name.partition(":")[0] for name in (*FAST, *SLOW)}
    assert {name for name in names if name.startswith("finetune_")} == tested


@pytest.mark.parametrize(
    ("name", "dataset"),
    [*FAST.items(), *(pytest.param(*item, marks=pytest.mark.slow) for item in SLOW.items())],
)
def test_a_finetuning(name, dataset, checkpoint, data, tmp_path):
    config = small(name, checkpoint, data(dataset), dataset)
    finetune.finetune(config, str(tmp_path / "out"))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results["partitions"]) == PARTITIONS[dataset]
    assert results["metric"] == ("map" if dataset in ("fsd50k", "audioset_20k") else "top1")
    assert 0 <= results["scores"][results["metric"]]["mean"] <= 1
    assert (results["scores"][results["metric"]]["spread"] is None) == (
        len(PARTITIONS[dataset]) < 2
    )
    assert bool(results["paper"]) == bool(config.paper)
    assert config.paper in ("", f"{dataset}/finetune")
    assert results["protocol"]["optimizer"] == config.optimizer.to_dict()
    for partition in results["partitions"].values():
        assert partition["varied"] == "epoch"
        assert bool(partition["recordings"]["held_out"]) == (config.selection.epoch == "best")
        assert min(partition["recordings"]["train"], partition["recordings"]["test"]) > 0
    for name in PARTITIONS[dataset]:
        assert runs.saved_steps(tmp_path / "out" / name) == [2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["finetune_video", "finetune_audio"])
def test_a_finetuning_on_generated_data(name, checkpoint, tmp_path):
    config = small(name, checkpoint, runs.clips(40, 10), "generated")
    config.data.generated.update({"train": 40, "test": 10})
    results = finetune.finetune(config, str(tmp_path / "out"))
    assert results["partitions"]["test"]["recordings"]["test"] == 10


@pytest.mark.slow
def test_the_command_line(checkpoint, data, tmp_path):
    """The command as a user runs it, killed in the middle, resumed, and repeated when done."""
    flags = [
        f"--config.checkpoint={checkpoint}",
        f"--config.data.path={data('esc50')}",
        "--config.data.partitions=('1','2')",
        "--config.batch_size=8",
        "--config.evaluation.batch_size=8",
        "--config.steps=40",
        "--config.saving.every_steps=5",
        f"--workdir={tmp_path / 'out'}",
    ]
    config = "configs/eval/finetune_esc50.py"
    process = runs.start(*flags, config=config)
    runs.wait_for_step(process, tmp_path / "out" / "1", 5)
    process.kill()
    process.communicate()
    code, output = runs.run(*flags, config=config, cold=True)
    assert code == 0, output
    assert "RESTORED step " in output and "this checkpoint, mean and spread" in output
    assert "paper, another recipe: XKD, Kinetics400" in output and "93.6" in output
    again_code, again = runs.run(*flags, config=config)
    assert again_code == 0, again
    assert "Compiled" not in again and again.splitlines()[-5:] == output.splitlines()[-5:]
    code, output = runs.run(*flags, "--config.dropout=2", config=config)
    assert code == 1
    last = output.splitlines()[-1]
    assert last == "error: config.dropout is 2.0; allowed: a number from 0 to less than 1"


@pytest.mark.slow
def test_two_processes_give_what_one_does(checkpoint, data, tmp_path):
    flags = [
        f"--config.checkpoint={checkpoint}",
        f"--config.data.path={data('esc50')}",
        "--config.data.partitions=('1',)",
        "--config.batch_size=8",
        "--config.evaluation.batch_size=8",
        "--config.steps=6",
        "--config.log.every_steps=1",
    ]
    outcomes = []
    for processes in (1, 2):
        workdir = tmp_path / str(processes)
        process = runs.start_several(
            processes, *flags, f"--workdir={workdir}", config="configs/eval/finetune_esc50.py"
        )
        code, output = runs.ended(process)
        assert code == 0, output
        lines = (workdir / "1" / "metrics.jsonl").read_text().splitlines()
        plan = json.loads((workdir / "1" / "plan.json").read_text())
        outcome = finetune_folder.load_outcome(workdir / "1" / finetune_folder.OUTCOME, plan)
        outcomes.append(([json.loads(line)["total"] for line in lines], outcome))
    (losses, outcome), (other_losses, other) = outcomes
    np.testing.assert_allclose(other_losses, losses, rtol=1e-4)
    np.testing.assert_allclose(other.scores, outcome.scores, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(other.targets, outcome.targets)
