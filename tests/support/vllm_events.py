"""vLLM's side of its KV cache events: what it publishes, in the forms of its releases."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import zmq

END = (-1).to_bytes(8, "big", signed=True)


def stored(
    hashes: Sequence[bytes | int], tokens: Sequence[int], *, parent: bytes | int | None = None, **fields: Any
) -> dict[str, Any]:
    """Give an event as vLLM 0.32 writes it."""
    said = {"block_size": len(tokens) // len(hashes), "lora_id": None, "medium": "GPU", "lora_name": None, **fields}
    return {
        "type": "BlockStored", "block_hashes": list(hashes), "parent_block_hash": parent, "token_ids": list(tokens),
        **said,
    }  # fmt: skip


def removed(hashes: Sequence[bytes | int], *, medium: str | None = "GPU", **fields: Any) -> dict[str, Any]:
    """Give an event as vLLM 0.32 writes it."""
    return {"type": "BlockRemoved", "block_hashes": list(hashes), "medium": medium, **fields}


CLEARED: dict[str, Any] = {"type": "AllBlocksCleared"}


def batch(*events: Any) -> bytes:
    """Give a batch as it is published."""
    return msgspec.msgpack.encode([1.5, list(events), 0])


class Publisher:
    """Publishes, and tells again, as vLLM's `ZmqEventPublisher` does."""

    def __init__(self, events: str, replay: str, *, kept: int = 900) -> None:
        self._context = zmq.Context()
        self._pub = self._context.socket(zmq.PUB)
        self._pub.linger = 0
        if events.startswith("ipc://"):
            self._pub.bind(events)
        else:
            self._pub.connect(events)
        self._replay = self._context.socket(zmq.ROUTER)
        self._replay.linger = 0
        self._replay.bind(replay)
        self._kept = kept
        self.buffer: list[tuple[int, bytes]] = []
        self.sequence = 0
        self.asked = 0
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def publish(self, *events: Any, heard: bool = True) -> None:
        """Publish a batch; without `heard` it is lost on its way."""
        self.send((self.sequence).to_bytes(8, "big"), batch(*events), heard=heard)

    def send(self, number: bytes, payload: bytes, *, heard: bool = True) -> None:
        """Publish any frames."""
        with self._lock:
            if heard:
                self._pub.send_multipart((b"", number, payload))
            self.buffer.append((self.sequence, payload))
            del self.buffer[: -self._kept]
            self.sequence += 1

    def raw(self, *frames: bytes) -> None:
        """Publish frames that are no batch."""
        with self._lock:
            self._pub.send_multipart(frames)

    def _serve(self) -> None:
        while not self._done.is_set():
            if not self._replay.poll(10):
                continue
            client, _, first = self._replay.recv_multipart()
            self.asked += 1
            with self._lock:
                again = [(number, payload) for number, payload in self.buffer if number >= int.from_bytes(first, "big")]
            for number, payload in again:
                self._replay.send_multipart((client, b"", b"", number.to_bytes(8, "big"), payload))
            self._replay.send_multipart((client, b"", b"", END, b""))

    def close(self) -> None:
        """End, as an engine that dies."""
        self._done.set()
        self._thread.join(10)
        self._pub.close(0)
        self._replay.close(0)
        self._context.destroy(0)


@contextmanager
def publisher(events: str, replay: str, **options: Any) -> Iterator[Publisher]:
    """Publish until the block ends."""
    found = Publisher(events, replay, **options)
    try:
        yield found
    finally:
        found.close()
