"""ViTs of MAE and VideoMAE: their publishers' tokens come out, and no tensor is lost."""

import json

import jax
import ml_dtypes
import numpy as np
import pytest

from tests import published_vits
from tests.damage import damages
from xkd_jax.interop import vit_files, vit_weights
from xkd_jax.method.models import vit
from xkd_jax.method.models.positions import resize_positions
from xkd_jax.run.checkpoint import MismatchError
from xkd_jax.run.saved_checkpoint import DamagedError

LAYOUTS = list(published_vits.LAYOUTS)
OURS = 1e-5  # what our LayerNorms add to the variance


def encoder(grid=(1, 4, 4), cls=True):
    return vit.Encoder(grid=grid, width=32, depth=2, heads=4, cls=cls)


def encode(encoder, params, frames, patch):
    with jax.default_matmul_precision("highest"):
        return np.asarray(vit.encode(encoder, params, frames[None], patch).tokens[0])


def converted(path, encoder, patch):
    return vit_weights.convert(vit_files.read(path), encoder, patch)


@pytest.mark.parametrize("layout", ["mae", "mae_hub"])
def test_an_image_has_the_publishers_tokens(layout, tmp_path, rng):
    path = published_vits.write(tmp_path, layout)
    params = converted(path, encoder(), (4, 8, 8))
    image = rng.normal(size=(32, 32, 3))
    tokens = encode(encoder(), params, np.repeat(image[None], 4, axis=0), (4, 8, 8))
    expected = published_vits.tokens(layout, published_vits.tensors(layout), image[None], OURS)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(tokens, expected, atol=2e-4)
    # Their LayerNorms add less.
    theirs = published_vits.tokens(layout, published_vits.tensors(layout), image[None], 1e-12)
    np.testing.assert_allclose(tokens, theirs, atol=2e-3)
    # The third of four frames is the one that is seen.
    clip = rng.normal(size=(4, 32, 32, 3))
    clip[2] = image
    np.testing.assert_allclose(encode(encoder(), params, clip, (4, 8, 8)), expected, atol=2e-4)


@pytest.mark.parametrize("layout", ["videomae", "videomae_hub"])
def test_a_video_has_the_publishers_tokens(layout, tmp_path, rng):
    path = published_vits.write(tmp_path, layout)
    plain = encoder(grid=(4, 4, 4), cls=False)
    video = rng.normal(size=(8, 32, 32, 3))
    arrays = published_vits.tensors(layout)
    expected = published_vits.tokens(layout, arrays, video, OURS)
    params = converted(path, plain, (2, 8, 8))
    np.testing.assert_allclose(encode(plain, params, video, (2, 8, 8))[1:], expected, atol=2e-4)
    # Patches of four frames see the two in their middle.
    longer = rng.normal(size=(4, 4, 32, 32, 3))
    longer[:, 1:3] = video.reshape(4, 2, 32, 32, 3)
    params = converted(path, plain, (4, 8, 8))
    tokens = encode(plain, params, longer.reshape(16, 32, 32, 3), (4, 8, 8))
    np.testing.assert_allclose(tokens[1:], expected, atol=2e-4)


def test_scales_of_layers_count(tmp_path, rng):
    arrays = published_vits.tensors("videomae")
    for n in range(2):
        for part in ("gamma_1", "gamma_2"):
            name = f"encoder.blocks.{n}.{part}"
            arrays[name] = rng.normal(size=32).astype(np.float32)
    path = published_vits.write(tmp_path, "videomae", arrays)
    plain = encoder(grid=(4, 4, 4), cls=False)
    video = rng.normal(size=(8, 32, 32, 3))
    tokens = encode(plain, converted(path, plain, (2, 8, 8)), video, (2, 8, 8))
    expected = published_vits.tokens("videomae", arrays, video, OURS)
    np.testing.assert_allclose(tokens[1:], expected, atol=2e-4)


