"""The comparison of pretrained with random weights, and its table."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from configs.eval import compare as compare_config
from tests.input_pipeline.prepared_files import write_prepared
from tests.saved_runs import save_run
from tests.xkd_jax.downstream import labeled_clips
from xkd_jax.config.checks import ConfigError
from xkd_jax.downstream import compare
from xkd_jax.downstream.selection import Candidate, Outcome


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save_run(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    splits = {
        split: [labeled_clips.record(f"{split}{n}", n % 3) for n in range(count)]
        for split, count in (("train", 15), ("test", 6))
    }
    return write_prepared(tmp_path_factory.mktemp("data") / "prepared", splits)


def make_config(run, data, **changes):
    config = compare_config.get_config()
    config.checkpoint, config.data.path = str(run), str(data)
    config.data.dataset = "prepared"
    config.compute_dtype = "float32"
    config.batch_size = 8
    config.clips.train.count = config.clips.test.count = 1
    config.classifier.svm.c = (0.01, 0.1)
    config.classifier.knn.k = (2, 3)
    config.update_from_flattened_dict(changes)
    return config


def test_a_comparison(run, data, tmp_path, capsys):
    found = compare.compare(make_config(run, data), str(tmp_path))
    assert json.loads(json.dumps(found)) == json.loads((tmp_path / "results.json").read_text())
    rows = {(row["features"], row["classifier"]): row for row in found["rows"]}
    kinds = ("video", "audio", "fused")
    assert list(rows) == [(kind, name) for kind in kinds for name in ("svm", "knn")]
    for row in rows.values():
        for weights in ("pretrained", "untrained"):
            [partition] = row[weights]["partitions"].values()
            assert partition["recordings"] == {"train": 15, "held_out": 3, "test": 6}
            # Any network's features tell these colors and tones apart.
            assert row[weights]["scores"]["top1"]["mean"] > 0.6
            assert len(partition["candidates"]) == 2
    # One folder for each kind of weights and each of the training and test sets.
    assert len(list((tmp_path / "features").iterdir())) == 4
    assert found["checkpoint"]["provenance"]["step"] == 7
    assert found["protocol"]["clips"]["train"]["count"] == 1 and found["data"]["fingerprint"]
    assert Image.open(tmp_path / "compare.png").size > (400, 300)
    out = capsys.readouterr().out
    assert f"6 test recordings of prepared, teacher of {run}" in out
    assert [line for line in out.splitlines() if line.startswith("Features of")] == [
        "Features of the pretrained networks:",
        "Features of the untrained networks:",
    ]
    assert re.search(r"\n  video  svm +\d+\.\d +\d+\.\d +[+-]\d+\.\d\n", out)
    assert re.search(r"\n  both   knn +\d+\.\d +\d+\.\d +[+-]\d+\.\d\n  chance ", out)
    assert re.search(r"\n  chance +33\.3 +33\.3\nsvm: .*\nknn: .*\nboth: .*'fused'.*\n", out)


def test_one_modality_with_several_classes_a_recording(run, tmp_path):
    data = labeled_clips.multi_label(tmp_path / "data")
    config = make_config(run, data, modalities=("audio",))
    with pytest.raises(
        ConfigError, match=r"config\.classifiers is .*; allowed: 'linear' and 'knn'"
    ):
        compare.compare(config, str(tmp_path / "out"))
    config.classifiers = ("knn",)
    found = compare.compare(config, str(tmp_path / "out"))
    [row] = found["rows"]
    assert (row["features"], row["classifier"]) == ("audio", "knn"), "nothing to be fused with"
    assert found["metric"] == "map" and row["untrained"]["scores"]["map"]["mean"] > 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifiers": ()}, r"config\.classifiers is \(\); allowed: one or more"),
        ({"classifiers": ("knn", "knn")}, r"config\.classifiers is .* distinct names"),
        ({"classifiers": ("tree",)}, r"config\.classifiers is \('tree',\)"),
        ({"checkpoint": ""}, r"config\.checkpoint is ''"),
    ],
)
def test_refusals(run, data, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        compare.compare(make_config(run, data, **changes), str(tmp_path))


def outcome(right, count=4, held_out=(None,), chosen=5.0):
    labels = np.arange(count) % 2
    wrong = np.arange(count) >= right
    values = (5.0, 10.0, 20.0)
    return Outcome(
        varied="k",
        candidates=tuple(
            Candidate(value, score, right / count)
            for value, score in zip(values, held_out, strict=False)
        ),
        chosen=chosen,
        scores=np.eye(2, dtype=np.float32)[(labels + wrong) % 2],
        targets=np.eye(2, dtype=bool)[labels],
        counts={"train": 8, "held_out": 0, "test": count},
    )


def test_the_table_has_means_and_spreads_over_partitions():
    cells = {
        ("video", "knn", "pretrained"): {"1": outcome(4), "2": outcome(3)},
        ("video", "knn", "untrained"): {"1": outcome(2), "2": outcome(2)},
    }
    found = {**compare.collect(cells, ("a", "b"), False), "title": "toys"}
    assert compare.table(found).splitlines() == [
        "toys",
        "  top-1, %     pretrained   untrained   gain",
        "  video  knn  87.5 ± 17.7  50.0 ± 0.0  +37.5",
        "  chance             50.0        50.0",
        "knn: the classes of the nearest training clips (k nearest neighbors)",
    ]
    assert compare.picture(found).shape[2] == 3


def test_a_search_that_ends_where_it_is_best_is_told():
    best_at_first, best_within = (0.9, 0.8, 0.7), (0.7, 0.9, 0.8)
    cells = {
        ("video", "knn", "pretrained"): {"1": outcome(4, held_out=best_within, chosen=10.0)},
        ("video", "knn", "untrained"): {"1": outcome(2, held_out=best_at_first)},
        ("audio", "knn", "pretrained"): {"1": outcome(4, held_out=best_at_first)},
        ("audio", "knn", "untrained"): {"1": outcome(2, held_out=best_within, chosen=10.0)},
    }
    found = {**compare.collect(cells, ("a", "b"), False), "title": "toys"}
    assert compare.table(found).splitlines()[-1] == (
        "knn: the smallest k that was tried, 5, is the best on held-out recordings for untrained "
        "video, pretrained audio; smaller ones may be better (config.classifier.knn)"
    )
