"""Sound to text by way of the gateway: the form goes on with the engine's own name in it, and answers as they come."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from capstan_contract.caches import CacheBody, cache_entry
from capstan_contract.config import Canary, Price, Provider, RouterBackend, RouterMember, StaticBackend, Task
from capstan_contract.entries import PolicyEntry
from capstan_contract.guards import (
    Action,
    GuardBody,
    KeywordsGuard,
    PiiEntity,
    PiiGuard,
    PiiKind,
    Source,
    Unchecked,
    guard_entry,
)
from capstan_contract.limits import (
    BudgetRule,
    LimitRule,
    Mode,
    Per,
    Period,
    PeriodType,
    RateLimitBody,
    Unit,
    rate_limit_entry,
)
from capstan_gateway.dialects.clients.forms import boundary_of, read_form
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, frame
from support.gateway import RunningGateway, entry, hosted_by, running_gateway
from support.keys import key_entry, key_text
from support.wait import eventually

SOUND = b"RIFF\x00\r\n--not-the-boundary\r\n\xff\xfe" + bytes(range(256)) * 8
FILE = ("speech.wav", SOUND, "audio/wav")
PATH = "/v1/audio/transcriptions"
WORDS = ("Hello", " there,", " world.")
TEXT = "".join(WORDS)
USAGE = {"type": "duration", "seconds": 7}
SRT = "1\n00:00:00,000 --> 00:00:01,000\nHello there, world.\n\n"


def form_of(received: Received) -> tuple[Any, dict[str, Any]]:
    """Read the form that an engine has got."""
    return read_form(boundary_of(received.headers["content-type"].encode()), received.body)


def chunk(text: str | None, finish: str | None = None, **extra: Any) -> bytes:
    """Give a chunk as vLLM writes them."""
    choices = [] if text is None and finish is None else [{"delta": {"content": text}, "finish_reason": finish}]
    return frame({"id": "trsc-1", "object": "transcription.chunk", "created": 1, "model": "engine-name",
                  "choices": choices, **extra})  # fmt: skip


async def hears(received: Received, wire: Wire) -> None:
    """Answer as vLLM does, in every format that there is."""
    _, fields = form_of(received)
    if fields.get("stream") == "true":
        await wire.stream_head()
        for word in WORDS:
            await wire.chunk(chunk(word))
        await wire.chunk(chunk("", "stop"))
        if fields.get("stream_include_usage") == "true":
            await wire.chunk(chunk(None, usage={"prompt_tokens": 70, "completion_tokens": 9, "total_tokens": 79}))
        await wire.chunk(DONE)
        return await wire.end()
    match fields.get("response_format", "json"):
        case "srt" | "vtt":
            await wire.head(200, "content-type: text/plain; charset=utf-8", length=len(SRT))
            await wire.raw(SRT.encode())
            wire.ended = True
        case "verbose_json":
            words = [{"word": "Hello", "start": 0.0, "end": 0.5}]
            await wire.json({"text": TEXT, "language": "en", "duration": 6.4, "segments": [], "words": words})
        case _:
            await wire.json({"text": TEXT, "usage": USAGE})
    return None


@asynccontextmanager
async def hearing(
    tmp_path: Path, respond: Any = hears, *, policies: tuple[PolicyEntry, ...] = (), **fields: Any
) -> AsyncIterator[tuple[FakeUpstream, RunningGateway]]:
    """Run an engine and a gateway in front of it."""
    ids = tuple(policy.id for policy in policies)
    async with FakeUpstream(respond) as upstream:
        model = entry("ears", upstream.url, upstreamName="engine-name", task=Task.TRANSCRIBE, policies=ids, **fields)
        async with running_gateway(tmp_path, model, policies=policies) as gateway:
            yield upstream, gateway


async def ask(
    gateway: RunningGateway, *, path: str = PATH, file: Any = FILE, headers: dict[str, str] | None = None, **fields: Any
) -> httpx2.Response:
    """Send a form."""
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=60, headers=headers) as client:
        return await client.post(path, data={"model": "ears", **fields}, files={"file": file})


@pytest.mark.parametrize("path", ["transcriptions", "translations"])
async def test_an_engine_gets_the_same_parts_with_the_name_that_it_knows(path: str, tmp_path: Path) -> None:
    """Every field and every byte of the file, by either route; only the model's name is another one."""
    async with hearing(tmp_path) as (upstream, gateway):
        reply = await ask(gateway, path=f"/v1/audio/{path}", prompt="Grüße", language="de")
    assert reply.json() == {"text": TEXT, "usage": USAGE}
    (request,) = upstream.requests
    form, fields = form_of(request)
    assert request.path == f"/v1/audio/{path}"
    assert (bytes(form.file), form.filename, form.file_type) == (SOUND, "file.wav", b"audio/wav")
    assert fields == {"model": "engine-name", "prompt": "Grüße", "language": "de"}
    assert reply.headers["x-capstan-model"] == "ears"


