"""Several requests in one call of an engine, and what becomes of each when the call fails."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from capstan_worker.engine.kinds import EngineKind
from capstan_worker.engine.port import EngineAnswer, EngineRequest, Head
from capstan_worker.errors import EngineError, EngineUnreachable
from capstan_worker.queue.batching import BatchingEngine
from capstan_worker.queue.settings import QueueSettings
from capstan_worker.queue.wiring import batched, metrics_meter
from support.queue_worker import ScriptedEngine
from support.wait import eventually


class Embedder(ScriptedEngine):
    """Gives each input its length as a vector; refuses a call with a text that it does not want."""

    error: Exception | None = None
    hold: asyncio.Event | None = None

    async def generate(self, request: EngineRequest) -> EngineAnswer:
        self.asked.append(request)
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        document = json.loads(request.body)
        inputs = [document["input"]] if isinstance(document["input"], str) else document["input"]
        if "bad" in inputs:
            return EngineAnswer(Head(400, "application/json"), _body(b'{"error":"bad"}'), request.id)
        data = [{"index": number, "embedding": [len(text)]} for number, text in enumerate(inputs)]
        return EngineAnswer(Head(200, "application/json"), _body(json.dumps({"data": data}).encode()), request.id)


async def _body(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _ask(engine: BatchingEngine, number: int, text: str) -> tuple[int, object]:
    body = json.dumps({"model": "m", "input": text}).encode()
    answer = await engine.generate(EngineRequest(str(number), "/v1/embeddings", body))
    whole = json.loads(b"".join([piece async for piece in answer.body]))
    return answer.head.status, whole["data"][0]["embedding"] if answer.head.status == 200 else whole


async def test_requests_that_come_together_go_together() -> None:
    """One call for all, and each gets its own; what fills a batch does not wait."""
    under = Embedder()
    engine = BatchingEngine(under, size=3, seconds=3600)
    answers = await asyncio.gather(*(_ask(engine, number, "x" * number) for number in range(1, 4)))
    assert answers == [(200, [1]), (200, [2]), (200, [3])]
    assert len(under.asked) == 1


async def test_a_request_without_company_goes_by_itself() -> None:
    """After its time, as it is."""
    under = Embedder()
    assert await _ask(BatchingEngine(under, size=3, seconds=0.01), 1, "xx") == (200, [2])
    (request,) = under.asked
    assert (request.id, json.loads(request.body)["input"]) == ("1", "xx")


async def test_one_that_is_refused_spoils_no_other_one() -> None:
    """When the call of all fails each is asked by itself, and only the one at fault gets the error."""
    under = Embedder()
    engine = BatchingEngine(under, size=3, seconds=3600)
    answers = await asyncio.gather(*(_ask(engine, at, text) for at, text in enumerate(["x", "bad", "yy"])))
    assert answers == [(200, [1]), (400, {"error": "bad"}), (200, [2])]
    assert len(under.asked) == 4


@pytest.mark.parametrize(("error", "calls"), [(EngineUnreachable("gone"), 1), (EngineError("broke"), 3)])
async def test_an_engine_that_fails_fails_each(error: EngineError, calls: int) -> None:
    """Each of them hears of it as if it had been asked by itself; nobody is asked again where nothing listens."""
    under = Embedder()
    under.error = error
    engine = BatchingEngine(under, size=2, seconds=3600)
    found = await asyncio.gather(*(_ask(engine, number, "x") for number in range(2)), return_exceptions=True)
    assert [type(one) for one in found] == [type(error)] * 2
    assert len(under.asked) == calls


async def test_one_that_is_cancelled_leaves_the_others() -> None:
    """Before its call it is not asked for at all; within it the others get theirs."""
    under = Embedder()
    under.hold = asyncio.Event()
    engine = BatchingEngine(under, size=3, seconds=0.05)
    gone, *rest = [asyncio.create_task(_ask(engine, number, "x" * (number + 1))) for number in range(3)]
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    await eventually(lambda: under.asked, every=0.01)
    rest[0].cancel()
    under.hold.set()
    assert await rest[1] == (200, [3])
    assert not engine._waiting


def test_only_engines_that_batch_nothing_themselves_are_batched() -> None:
    """An OpenAICompatible engine for which a size is said; it then has places for two calls' worth of requests."""
    under = Embedder()
    said = QueueSettings(queue_batch_size=32)
    assert isinstance(batched(said, under, EngineKind.OPENAI_COMPATIBLE), BatchingEngine)
    assert batched(said, under, EngineKind.VLLM) is under
    assert batched(QueueSettings(), under, EngineKind.OPENAI_COMPATIBLE) is under
    assert metrics_meter(said, under, EngineKind.OPENAI_COMPATIBLE).places == 64
    assert metrics_meter(QueueSettings(), under, EngineKind.OPENAI_COMPATIBLE).places == 8
