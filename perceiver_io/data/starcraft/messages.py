"""Messages of StarCraft II's protocol, as the package s2clientprotocol defines them.

Its modules are generated for a protobuf that is years older than the one that other packages need,
which refuses to import them. So the definitions, which the modules hold in serialised form, are
read from their source.
"""

import ast
import functools
import importlib.util
from pathlib import Path

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from perceiver_io.errors import UserError

# Each after those that it imports.
_MODULES = (
    "common",
    "data",
    "debug",
    "error",
    "raw",
    "score",
    "spatial",
    "ui",
    "query",
    "sc2api",
)


def message_class(name: str) -> type[Message]:
    """The class of a message of the protocol, such as `ResponseObservation`.

    Raises UserError if the package is not installed.
    """
    return GetMessageClass(_pool().FindMessageTypeByName(f"SC2APIProtocol.{name}"))


@functools.cache
def _pool() -> DescriptorPool:
    spec = importlib.util.find_spec("s2clientprotocol")
    if spec is None or spec.origin is None:
        raise UserError(
            "Recordings of StarCraft II need the package s2clientprotocol: "
            "`pip install s2clientprotocol`. Games in .npz files do not."
        )
    pool = DescriptorPool()
    for module in _MODULES:
        pool.AddSerializedFile(_definitions(Path(spec.origin).with_name(f"{module}_pb2.py")))
    return pool


def _definitions(path: Path) -> bytes:
    """The serialised definitions in a generated module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.keyword) and node.arg == "serialized_pb":
            # A text with one character for each byte, as the only argument of a conversion.
            constants = [x.value for x in ast.walk(node.value) if isinstance(x, ast.Constant)]
            return next(x for x in constants if isinstance(x, str)).encode("latin1")
    raise UserError(
        f"{path} is not as in s2clientprotocol 5.0: install that version, "
        "`pip install 's2clientprotocol<5.1'`."
    )