@pytest.mark.compatibility(table="clients", row="openai (Python), chat", package="pypi:openai", does="transcription")
async def test_the_official_client_reads_every_form_of_answer(tmp_path: Path) -> None:
    """In json, text, srt, vtt and verbose_json: what vLLM wraps in JSON although a text was asked for is unwrapped."""
    async with hearing(tmp_path) as (upstream, gateway), gateway.client() as client:
        create = client.audio.transcriptions.create
        plain = await create(model="ears", file=FILE)
        assert plain.text == TEXT
        assert await create(model="ears", file=FILE, response_format="text") == f"{TEXT}\n"
        for kind in ("srt", "vtt"):
            assert await create(model="ears", file=FILE, response_format=kind) == SRT
        verbose = await create(
            model="ears", file=FILE, response_format="verbose_json", timestamp_granularities=["word", "segment"]
        )
        assert verbose.words is not None
        assert (verbose.duration, verbose.words[0].word) == (6.4, "Hello")
    fields = form_of(upstream.requests[4])[1]
    assert fields["timestamp_granularities[]"] == ["word", "segment"]


async def test_a_stream_of_an_engine_passes_and_its_usage_counts(tmp_path: Path) -> None:
    """The usage is asked for whatever the client says, and told to nobody who has not asked for it."""
    async with hearing(tmp_path) as (upstream, gateway):
        plain = await ask(gateway, stream="true")
        told = await ask(gateway, stream="true", stream_include_usage="true")
        await gateway.settled()
        counted = gateway.metric("llm_tokens_total", model="ears", direction="input")
    assert [one.text.count('"usage"') for one in (plain, told)] == [0, 1]
    said = [json.loads(line[6:]) for line in plain.text.split("\n\n") if line.startswith("data: {")]
    assert "".join(one["choices"][0]["delta"]["content"] for one in said) == TEXT
    assert {one["model"] for one in said} == {"ears"}
    assert plain.text.endswith("data: [DONE]\n\n")
    assert all(form_of(one)[1]["stream_include_usage"] == "true" for one in upstream.requests)
    assert counted == 140


async def hosted(received: Received, wire: Wire) -> None:
    """Answer as OpenAI's API does, which tells tokens."""
    usage = {
        "type": "tokens", "input_tokens": 14, "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
        "output_tokens": 3, "total_tokens": 17,
    }  # fmt: skip
    if form_of(received)[1].get("stream") != "true":
        return await wire.json({"text": TEXT, "usage": usage})
    await wire.stream_head()
    for word in WORDS:
        await wire.chunk(frame({"type": "transcript.text.delta", "delta": word}))
    await wire.chunk(frame({"type": "transcript.text.done", "text": TEXT, "usage": usage}))
    return await wire.end()


