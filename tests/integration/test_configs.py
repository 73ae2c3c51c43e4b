"""Every shipped config trains a step on real MP4 files, shrunk only in depth, width and batch.

Configs for published data sets train on files that `prepare` has converted.
"""

import importlib
import json
import pkgutil

import pytest

import configs
from input_pipeline.prepare import __main__ as prepare
from tests.integration import runs
from tests.media_files import write_media

TESTED = (
    "k400",
    "k400_mas",
    "k400_mats",
    "kinetics_sound",
    "audioset",
    "audioset_base",
    "folder",
    "demo",
    "ablation",
)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for i in range(2):
        write_media(folder / f"{i}.mp4", seconds=5.0)
    return folder


@pytest.fixture(scope="module")
def data_flags(videos, tmp_path_factory):
    """Flags that name the data, for each value of `config.data.dataset`."""
    prepared = tmp_path_factory.mktemp("data") / "prepared"
    code = prepare.main(["--dataset=folder", f"--source={videos}", f"--output={prepared}"])
    assert code == 0
    return {
        "prepared": [f"--config.data.path={prepared}"],
        "folder": [f"--config.data.path={videos}"],
        "generated": [
            f"--config.data.path={prepared.with_name('generated')}",
            "--config.data.generated.train=2",
            "--config.data.generated.val=0",
            "--config.data.generated.test=2",
        ],
    }


def shrunk(name: str) -> list[str]:
    """Returns flags that make every network tiny; audioset's video encoder stays the larger one."""
    size = {"encoder": (32, 2, 2), "decoder": (16, 1, 2)}
    flags = ["--config.batch_size=2", "--config.steps=1", "--config.log.every_steps=1"]
    for m in ("video", "audio"):
        for network, (width, depth, heads) in size.items():
            if (name, m, network) == ("audioset", "video", "encoder"):
                width, depth, heads = 48, 3, 4
            prefix = f"--config.model.{m}.{network}"
            flags += [f"{prefix}.width={width}", f"{prefix}.depth={depth}"]
            flags += [f"{prefix}.heads={heads}"]
    projector = {"hidden": 32, "bottleneck": 16, "out": 64}
    return flags + [f"--config.model.projector.{k}={v}" for k, v in projector.items()]


def test_all_configs_are_tested():
    shipped = {m.name for m in pkgutil.iter_modules(configs.__path__) if not m.ispkg}
    assert shipped == {*TESTED, "base"}


@pytest.mark.slow
@pytest.mark.parametrize("name", TESTED)
def test_a_step(name, data_flags, tmp_path):
    dataset = importlib.import_module(f"configs.{name}").get_config().data.dataset
    images = 1 if name == "k400" else 0
    code, output = runs.run(
        *shrunk(name),
        f"--config.log.images_every_steps={images}",
        *data_flags[dataset],
        f"--workdir={tmp_path}",
        config=f"configs/{name}.py",
    )
    assert code == 0, output
    [line] = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["total"] > 0
    assert runs.saved_steps(tmp_path) == [1]
    assert len(list((tmp_path / "images").glob("*.png"))) == 2 * images
