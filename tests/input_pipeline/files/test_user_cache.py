import os
import pathlib

import pytest

from input_pipeline.files import user_cache
from xkd_jax.run import command_line


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """A user without HOME whom the system does not know; returns the folder of temporary files."""
    for name in ("HOME", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)

    def getpwuid(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr("pwd.getpwuid", getpwuid)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert user_cache.folder() == pathlib.Path("/home/ada/.cache/xkd_jax")
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch")
    assert user_cache.folder() == pathlib.Path("/scratch/xkd_jax")


def test_without_a_home(homeless):
    own = user_cache.folder()
    assert own.parent == homeless and own.stat().st_mode & 0o777 == 0o700
    assert user_cache.folder() == own, "kept until the next run"


def test_a_folder_that_someone_else_has_put_there_is_not_used(homeless, tmp_path_factory):
    user_cache.folder().rmdir()
    (homeless / f"xkd_jax-{os.getuid()}").symlink_to(tmp_path_factory.mktemp("theirs"))
    own = user_cache.folder()
    assert own.parent == homeless and not own.is_symlink()


def test_compiled_programs_are_kept_for_who_has_no_home(homeless, monkeypatch):
    kept = {}
    monkeypatch.setattr("jax.config.update", kept.__setitem__)
    command_line.keep_compiled_programs()
    assert kept == {"jax_compilation_cache_dir": str(user_cache.folder() / "compiled")}