@pytest.mark.parametrize("provider", [Provider.OPENAI, Provider.OPENAI_COMPATIBLE])
async def test_a_hosted_api_is_asked_with_its_key_and_what_it_counts_is_paid(
    provider: Provider, tmp_path: Path
) -> None:
    """Its events pass as they are, nothing is added to what it is asked, and sound costs what sound costs."""
    async with FakeUpstream(hosted) as upstream:
        model = entry(
            "ears", backend=hosted_by(provider, upstream.url), upstreamName="whisper-1", task=Task.TRANSCRIBE,
            price=Price(inputPerMillion=1, audioInputPerMillion=1_000_000, outputPerMillion=0),
        )  # fmt: skip
        async with running_gateway(tmp_path, model, credentials={"key": "secret"}) as gateway:
            async with gateway.client() as client:
                stream = await client.audio.transcriptions.create(model="ears", file=FILE, stream=True)
                events = [event async for event in stream]
            whole = await ask(gateway)
            await gateway.settled()
            counted = gateway.metric("llm_tokens_total", model="ears", direction="output")
    assert [event.type for event in events] == ["transcript.text.delta"] * 3 + ["transcript.text.done"]
    assert whole.headers["x-capstan-cost"].startswith("14")
    assert counted == 6
    for request in upstream.requests:
        assert request.headers["authorization"] == "Bearer secret"
        assert form_of(request)[1].keys() <= {"model", "stream"}
        assert form_of(request)[1]["model"] == "whisper-1"


async def test_a_hosted_api_is_told_of_users_by_hashes_and_asked_for_no_more_than_its_model_gives(
    tmp_path: Path,
) -> None:
    """As with any other request: names of users become hashes there, and a bound is lowered to the model's."""
    async with FakeUpstream(hosted) as upstream:
        model = entry(
            "ears",
            backend=hosted_by(Provider.OPENAI_COMPATIBLE, upstream.url),
            task=Task.TRANSCRIBE,
            maxOutputTokens=50,
        )
        async with running_gateway(tmp_path, model, credentials={"key": "secret"}) as gateway:
            reply = await ask(gateway, user="ada@example.org", max_completion_tokens="1000", min_tokens="60")
    _, fields = form_of(upstream.requests[0])
    assert reply.status_code == 200
    assert fields["user"].startswith("u_")
    assert (fields["max_completion_tokens"], fields["min_tokens"]) == ("50", "50")


async def test_seconds_of_sound_that_are_told_count_as_tokens(tmp_path: Path) -> None:
    """Ten for each, where no tokens are told; a text of which nothing is told counts by the bytes of its file."""
    async with hearing(tmp_path) as (_, gateway):
        await ask(gateway)
        await gateway.settled()
        told = gateway.metric("llm_tokens_total", model="ears", direction="input")
        await ask(gateway, response_format="srt")
        await gateway.settled()
        both = gateway.metric("llm_tokens_total", model="ears", direction="input")
    assert told == 70
    assert 0 < both - told < 20


