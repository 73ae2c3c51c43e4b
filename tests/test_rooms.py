"""Imports between rooms go one way, those inside functions included."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The rooms (folders) and loose modules of each package. Each imports only what stands before it.
XKD_JAX = (
    *("sharding", "method", "paper", "config", "run", "encoders", "interop", "recordings"),
    *("feature_files", "dense_features", "features"),
    *("downstream", "report", "initial_weights", "pretrain_run", "measure", "benchmark", "inpaint"),
    *("main", "ablation", "ablate", "command", "__main__", "api"),
)
INPUT_PIPELINE = (
    *("cores", "caption", "processor_time", "files", "programs", "data_folders", "media"),
    *("sources",),
    *("spectrogram", "views", "reading", "prepared", "datasets", "evaluation", "example_order"),
    *("loader", "prepare", "inspect", "benchmark"),
)


def modules(package: str) -> dict[str, Path]:
    """Returns the modules of a package, with their dotted names."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def imports(path: Path) -> set[str]:
    """Returns the dotted names of what a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize(
    ("package", "order"), [("xkd_jax", XKD_JAX), ("input_pipeline", INPUT_PIPELINE)]
)
def test_each_room_imports_only_those_before_it(package, order):
    wrong = set()
    for name, path in modules(package).items():
        if name == package:  # its interface, from any room
            continue
        room = name.split(".")[1]
        for imported in imports(path):
            other = imported.split(".")[1] if imported.startswith(f"{package}.") else room
            if order.index(other) > order.index(room):
                wrong.add(f"{name} imports {imported}")
    assert not wrong


def test_the_input_pipeline_is_below():
    """Only the program that draws views knows the schema, which has their defaults."""
    for name, path in modules("input_pipeline").items():
        upward = {imported for imported in imports(path) if imported.startswith("xkd_jax")}
        assert not upward or name == "input_pipeline.inspect"


@pytest.mark.parametrize("package", ["xkd_jax", "input_pipeline"])
def test_no_modules_import_each_other_in_a_circle(package):
    paths = modules(package)
    graph = {
        name: {i if i in paths else i.rpartition(".")[0] for i in imports(path)} & set(paths)
        for name, path in paths.items()
        if path.name != "__init__.py"
    }
    while leaves := {name for name, others in graph.items() if not others & set(graph)}:
        graph = {name: others for name, others in graph.items() if name not in leaves}
    assert not graph


def test_the_method_needs_nothing_else_of_ours():
    """A developer of methods reads this room alone."""
    others = {
        f"{name} imports {imported}"
        for name, path in modules("xkd_jax").items()
        if name.startswith("xkd_jax.method")
        for imported in imports(path)
        if re.match(r"(xkd_jax|input_pipeline|configs)\.(?!method\.|sharding)", imported)
    }
    assert not others
