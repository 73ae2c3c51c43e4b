"""A new run that starts from the weights of another run or of an export."""

import functools
import re

import jax
import numpy as np
import pytest

from tests import published_vits
from tests.saved_runs import save_run
from tests.tiny import tiny_config
from xkd_jax import initial_weights
from xkd_jax.config.checks import ConfigError
from xkd_jax.encoders import descriptions, exports, pretrained, weight_trees
from xkd_jax.interop import export, vit_files, vit_weights
from xkd_jax.method.hyperparameters import hyperparameters
from xkd_jax.method.models import xkd
from xkd_jax.method.state import init_state
from xkd_jax.run import checkpoint


@pytest.fixture(scope="module", params=["xkd", "xkd_mas", "xkd_mats"])
def run(request, tmp_path_factory):
    """Returns the folder and the state of a run, for each variant."""
    folder = tmp_path_factory.mktemp("run")
    _, _, state = save_run(folder, request.param)
    return request.param, folder, state


@functools.cache  # compiles
def fresh_state(variant):
    config = tiny_config(variant)
    numbers = hyperparameters(config, config.steps, 10.0)
    return jax.device_get(jax.jit(lambda: init_state(xkd.build(config), numbers, 0))())


def first_state(config, workdir):
    """Returns the state before the first step, as pretraining makes it."""
    given = initial_weights.load(config, xkd.build(config), str(workdir))
    return initial_weights.place(fresh_state(config.model.variant), given)


def config_for(variant, path, **changes):
    config = tiny_config(variant)
    config.init_from = str(path)
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize("kind", ["run", "export"])
def test_all_weights_are_taken_and_the_rest_is_fresh(run, tmp_path, kind, capsys):
    variant, folder, theirs = run
    path = folder
    if kind == "export":
        path = tmp_path / "export"
        export.export(folder, path, everything=True)
    state = first_state(config_for(variant, path), tmp_path / "new")
    for field in ("params", "teacher", "centers"):
        jax.tree.map(np.testing.assert_array_equal, getattr(state, field), getattr(theirs, field))
    assert int(state.step) == 0 and int(state.seed) == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))
    [line] = [x for x in capsys.readouterr().out.splitlines() if x.startswith("STARTED FROM")]
    assert str(path) in line and "step 7" in line and "fresh optimizer" in line


def test_a_workdir_with_a_checkpoint_goes_on_from_that(run, tmp_path):
    variant, folder, _ = run
    config = config_for(variant, tmp_path / "gone")
    assert initial_weights.load(config, xkd.build(config), str(folder)) == {}


def refusal(config, tmp_path):
    with pytest.raises((ValueError, OSError)) as error:
        initial_weights.load(config, xkd.build(config), str(tmp_path / "new"))
    assert "\n" not in str(error.value)
    return error.type, str(error.value)


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    save_run(folder)
    return folder


def leaves(tree):
    return dict(weight_trees.flatten(tree))


def test_encoders_alone_are_taken_and_the_rest_is_fresh(run, tmp_path, capsys):
    variant, folder, theirs = run
    export.export(folder, tmp_path / "encoders")
    state = first_state(config_for(variant, tmp_path / "encoders"), tmp_path / "new")
    plain = fresh_state(variant)
    counts = {"taken": 0, "fresh": 0}
    for field in ("params", "teacher", "centers"):
        taken, kept, fresh = (leaves({field: getattr(x, field)}) for x in (theirs, state, plain))
        assert kept.keys() == taken.keys() == fresh.keys()
        for path, leaf in kept.items():
            is_encoder = descriptions.encoders_only(path)
            counts["taken" if is_encoder else "fresh"] += 1
            np.testing.assert_array_equal(leaf, (taken if is_encoder else fresh)[path], str(path))
    [line] = [x for x in capsys.readouterr().out.splitlines() if x.startswith("STARTED FROM")]
    said = re.search(r": (\d+) arrays of encoders, .* fill (\d+) of (\d+) arrays; fresh are ", line)
    total = sum(counts.values())
    assert list(map(int, said.groups())) == [counts["taken"], counts["taken"], total]
    fresh = {part: int(n) for n, part in re.findall(r"(\d+) of (\w+)", line[said.end() :])}
    assert fresh.keys() == {"centers", "decoders", "projectors"}
    assert sum(fresh.values()) == counts["fresh"]


