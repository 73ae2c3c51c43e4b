"""Reads the text of a compiled program: its computations, its collectives, how often each runs.

The compiler's own counts (`cost_analysis`) count the body of a loop once, so a scan over layers
counts as one layer. Here the body counts as often as the loop runs.
"""

import math
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)

_BITS = {"pred": 8, "bf16": 16, "c64": 64, "c128": 128}  # other names end with it: f32, s8
_SHAPE = re.compile(r"\b(pred|bf16|f\d+\w*|[su]\d+|c\d+)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z0-9-]*)\((.*)$")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|branch_computations)=\{?((?:%?[\w.-]+(?:, )?)+)")
_CONDITION = re.compile(r"\bcondition=%?([\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CHANNEL = re.compile(r"\bchannel_id=(\d+)")


class Collective(NamedTuple):
    """A communication between devices.

    Attributes:
        kind: One of `COLLECTIVES`.
        size: Size of the result on one device in bytes.
        times: How often each device takes part in one run of the program.
    """

    kind: str
    size: int
    times: int


class Instruction(NamedTuple):
    """One line of a program.

    Attributes:
        name: Name of the result.
        shape: Shape of the result in HLO, such as `f32[2,3]{1,0}`.
        op: Operation, such as `dot`.
        rest: Text of the operands and attributes.
    """

    name: str
    shape: str
    op: str
    rest: str


def collectives(text: str) -> list[Collective]:
    """Finds the collectives of a program.

    The compiler may spread one collective over several computations; its parts count once.

    Args:
        text: Text of the program, from `jax.stages.Compiled.as_text`.

    Returns:
        The collectives.
    """
    programs = computations(text)
    by_computation: dict[str, dict[tuple[str, str], Collective]] = {}

    def collectives_in(name: str) -> dict[tuple[str, str], Collective]:
        if name not in by_computation:
            by_computation[name] = {}  # HLO has no recursion
            for line in programs.get(name, ()):
                kind = line.op.removesuffix("-start")
                if kind in COLLECTIVES:
                    channel = _CHANNEL.search(line.rest)
                    key = (kind, channel[1] if channel else f"{name}/{line.name}")
                    _keep(by_computation[name], key, Collective(kind, _payload(line), 1))
                if line.op.startswith("async-") and line.op != "async-start":
                    continue  # counted at its start
                times = trips(line, programs) if line.op == "while" else 1
                for name_called in called(line):
                    for key, collective in collectives_in(name_called).items():
                        _keep(
                            by_computation[name],
                            key,
                            collective._replace(times=times * collective.times),
                        )
        return by_computation[name]

    return list(collectives_in(entry(text)).values())


def computations(text: str) -> dict[str, list[Instruction]]:
    """Splits a program into the lines of each computation, by the computation's name."""
    programs: dict[str, list[Instruction]] = {}
    lines: list[Instruction] = []
    for line in text.splitlines():
        header = _COMPUTATION.match(line)
        if header:
            lines = programs[header[2]] = []
        elif match := _INSTRUCTION.match(line):
            lines.append(Instruction(*match.groups()))
    return programs


def entry(text: str) -> str:
    """Returns the name of the computation that a program begins with."""
    return next(m[2] for m in map(_COMPUTATION.match, text.splitlines()) if m and m[1])


def called(line: Instruction) -> list[str]:
    """Returns the names of computations that an instruction runs, except a loop's condition."""
    names = ", ".join(_CALLED.findall(line.rest))
    return [name.strip().removeprefix("%") for name in names.split(",") if name.strip()]


def conditions(line: Instruction) -> list[str]:
    """Returns the name of a loop's condition; empty if the instruction is not a loop."""
    return _CONDITION.findall(line.rest)


def trips(line: Instruction, programs: dict[str, list[Instruction]]) -> int:
    """Returns how often a loop runs, from the compiler's note or from the loop's condition."""
    known = _TRIPS.search(line.rest)
    if known:
        return int(known[1])
    limits = [
        int(instruction.rest.partition(")")[0])
        for name in conditions(line)
        for instruction in programs.get(name, [])
        if instruction.op == "constant" and instruction.shape.startswith(("s32[]", "u32[]"))
    ]
    return max(limits, default=1)


def shapes(text: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields the dtypes and extents in a piece of HLO: ("f32", (2, 3)) for `f32[2,3]{1,0}`."""
    for dtype, extents in _SHAPE.findall(text):
        yield dtype, tuple(int(n) for n in extents.split(",") if n)


def bytes_of(text: str) -> int:
    """Returns the bytes of all shapes in a piece of HLO."""
    return sum(_bits(dtype) * math.prod(extents) // 8 for dtype, extents in shapes(text))


def by_kind(communications: Iterable[Collective]) -> dict[str, tuple[int, int]]:
    """Sums up collectives: their number in one run and their bytes, by kind."""
    sums: dict[str, tuple[int, int]] = {}
    for kind, size, times in communications:
        count, total = sums.get(kind, (0, 0))
        sums[kind] = (count + times, total + times * size)
    return sums


def _bits(dtype: str) -> int:
    return _BITS.get(dtype) or int(re.search(r"\d+", dtype)[0])


def _keep(known: dict, key: tuple[str, str], collective: Collective) -> None:
    """Adds a collective, or of its parts keeps the one that runs least: it is outside of loops."""
    if key not in known or collective.times < known[key].times:
        known[key] = collective


def _payload(line: Instruction) -> int:
    """Returns the bytes of a collective's result; some starts return their operands as well."""
    size = bytes_of(line.shape)
    if line.op in ("all-gather-start", "collective-permute-start"):
        return size - bytes_of(line.rest.split(")")[0])
    return size
