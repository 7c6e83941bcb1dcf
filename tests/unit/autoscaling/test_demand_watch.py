"""Asking the gateway's replicas what is asked of models."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from capstan_contract.demand import ModelDemand
from capstan_operator.autoscaling.demand import DemandWatch, Rhythm
from capstan_operator.gateway_config import replicas as gateways
from capstan_operator.kube.errors import Unavailable
from capstan_operator.resources.resource import ObjectKey
from support.ports import free_port
from support.replicas import Replica, own_address, serve
from support.wait import PATIENCE, eventually

KEY = ObjectKey("team", "llama")


@asynccontextmanager
async def watching(
    port: int, *pods: str, leaving: tuple[gateways.Replica, ...] = (), fresh: float = 60.0, wanted: bool = True
) -> AsyncIterator[DemandWatch]:
    """A watch that asks these pods again and again."""

    async def going() -> tuple[gateways.Replica, ...]:
        return leaving

    async def ready() -> tuple[gateways.Replica, ...]:
        if "broken" in pods:
            raise Unavailable("no answer")
        return tuple(gateways.Replica(pod, (own_address(),)) for pod in pods)

    rounds = asyncio.Event()
    watch = DemandWatch(
        replicas=ready,
        leaving=going,
        port=port,
        is_wanted=lambda: wanted,
        on_round=rounds.set,
        rhythm=Rhythm(every=0.02, share=1.0, fresh=fresh),
    )
    task = asyncio.create_task(watch.run())
    if wanted:
        await asyncio.wait_for(rounds.wait(), PATIENCE)
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_all_replicas_are_asked_and_added_up() -> None:
    """Two that say the same are twice as much."""
    port, replica = free_port(), Replica()
    replica.demand = {str(KEY): ModelDemand(inFlight=2)}
    async with serve(replica, port), watching(port, "a", "b") as watch:
        found = watch.of(KEY)
        assert found
        assert (found.in_flight, found.complete) == (4, True)
        assert watch.of(ObjectKey("team", "other")) is None


async def test_a_gateway_without_the_page_says_nothing() -> None:
    """As one of a release before it, or one that is silent: that is not zero."""
    port = free_port()
    async with serve(Replica(), port), watching(port, "a") as watch:
        assert watch.of(KEY) is None


async def test_what_was_said_too_long_ago_is_not_known() -> None:
    """Where the list of replicas cannot be had, too."""
    port, replica = free_port(), Replica()
    replica.demand = {str(KEY): ModelDemand(inFlight=2)}
    async with watching(port, "broken") as watch:
        assert watch.of(KEY) is None
    async with serve(replica, port), watching(port, "a", fresh=-1.0) as watch:
        assert watch.of(KEY) is None


async def test_nobody_is_asked_for_nobody() -> None:
    """Without a scaled model the gateway is left alone, and asked as soon as there is one."""
    port, replica = free_port(), Replica()
    replica.demand = {str(KEY): ModelDemand(inFlight=2)}
    wanted = [False]
    async with serve(replica, port):

        async def ready() -> tuple[gateways.Replica, ...]:
            assert wanted[0]
            return (gateways.Replica("a", (own_address(),)),)

        watch = DemandWatch(
            replicas=ready, port=port, is_wanted=lambda: wanted[0], on_round=lambda: None, rhythm=Rhythm(every=0.01)
        )
        task = asyncio.create_task(watch.run())
        for _ in range(5):
            await asyncio.sleep(0.01)
        assert watch.of(KEY) is None
        wanted[0] = True

        async def is_known() -> bool:
            return watch.of(KEY) is not None

        await eventually(is_known, what="the demand")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_gateways_that_are_leaving_still_answer_is_asked_of_a_model() -> None:
    """A stream of one that ends counts until it does; one that does not answer is missed by nobody, nor asked again."""
    port, replica = free_port(), Replica()
    replica.demand = {str(KEY): ModelDemand(inFlight=2)}
    leaving = (gateways.Replica("going", (own_address(),)), gateways.Replica("gone", ("127.0.0.254",)))
    async with serve(replica, port), watching(port, "a", leaving=leaving) as watch:
        found = watch.of(KEY)
        assert found
        assert (found.in_flight, found.complete) == (4, True)
        assert watch._silent == {"gone"}


async def test_who_is_leaving_says_nothing_for_those_that_are_ready() -> None:
    """That nothing is asked of it any more is not what others would say."""
    port, replica = free_port(), Replica()
    replica.demand = {str(KEY): ModelDemand()}
    async with serve(replica, port), watching(port, leaving=(gateways.Replica("going", (own_address(),)),)) as watch:
        assert watch.of(KEY) is None
