"""A new run that starts from the weights of another run or of an export."""

import re

import jax
import numpy as np
import pytest

from tests.saved_runs import save_run
from tests.tiny import tiny_config
from xkd_jax import pretrain
from xkd_jax.config.checks import ConfigError
from xkd_jax.interop import export
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


def first_state(config, workdir):
    """Returns the state before the first step, as pretraining makes it."""
    model = xkd.build(config)
    given = pretrain.given_weights(config, model, str(workdir))
    numbers = hyperparameters(config, config.steps, 10.0)
    return jax.jit(lambda trees: init_state(model, numbers, 0).replace(**trees))(given)


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
    assert pretrain.given_weights(config, xkd.build(config), str(folder)) == {}


def refusal(config, tmp_path):
    with pytest.raises((ValueError, OSError)) as error:
        pretrain.given_weights(config, xkd.build(config), str(tmp_path / "new"))
    assert "\n" not in str(error.value)
    return error.type, str(error.value)


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    save_run(folder)
    return folder


def test_encoders_alone_are_refused(plain_run, tmp_path):
    export.export(plain_run, tmp_path / "encoders")
    kind, message = refusal(config_for("xkd", tmp_path / "encoders"), tmp_path)
    assert kind is checkpoint.MismatchError
    assert "centers/audio is float32[64] here and missing in the checkpoint" in message
    assert "an export made with --everything" in message


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
    assert pretrain.given_weights(config, xkd.build(config), str(tmp_path / "new"))


def test_nothing_there(tmp_path):
    kind, message = refusal(config_for("xkd", tmp_path / "none"), tmp_path)
    assert kind is FileNotFoundError and "none: no such folder" in message
