"""What `import xkd_jax` offers besides `load_encoder`: programs as functions."""

import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import ml_collections

from input_pipeline.programs import config_fields, config_flag
from xkd_jax import command


def pretrain(
    data: str | os.PathLike,
    workdir: str | os.PathLike,
    *,
    prepared: str | os.PathLike | None = None,
    config: str = "folder",
    **fields: Any,
) -> pathlib.Path:
    """Pretrains, or goes on with it, as the command `xkd pretrain` does.

    Ctrl-C and SIGTERM save a checkpoint and end the function with KeyboardInterrupt. The same call
    goes on from there. In another thread than the main one, signals are not handled.

    Args:
        data: Folder of videos, or data that `input_pipeline.prepare` has made.
        workdir: Folder of the run; it is created if it does not exist.
        prepared: Folder to prepare the videos in first, which are then by far the fastest to read.
            What is there already is used. None reads the videos themselves.
        config: Name of a shipped config, such as "k400", or a file like it.
        **fields: Fields of the config to set, such as `steps=1000`, or
            `**{"optimizer.learning_rate": 3e-4}`.

    Returns:
        The workdir, which `load_encoder` reads.

    Raises:
        ConfigError: A field cannot work. The message names it, its value and what is allowed.
        ValueError: The data are unusable, or the workdir is in use, holds another model, or a run
            that has already reached its end.
        KeyboardInterrupt: A signal stopped the run, after a save.
    """
    # Imported here because they import JAX and Flax.
    import jax

    from xkd_jax import pretrain_run
    from xkd_jax.run import command_line
    from xkd_jax.run.workdir import claimed

    if not jax.config.jax_compilation_cache_dir:
        command_line.keep_compiled_programs()

    settings = _load(config)
    kind = "prepared" if _is_prepared(data) else "folder"
    _set(settings, {"data.dataset": kind, "data.path": os.path.expanduser(data)} | fields)
    if prepared is not None and settings.data.dataset == "folder":
        _prepare(data, prepared, settings)
        _set(settings, {"data.dataset": "prepared", "data.path": os.path.expanduser(prepared)})
    workdir = os.path.expanduser(workdir)
    with claimed(workdir):
        pretrained = pretrain_run.pretrain(settings, workdir)
    if not pretrained.has_ended:
        raise KeyboardInterrupt(f"stopped and saved in {workdir}; the same call goes on from there")
    return pathlib.Path(workdir)


def _load(config: str) -> ml_collections.ConfigDict:
    try:
        settings = config_flag.load_config(command.config_file(config), [])
    except SystemExit as end:
        raise ValueError(str(end.code).removeprefix("error: ")) from None
    if settings.get("task") != "pretrain":
        raise ValueError(f"config={config!r} is of another task; allowed: a pretraining's")
    return settings


def _set(config: ml_collections.ConfigDict, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        if not config_fields.has(config, name):
            raise ValueError(f"config.{name} is not a field; xkd_jax/config/pretraining.py has all")
        try:
            config.update_from_flattened_dict({name: value})
        except TypeError as error:
            kind = type(config_fields.value_of(config, name)).__name__
            raise ValueError(f"config.{name} is {value!r}; allowed: of type {kind}") from error


def _is_prepared(data: str | os.PathLike) -> bool:
    return (pathlib.Path(data).expanduser() / "prepared.json").is_file()


def _prepare(
    data: str | os.PathLike, output: str | os.PathLike, config: ml_collections.ConfigDict
) -> None:
    """Prepares a folder of videos, or what is missing of it, in the form that a config reads.

    It runs as a program: its workers would start a caller's script again.
    """
    flags = ["--dataset=folder"]
    flags += [f"--source={os.fspath(data)}", f"--output={os.fspath(output)}"]
    flags += [f"--frame_rate={config.views.video.frame_rate}"]
    flags += [f"--short_side={config.views.video.short_side}"]
    flags += [f"--max_bad_fraction={config.data.max_bad_fraction}"]
    root = str(pathlib.Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "input_pipeline.prepare", *flags],
        env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        *_, last = done.stderr.splitlines() or [f"exit code {done.returncode}"]
        raise ValueError(f"{os.fspath(data)} cannot be prepared: {last.removeprefix('error: ')}")
