"""Hides what TensorFlow prints about itself when it is imported, and nothing else.

It logs that oneDNN is on before it reads the level of its log. Turning oneDNN off would make views
slower (docs/performance.md). So stderr goes through a filter during the import.
"""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence

# Lines that are dropped: absl's for information, and its heading of early ones.
_DROPPED = r"/^I[0-9]\{4\} /d;/^WARNING: All log messages before absl::InitializeLog() /d"


class Finder(importlib.abc.MetaPathFinder):
    """Finder of the module tensorflow. Put it first in `sys.meta_path`.

    It stays there: a library that only asks whether there is a TensorFlow finds it too.
    """

    def __init__(self) -> None:
        self._searching = False

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """Finds the module, with a loader that filters stderr."""
        if name != "tensorflow" or self._searching:
            return None
        self._searching = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._searching = False
        if spec is not None:
            load = spec.loader.exec_module

            def exec_module(module: types.ModuleType) -> None:
                with filtered():
                    load(module)

            spec.loader.exec_module = exec_module
        return spec


@contextlib.contextmanager
def filtered() -> Iterator[None]:
    """Filters stderr, of Python and of libraries.

    The filter is a process of its own, so that it prints even the last line before a crash.
    """
    sed = shutil.which("sed")
    if sed is None:  # everything is shown
        yield
        return
    process = subprocess.Popen(
        [sed, "-u", _DROPPED], stdin=subprocess.PIPE, stdout=2, start_new_session=True
    )
    stderr = os.dup(2)
    os.dup2(process.stdin.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)
        process.stdin.close()
        process.wait()
