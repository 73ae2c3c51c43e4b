"""Features in time: their content, their layers, and what an interruption leaves."""

import contextlib
import functools
import json
import signal
import tracemalloc
from unittest import mock

import jax
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet
import pytest

from input_pipeline.media import containers, reader
from input_pipeline.programs import signals
from tests.damage import damages
from tests.media_files import write_media
from tests.saved_runs import save_run
from xkd_jax import dense_features, features
from xkd_jax.encoders import dense, preprocessing, pretrained_encoder
from xkd_jax.method.models import vit, vit_layers
from xkd_jax.method.models.layers import LayerNorm
from xkd_jax.method.models.patches import patchify

USED = ["a.mp4", "b.mp4", "silent.mp4", "sub/c.mkv"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("features")
    save_run(workdir)
    return workdir


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    root = tmp_path_factory.mktemp("media")
    (root / "sub").mkdir()
    write_media(root / "a.mp4", 3.4)
    write_media(root / "b.mp4", 0.4)
    write_media(root / "silent.mp4", 1.5, audio_codec=None)
    write_media(root / "sub" / "c.mkv", 2.0)
    write_media(root / "sound.wav", 2.0, video_codec=None, audio_codec="pcm_s16le")
    (root / "broken.mp4").write_bytes(b"no media")
    return root


@pytest.fixture(scope="module", autouse=True)
def _compile_once():
    load = pretrained_encoder.load_encoder
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained_encoder, "load_encoder", functools.cache(load))
        yield


def extract(run, source, output, *flags):
    flags = ("--batch_size=4", "--stride=0.3", "--threads=2", *flags)
    features.main([f"--checkpoint={run}", f"--input={source}", f"--output={output}", *flags])


def encoder_of(run, modality):
    return pretrained_encoder.load_encoder(run, modality, "teacher", batch_size=4)


def expected(encoder, path, layers):
    """Encodes the same views, each made by itself at its place in the file."""
    duration, seconds = reader.measure(path).duration, encoder.sizes.seconds
    room = max(0.0, duration - seconds)
    starts = np.arange(0, room + 1e-9, 0.3)
    places = starts / room if room else [0.0]
    of_file = getattr(preprocessing, f"{encoder.modality}_views_of_file")
    views = of_file(path, encoder.view, places)
    return encoder.encode_views(views, layers=layers), starts + min(seconds, duration) / 2


def test_both_modalities_in_time_at_two_layers(run, media, tmp_path, capsys):
    extract(run, media, tmp_path / "out", "--modality=both", "--layers=1,last")
    written = sorted(p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*.npz"))
    names = sorted([*USED, "sound.wav"])
    assert [str(path) for path in written] == [f"{name}.npz" for name in names]
    lengths = {}
    for name in names:
        archive = np.load(tmp_path / "out" / f"{name}.npz")
        lacks = {"silent.mp4": "audio", "sound.wav": "video"}.get(name)
        for m in {"video", "audio"} - {lacks}:
            rows, times = expected(encoder_of(run, m), media / name, (1, 2))
            assert archive[m].dtype == np.float32 and archive[m].shape[1:] == (2, 32)
            np.testing.assert_allclose(archive[m], rows, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(archive[f"{m}_times"], times)
            lengths[name, m] = len(times)
        assert lacks not in archive and (not lacks or lacks in archive["left_out"][0])
    assert lengths["b.mp4", "video"] == 1 < lengths["a.mp4", "video"]
    assert json.loads(str(archive["encoder"]))["layers"] == {"video": [1, 2], "audio": [1, 2]}
    output = capsys.readouterr().out
    assert "left out, audio: no sound: 1 (silent.mp4)" in output
    assert "left out, video: unreadable: 1 (broken.mp4)" in output
    assert "video of 4 files" in output and "audio of 4 files" in output


def test_tables_hold_what_archives_do(run, media, tmp_path, capsys):
    flags = ("--modality=both", "--layers=1,last")
    extract(run, media, tmp_path / "npz", *flags)
    extract(run, media, tmp_path / "tables", *flags, "--format=parquet")
    for name in [*USED, "sound.wav"]:
        archive = dense_features.read(tmp_path / "npz" / f"{name}.npz")
        path = tmp_path / "tables" / f"{name}.parquet"
        assert_same(dense_features.read(path), archive)
        table = pyarrow.parquet.read_table(path)
        assert table.column_names == ["modality", "time", "layer", "features"]
        for m in {"video", "audio"} & archive.keys():
            for place, layer in enumerate((1, 2)):
                rows = table.filter((pc.field("modality") == m) & (pc.field("layer") == layer))
                np.testing.assert_array_equal(rows["time"], archive[f"{m}_times"])
                found = np.stack(rows["features"].to_numpy())
                np.testing.assert_array_equal(found, archive[m][:, place])
    extract(run, media / "a.mp4", tmp_path / "one", "--format=parquet")
    extract(run, media / "a.mp4", tmp_path / "one")
    one = [dense_features.read(tmp_path / "one" / f"a.mp4.{form}") for form in ("parquet", "npz")]
    assert one[0]["video"].ndim == 2
    assert_same(*one)
    # The same command goes on with the tables that are there, but not with a damaged one.
    damaged = tmp_path / "tables" / "b.mp4.parquet"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:200] + b"x" + whole[201:])
    capsys.readouterr()
    extract(run, media, tmp_path / "tables", *flags, "--format=parquet")
    output = capsys.readouterr().out
    assert "b.mp4.parquet is damaged" in output and "going on from 4 files" in output
    assert damaged.read_bytes() == whole


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.faults
def test_damage_to_a_table_is_noticed(run, media, tmp_path):
    extract(run, media / "b.mp4", tmp_path, "--modality=both", "--format=parquet")
    path = tmp_path / "b.mp4.parquet"
    whole = dense_features.read(path)
    for damaged in damages(path.read_bytes(), 100):
        path.write_bytes(damaged)
        try:
            assert_same(dense_features.read(path), whole)  # bytes that mean nothing
        except ValueError as error:
            assert "is damaged: it" in str(error) and "\n" not in str(error)


