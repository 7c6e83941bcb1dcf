"""A request whose client asks for it is cut to a number of tokens, before anything else is done with it."""

from typing import Any, Final

from capstan_gateway.dialects.clients.spoken import COUNTED, MESSAGES
from capstan_gateway.errors import InvalidRequest
from capstan_gateway.pipeline.options import FIELD
from capstan_gateway.pipeline.request import Route
from capstan_gateway.tokens.prompt import ANSWER_TOKENS, prompt_tokens
from capstan_gateway.tokens.trim import TooMuch, Trimmed, trim

PARAM: Final = f"{FIELD}.trim"


def trim_document(route: Route, document: dict[str, Any], most: int) -> Trimmed | None:
    """Cut the messages of a document to so many tokens, all that is sent with them included; None: there are none.

    Raises InvalidRequest on a route without messages, and where what is never dropped has more tokens. What is no list
    of messages is left as it is, to be refused for that.
    """
    if "messages" not in route.required and route.dialect not in (MESSAGES, COUNTED):
        raise InvalidRequest(f"`{PARAM}` is not supported on {route.path}", code="invalid_value", param=PARAM)
    messages = document.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return None
    beside = prompt_tokens({**document, "messages": []})
    try:
        trimmed = trim(messages, most=most - beside, count=_tokens_of)
    except TooMuch as error:
        raise InvalidRequest(
            f"`{PARAM}.max_tokens` is {most}, and what is never dropped (system messages, tools, the last turn) has "
            f"about {error.least + beside} tokens",
            code="invalid_value",
            param=f"{PARAM}.max_tokens",
        ) from None
    document["messages"] = trimmed.messages
    return trimmed


def _tokens_of(message: Any) -> int:
    return prompt_tokens({"messages": [message]}) - ANSWER_TOKENS