def test_positions_are_resized_and_the_same_at_all_times(tmp_path):
    path = published_vits.write(tmp_path, "mae")
    table = published_vits.tensors("mae")["pos_embed"][0]
    params = converted(path, encoder(grid=(3, 2, 2)), (4, 8, 8))
    cls, positions = np.split(params["position_embedding"], [1])
    np.testing.assert_array_equal(cls, table[:1])
    expected = resize_positions(table[1:], (1, 4, 4), (1, 2, 2))
    for time in positions.reshape(3, 4, 32):
        np.testing.assert_allclose(time, expected, atol=1e-6)
    path = published_vits.write(tmp_path / "video", "videomae")
    params = converted(path, encoder(grid=(4, 4, 4)), (2, 8, 8))
    assert "cls_token" not in params and not params["position_embedding"][0].any()
    np.testing.assert_allclose(
        params["position_embedding"][1:], published_vits.table(64), atol=1e-5
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_tensor_is_used_or_dropped_for_a_reason(layout, tmp_path):
    arrays = published_vits.tensors(layout)
    found = vit_files.read(published_vits.write(tmp_path, layout, arrays))
    used = published_vits.used_names(layout)
    assert sorted(found.names.values()) == sorted(used)
    assert found.dropped == {"decoder": len(arrays) - len(used)}
    assert found.kind == ("MAE" if published_vits.is_image(layout) else "VideoMAE")
    assert (found.width, found.depth, found.heads, found.patch[1:]) == (32, 2, 4, (8, 8))
    # Without each single one, and with one more, it is refused by name.
    for name in used:
        others = {key: x for key, x in arrays.items() if key != name}
        path = published_vits.write(tmp_path, layout, others)
        with pytest.raises(MismatchError) as raised:
            vit_files.read(path)
        is_kernel = name == used[0] or name.endswith(("proj.weight", "projection.weight"))
        assert name in str(raised.value) or is_kernel, name
        assert "\n" not in str(raised.value)
    for name in ("blocks.0.attn.rel_pos", "encoder.unknown", used[-1].replace("bias", "extra")):
        path = published_vits.write(tmp_path, layout, arrays | {name: np.zeros(2, np.float32)})
        with pytest.raises(MismatchError, match="is unknown; allowed"):
            vit_files.read(path)


def test_each_tensor_matters(tmp_path):
    """No tensor is read and then lost: each changes the parameters."""
    for layout in LAYOUTS:
        arrays = published_vits.tensors(layout)
        grid = (1, 4, 4) if published_vits.is_image(layout) else (4, 4, 4)

        def leaves(arrays, layout=layout, grid=grid):
            path = published_vits.write(tmp_path, layout, arrays)
            tree = converted(path, encoder(grid), (4, 8, 8))
            return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]

        plain = leaves(arrays)
        for name in published_vits.used_names(layout):
            changed = leaves(arrays | {name: arrays[name] + 1})
            pairs = zip(plain, changed, strict=True)
            assert any(not np.array_equal(a, b) for a, b in pairs), name


def test_other_dtypes_are_read(tmp_path):
    arrays = published_vits.tensors("mae")
    plain = converted(published_vits.write(tmp_path, "mae", arrays), encoder(), (4, 8, 8))
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float64):
        path = published_vits.write(
            tmp_path, "mae", {name: x.astype(dtype) for name, x in arrays.items()}
        )
        tree = converted(path, encoder(), (4, 8, 8))
        for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(plain), strict=True):
            assert a.dtype == np.float32
            np.testing.assert_allclose(a, b, atol=0.1)


