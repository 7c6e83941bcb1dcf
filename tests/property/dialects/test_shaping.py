"""Whatever a request says, it is written for its model, or the client is told what is wrong: no mistake of ours.

The functions are called as they are: behind a gateway an error becomes an answer, and may be mistaken for another.
"""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.config import Compatibility, Provider
from capstan_gateway.dialects.clients.spoken import MESSAGES, RESPONSES
from capstan_gateway.dialects.targets.chat import shape
from capstan_gateway.dialects.targets.native import shape_native
from capstan_gateway.dialects.targets.target import Target
from capstan_gateway.dialects.upstreams.anthropic_request import to_messages_request
from capstan_gateway.dialects.upstreams.openai_request import fits_responses, to_responses_request
from capstan_gateway.documents import TooDeep, to_json
from capstan_gateway.errors import GatewayError
from support.near_json import nearly, places, written

Document = dict[str, Any]
GOLDEN: Final = Path(__file__).parents[2] / "golden/dialects"


def golden(name: str) -> Document:
    """Give a request that uses everything that a dialect has."""
    given: Document = json.loads((GOLDEN / f"{name}.json").read_text())["given"]
    return given


def target(provider: str) -> Target:
    """Give a model with limits; of an engine when there is no provider."""
    return Target(
        id="m", provider=provider, said=Compatibility(), reasons=True, max_output_tokens=4000, context_window=8000
    )


TARGETS: Final = tuple(target(provider) for provider in ("", Provider.OPENAI, Provider.ANTHROPIC))
NATIVE: Final = {
    "messages": (MESSAGES, golden("messages_to_chat"), ("messages", "system", "tools", "thinking")),
    "responses": (RESPONSES, golden("responses_to_chat"), ("input", "tools", "reasoning")),
}
CHAT: Final = golden("chat_to_messages")


def read(body: bytes) -> Document | None:
    """Give the object that was written, if it is JSON."""
    try:
        found = orjson.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def attempt(work: Callable[[], Any]) -> Any:
    """Do it; None when the client is told what is wrong. Anything else that goes wrong is a mistake of ours."""
    try:
        return work()
    except (GatewayError, TooDeep):
        return None


def write_for_all(chat: Document) -> None:
    """Write a chat request for every kind of model."""
    for model in TARGETS:
        attempt(lambda model=model: to_json(shape(chat, model, translated=True)))  # type: ignore[misc]
        attempt(lambda model=model: to_json(shape(chat, model, translated=False)))  # type: ignore[misc]
        attempt(lambda model=model: write_messages(chat, model))  # type: ignore[misc]
        if fits_responses(chat):
            attempt(lambda model=model: write_response(chat, model))  # type: ignore[misc]


def write_messages(chat: Document, model: Target) -> bytes:
    """Write it for Anthropic."""
    return to_json(to_messages_request(shape(chat, model, translated=True), model="x", max_output_tokens=None))


def write_response(chat: Document, model: Target) -> bytes:
    """Write it for OpenAI's responses."""
    return to_json(to_responses_request(shape(chat, model, translated=True, responses=True), model="x"))


@given(data=st.data())
def test_a_chat_is_written_or_refused(data: st.DataObject) -> None:
    """For an engine, OpenAI and Anthropic alike."""
    document = read(written(data.draw(nearly(CHAT, ("messages", "tools", "functions")))))
    if document is not None:
        write_for_all(document)


@pytest.mark.parametrize("name", NATIVE)
@given(data=st.data())
def test_a_request_of_another_dialect_is_written_or_refused(name: str, data: st.DataObject) -> None:
    """To the API that speaks that dialect, and translated to all of them."""
    _, right, fields = NATIVE[name]
    document = read(written(data.draw(nearly(right, fields))))
    if document is not None:
        write_as_it_came(name, document)


@pytest.mark.parametrize("odd", [[], {}, None, 1, [{}]])
@pytest.mark.parametrize("name", NATIVE)
def test_a_value_of_another_type_may_stand_anywhere(name: str, odd: Any) -> None:
    """In each place of a request once: also where an id is looked for among others, which a list cannot be."""
    right = NATIVE[name][1]
    for *parents, key in places(right):
        document = holder = deepcopy(right)
        for step in parents:
            holder = holder[step]
        holder[key] = odd
        write_as_it_came(name, document)


def write_as_it_came(name: str, document: Document) -> None:
    """Write a request of this dialect for the APIs that speak it, and translated for all."""
    dialect = NATIVE[name][0]
    for model in TARGETS:
        attempt(lambda model=model: to_json(shape_native(document, model)))  # type: ignore[misc]
    chat = attempt(lambda: dialect.read_request(document, dialect.read_tools(document)))
    if chat is not None:
        write_for_all(chat)
