"""Listens to the events that vLLM publishes of its KV cache (ZMQ), and keeps what is held at what they say.

vLLM binds an address of files (`ipc://`) and connects to one of a host (`tcp://127.0.0.1:5557`), so there we bind. When
a publisher comes, it is asked for all that it can tell again; when it goes, its blocks are gone with it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from capstan_worker.kv_events.follower import Follower, read_sequence, write_sequence
from capstan_worker.kv_events.held import HeldBlocks
from capstan_worker.kv_events.stream import render_held
from capstan_worker.kv_events.table import BlockTable

log = logging.getLogger(__name__)
MOST_WAITING: Final = 1000
"""Batches that wait to be read; what comes beyond is missed, and asked for."""
MOST_BATCH_BYTES: Final = 64 * 2**20
"""Of one message. The events of a million tokens are some megabytes."""
REPLAYED_BATCHES: Final = 900
"""So many vLLM is told to keep: of an answer of more than 1,000 messages its socket drops what is not yet sent."""
_SILENT_SECONDS: Final = 2.0
"""After so long without a further batch nothing more is told again."""
_AGAIN_SECONDS: Final = 5.0
_EVENTS: Final = zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.DISCONNECTED


@dataclass(frozen=True)
class Addresses:
    """Where an engine publishes."""

    events: str
    """Such as tcp://127.0.0.1:5557."""
    replay: str = ""
    """Where it tells again what was missed; "": nowhere."""


class EventSubscriber:
    """Follows one engine. To be run, and asked, on one event loop."""

    def __init__(self, addresses: Addresses) -> None:
        self.held = HeldBlocks()
        """The blocks of the engine, as far as they are known."""
        self._addresses = addresses
        self._follower = Follower(BlockTable(self.held))
        self._connected = False

    def render(self) -> str:
        """Give the metrics in Prometheus' text format."""
        return render_held(self.held) + self._follower.render()

    async def run(self) -> None:
        """Listen until cancelled, and end the streams then. An address that cannot be had is tried again."""
        try:
            while True:
                try:
                    await self._listen()
                except zmq.ZMQError as error:
                    found = {"address": self._addresses.events, "reason": str(error)}
                    log.warning("cannot listen to the engine's events", extra=found)
                self._gone()
                await asyncio.sleep(_AGAIN_SECONDS)
        finally:
            self.held.close()

    async def _listen(self) -> None:
        with zmq.asyncio.Context() as context, context.socket(zmq.SUB) as socket:
            socket.linger = 0
            socket.rcvhwm = MOST_WAITING
            socket.maxmsgsize = MOST_BATCH_BYTES
            socket.subscribe(b"")
            monitor = socket.get_monitor_socket(_EVENTS)
            try:
                _open(socket, self._addresses.events)
                poller = zmq.asyncio.Poller()
                poller.register(monitor, zmq.POLLIN)
                poller.register(socket, zmq.POLLIN)
                while True:
                    ready = dict(await poller.poll())
                    # NB: first, because what is to be read may be of an engine that came or went.
                    if monitor in ready:
                        event = parse_monitor_message(await monitor.recv_multipart())["event"]
                        await self._see(context, came=event == zmq.Event.HANDSHAKE_SUCCEEDED)
                    elif socket in ready:
                        await self._hear(context, await socket.recv_multipart())
                    await asyncio.sleep(0)
            finally:
                socket.disable_monitor()
                monitor.close(0)

    async def _see(self, context: zmq.asyncio.Context, *, came: bool) -> None:
        self._gone()
        self._connected = came
        if came:
            await self._catch_up(context)

    def _gone(self) -> None:
        self._connected = False
        self._follower.begin_anew()

    async def _hear(self, context: zmq.asyncio.Context, frames: list[bytes]) -> None:
        if not self._connected:
            return  # The rest of an engine that is gone.
        sequence = read_sequence(frames[1]) if len(frames) == 3 else None
        if sequence is None or sequence < 0:
            self._follower.misunderstood("a message must have a topic, a number of 8 bytes and a batch")
            return
        if self._follower.hears(sequence):
            await self._catch_up(context)
        self._follower.take(sequence, frames[2])

    async def _catch_up(self, context: zmq.asyncio.Context) -> None:
        """Take over what was missed, as far as it can be had."""
        if not self._addresses.replay:
            return
        async with aclosing(_replayed(context, self._addresses.replay, self._follower.next)) as batches:
            async for sequence, payload in batches:
                self._follower.take(sequence, payload)


def held_by(subscriber: EventSubscriber | None) -> HeldBlocks | None:
    """Give the blocks that it follows; None of an engine that publishes nothing."""
    return None if subscriber is None else subscriber.held


def render_events(subscriber: EventSubscriber | None) -> str:
    """Give its metrics; nothing of an engine that publishes nothing."""
    return "" if subscriber is None else subscriber.render()


async def _replayed(context: zmq.asyncio.Context, address: str, first: int) -> AsyncGenerator[tuple[int, bytes]]:
    """Ask for the batches from a number on; give those that there are, until these are said to be all, or silence."""
    with context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.maxmsgsize = MOST_BATCH_BYTES
        socket.connect(address)
        await socket.send_multipart((b"", write_sequence(first)))
        # NB: no number comes twice, so that this ends.
        while await socket.poll(_SILENT_SECONDS * 1000):
            frames = await socket.recv_multipart()
            # Releases differ in what stands in front of the number.
            sequence = read_sequence(frames[-2]) if len(frames) >= 3 else None
            if sequence is None or sequence < first:
                return
            first = sequence + 1
            yield sequence, frames[-1]
            await asyncio.sleep(0)


def _open(socket: zmq.asyncio.Socket, address: str) -> None:
    """Connect where vLLM binds, and the other way round: the rule is vLLM's."""
    if address.startswith("ipc://"):
        socket.connect(address)
    else:
        socket.bind(address)
