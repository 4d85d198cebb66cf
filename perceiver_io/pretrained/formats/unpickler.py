"""A reader of pickles that runs nothing a file asks for.

Python's own unpickler imports and calls whatever a file names. The one here only interprets: a name
is looked up in a table of a few functions that build arrays and dicts, and any other name,
instruction or type is an error.
"""

import abc
import contextlib
import dataclasses
import mmap
import pickletools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_io.errors import UserError

# Far above what a checkpoint of some thousand arrays needs, far below what fills a memory.
_MAX_INSTRUCTIONS = 1_000_000
_MAX_DEPTH = 100
# The bytes of half precision become twice as many.
_GROWTH = 2

# Instructions that push their argument, as pickletools decodes it, and that push something new.
_LITERALS = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
_FRESH = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
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


@dataclasses.dataclass(frozen=True)
class Name:
    """A name that a pickle asked for.

    Attributes:
        name: `module.name`.
        function: what a call of it does here; None if it may be mentioned, but not called.
    """

    name: str
    function: Callable[..., Any] | None


class Unfinished(abc.ABC):
    """A value that a later instruction completes, or that is costly to make."""

    @abc.abstractmethod
    def set_state(self, *state: Any) -> None:
        """Takes the state. Raises ValueError if it does not fit."""

    @abc.abstractmethod
    def value(self) -> np.ndarray:
        """The finished array. Raises ValueError if its state is missing."""


class Unpickler:
    """Interprets the instructions of one pickle.

    Args:
        table: for each `module.name` that the pickle may ask for, the function that a call of it
            becomes, or None; see `Name`.
        persistent: what a persistent id stands for. Without it there may be none.
    """

    def __init__(
        self,
        table: Mapping[str, Callable[..., Any] | None],
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        self._table = table
        self._persistent = persistent
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def load(self, data: bytes | mmap.mmap) -> Any:
        """The value of a pickle: arrays, numbers and text in dicts, lists and tuples.

        Raises ValueError, or another error that `refusing` knows, if the pickle is corrupt or asks
        for anything that is not admitted.
        """
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count == _MAX_INSTRUCTIONS:
                raise ValueError(f"it has more than {_MAX_INSTRUCTIONS} instructions")
            self._step(opcode.name, argument)
        if len(self._stack) != 1:
            raise ValueError("it does not end with one value")
        return _Finisher(max_bytes=_GROWTH * len(data)).visit(self._stack.pop())

    def _step(self, opcode: str, argument: Any) -> None:
        """One instruction, of those that Python 3 writes for arrays in dicts."""
        if opcode in _LITERALS:
            self._stack.append(argument)
        elif opcode in _FRESH:
            self._stack.append(_FRESH[opcode]())
        elif opcode in _INSTRUCTIONS:
            _INSTRUCTIONS[opcode](self, argument)
        else:
            raise ValueError(f"it has the instruction {opcode}, which no array in a dict needs")

    def _mark(self, _: None) -> None:
        self._marks.append(len(self._stack))

    def _pop(self, count: int) -> list[Any]:
        first = len(self._stack) - count
        if not 0 <= first <= len(self._stack):
            raise ValueError("it takes values that it has not put down")
        values = self._stack[first:]
        del self._stack[first:]
        return values

    def _pop_marked(self) -> list[Any]:
        return self._pop(len(self._stack) - self._marks.pop())

    def _push_tuple(self, values: list[Any]) -> None:
        self._stack.append(tuple(values))

    def _push_dict(self, items: list[Any]) -> None:
        self._stack.append({})
        self._set_items(items)

    def _append(self, values: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise ValueError("it appends to something that is no list")
        self._stack[-1].extend(values)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        # Only such keys: the hash of a deeply nested tuple, for one, overflows the C stack.
        if type(target) is not dict or any(type(key) not in (str, int) for key in items[::2]):
            raise ValueError("it sets an item that is not in a dict, or not by text or an integer")
        target.update(zip(items[::2], items[1::2], strict=True))

    def _memoize(self, index: int | None) -> None:
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def _recall(self, index: int) -> None:
        if index not in self._memo:
            raise ValueError(f"it recalls value {index}, which it never stored")
        self._stack.append(self._memo[index])

    def _push_name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise ValueError("it asks for something by a name that is no text")
        full = f"{module}.{name}"
        if full not in self._table:
            raise ValueError(f"it asks for {full[:100]!r}, which no array in a dict needs")
        self._stack.append(Name(full, self._table[full]))

    def _call(self, _: None) -> None:
        called, arguments = self._pop(2)
        if type(called) is not Name or called.function is None or type(arguments) is not tuple:
            raise ValueError("it calls something that is no function")
        self._stack.append(called.function(*arguments))

    def _build(self, _: None) -> None:
        (state,) = self._pop(1)
        target = self._stack[-1]
        if isinstance(target, Unfinished):
            target.set_state(*state)
        elif type(target) is not dict or type(state) is not dict:
            raise ValueError("it sets the state of something that has none")
        # What an ordered dict carries beside its items, such as `_metadata`, is left out.

    def _persistent_id(self, _: None) -> None:
        if self._persistent is None:
            raise ValueError("it refers to values outside of the file")
        self._stack.append(self._persistent(*self._pop(1)))


_INSTRUCTIONS: dict[str, Callable[[Unpickler, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    "MARK": Unpickler._mark,
    "TUPLE": lambda machine, _: machine._push_tuple(machine._pop_marked()),
    "TUPLE1": lambda machine, _: machine._push_tuple(machine._pop(1)),
    "TUPLE2": lambda machine, _: machine._push_tuple(machine._pop(2)),
    "TUPLE3": lambda machine, _: machine._push_tuple(machine._pop(3)),
    "LIST": lambda machine, _: machine._stack.append(machine._pop_marked()),
    "DICT": lambda machine, _: machine._push_dict(machine._pop_marked()),
    "APPEND": lambda machine, _: machine._append(machine._pop(1)),
    "APPENDS": lambda machine, _: machine._append(machine._pop_marked()),
    "SETITEM": lambda machine, _: machine._set_items(machine._pop(2)),
    "SETITEMS": lambda machine, _: machine._set_items(machine._pop_marked()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), Unpickler._memoize),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Unpickler._recall),
    "GLOBAL": lambda machine, name: machine._push_name(*name.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine._push_name(*machine._pop(2)),
    "REDUCE": Unpickler._call,
    "BUILD": Unpickler._build,
    "BINPERSID": Unpickler._persistent_id,
}


class _Finisher:
    """Copies containers with their unfinished values finished.

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
        if isinstance(node, Unfinished):
            return self._make(node)
        if type(node) is dict:
            return {key: self.visit(value, depth + 1) for key, value in node.items()}
        if type(node) in (list, tuple):
            return type(node)(self.visit(value, depth + 1) for value in node)
        if not isinstance(node, _LEAVES):
            raise ValueError("it holds something that is neither array nor number nor text")
        return node

    def _make(self, node: Unfinished) -> np.ndarray:
        if id(node) not in self._made:
            array = self._made[id(node)] = node.value()
            self._max_bytes -= array.nbytes
            if self._max_bytes < 0:
                raise ValueError("its arrays are larger than the file")
        return self._made[id(node)]
