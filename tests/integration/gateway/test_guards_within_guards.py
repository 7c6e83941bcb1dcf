"""Policies of guards around each other: what one does is never undone, skipped or misread by another."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from capstan_contract.config import PolicyEntry, Task
from capstan_contract.entries import PolicyTargets
from capstan_contract.guards import (
    Action,
    ConfidenceGuard,
    GuardBody,
    KeywordsGuard,
    OnError,
    PiiEntity,
    PiiGuard,
    PiiKind,
    Source,
    guard_entry,
)
from capstan_contract.limits import Mode
from capstan_gateway.pipeline.guards import whole
from capstan_gateway.pipeline.guards.needs import Judging
from capstan_gateway.pipeline.reply import WholeReply
from fakes.openai_upstream import FakeUpstream, Received, Wire, answer, completion, stream_frames
from support.gateway import RunningGateway, entry, running_gateway
from support.guards import Asked, keywords_by
from support.wait import eventually

MAIL = "ada@lovelace.example.org"
OTHER = "ceo@corp.example.org"


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that answers, until a test says otherwise."""
    async with FakeUpstream(answer) as fake:
        yield fake


def pii(*sources: Source, **fields: Any) -> PiiGuard:
    """Give a guard that redacts personal data."""
    return PiiGuard(name="pii", appliesTo=sources, **fields)


def floor(**body: Any) -> PolicyEntry:
    """Give a policy of the installation."""
    return guard_entry("t", "floor", GuardBody(**body), targets=PolicyTargets(everywhere=True))


def own(**body: Any) -> PolicyEntry:
    """Give a policy of the model's namespace."""
    return guard_entry("t", "own", GuardBody(**body))


def running(tmp_path: Path, upstream: FakeUpstream, *policies: PolicyEntry) -> Any:
    """Start a gateway with one model that all of them are in force on."""
    model = entry("chat", upstream.url, policies=tuple(one.id for one in policies))
    return running_gateway(tmp_path, model, policies=policies)


async def ask(gateway: RunningGateway, text: str, **more: Any) -> httpx2.Response:
    """Ask the model."""
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
        body = {"model": "chat", "messages": [{"role": "user", "content": text}], **more}
        return await client.post("/v1/chat/completions", json=body)


async def test_a_second_try_goes_through_the_guards_further_inside(tmp_path: Path, upstream: FakeUpstream) -> None:
    """An engine that refuses what a policy adds is asked once more, and again sees nothing that another one redacts."""

    async def refuses(received: Received, wire: Wire) -> None:
        if received.document.get("logprobs"):
            await wire.json({"error": {"message": "logprobs is not supported with tools + stream"}}, 400)
        else:
            await wire.json(completion("chat", f"ask {OTHER}"))

    upstream.respond = refuses
    confidence = ConfidenceGuard(name="sure", appliesTo=(Source.TEXT,), onError=OnError.OPEN)
    outside, inside = floor(output=(confidence,)), own(input=(pii(Source.USER),), output=(pii(Source.TEXT),))
    async with running(tmp_path, upstream, outside, inside) as gateway:
        found = await ask(gateway, f"mail {MAIL}")
    assert [one.document["messages"][0]["content"] for one in upstream.requests] == ["mail [EMAIL_1]"] * 2
    assert "logprobs" not in upstream.requests[1].document
    assert found.json()["choices"][0]["message"]["content"] == "ask [EMAIL_2]"