def test_what_is_no_such_vit_is_refused_in_one_line(tmp_path):
    def refusal(arrays=None, layout="mae", kind=MismatchError, path=None, **config):
        if path is None:
            path = published_vits.write(tmp_path / "x", layout, arrays, **config)
        with pytest.raises(kind) as raised:
            vit_weights.convert(vit_files.read(path), encoder(), (4, 8, 8))
        assert "\n" not in str(raised.value)
        return str(raised.value)

    mae = published_vits.tensors("mae")
    assert "num_attention_heads" in refusal(num_attention_heads=None)
    assert "hidden_act is 'quick_gelu'; allowed: 'gelu'" in refusal(hidden_act="quick_gelu")
    assert "model_type is 'dinov2'; allowed: 'vit_mae' or" in refusal(model_type="dinov2")
    assert "num_frames is 10" in refusal(layout="videomae", num_frames=10**9)
    assert "it has neither patch_embed.proj.weight nor vit.emb" in refusal({"x": np.zeros(2)})
    finetuned = {
        name.replace("norm.", "fc_norm.") if name[:5] == "norm." else name: x
        for name, x in mae.items()
    }
    assert "is a finetuned classifier" in refusal(finetuned)
    assert "is I64; allowed: F16" in refusal(mae | {"norm.bias": np.zeros(32, np.int64)})
    assert "pos_embed is [1, 16, 32]; allowed: [1, 10, 32]" in refusal(
        mae | {"pos_embed": mae["pos_embed"][:, 1:]}
    )
    nan = np.full(32, np.nan, np.float32)
    assert "norm.bias is not finite" in refusal(mae | {"norm.bias": nan}, kind=DamagedError)
    # A classifier on CLS is dropped, and the rest is used.
    path = published_vits.write(tmp_path / "y", "mae", mae | {"head.bias": np.zeros(5)})
    assert vit_files.read(path).dropped == {"decoder": 6, "classifier": 1}
    (tmp_path / "mae.pth").write_bytes(b"pickle")
    assert "is no .safetensors file" in refusal(path=tmp_path / "mae.pth")
    assert "no such file" in refusal(path=tmp_path / "no.safetensors", kind=FileNotFoundError)


@pytest.mark.faults
def test_damage_is_noticed_or_changes_only_numbers(tmp_path):
    path = published_vits.write(tmp_path, "mae")
    for damaged in damages(path.read_bytes(), 8):
        path.write_bytes(damaged)
        try:
            vit_files.read(path).load()
        except (DamagedError, MismatchError) as error:
            assert "\n" not in str(error)


def test_a_file_alone_has_the_heads_and_the_videos_of_published_models(tmp_path):
    """As of the authors' checkpoints, and in the folders of timm."""
    shapes = {}
    for name, x in published_vits.tensors("videomae").items():
        shapes[name] = [384 * n // 32 if n % 32 == 0 else n for n in x.shape]
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    path = published_vits.write(tmp_path, "videomae", arrays)
    (tmp_path / "config.json").unlink()
    found = vit_files.read(path)
    assert (found.width, found.heads, found.grid) == (384, 6, (8, 28, 28))  # 224 pixels by 8
    (tmp_path / "config.json").write_text('{"architecture": "vit_small_patch8_224"}')
    assert vit_files.is_vit(tmp_path) and vit_files.read(tmp_path) == found
    # What is there and cannot be read is not taken for none.
    for content in ('{"num_attention_heads": 12', "[]"):
        (tmp_path / "config.json").write_text(content)
        assert vit_files.is_vit(tmp_path)
        with pytest.raises(DamagedError, match=r"config\.json is damaged: "):
            vit_files.read(tmp_path)


def test_exports_of_ours_are_none(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"format": "xkd_jax"}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert not vit_files.is_vit(tmp_path) and not vit_files.is_vit(tmp_path / "model.safetensors")
    assert not vit_files.is_vit(tmp_path / "none")
    published_vits.write(tmp_path / "hub", "mae")
    assert vit_files.is_vit(tmp_path / "hub")
    assert vit_files.is_vit(tmp_path / "hub" / "x.safetensors")
    (tmp_path / "hub" / "model.safetensors").rename(tmp_path / "hub" / "pytorch_model.bin")
    assert vit_files.is_vit(tmp_path / "hub")
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors: no such file \(docs/own_"):
        vit_files.read(tmp_path / "hub")
