"""Features are what the encoders compute, are computed once, and survive interruptions."""

import warnings

import jax
import ml_collections
import numpy as np
import pytest

from configs import base
from input_pipeline import datasets, evaluation
from tests.input_pipeline.prepared_files import clock_record, write_prepared
from tests.media_files import write_media
from xkd_jax import sharding
from xkd_jax.config.checks import ConfigError
from xkd_jax.downstream import backbones, extraction
from xkd_jax.encoders import pretrained_encoder

RECORDINGS = 7
AUGMENT = ml_collections.ConfigDict(
    {
        "crop_scale": (0.3, 1.0),
        "aspect_ratio": (0.75, 1.33),
        "flip_probability": 0.5,
        "color_jitter": (0.4, 0.4, 0.4, 0.2),
        "gray_probability": 0.2,
        "gain": 0.5,
    }
)


@pytest.fixture(scope="module")
def both(run):
    return backbones.load(run, ("video", "audio"), "teacher", np.dtype("float32"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rows = [clock_record(f"{n}.mp4", 2.0 + n / 2) for n in range(RECORDINGS)]
    return write_prepared(tmp_path_factory.mktemp("data") / "prepared", {"train": rows})


def clips(count=2, placement="uniform", augment=False, crop=1.0):
    form = {"count": count, "placement": placement, "augment": augment, "crop": crop}
    return ml_collections.ConfigDict(form)


def protocol(loaded, form=None, seed=0, batch_size=8):
    form = form or clips()
    views = backbones.make_views(loaded, AUGMENT if form.augment else None)
    return extraction.Protocol(loaded, views, form, seed, batch_size)


def open_source(path, views, dataset="prepared"):
    section = base.get_config().data
    section.dataset, section.path = dataset, str(path)
    return datasets.open_dataset(section, views)


def extract(made, data, cache, ids=tuple(range(RECORDINGS)), source=None):
    source = source or open_source(data, made.views)
    mesh = sharding.make_mesh()
    return extraction.extract(made, source, np.array(ids), cache, mesh, threads=2)


@pytest.fixture(scope="module")
def whole(both, data, tmp_path_factory):
    """Features of the default protocol, and the cache that holds them."""
    cache = tmp_path_factory.mktemp("whole")
    return extract(protocol(both), data, cache), cache


def assert_same(found, expected):
    for modality, rows in expected.of.items():
        np.testing.assert_array_equal(found.of[modality], rows)
    np.testing.assert_array_equal(found.replaced, expected.replaced)


def test_features_are_what_the_encoders_make_of_the_clips(both, data, whole):
    made = protocol(both)
    passing = evaluation.EvaluationClips(
        open_source(data, made.views), made.views, RECORDINGS * 2, evaluation.Recipe(clips=2)
    )
    [batch] = passing.batches()
    found, _ = whole
    for modality, seen in (("video", batch["video"][:, 0]), ("audio", batch["audio"])):
        wanted = both[modality].encode_views(seen).reshape(RECORDINGS, 2, 32)
        assert found.of[modality].dtype == np.float32
        np.testing.assert_allclose(found.of[modality], wanted, atol=2e-5)
        assert wanted.std(axis=(0, 1)).max() > 1e-2
    assert not found.replaced.any()


def test_the_second_time_they_are_read(both, data, whole, monkeypatch):
    found, cache = whole
    monkeypatch.setattr(extraction, "_encoded", None)
    assert_same(extract(protocol(both), data, cache), found)


# Interruption.


@pytest.fixture
def small_parts(monkeypatch):
    """Makes parts of eight clips, one batch each."""
    monkeypatch.setattr(extraction, "_PART_ROWS", 1)


def interrupted_after(parts, monkeypatch):
    """Stops the next extraction after it has written some parts."""
    write, written = extraction.FeatureCache.write, []

    def stop(self, *arguments):
        if len(written) == parts:
            raise KeyboardInterrupt
        written.append(write(self, *arguments))

    monkeypatch.setattr(extraction.FeatureCache, "write", stop)


def count_rows(monkeypatch):
    """Counts the clips that are encoded."""
    encoded, rows = extraction._encoded, []

    def counted(protocol, source, example_ids, *rest):
        rows.extend(np.repeat(example_ids, protocol.clips.count))
        return encoded(protocol, source, example_ids, *rest)

    monkeypatch.setattr(extraction, "_encoded", counted)
    return rows


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.usefixtures("small_parts")
def test_an_interrupted_extraction_goes_on_and_gives_the_same(
    both, data, tmp_path, monkeypatch, count
):
    """With 3 clips and so 24 rows per part, the last part is shorter than a batch."""
    made = protocol(both, clips(count, "random", augment=True))
    in_one_go = extract(made, data, tmp_path / "one")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupted_after(1, patch)
        if count == 3:  # 7 * 3 rows are one part, so nothing was written
            interrupted_after(0, patch)
        extract(made, data, tmp_path / "two")
    rows = count_rows(monkeypatch)
    assert_same(extract(made, data, tmp_path / "two"), in_one_go)
    assert len(rows) == {2: RECORDINGS * 2 - 8, 3: RECORDINGS * 3}[count]


@pytest.mark.parametrize("damage", ["byte", "end", "other", "gone"])
@pytest.mark.usefixtures("small_parts")
def test_a_damaged_part_is_made_again(both, data, tmp_path, monkeypatch, damage):
    made = protocol(both)
    expected = extract(made, data, tmp_path)
    [first, second] = sorted(tmp_path.glob("*/part-*.npz"))
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    harm = {
        "byte": lambda: first.write_bytes(content),
        "end": lambda: first.write_bytes(content[:-100]),
        "other": lambda: first.write_bytes(second.read_bytes()),
        "gone": first.unlink,
    }
    harm[damage]()
    rows = count_rows(monkeypatch)
    assert_same(extract(made, data, tmp_path), expected)
    assert sorted(set(rows)) == [0, 1, 2, 3]
    rows.clear()
    assert_same(extract(made, data, tmp_path), expected)
    assert not rows


# What features depend on.


def test_nothing_stale_is_used(both, run, data, whole, tmp_path, monkeypatch):
    """Everything that changes features changes the key, and nothing else does."""
    _, cache = whole
    [folder] = cache.iterdir()

    class NotFoundError(Exception):
        pass

    def nothing(*_):
        raise NotFoundError

    monkeypatch.setattr(extraction, "_encoded", nothing)

    def key(made, source=None, ids=tuple(range(RECORDINGS))):
        with pytest.raises(NotFoundError):
            extract(made, data, tmp_path, ids, source)
        [name] = (path.name for path in tmp_path.iterdir())
        (tmp_path / name / "identity.json").unlink()
        (tmp_path / name).rmdir()
        return name

    again = backbones.load(run, ("video", "audio"), "teacher", np.dtype("float32"))
    assert key(protocol(again)) == folder.name == key(protocol(again, seed=1))
    student = backbones.load(run, ("video", "audio"), "student", np.dtype("float32"))
    larger = backbones.load(run, ("video",), "teacher", np.dtype("float32"), frame_size=48)
    rough = backbones.load(run, ("video", "audio"), "teacher", np.dtype("bfloat16"))
    touched = dict(both)
    [leaf, *_] = jax.tree.leaves(both["audio"].params)
    touched["audio"] = backbones.load(run, ("audio",), "teacher", np.dtype("float32"))["audio"]
    touched["audio"].params = jax.tree.map(
        lambda x: x * (1 + 1e-6) if x.shape == leaf.shape else x, touched["audio"].params
    )
    others = [
        key(protocol(student)),
        key(protocol(larger)),
        key(protocol(rough)),
        key(protocol(touched)),
        key(protocol({"video": both["video"]})),
        key(protocol(both, clips(3))),
        key(protocol(both, clips(2, "random"))),
        key(protocol(both, clips(2, "random"), seed=1)),
        key(protocol(both, clips(2, augment=True))),
        key(protocol(both), ids=(0, 1, 2)),
        key(protocol(both), ids=(0, 2, 1)),
        key(protocol(both), Changed()),
    ]
    assert len({folder.name, *others}) == len(others) + 1


class Changed:
    """Source of different recordings with the same names."""

    fingerprint = "other"


def test_draws_follow_the_seed_the_recording_and_the_clip_alone(both, data, tmp_path):
    made = protocol(both, clips(3, "random", augment=True))
    found = extract(made, data, tmp_path)
    few = extract(made._replace(batch_size=16), data, tmp_path, ids=(5, 2))
    other = extract(made._replace(seed=1), data, tmp_path)
    for modality, rows in found.of.items():
        np.testing.assert_allclose(few.of[modality], rows[[5, 2]], atol=2e-5)
        assert np.abs(other.of[modality] - rows).max() > 1e-2
        assert np.abs(rows[:, 0] - rows[:, 1]).max() > 1e-2


def test_the_crop_is_that_of_the_clips(both, data, tmp_path):
    made = protocol(both, clips(crop=0.5))
    assert made.identity() != protocol(both).identity()
    passing = evaluation.EvaluationClips(
        open_source(data, made.views),
        made.views,
        4,
        evaluation.Recipe(clips=2, crop_share=0.5),
        example_ids=(3, 0),
    )
    [batch] = passing.batches()
    found = extract(made, data, tmp_path, (3, 0))
    wanted = both["video"].encode_views(batch["video"][:, 0]).reshape(2, 2, 32)
    np.testing.assert_allclose(found.of["video"], wanted, atol=2e-5)


def test_augmentation_changes_colors_too(both, data, tmp_path):
    """With a fixed crop and time, only the augmentation on the accelerator is left."""
    fixed = {"crop_scale": (1.0, 1.0), "aspect_ratio": (4 / 3, 4 / 3), "flip_probability": 0.0}
    still = AUGMENT.copy_and_resolve_references()
    still.update(fixed)
    still.color_jitter, still.gray_probability = (0.0,) * 4, 0.0
    colored = AUGMENT.copy_and_resolve_references()
    colored.update(fixed)
    video = {"video": both["video"]}
    rows = [
        extract(
            extraction.Protocol(
                video, backbones.make_views(video, fields), clips(1, augment=True), 0, 8
            ),
            data,
            tmp_path,
        ).of["video"]
        for fields in (still, colored)
    ]
    assert np.abs(rows[0] - rows[1]).max() > 1e-2


def test_a_file_that_breaks_is_marked_where_another_took_its_place(both, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "videos").mkdir()
    for number in range(4):
        write_media(tmp_path / "videos" / f"{number}.mp4", 1.5, size=(32, 32))
    made = protocol(both, clips(1))
    source = open_source(tmp_path / "videos", made.views, "folder")
    (tmp_path / "videos" / "2.mp4").write_bytes(b"broken")
    ids = (3, 2, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the file that is read instead
        found = extract(made, None, tmp_path / "features", ids, source)
    np.testing.assert_array_equal(found.replaced, [False, True, False])
    np.testing.assert_array_equal(found.of["video"][0], found.of["video"][1])
    monkeypatch.setattr(extraction, "_encoded", None)
    assert_same(extract(made, None, tmp_path / "features", ids, source), found)


# Encoders.


def test_untrained_encoders_have_the_same_form_and_follow_their_seed(run):
    def of(seed):
        return backbones.load(
            run, ("video", "audio"), "teacher", np.dtype("float32"), untrained_seed=seed
        )

    trained = backbones.load(run, ("video", "audio"), "teacher", np.dtype("float32"))
    first, again, other = of(0), of(0), of(1)
    digests = [backbones.weights_digest(each) for each in (trained, first, again, other)]
    assert digests[1] == digests[2] and len(set(digests)) == 3
    for modality, encoder in first.items():
        shapes = jax.tree.map(np.shape, encoder.params)
        assert shapes == jax.tree.map(np.shape, trained[modality].params)
    # The modalities have different draws.
    video, audio = (first[m].params["cls_token"] for m in ("video", "audio"))
    assert np.abs(np.asarray(video) - np.asarray(audio)).max() > 0


def test_sound_alone_is_cut_to_its_own_length(run):
    views = backbones.make_views(backbones.load(run, ("audio",), "teacher", np.dtype("float32")))
    assert views.video.global_frames / views.video.frame_rate == pytest.approx(1.0)
    assert (views.audio.global_frames, views.audio.mel_bands) == (64, 16)


def test_picture_and_sound_of_different_lengths_are_refused(run, both):
    longer = pretrained_encoder.load_encoder(run, "audio", seconds=2.0)
    with pytest.raises(ConfigError, match="encoders that see 1 s of video and 2 s of audio: one"):
        backbones.make_views({"video": both["video"], "audio": longer})


def test_frames_of_a_size_that_patches_do_not_divide_are_refused(run):
    with pytest.raises(ConfigError, match=r"^config\.frame_size is 30, .* a multiple of .* 8$"):
        backbones.load(run, ("video",), "teacher", np.dtype("float32"), frame_size=30)