def test_the_last_layer_alone_has_no_axis_of_layers(run, media, tmp_path):
    extract(run, media / "a.mp4", tmp_path / "out")
    archive = dense_features.read(tmp_path / "out" / "a.mp4.npz")
    rows, _ = expected(encoder_of(run, "video"), media / "a.mp4", None)
    np.testing.assert_allclose(archive["video"], rows, rtol=1e-4, atol=1e-5)
    assert archive.keys().isdisjoint({"audio", "audio_times"})
    one = dense.features(encoder_of(run, "video"), media / "a.mp4", 0.3)
    np.testing.assert_allclose(one.features[:, 0], rows, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(one.times, archive["video_times"])


def test_a_layers_tokens_are_those_of_the_blocks_applied_by_hand(run):
    encoder = encoder_of(run, "audio")
    views = np.random.default_rng(0).normal(size=(2, *encoder.sizes.view)).astype(np.float32)
    tokens = encoder.encode_views(views, "tokens", layers=(1, 2))
    params = encoder.params
    patches = patchify(views, encoder.patch)
    embedded = patches @ params["patch_embedding"]["kernel"] + params["patch_embedding"]["bias"]
    cls = np.broadcast_to(params["cls_token"], (2, 1, encoder.sizes.width))
    x = np.concatenate([cls, embedded], axis=1) + params["position_embedding"]
    block = vit.Block(encoder.sizes.width, encoder.sizes.heads)
    for n in range(2):
        weights = jax.tree.map(lambda leaf, n=n: leaf[n], params["transformer"]["blocks"])
        x, _ = block.apply({"params": weights}, x)
        if n == 0:
            np.testing.assert_allclose(tokens[:, 0], x, rtol=1e-3, atol=1e-4)
    normed = LayerNorm(np.float32).apply({"params": params["norm"]}, x)
    np.testing.assert_allclose(tokens[:, 1], normed, rtol=1e-3, atol=1e-4)
    for layers in ((0,), (3,), ("first",), (), 2, "last"):
        with pytest.raises(ValueError, match=r"^layers is .*; allowed: "):
            encoder.encode_views(views, layers=layers)


def test_an_interrupted_run_goes_on(run, media, tmp_path, monkeypatch, capsys):
    extract(run, media, tmp_path / "whole")
    real, encoded = dense_features.encode, []

    def stopping(*arguments):
        for result in real(*arguments):
            if len(encoded) == 3:
                raise signals.Stopped(signal.SIGINT)
            encoded.append(result.name)
            yield result

    monkeypatch.setattr(dense_features, "encode", stopping)
    with pytest.raises(signals.Stopped):
        extract(run, media, tmp_path / "out")
    written = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.npz")}
    assert len(written) == 2 and encoded == ["a.mp4", "b.mp4", "broken.mp4"]
    monkeypatch.setattr(dense_features, "encode", real)
    (tmp_path / "out" / "b.mp4.npz").write_bytes(b"damaged")
    capsys.readouterr()
    extract(run, media, tmp_path / "out")
    output = capsys.readouterr().out
    assert "going on from 1 file of" in output and "b.mp4.npz is damaged" in output
    assert (tmp_path / "out" / "a.mp4.npz").stat().st_mtime_ns == written["a.mp4.npz"]
    for name in USED:
        assert (tmp_path / "out" / f"{name}.npz").read_bytes() == (
            tmp_path / "whole" / f"{name}.npz"
        ).read_bytes()
    extract(run, media / "b.mp4", tmp_path / "out", "--layers=1")
    assert "1 archive of other settings or files: written again" in capsys.readouterr().out


def test_memory_does_not_grow_with_the_length_of_a_file(run, tmp_path):
    """The arrays alive at once: those of the batches that threads decode, and the features."""
    encoders = {m: encoder_of(run, m) for m in ("video", "audio")}
    settings = dense_features.Settings(0.5, {"video": (2,), "audio": (2,)}, 4, 1)
    peaks = {}
    for name, seconds in (("warm.mp4", 8), ("short.mp4", 8), ("long.mp4", 40)):
        write_media(tmp_path / name, seconds, frame_rate=8, sample_rate=16000, layout="mono")
        with traced_memory() as memory:
            [encoded] = dense_features.encode(encoders, tmp_path, [name], settings)
        peaks[name] = memory()
    for m in encoders:
        assert len(encoded.arrays[m]) == 79 and encoded.arrays[f"{m}_times"][-1] == 39.5
    # Features of 32 s more are 2 x 64 x 32 numbers. Frames of 32 s would be 256 x 18 kB.
    assert peaks["long.mp4"] < peaks["short.mp4"] + 200_000


@contextlib.contextmanager
def traced_memory():
    """Yields a function that, afterwards, returns the peak of traced memory in bytes."""
    peak = []
    tracemalloc.start()
    try:
        yield lambda: peak[0]
        peak.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp3", "mp3"), ("b.flac", "flac"), ("c.mkv", "aac"), ("d.avi", "mp3")]
)
def test_sounds_that_are_read_together_are_those_read_alone(run, tmp_path, name, codec):
    video = {"c.mkv": "libx264", "d.avi": "mpeg4"}.get(name)
    path = write_media(tmp_path / name, 6.0, video_codec=video, audio_codec=codec)
    encoder, info = encoder_of(run, "audio"), reader.measure(path)
    starts = [0.0, 0.5, 1.0, 4.7, 2.1]
    together = dense.views(encoder, path, info, starts)
    for start, view in zip(starts, together, strict=True):
        [alone] = dense.views(encoder, path, info, [start])
        np.testing.assert_array_equal(view, alone)
    # An MP3 has no index, so that each opening reads all that is before the view.
    with mock.patch.object(containers, "opened", wraps=containers.opened) as opened:
        dense.views(encoder, path, info, starts)
    assert (opened.call_count == 2) == (name in ("a.mp3", "b.flac"))


