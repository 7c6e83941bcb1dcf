"""A chat completion request as its model takes it."""

from typing import Any

from capstan_contract.config import Provider, ReasoningHistory, SystemMessages
from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.targets.ids import FORMS, with_fitting_ids
from capstan_gateway.dialects.targets.limits import within_limits
from capstan_gateway.dialects.targets.media import fit_media
from capstan_gateway.dialects.targets.private import without_private
from capstan_gateway.dialects.targets.reasoning import place_reasoning
from capstan_gateway.dialects.targets.system import as_system, place_system
from capstan_gateway.dialects.targets.target import Target
from capstan_gateway.dialects.targets.turns import answered, without_empty


def shape(
    document: Document, target: Target, *, translated: bool, plain: bool = False, responses: bool = False
) -> Document:
    """Give the request for this model: the very same object when it takes it as it is.

    What a client of chat completions says is its own: beside its limit, what is private, pictures whose URLs strict
    engines refuse and turns without anything in them only that changes which the model's owner has set, and the role
    `developer` for engines (`plain` says that every message is a text, and none of that role). A `translated` one is
    written as its model needs it; with `responses` it goes to OpenAI's Responses API. InvalidRequest names what the
    model's owner wants refused.
    """
    document = without_private(document, target, whole=translated or bool(target.provider))
    document = within_limits(document, target)
    messages = document.get("messages")
    if translated:
        document = _with_messages(document, _with_ids(_written(messages, target), target))
        return _fitting_effort(document, target, responses=responses)
    if not plain or target.said.systemMessages is not None or target.said.reasoningHistory is not None:
        messages = _as_set(messages, target)
    if not plain and isinstance(messages, list):
        messages = without_empty(fit_media(messages), translated=False)
    return _with_messages(document, _with_ids(messages, target))


def _with_messages(document: Document, messages: Any) -> Document:
    return document if messages is document.get("messages") else {**document, "messages": messages}


def _with_ids(messages: Any, target: Target) -> Any:
    form = target.tool_ids
    return messages if form is None or not isinstance(messages, list) else with_fitting_ids(messages, FORMS[form])


def _written(messages: Any, target: Target) -> Any:
    if not isinstance(messages, list):
        return messages
    several = target.provider == Provider.ANTHROPIC  # Its prompt has blocks, each with a cache of its own.
    messages = place_reasoning(messages, keep=target.wants_reasoning)
    messages = place_system(without_empty(fit_media(messages), translated=True), target.system, several=several)
    # NB: Anthropic's request is made of this, with its own ids for calls and results.
    return messages if target.provider == Provider.ANTHROPIC else answered(messages)


def _as_set(messages: Any, target: Target) -> Any:
    if not isinstance(messages, list):
        return messages
    if target.is_plain:
        messages = as_system(messages)
    messages = place_system(messages, target.said.systemMessages or SystemMessages.ANYWHERE)
    history = target.said.reasoningHistory
    return messages if history is None else place_reasoning(messages, keep=history is ReasoningHistory.PASS)


def _fitting_effort(document: Document, target: Target, *, responses: bool) -> Document:
    """Leave out an effort that OpenAI refuses: of a model that does not reason, and in chat beside tools. Agents send
    one with every request."""
    if target.provider != Provider.OPENAI or "reasoning_effort" not in document:
        return document
    if target.reasons and (responses or not document.get("tools")):
        return document
    return {key: value for key, value in document.items() if key != "reasoning_effort"}
