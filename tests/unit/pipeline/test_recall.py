"""What is read of stored responses, within the bounds of memory; and whose they are."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import orjson
import pytest
from fastapi import FastAPI, Request, Response
from starlette.middleware.base import RequestResponseEndpoint

from capstan_gateway.dialects.clients.spoken import RESPONSES
from capstan_gateway.documents import INLINE_BYTES
from capstan_gateway.errors import Overloaded
from capstan_gateway.identity.principal import Principal
from capstan_gateway.inference.routes import ROUTES
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pages.responses import response_routes
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.parse import translate
from capstan_gateway.pipeline.recall import recall
from capstan_gateway.pipeline.stored import with_history
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.stores.responses import ResponseStore, Stored
from support.asks import an_ask
from support.threads import Counted
from support.wait import eventually

NOTHING: Any = None
RESPONSE_ID = "resp_cs" + 40 * "0"
TEXT = "x" * (2 * INLINE_BYTES)
STORED = Stored(
    orjson.dumps({"output": [{"type": "message", "id": "o", "role": "assistant", "content": "ok"}]}),
    orjson.dumps([{"type": "message", "role": "user", "id": "i", "content": TEXT}]),
)
REQUEST = {"model": "m", "input": "x", "previous_response_id": RESPONSE_ID}


class Store:
    """Has one response; remembers for whom it was asked."""

    def __init__(self) -> None:
        self.tenants: list[str] = []

    async def load(self, tenant: str, _: str, *, patience: tuple[float, ...] = ()) -> Stored:
        """Give it."""
        self.tenants.append(tenant)
        return STORED


class Stuck(Counted):
    """A thread that is busy with others' documents."""

    async def run(self, *_: Any) -> Any:
        """Wait for ever."""
        await asyncio.Event().wait()


def delivery(budget: MemoryBudget) -> Delivery:
    """Give one as far as recalling knows it."""
    share = budget.share()

    def reserve(size: int) -> None:
        if not share.grow(size):
            raise Overloaded

    exchange = cast(Exchange, SimpleNamespace(memory=share, reserve=reserve, headers=[]))
    return Delivery(exchange, route=NOTHING, runtime=NOTHING, started=0.0, expires_at=1.0)


@pytest.fixture
def executor() -> Iterator[Counted]:
    """The thread that reads what is large."""
    with Counted() as threads:
        yield threads


async def test_what_was_read_is_in_the_budget_while_it_waits_for_its_turn() -> None:
    """Requests of some bytes refer to a large response each: those that find no room are refused before they wait."""
    budget = MemoryBudget(16 * STORED.size)
    store = cast(ResponseStore, Store())
    with Stuck() as busy:
        waiting = [asyncio.create_task(recall(delivery(budget), REQUEST, store, busy)) for _ in range(20)]
        await eventually(lambda: sum(task.done() for task in waiting) == 14)
        refused = [task for task in waiting if task.done()]
        assert {type(task.exception()) for task in refused} == {Overloaded}
        assert budget.held >= 2 * STORED.size * (len(waiting) - len(refused))
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_what_was_read_stays_counted(executor: Counted) -> None:
    """Its texts live on in the request, and are sent: beside its document both are held until the request is over."""
    budget = MemoryBudget(1 << 30)
    found = await recall(delivery(budget), REQUEST, cast(ResponseStore, Store()), executor)
    assert [item["id"] for item in found.earlier] == ["i", "o"]
    assert budget.held > 2 * STORED.size


async def test_the_translation_of_what_was_read_is_counted(executor: Counted) -> None:
    """As that of a large request is: texts that it joins are there once more."""
    budget = MemoryBudget(1 << 30)
    route = next(route for route in ROUTES if route.path == "/v1/responses")
    body = {**REQUEST, "store": False}
    request = translate(route, RESPONSES, orjson.dumps(body), [])
    one, ask = delivery(budget), an_ask()
    one.route, ask.request = route, request  # type: ignore[misc]
    await with_history(one, ask, cast(ResponseStore, Store()), executor)
    assert [message["content"] for message in ask.request.document["messages"]] == [TEXT, "ok", "x"]
    assert budget.held > 3 * STORED.size


async def test_the_credential_says_whose_responses_they_are(executor: Counted) -> None:
    """A request that goes on from a response and a page that shows one mean the tenant of who asks, and no other."""
    store, somebody = Store(), Principal(tenant="somebody", key="k")
    one = delivery(MemoryBudget(1 << 30))
    one.principal = somebody
    await recall(one, REQUEST, cast(ResponseStore, store), executor)
    app = FastAPI()

    @app.middleware("http")
    async def authenticated(request: Request, go_on: RequestResponseEndpoint) -> Response:
        request.state.principal = somebody
        return await go_on(request)

    app.include_router(response_routes(cast(ResponseStore, store), None, MemoryBudget(1 << 30), executor))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://x") as client:
        for path in (RESPONSE_ID, f"{RESPONSE_ID}/input_items"):
            assert (await client.get(f"/v1/responses/{path}")).status_code == 200
    assert store.tenants == ["somebody"] * 3
