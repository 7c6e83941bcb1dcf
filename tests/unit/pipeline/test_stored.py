"""Keeping one answer."""

from random import Random
from typing import Any, cast

import orjson

from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.stored import Keeper, not_kept
from capstan_gateway.stores.keys import is_kept_id
from capstan_gateway.stores.responses import Bounds, ResponseStore

BOUNDS = Bounds(seconds=60, response_bytes=5_000, responses=5, tenant_bytes=5_000)


def store() -> ResponseStore:
    """A store that writes nothing: its job does not run."""
    return ResponseStore(cast(Any, None), BOUNDS, budget=MemoryBudget(1 << 20), rng=Random(1))  # noqa: S311


async def test_an_answer_is_kept_with_what_it_answers() -> None:
    """What is kept is the response as it was given, under the id that its dialect writes, and the request's items."""
    stores = store()
    keeper = Keeper(stores, "t", {"model": "m", "input": "Hi"})
    completion = {"id": "guessable", "choices": [{"index": 0, "message": {"content": "Ho"}, "finish_reason": "stop"}]}
    response = keeper.dialect.write_answer(completion, {"model": "m", "input": "Hi"})
    assert (is_kept_id(response["id"]), response["store"]) == (True, True)
    body = orjson.dumps(response)
    assert keeper.keep(body)
    found = await stores.load("t", response["id"])
    assert found is not None
    assert found.response == body
    assert [item["content"][0]["text"] for item in orjson.loads(found.items)] == ["Hi"]
    assert Keeper(stores, "t", {"input": "x"}).dialect.write_answer(completion, {})["id"] != response["id"]


async def test_what_cannot_be_written_is_not_kept() -> None:
    """JSON may be read deeper than it is written: such a request is answered, and not kept."""
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    assert not Keeper(store(), "t", {"input": [{"role": "user", "content": "x", "note": deep}]}).keep(b"{}")
    assert not Keeper(store(), "t", {"input": "x" * 6_000}).keep(b"{}")


def test_a_response_that_is_not_kept_says_so() -> None:
    """Nothing but `store` is changed."""
    assert orjson.loads(not_kept(b'{"id":"r","store":true,"output":[]}')) == {"id": "r", "store": False, "output": []}
