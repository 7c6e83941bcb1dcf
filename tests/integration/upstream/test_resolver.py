"""Names to addresses."""

import asyncio

import pytest

from capstan_gateway.upstream.resolver import Resolver


async def test_callers_share_one_look_up_and_its_answer_is_used_again() -> None:
    """Five callers at once and one later ask once."""
    asked = []

    async def look_up(host: str) -> tuple[str, ...]:
        asked.append(host)
        await asyncio.sleep(0)
        return ("10.0.0.1", "10.0.0.2")

    resolver = Resolver(10.0, look_up=look_up)
    answers = await asyncio.gather(*(resolver.resolve("engine.test") for _ in range(5)))
    assert {*answers, await resolver.resolve("engine.test")} == {("10.0.0.1", "10.0.0.2")}
    assert asked == ["engine.test"]


async def test_an_old_answer_is_better_than_none() -> None:
    """While the resolver fails, the last addresses are used; a name never resolved raises."""
    working = True

    async def look_up(host: str) -> tuple[str, ...]:
        if not working:
            raise OSError("resolver down")
        return ("10.0.0.1",)

    resolver = Resolver(0.0, look_up=look_up)
    await resolver.resolve("engine.test")
    working = False
    assert await resolver.resolve("engine.test") == ("10.0.0.1",)
    with pytest.raises(OSError, match="resolver down"):
        await resolver.resolve("other.test")


async def test_one_caller_going_away_does_not_end_the_look_up_of_another() -> None:
    """Cancelling a caller leaves the shared look-up to the others."""
    proceed = asyncio.Event()

    async def look_up(host: str) -> tuple[str, ...]:
        await proceed.wait()
        return ("10.0.0.1",)

    resolver = Resolver(10.0, look_up=look_up)
    first = asyncio.create_task(resolver.resolve("engine.test"))
    second = asyncio.create_task(resolver.resolve("engine.test"))
    await asyncio.sleep(0)
    first.cancel()
    proceed.set()
    assert await second == ("10.0.0.1",)
    assert first.cancelled() or isinstance(await asyncio.gather(first, return_exceptions=True), list)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "2001:db8::7"])
async def test_an_address_is_not_looked_up(address: str) -> None:
    """IP addresses never reach the resolver."""

    async def look_up(host: str) -> tuple[str, ...]:
        raise AssertionError(f"looked up {host}")

    assert await Resolver(10.0, look_up=look_up).resolve(address) == (address,)
