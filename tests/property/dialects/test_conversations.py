"""Conversations on their way to every kind of model: what both sides can say arrives, in its order and in pairs."""

import json
from collections.abc import Callable
from typing import Any, Final

import orjson
import pytest
from hypothesis import assume, example, given, settings

from capstan_contract.config import (
    Capability,
    Compatibility,
    ExternalBackend,
    ExternalEndpoint,
    ModelEntry,
    Provider,
    ReasoningHistory,
    StaticBackend,
    SystemMessages,
)
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.inference.routes import ROUTES
from capstan_gateway.pipeline.adapters import adapter_for
from capstan_gateway.pipeline.outgoing import build_body
from capstan_gateway.pipeline.parse import parse, translate
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.telemetry.metrics import Metrics, ModelMetrics
from support.conversations import (
    Assistant,
    Conversation,
    System,
    Text,
    User,
    as_chat,
    as_messages,
    as_responses,
    conversations,
)
from support.heard import heard_in_chat, heard_in_messages, heard_in_responses, said_in, systems_first
from support.refused import refused_by_anthropic, refused_by_chat

Document = dict[str, Any]
ROUTE: Final = {route.path.removeprefix("/v1/"): route for route in ROUTES}
CLIENTS: Final[dict[str, Callable[[Conversation], Document]]] = {
    "chat/completions": as_chat, "messages": as_messages, "responses": as_responses,
}  # fmt: skip
METRICS: Final = ModelMetrics(Metrics(), "m")


def model(provider: Provider | None = None, *, reasons: bool = False, **said: Any) -> ServedModel:
    """Give a model, hosted by this provider or an engine's."""
    backend: Any = StaticBackend(urls=("http://127.0.0.1:1",))
    if provider is not None:
        backend = ExternalBackend(provider=provider, endpoints=(ExternalEndpoint(name="a", url="http://127.0.0.1:1"),))
    entry = ModelEntry(
        id="t/m",
        servedName="m",
        upstreamName="up",
        backend=backend,
        compatibility=Compatibility(**said),
        capabilities=(Capability.REASONING,) if reasons else (),
    )
    return ServedModel(
        entry, name="m", upstream_name="up", endpoints=EndpointSet(EndpointRegistry()), metrics=METRICS
    )  # fmt: skip


THINKING: Final = {"reasoningHistory": ReasoningHistory.PASS}
ENGINES: Final = {
    "an engine": model(),
    "an engine that wants its thoughts back": model(**THINKING),
    "an engine that takes the system first": model(systemMessages=SystemMessages.FIRST),
    "OpenAI": model(Provider.OPENAI),
    "a hosted engine": model(Provider.OPENAI_COMPATIBLE),
}
CLAUDE: Final = model(Provider.ANTHROPIC)
THINKER: Final = model(Provider.OPENAI, reasons=True)


def sent(client: str, document: Document, to: ServedModel) -> Document:
    """Give what a model is sent for a client's request."""
    route, body = ROUTE[client], orjson.dumps(document)
    request = parse(route, body) if route.dialect is None else translate(route, route.dialect, body, [])
    adapter = adapter_for(request, to) if to.provider or route.dialect is not None else None
    if request.untranslatable is not None and (adapter is None or not adapter.native):
        raise request.untranslatable
    written: Document = json.loads(build_body(request, to) if adapter is None else adapter.body(request, to))
    return written


def has_twins(conversation: Conversation) -> bool:
    """Whether two calls of one turn have one id: where ids go out as they came nobody could tell the results apart."""
    turns = [[call.id for call in turn.calls] for turn in conversation if isinstance(turn, Assistant)]
    return any(len(set(ids)) < len(ids) for ids in turns)


