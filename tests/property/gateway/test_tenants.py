"""Two tenants never see each other: whatever the config, whatever their keys allow, on every route."""

import asyncio
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from capstan_contract.config import (
    CascadeBackend,
    CascadeEstimator,
    EstimatorType,
    LoraAdapter,
    ModelEntry,
    RouterBackend,
    RouterMember,
    StaticBackend,
    Strategy,
    Task,
)
from capstan_contract.keys import KeyEntry
from capstan_gateway.config.runtime import Runtime
from capstan_gateway.identity.principal import Principal
from capstan_gateway.inference.routes import ROUTES
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from fakes.openai_upstream import FakeUpstream, Received, Wire, answer
from support.gateway import RunningGateway, entry, running_gateway
from support.keys import key_entry, key_text
from support.runtimes import compile_whole

MARK = "zq"
"""Is in every name of a model, and nowhere else."""
GOOD, BAD = "http://good", "http://bad"
NOBODYS = f"nobodys{MARK}"
TENANTS = ("red", "blue")
CHAT = frozenset((Task.CHAT,))


@dataclass(frozen=True)
class World:
    """A config, and what the keys of two tenants allow."""

    models: tuple[ModelEntry, ...]
    lists: tuple[tuple[str, ...], ...]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Give a config with aliases, adapters, fallbacks, routers over cascades, and models that fail or are not there."""
    count = draw(st.integers(2, 5))
    names = [f"m{number}{MARK}" for number in range(count)]
    every = [*names, *(f"a{number}{MARK}" for number in range(count)), f"c0{MARK}", f"r0{MARK}"]
    plain = [
        entry(
            name, *draw(st.sampled_from(((GOOD,), (BAD,), (BAD, GOOD), ()))),
            upstreamName=f"up-{name}",
            task=draw(st.sampled_from((Task.CHAT, Task.CHAT, Task.CHAT, Task.EMBED))),
            aliases=(f"a{number}{MARK}",) if draw(st.booleans()) else (),
            adapters=(LoraAdapter(servedName=f"l{number}{MARK}", upstreamName=f"up-l{number}{MARK}"),)
            if draw(st.booleans()) else (),
            fallbacks=tuple(draw(st.lists(st.sampled_from(every), max_size=3, unique=True))),
        )
        for number, name in enumerate(names)
    ]  # fmt: skip
    members = st.lists(st.sampled_from([f"test/{name}" for name in names]), min_size=1, max_size=3, unique=True)
    cascade = entry(
        f"c0{MARK}",
        backend=CascadeBackend(members=tuple(draw(members)), estimator=CascadeEstimator(type=EstimatorType.CHECKS)),
    )
    over = [*draw(members), *([cascade.id] if draw(st.booleans()) else [])]
    router = entry(
        f"r0{MARK}",
        backend=RouterBackend(
            strategy=draw(st.sampled_from(list(Strategy))),
            members=tuple(RouterMember(model=one, weight=50) for one in over),
        ),
        fallbacks=tuple(draw(st.lists(st.sampled_from(names), max_size=1))),
    )
    patterns = st.sampled_from([*every, f"l0{MARK}", f"l1{MARK}", "m*", "a1*", f"*0{MARK}", "*", "none", "r*", "c*"])
    lists = st.lists(patterns, min_size=1, max_size=4, unique=True).map(tuple)
    return World((*plain, cascade, router), (draw(lists), draw(lists)))


def reduced(models: Sequence[ModelEntry], patterns: Sequence[str]) -> dict[str, set[str]]:
    """Say it another way: by the id of an entry which of its names may be used."""

    def allows(name: str) -> bool:
        return any(re.fullmatch(re.escape(one).replace(r"\*", ".*"), name) for one in patterns)

    found: dict[str, set[str]] = {}
    for model in sorted(models, key=lambda one: (one.backend.kind == "Router", one.backend.kind == "Cascade")):
        own = {model.servedName, *model.aliases}
        used = own if any(map(allows, own)) else set()
        if isinstance(model.backend, RouterBackend | CascadeBackend):
            needs = model.backend.members
            ids = [one if isinstance(one, str) else one.model for one in needs]
            mains = {other.id: other.servedName for other in models}
            if not any(mains[one] in found.get(one, ()) for one in ids):
                used = set()
        found[model.id] = used | {one.servedName for one in model.adapters if allows(one.servedName)}
    return found


def visible(models: Sequence[ModelEntry], patterns: Sequence[str]) -> set[str]:
    """Give every name that there is for a key with this list."""
    return {name for names in reduced(models, patterns).values() for name in names}


def every_name(models: Sequence[ModelEntry]) -> list[str]:
    """Give every name of a config."""
    return [
        name
        for model in models
        for name in (model.servedName, *model.aliases, *(one.servedName for one in model.adapters))
    ]


def names_in(text: str) -> set[str]:
    """Give the names of models that a text holds, also those by which engines know them."""
    return {found.removeprefix("up-") for found in re.findall(rf"(?:up-)?[a-z]+[0-9]*{MARK}", text)}


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_a_view_is_a_config_without_what_is_not_allowed(world: World) -> None:
    """Names, members of routers, of cascades and of `auto`, fallbacks: nothing leads to what is not in the view."""
    registry = EndpointRegistry()
    runtime = compile_whole(*world.models, endpoints_of=lambda _: EndpointSet(registry))
    for patterns in world.lists:
        view = runtime.seen_by(Principal(tenant="t", key="k", models=patterns))
        there = visible(world.models, patterns)
        for name in every_name(world.models):  # Before all of it is made: each is looked at by itself.
            assert (view.find(name) is not None) is (name in view.models) is (name in there)
        assert set(view.models) == there
        assert names_in(view.listing.decode()) == there
        for name in every_name(world.models):
            assert (view.find(name) is not None) is (name in there)
        for virtual in _virtual(view):
            for tasks in (CHAT, frozenset((Task.EMBED,))):
                assert {member.model.name for member in view.members(virtual, tasks)} <= there
        assert set(view.by_id) <= {model.id for model in world.models if model.servedName in there}


def _virtual(view: Runtime) -> Iterator[Any]:
    yield from (model for model in view.by_id.values() if model.plan is not None)
    if view.auto is not None:
        yield view.auto


class Engines:
    """Two engines, of which one fails, and what the good one was asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    async def good(self, request: Received, wire: Wire) -> None:
        """Answer, and remember for which model."""
        self.asked.add(request.document["model"])
        await answer(request, wire)

    async def bad(self, request: Received, wire: Wire) -> None:
        """Fail, and say of which model."""
        self.asked.add(request.document["model"])
        await wire.json({"error": {"message": f"{request.document['model']} is broken", "code": 500}}, status=500)


