"""How requests of weighted routers went, by member, as the admin's page tells it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from capstan_contract.config import Price, RouterBackend, RouterMember, StickyBy, Strategy
from capstan_contract.tracks import EXPERIMENTS_PATH, Experiment, Quantity, read_experiments
from fakes.openai_upstream import FakeUpstream, Received, Wire, answer
from support.gateway import RunningGateway, entry, running_gateway

ADMIN = "an-admin-key-of-more-than-sixteen-bytes"
BODY: dict[str, Any] = {"model": "ab", "messages": [{"role": "user", "content": "the secret is plum"}]}


def router(*weights: int, sticky: StickyBy = StickyBy.NONE, **fields: Any) -> Any:
    """Give a weighted router of models a, b, and so on."""
    members = tuple(
        RouterMember(model=f"test/{name}", weight=weight) for name, weight in zip("abc", weights, strict=False)
    )
    return entry("ab", backend=RouterBackend(strategy=Strategy.WEIGHTED, stickyBy=sticky, members=members), **fields)


async def fails(_: Received, wire: Wire) -> None:
    """Answer with 500."""
    await wire.json({"error": {"message": "no"}}, 500)


@pytest.fixture
async def other() -> AsyncIterator[FakeUpstream]:
    """A second engine."""
    async with FakeUpstream(answer) as fake:
        yield fake


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """A gateway that serves everybody, with an admin."""
    file = tmp_path / "admin"
    file.write_text(ADMIN)
    async with running_gateway(tmp_path, admin_key_file=file) as running:
        yield running


async def ask(http: aiohttp.ClientSession, **fields: Any) -> int:
    """Ask the router; give the status."""
    async with http.post("/v1/chat/completions", json={**BODY, **fields}) as said:
        await said.read()
        return said.status


async def experiments(http: aiohttp.ClientSession) -> tuple[Experiment, ...]:
    """Read the page."""
    async with http.get(EXPERIMENTS_PATH, headers={"authorization": f"Bearer {ADMIN}"}) as said:
        assert said.status == 200
        return read_experiments(await said.text()).experiments


async def test_each_member_has_counters_of_its_own(
    gateway: RunningGateway, http: aiohttp.ClientSession, upstream: FakeUpstream, other: FakeUpstream
) -> None:
    """Requests, times and prices of each member stand at the page, streams with their first token; nothing that was
    said, and nobody's name. Only the admin is told."""
    price = Price(inputPerMillion=1, outputPerMillion=2)
    await gateway.configure(entry("a", upstream.url, price=price), entry("b", other.url), router(1, 1))
    for place in range(6):
        assert await ask(http, user=f"user-{place}", stream=place % 2 == 0) == 200
    await gateway.settled()
    (found,) = await experiments(http)
    assert (found.router, found.name, found.stickyBy, found.current) == ("test/ab", "ab", "None", True)
    one, two = found.arms
    assert [(arm.member, arm.weight, arm.counters.requests) for arm in (one, two)] == [
        ("test/a", 1, 3), ("test/b", 1, 3),
    ]  # fmt: skip
    for arm in (one, two):
        assert arm.counters.of(Quantity.LATENCY).count == 3
        assert arm.counters.of(Quantity.ERROR).sum == 0
    assert one.counters.of(Quantity.FIRST_TOKEN).count + two.counters.of(Quantity.FIRST_TOKEN).count == 3
    assert one.counters.of(Quantity.COST).count == 3
    assert one.counters.of(Quantity.COST).sum > 0
    assert two.counters.of(Quantity.COST).count == 0
    page = json.dumps([one.model_dump(mode="json") for one in (found,)])
    assert "plum" not in page
    assert "user-" not in page
    async with http.get(EXPERIMENTS_PATH) as said:
        assert said.status == 401


async def test_a_member_that_leaves_its_requests_to_another_has_failed(
    gateway: RunningGateway, http: aiohttp.ClientSession, upstream: FakeUpstream, other: FakeUpstream
) -> None:
    """What another member had to answer is an error of the member that the request was given to, and no time of it."""
    upstream.respond = fails
    await gateway.configure(entry("a", upstream.url), entry("b", other.url), router(1000, 1, sticky=StickyBy.USER))
    for _ in range(2):
        assert await ask(http, user="u") in (200, 500, 502)
    await gateway.settled()
    (found,) = await experiments(http)
    counters = {arm.member: arm.counters for arm in found.arms}
    failed = counters["test/a"]
    assert failed.of(Quantity.ERROR).sum == failed.requests >= 1
    assert failed.of(Quantity.LATENCY).count == 0


async def test_counts_outlive_a_config(
    gateway: RunningGateway, http: aiohttp.ClientSession, upstream: FakeUpstream, other: FakeUpstream
) -> None:
    """A config that leaves the router as it is leaves its counts; other weights begin anew, and the old ones stay to be
    read; a router that is gone is forgotten."""
    models = entry("a", upstream.url), entry("b", other.url)
    await gateway.configure(*models, router(1, 1))
    assert await ask(http) == 200
    await gateway.configure(*models, entry("c", other.url), router(1, 1, aliases=("also",)))
    assert await ask(http) == 200
    await gateway.settled()
    (found,) = await experiments(http)
    assert [arm.counters.requests for arm in found.arms] == [1, 1]
    await gateway.configure(*models, router(1, 3))
    new, old = await experiments(http)
    assert (new.current, [arm.counters.requests for arm in new.arms]) == (True, [0, 0])
    assert (old.current, [arm.counters.requests for arm in old.arms]) == (False, [1, 1])
    await gateway.configure(*models)
    assert await experiments(http) == ()


async def test_requests_of_one_user_are_in_one_bucket(
    gateway: RunningGateway, http: aiohttp.ClientSession, upstream: FakeUpstream, other: FakeUpstream
) -> None:
    """A user's requests count together, with the member that the user is kept with."""
    await gateway.configure(entry("a", upstream.url), entry("b", other.url), router(1, 1, sticky=StickyBy.USER))
    for _ in range(3):
        assert await ask(http, user="ann") == 200
    await gateway.settled()
    (found,) = await experiments(http)
    buckets = [bucket for arm in found.arms for bucket in arm.counters.of(Quantity.ERROR).buckets]
    assert [(count, total) for _, count, total in buckets] == [(3, 0)]


async def test_who_compares_nothing_is_not_counted(
    gateway: RunningGateway, http: aiohttp.ClientSession, upstream: FakeUpstream, other: FakeUpstream
) -> None:
    """A router by price, or one with a single weight, has no experiment."""
    await gateway.configure(entry("a", upstream.url), entry("b", other.url), router(1, 0))
    assert await ask(http) == 200
    assert await experiments(http) == ()
