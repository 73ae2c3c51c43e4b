"""What TensorFlow prints about itself is hidden, and nothing else is."""

import os
import subprocess
import sys

import pytest

from input_pipeline.programs import quiet_import

PROGRAM = """
from input_pipeline.programs import program
program.start()
import gc
import sys
import tensorflow
print("tensorflow" in sys.modules, sum(generation["collections"] for generation in gc.get_stats()))
print("said", file=sys.stderr)
"""


def test_other_lines_pass(capfd):
    with quiet_import.filtered():
        os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are ...\n")
        os.write(2, b"I0000 00:00:1795708050.72 25227 port.cc:153] oneDNN custom operations\n")
        os.write(2, b"F0000 00:00:1795708050.72 25227 no AVX on this machine\n")
        os.write(2, b"a warning\n")
        assert os.system("echo a child >&2") == 0
    os.write(2, b"I0000 afterwards\n")
    assert capfd.readouterr().err.splitlines() == [
        "F0000 00:00:1795708050.72 25227 no AVX on this machine",
        "a warning",
        "a child",
        "I0000 afterwards",
    ]


def test_what_is_written_before_a_crash_is_shown():
    code = (
        "import os\n"
        "from input_pipeline.programs import quiet_import\n"
        "with quiet_import.filtered():\n"
        "    os.write(2, b'last words')\n"
        "    os.abort()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode < 0 and done.stderr == "last words"


def test_other_modules_are_not_touched():
    assert quiet_import.Finder().find_spec("tensorflow_datasets") is None


@pytest.mark.slow  # imports TensorFlow, which takes ten seconds of a core
def test_a_program_imports_tensorflow_in_silence():
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert done.stderr == "said\n"
    imported, collections = done.stdout.split()
    assert imported == "True"
    assert int(collections) < 40  # 1,000 with Python's defaults


def test_a_library_that_only_asks_for_tensorflow_does_not_end_the_filter(tmp_path):
    (tmp_path / "tensorflow.py").write_text("import os\nos.write(2, b'I0000 oneDNN is on\\n')\n")
    code = (
        "import importlib.util, sys\n"
        "from input_pipeline.programs import quiet_import\n"
        "sys.meta_path.insert(0, quiet_import.Finder())\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "assert importlib.util.find_spec('tensorflow') is not None\n"
        "import tensorflow\n"
        "print('imported')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("imported\n", "")