def test_batches_are_split_over_devices(run):
    devices = jax.local_devices()
    encoder = pretrained_encoder.load_encoder.__wrapped__(run, "audio", batch_size=4)
    views = np.random.default_rng(0).normal(size=(5, *encoder.sizes.view)).astype(np.float32)
    rows = encoder.encode_views(views)
    encoder.use_devices(devices)
    np.testing.assert_allclose(encoder.encode_views(views), rows, rtol=1e-4, atol=1e-5)


def test_what_cannot_work_is_one_line(run, media, tmp_path):
    def refuse(source, *flags):
        with pytest.raises(SystemExit) as raised:
            extract(run, source, tmp_path / "out", *flags)
        assert not list(tmp_path.rglob("*.npz"))
        return str(raised.value.code)

    assert "--layers is 3; allowed: a whole number, 1 to 2" in refuse(media, "--layers=3")
    assert "--stride is 0.0; allowed: 0.01 to 3600" in refuse(media, "--stride=0")
    assert "--windows=2 with --stride" in refuse(media, "--windows=2")
    assert "none of 1 file" in refuse(media / "broken.mp4")
    with pytest.raises(SystemExit, match=r"x.npz; allowed with --stride: a folder, and the format"):
        extract(run, media, tmp_path / "x.npz")
    for flags in (["--modality=both"], ["--layers=1"], ["--format=parquet"]):
        with pytest.raises(SystemExit, match=r"without|only with"):
            features.main(
                [f"--checkpoint={run}", f"--input={media}", f"--output={tmp_path}/x.npz", *flags]
            )


def test_layers_without_cls_have_zeros_in_its_place():
    encoder = vit.Encoder(grid=(2, 2), width=8, depth=2, heads=2, cls=False)
    params = vit.init_params(encoder, (4, 4), jax.random.key(0))
    views = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    tokens = np.asarray(vit_layers.encode_layers(encoder, params, views, (4, 4), (1, 2)))
    assert tokens.shape == (3, 2, 5, 8) and not tokens[:, :, 0].any() and tokens[:, 0, 1:].all()
    whole = vit.encode(encoder, params, views, (4, 4)).tokens
    np.testing.assert_allclose(tokens[:, 1], whole, rtol=1e-5, atol=1e-6)
