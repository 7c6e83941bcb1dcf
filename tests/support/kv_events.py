"""A reader of a worker's /kv-events, as gateways are."""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from capstan_contract.kv_events import KV_EVENTS_PATH, Change, Head, read_change, read_head
from support.wait import PATIENCE, wait_until


def apply(change: Change, names: set[int]) -> None:
    """Do to what a reader knows what a line says."""
    if change.cleared:
        names.clear()
    names -= set(change.removed)
    names |= set(change.stored)


class Listener:
    """Listens in a thread of its own, and asks anew when a stream ends."""

    def __init__(self, worker_port: int) -> None:
        self._port = worker_port
        self._closing = threading.Event()
        self._socket: socket.socket | None = None
        self.heads: list[Head] = []
        self.type = ""
        self.names: set[int] = set()
        """What is there, as far as it was told."""
        self.changes: list[Change] = []
        self.ended = threading.Event()
        """Set when a stream has ended."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def head(self) -> Head:
        """Give the head of the newest stream."""
        return self.heads[-1]

    def _run(self) -> None:
        while not self._closing.is_set():
            with suppress(OSError, http.client.HTTPException):
                self._listen()
            self.ended.set()
            self._closing.wait(0.1)

    def _listen(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request("GET", KV_EVENTS_PATH)
            self._socket = connection.sock
            answer = connection.getresponse()
            if answer.status != 200:
                return
            self.type = answer.headers["content-type"]
            head = read_head(answer.readline())
            self.names = set()
            self.heads.append(head)
            while line := answer.readline():
                change = read_change(line)
                names = set(self.names)
                apply(change, names)
                self.names = names
                self.changes.append(change)
        finally:
            connection.close()

    def close(self) -> None:
        """Close the connection, which ends the thread."""
        self._closing.set()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)

    def wait_for(self, names: set[int], *, what: str, seconds: float = PATIENCE) -> None:
        """Wait until exactly these blocks are there."""
        wait_until(lambda: self.names == names, seconds=seconds, every=0.02, what=what)


@contextmanager
def listening(worker_port: int) -> Iterator[Listener]:
    """Listen until the block ends."""
    listener = Listener(worker_port)
    try:
        wait_until(lambda: listener.heads, every=0.02, what="the head of a stream")
        yield listener
    finally:
        listener.close()
