"""Names to addresses."""

import asyncio
import gc
import socket
import threading
from typing import Any

import pytest

from capstan_gateway.upstream.resolver import DNS_THREADS, MAX_NAMES, STALE_SECONDS, Resolver
from support.loopclock import loop_clock


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


async def test_an_answer_is_believed_for_its_time_and_better_than_none_for_longer() -> None:
    """Within its time nobody is asked; behind it each caller asks again; after minutes an old answer is no answer."""
    asked, working = 0, True

    async def look_up(host: str) -> tuple[str, ...]:
        nonlocal asked
        asked += 1
        if not working:
            raise OSError("resolver down")
        return ("10.0.0.1",)

    with loop_clock() as clock, clock.stopped():
        resolver = Resolver(10.0, look_up=look_up)
        began = clock.time()
        await resolver.resolve("engine.test")
        working = False
        clock._stopped_at = began + 9.9
        await resolver.resolve("engine.test")
        assert asked == 1
        for count, later in ((2, 10.0), (3, STALE_SECONDS - 0.1)):
            clock._stopped_at = began + later
            assert await resolver.resolve("engine.test") == ("10.0.0.1",)
            assert asked == count
        clock._stopped_at = began + STALE_SECONDS
        with pytest.raises(OSError, match="resolver down"):
            await resolver.resolve("engine.test")


async def test_names_that_are_remembered_are_bounded() -> None:
    """Of more names than that the one is forgotten whose answer is the oldest."""
    asked: list[str] = []

    async def look_up(host: str) -> tuple[str, ...]:
        asked.append(host)
        return ("10.0.0.1",)

    resolver = Resolver(1e9, look_up=look_up)
    names = [f"e{number}.test" for number in range(MAX_NAMES)]
    for name in (*names, *names):
        await resolver.resolve(name)
    assert asked == names
    await resolver.resolve("one.more")
    await resolver.resolve(names[1])
    assert asked == [*names, "one.more"]
    await resolver.resolve(names[0])
    assert asked == [*names, "one.more", names[0]]


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "a..test", "empty.test"])
async def test_what_cannot_be_a_name_has_no_address(host: str) -> None:
    """A label that is too long or empty, and an answer without an address, are like a name that is not there."""

    async def look_up(asked: str) -> tuple[str, ...]:
        asked.encode("idna")
        return ()

    with pytest.raises(OSError, match="name"):
        await Resolver(10.0, look_up=look_up).resolve(host)


async def test_the_system_is_asked_for_streams_and_its_order_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address once, as it comes."""
    asked: list[Any] = []

    def getaddrinfo(*given: Any, **more: Any) -> list[tuple[Any, ...]]:
        asked.append((given, more))
        found = ("10.0.0.9", "10.0.0.1", "10.0.0.9")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolver = Resolver(10.0)
    assert await resolver.resolve("engine.test") == ("10.0.0.9", "10.0.0.1")
    assert asked == [(("engine.test", None), {"type": socket.SOCK_STREAM})]
    await resolver.aclose()


async def test_a_failure_that_nobody_hears_is_forgotten() -> None:
    """Its callers have gone: it is no unhandled error, and the next caller asks anew."""
    proceed, answers = asyncio.Event(), iter([OSError("resolver down"), ("10.0.0.1",)])

    async def look_up(host: str) -> tuple[str, ...]:
        await proceed.wait()
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    unhandled: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    resolver = Resolver(10.0, look_up=look_up)
    caller = asyncio.create_task(resolver.resolve("engine.test"))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    proceed.set()
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert await resolver.resolve("engine.test") == ("10.0.0.1",)
    assert unhandled == []


async def test_closing_gives_up_what_is_asked() -> None:
    """A look-up that hangs does not keep the process, and leaves no error behind."""
    unhandled: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))

    async def look_up(host: str) -> tuple[str, ...]:
        await asyncio.Event().wait()
        return ()

    resolver = Resolver(10.0, look_up=look_up)
    caller = asyncio.create_task(resolver.resolve("engine.test"))
    await asyncio.sleep(0)
    await resolver.aclose()
    assert {task.get_name() for task in asyncio.all_tasks()} & {"resolve engine.test"} == set()
    await asyncio.wait([caller])
    assert caller.cancelled()
    assert unhandled == []


async def test_names_that_hang_hold_up_few_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """While some wait for a resolver that does not answer, others are resolved; and many may wait for their turn."""
    gate = threading.Event()

    def getaddrinfo(host: str, *given: Any, **more: Any) -> list[tuple[Any, ...]]:
        if host.startswith("hangs"):
            gate.wait(30)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolver = Resolver(10.0)
    hanging = [asyncio.create_task(resolver.resolve(f"hangs{number}.test")) for number in range(DNS_THREADS - 1)]
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        assert await resolver.resolve("engine.test") == ("10.0.0.1",)
    more = [asyncio.create_task(resolver.resolve(f"hangs{number}.test")) for number in range(DNS_THREADS, 200)]
    await asyncio.sleep(0)
    gate.set()
    assert set(await asyncio.gather(*hanging, *more)) == {("10.0.0.1",)}
    await resolver.aclose()
