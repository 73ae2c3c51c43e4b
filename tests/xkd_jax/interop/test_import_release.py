"""Conversion of the authors' release: all weights, the release's features, and the way back."""

import json
import pathlib
import shutil

import jax
import ml_collections
import numpy as np
import pytest

import xkd_jax
from configs import base
from tests import torch_pickles
from tests.tiny import random_params, tiny_config
from xkd_jax.encoders import exports, pretrained
from xkd_jax.interop import export, import_release, release, sizes, torch_files
from xkd_jax.method.models import xkd
from xkd_jax.method.models.xkd import MODALITIES

REFERENCE = pathlib.Path(__file__).parents[2] / "reference"
BACKBONES = REFERENCE / "release_backbones"
PREFIX = str(BACKBONES / "XKD_tiny_ep799")
# The reference's model does not have the paper's sizes.
SIZES = [
    "--video_heads=4",
    "--audio_heads=4",
    "--video_patch=4,8,8",
    "--frames=16",
    "--mel_bands=16",
]
INPUTS = {"video": ("video", "video_2x"), "audio": ("audio", "audio_half")}


def convert(source, output, *flags):
    import_release.main([f"--input={source}", f"--output={output}", *SIZES, *flags])


def refused(capsys, source, output, *flags):
    """Returns the message of a conversion that is refused, and checks that it writes nothing."""
    before = sorted(pathlib.Path(output).parent.iterdir())
    with pytest.raises(SystemExit) as raised:
        convert(source, output, *flags)
    assert sorted(pathlib.Path(output).parent.iterdir()) == before
    return raised.value.code


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    for store in exports.STORES:
        convert(PREFIX, folder / store, f"--store={store}")
    return folder


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encoder.blocks.999999999.norm1.weight": 4}, "unknown: .*999999999"),
        ({f"encoder.blocks.{'9' * 5000}.norm1.weight": 4}, "unknown: .*9999"),
        ({"encoder.blocks.9999.norm1.weight": 4}, "missing: "),
    ],
)
def test_the_name_of_a_layer_does_not_tell_how_much_work_there_is(tmp_path, changed, message):
    path = f"{PREFIX}vid_teacher.pth.tar"
    tensors = torch_files.read(path, entry="model")
    tensors |= {name: np.zeros(size, np.float32) for name, size in changed.items()}
    with open(tmp_path / "vid_teacher.pth.tar", "wb") as file:
        torch_files.write(file, tensors)
    with pytest.raises(import_release.ReleaseError, match=message):
        import_release.read_release(
            str(tmp_path / "vid_teacher.pth.tar"),
            given=sizes.StatedSizes(video_heads=4, video_patch=(4, 8, 8), frames=16),
        )


def test_a_model_without_tokens_is_refused(tmp_path):
    path = f"{PREFIX}vid_teacher.pth.tar"
    tensors = torch_files.read(path, entry="model")
    tensors["enc_pos_embed"] = tensors["enc_pos_embed"][:, :0]
    with open(tmp_path / "vid_teacher.pth.tar", "wb") as file:
        torch_files.write(file, tensors)
    with pytest.raises(sizes.SizeError, match="enc_pos_embed"):
        given = sizes.StatedSizes(video_heads=4, video_patch=(4, 8, 8), frames=16)
        import_release.read_release(str(tmp_path / "vid_teacher.pth.tar"), given=given)


@pytest.mark.parametrize("network", ["teacher", "student"])
@pytest.mark.parametrize("modality", MODALITIES)
def test_features_are_the_releases(converted, modality, network):
    vectors = np.load(BACKBONES / "features.npz")
    encoder = xkd_jax.load_encoder(converted / "orbax", modality, network)
    for name in INPUTS[modality]:
        views = vectors[name]
        views = np.moveaxis(views, 1, -1) if modality == "video" else views[:, 0]
        expected = vectors[f"{network}_{name}_features"]
        np.testing.assert_allclose(
            encoder.encode_views(views), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max()
        )


@pytest.mark.parametrize("store", exports.STORES)
def test_from_the_release_and_back_every_byte_is_the_same(converted, store, tmp_path):
    export.main(
        [f"--checkpoint={converted / store}", f"--output={tmp_path / 'back'}", "--format=release"]
    )
    originals = sorted(BACKBONES.glob("*.pth.tar"))
    assert len(originals) == 4
    for original in originals:
        name = original.name.replace("XKD_tiny_ep799", "xkd_")
        ours = torch_files.read(tmp_path / "back" / name)
        theirs = torch_files.read(original)
        assert list(ours) == list(theirs)
        for key, tensor in theirs.items():
            assert ours[key].dtype == tensor.dtype and ours[key].shape == tensor.shape
            assert ours[key].tobytes() == tensor.tobytes(), key


