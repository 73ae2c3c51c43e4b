"""What a compiled program does, read from its text: collectives, and how often each runs.

The compiler's own counts (`cost_analysis`) take the body of a loop for one pass through it, so a
scan over layers counts as one layer. Here a loop's body counts as often as the loop runs it.
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

_BITS = {"pred": 8, "bf16": 16, "c64": 64, "c128": 128}  # others end with their bits: f32, s8
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
        size: Of its result on one device, bytes.
        times: How often a device takes part, in one run of the program.
    """

    kind: str
    size: int
    times: int


class Instruction(NamedTuple):
    """One line of a program.

    Attributes:
        name: Of its result.
        shape: Of its result, in HLO's words, such as `f32[2,3]{1,0}`.
        op: What it does, such as `dot`.
        rest: Operands and attributes.
    """

    name: str
    shape: str
    op: str
    rest: str


def collectives(text: str) -> list[Collective]:
    """Finds the collectives of a program, of `jax.stages.Compiled.as_text`.

    Parts of one collective, which the compiler may lay over several computations, count once.
    """
    programs = computations(text)
    found: dict[str, dict[tuple[str, str], Collective]] = {}

    def of(name: str) -> dict[tuple[str, str], Collective]:
        if name not in found:
            found[name] = {}  # HLO has no recursion
            for line in programs.get(name, ()):
                kind = line.op.removesuffix("-start")
                if kind in COLLECTIVES:
                    channel = _CHANNEL.search(line.rest)
                    key = (kind, channel[1] if channel else f"{name}/{line.name}")
                    _keep(found[name], key, Collective(kind, _payload(line), 1))
                if line.op.startswith("async-") and line.op != "async-start":
                    continue  # the ends of what has been counted at its start
                times = trips(line, programs) if line.op == "while" else 1
                for name_called in called(line):
                    for key, one in of(name_called).items():
                        _keep(found[name], key, one._replace(times=times * one.times))
        return found[name]

    return list(of(entry(text)).values())


def computations(text: str) -> dict[str, list[Instruction]]:
    """Takes a program apart: the lines of each computation by its name."""
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
    """Name of the computation that a program begins with."""
    return next(m[2] for m in map(_COMPUTATION.match, text.splitlines()) if m and m[1])


def called(line: Instruction) -> list[str]:
    """Computations that an instruction runs, but for a loop's condition."""
    names = ", ".join(_CALLED.findall(line.rest))
    return [name.strip().removeprefix("%") for name in names.split(",") if name.strip()]


def conditions(line: Instruction) -> list[str]:
    """Computation that tells whether a loop goes on; none of what is no loop."""
    return _CONDITION.findall(line.rest)


def trips(line: Instruction, programs: dict[str, list[Instruction]]) -> int:
    """How often a loop runs; the compiler says so, or its condition compares with it."""
    known = _TRIPS.search(line.rest)
    if known:
        return int(known[1])
    limits = [
        int(one.rest.partition(")")[0])
        for name in conditions(line)
        for one in programs.get(name, [])
        if one.op == "constant" and one.shape.startswith(("s32[]", "u32[]"))
    ]
    return max(limits, default=1)


def shapes(text: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Types and extents in a piece of HLO, such as ("f32", (2, 3)) of `f32[2,3]{1,0}`."""
    for dtype, extents in _SHAPE.findall(text):
        yield dtype, tuple(int(n) for n in extents.split(",") if n)


def bytes_of(text: str) -> int:
    """Bytes of all shapes in a piece of HLO."""
    return sum(_bits(dtype) * math.prod(extents) // 8 for dtype, extents in shapes(text))


def by_kind(found: Iterable[Collective]) -> dict[str, tuple[int, int]]:
    """Adds collectives up: by kind, how many there are in a step, and their bytes."""
    sums: dict[str, tuple[int, int]] = {}
    for kind, size, times in found:
        count, total = sums.get(kind, (0, 0))
        sums[kind] = (count + times, total + times * size)
    return sums


def _bits(dtype: str) -> int:
    return _BITS.get(dtype) or int(re.search(r"\d+", dtype)[0])


def _keep(found: dict, key: tuple[str, str], one: Collective) -> None:
    """Of the parts of one collective, those outside of a loop say how often there is one."""
    if key not in found or one.times < found[key].times:
        found[key] = one


def _payload(line: Instruction) -> int:
    """Bytes of a collective's result; the starts of some give their operands as well."""
    size = bytes_of(line.shape)
    if line.op in ("all-gather-start", "collective-permute-start"):
        return size - bytes_of(line.rest.split(")")[0])
    return size