def only(folder, output, *places):
    """Exports the encoders of some of (network, modality)."""
    description, trees = pretrained.load(folder, descriptions.encoders_only)
    trees = {
        root: {m: trees[root][m] for r, m in places if r == root}
        for root in dict.fromkeys(root for root, _ in places)
    }
    networks = descriptions.contents(trees)
    description = {**description, "config": None, "networks": networks}
    exports.save(output, exports.Pretrained(description, trees))
    return output


def test_a_teacher_alone_starts_its_student_too(plain_run, tmp_path, capsys):
    path = only(plain_run, tmp_path / "teacher", ("teacher", "video"))
    state = first_state(config_for("xkd", path), tmp_path / "new")
    _, theirs = pretrained.load(plain_run)
    plain = fresh_state("xkd")
    for tree in (state.params, state.teacher):
        theirs_video = theirs["teacher"]["video"]["encoder"]
        jax.tree.map(np.testing.assert_array_equal, tree["video"]["encoder"], theirs_video)
        fresh_audio = plain.params["audio"]["encoder"]
        jax.tree.map(np.testing.assert_array_equal, tree["audio"]["encoder"], fresh_audio)
    count = len(leaves(theirs_video))
    output = capsys.readouterr().out
    assert f": {count} arrays of encoders" in output and f"fill {2 * count} of" in output
    assert f"{2 * len(leaves(fresh_audio))} of encoders" in output


def test_encoders_that_do_not_fit_are_refused(plain_run, tmp_path):
    export.export(plain_run, tmp_path / "encoders")
    config = config_for("xkd", tmp_path / "encoders", **{"model.audio.encoder.heads": 2})
    assert refusal(config, tmp_path)[1] == (
        "config.model.audio.encoder.heads is 2; allowed: 4, as in config.init_from"
    )
    config = config_for("xkd", tmp_path / "encoders", **{"views.audio.global_frames": 96})
    kind, message = refusal(config, tmp_path)
    assert kind is checkpoint.MismatchError
    assert "audio/encoder/position_embedding is float32[" in message
    config = config_for("xkd", tmp_path / "encoders", **{"xkd.query": "mean"})  # no CLS token
    kind, message = refusal(config, tmp_path)
    assert kind is checkpoint.MismatchError and "is of another model" in message


def test_teachers_alone_do_not_start_students_that_share_blocks(tmp_path):
    save_run(tmp_path / "run", "xkd_mas")
    path = only(tmp_path / "run", tmp_path / "x", ("teacher", "video"), ("teacher", "audio"))
    kind, message = refusal(config_for("xkd_mas", path), tmp_path)
    assert kind is checkpoint.MismatchError and "holds no students, only teachers" in message


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        # Their shapes would fit.
        (
            {"model.video.encoder.heads": 2},
            r"^config\.model\.video\.encoder\.heads is 2; allowed: 4, as in config\.init_from$",
        ),
        ({"model.projector.norm": "none"}, r"projector\.norm is 'none'; allowed: 'every'"),
        ({"model.audio.encoder.depth": 3}, r"audio\.encoder\.depth is 3; allowed: 2"),
        ({"model.variant": "xkd_mas"}, r"variant is 'xkd_mas'; allowed: 'xkd'"),
    ],
)
def test_another_architecture_is_refused(plain_run, tmp_path, changes, pattern):
    kind, message = refusal(config_for("xkd", plain_run, **changes), tmp_path)
    assert kind is ConfigError and re.search(pattern, message), message


