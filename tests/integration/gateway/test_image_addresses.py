"""Which addresses are asked for an image when the name of its host is somebody's who would like it to be others."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from capstan_gateway.images.fetch import FetchRules, ImageFetcher
from capstan_gateway.images.outcome import Failure, Outcome
from capstan_gateway.life.threads import Threads
from capstan_gateway.memory import MemoryBudget
from support.loopclock import loop_clock
from support.rawserver import Peer, RawServer, ok, raw_server

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 40
PUBLIC, PRIVATE = "127.0.0.1", "127.0.0.2"
"""Both are of this machine; what the fetcher is told is that the first one is public."""


class Names:
    """A name server in somebody else's hands: each look-up gives the next answer, the last one for ever."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def getaddrinfo(self, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        """Answer as the system's resolver does."""
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not answer:
            raise socket.gaierror(socket.EAI_AGAIN, "the name server does not answer")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in answer]


async def _serve(peer: Peer) -> None:
    await peer.request()
    await peer.send(ok(PNG, b"content-type: image/png", b"connection: close"))


@asynccontextmanager
async def _hosts() -> AsyncIterator[tuple[RawServer, RawServer]]:
    """Two hosts, of which the second one's address is private, at one port."""
    async with raw_server(_serve, host=PUBLIC) as public, raw_server(_serve, host=PRIVATE, port=public.port) as private:
        yield public, private


@asynccontextmanager
async def _fetcher(port: int) -> AsyncIterator[ImageFetcher]:
    rules = FetchRules(hosts=(f"images.test:{port}",), max_bytes=1000, seconds=30, allow_http=True)
    threads = Threads("images")
    fetcher = ImageFetcher(rules, threads, allowed=lambda address: address == PUBLIC)
    try:
        yield fetcher
    finally:
        await fetcher.aclose()
        threads.close()


async def _fetch(fetcher: ImageFetcher, port: int) -> Outcome:
    return await fetcher.fetch(f"http://images.test:{port}/a.png", MemoryBudget(1 << 20).share())


@pytest.mark.parametrize("answer", [(PRIVATE,), (PUBLIC, PRIVATE), (PRIVATE, PUBLIC)])
async def test_a_name_with_one_private_address_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, answer: tuple[str, ...]
) -> None:
    """One address that is not public is enough, wherever it stands: nobody is asked, not even the public one."""
    monkeypatch.setattr(socket, "getaddrinfo", Names(answer).getaddrinfo)
    async with _hosts() as (public, private), _fetcher(public.port) as fetcher:
        got = await _fetch(fetcher, public.port)
        assert isinstance(got, Failure)
        assert "not one of the public internet" in got.why
        assert (public.connections, private.connections) == (0, 0)


async def test_the_address_that_was_checked_is_the_one_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when it is looked up and private right after: it is looked up once, and that counts."""
    names = Names((PUBLIC,), (PRIVATE,))
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    async with _hosts() as (public, private), _fetcher(public.port) as fetcher:
        assert isinstance(await _fetch(fetcher, public.port), str)
        assert (names.asked, public.connections, private.connections) == (1, 1, 0)


async def test_a_name_whose_address_changes_is_checked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that was public and has become private is refused, and its earlier address does not stand in for it."""
    names = Names((PUBLIC,), (PRIVATE,))
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    with loop_clock() as clock:
        async with _hosts() as (public, private), _fetcher(public.port) as fetcher:
            assert isinstance(await _fetch(fetcher, public.port), str)
            clock.put_forward(11)  # what was looked up is known for ten seconds
            got = await _fetch(fetcher, public.port)
            assert isinstance(got, Failure)
            assert "not one of the public internet" in got.why
            assert (names.asked, public.connections, private.connections) == (2, 1, 0)


async def test_what_stands_in_for_a_name_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the name server is silent, what it said last is used: the public address, never one that was refused."""
    names = Names((PUBLIC,), (PRIVATE,), ())
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    with loop_clock() as clock:
        async with _hosts() as (public, private), _fetcher(public.port) as fetcher:
            got = []
            for _ in range(3):
                got.append(await _fetch(fetcher, public.port))
                clock.put_forward(11)
            assert [type(outcome) for outcome in got] == [str, Failure, str]
            assert (names.asked, public.connections, private.connections) == (3, 2, 0)


async def test_a_name_that_was_private_from_the_first_has_nothing_that_stands_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An address that was refused is not remembered for the time when the name server is silent."""
    names = Names((PRIVATE,), ())
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    async with _hosts() as (public, private), _fetcher(public.port) as fetcher:
        got = await asyncio.gather(*(_fetch(fetcher, public.port) for _ in range(2)))
        got.append(await _fetch(fetcher, public.port))
        assert all(isinstance(outcome, Failure) for outcome in got)
        assert (public.connections, private.connections) == (0, 0)
