"""What both packages share is written in one place, and so is what several tests need."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
MODULES = {
    str(path.relative_to(ROOT)): path.read_text()
    for package in ("xkd_jax", "input_pipeline")
    for path in sorted((ROOT / package).rglob("*.py"))
}


@pytest.mark.parametrize(
    ("pattern", "places"),
    [
        (r"argparse\.ArgumentParser\b", {"input_pipeline/programs/program.py"}),
        (r"DEFINE_config_file", {"input_pipeline/programs/config_flag.py"}),
        (r"app\.run\(", {"input_pipeline/programs/config_flag.py"}),
        (r"\bflock\(", {"input_pipeline/files/file_lock.py"}),
        (r"sched_getaffinity", {"input_pipeline/cores.py"}),
        (r"cpu_count\(", {"input_pipeline/cores.py"}),
        (r"\bfsync\(", {"input_pipeline/files/atomic.py"}),
        (r"tqdm\.tqdm\(", {"input_pipeline/programs/progress.py"}),
        (r"process_index\(\) == 0|if (not )?jax\.process_index", {"xkd_jax/run/processes.py"}),
        (r"process_count=jax", set()),
        (r"ONEDNN|TF_CPP_MIN_LOG_LEVEL", {"input_pipeline/programs/program.py"}),
    ],
)
def test_it_is_written_once(pattern, places):
    assert {name for name, text in MODULES.items() if re.search(pattern, text)} == places


TESTS = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "tests").rglob("*.py")
    if path != pathlib.Path(__file__)
}


@pytest.mark.parametrize(
    ("pattern", "place"),
    [
        (r"def write_shards\b", "tests/preparing.py"),
        (r"json\.loads\(\w+\) for \w+ in .*metrics\.jsonl", "tests/saved_runs.py"),
        (r'/ "checkpoints"\)\.(glob|iterdir)\(.*\n.*int\(', "tests/saved_runs.py"),
    ],
)
def test_what_tests_need_is_written_once(pattern, place):
    assert [name for name, text in TESTS.items() if re.search(pattern, text)] == [place]
