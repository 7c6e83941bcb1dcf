"""`/tokenize` as vLLM has it: a prompt or a conversation in, the number of its tokens out.

    {"model": "m", "prompt": "text"}                     {"count": 3, "max_model_len": 8192, "tokens": [1, 2, 3],
    {"model": "m", "messages": [...], "tools": [...]}     "token_strs": null, "counted_by": "engine"}

`counted_by` is ours. Tokens themselves are there only where the engine has counted.
"""

from typing import Any, Final

import orjson

from capstan_gateway.dialects.clients.port import ClientTools, DroppedTool, Presenter
from capstan_gateway.dialects.fields import Document
from capstan_gateway.documents import to_json
from capstan_gateway.envelope import error_payload
from capstan_gateway.errors import GatewayError, InvalidRequest, UpstreamFailed
from capstan_gateway.tokens.counter import CountedBy
from capstan_gateway.tokens.usage import MOST_TOKENS

_NO_COUNT: Final = "the model's engine answered without a count"
_PROMPT_FIELDS: Final = (
    "messages", "tools", "chat_template", "chat_template_kwargs", "add_generation_prompt", "continue_final_message",
)  # fmt: skip
"""Those of a chat request of which an engine makes the prompt, as vLLM names them."""


class _NoTools:
    dropped: tuple[DroppedTool, ...] = ()


_NO_TOOLS: Final = _NoTools()


class Tokenized:
    """`port.Dialect`. Its answers are written by who counts, never translated."""

    def read_tools(self, document: Document) -> ClientTools:  # noqa: ARG002 - one signature
        """Give none: tools are part of the prompt as they are."""
        return _NO_TOOLS

    def read_request(self, document: Document, tools: ClientTools | None = None) -> Document:  # noqa: ARG002 - one signature
        """Give the request itself; InvalidRequest unless it has a prompt or messages, and not both."""
        prompt, messages = document.get("prompt"), document.get("messages")
        if (prompt is None) == (messages is None):
            raise InvalidRequest(
                "`prompt` or `messages` is required, and not both", code="missing_required_parameter", param="prompt"
            )
        if messages is None and not isinstance(prompt, str):
            raise InvalidRequest("`prompt` must be a string", code="invalid_value", param="prompt")
        if messages is not None and not _are_messages(messages):
            raise InvalidRequest(
                "`messages` must be a list of at least one message with a role", code="invalid_value", param="messages"
            )
        return document

    def write_answer(self, completion: Document, request: Document, tools: ClientTools | None = None) -> Document:  # noqa: ARG002 - one signature
        """Never: what is no count is none."""
        raise UpstreamFailed(_NO_COUNT)

    def presenter(self, request: Document, tools: ClientTools | None = None) -> Presenter:  # noqa: ARG002 - one signature
        """Never: there are no streams here."""
        raise UpstreamFailed(_NO_COUNT)

    def write_error(self, error: GatewayError, request_id: str) -> tuple[int, bytes]:  # noqa: ARG002 - one signature
        """OpenAI's envelope, which vLLM has too."""
        return error.status, orjson.dumps(error_payload(error))


def _are_messages(messages: Any) -> bool:
    return (
        isinstance(messages, list)
        and bool(messages)
        and all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages)
    )


def to_engine(document: Document, model: str) -> Document:
    """Give what an engine is sent; llama.cpp's server knows the text as `content`, others pass that over."""
    sent = {**document, "model": model}
    return sent if document.get("prompt") is None else {**sent, "content": document["prompt"]}


def conversation_to_engine(document: Document, model: str) -> Document:
    """Give what an engine is sent to count the prompt of a chat request: nothing that is no part of the prompt."""
    return {"model": model, **{field: document[field] for field in _PROMPT_FIELDS if field in document}}


def is_all_text(document: Document) -> bool:
    """Whether a chat request holds nothing but text: of a picture or sound an engine that only tokenizes counts the
    place that it has in the text, and not what it becomes."""
    messages = document.get("messages")
    if not isinstance(messages, list):
        return False
    contents = [message.get("content") for message in messages if isinstance(message, dict)]
    return all(
        isinstance(part, dict) and part.get("type") == "text"
        for content in contents
        if isinstance(content, list)
        for part in content
    )


def _read_object(body: bytes) -> tuple[Document, int]:
    """Give what an engine has told, and the count in it; UpstreamFailed when there is none.

    One that tells the tokens and no count (llama.cpp) is believed only where there are some: it knows a text, and gives
    none for a conversation.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UpstreamFailed(_NO_COUNT) from error
    if not isinstance(found, dict):
        raise UpstreamFailed(_NO_COUNT)
    count, tokens = found.get("count"), found.get("tokens")
    if count is None and isinstance(tokens, list) and tokens:
        count = len(tokens)
    if type(count) is not int or not 0 <= count < MOST_TOKENS:
        raise UpstreamFailed(_NO_COUNT)
    return found, count


def engine_count(body: bytes) -> int:
    """Give the number of tokens that an engine has told of a conversation, at least 1; UpstreamFailed when that is no
    count."""
    _, count = _read_object(body)
    if not count:
        raise UpstreamFailed(_NO_COUNT)  # No conversation has none: it has looked for a text elsewhere.
    return count


def read_engine(body: bytes, context_window: int | None) -> bytes:
    """Give the answer for the client of what an engine has told; UpstreamFailed when that is no count."""
    found, count = _read_object(body)
    tokens, most = found.get("tokens"), found.get("max_model_len")
    return write_count(
        count,
        counted_by=CountedBy.ENGINE,
        max_model_len=most if type(most) is int else context_window,
        tokens=tokens if isinstance(tokens, list) else [],
        strings=found.get("token_strs"),
    )


def read_provider(body: bytes, context_window: int | None) -> bytes:
    """Give the answer for the client of Anthropic's count; UpstreamFailed when that is none."""
    try:
        count = orjson.loads(body)["input_tokens"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise UpstreamFailed(_NO_COUNT) from error
    if type(count) is not int or not 0 <= count < MOST_TOKENS:
        raise UpstreamFailed(_NO_COUNT)
    return write_count(count, counted_by=CountedBy.PROVIDER, max_model_len=context_window)


def write_count(
    count: int,
    *,
    counted_by: CountedBy,
    max_model_len: int | None,
    tokens: list[Any] | None = None,
    strings: Any = None,
) -> bytes:
    """Write an answer."""
    return to_json(
        {
            "count": count, "max_model_len": max_model_len, "tokens": tokens or [], "token_strs": strings,
            "counted_by": counted_by,
        }
    )  # fmt: skip


TOKENIZED: Final = Tokenized()
