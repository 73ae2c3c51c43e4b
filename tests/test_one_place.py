"""What both packages share is written in one place."""

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
        (r"argparse\.ArgumentParser\b", {"input_pipeline/program.py"}),
        (r"DEFINE_config_file", {"input_pipeline/config_flag.py"}),
        (r"app\.run\(", {"input_pipeline/config_flag.py"}),
        (r"\bflock\(", {"input_pipeline/file_lock.py"}),
        (r"sched_getaffinity", {"input_pipeline/cores.py"}),
        (r"cpu_count\(", {"input_pipeline/cores.py"}),
        (r"\bfsync\(", {"input_pipeline/atomic.py"}),
        (r"tqdm\.tqdm\(", {"input_pipeline/progress.py"}),
        (r"process_index\(\) == 0|if (not )?jax\.process_index", {"xkd_jax/processes.py"}),
        (r"process_count=jax", set()),
        (r"ONEDNN|TF_CPP_MIN_LOG_LEVEL", {"input_pipeline/program.py"}),
    ],
)
def test_it_is_written_once(pattern, places):
    assert {name for name, text in MODULES.items() if re.search(pattern, text)} == places
