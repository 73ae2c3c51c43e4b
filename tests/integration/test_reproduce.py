"""The path of docs/reproduce.md, from files in the release's format to a table.

The weights are tiny and random, but have the paper's sizes of views, so that no flag about sizes is
needed. The commands are those of the page, with flags that shrink them.
"""

import json
import re
import shlex

import numpy as np
import pytest

from configs import base
from input_pipeline.prepare import __main__ as prepare
from tests import preparing
from tests.documented_commands import DOCS, of_page
from tests.integration import miniatures
from tests.tiny import random_params
from xkd_jax import main
from xkd_jax.encoders import descriptions
from xkd_jax.interop import import_release, release, torch_files
from xkd_jax.method.models import xkd

PAGE = (DOCS / "reproduce.md").read_text()
XKD = of_page(re.search(r"^### XKD\n(.*?)^### ", PAGE, re.M | re.S)[1])
# Configs of other kinds, whose commands are that of UCF101 with other names.
OTHERS = {"linear_fsd50k": "fsd50k", "fusion_kinetics_sound": "kinetics_sound"}
PUBLISHED = {  # scores of XKD
    "svm_ucf101": 0.838,
    "finetune_ucf101": 0.941,
    "linear_fsd50k": 0.458,
    "fusion_kinetics_sound": 0.812,
}
ONE_CLIP = ("--config.clips.train.count=1", "--config.clips.test.count=1")
SHRUNK = {
    "prepare": ("--short_side=32",),
    "svm": (*ONE_CLIP, "--config.classifier.svm.c=(0.01,)"),
    "fusion": (*ONE_CLIP, "--config.classifier.svm.c=(0.01,)"),
    "linear": (*ONE_CLIP, "--config.classifier.linear.epochs=2"),
    "finetune": (
        *("--config.steps=1", "--config.batch_size=8", "--config.evaluation.batch_size=8"),
        *("--config.evaluation.clips=1", "--config.evaluation.crops=1"),
        *("--config.frame_size=32", "--config.data.partitions=('1',)"),
    ),
}


def write_release(prefix):
    """Writes the four files of a small XKD, with heads of 64 as in the paper's."""
    config = base.get_config()
    config.model.projector.update({"hidden": 8, "bottleneck": 8, "out": 8})
    for m in xkd.MODALITIES:
        config.model[m].encoder = base.transformer((192, 1, 3))
        config.model[m].decoder = base.transformer((96, 1, 3))
    model = xkd.build(config)
    trees = {"params": random_params(model, 0)}
    trees["teacher"] = model.teacher_target(random_params(model, 1))
    files = {}
    for name, tensor in release.to_release(trees, model, descriptions.encoders_only).items():
        network, _, name = name.partition(".backbone.")
        files.setdefault(network, {})[name] = np.asarray(tensor)
    assert set(files) == {"vid_teacher", "vid_student", "aud_teacher", "aud_student"}
    for network, tensors in files.items():
        with open(f"{prefix}{network}.pth.tar", "wb") as file:
            torch_files.write(file, tensors)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs a command of the page in a folder, with flags that shrink it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    preparing.in_this_process(monkeypatch)
    paths = r"^(--(?:input|output|source|workdir|config\.checkpoint|config\.data\.path)=)"

    def run(command):
        _, _, module, *flags = shlex.split(command)
        flags = [re.sub(paths, rf"\g<1>{tmp_path}/", flag) for flag in flags]
        if module == "xkd_jax.interop.import_release":
            import_release.main(flags)
        elif module == "input_pipeline.prepare":
            assert prepare.main([*flags, *SHRUNK["prepare"]]) == 0
        else:
            kind = re.search(r"configs/eval/([a-z]+)_", command)[1]
            assert main.call(*flags, "--config.batch_size=8", *SHRUNK[kind]) == 0

    return run


@pytest.mark.slow  # compiles encoders of clips as long as the paper's, and prepares four data sets
def test_from_released_weights_to_the_table(run, tmp_path):
    write_release(tmp_path / "XKD_ep799")
    media = miniatures.write_files(tmp_path)
    miniatures.ucf101(tmp_path / "UCF101", media)
    for command in XKD:
        run(command)
    preparing, evaluating = XKD[1:3]
    for name, dataset in OTHERS.items():
        miniatures.PUBLISHED[dataset](tmp_path / f"{dataset}_source", media)
        command = preparing.replace("=ucf101", f"={dataset}").replace("UCF101", f"{dataset}_source")
        run(command.replace("UCF", dataset))
        run(evaluating.replace("svm_ucf101", name).replace("UCF", dataset))
    for name, published in PUBLISHED.items():
        results = json.loads((tmp_path / "out/xkd" / name / "results.json").read_text())
        assert 0 <= results["scores"][results["metric"]]["mean"] <= 1
        assert published in [number["score"] for number in results["paper"]]
        files = results["checkpoint"]["provenance"]["files"]
        assert len(files) == 4 and all(file.startswith("XKD_ep799") for file in files)