@pytest.mark.parametrize(
    ("fields", "file", "status", "param"),
    [
        ({"model": None}, FILE, 400, "model"),
        ({"model": "nobody"}, FILE, 404, "model"),
        ({"model": "chat"}, FILE, 400, "model"),
        ({"model": ""}, FILE, 400, "model"),
        ({"model": "m" * 257}, FILE, 400, "model"),
        ({"stream": "perhaps"}, FILE, 400, "stream"),
        ({"capstan": "{}"}, FILE, 400, "capstan"),
        ({"prefix_id": "p"}, FILE, 400, "prefix_id"),
        ({}, ("speech.wav", b""), 400, "file"),
        ({}, None, 400, "file"),
    ],
)
async def test_what_cannot_be_heard_is_refused_by_name(
    fields: dict[str, Any], file: Any, status: int, param: str, tmp_path: Path
) -> None:
    """In OpenAI's envelope, with the field, before anybody is asked."""
    said = {name: value for name, value in {"model": "ears", **fields}.items() if value is not None}
    async with FakeUpstream(hears) as upstream:
        models = entry("ears", upstream.url, task=Task.TRANSCRIBE), entry("chat", upstream.url)
        async with (
            running_gateway(tmp_path, *models) as gateway,
            httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
        ):
            files = {"file": file} if file else {"other": (None, b"x")}
            reply = await client.post(PATH, data=said, files=files)
            other = await client.post("/v1/chat/completions", json={"model": "ears", "messages": [{"role": "user"}]})
    assert (reply.status_code, reply.json()["error"]["param"]) == (status, param)
    assert (other.status_code, upstream.requests) == (400, [])


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "multipart/form-data; boundary=;"])
async def test_a_body_that_is_no_form_is_refused_before_it_is_read(kind: str, tmp_path: Path) -> None:
    """With 415, as a form is on routes of JSON."""
    async with (
        hearing(tmp_path) as (_, gateway),
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        reply = await client.post(PATH, content=b"{}", headers={"content-type": kind})
    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported_media_type")


async def test_a_form_may_come_compressed_and_goes_on_as_it_is(tmp_path: Path) -> None:
    """In a coding that the gateway knows, however it is written; another one is refused by name."""
    async with hearing(tmp_path) as (upstream, gateway):
        made = httpx2.Request("POST", gateway.url, data={"model": "ears"}, files={"file": FILE})
        sent = {"content-type": made.headers["content-type"], "content-encoding": "GZip"}
        async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
            heard = await client.post(PATH, content=gzip.compress(made.read()), headers=sent)
            unknown = await client.post(PATH, content=made.read(), headers={**sent, "content-encoding": "rot13"})
    assert heard.status_code == 200
    assert bytes(form_of(upstream.requests[0])[0].file) == SOUND
    assert "content-encoding" not in upstream.requests[0].headers
    assert (unknown.status_code, len(upstream.requests)) == (415, 1)


async def test_a_file_that_is_too_large_is_refused_and_holds_nothing(tmp_path: Path) -> None:
    """More than a body may have, or than there is memory for: 413; what was taken of the budget is given back."""
    async with FakeUpstream(hears) as upstream:
        model = entry("ears", upstream.url, task=Task.TRANSCRIBE)
        async with running_gateway(tmp_path, model, max_body_bytes=1 << 20, memory_bytes=8 << 20) as gateway:
            large = await ask(gateway, file=("a.wav", bytes(2 << 20)))
            fits = await ask(gateway, file=("a.wav", bytes(1 << 19)))
            await gateway.settled()
            held = gateway.gateway.memory.held
    assert (large.status_code, fits.status_code) == (413, 200)
    assert held == 0
    assert len(bytes(form_of(upstream.requests[0])[0].file)) == 1 << 19


@pytest.mark.parametrize("stream", ["true", "false"])
async def test_what_fails_at_one_engine_is_asked_of_another_with_the_same_file(stream: str, tmp_path: Path) -> None:
    """Before the first byte: an engine that refuses, resets, or answers nonsense; and then the model's fallback."""
    bad: list[str] = []

    async def fails(received: Received, wire: Wire) -> None:
        bad.append(form_of(received)[1]["model"])
        if len(bad) == 1:
            wire.reset()
        elif len(bad) == 2:
            await wire.json({"error": {"message": "no", "code": 500}}, status=500)
        else:
            await wire.json({"object": "nothing that was heard"})

    async with FakeUpstream(fails) as one, FakeUpstream(fails) as two, FakeUpstream(hears) as good:
        models = (
            entry("ears", one.url, two.url, task=Task.TRANSCRIBE, fallbacks=("spare",)),
            entry("spare", good.url, upstreamName="engine-name", task=Task.TRANSCRIBE),
        )
        async with running_gateway(tmp_path, *models) as gateway:
            reply = await ask(gateway, stream=stream)
    assert reply.status_code == 200
    assert reply.headers["x-capstan-model"] == "spare"
    assert set(bad) == {"ears"}
    form, fields = form_of(good.requests[0])
    assert (bytes(form.file), fields["model"]) == (SOUND, "engine-name")


@pytest.mark.parametrize("how", ["finished", "in the middle", "no mark", "error"])
async def test_a_stream_that_breaks_does_not_end_quietly(how: str, tmp_path: Path) -> None:
    """A finish reason ends a piece of the sound; that all of it was heard says only the mark at the end."""

    async def breaks(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(chunk("Hello"))
        if how == "error":
            await wire.chunk(frame({"error": {"message": "boom", "code": 400}}) + DONE)
        elif how != "in the middle":
            await wire.chunk(chunk("", "stop") + (DONE if how == "finished" else b""))
        await wire.end()

    async with hearing(tmp_path, breaks) as (_, gateway):
        reply = await ask(gateway, stream="true")
    assert reply.status_code == 200
    assert ('"error"' in reply.text) is (how != "finished")
    assert reply.text.endswith("data: [DONE]\n\n")


async def test_a_client_that_leaves_stops_the_engine(tmp_path: Path) -> None:
    """As of any other request."""
    begun = asyncio.Event()

    async def waits(_: Received, __: Wire) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with hearing(tmp_path, waits) as (upstream, gateway):
        asking = asyncio.create_task(ask(gateway))
        await asyncio.wait_for(begun.wait(), 60)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await eventually(lambda: upstream.gone == 1, what="the abort")


def output(*, action: Action, **fields: Any) -> PolicyEntry:
    """Give a policy whose guard of the output looks for a word."""
    guards = (KeywordsGuard(name="words", appliesTo=(Source.TEXT,), keywords=("there",), action=action),)
    return guard_entry("t", "g", GuardBody(output=guards, **fields))


@pytest.mark.parametrize("kind", ["json", "text"])
async def test_guards_judge_the_text_that_was_heard(kind: str, tmp_path: Path) -> None:
    """What they redact is not in the answer, and nothing else of it in which the words may stand once more; what they
    block is refused by name."""

    async def tells_more(received: Received, wire: Wire) -> None:
        await wire.json({"text": TEXT, "usage": USAGE, "logprobs": [{"token": "there"}], "language": "en"})

    async with hearing(tmp_path, tells_more, policies=(output(action=Action.REDACT),)) as (_, gateway):
        redacted = await ask(gateway, response_format=kind)
        assert "there" not in redacted.text
        assert "Hello [" in redacted.text
        if kind == "json":
            assert redacted.json().keys() == {"text", "usage"}
    async with hearing(tmp_path, tells_more, policies=(output(action=Action.BLOCK),)) as (_, gateway):
        blocked = await ask(gateway, response_format=kind)
    assert (blocked.status_code, blocked.json()["error"]["code"]) == (400, "content_filter")


@pytest.mark.parametrize(
    "fields", [{"stream": "true"}, {"response_format": "srt"}, {"response_format": "verbose_json"}]
)
async def test_an_answer_that_guards_could_not_judge_is_not_asked_for(fields: dict[str, str], tmp_path: Path) -> None:
    """Subtitles, words with their times and streams say a text in pieces: a model with a guard of the output has none
    of them, and says so; a policy that only looks on changes nothing, and tells which answers it has not looked at."""
    async with hearing(tmp_path, policies=(output(action=Action.REDACT),)) as (upstream, gateway):
        refused = await ask(gateway, **fields)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_value")
    assert upstream.requests == []
    async with hearing(tmp_path, policies=(output(action=Action.REDACT, mode=Mode.SHADOW),)) as (_, gateway):
        heard = await ask(gateway, **fields)
        await gateway.settled()
        unseen = gateway.metric("gateway_guard_shadows_dropped_total", policy="t/g")
    assert heard.status_code == 200
    assert "there" in heard.text
    assert unseen == int("stream" in fields)


async def test_no_guard_reads_the_sound_and_what_is_written_beside_it_is_judged(tmp_path: Path) -> None:
    """The answer says so; `unchecked: Block` lets no sound through at all; what stands in `prompt` is redacted before
    it is sent."""
    guard = PiiGuard(
        name="pii", appliesTo=(Source.USER,), entities=(PiiEntity(type=PiiKind.EMAIL, action=Action.REDACT),)
    )

    async def repeats(received: Received, wire: Wire) -> None:
        await wire.json({"text": form_of(received)[1]["prompt"]})

    body = GuardBody(input=(guard,))
    async with hearing(tmp_path, repeats, policies=(guard_entry("t", "g", body),)) as (upstream, gateway):
        reply = await ask(gateway, prompt="ada@lovelace.example.org speaks")
    form, fields = form_of(upstream.requests[0])
    assert "ada@" not in fields["prompt"]
    assert (bytes(form.file), reply.headers["x-capstan-unchecked"]) == (SOUND, "media")
    closed = guard_entry("t", "g", GuardBody(input=(guard,), unchecked=Unchecked.BLOCK))
    async with hearing(tmp_path, policies=(closed,)) as (upstream, gateway):
        refused = await ask(gateway)
    assert (refused.status_code, refused.json()["error"]["code"], upstream.requests) == (400, "content_filter", [])


async def test_requests_and_tokens_of_sound_are_limited(tmp_path: Path) -> None:
    """By what is told of it: two requests of 70 tokens and some words are all that a limit of 100 tokens has."""
    rule = LimitRule(name="tokens", per=Per.MODEL, unit=Unit.TOKENS, amount=100, windowMillis=3_600_000, burst=100)
    policy = rate_limit_entry("t", "p", RateLimitBody(limits=(rule,)))
    async with hearing(tmp_path, policies=(policy,), maxOutputTokens=5) as (upstream, gateway):
        first = await ask(gateway, max_completion_tokens="4")
        await gateway.settled()
        second = await ask(gateway, file=("long.wav", bytes(200_000)))
        fault = await ask(gateway, max_completion_tokens="some")
    assert (first.status_code, second.status_code) == (200, 400)
    assert (fault.status_code, fault.json()["error"]["param"]) == (400, "max_completion_tokens")
    assert form_of(upstream.requests[0])[1]["max_completion_tokens"] == "4"
    assert second.json()["error"]["code"] == "request_exceeds_limit"
    assert first.headers["x-ratelimit-remaining-tokens"]
    assert len(upstream.requests) == 1


async def test_no_cache_keeps_what_was_heard(tmp_path: Path) -> None:
    """The same sound twice is heard twice: a cache on the model is passed by."""
    async with hearing(tmp_path, policies=(cache_entry("t", "c", CacheBody()),)) as (upstream, gateway):
        replies = [await ask(gateway) for _ in range(2)]
    assert [reply.headers["x-cache"] for reply in replies] == ["bypass", "bypass"]
    assert len(upstream.requests) == 2


@pytest.mark.compatibility(
    table="clients", row="openai (Python), AzureOpenAI", package="pypi:openai", does="transcription"
)
async def test_azures_client_names_the_model_in_the_path(tmp_path: Path) -> None:
    """A deployment is a model, whatever the form says."""
    async with (
        hearing(tmp_path) as (upstream, gateway),
        openai.AsyncAzureOpenAI(azure_endpoint=gateway.url, api_key="x", api_version="2024-10-21") as client,
    ):
        heard = await client.audio.transcriptions.create(model="ears", file=FILE)
        named = await ask(gateway, path="/openai/deployments/ears/audio/transcriptions", model="another")
        async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as http:
            path = "/openai/deployments/ears/audio/transcriptions"
            spelt = await http.post(path, data={"Model": "another", "prompt": "x"}, files={"file": FILE})
    assert heard.text == TEXT
    assert (named.status_code, spelt.status_code) == (200, 200)
    assert [form_of(one)[1]["model"] for one in upstream.requests] == ["engine-name"] * 3
    assert form_of(upstream.requests[2])[1] == {"model": "engine-name", "prompt": "x"}


async def test_a_canary_hears_its_share(tmp_path: Path) -> None:
    """At a weight of 100 all of it, under the name that its engine has."""
    async with FakeUpstream(hears) as stable, FakeUpstream(hears) as tried:
        canary = Canary(
            id="try-1", revision="b", weight=100, backend=StaticBackend(urls=(tried.url,)), upstreamName="engine-b"
        )
        model = entry("ears", stable.url, task=Task.TRANSCRIBE, canary=canary)
        async with running_gateway(tmp_path, model) as gateway:
            reply = await ask(gateway)
    assert reply.headers["x-capstan-track"] == "canary"
    assert stable.requests == []
    assert form_of(tried.requests[0])[1]["model"] == "engine-b"


@pytest.mark.parametrize("name", ["either", "auto"])
async def test_a_router_and_auto_find_who_hears(name: str, tmp_path: Path) -> None:
    """Among models that chat, the one that hears; a member that is not there is passed over."""
    members = (RouterMember(model="t/gone"), RouterMember(model="t/ears"))
    async with FakeUpstream(hears) as upstream:
        models = (
            entry("ears", upstream.url, id="t/ears", task=Task.TRANSCRIBE, auto=True),
            entry("gone", id="t/gone", task=Task.TRANSCRIBE, auto=False),
            entry("chat", upstream.url),
            entry("either", task=Task.TRANSCRIBE, backend=RouterBackend(members=members)),
        )
        async with running_gateway(tmp_path, *models) as gateway:
            reply = await ask(gateway, model=name)
    assert (reply.status_code, reply.headers["x-capstan-model"]) == (200, "ears")


async def test_who_has_no_key_is_refused_before_the_file_is_read(tmp_path: Path) -> None:
    """As on every route; a key for other models does not know that there is one that hears."""
    async with FakeUpstream(hears) as upstream:
        model = entry("ears", upstream.url, task=Task.TRANSCRIBE)
        keys = [key_entry("ann", models=("ears",)), key_entry("bob", models=("chat",))]
        async with running_gateway(tmp_path, model, keys=keys, insecure_no_auth=False) as gateway:
            statuses = [
                (await ask(gateway, headers=headers)).status_code
                for headers in ({}, *({"authorization": f"Bearer {key_text(who)}"} for who in ("ann", "bob")))
            ]
    assert statuses == [401, 200, 404]
    assert len(upstream.requests) == 1


async def test_a_user_whom_a_form_names_is_whom_the_key_says(tmp_path: Path) -> None:
    """And the file is sent all the same."""
    async with FakeUpstream(hears) as upstream:
        model = entry("ears", upstream.url, task=Task.TRANSCRIBE)
        keys = [key_entry("ann", user="ann")]
        async with running_gateway(tmp_path, model, keys=keys, insecure_no_auth=False) as gateway:
            reply = await ask(gateway, headers={"authorization": f"Bearer {key_text('ann')}"}, user="bob")
    form, fields = form_of(upstream.requests[0])
    assert (reply.status_code, bytes(form.file)) == (200, SOUND)
    assert fields["user"] != "bob"


async def test_a_text_is_plain_text_and_what_was_redacted_stands_in_it_again(tmp_path: Path) -> None:
    """Although its engine calls it JSON, and has heard placeholders."""
    guard = PiiGuard(
        name="pii", appliesTo=(Source.USER,), restore=True,
        entities=(PiiEntity(type=PiiKind.EMAIL, action=Action.REDACT),),
    )  # fmt: skip

    async def repeats(received: Received, wire: Wire) -> None:
        await wire.json({"text": form_of(received)[1]["prompt"]})

    policy = guard_entry("t", "g", GuardBody(input=(guard,)))
    async with hearing(tmp_path, repeats, policies=(policy,)) as (upstream, gateway):
        reply = await ask(gateway, prompt="ada@lovelace.example.org speaks", response_format="text")
    assert "ada@" not in form_of(upstream.requests[0])[1]["prompt"]
    assert upstream.requests[0].headers["accept"] == "*/*"
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.text == "ada@lovelace.example.org speaks\n"


@pytest.mark.parametrize("field", ["prompt", "hotwords", "known_speaker_names[]"])
async def test_what_users_say_beside_the_sound_is_judged_as_theirs(field: str, tmp_path: Path) -> None:
    """Words to listen for and names of who speaks, as well as the prompt."""
    guard = KeywordsGuard(name="k", appliesTo=(Source.USER,), action=Action.BLOCK, keywords=("falcon",))
    policy = guard_entry("t", "g", GuardBody(input=(guard,)))
    async with hearing(tmp_path, policies=(policy,)) as (upstream, gateway):
        reply = await ask(gateway, **{field: "the falcon"})
    assert (reply.status_code, reply.json()["error"]["code"], upstream.requests) == (400, "content_filter", [])


async def test_who_asks_for_usage_is_told_it_also_where_a_guard_has_written_the_form_anew(tmp_path: Path) -> None:
    """What is redacted in `prompt` takes nothing from what else was asked."""
    guard = PiiGuard(
        name="pii", appliesTo=(Source.USER,), entities=(PiiEntity(type=PiiKind.EMAIL, action=Action.REDACT),)
    )
    policy = guard_entry("t", "g", GuardBody(input=(guard,)))
    async with hearing(tmp_path, policies=(policy,)) as (upstream, gateway):
        reply = await ask(gateway, prompt="ada@lovelace.example.org", stream="true", stream_include_usage="true")
    assert "ada@" not in form_of(upstream.requests[0])[1]["prompt"]
    assert b'"completion_tokens":9' in reply.content


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, 7),
        ({"response_format": "text"}, 7),
        ({"response_format": "verbose_json"}, 7),
        ({"response_format": "srt"}, 2),
        ({"stream": "true"}, 2),
    ],
)
async def test_minutes_of_sound_cost_what_the_price_says(fields: dict[str, str], seconds: int, tmp_path: Path) -> None:
    """By the begun seconds that are told; where none are, by the size of the file."""
    price = Price(audioInputPerMinute=0.6)
    async with hearing(tmp_path, price=price) as (_, gateway):
        reply = await ask(gateway, file=("a.mp3", bytes(10_000)), **fields)
        await gateway.settled()
        cost = gateway.metric("llm_cost_dollars", model="ears")
    assert reply.status_code == 200
    assert cost == pytest.approx(0.01 * seconds)
    if "stream" not in fields:
        assert float(reply.headers["x-capstan-cost"]) == pytest.approx(0.01 * seconds)


