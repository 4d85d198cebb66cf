"""Reads the text of a compiled program (HLO): its kernels, and communication between devices."""

import functools
import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_WIDTHS = {"pred": 1, "bf16": 2, "f16": 2} | {
    f"{kind}{bits}": bits // 8 for kind in "sfu" for bits in (8, 16, 32, 64)
}
_ARRAY = re.compile(rf"\b({'|'.join(_WIDTHS)})\[([\d,]*)\](\{{[^}}]*\}})?")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_HALF = frozenset(("bf16", "f16"))
# A TPU's vector memory, within the chip.
_ON_CHIP = "S(1)"
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# Neither computes nor moves anything, or only waits for what has been counted.
_FREE = frozenset(
    ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call")
    + ("conditional", "after-all", "iota", "copy-done", "partition-id")
)
_VIEWS = frozenset(("bitcast", "copy", "reshape"))
_SLICES = frozenset(("dynamic-slice", "slice", "gather"))


class Instruction(NamedTuple):
    """One line of a computation: `name = shape opcode(operands), attributes`."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    text: str
    is_root: bool

    def called(self, attribute: str) -> str | None:
        """The computation that an attribute names: `calls`, `body`, `condition`, `to_apply`."""
        found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.text)
        return found and found[1]

    @property
    def source(self) -> str:
        """The operation in the program's own terms, or else the instruction's name."""
        found = re.search(r'op_name="([^"]*)"', self.text)
        return found[1] if found else self.name


class Kernel(NamedTuple):
    """A part of the program that runs at once.

    Attributes:
        opcode: what it is.
        source: what it is for.
        times: how often it runs.
        bytes: that it reads from and writes to memory, each time.
        flops: of products, each time, as far as they are stated.
        is_half: whether all of its products multiply in half precision.
        cycles: that the compiler expects, each time; 0 if it does not say.
    """

    opcode: str
    source: str
    times: int
    bytes: int
    flops: int
    is_half: bool
    cycles: int


class Collective(NamedTuple):
    """A communication between devices.

    Attributes:
        kind: such as `all-reduce`.
        times: how often it runs.
        bytes: of the whole array, on each device, each time.
    """

    kind: str
    times: int
    bytes: int


Computations = dict[str, list[Instruction]]


def parse(text: str) -> Computations:
    """The instructions of each computation; that of the program is `ENTRY`."""
    found: Computations = {}
    current: list[Instruction] = []
    for line in text.splitlines():
        if not line.startswith(" ") and (start := _COMPUTATION.match(line)):
            current = found["ENTRY" if start[1] else start[2]] = []
        elif match := _INSTRUCTION.match(line):
            root, name, shape, opcode, rest = match.groups()
            operands = tuple(re.findall(r"%([\w.\-]+)", rest.partition("), ")[0]))
            current.append(Instruction(name, shape, opcode, operands, line, root is not None))
    return found


def size(shape: str, *, on_chip: bool = True) -> int:
    """Bytes of all arrays of a shape, perhaps without those that are kept within the chip."""
    return sum(
        _WIDTHS[kind] * math.prod(int(length) for length in lengths.split(",") if length)
        for kind, lengths, layout in _ARRAY.findall(shape)
        if on_chip or _ON_CHIP not in layout
    )


def kernels(computations: Computations) -> list[Kernel]:
    """What the program runs, in order; loops are counted by the times that they run."""
    found = []
    for times, name, instruction in _run(computations):
        if instruction.opcode not in _FREE and not instruction.opcode.startswith(_COLLECTIVES):
            shapes = {x.name: x.shape for x in computations[name]}
            operands = [shapes.get(operand, "") for operand in instruction.operands]
            cycles = re.search(r'"estimated_cycles":"(\d+)"', instruction.text)
            products = list(_products(instruction, shapes, computations))
            found.append(
                Kernel(
                    instruction.opcode,
                    instruction.source,
                    times,
                    _traffic(instruction, operands, computations),
                    sum(flops for flops, _ in products),
                    all(kind in _HALF for _, kind in products),
                    int(cycles[1]) if cycles else 0,
                )
            )
    return found


def collectives(computations: Computations) -> list[Collective]:
    """The communications of the program, also those that run beside its kernels."""
    found = {}
    for times, name, instruction in _run(computations, into_fusions=True):
        kind = _collective(instruction)
        if kind is None:
            continue
        # TPUs add up in a fusion with this name, which keeps a part.
        if kind == "all-reduce" and name.startswith("all-reduce-scatter"):
            kind = "reduce-scatter"
        shapes = {x.name: x.shape for x in computations[name]}
        given = sum(size(shapes.get(operand, "")) for operand in instruction.operands)
        made = size(instruction.shape)
        # One that is started returns what it is given, too.
        if instruction.opcode.endswith("-start") and instruction.shape.startswith("("):
            made -= given
        channel = re.search(r"channel_id=(\d+)", instruction.text)
        # A part of one is written in each fusion that it runs beside; several share channel 1.
        key = channel[1] if channel and channel[1] != "1" else f"{name} {instruction.name}"
        found[key] = Collective(kind, times, max(given, made))
    return list(found.values())


def _collective(instruction: Instruction) -> str | None:
    """The kind of communication that an instruction starts."""
    kind = instruction.opcode.removesuffix("-start")
    return kind if kind in _COLLECTIVES else None


def _run(
    computations: Computations, name: str = "ENTRY", times: int = 1, *, into_fusions: bool = False
) -> Iterator[tuple[int, str, Instruction]]:
    """What runs: the times, the computation that it is in, and the instruction."""
    for instruction in computations.get(name, ()):
        yield times, name, instruction
        inner = functools.partial(_run, computations, into_fusions=into_fusions)
        match instruction.opcode:
            case "while":
                body = instruction.called("body") or ""
                yield from inner(body, times * _trips(instruction, computations))
            case "call":
                yield from inner(instruction.called("to_apply") or "", times)
            case "conditional":
                # Platforms have been decided before: only one branch is left in most cases.
                for branch in _branches(instruction):
                    yield from inner(branch, times)
            case "fusion" if into_fusions:
                yield from inner(instruction.called("calls") or "", times)


def _branches(instruction: Instruction) -> list[str]:
    listed = re.search(r"branch_computations=\{([^}]*)\}", instruction.text)
    if listed:
        return re.findall(r"%([\w.\-]+)", listed[1])
    names = (instruction.called(f"{which}_computation") for which in ("true", "false"))
    return [name for name in names if name]


def _trips(loop: Instruction, computations: Computations) -> int:
    """How often a loop's body runs: as stated, or the limit that its counter is compared with."""
    stated = re.search(r'known_trip_count":\{"n":"(\d+)"', loop.text)
    if stated:
        return int(stated[1])
    condition = computations.get(loop.called("condition") or "", ())
    limits = [re.search(r"constant\((\d+)\)", x.text) for x in condition if x.opcode == "constant"]
    return max((int(limit[1]) for limit in limits if limit), default=1)


