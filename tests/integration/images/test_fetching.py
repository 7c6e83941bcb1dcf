"""Fetching one image from a real server: where the connection goes, what is believed, and what is told of failures."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from capstan_gateway.images.fetch import ENCODING_FACTOR, MAX_AT_ONCE, MAX_OF_ENTRY, FetchRules, ImageFetcher, data_url
from capstan_gateway.images.outcome import LATE, NO_ROOM, UNREACHABLE, WRONG, Failure, Outcome
from capstan_gateway.life.threads import Threads
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.upstream import resolver
from support.certificates import make_authority, serving_context
from support.ports import free_port
from support.rawserver import Peer, RawServer, raw_server
from support.wait import eventually

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 40
NAME = "img.test"


def answer(body: bytes = PNG, *, kind: str = "image/png", head: str = "200 OK") -> bytes:
    """Give the bytes of an answer."""
    return f"HTTP/1.1 {head}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def always(peer: Peer) -> None:
    """Answer every request with a picture."""
    while True:
        await peer.request()
        await peer.send(answer())


async def never(peer: Peer) -> None:
    """Take the request, and say nothing."""
    await peer.request()
    await peer.gone()


@pytest.fixture
def threads() -> Iterator[Threads]:
    """The thread that encodes."""
    with closing(Threads("documents")) as made:
        yield made


@asynccontextmanager
async def fetching(
    threads: Threads, *hosts: str, allowed: Callable[[str], bool] = lambda _: True, **rules: Any
) -> AsyncIterator[ImageFetcher]:
    """Give a fetcher that may ask these hosts."""
    given = FetchRules(hosts=hosts, **{"max_bytes": 10_000, "seconds": 30.0, "allow_http": True, **rules})
    fetcher = ImageFetcher(given, threads, allowed=allowed)
    try:
        yield fetcher
    finally:
        await fetcher.aclose()


class Names:
    """What the system's resolver says from now on; the last one of the answers stays."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self.answers = [*answers]
        self.asked: list[str] = []

    def __call__(self, host: str) -> list[tuple[Any, ...]]:
        """Answer as getaddrinfo does."""
        self.asked.append(host)
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]


async def fetch(fetcher: ImageFetcher, url: str, *, budget: int = 1 << 24) -> Outcome:
    """Fetch it with memory of its own, and see that what is held is what is there."""
    whole = MemoryBudget(budget)
    share = whole.share()
    outcome = await fetcher.fetch(url, share)
    if isinstance(outcome, str):
        assert share.held == len(outcome)
    return outcome


def same_port(host: str, other: str) -> int:
    """Give a port that is free at both addresses."""
    while True:
        port = free_port()
        with socket.socket() as one, socket.socket() as two:
            try:
                one.bind((host, port))
                two.bind((other, port))
            except OSError:
                continue
            return port