@pytest.mark.parametrize("stream", ["true", "false"])
async def test_a_budget_counts_minutes_of_sound(stream: str, tmp_path: Path) -> None:
    """What the file probably costs is taken before anybody is asked, and what it has cost is what stays taken; nobody
    is asked for what costs more than there ever is."""
    budget = BudgetRule(name="sound", per=Per.MODEL, nanoDollars=150_000_000, period=Period(type=PeriodType.MONTH))
    policy = rate_limit_entry("t", "p", RateLimitBody(budgets=(budget,)))
    price = Price(audioInputPerMinute=0.6)
    async with hearing(tmp_path, policies=(policy,), price=price) as (upstream, gateway):
        longer = await ask(gateway, file=("a.mp3", bytes(7680 * 16)), stream=stream)
        first = await ask(gateway, file=("a.mp3", bytes(7680 * 8)), stream=stream)
        await gateway.settled()
        spent = gateway.metric("llm_limit_dollars", policy="t/p", rule="sound", stage="settled")
        second = await ask(gateway, file=("a.mp3", bytes(7680 * 9)), stream=stream)
    assert (longer.status_code, longer.json()["error"]["code"]) == (400, "request_exceeds_limit")
    assert (first.status_code, second.status_code) == (200, 429)
    assert spent == pytest.approx(0.08 if stream == "true" else 0.07)
    assert len(upstream.requests) == 1


async def test_nobody_teaches_by_sound_what_others_cost(tmp_path: Path) -> None:
    """How many bytes a second has is up to who sends it: however much less than its file a sound comes to, files count
    in full before they are heard."""
    rule = LimitRule(
        name="in", per=Per.MODEL, unit=Unit.INPUT_TOKENS, amount=10**6, windowMillis=3_600_000, burst=10**6
    )
    policy = rate_limit_entry("t", "p", RateLimitBody(limits=(rule,)))

    async def tells_little(_: Received, wire: Wire) -> None:
        await wire.json({"text": TEXT, "usage": {"input_tokens": 20, "output_tokens": 3}})

    async with hearing(tmp_path, tells_little, policies=(policy,)) as (_, gateway):
        for _ in range(20):
            await ask(gateway, file=("a.wav", bytes(768 * 200)))
        await gateway.settled()
        labels = {"policy": "t/p", "rule": "in", "stage": "reserved"}
        before = gateway.metric("llm_limit_tokens_total", **labels)
        await ask(gateway, file=("a.mp3", bytes(768 * 200)))
        await gateway.settled()
        taken = gateway.metric("llm_limit_tokens_total", **labels) - before
    assert taken == 200
