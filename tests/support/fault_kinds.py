"""The faults: what is done to a world that is under load, and what puts it right again.

Each lasts as long as a person, or Kubernetes, would need at least to notice, or longer than the queue's leases where
that makes a difference; `turn` counts how often it was done, and takes turns among those that it may strike.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from capstan_contract.queue.names import ALIVE_MS, LEASE_MS
from support.fault_world import World

Strike = Callable[[World, int], Awaitable[None]]
HOUR: Final = 3600
LEASE_SECONDS: Final = LEASE_MS / 1000
ALIVE_SECONDS: Final = ALIVE_MS / 1000
SOON_SECONDS: Final = 2.0
"""How long a process is away that Kubernetes starts again."""


@dataclass(frozen=True)
class Fault:
    """One kind."""

    title: str
    strike: Strike
    """Does it, and puts it right."""
    clocks: bool = False
    """Whether processes need clocks that can be set."""


async def _worker_killed(world: World, turn: int) -> None:
    worker = world.workers["ab"[turn % 2]]
    worker.kill()
    await asyncio.sleep(SOON_SECONDS)
    await worker.start()


async def _worker_frozen(world: World, turn: int) -> None:
    worker = world.workers["ab"[turn % 2]]
    worker.pause()
    await asyncio.sleep(LEASE_SECONDS + 3)
    worker.go_on()


async def _gateway_killed(world: World, turn: int) -> None:
    gateway = world.gateways[turn % 2]
    gateway.kill()
    await asyncio.sleep(SOON_SECONDS)
    await gateway.part.start()


async def _node_lost(world: World, turn: int) -> None:
    gateway, worker = world.gateways[turn % 2], world.workers["ab"[turn % 2]]
    gateway.kill()
    worker.kill()
    if turn % 2:
        world.engine.kill()
    await asyncio.sleep(SOON_SECONDS)
    await asyncio.gather(gateway.part.start(), worker.start(), *([world.engine.start()] if turn % 2 else []))


async def _redis_killed(world: World, turn: int) -> None:
    world.redis.kill()
    await asyncio.sleep((0.2, SOON_SECONDS)[turn % 2])
    await asyncio.to_thread(world.redis.start)


async def _redis_away(world: World, turn: int) -> None:
    world.redis.kill()
    await asyncio.sleep((LEASE_SECONDS + 2, ALIVE_SECONDS + 2)[turn % 2])
    await asyncio.to_thread(world.redis.start)


async def _redis_emptied(world: World, _: int) -> None:
    world.redis.kill()
    world.redis.forget()
    await asyncio.to_thread(world.redis.start)


async def _redis_full(world: World, _: int) -> None:
    def most(size: str) -> None:
        with world.client() as client:
            client.config_set("maxmemory", size)

    await asyncio.to_thread(most, "1")
    await asyncio.sleep(6)
    await asyncio.to_thread(most, "256mb")


async def _gateway_parted(world: World, turn: int) -> None:
    proxy = world.gateways[turn % 2].proxy
    proxy.stall()
    await asyncio.sleep((5, ALIVE_SECONDS + 3)[turn // 2 % 2])
    await proxy.mend()


async def _gateway_refused(world: World, turn: int) -> None:
    proxy = world.gateways[turn % 2].proxy
    await proxy.refuse()
    await asyncio.sleep((5, ALIVE_SECONDS + 3)[turn // 2 % 2])
    await proxy.mend()


async def _worker_parted(world: World, turn: int) -> None:
    proxy = world.proxies["ab"[turn % 2]]
    if turn % 4 < 2:
        proxy.stall()
    else:
        await proxy.refuse()
    await asyncio.sleep(LEASE_SECONDS + 3)
    await proxy.mend()


async def _engine_hung(world: World, _: int) -> None:
    world.engine.pause()
    await asyncio.sleep(14)  # Until its worker has noticed, and Kubernetes has.
    world.engine.kill()
    await world.engine.start()


async def _engine_killed(world: World, _: int) -> None:
    world.engine.kill()
    await asyncio.sleep(SOON_SECONDS)
    await world.engine.start()


def _clock(name: str) -> Strike:
    async def strike(world: World, turn: int) -> None:
        world.clocks[name].set((HOUR, -HOUR)[turn // 2 % 2] if turn % 2 == 0 else 0)
        await asyncio.sleep(SOON_SECONDS)

    return strike


async def _clocks_of_others(world: World, turn: int) -> None:
    world.clocks[("1", "a")[turn % 2]].set((HOUR, -HOUR)[turn // 2 % 2])
    await asyncio.sleep(SOON_SECONDS)


FAULTS: Final[dict[str, Fault]] = {
    "worker-killed": Fault("`kill -9` of a worker", _worker_killed),
    "worker-frozen": Fault("worker stands still for longer than its leases", _worker_frozen),
    "gateway-killed": Fault("`kill -9` of a gateway", _gateway_killed),
    "node-lost": Fault("a gateway, a worker and its engine at once, as with their node", _node_lost),
    "redis-killed": Fault("`kill -9` of Redis, back within 2 s", _redis_killed),
    "redis-away": Fault("`kill -9` of Redis, back after 12 to 17 s", _redis_away),
    "redis-emptied": Fault("Redis back without its data", _redis_emptied),
    "redis-full": Fault("Redis out of memory", _redis_full),
    "gateway-parted": Fault("gateway and Redis parted: packets lost, 5 or 18 s", _gateway_parted),
    "gateway-refused": Fault("gateway and Redis parted: connections reset and refused, 5 or 18 s", _gateway_refused),
    "worker-parted": Fault("worker and Redis parted for 13 s", _worker_parted),
    "engine-hung": Fault("engine hangs (SIGSTOP)", _engine_hung),
    "engine-killed": Fault("engine crashes (`kill -9`)", _engine_killed),
    "clock-redis": Fault("clock of Redis jumps by an hour, forward and back", _clock("redis"), clocks=True),
    "clock-others": Fault("clock of a gateway, of a worker jumps by an hour", _clocks_of_others, clocks=True),
}
