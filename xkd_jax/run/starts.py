"""The starts of a run: after which step, with which code, and with which packages."""

import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import subprocess
from typing import Any

import xkd_jax
from input_pipeline.files import atomic

FILE = "starts.jsonl"
_ROOT = pathlib.Path(__file__).parents[2]
_SECONDS = 10.0  # for git


def code() -> str:
    """Describes the code: its version, and its commit if it is in a clone, on one line."""
    version = f"xkd_jax {xkd_jax.__version__}"
    commit = _git("rev-parse", "HEAD") if (_ROOT / ".git").exists() else None
    if not commit:
        return version
    changed = ", changed since" if _git("status", "--porcelain", "--untracked-files=no") else ""
    return f"{version}, commit {commit}{changed}"


def packages() -> dict[str, str]:
    """Returns the versions of Python and of all installed packages, in alphabetical order."""
    versions = {
        distribution.name: distribution.version
        for distribution in importlib.metadata.distributions()
        if distribution.name  # a folder that an interrupted installation has left has none
    }
    ordered = sorted(versions.items(), key=lambda item: item[0].lower())
    return {"python": platform.python_version(), **dict(ordered)}


def append(path: pathlib.Path, step: int) -> dict[str, Any]:
    """Adds a start to the file of starts, a JSON object a line.

    Args:
        path: Path of the file, which is created if it does not exist.
        step: Number of steps that the run has done before.

    Returns:
        The start: `step`, `code`, and the versions of `packages` by name.
    """
    start = {"step": step, "code": code(), "packages": packages()}
    with atomic.named(path), path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a crash has left a part of a line
                file.write(b"\n")
        file.write(json.dumps(start).encode() + b"\n")
    return start


def steps(path: pathlib.Path) -> list[int]:
    """Returns the steps of all starts, in order; lines that cannot be read are left out.

    Args:
        path: Path of the file; it need not exist.
    """
    found = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            step = json.loads(line)["step"]
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        if type(step) is int and 0 <= step < 2**63:
            found.append(step)
    return found


def _git(*arguments: str) -> str | None:
    """Returns what git prints; None if it is not installed or refuses."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(_ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
