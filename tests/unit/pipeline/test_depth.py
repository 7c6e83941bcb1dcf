"""JSON is read deeper than it is written: what could not be written again is refused where it comes in."""

from typing import Any
from unittest.mock import Mock

import orjson
import pytest

from capstan_gateway.dialects.clients.spoken import MESSAGES, RESPONSES
from capstan_gateway.documents import TooDeep, to_json
from capstan_gateway.errors import InvalidRequest, UpstreamFailed
from capstan_gateway.inference.routes import ROUTES
from capstan_gateway.pipeline.call import _body
from capstan_gateway.pipeline.loading import MAX_DEPTH, check_depth
from capstan_gateway.pipeline.parse import parse, translate
from capstan_gateway.pipeline.present import _written
from capstan_gateway.streaming.deltas import check_answer
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.streaming.sse import data_frame
from fakes.openai_upstream import completion

BY_PATH = {route.path: route for route in ROUTES}


def nested(levels: int) -> bytes:
    """Give an object of so many levels."""
    return b'{"a":' * levels + b"1" + b"}" * levels


def test_the_deepest_document_can_be_written_inside_of_others() -> None:
    """What is not refused can be written anew, with what a translation puts around it; one level more is refused."""
    body = nested(MAX_DEPTH)
    check_depth(body, orjson.loads(body))
    assert orjson.dumps([[[orjson.loads(body)]]])
    body = nested(MAX_DEPTH + 1)
    with pytest.raises(InvalidRequest, match=f"at most {MAX_DEPTH} levels"):
        check_depth(body, orjson.loads(body))


def test_lists_are_levels_as_well() -> None:
    """Alone, and with objects between them: the client is told by a code that the value cannot be taken."""
    for opens, closes, levels in ((b"[", b"]", 1), (b'[{"a":', b"}]", 2)):
        count = MAX_DEPTH // levels + 1
        body = b'{"a":' + opens * count + b"1" + closes * count + b"}"
        with pytest.raises(InvalidRequest) as refused:
            check_depth(body, orjson.loads(body))
        assert refused.value.code == "invalid_value"


def test_many_lists_side_by_side_are_not_deep() -> None:
    """It is levels that count, and not how many objects there are."""
    body = b'{"a":[' + b",".join([b"[{}]"] * 500) + b"]}"
    check_depth(body, orjson.loads(body))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/messages",
            b'{"model":"m","max_tokens":9,"messages":[{"role":"assistant","content":'
            b'[{"type":"tool_use","id":"a","name":"f","input":%b}]}]}',
        ),
        ("/v1/responses", b'{"model":"m","input":[{"type":"function_call","call_id":"a","name":"f","arguments":%b}]}'),
        ("/v1/responses", b'{"model":"m","input":"x","metadata":%b}'),
        ("/v1/chat/completions", b'{"model":"m","model":"m","messages":[{"role":"user","content":"x"}],"x":%b}'),
    ],
)
def test_a_request_that_is_written_anew_is_refused_when_it_is_too_deep(path: str, body: bytes) -> None:
    """Arguments of calls, fields that the answer repeats, and bodies that parsers could read in two ways."""
    route, given = BY_PATH[path], body % nested(300)
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        parse(route, given) if route.dialect is None else translate(route, route.dialect, given, [])


@pytest.mark.parametrize(("dialect", "name"), [(MESSAGES, "f"), (RESPONSES, "tool_search")])
def test_arguments_that_are_too_deep_are_the_model_s_fault(dialect: Any, name: str) -> None:
    """Where arguments, which are a text, are read and written as JSON, more levels than that has are a bad answer."""
    call = {"id": "a", "type": "function", "function": {"name": name, "arguments": nested(300).decode()}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    body = orjson.dumps(completion("m", choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}]))
    request = {"model": "m", "tools": [{"type": "tool_search", "execution": "client"}]}
    with pytest.raises(UpstreamFailed, match="nested too deeply"):
        _written(dialect, request, dialect.read_tools(request), body)


@pytest.mark.parametrize("whole", [False, True])
def test_arguments_as_an_object_that_is_too_deep_are_no_answer(whole: bool) -> None:
    """Some engines give an object, and clients want a text: one that nobody can write breaks a stream and an answer."""
    called = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": {"a": "ARGUMENTS"}}}]}
    choice = {"index": 0, "message" if whole else "delta": called, "finish_reason": "tool_calls"}
    body = orjson.dumps({"choices": [choice]}).replace(b'"ARGUMENTS"', nested(300))
    with pytest.raises(StreamBroken, match="nested too deeply"):
        check_answer(body) if whole else StreamRelay(strip_usage=False).feed(b"data: %b\n\n" % body)


def test_an_event_that_is_too_deep_breaks_its_stream() -> None:
    """What a relay writes anew is the engine's fault when nobody can write it."""
    with pytest.raises(StreamBroken, match="nested too deeply"):
        data_frame(orjson.loads(nested(300)))


def test_what_is_too_deep_has_an_error_of_its_own() -> None:
    """It is no TypeError, which orjson's own is: one who waits for that one would take every mistake of ours for it."""
    with pytest.raises(TooDeep):
        to_json(orjson.loads(nested(255)))
    assert to_json(orjson.loads(nested(254))) == nested(254)
    assert not issubclass(TooDeep, TypeError)


@pytest.mark.parametrize("value", [object(), {1: 2}, 2**70, "\ud800"])
def test_what_is_no_json_is_not_too_deep(value: object) -> None:
    """Only we can have made such a value, so that it stays the mistake that it is."""
    with pytest.raises(TypeError):
        to_json(value)
    with pytest.raises(TypeError):
        data_frame(value)


def test_a_mistake_in_writing_an_answer_is_told_as_one() -> None:
    """A TypeError out of a translator says nothing of the engine: it is raised, logged and answered as ours."""
    with pytest.raises(TypeError):
        _written(Mock(write_answer=Mock(side_effect=TypeError("unhashable"))), {}, None, b"{}")


def test_a_mistake_in_writing_a_request_is_told_as_one() -> None:
    """Nor does one say anything of the client's request."""
    request = Mock(native=None)
    with pytest.raises(TypeError):
        _body(request, Mock(), Mock(body=Mock(side_effect=TypeError("unhashable"))))
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        _body(request, Mock(), Mock(body=lambda *_: to_json(orjson.loads(nested(300)))))
