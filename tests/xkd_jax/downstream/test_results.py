import json
import math

import ml_collections
import numpy as np
import pytest
from PIL import Image

from xkd_jax.downstream import results
from xkd_jax.downstream.comparable import Comparable
from xkd_jax.downstream.labeled_data import LabeledData
from xkd_jax.downstream.selection import Candidate, Outcome
from xkd_jax.paper.elsewhere import Number
from xkd_jax.paper.published import Published

NAMES = ("bounce", "collide", "tick", "flash")


def outcome(labels, guesses, candidates=None, chosen=0.1, classes=4):
    return Outcome(
        varied="C",
        candidates=candidates or (Candidate(0.01, 0.5, 0.875), Candidate(0.1, 0.75, 0.625)),
        chosen=chosen,
        scores=np.eye(classes, dtype=np.float32)[guesses],
        targets=np.eye(classes, dtype=bool)[labels],
        counts={"train": 20, "held_out": 4, "test": len(labels)},
    )


# Partition 1: 3 of 4 are right, "flash" is absent. Partition 2: 1 of 2 is right, "tick" and "flash"
# are absent.
OUTCOMES = {"1": outcome([0, 0, 1, 2], [0, 1, 1, 2]), "2": outcome([0, 1], [1, 1])}


def collect(outcomes=OUTCOMES, multi_label=False):
    return results.collect(outcomes, "toy", NAMES, multi_label)


def test_scores_are_means_over_partitions_with_their_spread():
    found = collect()
    assert found["metric"] == "top1"
    expected = {"mean": 0.625, "spread": pytest.approx(0.25 / math.sqrt(2))}
    assert found["scores"] == {"top1": expected}
    assert found["best_on_test"] == {"mean": 0.875, "spread": 0.0}
    assert found["chance"] == 0.25
    assert collect({"1": OUTCOMES["1"]})["scores"]["top1"] == {"mean": 0.75, "spread": None}


def test_every_candidate_is_told_of_and_what_is_best_on_test():
    one = collect()["partitions"]["1"]
    assert one["varied"] == "C" and one["chosen"] == 0.1
    assert one["candidates"] == [
        {"value": 0.01, "held_out": 0.5, "test": 0.875},
        {"value": 0.1, "held_out": 0.75, "test": 0.625},
    ]
    assert one["best_on_test"]["value"] == 0.01
    assert one["recordings"] == {"train": 20, "held_out": 4, "test": 4}


def test_what_is_best_on_the_first_partitions_test_set_is_taken_in_all():
    scores = {"1": (0.9, 0.8), "2": (0.5, 0.7)}  # of C = 0.01 and C = 0.1
    outcomes = {
        name: outcome([0, 1], [0, 1], (Candidate(0.01, None, a), Candidate(0.1, None, b)))
        for name, (a, b) in scores.items()
    }
    assert collect(outcomes)["best_on_test"]["mean"] == pytest.approx((0.9 + 0.5) / 2)
    assert collect(outcomes)["partitions"]["2"]["best_on_test"]["value"] == 0.1


def test_the_results_say_how_each_number_was_chosen():
    assert collect()["choices"] == {
        "scores": "C chosen on held-out recordings",
        "best_on_test": "C chosen on the test set of partition 1",
    }
    assert "best on test, as the paper chooses" in results.table(collect())
    # The last epoch of finetuning, and every epoch's test score.
    candidates = (Candidate(1, None, 0.75), Candidate(2, None, 0.5))
    last = outcome([0, 1], [0, 1], candidates, chosen=2)._replace(varied="epoch")
    found = collect({"1": last})
    assert found["choices"] == {
        "scores": "epoch set beforehand",
        "best_on_test": "epoch chosen on the test set itself",
    }
    [line] = [line for line in results.table(found).splitlines() if "best on test" in line]
    assert "for information alone" in line and "epoch chosen on the test set itself" in line
    assert "paper" not in line
    [only] = collect({"1": last._replace(candidates=candidates[1:])})["choices"].items()
    assert only == ("scores", "epoch set beforehand")


