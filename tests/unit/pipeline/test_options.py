"""The field `capstan`: what is asked of the gateway itself, what is refused, and that nobody else sees it."""

from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.config import Task
from capstan_gateway.dialects.clients.spoken import MESSAGES
from capstan_gateway.errors import InvalidRequest
from capstan_gateway.pipeline.options import NO_OPTIONS, Options, read_options
from capstan_gateway.pipeline.parse import receive
from capstan_gateway.pipeline.request import Request, Route

CHAT = Route("/v1/chat/completions", b"/chat/completions", frozenset((Task.CHAT,)), ("messages",), streams=True)
NATIVE = Route("/v1/messages", b"/chat/completions", frozenset((Task.CHAT,)), streams=True, dialect=MESSAGES)
ASKED: dict[str, Any] = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
DOLLARS = "must be a number of US dollars from 0 to 1000000"


def received(route: Route, document: dict[str, Any]) -> tuple[Request | None, Options]:
    """Read a body as it comes from a connection; give the request, and what is asked of the gateway."""
    body = orjson.dumps(document)
    exchange = SimpleNamespace(
        length=len(body), received=len(body), whole_body=lambda _: body, reserve=lambda _: None, headers=[]
    )
    delivery = SimpleNamespace(
        model="",
        exchange=exchange, route=route, content_type=b"application/json", content_encoding=None, options=NO_OPTIONS,
        body_at=0.0, client_document=None, client_tools=None,
    )  # fmt: skip
    deps = SimpleNamespace(max_body_bytes=1 << 20, later=None, clock=lambda: 0.0)
    return receive(cast(Any, delivery), cast(Any, deps)), delivery.options


def test_what_is_asked_is_read() -> None:
    """Each part is read, money in whole nano-dollars and never rounded up."""
    given = {"trim": {"max_tokens": 8000}, "max_cost": 0.1, "cost": True}
    assert read_options(given) == Options(trim_tokens=8000, max_cost=100_000_000, cost=True)
    assert read_options({"max_cost": "0.0000000019"}).max_cost == 1
    assert read_options({"max_cost": 1e-07}).max_cost == 100
    assert read_options({"max_cost": 0}).max_cost == 0
    assert read_options(None) == read_options({}) == read_options(dict.fromkeys(("trim", "cost"))) == NO_OPTIONS


@pytest.mark.parametrize(
    ("value", "param", "must"),
    [
        (7, "capstan", "must be an object"),
        ([], "capstan", "must be an object"),
        ({"trimm": 1}, "capstan", "may have the fields cost, max_cost, prefix, trim only"),
        ({"trim": 7}, "capstan.trim", 'must be an object such as {"max_tokens": 8000}'),
        ({"trim": {}}, "capstan.trim", 'must be an object such as {"max_tokens": 8000}'),
        ({"trim": {"max_tokens": 1, "x": 1}}, "capstan.trim", 'must be an object such as {"max_tokens": 8000}'),
        ({"trim": {"max_tokens": 0}}, "capstan.trim.max_tokens", "must be a whole number of tokens above 0"),
        ({"trim": {"max_tokens": True}}, "capstan.trim.max_tokens", "must be a whole number of tokens above 0"),
        ({"trim": {"max_tokens": 1.5}}, "capstan.trim.max_tokens", "must be a whole number of tokens above 0"),
        ({"trim": {"max_tokens": 1 << 60}}, "capstan.trim.max_tokens", "must be a whole number of tokens above 0"),
        ({"max_cost": -1}, "capstan.max_cost", DOLLARS),
        ({"max_cost": True}, "capstan.max_cost", DOLLARS),
        ({"max_cost": "1e3"}, "capstan.max_cost", DOLLARS),
        ({"max_cost": 10**30}, "capstan.max_cost", DOLLARS),
        ({"max_cost": 1e300}, "capstan.max_cost", DOLLARS),
        ({"cost": "yes"}, "capstan.cost", "must be true or false"),
        ({"prefix": ""}, "capstan.prefix", "must be the name of a prefix of the model"),
        ({"prefix": ["a"]}, "capstan.prefix", "must be the name of a prefix of the model"),
    ],
)
def test_a_bad_value_is_refused_by_its_path(value: Any, param: str, must: str) -> None:
    """The error names the part that is wrong, and what is allowed there."""
    with pytest.raises(InvalidRequest) as caught:
        read_options(value)
    assert (caught.value.param, str(caught.value), caught.value.status) == (param, f"`{param}` {must}", 400)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(
                        st.sampled_from(["trim", "max_cost", "cost", "prefix", "max_tokens"]), inner)))  # fmt: skip
def test_any_value_is_read_or_refused(value: Any) -> None:
    """Whatever JSON stands there, it is read within its bounds, or is a client's error."""
    try:
        options = read_options(value)
    except InvalidRequest:
        return
    assert options.max_cost is None or 0 <= options.max_cost <= 10**15
    assert options.trim_tokens is None or options.trim_tokens > 0


@pytest.mark.parametrize("route", [CHAT, NATIVE])
def test_the_field_is_read_and_never_sent_on(route: Route) -> None:
    """What is asked of the gateway is on the delivery, and in nothing that a model may be sent."""
    request, options = received(route, {**ASKED, "capstan": {"max_cost": 1}})
    assert request is not None
    assert options == Options(max_cost=10**9)
    assert request.raw is None
    assert "capstan" not in request.document
    if route is NATIVE:
        assert request.native is not None
        assert orjson.loads(request.native.body) == ASKED


@pytest.mark.parametrize("route", [CHAT, NATIVE])
def test_without_the_field_the_bytes_are_passed_on(route: Route) -> None:
    """A request that asks nothing of the gateway goes out as the bytes that came in."""
    request, options = received(route, ASKED)
    assert request is not None
    assert options is NO_OPTIONS
    assert (request.raw if request.native is None else request.native.body) == orjson.dumps(ASKED)