def test_other_sizes_of_views_are_refused_and_other_mask_ratios_are_not(plain_run, tmp_path):
    config = config_for("xkd", plain_run, **{"views.audio.global_frames": 96})
    kind, message = refusal(config, tmp_path)
    assert kind is checkpoint.MismatchError and "params/audio/" in message
    assert "position_embedding is float32[" in message
    config = config_for("xkd", plain_run, **{"model.video.mask_ratio": 0.7})
    assert initial_weights.load(config, xkd.build(config), str(tmp_path / "new"))


def test_nothing_there(tmp_path):
    kind, message = refusal(config_for("xkd", tmp_path / "none"), tmp_path)
    assert kind is FileNotFoundError and "none: no such folder" in message


@pytest.mark.parametrize("layout", ["mae", "videomae_hub"])
@pytest.mark.parametrize("variant", ["xkd", "xkd_mas", "xkd_mats"])
def test_a_published_vit_is_the_encoder_of_video(tmp_path, capsys, layout, variant):
    path = published_vits.write(tmp_path / "vit", layout)
    config = config_for(variant, path)
    model = xkd.build(config)
    state = first_state(config, tmp_path / "new")
    plain = fresh_state(variant)
    expected = leaves(vit_weights.convert(vit_files.read(path), model.video.encoder, (4, 8, 8)))
    for field in ("params", "teacher"):
        taken, fresh = getattr(state, field), getattr(plain, field)
        encoder = leaves(xkd.encoder_params(taken, "video"))
        fresh_encoder = leaves(xkd.encoder_params(fresh, "video"))
        assert encoder.keys() == fresh_encoder.keys()
        for place, leaf in encoder.items():
            np.testing.assert_array_equal(leaf, expected.get(place, fresh_encoder[place]))
        # What modalities share comes along. The rest of audio is as in any new run.
        of_audio = leaves(xkd.encoder_params(taken, "audio"))
        for place, leaf in leaves(xkd.encoder_params(fresh, "audio")).items():
            is_shared = variant != "xkd" and place[0] == "transformer"
            np.testing.assert_array_equal(of_audio[place], expected[place] if is_shared else leaf)
    jax.tree.map(np.testing.assert_array_equal, state.centers, plain.centers)
    [line] = [x for x in capsys.readouterr().out.splitlines() if x.startswith("STARTED FROM")]
    arrays = published_vits.tensors(layout)
    used = len(published_vits.used_names(layout))
    kind = "MAE" if layout == "mae" else "VideoMAE"
    assert f"source {kind}): {used} tensors" in line
    assert f"{len(arrays) - used} of the decoder are not used" in line
    filled, total = map(int, re.search(r"fill (\d+) of (\d+) arrays", line).groups())
    assert total == sum(len(leaves(getattr(plain, f))) for f in ("params", "teacher", "centers"))
    assert (
        filled + sum(map(int, re.findall(r"(\d+) of \w+s\b", line[line.index("fresh") :]))) == total
    )


def test_published_vits_that_do_not_fit_are_refused(tmp_path):
    path = published_vits.write(tmp_path / "vit", "videomae")
    for field, value, allowed in (
        ("width", 64, "32"),
        ("depth", 3, "2"),
        ("heads", 2, "4"),
    ):
        config = config_for("xkd", path, **{f"model.video.encoder.{field}": value})
        assert refusal(config, tmp_path) == (
            ConfigError,
            f"config.model.video.encoder.{field} is {value}; allowed: {allowed}, "
            "as in config.init_from",
        )
    for patch, allowed in (((1, 8, 8), "(2, 8, 8)"), ((4, 4, 8), "(4, 8, 8)")):
        config = config_for("xkd", path, **{"model.video.patch": patch})
        assert f"video.patch is {patch}; allowed: {allowed}" in refusal(config, tmp_path)[1]
    # Without a CLS token there is nothing that is fresh in the encoder, and MAE's has no use.
    config = config_for("xkd", published_vits.write(tmp_path / "mae", "mae"))
    config.xkd.query = "mean"
    given = initial_weights.load(config, xkd.build(config), str(tmp_path / "new"))
    assert len(given["params"]["video"]["encoder"]["position_embedding"]) == 2 * 4 * 4
