"""Exports: their description, their weights, and that they are written atomically."""

import gc
import json
import os
import pathlib
import shutil

import jax
import numpy as np
import pytest

import xkd_jax
from tests import full_disk
from tests.damage import damages
from tests.saved_runs import save_run
from xkd_jax.encoders import descriptions, exports, networks, pretrained
from xkd_jax.interop import export, import_release, torch_files
from xkd_jax.method.models import xkd
from xkd_jax.method.models.xkd import MODALITIES, encoder_params

NETWORKS = ("teacher", "student")
# Programs for JAX take seconds to make, and are written by the same code as for huggingface. They
# have tests of their own (test_stablehlo.py).
QUICK_FORMATS = [form for form in export.FORMATS if form != "stablehlo"]


@pytest.fixture(scope="module", params=xkd.VARIANTS)
def run(request, tmp_path_factory):
    workdir = tmp_path_factory.mktemp(request.param) / "run"
    return workdir, *save_run(workdir, request.param)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Returns the workdirs of a run and of the same run at a later step."""
    folder = tmp_path_factory.mktemp("runs")
    save_run(folder / "run")
    save_run(folder / "later", step=8)
    return folder / "run", folder / "later"


@pytest.fixture
def plain_run(runs):
    return runs[0]


def encoders(path):
    """Returns the weights that `load_encoder` loads, by network and modality."""
    return {
        (n, m): jax.tree.map(np.asarray, xkd_jax.load_encoder(path, m, n).params)
        for n in NETWORKS
        for m in MODALITIES
    }


@pytest.mark.parametrize("form", [*exports.STORES, "release"])
def test_every_form_that_is_read_has_the_runs_encoders(run, form, tmp_path):
    workdir, _, _, state = run
    export.main([f"--checkpoint={workdir}", f"--output={tmp_path / 'out'}", f"--format={form}"])
    path = tmp_path / "out"
    if form == "release":
        sizes = ["--video_heads=4", "--audio_heads=4", "--video_patch=4,8,8", "--frames=8"]
        output = f"--output={tmp_path / 'back'}"
        import_release.main([f"--input={path / 'xkd_'}", output, "--mel_bands=16", *sizes])
        path = tmp_path / "back"
    trees = {"teacher": state.teacher, "student": state.params}
    for (network, m), params in encoders(path).items():
        jax.tree.map(np.testing.assert_array_equal, params, encoder_params(trees[network], m))
    assert not any("decoder" in parts for parts in _parts(pretrained.load(path).trees))


def _parts(trees):
    return [set(trees[root][m]) for root in trees for m in trees[root]]


def test_everything_is_all_but_the_optimizer(run, tmp_path):
    workdir, config, _, state = run
    output = f"--output={tmp_path / 'out'}"
    export.main([f"--checkpoint={workdir}", output, "--everything", "--format=safetensors"])
    found = pretrained.load(tmp_path / "out")
    expected = {"params": state.params, "teacher": state.teacher, "centers": state.centers}
    jax.tree.map(np.testing.assert_array_equal, found.trees, expected)
    assert found.description["config"] == json.loads(json.dumps(config.to_dict()))


def test_an_export_says_what_it_holds(run, tmp_path):
    workdir, config, _, _ = run
    export.main([f"--checkpoint={workdir}", f"--output={tmp_path / 'out'}"])
    description = json.loads((tmp_path / "out" / "config.json").read_text())
    assert description["networks"] == {n: {m: ["encoder"] for m in MODALITIES} for n in NETWORKS}
    assert description["architecture"]["variant"] == config.model.variant
    assert description["architecture"]["video"] == {
        "patch": [4, 8, 8],
        "encoder": {"width": 32, "depth": 2, "heads": 4},
    }
    audio = config.views.audio
    assert description["preprocessing"]["video"] == {
        "frame_rate": 8.0,
        "frames": 8,
        "size": 32,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    assert description["preprocessing"]["audio"] == {
        "seconds": 1.0,
        "frames": 64,
        "mel_bands": 16,
        **{
            name: audio[name]
            for name in (
                "sample_rate",
                "window",
                "hop",
                "max_frequency",
                "log_offset",
                "mean",
                "std",
            )
        },
    }
    assert description["provenance"]["step"] == 7
    assert description["config"] is None


def test_the_newest_checkpoint_or_the_one_that_is_named(tmp_path):
    save_run(tmp_path / "run", step=9)
    save_run(tmp_path / "run", step=10)
    found = pretrained.load(tmp_path / "run", lambda path: False)
    assert found.description["provenance"]["step"] == 10 and not found.trees
    found = pretrained.load(tmp_path / "run" / "checkpoints" / "9", lambda path: False)
    assert found.description["provenance"]["step"] == 9


def test_a_folder_that_is_no_checkpoint_is_refused_and_a_rest_of_one_is_passed_over(tmp_path):
    save_run(tmp_path / "run", step=9)
    checkpoints = tmp_path / "run/checkpoints"
    (checkpoints / "8").mkdir()  # a deletion that was cut short
    found = pretrained.load(tmp_path / "run", lambda path: False)
    assert found.description["provenance"]["step"] == 9
    (checkpoints / "11").mkdir()
    flags = [f"--checkpoint={tmp_path / 'run'}", f"--output={tmp_path / 'out'}"]
    with pytest.raises(SystemExit, match=r"checkpoints/11 is not a checkpoint"):
        export.main(flags)
    assert sorted(path.name for path in checkpoints.iterdir()) == ["11", "8", "9"]


@pytest.mark.parametrize("form", QUICK_FORMATS)
def test_the_same_again_is_left_and_something_else_is_refused(runs, form, tmp_path, capsys):
    flags = [f"--output={tmp_path / 'out'}", f"--format={form}"]
    run, later = (f"--checkpoint={run}" for run in runs)
    export.main([run, *flags])
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")}
    export.main([run, *flags])
    assert capsys.readouterr().out.count("left as it is") == 1
    with pytest.raises(SystemExit, match="exists already"):
        export.main([later, *flags])
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")} == before
    export.main([later, *flags, "--overwrite"])
    description = json.loads((tmp_path / "out" / "config.json").read_text())
    assert description["provenance"]["step"] == 8
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_pipe_in_place_of_a_description_is_something_else(plain_run, tmp_path):
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / "config.json")
    flags = [f"--checkpoint={plain_run}", f"--output={tmp_path / 'out'}", "--format=release"]
    with pytest.raises(SystemExit, match="exists already"):
        export.main(flags)


@pytest.mark.parametrize("form", QUICK_FORMATS)
def test_what_fails_halfway_leaves_nothing(plain_run, form, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("No space left on device")

    if form == "release":
        monkeypatch.setattr(torch_files, "write", fail)
    else:  # these write config.json
        monkeypatch.setattr(pathlib.Path, "write_text", fail)
        monkeypatch.setattr(pathlib.Path, "write_bytes", fail)
    flags = [f"--checkpoint={plain_run}", f"--output={tmp_path / 'out'}", f"--format={form}"]
    with pytest.raises(SystemExit, match="No space left"):
        export.main(flags)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_refused_in_one_line(plain_run, tmp_path):
    def refuse(*flags):
        with pytest.raises(SystemExit) as raised:
            export.main([f"--output={tmp_path / 'out'}", *flags])
        message = raised.value.code
        assert message.startswith("error: ") and "\n" not in message
        assert not (tmp_path / "out").exists()
        return message

    assert "no such folder" in refuse(f"--checkpoint={tmp_path / 'nothing'}")
    assert "holds no weights" in refuse(f"--checkpoint={tmp_path}")
    for form in export.WRITERS:
        assert f"--everything with --format={form}, which holds encoders only; allowed" in refuse(
            f"--checkpoint={plain_run}", "--everything", f"--format={form}"
        )
    export.main([f"--checkpoint={plain_run}", f"--output={tmp_path / 'encoders'}"])
    assert "holds only encoders" in refuse(f"--checkpoint={tmp_path / 'encoders'}", "--everything")
    for form, hint in {"release": "import_release", "huggingface": "for transformers"}.items():
        flags = [f"--checkpoint={plain_run}", f"--format={form}"]
        export.main([*flags, f"--output={tmp_path / form}"])
        assert hint in refuse(f"--checkpoint={tmp_path / form}")


@pytest.mark.parametrize("store", exports.STORES)
def test_damage_is_named(plain_run, store, tmp_path):
    path = tmp_path / "out"
    export.main([f"--checkpoint={plain_run}", f"--output={path}", f"--format={store}"])
    if store == "safetensors":
        content = (path / "model.safetensors").read_bytes()
        (path / "model.safetensors").write_bytes(content[:-100])
    else:
        (path / "weights" / "trees" / "manifest.ocdbt").unlink()
    with pytest.raises(ValueError, match=r"out/(weights|model\.safetensors) cannot be used"):
        xkd_jax.load_encoder(path)
    (path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        xkd_jax.load_encoder(path)


# Without the check, Orbax and safetensors would wait for ever, and no signal would end it.
@pytest.mark.parametrize(
    "store, name",
    [
        ("safetensors", "model.safetensors"),
        ("orbax", "weights/_CHECKPOINT_METADATA"),
        ("orbax", "weights/trees/manifest.ocdbt"),
        ("run", "checkpoints/7/state/manifest.ocdbt"),
    ],
)
def test_a_pipe_in_place_of_weights_is_refused(plain_run, store, name, tmp_path):
    path = tmp_path / "out"
    if store == "run":
        shutil.copytree(plain_run, path)
    else:
        export.main([f"--checkpoint={plain_run}", f"--output={path}", f"--format={store}"])
    (path / name).unlink()
    os.mkfifo(path / name)
    with pytest.raises(ValueError, match=r"cannot be used .* not a regular file"):
        xkd_jax.load_encoder(path)


def damaged(path, at):
    """Flips a bit of a file; returns its former content."""
    content = path.read_bytes()
    path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
    return content


@pytest.mark.faults
@pytest.mark.parametrize(
    "store",
    # Orbax's many files take long; test_checkpoint.py always damages some.
    [
        s if s == "safetensors" else pytest.param(s, marks=pytest.mark.slow)
        for s in (*exports.STORES, "run")
    ],
)
def test_a_flipped_bit_is_told_in_one_line_or_does_no_harm(plain_run, store, tmp_path, capfd):
    path = tmp_path / "out"
    if store == "run":
        shutil.copytree(plain_run / "checkpoints" / "7", path)
    else:
        export.main([f"--checkpoint={plain_run}", f"--output={path}", f"--format={store}"])
    whole = pretrained.load(path)
    told = 0
    capfd.readouterr()
    for file in sorted(file for file in path.rglob("*") if file.stat().st_size and file.is_file()):
        content = file.read_bytes()
        for copy in damages(content, 6 if store == "safetensors" else 2, cut=False):
            file.write_bytes(copy)
            try:
                found = pretrained.load(path)
            except ValueError as error:
                assert str(error).startswith((f"{path}/", f"The checkpoint {path} "))
                assert "\n" not in str(error)
                told += 1
            else:
                jax.tree.map(np.testing.assert_array_equal, found.trees, whole.trees)
                assert found.description == whole.description
        file.write_bytes(content)
    gc.collect()
    assert not any(capfd.readouterr()), "nothing but one line"
    assert told > 6


@pytest.mark.faults
def test_any_damage_to_a_description_is_told_in_one_line_or_does_no_harm(plain_run, tmp_path):
    path = tmp_path / "out"
    export.main([f"--checkpoint={plain_run}", f"--output={path}", "--format=safetensors"])
    whole = pretrained.load(path, lambda _: False)
    told = 0
    for damaged in damages((path / exports.CONFIG).read_bytes(), 300):
        (path / exports.CONFIG).write_bytes(damaged)
        try:
            assert pretrained.load(path, lambda _: False).description == whole.description
        except ValueError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
            told += 1
    assert told > 100


def test_of_damaged_weights_those_that_are_not_read_do_not_matter(plain_run, tmp_path):
    path = tmp_path / "out"
    export.main([f"--checkpoint={plain_run}", f"--output={path}", "--format=safetensors"])
    content = damaged(path / "model.safetensors", -2)  # in the last weight, teacher/video/...
    with pytest.raises(ValueError, match=r"array teacher/video/\S+ is not what was saved\)"):
        xkd_jax.load_encoder(path)
    assert xkd_jax.load_encoder(path, "audio").network == "teacher"
    (path / "model.safetensors").write_bytes(content)
    assert xkd_jax.load_encoder(path).network == "teacher"


def test_weights_of_another_export_are_noticed(plain_run, tmp_path):
    found = pretrained.load(plain_run, descriptions.encoders_only)
    doubled = found._replace(trees=jax.tree.map(lambda x: 2 * x, found.trees))
    exports.save(tmp_path / "a", found, "safetensors")
    exports.save(tmp_path / "b", doubled, "safetensors")
    shutil.copy(tmp_path / "a" / "model.safetensors", tmp_path / "b")
    with pytest.raises(ValueError, match=r"b/model\.safetensors cannot be used \(array"):
        xkd_jax.load_encoder(tmp_path / "b")


def test_a_checkpoint_may_be_copied_and_renamed_but_not_to_another_step(plain_run, tmp_path):
    shutil.copytree(plain_run / "checkpoints" / "7", tmp_path / "best")
    assert pretrained.load(tmp_path / "best").description["provenance"]["step"] == 7
    (tmp_path / "best").rename(tmp_path / "8")
    with pytest.raises(ValueError, match=r"/8 cannot be used \(it is of step 7"):
        pretrained.load(tmp_path / "8")


def test_an_export_without_digests_is_loaded_with_a_warning(plain_run, tmp_path):
    export.main([f"--checkpoint={plain_run}", f"--output={tmp_path / 'out'}"])
    path = tmp_path / "out" / "config.json"
    description = json.loads(path.read_text())
    del description["sha256"], description["arrays"]
    path.write_text(json.dumps(description))
    with pytest.warns(UserWarning, match="damage to its arrays would not be noticed"):
        xkd_jax.load_encoder(tmp_path / "out")


def test_weights_of_another_architecture_are_named(plain_run, tmp_path):
    export.main([f"--checkpoint={plain_run}", f"--output={tmp_path / 'out'}"])
    path = tmp_path / "out" / "config.json"
    description = json.loads(path.read_text())
    description["architecture"]["video"]["encoder"]["width"] = 64
    del description["sha256"], description["arrays"]  # as the message advises
    path.write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"cls_token is float32\[1,64\] here and float32\[1,32\]"):
        xkd_jax.load_encoder(tmp_path / "out")


@pytest.mark.parametrize("form", QUICK_FORMATS)
def test_a_full_disk_is_one_line_and_leaves_nothing(plain_run, form, tmp_path, capsys):
    output = tmp_path / "out"
    command = [f"--checkpoint={plain_run}", f"--output={output}", f"--format={form}"]
    with full_disk.largest_file(3000), pytest.raises(SystemExit) as end:
        export.main(command)
    assert end.value.code.startswith("error: ") and "\n" not in end.value.code
    assert str(output) in end.value.code
    assert list(tmp_path.iterdir()) == []
    export.main(command)
    assert "written" in capsys.readouterr().out


def test_encoders_without_cls_are_exported_but_not_for_the_release(tmp_path):
    _, _, state = save_run(tmp_path / "run", query="mean")
    export.main([f"--checkpoint={tmp_path / 'run'}", f"--output={tmp_path / 'out'}"])
    encoder = xkd_jax.load_encoder(tmp_path / "out", "audio")
    assert not encoder.module.cls and encoder.module.row == "mean"
    jax.tree.map(np.testing.assert_array_equal, encoder.params, state.teacher["audio"]["encoder"])
    # The report knows it too, from the run as from the encoders alone.
    for folder in ("run", "out"):
        observer = networks.load(tmp_path / folder).observer()
        assert observer.query == "mean" and not observer.video.encoder.cls
    with pytest.raises(SystemExit, match="release: the encoders have no CLS token, which"):
        export.main(
            [f"--checkpoint={tmp_path / 'run'}", f"--output={tmp_path / 'no'}", "--format=release"]
        )
    assert not (tmp_path / "no").exists()
