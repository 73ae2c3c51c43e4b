"""Few-shot evaluation: as many recordings of each class as named, drawn by the seed."""

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score
from sklearn.svm import LinearSVC

from configs.eval import few_shot as few_shot_config
from tests.xkd_jax.downstream import labeled_clips
from xkd_jax.config.checks import ConfigError
from xkd_jax.downstream import classifiers, extraction, few_shot, sampling, selection

CLASSES = 3


def config_for(run, data, **changes):
    config = few_shot_config.get_config()
    config.checkpoint, config.data.path = str(run), str(data)
    config.compute_dtype, config.batch_size = "float32", 8
    config.clips.train.count = config.clips.test.count = 1
    config.shots, config.draws = (1, 2), 2
    config.classifier.svm.c = (1.0,)
    config.update_from_flattened_dict(changes)
    return config


def test_recordings_are_drawn_of_each_class():
    targets = np.eye(CLASSES, dtype=bool)[np.arange(30) % CLASSES]
    targets = targets[:28]  # the last class has one fewer
    made = {
        shots: few_shot.draw_recordings(targets, shots, np.random.default_rng(0))
        for shots in (1, 5, 10)
    }
    assert [targets[x].sum(axis=0).tolist() for x in made.values()] == [
        [1, 1, 1],
        [5, 5, 5],
        [10, 9, 9],
    ]
    assert set(made[1]) < set(made[5]) < set(made[10])
    other = few_shot.draw_recordings(targets, 5, np.random.default_rng(1))
    assert set(other) != set(made[5])
    several = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], bool)
    drawn = few_shot.draw_recordings(several, 2, np.random.default_rng(0))
    assert drawn.tolist() == [0, 1, 2]


class Fake:
    """Features of a fold with planted classes."""

    def __init__(self, planted=True):
        rng = np.random.default_rng(0)
        self.parts = {}
        for part, count in (("kept", 60), ("held", 30), ("test", 90)):
            labels = np.arange(count) % CLASSES
            centers = 3 * np.eye(CLASSES)[labels if planted else rng.permutation(labels)]
            features = (centers + rng.normal(size=(count, CLASSES))).astype(np.float32)
            targets = np.eye(CLASSES, dtype=bool)[labels]
            self.parts[part] = selection.LabeledFeatures(features[:, None], targets)

    def load(self, recordings, use):
        return self.parts[recordings]


def evaluated(samples, classifier, **changes):
    fold = sampling.Fold("test", "kept", "test", "kept", "held")
    config = config_for("RUN", "DATA", shots=(1, 10), draws=6, **changes)
    return few_shot.evaluate_draws(config, [fold], samples, classifier, False)


def svm(*c):
    config = few_shot_config.get_config().classifier
    config.svm.c = c
    return classifiers.make(config, False, 0)


def test_more_shots_of_planted_classes_do_better_and_shuffled_ones_are_at_chance():
    drawn = evaluated(Fake(), svm(1.0))
    results = few_shot.collect(drawn, ("a", "b", "c"), False)
    one, ten = (results["shots"][shots]["scores"]["top1"] for shots in ("1", "10"))
    assert 0.5 < one["mean"] < ten["mean"] > 0.9
    assert one["spread"] > ten["spread"] > 0
    shuffled = few_shot.collect(evaluated(Fake(False), svm(1.0)), ("a", "b", "c"), False)
    assert shuffled["shots"]["10"]["scores"]["top1"]["mean"] == pytest.approx(1 / 3, abs=0.12)


def test_scores_are_scikit_learn_s():
    samples = Fake()
    drawn = evaluated(samples, svm(1.0))
    results = few_shot.collect(drawn, ("a", "b", "c"), False)
    scores = []
    train, test = samples.parts["kept"], samples.parts["test"]
    for draw in range(6):
        rng = np.random.Generator(np.random.Philox(key=[0, draw]))
        rows = few_shot.draw_recordings(train.targets, 10, rng)
        model = LinearSVC(C=1.0, dual=False).fit(
            train.features[rows, 0], train.targets[rows].argmax(1)
        )
        guesses = model.predict(test.features[:, 0])
        scores.append(accuracy_score(test.targets.argmax(1), guesses))
    found = results["shots"]["10"]["scores"]["top1"]
    assert found["mean"] == pytest.approx(np.mean(scores))
    assert found["spread"] == pytest.approx(np.std(scores, ddof=1))


def test_the_choice_sees_as_many_held_out_recordings_and_never_the_test_set():
    drawn = evaluated(Fake(), svm(1e-4, 1.0))
    for shots, of_draws in drawn.items():
        for outcomes in of_draws:
            counts = outcomes["test"].counts
            assert counts == {"train": 3 * shots, "held_out": 3 * shots, "test": 90}
            held_out = [c.held_out for c in outcomes["test"].candidates]
            best = outcomes["test"].candidates[int(np.argmax(held_out))]
            assert outcomes["test"].chosen == best.value


def test_a_whole_run_and_again_from_the_cache(run, tmp_path, monkeypatch, capsys):
    data = labeled_clips.two_partitions(tmp_path / "data")
    config = config_for(run, data, modalities=("audio",))
    results = few_shot.few_shot(config, str(tmp_path / "out"))
    saved = json.loads((tmp_path / "out" / "results.json").read_text())
    assert saved == json.loads(json.dumps(results))
    assert (tmp_path / "out" / few_shot.PICTURE).stat().st_size > 1000
    assert list(results["shots"]) == ["1", "2"] and results["metric"] == "top1"
    for shots, row in results["shots"].items():
        assert len(row["draws"]) == 2 and set(row["draws"][0]["partitions"]) == {"1", "2"}
        counts = row["draws"][0]["partitions"]["1"]["recordings"]
        assert counts == {"train": 3 * int(shots), "held_out": 0, "test": 6}
    said = capsys.readouterr().out
    assert "mean of 2 draws" in said and "1 shot of each class" in said and "chance" in said
    monkeypatch.setattr(extraction, "_encoded", None)
    config.features.cache = str(tmp_path / "out" / "features")
    assert few_shot.few_shot(config, str(tmp_path / "again"))["shots"] == results["shots"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shots": (5, 5)}, "config.shots is (5, 5); allowed: distinct numbers"),
        ({"shots": (0,)}, "config.shots is (0,); allowed: one value or more, each a whole number"),
        ({"draws": 0}, "config.draws is 0; allowed: a whole number from 1"),
        ({"checkpoint": ""}, "config.checkpoint is ''; allowed: the folder of a run"),
    ],
)
def test_refusals(changes, message, tmp_path):
    with pytest.raises(ConfigError) as error:
        few_shot.check(config_for("RUN", tmp_path, **changes))
    assert message in str(error.value)