def test_one_file(tmp_path):
    shutil.copy(f"{PREFIX}aud_student.pth.tar", tmp_path / "renamed.pth")
    convert(f"{PREFIX}vid_teacher.pth.tar", tmp_path / "video")
    convert(tmp_path / "renamed.pth", tmp_path / "audio", "--network=student")
    xkd_jax.load_encoder(tmp_path / "video")
    assert xkd_jax.load_encoder(tmp_path / "audio", "audio", "student").sizes.view == (16, 64)
    with pytest.raises(ValueError, match="holds no teacher of audio; it holds: teacher of video"):
        xkd_jax.load_encoder(tmp_path / "video", "audio")
    with pytest.raises(ValueError, match="holds no student of video; it holds: teacher of video"):
        xkd_jax.load_encoder(tmp_path / "video", network="student")
    description = json.loads((tmp_path / "video" / "config.json").read_text())
    assert list(description["provenance"]["files"]) == ["XKD_tiny_ep799vid_teacher.pth.tar"]


def test_a_file_that_does_not_say_whose_it_is(tmp_path, capsys):
    shutil.copy(f"{PREFIX}aud_student.pth.tar", tmp_path / "renamed.pth")
    message = refused(capsys, tmp_path / "renamed.pth", tmp_path / "out")
    assert "give --network=teacher or --network=student" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("encoder.blocks.1.mlp.fc2.bias"), "missing: 'vid_teacher.backbone.enc"),
        (lambda t: t.update(extra=t["cls_token"]), "unknown: 'vid_teacher.backbone.extra'"),
        (
            lambda t: t.update({"encoder_norm.bias": np.zeros(7, np.float32)}),
            r"'vid_teacher.backbone.encoder_norm.bias' has shape [7]; the model's other",
        ),
        (lambda t: t.pop("cls_token"), "the tensor 'cls_token' is missing"),
        (lambda t: t.pop("enc_pos_embed"), "the tensor 'enc_pos_embed' is missing"),
        (
            lambda t: t.update({"encoder_norm.bias": np.zeros(32, np.int32)}),
            "'vid_teacher.backbone.encoder_norm.bias' is int32; allowed: floating",
        ),
        (lambda t: t.clear(), "neither a backbone nor a full training checkpoint"),
    ],
)
def test_wrong_tensors_are_named_and_nothing_is_written(tmp_path, capsys, change, message):
    tensors = torch_files.read(f"{PREFIX}vid_teacher.pth.tar")
    change(tensors)
    source = tmp_path / "x_vid_teacher.pth.tar"
    with open(source, "wb") as file:
        torch_files.write(file, tensors)
    assert message in refused(capsys, source, tmp_path / "out")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "heads the width 32 is split, and the paper has no such width; give --video_heads"),
        ({"video_heads": 5}, "--video_heads=5; allowed: divisors of the width 32"),
        ({"video_heads": 4}, "a patch of video has 768 values, but 4x16x16 would have 3072"),
        ({"video_heads": 4, "video_patch": (4, 8, 8)}, "36 tokens of video do not make a square"),
    ],
)
def test_what_tensors_do_not_tell_is_asked_for(given, message):
    with pytest.raises(sizes.SizeError, match=message):
        import_release.read_release(
            f"{PREFIX}vid_teacher.pth.tar", given=sizes.StatedSizes(**given)
        )


@pytest.mark.parametrize("names", [("base", "base"), ("large", "base"), ("tiny", "small")])
@pytest.mark.parametrize("variant", xkd.VARIANTS)
def test_the_papers_sizes_are_told_by_the_tensors(names, variant):
    expected = base.get_config()
    expected.model.variant = variant if names[0] == names[1] else "xkd"
    for m, name in zip(MODALITIES, names, strict=True):
        expected.model[m].encoder = base.transformer(base.ENCODERS[name])
        expected.model[m].decoder = base.transformer(base.DECODERS[name])
    shapes = release.shapes(xkd.build(expected))
    # Take no memory. The two modalities' tensors differ, unless they are shared.
    shared = {"xkd": (), "xkd_mas": ("student",), "xkd_mats": ("student", "teacher")}
    tensors = {}
    for name, shape in shapes.items():
        of_video = name.replace("aud_", "vid_")
        if any(f"_{n}.backbone.encoder." in name for n in shared[expected.model.variant]):
            tensors[name] = tensors.get(of_video, np.broadcast_to(np.float32(0), shape))
        else:
            tensors[name] = np.broadcast_to(np.float32(name == of_video), shape)
    assert sizes.infer(tensors, sizes.StatedSizes()).model == expected.model


def full_checkpoint(tensors):
    """Returns the content of the release's full checkpoint for a state dict."""
    doubles = {
        name.replace("_student.backbone.", "_ae.encoder."): tensor
        for name, tensor in tensors.items()
        if "_student.backbone." in name
    }
    gains = {
        f"{p}_{network}.head.last_layer.weight_g": np.ones((64, 1), np.float32)
        for p in release.PREFIXES.values()
        for network in ("teacher", "student")
    }
    model = {f"module.{name}": tensor for name, tensor in {**doubles, **tensors, **gains}.items()}
    moments = {"state": {0: {"step": 5, "exp_avg": np.zeros(3, np.float32)}}}
    return {"model": model, "optimizer": moments, "epoch": 800, "amp": {"scale": 65536.0}}


