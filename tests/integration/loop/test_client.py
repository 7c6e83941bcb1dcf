"""The client port: against a real API server, and against a server that misbehaves on purpose."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client as api

from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.backoff import Backoff
from capstan_operator.kube.client import KubeClient, Limits
from capstan_operator.kube.errors import Conflict, Invalid, NotFound, Unauthorized, Unavailable, UnknownResource
from capstan_operator.kube.events import EventRecorder, Subject
from capstan_operator.resources.api_resource import CONFIG_MAPS, EVENTS, ApiResource
from support.operator_process import connect
from support.ports import free_port
from support.wait import eventually

pytestmark = pytest.mark.apiserver


def config_map(name: str, namespace: str, **metadata: Any) -> dict[str, Any]:
    """Give a ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "data": {"key": name},
    }


async def test_a_list_is_complete_however_small_its_pages(kube: KubeClient, kube_api: Path, namespace: str) -> None:
    """Pages are followed to the end, a selector holds, items say what they are, and a shape is applied to each."""
    for number in range(7):
        labels = {"set": "odd" if number % 2 else "even"}
        await kube.apply(config_map(f"m{number}", namespace, labels=labels))
    async with connect(kube_api, page=2) as paging:
        listing = await paging.list(CONFIG_MAPS, namespace=namespace, label_selector="set=even")
    assert [item["metadata"]["name"] for item in listing.items] == ["m0", "m2", "m4", "m6"]
    assert {(item["apiVersion"], item["kind"]) for item in listing.items} == {("v1", "ConfigMap")}
    assert listing.resource_version
    async with connect(kube_api, page=2) as paging:
        for _ in range(2):  # first of the newest state, then of any that is not older
            names = await paging.list(CONFIG_MAPS, namespace=namespace, shape=lambda item: item["metadata"]["name"])
            assert [name for name in names.items if name.startswith("m")] == [f"m{number}" for number in range(7)]
            assert paging.versions.newest(CONFIG_MAPS)


async def test_a_list_is_never_older_than_our_own_write(kube: KubeClient, namespace: str) -> None:
    """Right after a write the list shows it, although it may come from the API server's cache."""
    for number in range(30):
        made = await kube.apply(config_map(f"m{number}", namespace))
        listing = await kube.list(CONFIG_MAPS, namespace=namespace, label_selector="!nothing")
        assert f"m{number}" in {item["metadata"]["name"] for item in listing.items}
        assert int(listing.resource_version) >= int(made["metadata"]["resourceVersion"])


async def test_a_store_that_was_restored_from_a_backup_is_read_from_where_it_is(
    kube: KubeClient, namespace: str
) -> None:
    """When the API server knows no version as new as one that was seen, the newest that there is has to do, once and
    for all: the next list does not wait again."""
    made = await kube.apply(config_map("m", namespace))
    ahead = {**made, "metadata": {**made["metadata"], "resourceVersion": str(10**12)}}
    kube.versions.saw(CONFIG_MAPS, ahead)
    listing = await kube.list(CONFIG_MAPS, namespace=namespace)
    assert "m" in {item["metadata"]["name"] for item in listing.items}
    assert int(kube.versions.newest(CONFIG_MAPS) or 0) < 10**12


async def test_preconditions_and_absence(kube: KubeClient, namespace: str) -> None:
    """A wrong uid or resourceVersion is a Conflict; what is not there is NotFound to get, and fine to delete."""
    made = await kube.apply(config_map("m", namespace))
    with pytest.raises(Conflict):
        await kube.apply(config_map("m", namespace, resourceVersion="1"))
    with pytest.raises(Conflict):
        await kube.delete(CONFIG_MAPS, "m", namespace=namespace, uid="another")
    await kube.delete(CONFIG_MAPS, "m", namespace=namespace, uid=made["metadata"]["uid"])
    await kube.delete(CONFIG_MAPS, "m", namespace=namespace)
    with pytest.raises(NotFound):
        await kube.get(CONFIG_MAPS, "m", namespace=namespace)


async def test_without_force_somebody_elses_field_is_a_conflict(kube: KubeClient, namespace: str) -> None:
    """An apply without force never takes a field over."""
    await kube.apply(config_map("m", namespace), manager="user")
    other = {**config_map("m", namespace), "data": {"key": "other"}}
    with pytest.raises(Conflict):
        await kube.apply(other, force=False)
    assert (await kube.apply(other))["data"] == {"key": "other"}


async def test_faults_have_their_class(kube: KubeClient, namespace: str) -> None:
    """A refused object, an unknown resource and a status of an object that is gone can be told apart."""
    bare = {"apiVersion": LLM_MODELS.api_version, "kind": "LLMModel", "metadata": {"name": "m", "namespace": namespace}}
    with pytest.raises(Invalid, match="spec"):
        await kube.apply({**bare, "spec": {"replicas": -1}})
    with pytest.raises(UnknownResource):
        await kube.list(ApiResource("capstan.dev", "v1alpha1", "nothings", "Nothing"))
    with pytest.raises(NotFound):
        await kube.apply_status({**bare, "status": {"replicas": 1}})


async def test_an_event_that_repeats_is_counted(kube: KubeClient, namespace: str) -> None:
    """The same fact three times is one Event that says three."""
    recorder = EventRecorder(kube, instance="test")
    subject = Subject("v1", "ConfigMap", namespace, "m", "uid-1")
    for _ in range(3):
        recorder.record(subject, "Warning", "Broken", "it is broken")
    recorder.record(subject, "Normal", "Mended", "ä" * 5000)
    writing = asyncio.create_task(recorder.run())

    async def counted() -> bool:
        events = (await kube.list(EVENTS, namespace=namespace)).items
        by_reason = {event["reason"]: event for event in events}
        return (
            len(events) == 2
            and by_reason["Broken"].get("series", {}).get("count") == 3
            and 500 < len(by_reason["Mended"]["note"]) <= 1024
        )

    await eventually(counted, what="the events")
    writing.cancel()


