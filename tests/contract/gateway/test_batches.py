"""What the official `openai` client makes of files and batches: a real Redis and a directory behind the gateway."""

import json
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from capstan_gateway.batches.names import Names
from capstan_gateway.identity.principal import EVERYBODY
from fakes.openai_upstream import FakeUpstream, Received, Wire, completion
from support.batches import ENDPOINT, Engine, begun, ended, gateway_on, line, results, written
from support.gateway import RunningGateway, entry, running_gateway
from support.keys import key_entry, key_text
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

pytestmark = pytest.mark.redis


@pytest.fixture
def engine() -> Engine:
    """An engine."""
    return Engine()


@pytest.fixture
async def upstream(engine: Engine) -> AsyncIterator[FakeUpstream]:
    """It, behind HTTP."""
    async with FakeUpstream(engine.respond) as fake:
        yield fake


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture
async def gateway(tmp_path: Path, server: RedisServer, upstream: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway that serves everybody."""
    async with gateway_on(tmp_path, server, upstream) as running:
        yield running


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client, without retries."""
    async with gateway.client() as made:
        yield made


async def test_the_way_of_a_batch(client: openai.AsyncOpenAI, gateway: RunningGateway) -> None:
    """The whole way of a batch, as OpenAI's documentation has it: each line has its answer, under its custom_id."""
    batch = await begun(client, *(line(one) for one in range(40)), metadata={"job": "night"})
    assert (batch.object, batch.status, batch.endpoint) == ("batch", "validating", ENDPOINT)
    over = await ended(client, batch.id)
    assert (over.status, over.error_file_id, over.errors) == ("completed", None, None)
    assert over.request_counts.model_dump() == {"total": 40, "completed": 40, "failed": 0}
    assert over.metadata == {"job": "night"}
    assert None not in (over.in_progress_at, over.finalizing_at, over.completed_at)
    found = await results(client, over.output_file_id)
    assert {one: found[one]["response"]["body"]["choices"][0]["message"]["content"] for one in found} == {
        f"line-{one}": f"<say {one}>" for one in range(40)
    }
    first = found["line-0"]
    assert (first["response"]["status_code"], first["error"], first["id"][:10]) == (200, None, "batch_req_")
    assert first["response"]["request_id"].startswith("req_")
    assert [one.id async for one in client.batches.list()] == [batch.id]
    await eventually(lambda: gateway.metric("gateway_batches_total", status="completed") == 1, what="the count")
    assert gateway.metric("gateway_batch_lines_total", outcome="completed") == 40


async def test_a_batch_as_azure_writes_it(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """Azure's client makes a batch, with the URLs that Azure's documentation has."""
    async with openai.AsyncAzureOpenAI(azure_endpoint=gateway.url, api_key="x", api_version="2024-10-21") as client:
        data = written(line(1, url="/chat/completions"), line(2))
        file = await client.files.create(file=("in.jsonl", data), purpose="batch")
        given: Any = {"endpoint": "/chat/completions", "completion_window": "24h"}
        batch = await client.batches.create(input_file_id=file.id, **given)
        over = await ended(client, batch.id)
        assert (over.endpoint, over.request_counts.completed) == (ENDPOINT, 2)
        assert set(await results(client, over.output_file_id)) == {"line-1", "line-2"}


async def test_how_long_files_are_kept(client: openai.AsyncOpenAI) -> None:
    """What a batch gives is kept as long as it says, and never longer than the gateway keeps files."""
    for seconds, kept in ((3600, 3600), (2_592_000, 2_592_000), (None, 2_592_000)):
        said: Any = {} if seconds is None else {"output_expires_after": {"anchor": "created_at", "seconds": seconds}}
        over = await ended(client, (await begun(client, line(1), **said)).id)
        file = await client.files.retrieve(over.output_file_id)
        assert file.expires_at is not None
        assert (file.expires_at - file.created_at, file.purpose) == (kept, "batch_output")
    with pytest.raises(openai.BadRequestError, match=r"`output_expires_after.seconds` must be"):
        await begun(client, line(1), output_expires_after={"anchor": "created_at", "seconds": 60})


async def test_faults_of_an_input_are_told_with_their_lines(client: openai.AsyncOpenAI, engine: Engine) -> None:
    """A batch whose input is wrong fails before anything is asked, and says what is wrong in which line."""
    batch = await begun(
        client, line(1), b"{nonsense", b"", line(1), line(2, url="/v1/embeddings"), line(3, method="GET"),
        line(4, model="n"), {"custom_id": "x"}, line(5, body={"model": "m", "stream": True}),
        json.dumps(line(6, body={"model": "m", "x": "deep"})).replace('"deep"', "[" * 300 + "]" * 300).encode(),
        line(7, body={"model": "m", "background": True}), {**line(8), "custom_id": "x" * 513},
        {**line(9), "custom_id": ""}, line(10, body=[]),
    )  # fmt: skip
    over = await ended(client, batch.id)
    assert (over.status, over.output_file_id, over.error_file_id) == ("failed", None, None)
    assert [(one.code, one.line) for one in over.errors.data] == [
        ("invalid_json_line", 2), ("duplicate_custom_id", 4), ("mismatched_endpoint", 5), ("invalid_method", 6),
        ("mismatched_model", 7), ("missing_required_parameter", 8), ("invalid_value", 9), ("invalid_value", 10),
        ("invalid_value", 11), ("invalid_value", 12), ("invalid_value", 13), ("invalid_value", 14),
    ]  # fmt: skip
    assert [one.param for one in over.errors.data[-5:]] == ["body", "body.background", "custom_id", "custom_id", "body"]
    assert over.failed_at is not None
    assert engine.asked == []
    unknown = await ended(client, (await begun(client, line(1, model="nobody"))).id)
    assert [(one.code, one.line) for one in unknown.errors.data] == [("model_not_found", 1)]


async def test_errors_of_lines_go_into_the_error_file(client: openai.AsyncOpenAI, engine: Engine) -> None:
    """Failures of the server are tried again, 429 is waited out, and what the engine refuses is in the error file."""
    engine.fails = {"flaky": [500, 502], "busy": [429, 503], "bad": [400], "dead": [500] * 50}
    batch = await begun(client, *(line(one, text) for one, text in enumerate(("flaky", "busy", "bad", "fine", "dead"))))
    over = await ended(client, batch.id)
    assert over.status == "completed"
    assert over.request_counts.model_dump() == {"total": 5, "completed": 3, "failed": 2}
    assert set(await results(client, over.output_file_id)) == {"line-0", "line-1", "line-3"}
    errors = await results(client, over.error_file_id)
    assert {name: one["response"]["status_code"] for name, one in errors.items()} == {"line-2": 400, "line-4": 502}
    assert errors["line-2"]["response"]["body"]["error"]["message"] == "no"


async def test_each_answer_is_one_line(client: openai.AsyncOpenAI, upstream: FakeUpstream) -> None:
    """An answer that its server wrote over several lines is one line of the output all the same."""

    async def respond(_: Received, wire: Wire) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": "two\nlines"}, "finish_reason": "stop"}
        await wire.json(json.dumps(completion("m", choices=[choice]), indent=2).replace("\n", "\r\n").encode())

    upstream.respond = respond
    over = await ended(client, (await begun(client, line(1), line(2))).id)
    found = await results(client, over.output_file_id)
    texts = {name: one["response"]["body"]["choices"][0]["message"]["content"] for name, one in found.items()}
    assert texts == {"line-1": "two\nlines", "line-2": "two\nlines"}


async def test_a_cancelled_batch_gives_what_is_done(client: openai.AsyncOpenAI, engine: Engine) -> None:
    """To cancel stops within seconds, also what is being asked; what was done by then is in the output, once."""
    engine.closes_at = 4
    batch = await begun(client, *(line(one) for one in range(30)))

    async def some_are_done() -> bool:
        return (await client.batches.retrieve(batch.id)).request_counts.completed >= 1

    await eventually(some_are_done, what="some answers")
    stopping = await client.batches.cancel(batch.id)
    assert stopping.status == "cancelling"
    over = await ended(client, batch.id)
    assert over.status == "cancelled"
    assert None not in (over.cancelled_at, over.cancelling_at)
    assert len(await results(client, over.output_file_id)) == over.request_counts.completed >= 1
    with pytest.raises(openai.ConflictError, match="Cannot cancel a batch with status"):
        await client.batches.cancel(batch.id)


async def test_to_cancel_cuts_off_an_engine_that_hangs(client: openai.AsyncOpenAI, engine: Engine) -> None:
    """A batch all of whose requests hang is cancelled all the same, and gives no file."""
    engine.gate.clear()
    batch = await begun(client, *(line(one) for one in range(3)))
    await eventually(lambda: len(engine.asked) == 3, what="three requests")
    await client.batches.cancel(batch.id)
    over = await ended(client, batch.id)
    assert (over.status, over.output_file_id, over.error_file_id) == ("cancelled", None, None)
    assert over.request_counts.model_dump() == {"total": 3, "completed": 0, "failed": 0}


async def test_a_batch_expires(client: openai.AsyncOpenAI, gateway: RunningGateway, engine: Engine) -> None:
    """When its time is over, what is done is given, and each line that is not has an error of its own."""
    engine.gate.clear()
    batch = await begun(client, *(line(one) for one in range(3)))
    await eventually(lambda: len(engine.asked) == 3, what="three requests")
    room = gateway.gateway.batches
    assert room is not None
    room.batches.wall = lambda: batch.expires_at + 1.0
    over = await ended(client, batch.id)
    assert (over.status, over.output_file_id) == ("expired", None)
    errors = await results(client, over.error_file_id)
    assert {one["error"]["code"] for one in errors.values()} == {"batch_expired"}
    assert (len(errors), over.request_counts.failed) == (3, 3)


async def test_files_are_listed_given_and_deleted(client: openai.AsyncOpenAI, tmp_path: Path) -> None:
    """A file is what was uploaded, byte by byte, page by page in the list, and leaves nothing when it is deleted."""
    large = b"".join(b"%07d\n" % number for number in range(700_000))
    first = await client.files.create(file=("a.jsonl", large), purpose="batch")
    assert (first.object, first.bytes, first.filename, first.purpose) == ("file", len(large), "a.jsonl", "batch")
    second = await client.files.create(
        file=("b.jsonl", b"{}\n"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert second.expires_at is not None
    assert second.expires_at - second.created_at == 3600
    assert (await client.files.content(first.id)).content == large
    assert await client.files.retrieve(first.id) == first
    assert {one.id async for one in client.files.list(limit=1)} == {first.id, second.id}
    assert (await client.files.delete(first.id)).deleted
    assert [one.id async for one in client.files.list()] == [second.id]
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        await client.files.content(first.id)
    assert [path for path in (tmp_path / "files").rglob("*") if first.id in str(path)] == []
    shutil.rmtree(tmp_path / "files" / _names().folder(second.id))
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        await client.files.content(second.id)


async def test_another_tenant_sees_nothing(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, engine: Engine
) -> None:
    """Files and batches of one tenant do not exist for another one, and a key that is revoked ends its batches."""
    async with gateway_on(tmp_path, server, upstream, insecure_no_auth=False) as gateway:
        models = entry("m", upstream.url), entry("n", upstream.url)
        await gateway.configure(*models, keys=(key_entry("one", tenant="acme"), key_entry("two", tenant="other")))
        async with (
            gateway.client(api_key=key_text("one")) as one,
            gateway.client(api_key=key_text("two")) as two,
        ):
            engine.gate.clear()
            batch = await begun(one, *(line(number) for number in range(20)))
            assert [file.id async for file in two.files.list()] == []
            assert [found.id async for found in two.batches.list()] == []
            for call in (
                two.files.retrieve(batch.input_file_id), two.files.content(batch.input_file_id),
                two.files.delete(batch.input_file_id), two.batches.retrieve(batch.id), two.batches.cancel(batch.id),
            ):  # fmt: skip
                with pytest.raises(openai.NotFoundError):
                    await call
            with pytest.raises(openai.BadRequestError, match="No such File object"):
                await two.batches.create(input_file_id=batch.input_file_id, endpoint=ENDPOINT, completion_window="24h")
            await eventually(lambda: len(engine.asked) >= 8, what="requests of the batch")
            await gateway.configure(*models, keys=(key_entry("three", tenant="acme"),))
            engine.gate.set()
        async with gateway.client(api_key=key_text("three")) as three:
            over = await ended(three, batch.id)
            assert over.status == "failed"
            assert [fault.code for fault in over.errors.data] == ["invalid_api_key"]
            done, errors = await results(three, over.output_file_id), await results(three, over.error_file_id)
            assert {found["error"]["code"] for found in errors.values()} == {"invalid_api_key"}
            assert {*done, *errors} == {f"line-{number}" for number in range(20)}
            assert len(done) + len(errors) == 20


async def test_what_is_asked_wrongly_is_refused(client: openai.AsyncOpenAI, gateway: RunningGateway) -> None:
    """Uploads and batches that cannot be taken are refused with what is wrong, in OpenAI's envelope."""
    with pytest.raises(openai.BadRequestError, match="`purpose` must be batch"):
        await client.files.create(file=("a", b"{}"), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="`file` is empty"):
        await client.files.create(file=("a", b""), purpose="batch")
    with pytest.raises(openai.APIStatusError, match="multipart/form-data"):
        await client.post("/files", body={"purpose": "batch"}, cast_to=object)
    room = gateway.gateway.batches
    assert room is not None
    assert await room.files.all(_names()) == []
    file = await client.files.create(file=("a", b"{}\n"), purpose="batch")
    for changed, what in (
        ({"completion_window": "1h"}, "`completion_window` must be 24h"),
        ({"endpoint": "/v1/images"}, "`endpoint` must be one of"),
        ({"metadata": {"a": "b" * 513}}, "`metadata` must have keys"),
        ({"input_file_id": "file-" + "0" * 32}, "No such File object"),
        ({"extra_body": {"priority": 1}}, "Unknown parameter: 'priority'"),
    ):
        given: Any = {
            "input_file_id": file.id, "endpoint": ENDPOINT, "completion_window": "24h", "metadata": None, **changed,
        }  # fmt: skip
        with pytest.raises(openai.BadRequestError, match=what):
            await client.batches.create(**given)


async def test_bounds_of_a_tenant(tmp_path: Path, server: RedisServer, upstream: FakeUpstream) -> None:
    """A file that is too large is refused, and one more than there may be; who deletes one may have another."""
    async with (
        gateway_on(tmp_path, server, upstream, file_bytes=100_000, files=2) as gateway,
        gateway.client() as client,
    ):
        with pytest.raises(openai.APIStatusError, match="larger than 100000 bytes"):
            await client.files.create(file=("a", b"x" * 100_001), purpose="batch")
        kept = [await client.files.create(file=("a", b"x" * 100_000), purpose="batch") for _ in range(2)]
        with pytest.raises(openai.BadRequestError, match="2 files already"):
            await client.files.create(file=("a", b"x"), purpose="batch")
        await client.files.delete(kept[0].id)
        await client.files.create(file=("a", b"x"), purpose="batch")


async def test_a_place_for_files_that_cannot_be_had(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nothing can be written, clients are told to come again, and the log says what is wrong."""
    (tmp_path / "in-the-way").write_text("")
    place = {"files_url": f"file://{tmp_path}/in-the-way/below"}
    async with gateway_on(tmp_path, server, upstream, **place) as gateway, gateway.client() as client:
        with pytest.raises(openai.InternalServerError) as raised:
            await client.files.create(file=("a", b"{}\n"), purpose="batch")
    assert raised.value.status_code == 503
    assert "the place for files cannot be had" in caplog.text


async def test_what_a_batch_gives_is_bounded_too(tmp_path: Path, server: RedisServer, upstream: FakeUpstream) -> None:
    """A tenant with as many files as it may have makes no further batch, also not of a file that it has."""
    async with gateway_on(tmp_path, server, upstream, files=2) as gateway, gateway.client() as client:
        over = await ended(client, (await begun(client, line(1))).id)
        room = gateway.gateway.batches
        assert room is not None
        bounds, again = room.files.bounds, {"endpoint": ENDPOINT, "completion_window": "24h"}
        for changed, what in (({"files_bytes": 20, "files": 9}, "20 bytes"), ({}, "2 files already")):
            room.files.bounds = replace(bounds, **changed)  # type: ignore[misc, arg-type]
            with pytest.raises(openai.BadRequestError, match=what):
                await client.batches.create(input_file_id=over.input_file_id, **again)  # type: ignore[arg-type]
        with pytest.raises(openai.BadRequestError, match="uploaded with the purpose batch"):
            await client.batches.create(input_file_id=over.output_file_id, **again)  # type: ignore[arg-type]
        await client.files.delete(over.output_file_id)
        await client.batches.create(input_file_id=over.input_file_id, **again)  # type: ignore[arg-type]


async def test_a_list_passes_over_what_is_gone(client: openai.AsyncOpenAI, server: RedisServer) -> None:
    """A page whose batches have all been forgotten by now does not end the list."""
    batches = [await begun(client, b"{nonsense") for _ in range(4)]
    for batch in batches:
        await ended(client, batch.id)
    listed = [one.id async for one in client.batches.list()]
    assert set(listed) == {batch.id for batch in batches}
    server.client().delete(*(_names().batch(gone) for gone in listed[1:3]))
    assert [one.id async for one in client.batches.list(limit=1)] == [listed[0], listed[3]]


async def test_without_a_place_for_files_there_are_none(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Where it is not turned on, the routes say so, and the SDK does not try again."""
    async with (
        running_gateway(tmp_path, entry("m", upstream.url)) as gateway,
        gateway.client(max_retries=2) as client,
    ):
        for call in (
            client.files.create(file=("a", b"x"), purpose="batch"), client.files.list(), client.batches.list(),
            client.files.content("file-1"),
        ):  # fmt: skip
            with pytest.raises(openai.InternalServerError, match="--files-url and --redis-url"):
                await call
        assert gateway.metric("gateway_admission_rejected_total", reason="concurrency") == 0


def _names() -> Names:
    return Names.of(EVERYBODY)
