"""Processes that end, are killed or fall silent, and what the others learn of it."""

import queue
import socket
import threading

import pytest

from perceiver_io.errors import REPEAT, UserError
from perceiver_io.training import liveness
from perceiver_io.training.liveness import UnmetError, Watch, meet


class Run:
    """A first process and two others in this one, with what each of them was told."""

    def __init__(self):
        self.told = [queue.Queue() for _ in range(3)]
        pairs = [socket.socketpair() for _ in range(2)]
        self.ends = [end for pair in pairs for end in pair]
        peers = [{1: pairs[0][0], 2: pairs[1][0]}, {0: pairs[0][1]}, {0: pairs[1][1]}]
        self.watches = [
            Watch(index, connections, lambda *what, told=told: told.put(what))
            for index, (connections, told) in enumerate(zip(peers, self.told, strict=True))
        ]

    def cut(self, end):
        """As the system does when a process is killed."""
        self.ends[end].shutdown(socket.SHUT_RDWR)


@pytest.fixture
def run():
    run = Run()
    yield run
    for watch in run.watches:
        watch.leave()
    for end in run.ends:
        end.close()


def test_all_learn_who_was_killed(run):
    run.cut(1)  # process 1's end
    assert run.told[0].get(timeout=5) == run.told[2].get(timeout=5) == (1, REPEAT)


def test_all_learn_of_an_error_and_its_status(run):
    run.watches[2].leave(2)
    assert run.told[0].get(timeout=5) == run.told[1].get(timeout=5) == (2, 2)


def test_who_leaves_as_all_do_is_not_missed(run):
    run.watches[1].leave()
    run.cut(1)
    run.watches[2].leave(1)
    assert run.told[0].get(timeout=5) == (2, 1) and run.told[0].empty()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_processes_meet_in_any_order_and_strangers_are_ignored():
    port, found = free_port(), {}

    def come(index):
        found[index] = meet(f"127.0.0.1:{port + 1}", 3, index, patience=10)

    threads = [threading.Thread(target=come, args=(index,)) for index in (2, 0, 1)]
    for thread in threads[:2]:
        thread.start()
    stranger = liveness._reach  # the same retries
    with pytest.raises(OSError):
        stranger("127.0.0.1", port, "GET /", liveness.time.monotonic() + 0.3)
    threads[2].start()
    for thread in threads:
        thread.join()
    assert {index: sorted(peers) for index, peers in found.items()} == {0: [1, 2], 1: [0], 2: [0]}
    for peers in found.values():
        for connection in peers.values():
            # Their systems notice that a host is gone.
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            connection.close()


@pytest.mark.parametrize(
    ("count", "index", "message"),
    [
        (3, 0, "The 3 processes of --num_processes did not all come .* no word of process 1, 2"),
        (2, 1, "Process 1 did not reach process 0 at 127.0.0.1:.*: Connection refused"),
    ],
)
def test_those_who_do_not_come_are_named(count, index, message):
    with pytest.raises(UnmetError, match=message) as unmet:
        meet(f"127.0.0.1:{free_port() + 1}", count, index, patience=0.1)
    assert unmet.value.status == REPEAT


@pytest.mark.parametrize("address", ["host", "host:", ":12", "host:port", "host:70000"])
def test_an_address_of_another_form(address):
    with pytest.raises(UserError, match=f"--coordinator_address={address} is not HOST:PORT"):
        meet(address, 2, 1)