async def test_the_address_that_was_checked_is_asked_whatever_the_name_says_next(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads elsewhere a moment later (rebinding) is asked where it was checked, and checked anew later."""
    names = Names(("127.0.0.1",), ("127.0.0.2",))
    monkeypatch.setattr(resolver, "_ask_system", names)
    port = same_port("127.0.0.1", "127.0.0.2")
    checked: list[str] = []

    def allowed(address: str) -> bool:
        checked.append(address)
        return address == "127.0.0.1"

    async with (
        raw_server(always, port=port) as good,
        raw_server(always, host="127.0.0.2", port=port) as inside,
        fetching(threads, f"{NAME}:{port}", allowed=allowed) as fetcher,
    ):
        assert await fetch(fetcher, f"http://{NAME}:{port}/a") == data_url(PNG)
        assert (names.asked, checked, good.connections) == ([NAME], ["127.0.0.1"], 1)
        assert good.heads[0].startswith(f"GET /a HTTP/1.1\r\nhost: {NAME}:{port}\r\n".encode())
        assert await fetch(fetcher, f"http://{NAME}:{port}/b") == data_url(PNG)
        assert (good.connections, names.asked) == (1, [NAME]), "what is open goes where it was checked to go"
        fetcher._client._resolver._known.clear()  # As when its time has passed.
        for pool in fetcher._client._pools.values():
            pool.retire()
        refused = await fetch(fetcher, f"http://{NAME}:{port}/c")
        assert isinstance(refused, Failure)
        assert (refused.status, "not one of the public internet" in refused.why) == (WRONG, True)
        assert (inside.connections, checked) == (0, ["127.0.0.1", "127.0.0.2"])


@pytest.mark.parametrize("addresses", [("127.0.0.1", "127.0.0.2"), ("127.0.0.2", "127.0.0.1")])
async def test_one_private_address_among_several_is_one_too_many(
    threads: Threads, monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]
) -> None:
    """A host with a public and a private address is not asked at either: who tries the next would end up inside."""
    monkeypatch.setattr(resolver, "_ask_system", Names(addresses))
    async with (
        raw_server(always) as good,
        fetching(threads, f"{NAME}:{good.port}", allowed=lambda address: address == "127.0.0.1") as fetcher,
    ):
        refused = await fetch(fetcher, f"http://{NAME}:{good.port}/a")
        assert isinstance(refused, Failure)
        assert refused.status == WRONG
        assert good.connections == 0


async def test_addresses_that_the_resolver_remembers_were_checked(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it falls back on while it does not answer is what was allowed once, and never what was refused."""
    names = Names(("127.0.0.1",))
    monkeypatch.setattr(resolver, "_ask_system", names)

    def fails(_: str) -> list[tuple[Any, ...]]:
        raise OSError("the resolver is down")

    async with (
        raw_server(never) as server,
        fetching(threads, f"{NAME}:{server.port}", "other.test", allowed=lambda one: one != "127.0.0.1") as fetcher,
    ):
        first = await fetch(fetcher, f"http://{NAME}:{server.port}/")
        monkeypatch.setattr(resolver, "_ask_system", fails)
        second = await fetch(fetcher, f"http://{NAME}:{server.port}/")
        assert [getattr(one, "status", None) for one in (first, second)] == [WRONG, UNREACHABLE]
        assert server.connections == 0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and its certificate for the host of images."""
    return make_authority(tmp_path_factory.mktemp("tls"), NAME)


@asynccontextmanager
async def secure_host(authority: Path, *, seen: list[str | None]) -> AsyncIterator[RawServer]:
    """Run a server with that certificate, which notes the name that it is asked for in the handshake."""
    context = serving_context(authority)
    context.sni_callback = lambda _socket, name, _context: seen.append(name)
    async with raw_server(always, tls=context) as server:
        yield server


async def test_https_believes_the_certificate_of_the_urls_host(
    threads: Threads, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address is connected to, and yet the name in the handshake and in the certificate is the URL's host."""
    monkeypatch.setattr(resolver, "_ask_system", Names(("127.0.0.1",)))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    seen: list[str | None] = []
    async with (
        secure_host(authority, seen=seen) as server,
        fetching(threads, f"{NAME}:{server.port}", allow_http=False) as fetcher,
    ):
        for url in (f"https://{NAME}:{server.port}/a", f"https://{NAME.upper()}.:{server.port}/b"):
            assert await fetch(fetcher, url) == data_url(PNG)
        assert seen == [NAME]
        assert server.heads[0].startswith(f"GET /a HTTP/1.1\r\nhost: {NAME}:{server.port}\r\n".encode())


async def test_a_certificate_for_another_name_is_not_believed(
    threads: Threads, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one of an authority that the system does not know: nothing is sent, and it may be put right there."""
    monkeypatch.setattr(resolver, "_ask_system", Names(("127.0.0.1",)))
    seen: list[str | None] = []
    async with secure_host(authority, seen=seen) as server:
        hosts = (f"{NAME}:{server.port}", f"other.test:{server.port}")
        async with fetching(threads, *hosts) as fetcher:
            strange = await fetch(fetcher, f"https://{NAME}:{server.port}/")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
        async with fetching(threads, *hosts) as fetcher:
            other = await fetch(fetcher, f"https://other.test:{server.port}/")
        assert [getattr(one, "status", None) for one in (strange, other)] == [UNREACHABLE, UNREACHABLE]
        assert (seen, server.heads) == ([NAME, "other.test"], [])


@pytest.mark.parametrize(
    ("says", "status", "why"),
    [
        (answer(head="302 Found"), WRONG, "redirects are not followed"),
        (answer(head="404 Not Found"), WRONG, "status 404"),
        (answer(head="403 Forbidden"), WRONG, "status 403"),
        (answer(head="204 No Content"), WRONG, "status 204"),
        (answer(head="408 Request Timeout"), UNREACHABLE, "status 408"),
        (answer(head="429 Too Many Requests"), UNREACHABLE, "status 429"),
        (answer(head="500 Internal Server Error"), UNREACHABLE, "status 500"),
        (answer(head="503 Service Unavailable"), UNREACHABLE, "status 503"),
        (answer(kind="text/html"), WRONG, "it is none of image/gif"),
        (answer(b"<html>"), WRONG, "it is none of image/gif"),
        (answer(PNG + b"x" * 10_000), WRONG, "larger than 10000 bytes"),
        (answer()[:-5], UNREACHABLE, "broke off"),
        (b"", UNREACHABLE, "could not be reached"),
        (b"nonsense\r\n\r\n", UNREACHABLE, "could not be reached"),
    ],
)
async def test_what_is_wrong_with_an_answer(threads: Threads, says: bytes, status: int, why: str) -> None:
    """What fails again is the client's to mend; what its host may do better another time is worth another try."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(says)

    async with (
        raw_server(script) as server,
        fetching(threads, f"127.0.0.1:{server.port}") as fetcher,
    ):
        failed = await fetch(fetcher, f"http://127.0.0.1:{server.port}/secret")
    assert isinstance(failed, Failure)
    assert (failed.status, why in failed.why) == (status, True), failed
    assert "secret" not in failed.why


async def test_a_host_that_nobody_listens_at_may_be_up_again_later(threads: Threads) -> None:
    """A refused connection and a name that is not known now are worth another try."""
    port = free_port()
    async with fetching(threads, f"127.0.0.1:{port}", f"a.invalid:{port}") as fetcher:
        for host in ("127.0.0.1", "a.invalid"):
            failed = await fetch(fetcher, f"http://{host}:{port}/")
            assert isinstance(failed, Failure)
            assert failed.status == UNREACHABLE


async def test_a_slow_host_is_late(threads: Threads) -> None:
    """What takes longer than allowed was its host's fault, and no word of the client's was wrong."""
    async with raw_server(never) as server, fetching(threads, f"127.0.0.1:{server.port}", seconds=0.2) as fetcher:
        failed = await fetch(fetcher, f"http://127.0.0.1:{server.port}/")
        assert isinstance(failed, Failure)
        assert (failed.status, failed.why) == (LATE, "cannot be fetched: it took longer than 0.2 s")


async def test_who_finds_no_place_is_told_that_the_gateway_is_full(threads: Threads) -> None:
    """To wait in vain for a place is our overload; and the places are free again when those who had them are over."""
    async with raw_server(never) as server, fetching(threads, f"127.0.0.1:{server.port}", seconds=60.0) as fetcher:
        url = f"http://127.0.0.1:{server.port}/"
        holders = [asyncio.create_task(fetch(fetcher, url)) for _ in range(MAX_AT_ONCE)]
        await eventually(lambda: len(server.heads) == MAX_AT_ONCE, what="the requests")
        fetcher._rules = FetchRules(hosts=fetcher._rules.hosts, max_bytes=10, seconds=0.05, allow_http=True)
        failed = await fetch(fetcher, url)
        assert isinstance(failed, Failure)
        assert failed.status == NO_ROOM
        assert server.connections == MAX_AT_ONCE
        for task in holders:
            task.cancel()
        await asyncio.gather(*holders, return_exceptions=True)
        again = await fetch(fetcher, url)
        assert isinstance(again, Failure)
        assert again.status == LATE


async def test_a_slow_host_leaves_places_for_those_of_other_entries(threads: Threads) -> None:
    """However many requests name images of one slow entry of the list, images of another one are fetched meanwhile."""
    async with (
        raw_server(never) as slow,
        raw_server(always) as good,
        fetching(threads, f"127.0.0.1:{slow.port}", f"127.0.0.1:{good.port}", seconds=60.0) as fetcher,
    ):
        url = f"http://127.0.0.1:{slow.port}/"
        waiting = [asyncio.create_task(fetch(fetcher, url)) for _ in range(2 * MAX_AT_ONCE)]
        await eventually(lambda: len(slow.heads) == MAX_OF_ENTRY, what="the requests")
        assert await fetch(fetcher, f"http://127.0.0.1:{good.port}/") == data_url(PNG)
        assert slow.connections == MAX_OF_ENTRY
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert fetcher._places._value == MAX_AT_ONCE
        assert [places._value for places in fetcher._entries.values()] == [MAX_OF_ENTRY] * 2


@pytest.mark.parametrize("room", [True, False])
async def test_an_image_is_taken_from_the_budget_while_it_comes_and_while_it_is_encoded(
    threads: Threads, room: bool
) -> None:
    """It holds as much as it takes at each time, and then what its text takes; without room it is none."""
    body = PNG + b"x" * 200_000
    most = ENCODING_FACTOR * len(body) * 4 // 3
    held: list[int] = []

    class Watching(Threads):
        async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
            held.append(budget.held)
            return await threads.run(function, *arguments)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(body))

    budget = MemoryBudget(most + 8 if room else most - len(body))
    share = budget.share()
    async with (
        raw_server(script) as server,
        fetching(Watching("watching"), f"127.0.0.1:{server.port}", max_bytes=1 << 20) as fetcher,
    ):
        outcome = await fetcher.fetch(f"http://127.0.0.1:{server.port}/", share)
    if room:
        assert outcome == data_url(body)
        assert held == [ENCODING_FACTOR * len(body)]
        assert budget.held == len(str(outcome))
    else:
        assert isinstance(outcome, Failure)
        assert (outcome.status, held) == (NO_ROOM, [])
    share.release()
    assert budget.held == 0