@pytest.mark.parametrize(
    ("varied", "held_out", "chosen", "side"),
    [
        ("C", {0.01: 0.5, 0.1: 0.7, 1.0: 0.8}, 1.0, "largest"),
        ("C", {0.01: 0.8, 0.1: 0.7, 1.0: 0.5}, 0.01, "smallest"),
        ("C", {1.0: 0.8, 0.1: 0.7, 0.01: 0.5}, 1.0, "largest"),  # in whatever order
        ("C", {0.01: 0.5, 0.1: 0.8, 1.0: 0.7}, 0.1, None),
        ("C", {0.01: 0.8, 0.1: 0.8, 1.0: 0.7}, 0.01, None),  # the curve is flat there
        ("C", {1.0: 0.8}, 1.0, None),
        ("C", {0.1: None, 1.0: None}, 1.0, None),  # chosen on another partition
        ("k", {5.0: 0.8, 10.0: 0.7}, 5.0, "smallest"),
        ("k", {1.0: 0.8, 10.0: 0.7}, 1.0, None),  # there is no smaller one
        ("learning rate", {"1e-3": 0.8, "1e-2": 0.7}, "1e-3", None),
    ],
)
def test_a_value_at_the_end_of_those_tried_is_told(varied, held_out, chosen, side):
    candidates = [{"value": value, "held_out": score} for value, score in held_out.items()]
    found = results.edge({"varied": varied, "candidates": candidates, "chosen": chosen})
    assert found == side


def test_nothing_is_best_on_test_where_one_alone_was_tested():
    candidates = (Candidate(1.0, 0.5, None), Candidate(2.0, 0.75, 0.6))
    found = collect({"1": outcome([0, 1], [0, 1], candidates, chosen=2.0)})
    assert found["best_on_test"] is None
    assert "best on test" not in results.table(found)


def test_classes_and_those_that_were_not_tested():
    found = collect()
    # "bounce" has 1 of 2 in partition 1 and 0 of 1 in partition 2.
    assert found["per_class"] == {"bounce": 0.25, "collide": 1.0, "tick": 1.0, "flash": None}
    assert found["partitions"]["2"]["per_class"]["tick"] is None
    assert found["partitions"]["2"]["absent_classes"] == ["tick", "flash"]
    [confused] = found["confused"]
    assert confused == {"class": "bounce", "taken_for": "collide", "count": 2, "share": 2 / 3}


def test_several_classes_a_recording():
    targets = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], bool)
    one = OUTCOMES["1"]._replace(scores=targets.astype(np.float32), targets=targets)
    found = collect({"1": one}, multi_label=True)
    assert found["metric"] == "map" and found["scores"]["map"]["mean"] == 1.0
    assert found["chance"] == pytest.approx((1 / 3 + 2 / 3 + 1 / 3) / 3)
    assert found["confused"] is None
    assert list(results.pictures(found, {"1": one})) == ["per_class.png"]


