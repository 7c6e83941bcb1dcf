"""A reader of a worker's /kv-events, as gateways are."""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from capstan_contract.kv_events import KV_EVENTS_PATH, Change, Head, read_change, read_head
from support.wait import wait_until


def apply(change: Change, names: set[int]) -> None:
    """Do to what a reader knows what a line says."""
    if change.cleared:
        names.clear()
    names -= set(change.removed)
    names |= set(change.stored)


class Listener:
    """Reads a stream in a thread of its own."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        connection.request("GET", KV_EVENTS_PATH)
        assert connection.sock is not None
        self._socket = connection.sock
        self._answer = connection.getresponse()
        assert self._answer.status == 200, self._answer.read()
        self.type = self._answer.headers["content-type"]
        self.head: Head = read_head(self._answer.readline())
        self.names: set[int] = set()
        """What is there, as far as it was told."""
        self.changes: list[Change] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        try:
            while line := self._answer.readline():
                change = read_change(line)
                self.changes.append(change)
                apply(change, self.names)
        except (OSError, ValueError, http.client.HTTPException):
            pass
        finally:
            self.ended.set()

    def close(self) -> None:
        """Close the connection, which ends the thread."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)
        self._answer.close()

    def wait_for(self, names: set[int], *, what: str, seconds: float = 10) -> None:
        """Wait until exactly these blocks are there."""
        wait_until(lambda: self.names == names, seconds=seconds, every=0.02, what=what)


@contextmanager
def listening(worker_port: int) -> Iterator[Listener]:
    """Listen until the block ends."""
    connection = http.client.HTTPConnection("127.0.0.1", worker_port, timeout=30)
    listener: Listener | None = None
    try:
        listener = Listener(connection)
        yield listener
    finally:
        if listener is not None:
            listener.close()
        connection.close()
