"""Ends all processes of a run within seconds when one of them has ended.

JAX notices it too, but then aborts the others in C++, with a message and a status that do not tell
what to do. Here, each process has a connection to the first one, over which a process that ends by
an error says so. The system of a host closes the connections of a process that is killed; that a
host is switched off, or cut off, is noticed by the systems of the others, which probe the
connections (TCP keep-alive), whatever their processes are busy with.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping

from perceiver_io.errors import REPEAT, UserError

# The status of a program that did not finish, and does when the same command is repeated: that of
# a temporary failure in sysexits.h.
# The port of these connections is this one below that of JAX.
_BELOW = 1
# A silent connection is probed after so many seconds, at this interval, so many times.
_KEEPALIVE = {"TCP_KEEPIDLE": 3, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
_GREETING = 10.0  # seconds in which who connects says which process it is
_MEETING, _RETRY = 300.0, 0.2  # seconds; JAX, too, waits for five minutes

React = Callable[[int, int], None]
"""What to do when process WHO has ended with a status; REPEAT if it was killed or is silent."""


class UnmetError(UserError):
    """Another process did not come. Trying again may help."""

    status = REPEAT


class Watch:
    """Follows the other processes of a run: in the first process all, in the others the first."""

    def __init__(self, index: int, peers: Mapping[int, socket.socket], react: React):
        """Starts to follow.

        Args:
            index: of this process.
            peers: connections to the processes to follow, by index.
            react: called once, in a thread of its own, when a process has ended by itself.
        """
        self._index, self._peers, self._react = index, peers, react
        self._has_reacted = threading.Lock()
        self._left = False
        for peer, connection in peers.items():
            connection.settimeout(None)
            threading.Thread(target=self._follow, args=(peer, connection), daemon=True).start()

    def leave(self, status: int = 0) -> None:
        """Says that this process ends: with status 0 as all do, or else by an error."""
        self._left = True
        self._tell(self._index, status)

    def _follow(self, peer: int, connection: socket.socket) -> None:
        who, status = peer, REPEAT
        with contextlib.suppress(OSError, ValueError), connection.makefile() as lines:
            for line in lines:
                if line.startswith("ended"):
                    who, status = map(int, line.split()[1:])
                    break
        if status != 0 and not self._left and self._has_reacted.acquire(blocking=False):
            self._tell(who, status)
            self._react(who, status)

    def _tell(self, who: int, status: int) -> None:
        for connection in self._peers.values():
            # What is wrong with a connection is noticed by its reader.
            with contextlib.suppress(OSError):
                connection.sendall(f"ended {who} {status}\n".encode())


def meet(
    address: str, count: int, index: int, patience: float = _MEETING
) -> dict[int, socket.socket]:
    """Connects all processes with the first one; returns when all are there.

    Args:
        address: host:port of JAX's coordinator; the port below it is used here.
        count: the number of processes.
        index: of this process.
        patience: seconds to wait for the others.

    Raises UserError if the address has another form, UnmetError if others do not come.
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and _BELOW < int(port) < 2**16):
        raise UserError(f"--coordinator_address={address} is not HOST:PORT, such as 10.0.0.1:1234.")
    deadline = time.monotonic() + patience
    try:
        if index == 0:
            return _receive(int(port) - _BELOW, count, deadline)
        return {0: _reach(host.strip("[]"), int(port) - _BELOW, index, deadline)}
    except OSError as error:
        raise UnmetError(_unmet(address, count, index, error)) from error


def _receive(port: int, count: int, deadline: float) -> dict[int, socket.socket]:
    """Waits for the connections of all other processes."""
    found: dict[int, socket.socket] = {}
    with _server(port, count, deadline) as server:
        while len(found) < count - 1:
            server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                connection, _ = server.accept()
            except TimeoutError as error:
                missing = ", ".join(str(i) for i in range(1, count) if i not in found)
                raise TimeoutError(f"no word of process {missing}") from error
            with contextlib.suppress(OSError, ValueError):
                # Others than ours may try a port.
                connection.settimeout(_GREETING)
                word, index = connection.recv(64).decode().split()
                if word == "process" and 0 < int(index) < count:
                    found[int(index)] = connection
    for connection in found.values():
        _keep_alive(connection)
        connection.sendall(b"all\n")
    return found


def _server(port: int, count: int, deadline: float) -> socket.socket:
    """Listens at the port, as soon as it is free: a run that is restarted may have just left it."""
    family = socket.AF_INET6 if _has_ipv6() else socket.AF_INET
    dual = family == socket.AF_INET6
    while True:
        try:
            return socket.create_server(
                ("", port), family=family, backlog=count, dualstack_ipv6=dual
            )
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY)


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::", 0))
        return socket.has_dualstack_ipv6()
    return False


def _reach(host: str, port: int, index: int, deadline: float) -> socket.socket:
    """Connects to the first process, as soon as it listens, and waits until all have come."""
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=5)
            connection.sendall(f"process {index}\n".encode())
            connection.settimeout(max(deadline - time.monotonic(), 0.01))
            if connection.recv(64).startswith(b"all"):
                _keep_alive(connection)
                return connection
            raise ConnectionError("process 0 has ended")
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY)


def _keep_alive(connection: socket.socket) -> None:
    """Lets the system notice within ten seconds that the other host is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # not on every system
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _unmet(address: str, count: int, index: int, error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    if index == 0:
        return (
            f"The {count} processes of --num_processes did not all come to {address}: {reason}. "
            "Start the same command on every host within five minutes, each with its own "
            "--process_id, and let them reach this port and the one before it."
        )
    return (
        f"Process {index} did not reach process 0 at {address}: {reason}. Check that process 0 "
        "runs, that --coordinator_address is the same for all, and that no firewall is between."
    )
