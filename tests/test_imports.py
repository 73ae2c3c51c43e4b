"""The two packages need not each other's frameworks, and parts of a package not the others."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def without(modules: tuple[str, ...], then: str) -> subprocess.CompletedProcess:
    """Runs code where importing any of some modules fails, as if they were not installed."""
    return python(f"import sys\nfor name in {modules}: sys.modules[name] = None\n{then}")


@pytest.mark.parametrize(
    "modules",
    [
        "xkd_jax.method.train_step, xkd_jax.run.loop, xkd_jax.run.checkpoint, "
        "xkd_jax.run.telemetry, xkd_jax.pretrain_run, xkd_jax.main, xkd_jax.interop.release, "
        "xkd_jax.downstream.probe, "
        "xkd_jax.downstream.finetuning.finetune"
    ],
)
def test_xkd_jax_without_tensorflow(modules):
    result = without(("tensorflow", "tensorflow_datasets"), f"import {modules}")
    assert result.returncode == 0, result.stderr


def test_input_pipeline_without_jax():
    result = without(
        ("jax", "flax", "optax"),
        "import input_pipeline, input_pipeline.loader, input_pipeline.datasets.generated, "
        "input_pipeline.datasets.prepared, input_pipeline.evaluation, input_pipeline.inspect, "
        "input_pipeline.benchmark",
    )
    assert result.returncode == 0, result.stderr


def imported(package: str) -> set[str]:
    """Returns the modules that a package's files import, also inside functions."""
    names = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module)
    return names


@pytest.mark.parametrize("package", ["xkd_jax", "input_pipeline"])
def test_the_library_imports_no_experiment(package):
    assert not {name for name in imported(package) if name.split(".")[0] == "configs"}


def test_configs_import_neither_framework():
    """A config is read before the program sets up the devices."""
    paths = [*(ROOT / "configs").glob("[!_]*.py"), *(ROOT / "configs/eval").glob("[!_]*.py")]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    result = without(("jax", "tensorflow"), f"import {', '.join(names)}")
    assert result.returncode == 0, result.stderr


def test_importing_the_step_is_enough_to_be_free_of_tensorflow():
    result = python(
        "import sys, xkd_jax.method.train_step\n"
        "assert not any(m.split('.')[0] == 'tensorflow' for m in sys.modules)"
    )
    assert result.returncode == 0, result.stderr


def test_networks_run_in_the_models_alone():
    """Every program calls the forward pass of `xkd_jax.method.models`; none writes its own."""
    copies = re.compile(r"(encoder|decoder|projector|module)\.(apply|init)\(|rearrange\(")
    copied = {
        f"{path.name}: {match[0]}"
        for path in (ROOT / "xkd_jax").rglob("*.py")
        if path.parent.name != "models"
        for match in copies.finditer(path.read_text())
    }
    assert not copied
