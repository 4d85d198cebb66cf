"""Python's own unpickler, restricted to arrays in containers: it executes nothing a file asks for.

`pickle.Unpickler` imports and calls whatever a file names, and allocates whatever memory a few
bytes claim. Here, opcodes are checked before the unpickler sees them, every name is looked up in a
small table of functions that stand in for the real ones, and the result is checked and counted.
Compared with a hand-written interpreter, it rejects the same hostile files with less code.
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

# Far more than a checkpoint of a few thousand arrays needs, far less than what exhausts memory.
_MAX_INSTRUCTIONS = 1_000_000
# Nested tuples as dictionary keys are hashed by recursion in C without a check of its depth; this
# many need less than 2 MB of stack.
_MAX_TUPLES = 20_000
_MAX_DEPTH = 100
# Half precision doubles in size when converted to float32.
_GROWTH = 2

# The opcodes that Python 3 writes for arrays, numbers and text in dicts, lists and tuples.
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
    """A context in which the errors raised for a bad file become UserErrors.

    Args:
        path: the file.
        expected: one or more sentences on what the file should be, and how to get it.
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
    """Stands in for what a pickle names or creates, so that it cannot reach the original."""

    def __setstate__(self, state: Any) -> None:
        """Called by the unpickler to complete a value. Raises ValueError for an invalid state."""
        raise ValueError("it sets the state of something that has none")

    def value(self) -> np.ndarray:
        """The finished array. Raises ValueError if there is none, or it is not finished."""
        raise ValueError("it contains something that is neither an array nor a number nor text")


@dataclasses.dataclass(frozen=True)
class Name(StandIn):
    """A name that a pickle asked for.

    Attributes:
        name: `module.name`.
        function: what a call of it does here; None if it may be named, but not called.
    """

    name: str
    function: Callable[..., Any] | None

    def __call__(self, *arguments: Any) -> Any:
        """The result that the pickle gets from a call."""
        if self.function is None:
            raise ValueError(f"it calls {self.name}, which is not a function")
        return self.function(*arguments)


class ExtendedDict(dict):
    """A dict that may come with a state, such as `_metadata`, which is ignored."""

    def __setstate__(self, state: Any) -> None:
        """Ignores the state."""


def as_dict(mapping: Any = None) -> dict:
    """Stands in for mapping classes. Raises ValueError unless made from a dict or from nothing."""
    if mapping is None:
        return ExtendedDict()
    if not isinstance(mapping, dict):
        raise ValueError("it has a mapping that is not made from a dict")
    return mapping


def load_pickle(
    file: Any,
    table: Mapping[str, Callable[..., Any] | None],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The value of a pickle: arrays, numbers and text in dicts, lists and tuples.

    Args:
        file: a seekable binary file, ordinary or memory-mapped, at its beginning.
        table: for each `module.name` that the pickle may ask for, the function that replaces it, or
            None; see `Name`. Functions are called with whatever the pickle passes, and it may set
            items and the state of what they return, so arrays they return must be read-only.
        persistent: resolves persistent ids; None if there must be none.

    Raises ValueError, or another error that `refusing` handles, if the pickle is corrupt or asks
    for anything that is not admitted.
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
    """Raises ValueError for what the unpickler does not check, or would allocate too much for."""
    tuples = last = frame_end = 0
    argument: Any
    place: Any
    for count, (opcode, argument, place) in enumerate(pickletools.genops(file)):
        if opcode.name not in _ADMITTED:
            raise ValueError(f"it has the opcode {opcode.name}, which no array in a dict needs")
        tuples += opcode.name in _TUPLE
        if count >= _MAX_INSTRUCTIONS or tuples > _MAX_TUPLES:
            raise ValueError(
                f"it has more than {_MAX_INSTRUCTIONS} opcodes, or {_MAX_TUPLES} tuples"
            )
        # The unpickler allocates all memo slots up to this one.
        if opcode.name in _STORE and argument > count:
            raise ValueError(f"it stores to memo slot {argument} before it has that many values")
        # The unpickler drops the rest of a frame when it reads across the frame's end, and so would
        # see other opcodes than these.
        is_frame = opcode.name == "FRAME"
        if last < frame_end < place or (is_frame and place < frame_end):
            raise ValueError("it has an opcode across the end of a frame")
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
            raise ValueError("it refers to values outside the file")
        return self._persistent(persistent_id)


class _Finisher:
    """Copies containers, replacing stand-ins by finished arrays.

    A pickle of a few bytes can hold containers that contain themselves, or each other many times
    over, and many arrays that share bytes, so visits and bytes are counted.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._visited = 0
        # By identity, so that arrays shared in the file are made once and remain shared.
        self._made: dict[int, np.ndarray] = {}

    def visit(self, node: Any, depth: int = 0) -> Any:
        self._visited += 1
        if depth > _MAX_DEPTH or self._visited > _MAX_INSTRUCTIONS:
            raise ValueError("its containers are too many or nested too deeply")
        if isinstance(node, StandIn):
            return self._make(node)
        if isinstance(node, dict):
            if any(type(key) not in (str, int) for key in node):
                raise ValueError("it has a key that is neither text nor an integer")
            return {key: self.visit(value, depth + 1) for key, value in node.items()}
        if type(node) in (list, tuple):
            return type(node)(self.visit(value, depth + 1) for value in node)
        if not isinstance(node, _LEAVES):
            raise ValueError("it contains something that is neither an array nor a number nor text")
        return node

    def _make(self, node: StandIn) -> np.ndarray:
        if id(node) not in self._made:
            array = self._made[id(node)] = node.value()
            self._max_bytes -= array.nbytes
            if self._max_bytes < 0:
                raise ValueError("its arrays are larger than the file")
        return self._made[id(node)]
