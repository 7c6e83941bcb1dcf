"""The worker port: how many may wait for the end of what is in flight, and for how long."""

import asyncio
from typing import Any

import pytest

from capstan_worker.drain import Drain, Drainer
from capstan_worker.health import MOST_WAITING, MOST_WAITING_OF_ONE, WorkerPort


class Subject:
    """A worker that is well."""

    async def not_alive(self) -> str | None:
        """Say that it lives."""
        return None

    async def not_ready(self) -> str | None:
        """Say that it is ready."""
        return None

    async def metrics(self) -> bytes:
        """Have none."""
        return b""


class World:
    """A worker port with something in flight, and its clients."""

    def __init__(self) -> None:
        self.in_flight = 1
        drainer = Drainer(Drain(grace=600, settle=0), self._count, every=0.001)
        self.port = WorkerPort(Subject(), drainer)
        self.answers: list[int] = []

    async def _count(self) -> int:
        return self.in_flight

    def ask(self, address: str, *, stays: asyncio.Event | None = None) -> asyncio.Task[None]:
        """Ask /drain; the client goes when `stays` is set."""
        goes = stays or asyncio.Event()
        asked = [False]

        async def receive() -> dict[str, Any]:
            if not asked[0]:
                asked[0] = True
                return {"type": "http.request", "body": b""}
            await goes.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.answers.append(message["status"])

        return asyncio.create_task(self.port({"path": "/drain", "client": (address, 1)}, receive, send))


async def test_strangers_who_wait_are_bounded_and_take_nobodys_place() -> None:
    """Of one address only a few may wait: the others hear 503 at once, and the kubelet at another address waits."""
    world = World()
    tasks = [world.ask("10.0.0.9") for _ in range(MOST_WAITING_OF_ONE + 3)]
    await asyncio.sleep(0.01)
    assert world.answers == [503] * 3
    hook = world.ask("10.0.0.1")
    await asyncio.sleep(0.01)
    assert not hook.done()
    world.in_flight = 0
    await asyncio.gather(hook, *tasks)
    assert world.answers[3:] == [200] * (MOST_WAITING_OF_ONE + 1)


async def test_all_who_wait_are_bounded() -> None:
    """However many addresses they come from; a place is free again when somebody was answered."""
    world = World()
    tasks = [world.ask(f"10.0.0.{number}") for number in range(MOST_WAITING + 1)]
    await asyncio.sleep(0.01)
    assert world.answers == [503]
    world.in_flight = 0
    await asyncio.gather(*tasks)
    assert world.answers.count(200) == MOST_WAITING
    await world.ask("10.0.1.1")
    assert world.answers[-1] == 200


async def test_one_who_has_gone_does_not_wait() -> None:
    """A client that closes its connection gives its place back, and is not answered."""
    world, goes = World(), asyncio.Event()
    tasks = [world.ask("10.0.0.9", stays=goes) for _ in range(MOST_WAITING_OF_ONE)]
    await asyncio.sleep(0.01)
    goes.set()
    await asyncio.gather(*tasks)
    assert world.answers == []
    again = world.ask("10.0.0.9")
    await asyncio.sleep(0.01)
    assert not again.done()
    world.in_flight = 0
    await again
    assert world.answers == [200]


async def test_an_error_while_waiting_is_not_swallowed() -> None:
    """An engine that cannot be asked is an error of the request, as of any other."""
    world = World()

    async def fails() -> int:
        raise RuntimeError("no engine")

    world._count = fails  # type: ignore[method-assign]
    world.port = WorkerPort(Subject(), Drainer(Drain(grace=600, settle=0), fails))
    with pytest.raises(RuntimeError, match="no engine"):
        await world.ask("10.0.0.1")