async def test_a_list_says_how_old_it_may_be_and_the_next_page_only_where_it_goes_on() -> None:
    """The first list asks for the newest state, later ones for any from the newest one seen on. A page that goes on
    must name neither version nor match, which the API server refuses."""
    asked = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append({k: v for k, v in request.query.items() if k not in ("limit", "labelSelector")})
        last = "continue" in request.query or "labelSelector" in request.query
        metadata = {"resourceVersion": "90", **({} if last else {"continue": "token"})}
        item = {"metadata": {"name": "a", "namespace": "n", "resourceVersion": "41"}}
        return web.json_response({"items": [item], "metadata": metadata})

    async with server(answer) as client:
        await client.list(CONFIG_MAPS)
        await client.list(CONFIG_MAPS)
        client.versions.saw(CONFIG_MAPS, {"metadata": {"name": "b", "namespace": "n", "resourceVersion": "120"}})
        await client.list(CONFIG_MAPS, label_selector="a=b")
    assert asked == [
        {},
        {"continue": "token"},
        {"resourceVersion": "41", "resourceVersionMatch": "NotOlderThan"},
        {"continue": "token"},
        {"resourceVersion": "120", "resourceVersionMatch": "NotOlderThan"},
    ]


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def server(handler: Handler, **options: Any) -> AsyncIterator[KubeClient]:
    """Serve `handler` as if it were an API server, and give a client of it."""
    port = free_port()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    configuration = api.Configuration(host=f"http://127.0.0.1:{port}")
    client = KubeClient(configuration, backoff=Backoff(first=0.001, most=0.002), **options)
    try:
        yield client
    finally:
        await client.close()
        await runner.cleanup()


async def test_overload_is_waited_out() -> None:
    """429 and 503 are tried again; the answer of the last attempt counts."""
    answers = [429, 503, 200]

    async def handler(request: web.Request) -> web.Response:
        status = answers.pop(0)
        return web.json_response({"metadata": {"name": "m"}}, status=status, headers={"Retry-After": "0"})

    async with server(handler) as client:
        assert (await client.get(CONFIG_MAPS, "m", namespace="n"))["metadata"]["name"] == "m"
    assert not answers


async def test_what_stays_broken_is_unavailable_and_says_when_to_come_back() -> None:
    """After the last attempt the error carries Retry-After, for the queue to honour."""

    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"message": "busy"}, status=503, headers={"Retry-After": "0.01"})

    async with server(handler) as client:
        with pytest.raises(Unavailable, match="busy") as caught:
            await client.get(CONFIG_MAPS, "m", namespace="n")
    assert caught.value.after == 0.01


async def test_a_call_has_a_deadline() -> None:
    """A server that accepts and says nothing costs the deadline, not for ever."""

    async def handler(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with server(handler, limits=Limits(call_seconds=0.3, attempt_seconds=0.1)) as client:
        with pytest.raises(Unavailable):
            await client.get(CONFIG_MAPS, "m", namespace="n")


@pytest.mark.parametrize(
    "body", [b"<html>Sign in</html>", b"", b"[]", b'{"items": {}}', b'{"items": [{]}', b'{"items": [3]}']
)
async def test_an_answer_that_is_none_is_no_empty_list(body: bytes) -> None:
    """What something on the way answers with 200 says nothing about what there is: an empty list would end it all."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    async with server(handler) as client:
        with pytest.raises(Unavailable):
            await client.list(CONFIG_MAPS)
        if body not in (b'{"items": {}}', b'{"items": [3]}'):
            with pytest.raises(Unavailable):
                await client.get(CONFIG_MAPS, "m", namespace="n")


async def test_a_list_begins_again_when_its_token_expires() -> None:
    """410 in the middle of a list starts it anew; nothing is returned twice or left out."""
    asked: list[dict[str, str]] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        items = [{"metadata": {"name": name}} for name in "abc"]
        if request.query.get("continue"):
            return web.json_response({"message": "too old"}, status=410)
        if request.query.get("limit"):
            return web.json_response({"metadata": {"continue": "more", "resourceVersion": "1"}, "items": items[:2]})
        return web.json_response({"metadata": {"resourceVersion": "2"}, "items": items})

    async with server(handler) as client:
        listing = await client.list(CONFIG_MAPS)
    assert [item["metadata"]["name"] for item in listing.items] == ["a", "b", "c"]
    assert listing.resource_version == "2"
    assert "limit" not in asked[-1]


async def test_a_refused_token_is_read_afresh_once() -> None:
    """After a 401 the credentials are loaded again: a new token is used at once, an old one is not tried for ever."""
    token = "old"
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("authorization", ""))
        good = seen[-1] == "Bearer new"
        return web.json_response({"message": json.dumps(good)}, status=200 if good else 401)

    async def reload() -> Any:
        configuration = api.Configuration()
        configuration.api_key["BearerToken"] = f"Bearer {token}"
        return configuration

    async with server(handler, reload=reload) as client:
        client._configuration.api_key["BearerToken"] = "Bearer old"
        with pytest.raises(Unauthorized):
            await client.get(CONFIG_MAPS, "m", namespace="n")
        assert seen == ["Bearer old"]
        token = "new"
        await client.get(CONFIG_MAPS, "m", namespace="n")
        await client.get(CONFIG_MAPS, "m", namespace="n")
    assert seen == ["Bearer old", "Bearer old", "Bearer new", "Bearer new"]
