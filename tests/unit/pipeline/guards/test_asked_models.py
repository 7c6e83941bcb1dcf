"""Calls of models on behalf of guards: how many at once, and what becomes of the request that they belong to."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from capstan_contract.config import Task
from capstan_contract.guards import ConfidenceGuard, Source, Stage
from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.guards.port import NOTHING
from capstan_gateway.guards.prompts.asked import Question, Way
from capstan_gateway.headers import JSON
from capstan_gateway.life.threads import Threads
from capstan_gateway.pipeline.guards.asked.confidence import Confidence
from capstan_gateway.pipeline.guards.asked.failures import NotAsked
from capstan_gateway.pipeline.guards.asked.model import AT_ONCE, MOST_ANSWER_BYTES, all_of, ask_model
from capstan_gateway.pipeline.guards.output import FINISH, answer_pieces, may_be_restored, withheld
from capstan_gateway.pipeline.guards.pieces import Piece, Place
from capstan_gateway.pipeline.guards.port import Case
from capstan_gateway.pipeline.layers import Order
from capstan_gateway.pipeline.reply import WholeReply
from support.asks import an_ask
from support.guards import piece


async def test_so_many_are_asked_at_once_and_no_more() -> None:
    """The others wait; what they give comes in the order in which they were asked."""
    now, most = 0, 0

    async def one(number: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return number

    assert await all_of((lambda number=number: one(number)) for number in range(50)) == list(range(50))  # type: ignore[misc]
    assert most == AT_ONCE


async def test_one_that_fails_ends_the_others() -> None:
    """Nobody waits for what nobody reads, and nothing is left at work."""
    ended: list[str] = []

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("hangs")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        await all_of([hangs, fails])
    assert ended == ["hangs"]


def a_model(body: bytes = b"{}", task: Task = Task.CHAT) -> tuple[Any, list[Any]]:
    """Give a model that answers so, and the asks that it gets."""
    asks: list[Any] = []

    async def answer_alone(ask: Any) -> WholeReply:
        asks.append(ask)
        return WholeReply(200, JSON, body)

    layers = (SimpleNamespace(order=Order.GUARDS, name="its own"),)
    model = SimpleNamespace(
        id="t/judge", task=task, upstream_name="judge", provider=None, layers=layers, answer_alone=answer_alone
    )
    return model, asks


QUESTION = Question(Way.CHAT, {"messages": [], "max_tokens": 1}, (0,))


async def test_a_call_of_a_guard_waits_for_nobody_and_is_inside_of_what_the_model_has() -> None:
    """No queue, and none of the model's own guards, which would ask themselves; when it is over nothing is held."""
    model, asks = a_model(b'{"a": 1}')
    ask, threads = an_ask(), Threads("test")
    ask.hold()
    ended: list[str] = []
    assert await ask_model(ask, model, QUESTION, threads) == {"a": 1}
    (child,) = asks
    assert (child.may_wait, model.layers[0] in child.inside) == (False, True)
    ask.on_end(lambda: ended.append("over"))
    ask.leave()
    assert ended == ["over"]


async def test_an_answer_that_is_too_long_is_none() -> None:
    """Nor is a model asked that does another task."""
    threads = Threads("test")
    with pytest.raises(UpstreamFailed):
        await ask_model(an_ask(), a_model(b"{}" + b" " * MOST_ANSWER_BYTES)[0], QUESTION, threads)
    with pytest.raises(NotAsked):
        await ask_model(an_ask(), a_model(task=Task.EMBED)[0], QUESTION, threads)


async def test_an_answer_that_is_just_sure_enough_passes() -> None:
    """The threshold is the least confidence that passes."""
    case = Case(
        stage=Stage.OUTPUT, ask=cast(Any, None), pieces=[piece("x", Source.TEXT)],
        answer={"choices": [{"logprobs": {"content": [{"token": "x", "logprob": 0.0}]}}]},
    )  # fmt: skip
    for threshold, passes in ((1.0, True), (0.5, True)):
        guard = ConfidenceGuard(name="sure", appliesTo=(Source.TEXT,), threshold=threshold)
        assert (await Confidence(guard, cast(Any, None)).judge(case) == [NOTHING]) is passes


def test_every_choice_is_withheld() -> None:
    """With nothing of what was said in any of them; the usage stays, which is charged."""
    message = {"role": "assistant", "content": "a secret", "reasoning_content": "secret thoughts"}
    given = {"id": "a", "usage": {"total_tokens": 7}, "choices": [{"index": n, "message": message} for n in (0, 1)]}
    found = withheld(given)
    assert "secret" not in str(found)
    assert [(one["index"], one["finish_reason"]) for one in found["choices"]] == [(0, FINISH), (1, FINISH)]
    assert found["usage"] == {"total_tokens": 7}


def test_what_is_said_in_an_answer_is_of_its_kind() -> None:
    """Text, thoughts, and arguments of calls, of every choice."""
    message = {
        "content": "t", "reasoning_content": "r", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
    }  # fmt: skip
    found = answer_pieces({"choices": [{"message": message}, {"message": {"content": "t2", "thinking": "r2"}}]})
    said = {one.text: one.source for one in found}
    assert said == {
        "t": Source.TEXT, "r": Source.REASONING, "f": Source.TOOL_ARGUMENTS, "{}": Source.TOOL_ARGUMENTS,
        "t2": Source.TEXT, "r2": Source.REASONING,
    }  # fmt: skip
    assert [one.text for one in found if not may_be_restored(one)] == ["f"]
    assert not may_be_restored(Piece("x", Source.TEXT, Place(None, "a"), fixed=True))
