"""Every probe under configs/eval gives the right result on a miniature of its data set.

The configs are as shipped, except for fewer clips, milder augmentation, and classifiers that suit
few rows.
"""

import importlib
import json
import signal
import time

import pytest

from tests import shipped_configs
from tests.integration import runs
from xkd_jax.downstream import probe

# Data set of each config. The fast ones have official partitions, several classes per sound, and
# both modalities. What follows a colon is the config's argument.
FAST = {
    "svm_ucf101": "ucf101",
    "linear_fsd50k": "fsd50k",
    "linear_audioset_20k": "audioset_20k",
    "fusion_kinetics_sound": "kinetics_sound",
}
SLOW = {
    "probe": "ucf101",
    "svm_hmdb51": "hmdb51",
    "svm_k400": "kinetics400",
    "svm_kinetics_sound": "kinetics_sound",
    "svm_esc50": "esc50",
    "linear_k400": "kinetics400",
    "linear_vggsound": "vggsound",
    "linear_vggsound:video": "vggsound",
    "linear_vggsound:joint": "vggsound",
    "linear_audioset_20k:video": "audioset_20k",
    "svm": "folder",
    "linear": "folder",
    "fusion": "folder",
    "knn": "folder",
}
GENERIC = [name for name, dataset in SLOW.items() if dataset == "folder"]
SEVERAL_CLASSES = ("fsd50k", "audioset_20k")
PARTITIONS = {
    "ucf101": ["1", "2", "3"],
    "hmdb51": ["1", "2", "3"],
    "esc50": list("12345"),
    "fsd50k": ["test"],
    "vggsound": ["test"],
    "audioset_20k": ["eval"],
    "folder": ["random"],
}


def small(name, checkpoint, path):
    """Returns a shipped config, shrunk."""
    module, *argument = name.split(":")
    config = importlib.import_module(f"configs.eval.{module}").get_config(*argument)
    config.checkpoint, config.data.path = checkpoint, str(path)
    config.compute_dtype = "float32"
    config.batch_size = 16
    config.clips.train.count, config.clips.test.count = 2, 2
    # As large as the crops to train on: what random weights see depends on the scale.
    config.clips.test.crop = 1.0
    config.augmentation.update({"crop_scale": (0.9, 1.0), "color_jitter": (0.1, 0.1, 0.1, 0.05)})
    config.classifier.svm.c = (0.01, 100.0)
    config.classifier.linear.learning_rate = 0.1
    config.classifier.linear.batch_size = 2  # many steps an epoch, the first of which may be chosen
    return config


def test_all_probes_are_tested():
    assert set(shipped_configs.probes()) == {name.partition(":")[0] for name in (*FAST, *SLOW)}


def check(name, dataset, config, workdir):
    results = json.loads((workdir / "results.json").read_text())
    assert list(results["partitions"]) == PARTITIONS.get(dataset, ["val"])
    # All recordings of a class are the same file, so the score is perfect unless something is mixed
    # up. SVMs and neighbors reach it at once. A linear layer reaches it after some epochs, but an
    # earlier epoch may do as well on two held-out recordings.
    metric = "map" if dataset in SEVERAL_CLASSES else "top1"
    assert results["metric"] == metric
    chosen_by_epoch = "linear" in name and results["best_on_test"] is not None
    score = results["best_on_test"] if chosen_by_epoch else results["scores"][metric]
    assert score["mean"] == 1.0, results["partitions"]
    assert results["chance"] < 0.9
    assert set(results["per_class"]) >= set(results["data"]["classes"])
    assert bool(results["paper"]) == bool(config.paper)
    assert config.paper in ("", f"{dataset}/{config.paper.partition('/')[2]}")
    pictures = {"per_class.png"} if metric == "map" else {"per_class.png", "confusion.png"}
    assert {path.name for path in workdir.glob("*.png")} == pictures


@pytest.mark.parametrize(
    ("name", "dataset"),
    [*FAST.items(), *(pytest.param(*item, marks=pytest.mark.slow) for item in SLOW.items())],
)
def test_a_probe(name, dataset, checkpoint, data, tmp_path):
    config = small(name, checkpoint, data(dataset))
    probe.probe(config, str(tmp_path / "out"))
    check(name, dataset, config, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERIC)
def test_a_probe_on_generated_data(name, checkpoint, tmp_path):
    config = small(name, checkpoint, runs.clips(40, 10))
    config.data.dataset = "generated"
    config.data.generated.update({"train": 40, "test": 10})
    results = probe.probe(config, str(tmp_path / "out"))
    assert list(results["partitions"]) == ["test"]
    assert results["partitions"]["test"]["recordings"]["test"] == 10


@pytest.mark.slow
def test_the_command_line(checkpoint, data, tmp_path):
    """The command as a user runs it, and once more, which runs no encoder."""
    flags = [
        f"--config.checkpoint={checkpoint}",
        f"--config.data.path={data('folder')}",
        "--config.batch_size=8",
        f"--workdir={tmp_path / 'out'}",
    ]
    for cold in (True, False):
        code, output = runs.run(*flags, config="configs/eval/knn.py", cold=cold)
        assert code == 0, output
        [line] = [line for line in output.splitlines() if "this checkpoint" in line]
        assert line.split()[2] == "100.0"
    code, output = runs.call(*flags, "--config.network=nobody", config="configs/eval/knn.py")
    assert code == 1
    assert output.splitlines()[-1] == (
        "error: config.network is 'nobody'; allowed: 'teacher', 'student'"
    )


@pytest.fixture
def flags(checkpoint, data):
    """Flags of a command that encodes 10 recordings in two parts, and then 2 recordings."""
    return [
        f"--config.checkpoint={checkpoint}",
        f"--config.data.path={data('folder')}",
        "--config.batch_size=8",
        "--config.clips.train.count=100",
    ]


def parts(workdir):
    """Returns the files of features that a workdir holds, by path."""
    return {
        path.relative_to(workdir): path.read_bytes()
        for path in sorted(workdir.glob("features/*/part-*.npz"))
    }


@pytest.mark.slow
def test_killed_and_started_again_it_ends_the_same(flags, tmp_path):
    code, output = runs.run(*flags, f"--workdir={tmp_path / 'one'}", config="configs/eval/svm.py")
    assert code == 0, output
    process = runs.start(*flags, f"--workdir={tmp_path / 'two'}", config="configs/eval/svm.py")
    while not parts(tmp_path / "two"):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(parts(tmp_path / "two")) < len(parts(tmp_path / "one")) == 3
    code, output = runs.run(*flags, f"--workdir={tmp_path / 'two'}", config="configs/eval/svm.py")
    assert code == 0, output
    assert "train clips: 100 from each of 10 recordings, 6 of them already in" in output
    assert parts(tmp_path / "one") == parts(tmp_path / "two")
    assert results_of(tmp_path / "one") == results_of(tmp_path / "two")


def results_of(workdir):
    return json.loads((workdir / "results.json").read_text())


@pytest.mark.slow
def test_two_processes_give_what_one_does(flags, tmp_path):
    code, output = runs.run(*flags, f"--workdir={tmp_path / 'one'}", config="configs/eval/svm.py")
    assert code == 0, output
    process = runs.start_several(
        2, *flags, f"--workdir={tmp_path / 'two'}", config="configs/eval/svm.py"
    )
    code, output = runs.ended(process)
    assert code == 0, output
    assert parts(tmp_path / "one").keys() == parts(tmp_path / "two").keys()
    one, two = results_of(tmp_path / "one"), results_of(tmp_path / "two")
    assert one["scores"] == two["scores"] and one["per_class"] == two["per_class"]
