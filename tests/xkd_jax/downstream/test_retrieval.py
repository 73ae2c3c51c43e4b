"""Retrieval: its scores are those of a plain definition, and its outputs those of the networks."""

import json

import numpy as np
import pytest

from configs.eval import retrieval as retrieval_config
from input_pipeline import datasets, evaluation
from tests.input_pipeline.prepared_files import clock_record, write_prepared
from xkd_jax.config.checks import ConfigError
from xkd_jax.downstream import extraction, retrieval, retrieval_scores
from xkd_jax.encoders import networks
from xkd_jax.interop import export

COUNT, MUTE = 12, 2


def config_for(run, data, **changes):
    config = retrieval_config.get_config()
    config.checkpoint, config.data.path = str(run), str(data)
    config.compute_dtype, config.batch_size, config.clips.test.count = "float32", 8, 2
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Recordings without labels, some of which have no sound."""
    rows = [clock_record(f"{n}", 1.5 + n / 10, size=(32, 32)) for n in range(COUNT)]
    rows += [clock_record(f"mute{n}", 1.5, size=(32, 32), sound=0) for n in range(MUTE)]
    return write_prepared(
        tmp_path_factory.mktemp("data") / "data", {"train": rows[:2], "test": rows}
    )


@pytest.fixture(scope="module")
def retrieved(run, data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("retrieved")
    return workdir, retrieval.retrieval(config_for(run, data), str(workdir))


def plain_scores(queries, candidates):
    """Sorts all candidates for each query."""
    x, y = (z - z.mean(axis=0) for z in (queries, candidates))
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
    places = []
    for n, query in enumerate(x):
        order = np.argsort(-(y @ query), kind="stable")
        places.append(int(np.flatnonzero(order == n)[0]) + 1)
    recall = {str(k): float(np.mean(np.array(places) <= k)) for k in (1, 5, 10)}
    return {"recall": recall, "median_rank": float(np.median(places))}


def test_scores_are_those_of_sorted_candidates(monkeypatch):
    monkeypatch.setattr(retrieval_scores, "_ROWS", 7)
    rng = np.random.default_rng(0)
    video = rng.normal(size=(40, 6))
    audio = video + rng.normal(size=(40, 6))
    outputs = {"video_student": video, "audio_student": audio}
    found = retrieval.score(outputs, ("student",))
    assert list(found["pairs"]) == ["students"]
    both = found["pairs"]["students"]
    assert both["video_to_audio"] == plain_scores(video, audio)
    assert both["audio_to_video"] == plain_scores(audio, video)
    assert 0.2 < both["video_to_audio"]["recall"]["1"] < 0.9
    assert found["chance"]["recall"] == {"1": 1 / 40, "5": 5 / 40, "10": 10 / 40}
    assert found["chance"]["median_rank"] == 20.5


def test_equal_outputs_find_nothing_and_partners_are_found():
    same = np.ones((30, 4))
    rank = retrieval_scores.ranks_of(*[retrieval_scores.centered(same)] * 2)
    assert retrieval_scores.recall(rank)[1] == 0
    assert retrieval_scores.median_rank(rank) == retrieval_scores.chance(30)[1] == 15.5
    rows = retrieval_scores.centered(np.random.default_rng(0).normal(size=(30, 8)))
    assert retrieval_scores.recall(retrieval_scores.ranks_of(rows, rows)) == {1: 1, 5: 1, 10: 1}


def test_results_hold_every_pair_of_networks(retrieved, capsys):
    workdir, results = retrieved
    assert json.loads((workdir / "results.json").read_text()) == json.loads(json.dumps(results))
    assert list(results["pairs"]) == list(retrieval.PAIRS)
    for directions in results["pairs"].values():
        assert list(directions) == ["video_to_audio", "audio_to_video"]
    assert results["data"]["recordings"] == COUNT and results["data"]["left_out"] == MUTE
    assert results["checkpoint"]["provenance"]["step"] == 7
    text = retrieval.table(results)
    assert "recall@1  recall@5  recall@10  median rank" in text
    assert "chance" in text and "8.3" in text and "6.5" in text


def test_outputs_are_of_one_modality_and_are_averaged_over_clips(run, data, retrieved, monkeypatch):
    _, results = retrieved
    loaded = networks.load(run)
    protocol = retrieval._protocol(config_for(run, data), loaded)
    config = config_for(run, data)
    source = datasets.open_dataset(config.data, protocol.views)
    clips = evaluation.EvaluationClips(
        source, protocol.views, 2 * COUNT, evaluation.Recipe(clips=2), example_ids=range(COUNT)
    )
    [batch] = clips.batches()
    encoded = {}
    for m, views in (("video", batch["video"][:, 0]), ("audio", batch["audio"])):
        # Each modality alone, so that nothing can be refined by the other.
        for (network, _), out in loaded.encode({m: views}, 8).items():
            encoded[f"{m}_{network}"] = out.projections.reshape(COUNT, 2, -1).mean(axis=1)
    expected = retrieval.score(encoded, ("student", "teacher"))
    assert results["pairs"] == expected["pairs"]


def test_the_second_time_nothing_is_encoded(run, data, retrieved, tmp_path, monkeypatch):
    workdir, results = retrieved
    monkeypatch.setattr(extraction, "_encoded", None)
    config = config_for(run, data, **{"features.cache": str(workdir / "features")})
    again = retrieval.retrieval(config, str(tmp_path))
    assert again["pairs"] == results["pairs"]


def test_some_recordings_are_drawn_by_the_seed(run, data, tmp_path, monkeypatch):
    drawn = []

    def extract(protocol, source, example_ids, *_, **__):
        drawn.append(example_ids.tolist())
        rows = np.random.default_rng(0).normal(size=(len(example_ids), 1, 4)).astype(np.float32)
        return extraction.Features(dict.fromkeys(protocol.widths, rows), np.zeros(len(rows), bool))

    monkeypatch.setattr(extraction, "extract", extract)
    for seed in (0, 0, 1):
        config = config_for(run, data, recordings=5, seed=seed)
        results = retrieval.retrieval(config, str(tmp_path))
        assert results["pairs"]["students"]["audio_to_video"]["recall"] == {"1": 1.0, "5": 1.0}
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(len(set(ids)) == 5 and max(ids) < COUNT and ids == sorted(ids) for ids in drawn)


def test_encoders_alone_are_refused(run, data, tmp_path):
    folder = tmp_path / "encoders"
    export.export(run, folder)
    with pytest.raises(ConfigError, match=r"config\.checkpoint is .*; allowed: a run of both"):
        retrieval.retrieval(config_for(folder, data), str(tmp_path / "out"))


def test_recordings_need_picture_and_sound(run, tmp_path):
    rows = [clock_record(f"{n}", 1.0, size=(32, 32), sound=0) for n in range(4)]
    mute = write_prepared(tmp_path / "mute", {"test": rows})
    with pytest.raises(ConfigError, match=r"config\.data\.path is .*; allowed: data with picture"):
        retrieval.retrieval(config_for(run, mute), str(tmp_path / "out"))