FALLS_BACK = World(
    (
        entry(f"m0{MARK}", BAD, upstreamName=f"up-m0{MARK}", fallbacks=(f"m1{MARK}", f"m2{MARK}")),
        entry(f"m1{MARK}", GOOD, upstreamName=f"up-m1{MARK}"),
        entry(f"m2{MARK}", GOOD, upstreamName=f"up-m2{MARK}"),
    ),
    ((f"m0{MARK}",), (f"m0{MARK}", f"m2{MARK}")),
)
"""Of one tenant's model the only fallbacks are others'; of the other one's the second is its own."""


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds())
@example(FALLS_BACK)
def test_no_answer_tells_of_another_tenants_models(world: World) -> None:
    """Status, headers and body on every route and every page; and no engine of such a model is asked.

    A model that may not be used is answered to the letter as one that nobody has.
    """
    asyncio.run(_ask_all(world))


async def _ask_all(world: World) -> None:
    engines = Engines()
    with tempfile.TemporaryDirectory() as folder:
        async with FakeUpstream(engines.good) as good, FakeUpstream(engines.bad) as bad:
            urls = {GOOD: good.url, BAD: bad.url}
            models = [_placed(model, urls) for model in world.models]
            keys = [_key(tenant, patterns) for tenant, patterns in zip(TENANTS, world.lists, strict=True)]
            async with running_gateway(
                Path(folder), *models, keys=keys, insecure_no_auth=False, endpoint_wait_seconds=0.0
            ) as gateway:
                for tenant, patterns in zip(TENANTS, world.lists, strict=True):
                    await _ask_as(gateway, tenant, visible(models, patterns), models, engines)


def _key(tenant: str, patterns: tuple[str, ...]) -> KeyEntry:
    return key_entry(tenant, tenant=tenant, models=patterns)


