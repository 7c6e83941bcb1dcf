"""One answer, in whatever pieces it comes, is the same to every client, and the same again in its next request."""

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan_gateway.dialects.clients.native import NativeMessagesRelay
from capstan_gateway.dialects.clients.presented import PresentedRelay
from capstan_gateway.dialects.clients.spoken import MESSAGES, Responses
from capstan_gateway.dialects.upstreams.anthropic_answer import to_chat_completion
from capstan_gateway.dialects.upstreams.anthropic_request import to_messages_request
from capstan_gateway.dialects.upstreams.anthropic_stream import AnthropicRelay
from capstan_gateway.inference.routes import ROUTES
from capstan_gateway.pipeline.engine_answer import read_answer
from capstan_gateway.pipeline.request import Request
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.relay import Rename, StreamRelay
from fakes.anthropic_upstream import message
from support.answers import (
    Answer,
    Heard,
    answers,
    anthropic_events,
    blocks,
    chat_heard,
    chat_stream_heard,
    cuts,
    messages_heard,
    messages_stream_heard,
    responses_heard,
    responses_stream_heard,
    streamed,
    whole,
)

Document = dict[str, Any]
RESPONSES: Final = Responses(clock=lambda: 1_700_000_000.5)
REQUEST: Final[Document] = {"model": "m", "tools": [{"type": "function", "name": "read", "parameters": {}}]}

ASKED: Final = Request(ROUTES[0], REQUEST, stream=False, usage_asked=False)


class Client(NamedTuple):
    """What the gateway does for clients of one dialect, and what they do themselves."""

    dialect: Any
    reads: Callable[[Document], Heard]
    reads_stream: Callable[[bytes], Heard]


CLIENTS: Final = {
    "chat": Client(None, chat_heard, chat_stream_heard),
    "messages": Client(MESSAGES, messages_heard, messages_stream_heard),
    "responses": Client(RESPONSES, responses_heard, responses_stream_heard),
}


def relayed(client: Client, inner: Relay, data: list[bytes]) -> bytes:
    """Give what the client gets of a stream."""
    relay = inner if client.dialect is None else PresentedRelay(inner, client.dialect.presenter(REQUEST))
    out = b"".join(relay.feed(piece) for piece in data)
    return out if relay.done else out + relay.finish()


def of_engine() -> Relay:
    """Give what reads an engine's stream."""
    return StreamRelay(strip_usage=False, rename=Rename("up", "m"))


def of_anthropic() -> Relay:
    """Give what reads Anthropic's stream."""
    return AnthropicRelay(model="m", usage_asked=True, created=5)


def answered(client: Client, completion: bytes, *, repairs: bool = True) -> Document:
    """Give what the client gets of an answer in one piece; those of engines are repaired."""
    repairs = repairs and client.dialect is None
    body = read_answer(ASKED, completion, hosted=False)[0] if repairs else completion
    document: Document = orjson.loads(body)
    return (
        document if client.dialect is None else json.loads(orjson.dumps(client.dialect.write_answer(document, REQUEST)))
    )


def plain(heard: Heard) -> tuple[Any, ...]:
    """Give what was said, without how it ended, and the JSON of arguments in one form."""
    return heard.thought, heard.text, heard.calls


def said(answer: Answer) -> tuple[Any, ...]:
    """Give what a model said, in the same form."""
    calls = tuple(
        (call_id, name, json.dumps(json.loads(given), sort_keys=True)) for call_id, name, given in answer.calls
    )
    return answer.thought, answer.text + answer.refusal, calls


@pytest.mark.parametrize("name", CLIENTS)
@settings(max_examples=50)
@given(data=st.data())
def test_no_cut_shows(name: str, data: st.DataObject) -> None:
    """However the network cuts one stream, a client gets the same bytes."""
    stream = data.draw(streamed(data.draw(answers())))
    client = CLIENTS[name]
    assert relayed(client, of_engine(), data.draw(cuts(stream))) == relayed(client, of_engine(), [stream])


