"""What parts tenants in the cache of an engine."""

import json
import re
from itertools import product
from typing import Any

import orjson
import pytest

from capstan_contract.config import ModelEntry, StaticBackend, Task
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.dialects.targets.private import Pseudonyms
from capstan_gateway.errors import InvalidRequest
from capstan_gateway.identity.principal import Principal
from capstan_gateway.pipeline.outgoing import build_body
from capstan_gateway.pipeline.parse import parse
from capstan_gateway.pipeline.request import Request, Route
from capstan_gateway.pipeline.salt import salt_for
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.telemetry.metrics import Metrics, ModelMetrics

CHAT = Route("/v1/chat/completions", b"/chat/completions", frozenset((Task.CHAT,)), ("messages",), streams=True)
KEY = b"0123456789abcdef"


def model(name: str = "m", *, upstream: str = "m", key: bytes = KEY) -> ServedModel:
    """Give a model whose engine keeps tenants apart."""
    entry = ModelEntry(
        id=f"t/{name}", servedName="m", upstreamName=upstream, backend=StaticBackend(urls=()), tenantSalt=True
    )
    return ServedModel(
        entry, name="m", upstream_name=upstream, pseudonyms=Pseudonyms(key),
        endpoints=EndpointSet(EndpointRegistry()), metrics=ModelMetrics(Metrics(), "m"),
    )  # fmt: skip


def request(**more: Any) -> Request:
    """Give a chat request."""
    return parse(CHAT, orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}], **more}))


def test_salts_differ_by_tenant_by_model_and_by_the_clients_own() -> None:
    """No two of them share one, and each is always the same; without the key nobody can tell whose one is."""
    tenants, said = ("a", "b", "a\0b", "\0"), (None, "x", "b", "\0b", "1\0a")
    salts = [
        salt_for(request(cache_salt=own), model(name), Principal(tenant=tenant))
        for tenant, own, name in product(tenants, said, ("m", "n"))
    ]
    assert len(set(salts)) == len(salts)
    assert all(re.fullmatch("[0-9a-f]{32}", salt) for salt in salts)
    assert salt_for(request(), model(), Principal(tenant="a")) == salts[0]
    assert salt_for(request(), model(key=KEY[::-1]), Principal(tenant="a")) not in salts


@pytest.mark.parametrize("said", ["", 0, False, [], {"a": 1}])
def test_what_is_no_text_is_refused(said: Any) -> None:
    """It would be no salt for the engine either."""
    with pytest.raises(InvalidRequest, match="cache_salt"):
        salt_for(request(cache_salt=said), model(), Principal(tenant="a"))


@pytest.mark.parametrize("upstream", ["m", "another"])
@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize(
    "more",
    [
        {}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}, {"cache_salt": "mine"},
        {"cache_salt": "mine", "stream": True}, {"cache_salt": None}, {"x": '"cache_salt":"no"'},
    ],
)  # fmt: skip
def test_the_engine_gets_one_salt_and_all_the_rest(more: dict[str, Any], continuous: bool, upstream: str) -> None:
    """In a body that goes out as it came, and in one that is written anew; a client's own salt is replaced."""
    asked, to = request(**more), model(upstream=upstream)
    sent = build_body(asked, to, continuous=continuous, salt="5a17")
    pairs = json.loads(sent, object_pairs_hook=list)
    assert [value for name, value in pairs if name == "cache_salt"] == ["5a17"]
    without = json.loads(build_body(asked, to, continuous=continuous))
    assert {**without, "cache_salt": "5a17"} == json.loads(sent)