@pytest.mark.parametrize("word", ["mail", "midnight"])
async def test_who_only_looks_on_sees_what_the_installation_lets_pass(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    """A policy of a namespace in mode Shadow may ask somebody outside: of what is redacted it sees the placeholder, and
    of what is blocked nothing."""
    asked = Asked()
    looks = own(mode=Mode.SHADOW, input=(KeywordsGuard(name="w", keywords=("x",), appliesTo=(Source.USER,)),))
    blocks = PiiGuard(
        name="cards", appliesTo=(Source.USER,), action=Action.BLOCK, entities=(PiiEntity(type=PiiKind.CARD),)
    )
    outside = floor(input=(blocks, pii(Source.USER)))
    with keywords_by(monkeypatch, lambda _: None, lambda _: asked):
        async with running(tmp_path, upstream, looks, outside) as gateway:
            refused = await ask(gateway, f"{word} 4111 1111 1111 1111")
            assert refused.status_code == 400
            assert (await ask(gateway, f"{word} to {MAIL}")).status_code == 200
            await eventually(lambda: bool(asked.cases), what="the look")
    assert [piece.text for case in asked.cases for piece in case.pieces] == [f"{word} to [EMAIL_1]"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_value_of_the_answer_is_never_taken_for_one_of_the_request(
    tmp_path: Path, upstream: FakeUpstream, stream: bool
) -> None:
    """What one policy redacts of an answer has no name by which another one puts in what the client has said."""

    async def says(received: Received, wire: Wire) -> None:
        text = f"{OTHER} for {received.document['messages'][0]['content']}"
        if stream:
            await wire.stream_head()
            await wire.chunk(b"".join(stream_frames("chat", (text,), usage=False)))
            await wire.end()
        else:
            await wire.json(completion("chat", text))

    upstream.respond = says
    outside = floor(input=(pii(Source.USER, restore=True),))
    async with running(tmp_path, upstream, outside, own(output=(pii(Source.TEXT),))) as gateway:
        found = await ask(gateway, MAIL, stream=stream)
    if stream:
        chunks = [orjson.loads(line[6:]) for line in found.text.split("\n") if line.startswith("data: {")]
        said = "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks if one["choices"])
    else:
        said = found.json()["choices"][0]["message"]["content"]
    assert said == f"[EMAIL_2] for {MAIL}"


@pytest.mark.parametrize("echo", [True, False])
async def test_answers_of_no_model_are_read_where_they_have_placeholders_alone(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, echo: bool
) -> None:
    """Documents that a ranking tells once more get their values back; what has none, such as vectors, is not read."""
    reads: list[bytes] = []
    read = whole.read

    async def noted(judging: Judging, reply: WholeReply) -> Any:
        reads.append(reply.body)
        return await read(judging, reply)

    async def ranks(received: Received, wire: Wire) -> None:
        document = {"text": received.document["documents"][0]} if echo else None
        await wire.json({"results": [{"index": 0, "relevance_score": 0.5, "document": document}]})

    monkeypatch.setattr(whole, "read", noted)
    upstream.respond = ranks
    said = own(input=(pii(Source.DOCUMENTS, restore=True),))
    model = entry("chat", upstream.url, policies=(said.id,), task=Task.SCORE)
    body = {"model": "chat", "query": "who", "documents": [MAIL]}
    async with running_gateway(tmp_path, model, policies=[said]) as gateway, httpx2.AsyncClient(timeout=60) as client:
        found = await client.post(f"{gateway.url}/v1/rerank", json=body)
    assert upstream.requests[0].document["documents"] == ["[EMAIL_1]"]
    assert found.json()["results"][0]["document"] == ({"text": MAIL} if echo else None)
    assert len(reads) == int(echo)


async def test_values_come_back_where_streams_have_them(tmp_path: Path, upstream: FakeUpstream) -> None:
    """In arguments of a call, and not in its name or id, which nothing is restored in where they come in pieces."""
    call = {
        "id": "[EMAIL_1]", "type": "function", "function": {"name": "[EMAIL_1]", "arguments": '{"to": "[EMAIL_1]"}'},
    }  # fmt: skip

    async def calls(received: Received, wire: Wire) -> None:
        said = completion(received.document["model"])
        said["choices"][0]["message"] = {"role": "assistant", "content": "[EMAIL_1]", "tool_calls": [call]}
        await wire.json(said)

    upstream.respond = calls
    async with running(tmp_path, upstream, own(input=(pii(Source.USER, restore=True),))) as gateway:
        message = (await ask(gateway, MAIL)).json()["choices"][0]["message"]
    function = {"name": "[EMAIL_1]", "arguments": f'{{"to": "{MAIL}"}}'}
    assert (message["content"], message["tool_calls"]) == (MAIL, [{**call, "function": function}])


ASKED_FOR: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
    ("/v1/messages", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 9}),
    ("/v1/responses", {"input": "x"}),
    ("/v1/completions", {"prompt": "x"}),
]
WITHHELD = {"/v1/messages": "refusal"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body"), ASKED_FOR)
async def test_of_what_is_withheld_nothing_is_judged(
    tmp_path: Path, upstream: FakeUpstream, path: str, body: dict[str, Any], stream: bool
) -> None:
    """What one policy withholds another one cannot fail at: the client is told of a content filter, in its dialect."""
    sure = ConfidenceGuard(name="sure", appliesTo=(Source.TEXT,))
    words = KeywordsGuard(name="words", keywords=("hello",), appliesTo=(Source.TEXT,), timeoutMillis=60_000)
    async with (
        running(tmp_path, upstream, floor(output=(sure,)), own(output=(words,))) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        found = await client.post(path, json={"model": "chat", "stream": stream, **body})
    assert found.status_code == 200, found.text
    assert f'"{WITHHELD.get(path, "content_filter")}"' in found.text
    assert "Hello" not in found.text