@pytest.mark.parametrize("name", CLIENTS)
@settings(max_examples=40)
@given(data=st.data())
def test_every_way_to_stream_it_says_what_the_whole_says(name: str, data: st.DataObject) -> None:
    """However an engine puts an answer into chunks, its clients end with what the answer in one piece would have told.

    And that is what the model said.
    """
    answer, client = data.draw(answers()), CLIENTS[name]
    heard = client.reads(answered(client, orjson.dumps(whole(answer))))
    stream = data.draw(streamed(answer))
    assert client.reads_stream(relayed(client, of_engine(), data.draw(cuts(stream)))) == heard
    assert plain(heard) == said(answer)


REASONS: Final = st.sampled_from(["end_turn", "max_tokens", "tool_use", "refusal", "pause_turn", "stop_sequence"])


@pytest.mark.parametrize("name", CLIENTS)
@settings(max_examples=40)
@given(data=st.data())
def test_anthropic_says_the_same_streamed_and_whole(name: str, data: st.DataObject) -> None:
    """The same of a model that Anthropic hosts, by way of chat."""
    answer, reason, client = data.draw(answers()), data.draw(REASONS), CLIENTS[name]
    usage = {**message([])["usage"], "output_tokens": 9}
    body = orjson.dumps(message(blocks(answer), reason, usage=usage))
    heard = client.reads(answered(client, to_chat_completion(body, model="m", created=5)[0], repairs=False))
    stream = anthropic_events(answer, reason)
    assert client.reads_stream(relayed(client, of_anthropic(), data.draw(cuts(stream)))) == heard
    assert plain(heard) == said(answer)


@given(data=st.data())
def test_anthropic_s_own_clients_hear_what_it_says(data: st.DataObject) -> None:
    """Nothing of a stream is lost between two who speak Anthropic."""
    answer, reason = data.draw(answers()), data.draw(REASONS)
    relay = NativeMessagesRelay(Rename("claude-x", "m"))
    out = b"".join(relay.feed(piece) for piece in data.draw(cuts(anthropic_events(answer, reason))))
    assert plain(messages_stream_heard(out)) == said(answer)


def next_request(name: str, answer: Document) -> Document:
    """Give the chat request of a client that sends an answer back as its dialect wants it."""
    if name == "chat":
        return {"messages": [answer["choices"][0]["message"]]}
    results = [{"role": "user", "content": "Go on"}]
    if name == "messages":
        history = [{"role": "assistant", "content": answer["content"]}, *results]
        return MESSAGES.read_request({"model": "m", "max_tokens": 9, "messages": history})
    return RESPONSES.read_request({**REQUEST, "input": [*answer["output"], *results]})


@pytest.mark.parametrize("name", CLIENTS)
@settings(max_examples=50)
@given(answer=answers())
def test_what_was_said_comes_back(name: str, answer: Answer) -> None:
    """A client that sends an answer back as it got it gives the model its own words, thoughts and calls."""
    client = CLIENTS[name]
    request = next_request(name, answered(client, orjson.dumps(whole(answer))))
    turns = [turn for turn in request["messages"] if turn["role"] == "assistant"]
    together = {
        "role": "assistant",
        "content": "".join((turn["content"] or "") + (turn.get("refusal") or "") for turn in turns),
        "reasoning_content": "".join(turn.get("reasoning_content") or "" for turn in turns),
        "tool_calls": [call for turn in turns for call in turn.get("tool_calls") or ()],
    }
    heard = chat_heard({**whole(answer), "choices": [{**whole(answer)["choices"][0], "message": together}]})
    speaks = answer.text or answer.refusal or answer.calls
    assert plain(heard) == said(answer) or not speaks


@settings(max_examples=50)
@given(answer=answers())
def test_what_anthropic_said_comes_back_to_it(answer: Answer) -> None:
    """By way of chat its text and its calls are what it said; what it thought stays away, for want of a signature."""
    said_by = orjson.dumps(message(blocks(answer), "end_turn"))
    completion = orjson.loads(to_chat_completion(said_by, model="m", created=5)[0])
    history = [completion["choices"][0]["message"], {"role": "user", "content": "Go on"}]
    (turn, *_) = [
        turn
        for turn in to_messages_request({"messages": history}, model="m")["messages"]
        if turn["role"] == "assistant"
    ] or [{"content": []}]
    heard = messages_heard(message(turn["content"], "end_turn"))
    assert heard.text.strip() == (answer.text + answer.refusal).strip()
    assert heard.calls == said(answer)[2]