def _placed(model: ModelEntry, urls: dict[str, str]) -> ModelEntry:
    if not isinstance(model.backend, StaticBackend):
        return model
    return model.model_copy(update={"backend": StaticBackend(urls=tuple(urls[one] for one in model.backend.urls))})


async def _ask_as(
    gateway: RunningGateway, tenant: str, there: set[str], models: Sequence[ModelEntry], engines: Engines
) -> None:
    engines.asked.clear()
    headers = {"authorization": f"Bearer {key_text(tenant)}", "x-request-id": "mine", "x-tenant": "other"}
    async with aiohttp.ClientSession(gateway.url, headers=headers) as http:
        for path in ("/v1/models", "/v1/models?limit=1000"):
            for more in ({}, {"anthropic-version": "2023-06-01"}):
                said = await _said(http, "GET", path, headers=more)
                assert names_in(said) == there or (more and names_in(said) <= there)
        for name in ("auto", *every_name(models)):
            refused = name not in there and (name != "auto" or not there)
            for method, path, body in _requests(name):
                said = await _said(http, method, path, **_sent(path, body))
                assert names_in(said) - there <= ({name} if refused else set()), (path, name)
                if refused:
                    other = next(
                        one
                        for one in _requests(NOBODYS)
                        if one[1].replace(NOBODYS, name) == path
                        and (one[2] or {}).get("stream") == (body or {}).get("stream")
                    )
                    nobodys = await _said(http, other[0], other[1], **_sent(other[1], other[2]))
                    assert said.replace(name, NOBODYS) == nobodys, path
                    assert said.startswith("404 ") or "count_tokens" in path
        for path in (
            "/metrics",
            "/internal/config",
            "/internal/usage",
            "/internal/limits",
            "/internal/guards",
            "/internal/caches",
            "/internal/guards/model?name=a",
            "/admin/cache/stats",
            f"/admin/cache/entry?key={'a' * 32}.{'b' * 16}.{'c' * 64}",
        ):
            assert (await _said(http, "GET", path)).startswith("401 ")
    assert names_in(" ".join(engines.asked)) <= there


def _requests(name: str) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    """Give a request of each route for a model."""
    yield "GET", f"/v1/models/{name}", None
    messages = [{"role": "user", "content": "hello"}]
    bodies: dict[str, dict[str, Any]] = {
        "/v1/completions": {"prompt": "x"}, "/v1/embeddings": {"input": "x"}, "/v1/responses": {"input": "x"},
        "/v1/messages": {"messages": messages, "max_tokens": 5}, "/v1/rerank": {"query": "x", "documents": ["y"]},
        "/v1/moderations": {"input": "x"}, "/v1/guard/check": {"input": "x"},
    }  # fmt: skip
    for route in ROUTES:
        body = {"model": name, **bodies.get(route.path, {"messages": messages})}
        yield "POST", route.path, body
        if route.streams:
            yield "POST", route.path, {**body, "stream": True}


def _sent(path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    """Give how a body goes out: as JSON, and to the routes of sound as a form with a file."""
    if body is None or not path.startswith("/v1/audio/"):
        return {"json": body}
    fields = {"model": body["model"], **({"stream": "true"} if body.get("stream") else {})}
    head = "Content-Disposition: form-data; name="
    parts = [f'{head}"{name}"\r\n\r\n{value}' for name, value in fields.items()]
    parts.append(f'{head}"file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\nsound')
    form = "".join(f"--parted\r\n{part}\r\n" for part in parts) + "--parted--\r\n"
    return {"data": form.encode(), "headers": {"content-type": "multipart/form-data; boundary=parted"}}


async def _said(http: aiohttp.ClientSession, method: str, path: str, **options: Any) -> str:
    """Give all that is said: status, headers and body, without what is another one each time."""
    async with http.request(method, path, **options) as response:
        lines = [
            f"{name}: {value}"
            for name, value in sorted(response.headers.items())
            if name.lower() not in ("date", "content-length", "retry-after", "retry-after-ms", "x-gateway-overhead-ms")
        ]
        try:
            body = await response.text()
        except aiohttp.ClientPayloadError:
            body = ""
        return f"{response.status} {lines} {body}"