def test_a_report(tmp_path, capsys, monkeypatch):
    number = Published("toys", "svm", "xkd", 83.8, "split 1", ("1", "S15"))
    numbers = {
        ("toys", "svm", None, "student"): [
            Comparable(number, ()),
            Comparable(number, ("epochs is 20.0, not 800.0", "batch_size is 8, not 256")),
            Comparable(number, None),
        ]
    }
    unlike = ["clips.train.count is 2, not 25", "data.held_out is 0.1, not 0.2"]
    monkeypatch.setattr(results.protocols, "departures", lambda _: unlike)
    monkeypatch.setattr(results.comparable, "find", lambda *key: numbers[key])
    what = ("audioset_20k", "attentive", "joint")
    number = Number(*what, 38.6, "Hears", "AudioSet-2M", "https://a.org/1", "4 blocks", True)
    others = {what: [number, number._replace(unlike="", quoted=False)]}
    monkeypatch.setattr(results.protocols, "measured", lambda _: what)
    monkeypatch.setattr(results.elsewhere, "find", lambda *key: others[key])
    fields = {"paper": "toys/svm", "network": "student", "untrained": False}
    fields |= {"data": {"path": "/data/toys"}, "classifier": {"name": "svm"}}
    given = results.report(
        tmp_path / "out",
        OUTCOMES,
        ml_collections.ConfigDict(fields),
        LabeledData(NAMES, multi_label=False, partitions=(), fingerprint="abc"),
        title="linear SVM on video features of the teacher",
        checkpoint={"path": "runs/mine", "step": 500},
        recordings={"fingerprint": "abc", "recordings": 26},
        pretraining=None,
    )
    saved = json.loads((tmp_path / "out" / "results.json").read_text())
    assert saved == given
    assert saved["protocol"]["classifier"] == {"name": "svm"}
    assert saved["checkpoint"] == {"path": "runs/mine", "step": 500}
    assert saved["data"]["fingerprint"] == "abc" and saved["data"]["classes"] == list(NAMES)
    assert saved["paper"][0] == {
        "model": "XKD, Kinetics400",
        "of": "split 1",
        "table": "Tables 1, S15",
        "score": 0.838,
        "differences": [],
    }
    assert saved["unlike_paper"] == unlike
    assert [len(n["differences"]) for n in saved["paper"][:2]] == [0, 2]
    assert saved["elsewhere"][0] == {
        "model": "Hears",
        "pretraining": "AudioSet-2M",
        "score": 0.386,
        "source": "https://a.org/1",
        "unlike": "4 blocks",
        "quoted": True,
    }
    assert saved["paper"][2]["differences"] is None
    for name in ("per_class.png", "confusion.png"):
        assert Image.open(tmp_path / "out" / name).size > (200, 100)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["confusion.png", "per_class.png", "results.json"], "nothing half-written"
    lines = [
        ("", "top-1", ""),
        ("partition 1", "75.0", "C 0.1, the largest tried, 75.0 on held-out recordings"),
        ("partition 2", "50.0", "C 0.1, the largest tried, 75.0 on held-out recordings"),
        ("this checkpoint, mean and spread", "62.5 ± 17.7", ""),
        (
            "best on test, as the paper chooses",
            "87.5 ± 0.0",
            "C chosen on the test set of partition 1",
        ),
        ("chance", "25.0", ""),
        ("paper: XKD, Kinetics400", "83.8", "split 1, Tables 1, S15"),
        (
            "paper, another recipe: XKD, Kinetics400",
            "83.8",
            "split 1, Tables 1, S15; here epochs is 20.0, not 800.0, and 1 more",
        ),
        (
            "paper: XKD, Kinetics400",
            "83.8",
            "split 1, Tables 1, S15; whether the pretraining was this one is not known",
        ),
        ("elsewhere: Hears, AudioSet-2M", "38.6", "https://a.org/1; quoted by others; 4 blocks"),
        ("elsewhere: Hears, AudioSet-2M", "38.6", "https://a.org/1"),
    ]
    assert capsys.readouterr().out.splitlines() == [
        "linear SVM on video features of the teacher, toys",
        "not by the paper's protocol: clips.train.count is 2, not 25, and 1 more",
        *(f"  {label:<39}  {score:>11}  {remark}".rstrip() for label, score, remark in lines),
        "classes without test recordings, left out of all means: 1 in 1, 2 in 2",
    ]


def test_top_5_is_told_where_it_says_something():
    one = outcome([0, 5, 3], [0, 5, 2], classes=6)
    found = results.collect({"1": one}, "toy", "abcdef", False)
    assert list(found["scores"]) == ["top1", "top5"]
    assert results.table(found).splitlines()[1].split() == ["top-1", "top-5"]
