"""The command of each protocol that the paper does not have, on a miniature of Kinetics-Sound."""

import json

import pytest

from tests.integration import runs

SMALL = {
    "attentive": [
        "--config.modalities=('audio',)",
        "--config.steps=8",
        "--config.data.held_out=0.25",
        "--config.evaluation.batch_size=8",
        "--config.evaluation.clips=1",
        "--config.grid.learning_rates=(0.01,0.001)",
        "--config.grid.weight_decays=(0.1,)",
    ],
    "few_shot": [
        "--config.modalities=('video','audio')",
        "--config.shots=(1,2)",
        "--config.draws=2",
        "--config.classifier.name=knn",
        "--config.classifier.knn.k=(1,)",
    ],
    "retrieval": ["--config.data.split=val"],
}


@pytest.mark.parametrize(
    "name",
    # The attentive probe trains; tests/xkd_jax/downstream/test_attentive.py always runs one.
    [pytest.param(n, marks=pytest.mark.slow) if n == "attentive" else n for n in SMALL],
)
def test_the_command_gives_results(name, checkpoint, data, tmp_path):
    flags = [
        f"--config.checkpoint={checkpoint}",
        f"--config.data.path={data('kinetics_sound')}",
        "--config.batch_size=8",
        f"--workdir={tmp_path / 'out'}",
    ]
    code, output = runs.call(*flags, *SMALL[name], config=f"configs/eval/{name}.py")
    assert code == 0, output
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {"title", "chance", "checkpoint", "data", "protocol"} <= set(results)
    assert results["title"] in output and "chance" in output
    assert results["protocol"]["task"] == name
    if name == "retrieval":
        # The recordings of a class are the same file, so the median rank is that of chance or one
        # better: ties count half.
        assert results["data"]["recordings"] == 4
        assert results["chance"]["recall"] == {"1": 0.25}
        ranks = [s["median_rank"] for pair in results["pairs"].values() for s in pair.values()]
        assert all(rank in (1.5, 3.5) for rank in ranks), ranks
    if name == "few_shot":
        # The recordings of a class are the same file, of which one is enough.
        assert results["shots"]["1"]["scores"]["top1"] == {"mean": 1.0, "spread": 0.0}
    if name == "attentive":
        assert results["partitions"]["val"]["recordings"]["held_out"] == 5
        assert (tmp_path / "out" / "val" / "checkpoints").is_dir()
    code, output = runs.call(*flags, "--config.batch_size=0", config=f"configs/eval/{name}.py")
    assert code == 1
    assert output.splitlines()[-1].startswith("error: config.batch_size is 0; allowed: a whole")


@pytest.mark.slow  # starts three processes
@pytest.mark.parametrize("name", SMALL)
def test_two_processes_give_what_one_does(name, checkpoint, data, tmp_path):
    flags = [
        f"--config.checkpoint={checkpoint}",
        f"--config.data.path={data('kinetics_sound')}",
        "--config.batch_size=8",
        *SMALL[name],
    ]
    found = []
    for processes in (1, 2):
        workdir = tmp_path / str(processes)
        process = runs.start_several(
            processes, *flags, f"--workdir={workdir}", config=f"configs/eval/{name}.py"
        )
        code, output = runs.ended(process)
        assert code == 0, output
        found.append(json.loads((workdir / "results.json").read_text()))
    for key in ("pairs", "shots", "scores"):
        assert found[0].get(key) == found[1].get(key)
    if name == "attentive":
        for one, two in zip(*(f["partitions"]["val"]["candidates"] for f in found), strict=True):
            assert one == two
