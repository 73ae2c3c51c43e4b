import os
import subprocess
import sys

import pytest
from absl import logging

from input_pipeline.programs import config_flag
from xkd_jax.run import command_line

# JAX's name of the variable, and its former name.
MEMORY_SHARES = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
TORN_CHECKPOINT = """
import pathlib, sys
from xkd_jax.run import command_line
command_line.quieten_libraries()
import jax, jax.numpy as jnp
from xkd_jax.run import checkpoint, saved_checkpoint
from xkd_jax import sharding

folder, mesh = pathlib.Path(sys.argv[1]), sharding.make_mesh()
state = {f"w{i}": jax.random.normal(jax.random.key(i), (300, 100)) for i in range(40)}
with checkpoint.Checkpoints(folder, config={}, every_steps=1, keep=1) as checkpoints:
    checkpoints.save(1, state)
for file in folder.glob("checkpoints/1/state/ocdbt.process_0/d/*"):
    file.write_bytes(file.read_bytes()[:100])
try:
    with checkpoint.Checkpoints(folder, config={}, every_steps=1, keep=1) as checkpoints:
        checkpoints.restore(jax.device_put(state, sharding.state_shardings(state, mesh)))
except saved_checkpoint.DamagedError:
    print("refused")
"""


def test_the_many_errors_that_follow_a_first_one_are_not_shown(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", TORN_CHECKPOINT, tmp_path],
        capture_output=True,
        text=True,
        env=os.environ | {"XKD_TRACEBACK": ""},
    )
    assert done.stdout == "refused\n"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, {MEMORY_SHARES[0]: "0.95"}), *(({name: "0.5"},) * 2 for name in MEMORY_SHARES)],
)
def test_programs_may_take_most_of_a_gpu_s_memory_unless_the_user_says_otherwise(
    given, expected, monkeypatch
):
    for name in MEMORY_SHARES:
        monkeypatch.setenv(name, "1")  # so that monkeypatch restores it
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    command_line.use_most_memory_of_gpus()
    assert {n: os.environ[n] for n in MEMORY_SHARES if n in os.environ} == expected


def test_tilde_in_a_config_file_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "mine.py").write_text(
        "import ml_collections\n"
        "def get_config():\n"
        "    return ml_collections.ConfigDict(\n"
        "        {'checkpoint': '~/run', 'data': {'path': '~/videos', 'split': 'a~b'}})\n"
    )
    config = config_flag.load_config(str(tmp_path / "mine.py"), [])
    assert config.checkpoint == "/home/me/run"
    assert config.data.to_dict() == {"path": "/home/me/videos", "split": "a~b"}


def test_a_value_that_is_no_tuple_is_not_blamed_on_the_config_file():
    path = "configs/k400.py"
    with pytest.raises(SystemExit, match=r"^error: flag --config\.data\.sources=MY DATA: "):
        config_flag.load_config(path, ["--config.data.sources=MY DATA"])
    config = config_flag.load_config(path, ["--config.data.sources='MY DATA'"])
    assert config.data.sources == ("MY DATA",)


def test_programs_with_a_config_let_libraries_log_no_more_than_warnings(monkeypatch):
    monkeypatch.setattr(config_flag.app, "run", lambda main, flags_parser: main([]))
    before, levels = logging.get_verbosity(), []
    try:
        config_flag.run(lambda: levels.append(logging.get_verbosity()), "", config=None)
    finally:
        logging.set_verbosity(before)
    assert levels == [logging.WARNING]
