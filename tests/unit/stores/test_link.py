"""A connection that is made anew in the background: who waits for it, and who does not."""

import asyncio
from collections.abc import Callable
from random import Random

import pytest

from capstan_gateway.stores.link import Link
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.wire import Connection, pack
from support.virtualtime import run_virtually

PING = pack(("PING",))


class Answering(asyncio.Transport):
    """Answers every write at once, or never."""

    def __init__(self, connection: Connection, reply: bytes | None) -> None:
        super().__init__()
        self._connection, self.reply = connection, reply

    def write(self, data: bytes) -> None:  # type: ignore[override]
        if self.reply is not None:
            asyncio.get_running_loop().call_soon(self._connection.data_received, self.reply * data.count(b"PING"))

    def abort(self) -> None:
        pass


class Rig:
    """A link before a server that is there, hangs, or is away."""

    def __init__(self, *, seconds: float = 0.05) -> None:
        self.away = False
        self.reply: bytes | None = b"+PONG\r\n"
        self.takes = 0.0
        self.dialled = 0
        self.connections: list[Connection] = []
        self.link = Link(self._dial, seconds=seconds, rng=Random(1))  # noqa: S311 - jitter

    async def _dial(self, on_lost: Callable[[Connection], object]) -> Connection:
        self.dialled += 1
        await asyncio.sleep(self.takes)
        if self.away:
            raise ConnectionRefusedError
        connection = Connection(seconds=0.05, on_lost=on_lost)
        connection.connection_made(Answering(connection, self.reply))
        self.connections.append(connection)
        return connection


async def fails(link: Link) -> float:
    """Call, and say after what time it failed."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(StoreDown):
        await link.send(PING)
    return loop.time() - began


def test_the_first_calls_wait_for_a_connection() -> None:
    """Calls before there is a connection wait for it, all of them for one."""

    async def main() -> None:
        rig = Rig()
        rig.takes = 0.03
        assert await asyncio.gather(*(rig.link.send(PING) for _ in range(5))) == [b"PONG"] * 5
        assert rig.dialled == 1
        await rig.link.aclose()

    run_virtually(main())


def test_a_connect_that_takes_long() -> None:
    """Nobody waits for a connection beyond the deadline of a call, and after that nobody waits at all."""

    async def main() -> None:
        rig = Rig()
        rig.takes = 0.5
        assert 0.04 < await fails(rig.link) < 0.06
        assert await fails(rig.link) == 0
        await asyncio.sleep(0.5)
        assert await rig.link.send(PING) == b"PONG"
        await rig.link.aclose()

    run_virtually(main())


def test_an_outage_costs_one_deadline() -> None:
    """A server that hangs costs one deadline; every further call fails at once until it has answered a new dial."""

    async def main() -> None:
        rig = Rig()
        heard: list[str] = []
        rig.link.on_up, rig.link.on_down = lambda: heard.append("up"), lambda: heard.append("down")
        assert await rig.link.send(PING) == b"PONG"
        rig.away = True
        rig.connections[0]._transport.reply = None  # type: ignore[union-attr]
        assert 0.04 < await fails(rig.link) < 0.06
        assert [await fails(rig.link) for _ in range(100)] == [0] * 100
        assert (rig.link.connected, heard) == (False, ["up", "down"])
        await asyncio.sleep(20)
        assert rig.dialled < 30
        rig.away = False
        await asyncio.sleep(5)
        assert await rig.link.send(PING) == b"PONG"
        assert (rig.link.connected, rig.link.failure, heard) == (True, None, ["up", "down", "up"])
        await rig.link.aclose()

    run_virtually(main())


def test_a_server_that_answers_no_calls() -> None:
    """One that takes connections and answers nothing costs a deadline less and less often, not ten times a second."""

    async def main() -> None:
        rig = Rig()
        rig.reply = None
        waited = 0.0
        loop = asyncio.get_running_loop()
        end = loop.time() + 60
        while loop.time() < end:
            waited += await fails(rig.link)
            await asyncio.sleep(0.01)
        assert waited < 60 * 0.05
        await rig.link.aclose()

    run_virtually(main())


def test_a_master_that_is_none_any_more() -> None:
    """A server that says it is read-only is left, and looked for anew."""

    async def main() -> None:
        rig = Rig()
        rig.reply = b"-READONLY You can't write against a read only replica.\r\n"
        await fails(rig.link)
        rig.reply = b"+PONG\r\n"
        await asyncio.sleep(1)
        assert (rig.dialled, await rig.link.send(PING)) == (2, b"PONG")
        await rig.link.aclose()
        await fails(rig.link)

    run_virtually(main())
