"""Python's own unpickler, confined to arrays in containers: it runs nothing that a file asks for.

`pickle.Unpickler` imports and calls whatever a file names, and takes memory that a few bytes claim.
Here the instructions are checked before it sees them, each name is looked up in a table of a few
functions that stand in for the real ones, and what comes out is checked and counted. Compared with
an interpreter of our own, which this replaced, it refuses the same hostile files with fewer lines.
"""

import contextlib
import dataclasses
import pickle
import pickletools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_io.errors import UserError

# Far above what a checkpoint of some thousand arrays needs, far below what fills a memory.
_MAX_INSTRUCTIONS = 1_000_000
# As dictionary keys, tuples in tuples are hashed by recursion in C without a check of its depth:
# this many of them take less than 2 MB of stack.
_MAX_TUPLES = 20_000
_MAX_DEPTH = 100
# The bytes of half precision become twice as many.
_GROWTH = 2

# What Python 3 writes for arrays, numbers and text in dicts, lists and tuples.
_STORE = {"PUT", "BINPUT", "LONG_BINPUT"}
_TUPLE = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
_ADMITTED = {
    *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "GET", "BINGET", "LONG_BINGET", *_STORE),
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8", "NONE", "NEWTRUE", "NEWFALSE"),
    *("EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "LIST", "APPEND", "APPENDS"),
    *("EMPTY_TUPLE", *_TUPLE, "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
}
_LEAVES = (str, bytes, int, float, type(None), np.ndarray, np.generic)


@contextlib.contextmanager
def refusing(path: Path, expected: str) -> Iterator[None]:
    """Within it, what a bad file raises becomes a UserError, unless it is one already.

    Args:
        path: the file.
        expected: what it should be, and the way out, as one or more sentences.
    """
    try:
        yield
    except UserError:
        raise
    except (ValueError, OSError) as error:
        reason = (getattr(error, "strerror", None) or str(error))[:300]
        raise UserError(f"Cannot read {path}: {reason}. {expected}") from error
    except (TypeError, LookupError, ArithmeticError, RecursionError) as error:
        raise UserError(
            f"Cannot read {path}: it is corrupt ({error!r:.300}). {expected}"
        ) from error


class StandIn:
    """Stands for what a pickle names or makes, so that it cannot reach the real thing."""

    def __setstate__(self, state: Any) -> None:
        """Called by the unpickler with what completes a value. Raises ValueError if it is wrong."""
        raise ValueError("it sets the state of something that has none")

    def value(self) -> np.ndarray:
        """The finished array. Raises ValueError if there is none, or it is not finished."""
        raise ValueError("it holds something that is neither array nor number nor text")


@dataclasses.dataclass(frozen=True)
class Name(StandIn):
    """A name that a pickle asked for.

    Attributes:
        name: `module.name`.
        function: what a call of it does here; None if it may be mentioned, but not called.
    """

    name: str
    function: Callable[..., Any] | None

    def __call__(self, *arguments: Any) -> Any:
        """What the pickle gets for a call."""
        if self.function is None:
            raise ValueError(f"it calls {self.name}, which is no function")
        return self.function(*arguments)


class ExtendedDict(dict):
    """A dict that may carry a state beside its items, such as `_metadata`, which is left out."""

    def __setstate__(self, state: Any) -> None:
        """Leaves it out."""


def as_dict(mapping: Any = None) -> dict:
    """Stands for the classes of mappings. Raises ValueError unless made from a dict, or empty."""
    if mapping is None:
        return ExtendedDict()
    if not isinstance(mapping, dict):
        raise ValueError("it has a mapping that is made from no dict")
    return mapping


def load_pickle(
    file: Any,
    table: Mapping[str, Callable[..., Any] | None],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The value of a pickle: arrays, numbers and text in dicts, lists and tuples.

    Args:
        file: of bytes, ordinary or mapped, at its beginning; it has to allow `seek`.
        table: for each `module.name` that the pickle may ask for, the function that a call of it
            becomes, or None; see `Name`. They get whatever the pickle gives them, and it may set
            items and the state of what they return: of arrays therefore only read-only ones.
        persistent: what a persistent id stands for. Without it there may be none.

    Raises ValueError, or another error that `refusing` knows, if the pickle is corrupt or asks for
    anything that is not admitted.
    """
    _check_instructions(file)
    size = file.tell()
    file.seek(0)
    try:
        value = _Unpickler(file, table, persistent).load()
    except (pickle.UnpicklingError, AttributeError) as error:
        raise ValueError(str(error)) from error
    return _Finisher(max_bytes=_GROWTH * size).visit(value)


def _check_instructions(file: Any) -> None:
    """Raises ValueError for what the unpickler does not check, or would make too much room for."""
    tuples = last = frame_end = 0
    argument: Any
    place: Any
    for count, (opcode, argument, place) in enumerate(pickletools.genops(file)):
        if opcode.name not in _ADMITTED:
            raise ValueError(f"it has the instruction {opcode.name}, needed for no array in a dict")
        tuples += opcode.name in _TUPLE
        if count >= _MAX_INSTRUCTIONS or tuples > _MAX_TUPLES:
            raise ValueError(
                f"it has more than {_MAX_INSTRUCTIONS} instructions, or {_MAX_TUPLES} tuples"
            )
        # It makes room for all places up to this one.
        if opcode.name in _STORE and argument > count:
            raise ValueError(f"it stores to place {argument} before it has that many values")
        # It forgets the rest of a frame when it reads across its end, and so would read other
        # instructions than these.
        is_frame = opcode.name == "FRAME"
        if last < frame_end < place or (is_frame and place < frame_end):
            raise ValueError("it has an instruction across the end of a frame")
        frame_end = file.tell() + argument if is_frame else frame_end
        last = place


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, table: Any, persistent: Any) -> None:
        super().__init__(file)
        self._table = table
        self._persistent = persistent

    def find_class(self, module: str, name: str) -> Name:
        full = f"{module}.{name}"
        if full not in self._table:
            raise ValueError(f"it asks for {full[:100]!r}, which no array in a dict needs")
        return Name(full, self._table[full])

    def persistent_load(self, persistent_id: Any) -> Any:
        if self._persistent is None:
            raise ValueError("it refers to values outside of the file")
        return self._persistent(persistent_id)


class _Finisher:
    """Copies containers with their arrays finished.

    A pickle of a few bytes can hold containers that contain themselves, or each other many times
    over, and many arrays of the same bytes, so what it visits and makes is counted.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._visited = 0
        # By identity, so that what was shared in the file is made once and stays shared.
        self._made: dict[int, np.ndarray] = {}

    def visit(self, node: Any, depth: int = 0) -> Any:
        self._visited += 1
        if depth > _MAX_DEPTH or self._visited > _MAX_INSTRUCTIONS:
            raise ValueError("its containers are nested without end")
        if isinstance(node, StandIn):
            return self._make(node)
        if isinstance(node, dict):
            if any(type(key) not in (str, int) for key in node):
                raise ValueError("it has a key that is neither text nor an integer")
            return {key: self.visit(value, depth + 1) for key, value in node.items()}
        if type(node) in (list, tuple):
            return type(node)(self.visit(value, depth + 1) for value in node)
        if not isinstance(node, _LEAVES):
            raise ValueError("it holds something that is neither array nor number nor text")
        return node

    def _make(self, node: StandIn) -> np.ndarray:
        if id(node) not in self._made:
            array = self._made[id(node)] = node.value()
            self._max_bytes -= array.nbytes
            if self._max_bytes < 0:
                raise ValueError("its arrays are larger than the file")
        return self._made[id(node)]
