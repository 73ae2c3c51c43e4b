"""Counts the bytes that a compiled program moves between a device's memory and its processors.

The counts come from the program's text. Each kernel reads its operands once and writes its results
once. If it takes only slices of an operand, the slices count; if it updates a result in place, the
update counts. A loop's body counts as often as the loop runs. This assumes caches that hold
everything within a kernel and nothing from one kernel to the next.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from xkd_jax.measure import hlo
from xkd_jax.measure.hlo import Instruction

# Operations without a kernel.
_FREE = {
    "parameter",
    "constant",
    "iota",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "partition-id",
    "replica-id",
    "opt-barrier",
    "domain",
    "add-dependency",
}
# In-place updates, and the place of the update among the operands after the array.
_UPDATES = {"dynamic-update-slice": 0, "scatter": -1}
_ENDS = ("-done", "-update")  # the ends of operations, which count at their start
# Operations that read their operands whole, even for a part of the result.
_WHOLE = {
    "dot",
    "convolution",
    "custom-call",
    "sort",
    "fft",
    "reduce-window",
    "select-and-scatter",
    "cholesky",
    "triangular-solve",
    "rng",
    "rng-bit-generator",
}
_OPERAND = re.compile(r"%([\w.-]+)")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_SCRATCH = re.compile(r"\b[su]8\[[\d,]*\]")
_NEAR = re.compile(r"\w+\[[\d,]*\]\{[^}]*S\(\d+\)[^}]*\}")  # not in the device's main memory


class Kernel(NamedTuple):
    """A kernel, the unit of work on a device.

    Attributes:
        name: Name of its result in the program.
        op: Operation in HLO, such as `fusion`; for a call of a library, the name of its target.
        read: Bytes that one run of the kernel reads.
        written: Bytes that one run of the kernel writes.
        times: How often the kernel runs in one run of the program.
    """

    name: str
    op: str
    read: int
    written: int
    times: int


def kernels(text: str) -> list[Kernel]:
    """Finds all kernels in the text of a program, from `jax.stages.Compiled.as_text`."""
    programs = hlo.computations(text)
    return list(_kernels(programs, hlo.entry(text), 1))


def total(program: list[Kernel]) -> int:
    """Returns the bytes that kernels move in one run of a program."""
    return sum(kernel.times * (kernel.read + kernel.written) for kernel in program)


def _kernels(
    programs: dict[str, list[Instruction]], computation: str, times: int
) -> Iterator[Kernel]:
    lines = programs.get(computation, [])
    by_name = {line.name: line for line in lines}
    for line in lines:
        if line.op in _FREE or line.op.endswith(_ENDS):
            continue
        if line.op == "while":
            trips = hlo.trips(line, programs)
            for called in (*hlo.called(line), *hlo.conditions(line)):
                yield from _kernels(programs, called, times * trips)
        elif line.op == "conditional":
            # The branch that moves most: which one runs is not known in advance.
            branches = [list(_kernels(programs, name, times)) for name in hlo.called(line)]
            yield from max(branches, key=total, default=[])
        elif line.op in ("call", "async-start"):
            for called in hlo.called(line):
                yield from _kernels(programs, called, times)
        else:
            read, written = _moved(programs, line, by_name)
            target = _TARGET.search(line.rest)
            yield Kernel(line.name, target[1] if target else line.op, read, written, times)


def _moved(
    programs: dict[str, list[Instruction]], line: Instruction, by_name: dict[str, Instruction]
) -> tuple[int, int]:
    """Returns the bytes that one kernel reads and writes."""
    operands = [by_name[name] for name in _operands(line) if name in by_name]
    if line.op == "fusion":
        body = programs[hlo.called(line)[0]]
    else:
        # Treats the instruction as a fusion of itself.
        body = [
            Instruction(operand.name, operand.shape, "parameter", f"{n})")
            for n, operand in enumerate(operands)
        ] + [line]
    demand, written = _demand(programs, body)
    wanted = {
        int(inner.rest.partition(")")[0]): demand.get(inner.name, 0)
        for inner in body
        if inner.op == "parameter"
    }
    read = sum(
        min(_bytes(operand.shape), wanted.get(n, 0) * _item_size(operand.shape))
        for n, operand in enumerate(operands)
    )
    return round(read), min(written, _bytes(line.shape))


def _demand(
    programs: dict[str, list[Instruction]], body: list[Instruction]
) -> tuple[dict[str, int], int]:
    """Returns how many elements of each value a kernel needs, and the bytes of its result."""
    by_name = {line.name: line for line in body}
    demand = dict.fromkeys(by_name, 0)
    written = 0
    root = body[-1]
    results = _operands(root) if root.op == "tuple" else [root.name]
    for name in results:
        result = by_name[name]
        update = _in_place(result, by_name)
        if update is not None:
            _, *others = _operands(update)
            written += _bytes(by_name[others[_UPDATES[update.op]]].shape)
            for other in others:
                demand[other] += _elements(by_name[other].shape)
            continue
        shape = result.shape
        if result.op == "custom-call":
            shape = _SCRATCH.sub("", shape)
        elif result.op == "copy-start":
            shape = shape.removeprefix("(").split(", ")[0]
        written += _bytes(shape)
        demand[name] += _elements(result.shape)
    for line in reversed(body):
        wanted = min(demand[line.name], _elements(line.shape))
        if not wanted or line.op in _FREE - {"bitcast", "tuple"}:
            continue
        operands = [by_name[name] for name in _operands(line) if name in by_name]
        for n, operand in enumerate(operands):
            demand[operand.name] += min(
                _elements(operand.shape), _share(programs, line, n, operand, wanted)
            )
    return demand, written


def _in_place(line: Instruction, by_name: dict[str, Instruction]) -> Instruction | None:
    """Returns the update if a result is a parameter that is updated in place; None otherwise."""
    while line.op == "bitcast":
        line = by_name[_operands(line)[0]]
    if line.op not in _UPDATES:
        return None
    target = by_name[_operands(line)[0]]
    while target.op == "bitcast":
        target = by_name[_operands(target)[0]]
    return line if target.op == "parameter" else None


def _share(
    programs: dict[str, list[Instruction]],
    line: Instruction,
    n: int,
    operand: Instruction,
    wanted: int,
) -> int:
    """Returns how many elements of operand `n` are needed for `wanted` elements of a result."""
    size = _elements(operand.shape)
    if line.op == "fusion":  # a fusion inside a fusion, which makes one kernel
        body = programs[hlo.called(line)[0]]
        inner, _ = _demand(programs, body)
        return next(
            inner[instruction.name]
            for instruction in body
            if instruction.op == "parameter" and int(instruction.rest.partition(")")[0]) == n
        )
    if line.op in _WHOLE or line.op.startswith(hlo.COLLECTIVES):
        return size
    if line.op == "dynamic-update-slice":
        return wanted if n == 0 else size
    if line.op in ("dynamic-slice", "slice", "gather"):
        return wanted if n == 0 else size
    if line.op in ("broadcast", "pad"):
        return min(size, wanted)
    # In proportion for reductions and concatenations; elementwise operations need `wanted`.
    return math.ceil(size * wanted / max(_elements(line.shape), 1))


def _operands(line: Instruction) -> list[str]:
    """Returns the names of the operands, which are in the instruction's parentheses."""
    depth = 1
    for n, letter in enumerate(line.rest):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return _OPERAND.findall(line.rest[:n])
    return _OPERAND.findall(line.rest)


def _bytes(shape: str) -> int:
    return hlo.bytes_of(_NEAR.sub("", shape))


def _elements(shape: str) -> int:
    return sum(math.prod(extents) for _, extents in hlo.shapes(shape))


def _item_size(shape: str) -> float:
    """Returns the mean number of bytes of an element."""
    elements = _elements(shape)
    return hlo.bytes_of(shape) / elements if elements else 0