def _traffic(instruction: Instruction, operands: Sequence[str], computations: Computations) -> int:
    """Bytes read and written; of what a fusion only cuts out or replaces a part, that part."""
    away = functools.partial(size, on_chip=False)
    inner = computations.get(instruction.called("calls") or "")
    if instruction.opcode != "fusion" or inner is None:
        # Library calls return their workspace, too.
        return away(re.sub(r", s8\[\d+\]\S*\)$", ")", instruction.shape)) + sum(map(away, operands))
    origins = _origins(inner)
    numbered = {_number(x): x for x in inner if x.opcode == "parameter"}
    read = (
        _read(numbered[i], inner, origins, away(shape))
        for i, shape in enumerate(operands)
        if i in numbered
    )
    return sum(read) + _written(instruction, inner, origins)


def _origins(inner: Sequence[Instruction]) -> dict[str, str]:
    """Of each instruction of a fusion, the one whose result it shows in another form, or itself."""
    origins: dict[str, str] = {}
    for x in inner:  # Operands come first.
        is_view = x.opcode in _VIEWS and x.operands
        origins[x.name] = origins.get(x.operands[0], x.operands[0]) if is_view else x.name
    return origins


def _read(
    parameter: Instruction, inner: Sequence[Instruction], origins: dict[str, str], whole: int
) -> int:
    """Bytes that a fusion reads of a parameter of `whole` bytes."""
    parts = []
    for user in inner:
        used = [origins.get(operand, operand) for operand in user.operands]
        if user.opcode not in _VIEWS and parameter.name in used:
            parts.append(_read_by(user, used[0] == parameter.name, whole))
    return min(whole, sum(parts)) if parts else whole


def _read_by(user: Instruction, is_first: bool, whole: int) -> int:
    if user.opcode in _SLICES and is_first:
        return min(whole, size(user.shape))
    return 0 if user.opcode == "dynamic-update-slice" and is_first else whole


def _written(fusion: Instruction, inner: Sequence[Instruction], origins: dict[str, str]) -> int:
    """Bytes that a fusion writes: of arrays of which it replaces a part, that part."""
    made = {x.name: x for x in inner}
    (root,) = (x for x in inner if x.is_root)
    results = root.operands if root.opcode == "tuple" else (root.name,)
    whole = size(fusion.shape, on_chip=False)
    for name in results:
        result = made.get(origins.get(name, name))
        if result is not None and result.opcode == "dynamic-update-slice":
            update = made.get(origins.get(result.operands[1], ""))
            whole -= size(result.shape) - size(update.shape if update else "")
    return max(whole, 0)


def _number(parameter: Instruction) -> int:
    found = re.search(r"parameter\((\d+)\)", parameter.text)
    return int(found[1]) if found else -1


def _products(
    instruction: Instruction, shapes: dict[str, str], computations: Computations
) -> Iterator[tuple[int, str]]:
    """FLOPs, and the type of the factors, of products whose contracted axes are stated."""
    if instruction.opcode == "fusion":
        inner = computations.get(instruction.called("calls") or "", [])
        within = {x.name: x.shape for x in inner}
        for x in inner:
            yield from _products(x, within, computations)
        return
    contracted = re.search(
        r'lhs_contracting_(?:dims=\{|dimensions":\[)([\d", ]*)', instruction.text
    )
    left = _ARRAY.search(shapes.get(instruction.operands[0], "")) if instruction.operands else None
    made = _ARRAY.search(instruction.shape)
    if not (contracted and left and made):
        return
    lengths, results = ([int(x) for x in array[2].split(",") if x] for array in (left, made))
    axes = map(int, re.findall(r"\d+", contracted[1]))
    yield 2 * math.prod(results) * math.prod(lengths[axis] for axis in axes), left[1]