def state_dict(variant):
    """Returns the release's tensors of a tiny model, and our trees of it."""
    model = xkd.build(tiny_config(variant))
    params = random_params(model, 0)
    other = random_params(model, 1)
    centers = {m: np.random.default_rng(2).normal(size=64).astype("f4") for m in MODALITIES}
    trees = {
        "params": params,
        "teacher": jax.tree.map(np.asarray, model.teacher_target(other)),
        "centers": centers,
    }
    centers = {release.CENTERS[m]: center[None] for m, center in centers.items()}
    return {**release.to_release(trees, model), **centers}, trees


TINY_SIZES = ["--decoder_heads=2", "--frames=8"]


@pytest.mark.parametrize("variant", xkd.VARIANTS)
def test_full_checkpoints(variant, tmp_path):
    tensors, trees = state_dict(variant)
    source = torch_pickles.save(tmp_path / "full.pth.tar", full_checkpoint(tensors))
    convert(source, tmp_path / "out", *TINY_SIZES)
    found = pretrained.load(tmp_path / "out")
    jax.tree.map(np.testing.assert_array_equal, found.trees, trees)
    assert found.description["architecture"]["variant"] == variant
    model = xkd.build(ml_collections.ConfigDict(found.description["config"]))
    back = release.to_release(found.trees, model)
    assert all(back[name].tobytes() == tensors[name].tobytes() for name in back)
    assert set(tensors) - set(back) == set(release.CENTERS.values())


def test_copies_of_shared_tensors_are_not_taken_for_shared_teachers(tmp_path):
    """The teachers of XKD-MAS are equal, too, because both follow the same blocks."""
    tensors = {name: tensor.copy() for name, tensor in state_dict("xkd_mats")[0].items()}
    source = torch_pickles.save(tmp_path / "full.pth.tar", full_checkpoint(tensors))
    convert(source, tmp_path / "told", *TINY_SIZES)
    convert(source, tmp_path / "given", *TINY_SIZES, "--variant=xkd_mats")
    told, given = (pretrained.load(tmp_path / name).description for name in ("told", "given"))
    assert told["architecture"]["variant"] == "xkd_mas"
    assert given["architecture"]["variant"] == "xkd_mats"


def test_the_release_vectors_as_a_full_checkpoint(tmp_path):
    vectors = np.load(REFERENCE / "release_ms_tiny.npz")
    tensors = {k[len("param/") :]: vectors[k] for k in vectors.files if k.startswith("param/")}
    source = torch_pickles.save(tmp_path / "full.pth.tar", full_checkpoint(tensors))
    convert(source, tmp_path / "out", "--decoder_heads=2")
    found = pretrained.load(tmp_path / "out")
    assert found.description["networks"]["student"]["video"] == ["decoder", "encoder", "projector"]
    np.testing.assert_array_equal(
        found.trees["centers"]["audio"], tensors["at2vs_ce_loss.center"][0]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("module.vid_ae.mask_token"), "missing: 'vid_ae.mask_token'"),
        (lambda t: t.pop("module.at2vs_ce_loss.center"), "missing: 'at2vs_ce_loss.center'"),
        (lambda t: t.update({"module.x": np.zeros(1, np.float32)}), "unknown: 'x'"),
        (
            lambda t: t.update({"module.vid_ae.encoder.cls_token": np.ones((1, 1, 32), "f4")}),
            "'vid_ae.encoder.cls_token' differs from 'vid_student.backbone.cls_token'",
        ),
        (
            lambda t: t.update(
                {"module.aud_teacher.head.last_layer.weight_g": np.full((64, 1), 2, "f4")}
            ),
            "'aud_teacher.head.last_layer.weight_g' is not 1 throughout",
        ),
    ],
)
def test_wrong_full_checkpoints_are_refused(tmp_path, capsys, change, message):
    content = full_checkpoint(state_dict("xkd")[0])
    change(content["model"])
    source = torch_pickles.save(tmp_path / "full.pth.tar", content)
    assert message in refused(capsys, source, tmp_path / "out", *TINY_SIZES)


def test_nothing_there(tmp_path, capsys):
    message = refused(capsys, tmp_path / "XKD", tmp_path / "out")
    assert message.startswith("error:") and "XKDvid_teacher.pth.tar" in message


def test_the_same_again_is_left_alone_and_something_else_is_kept(tmp_path, capsys):
    convert(PREFIX, tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")}
    convert(PREFIX, tmp_path / "out")
    assert "left as it is" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")} == before
    message = refused(capsys, f"{PREFIX}vid_teacher.pth.tar", tmp_path / "out")
    assert "--overwrite" in message
    xkd_jax.load_encoder(tmp_path / "out", "audio")
    convert(f"{PREFIX}vid_teacher.pth.tar", tmp_path / "out", "--overwrite")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(ValueError, match="no teacher of audio"):
        xkd_jax.load_encoder(tmp_path / "out", "audio")
