"""The checks of the config.json of weights."""

import copy
import json
import os
import re

import pytest

import xkd_jax
from tests.saved_runs import save_run
from xkd_jax.encoders import description_rules, pretrained
from xkd_jax.interop import export
from xkd_jax.run import saved_checkpoint

DELETED = object()
HUGE, NAN = 10**12, float("nan")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("export")
    save_run(root / "run")
    export.main([f"--checkpoint={root / 'run'}", f"--output={root / 'out'}"])
    return root / "out"


def test_what_is_written_can_be(folder):
    description_rules.check(pretrained.load(folder).description)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((f"architecture.video.encoder.{n}", v) for n in ("depth", "heads") for v in (0, HUGE)),
        ("architecture.video.encoder.width", "32"),
        ("architecture.video.encoder.heads", 3),
        ("architecture.video.encoder.parent", 1),
        ("architecture.video.encoder", [1]),
        *(("architecture.video.patch", value) for value in ([0, 8, 8], [4, 8], "abc", [-4, 8, 8])),
        ("architecture.video", DELETED),
        ("architecture", None),
        ("preprocessing", DELETED),
        *((f"preprocessing.video.{n}", v) for n in ("frames", "size") for v in (0, 8.5, HUGE, NAN)),
        *(("preprocessing.video.frame_rate", value) for value in (0, -1, NAN, "8")),
        ("preprocessing.video.mean", [NAN] * 3),
        ("preprocessing.video.std", [0] * 3),
        *(("preprocessing.audio.seconds", value) for value in (0, NAN, 1e9, 3000)),
        *(("preprocessing.audio.hop", value) for value in (0, -5, DELETED)),
        ("preprocessing.audio.frames", 128),
        ("preprocessing.audio.window", 1),
        ("preprocessing.audio.sample_rate", 15_000),
        ("preprocessing.audio.mel_bands", 18),
        ("preprocessing.audio.mean", "x"),
        *(("networks", value) for value in (None, "teacher", {})),
        ("networks.teacher", {"audio": ["encoder"]}),
        ("networks.teacher.video", ["decoder", "encoder"]),
        ("networks.student.smell", ["encoder"]),
        ("networks.student.video", [["encoder"]]),
        ("networks.teacher", 3),
        ("networks.student.audio", 3),
        ("provenance", "run"),
        ("provenance.source", DELETED),
        *(("config", value) for value in ([], [1], DELETED)),
        ("config", {"model": {"variant": "xkd"}}),
    ],
)
def test_what_cannot_be_is_named(folder, tmp_path, field, value):
    """Checks files without digests, too: a digest does not prove who wrote a file."""
    description = json.loads((folder / "config.json").read_text())
    description = {n: v for n, v in description.items() if n not in ("sha256", "arrays")}
    *path, name = field.split(".")
    node = description = copy.deepcopy(description)
    for part in path:
        node = node[part]
    node[name] = value
    if value is DELETED:
        del node[name]
    for part in ("weights", "config.json"):
        (tmp_path / part).symlink_to(folder / part)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(description))
    with pytest.raises(
        saved_checkpoint.DamagedError, match=r"config\.json|\(config\.json"
    ) as caught:
        xkd_jax.load_encoder(tmp_path, "audio" if ".audio." in field else "video")
    lists_others = re.search(r"config\.json (does not list|lists) the", str(caught.value))
    assert name in str(caught.value) or lists_others
    assert "\n" not in str(caught.value)


def test_a_description_that_never_ends_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(
        saved_checkpoint.DamagedError, match=r"config\.json is damaged: it is not a regular file"
    ):
        xkd_jax.load_encoder(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    save_run(root / "run")
    export.main([f"--checkpoint={root / 'run'}", f"--output={root / 'out'}", "--everything"])
    return pretrained.load(root / "out", lambda path: False).description


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model.video.decoder.depth", HUGE),
        ("model.video.decoder.heads", DELETED),
        ("model.video.mask_ratio", NAN),
        ("model.video.patch", [2, 8, 16]),
        ("model.audio.encoder", {"depth": 2, "heads": 2, "width": 32}),
        ("model.projector.layers", HUGE),
        ("model.variant", "xkd_all"),
        ("xkd.teacher_temperature.video_end", 0),
        ("xkd.teacher_temperature.audio_end", DELETED),
        ("views.video.global_size", HUGE),
    ],
)
def test_a_config_that_cannot_be_is_named(whole, field, value):
    description_rules.check(whole)
    description = copy.deepcopy(whole)
    node = description["config"]
    *path, name = field.split(".")
    for part in path:
        node = node[part]
    node[name] = value
    if value is DELETED:
        del node[name]
    with pytest.raises(ValueError, match=rf"config\.{field}"):
        description_rules.check(description)


def test_what_a_config_of_a_former_version_lacks_is_not_missed(whole):
    description = copy.deepcopy(whole)
    del description["config"]["xkd"]["mmd_root"], description["config"]["probe"]
    description_rules.check(description)