def spoken(conversation: Conversation, *, thoughts: bool) -> list[str]:
    """Give every text of a conversation."""
    texts: list[str] = []
    for turn in conversation:
        if isinstance(turn, System):
            texts.append(turn.text)
        elif isinstance(turn, User):
            texts += [part.text for part in turn.parts if isinstance(part, Text)]
        elif isinstance(turn, Assistant):
            texts += [*turn.texts, *([turn.thought] if thoughts else [])]
        else:
            texts += [part.text for result in turn.results for part in result.parts if isinstance(part, Text)]
    return [text.strip() for text in texts if text.strip()]


def texts_in(value: Any) -> list[str]:
    """Give every text in a document."""
    if isinstance(value, dict):
        return [text for inner in value.values() for text in texts_in(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in texts_in(inner)]
    return [value] if isinstance(value, str) else []


def assert_word_for_word(conversation: Conversation, request: Document, *, thoughts: bool) -> None:
    """See that every text is there as it was written, with the white space inside of it."""
    there = "\0\0".join(texts_in(request["messages"]) + texts_in(request.get("system")))
    assert [text for text in spoken(conversation, thoughts=thoughts) if text not in there] == []


@pytest.mark.parametrize("to", ENGINES)
@pytest.mark.parametrize("client", CLIENTS)
@settings(max_examples=50)
@given(conversation=conversations())
def test_engines_hear_all_of_it(client: str, to: str, conversation: Conversation) -> None:
    """Every text, picture, file, call and result of a client arrives at a model that speaks chat completions.

    Results of tools are text there: from the other dialects their pictures follow as the user's.
    """
    document = CLIENTS[client](conversation)
    request = sent(client, document, ENGINES[to])
    if client == "responses" and to == "OpenAI":
        assume(not has_twins(conversation))
        assert heard_in_responses(request) == said_in(conversation, thoughts=True)
        return
    own = client == "chat/completions"
    thoughts = (own and "thoughts" not in to) or "thoughts" in to
    wanted = said_in(conversation, thoughts=thoughts, shows=own, tells_failure=client == "messages")
    if "first" in to:
        wanted = systems_first(wanted)
    assert heard_in_chat(request) == wanted
    assert_word_for_word(conversation, request, thoughts=thoughts)
    assert own or refused_by_chat(request) == []


@pytest.mark.parametrize("client", CLIENTS)
@given(conversation=conversations())
@example(conversation=[User((Text("Begin:"),)), Assistant("", ("So, \n",))])
def test_anthropic_hears_all_of_it(client: str, conversation: Conversation) -> None:
    """The same at Anthropic, which refuses what does not take turns, is empty, or has calls without their results."""
    request = sent(client, CLIENTS[client](conversation), CLAUDE)
    native = client == "messages"
    shows = client != "responses"
    assert heard_in_messages(request) == said_in(conversation, thoughts=False, shows=shows)
    assert_word_for_word(conversation, request, thoughts=False)
    assert native or refused_by_anthropic(request) == []


@settings(max_examples=50)
@given(conversation=conversations())
def test_openai_hears_all_of_it_where_it_is_asked_for_a_response(conversation: Conversation) -> None:
    """The same on the way from Anthropic's dialect to OpenAI's responses, where an effort stands beside tools."""
    document = {**as_messages(conversation), "output_config": {"effort": "low"}}
    request = sent("messages", document, THINKER)
    assert heard_in_responses(request) == said_in(conversation, thoughts=False, shows=False, tells_failure=True)
    ids = [item["call_id"] for item in request["input"] if item["type"] == "function_call"]
    outputs = [item["call_id"] for item in request["input"] if item["type"] == "function_call_output"]
    assert sorted(ids) == sorted(outputs)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("to", ["an engine", "a hosted engine"])
@settings(max_examples=50)
@given(conversation=conversations())
def test_all_of_it_is_counted(to: str, conversation: Conversation) -> None:
    """An engine that counts a conversation is told the whole of it, in the form that Anthropic takes."""
    request = sent("messages/count_tokens", as_messages(conversation), ENGINES[to])
    assert heard_in_messages(request) == said_in(conversation, thoughts=False, shows=False, tells_failure=True)
    assert refused_by_anthropic(request) == []
