"""Models whose API is not that of the engines: what they are sent, and what their answers become.

                    engine, OpenAICompatible   OpenAI                   Anthropic
chat completions    as it is                   as it is                 translated
/v1/messages        as chat                    as chat, or with an      as it is (native)
                                               effort beside tools as
                                               a response
/v1/responses       as chat                    as it is (native)        translated twice
.../count_tokens    its prompt, else by        -                        as it is (native)
                    /tokenize as chat
/tokenize           as it is (native)          -                        messages: its own count
/v1/audio/...       as a form (native)         as a form (native)       -
"""

import time
from typing import Final, Protocol

from capstan_contract.config import Provider, Task
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.dialects.clients.forms import written
from capstan_gateway.dialects.clients.native import (
    NativeMessagesRelay,
    NativeResponsesRelay,
    check_count,
    read_native_message,
    read_native_response,
)
from capstan_gateway.dialects.clients.spoken import MESSAGES, RESPONSES
from capstan_gateway.dialects.clients.tokenized import (
    TOKENIZED,
    conversation_to_engine,
    engine_count,
    is_all_text,
    read_engine,
    read_provider,
    to_engine,
    write_count,
)
from capstan_gateway.dialects.clients.transcripts import TranscriptRelay, read_transcript, usage_of
from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.targets.chat import shape
from capstan_gateway.dialects.targets.limits import within_limits
from capstan_gateway.dialects.targets.native import shape_native
from capstan_gateway.dialects.targets.private import without_private
from capstan_gateway.dialects.upstreams.anthropic_answer import read_usage, to_chat_completion
from capstan_gateway.dialects.upstreams.anthropic_request import to_messages_request
from capstan_gateway.dialects.upstreams.anthropic_stream import AnthropicRelay
from capstan_gateway.dialects.upstreams.openai_answer import read_responses_usage, response_to_completion
from capstan_gateway.dialects.upstreams.openai_request import fits_responses, to_responses_request
from capstan_gateway.dialects.upstreams.openai_stream import ResponsesRelay
from capstan_gateway.documents import to_json
from capstan_gateway.errors import InvalidRequest, UpstreamFailed
from capstan_gateway.pipeline.request import CHAT_PATH, COUNT_PATH, TOKENIZE_PATH, USAGE_FLAG, NativeRequest, Request
from capstan_gateway.streaming.port import Relay
from capstan_gateway.tokens.counter import CountedBy
from capstan_gateway.tokens.prompt import prompt_tokens
from capstan_gateway.tokens.usage import Usage, find_object

PLAIN: Final = b"text/plain; charset=utf-8"
_COUNTED: Final = frozenset(("messages", "model", "system", "thinking", "tool_choice", "tools"))
"""What counts; the rest of a request is not taken there."""


class Adapter(Protocol):
    """How one kind of model is spoken to; it holds no state."""

    path: bytes
    """Behind the endpoint's base path."""
    native: bool
    """Whether the answers are in the client's dialect already."""
    billed: bool
    """Whether an answer is made of tokens that somebody pays."""

    content_type: bytes
    """What an answer in one piece is, whatever its engine calls it; b"": as that says."""

    def body(self, request: Request, model: ServedModel) -> bytes:
        """Give the body of the request."""
        ...

    def read(self, body: bytes, model: ServedModel) -> tuple[bytes, Usage | None]:
        """Give the answer for the client, and its usage; UpstreamFailed when it is none."""
        ...

    def told(self, body: bytes) -> Usage | None:
        """Give what an answer tells of its usage that is none otherwise; None when it tells nothing."""
        ...

    def relay(self, request: Request, model: ServedModel) -> Relay:
        """Give what reads a stream."""
        ...


def adapter_for(request: Request, model: ServedModel) -> Adapter | None:
    """Give the adapter; None when the model simply gets the chat request. InvalidRequest when it has no such route."""
    route = request.route
    native = request.native is not None
    if route.counts:
        if route.dialect is not TOKENIZED:
            return _count_tokens()
        return _TOKENIZED_BY_PROVIDER if model.speaks_anthropic else _TOKENIZED
    if model.speaks_anthropic:
        if route.dialect is MESSAGES and native:
            return _NATIVE_MESSAGES
        if route.upstream_path != CHAT_PATH:
            raise InvalidRequest(f"this model does not serve {route.path}", code="invalid_value", param="model")
        return _TRANSLATED_MESSAGES
    if request.form is not None:
        return _Transcribed(request)
    if route.dialect is not None and model.provider == Provider.OPENAI:
        if route.dialect is RESPONSES and native:
            return _NATIVE_RESPONSES
        if model.target.reasons and fits_responses(request.document):
            return TRANSLATED_RESPONSES
    return None


def _count_tokens() -> Adapter:
    """Only who knows the tokenizer and the prompt's template can count: Anthropic, and vLLM has the route as well. An
    engine without it may have `/tokenize`. Of who has neither the prompt is estimated (`estimated_count`)."""
    return COUNT_TOKENS


def may_tokenize(request: Request, model: ServedModel) -> bool:
    """Whether the engine's `/tokenize` counts what `/v1/messages/count_tokens` asks: text only, and of no API that has
    no such route."""
    if request.route.dialect is TOKENIZED or model.speaks_anthropic or request.untranslatable is not None:
        return False
    return is_all_text(request.document)


def is_countable(request: Request) -> bool:
    """Whether a tokenizer can tell how many tokens this request's prompt has: a conversation of nothing but text, or
    one text to go on from or to embed."""
    if request.untranslatable is not None or request.form is not None:
        return False
    document = request.document
    if "messages" in document:
        return is_all_text(document)
    field = "input" if not request.route.tasks.isdisjoint((Task.EMBED,)) else "prompt"
    return isinstance(document.get(field), str) and document.get("suffix") is None


def estimated_count(request: Request, model: ServedModel) -> bytes:
    """Give the count of a prompt that nobody can count: system, messages and tools, as `tokens.estimate` does.

    It is that of what the model would be sent. InvalidRequest where that is nothing.
    """
    if request.route.dialect is TOKENIZED:
        count = prompt_tokens(tokenized(request))
        return write_count(count, counted_by=CountedBy.ESTIMATE, max_model_len=model.context_window)
    return to_json({"input_tokens": prompt_tokens(counted_chat(request, model))})


def counted_chat(request: Request, model: ServedModel) -> Document:
    """Give the chat request whose prompt is to be counted, as `/v1/messages` would send it."""
    if request.untranslatable is not None:
        raise request.untranslatable
    return shape(request.document, model.target, translated=True)


def tokenized(request: Request) -> Document:
    """Give what `/tokenize` was asked; InvalidRequest where that is nothing."""
    if request.untranslatable is not None:
        raise request.untranslatable
    return request.document


def has_counter(request: Request, model: ServedModel) -> bool:
    """Whether a model that only counts for this request is worth asking: OpenAI has nothing that counts, and Anthropic
    nothing that counts a bare text."""
    if model.provider == Provider.OPENAI:
        return False
    return not (model.speaks_anthropic and request.route.dialect is TOKENIZED and "messages" not in request.document)


class _Tokenized:
    path = TOKENIZE_PATH
    native = True
    billed = False
    content_type = b""

    def body(self, request: Request, model: ServedModel) -> bytes:
        return to_json(to_engine(tokenized(request), model.upstream_name))

    def read(self, body: bytes, model: ServedModel) -> tuple[bytes, Usage | None]:
        return read_engine(body, model.context_window), None

    def told(self, body: bytes) -> Usage | None:  # noqa: ARG002 - one signature
        return None

    def relay(self, request: Request, model: ServedModel) -> Relay:  # noqa: ARG002 - one signature
        raise UpstreamFailed("the model's engine answered in another form than was asked for")


class _TokenizedByProvider(_Tokenized):
    path = COUNT_PATH

    def body(self, request: Request, model: ServedModel) -> bytes:
        document = shape(tokenized(request), model.target, translated=True)
        message = to_messages_request(document, model=model.upstream_name)
        return to_json({key: value for key, value in message.items() if key in _COUNTED})

    def read(self, body: bytes, model: ServedModel) -> tuple[bytes, Usage | None]:
        return read_provider(body, model.context_window), None


class _TellsAsMessages:
    content_type = b""

    def told(self, body: bytes) -> Usage | None:
        found = find_object(body)
        return None if found is None else read_usage(found)


class _CountTokens(_TellsAsMessages):
    path = COUNT_PATH
    native = True
    billed = False

    def body(self, request: Request, model: ServedModel) -> bytes:
        if request.native is not None and model.speaks_anthropic:
            return native_body(request.native, model)
        # An engine counts what it would be sent for the same conversation: none of the tools that only Anthropic runs,
        # and nothing that is no part of the prompt.
        message = to_messages_request(counted_chat(request, model), model=model.upstream_name)
        return to_json({key: value for key, value in message.items() if key in _COUNTED})

    def read(self, body: bytes, model: ServedModel) -> tuple[bytes, Usage | None]:  # noqa: ARG002 - one signature
        check_count(body)
        return body, None

    def relay(self, request: Request, model: ServedModel) -> Relay:  # noqa: ARG002 - one signature
        raise UpstreamFailed("the model's engine answered in another form than was asked for")


class _ChatTokenized(_Tokenized):
    def body(self, request: Request, model: ServedModel) -> bytes:
        return to_json(conversation_to_engine(counted_chat(request, model), model.upstream_name))

    def read(self, body: bytes, model: ServedModel) -> tuple[bytes, Usage | None]:  # noqa: ARG002 - one signature
        return to_json({"input_tokens": engine_count(body)}), None


class _PromptTokenized(_ChatTokenized):
    def body(self, request: Request, model: ServedModel) -> bytes:
        document = request.document
        if "messages" in document:
            return super().body(request, model)
        prompt = document["prompt"] if "prompt" in document else document["input"]
        return to_json(to_engine({"prompt": prompt}, model.upstream_name))


class _PromptAsTokens(_PromptTokenized):
    def read(self, body: bytes, model: ServedModel) -> tuple[bytes, Usage | None]:  # noqa: ARG002 - one signature
        engine_count(body)
        return body, None


class _TranslatedMessages(_TellsAsMessages):
    path = b"/messages"
    native = False
    billed = True

    def body(self, request: Request, model: ServedModel) -> bytes:
        document, limit = shape(request.document, model.target, translated=True), model.max_output_tokens
        return to_json(to_messages_request(document, model=model.upstream_name, max_output_tokens=limit))

    def read(self, body: bytes, model: ServedModel) -> tuple[bytes, Usage | None]:
        return to_chat_completion(body, model=model.name, created=int(time.time()))

    def relay(self, request: Request, model: ServedModel) -> Relay:
        return AnthropicRelay(model=model.name, usage_asked=request.usage_asked, created=int(time.time()))


class _NativeMessages(_TellsAsMessages):
    path = b"/messages"
    native = True
    billed = True

    def body(self, request: Request, model: ServedModel) -> bytes:
        return native_body(own(request), model)

    def read(self, body: bytes, model: ServedModel) -> tuple[bytes, Usage | None]:
        return renamed(body, model), read_native_message(body)

    def relay(self, request: Request, model: ServedModel) -> Relay:  # noqa: ARG002 - one signature
        return NativeMessagesRelay(model.rename)


class _TellsAsResponses:
    content_type = b""

    def told(self, body: bytes) -> Usage | None:
        return read_responses_usage({"usage": find_object(body)})


class _TranslatedResponses(_TellsAsResponses):
    path = b"/responses"
    native = False
    billed = True

    def body(self, request: Request, model: ServedModel) -> bytes:
        document = shape(request.document, model.target, translated=True, responses=True)
        return to_json(to_responses_request(document, model=model.upstream_name))

    def read(self, body: bytes, model: ServedModel) -> tuple[bytes, Usage | None]:
        return response_to_completion(body, model=model.name, created=int(time.time()))

    def relay(self, request: Request, model: ServedModel) -> Relay:
        return ResponsesRelay(model=model.name, usage_asked=request.usage_asked, created=int(time.time()))


class _NativeResponses(_TellsAsResponses):
    path = b"/responses"
    native = True
    billed = True

    def body(self, request: Request, model: ServedModel) -> bytes:
        return native_body(own(request), model)

    def read(self, body: bytes, model: ServedModel) -> tuple[bytes, Usage | None]:
        body, usage = read_native_response(body)
        return renamed(body, model), usage

    def relay(self, request: Request, model: ServedModel) -> Relay:  # noqa: ARG002 - one signature
        return NativeResponsesRelay(model.rename)


class _Transcribed:
    """What is heard in the file of a form: one for each request, since what an answer is depends on it."""

    native = True
    billed = True

    def __init__(self, request: Request) -> None:
        self.path = request.route.upstream_path
        self._said = str(request.document.get("response_format") or "json")
        self.content_type = PLAIN if self._said == "text" else b""

    def body(self, request: Request, model: ServedModel) -> bytes:
        form = request.form
        if form is None:
            raise RuntimeError("the request has no file")
        document = without_private(request.document, model.target, whole=bool(model.target.provider))
        fields = {**within_limits(document, model.target), "model": model.upstream_name}
        if request.stream and not model.external:
            fields[USAGE_FLAG] = True
        return written(form, fields)

    def read(self, body: bytes, model: ServedModel) -> tuple[bytes, Usage | None]:
        body, usage = read_transcript(body, said=self._said, hosted=model.external)
        return renamed(body, model), usage

    def told(self, body: bytes) -> Usage | None:
        found = find_object(body)
        return None if found is None else usage_of({"usage": found}, "")

    def relay(self, request: Request, model: ServedModel) -> Relay:
        return TranscriptRelay(model.rename, strip_usage=not request.usage_asked, hosted=model.external)


COUNT_TOKENS: Final = _CountTokens()
CHAT_TOKENIZED: Final = _ChatTokenized()
"""An engine's `/tokenize` for `/v1/messages/count_tokens`."""
PROMPT_TOKENIZED: Final = _PromptTokenized()
"""The same for any request that `is_countable`, for the gateway's own use."""
PROMPT_AS_TOKENS: Final = _PromptAsTokens()
"""The same, for the tokens themselves."""
_TOKENIZED: Final = _Tokenized()
_TOKENIZED_BY_PROVIDER: Final = _TokenizedByProvider()
_TRANSLATED_MESSAGES: Final = _TranslatedMessages()
_NATIVE_MESSAGES: Final = _NativeMessages()
_NATIVE_RESPONSES: Final = _NativeResponses()
TRANSLATED_RESPONSES: Final = _TranslatedResponses()


def native_body(native: NativeRequest, model: ServedModel) -> bytes:
    """Give the client's own body, with the model's own name in it, and as its API takes it."""
    document = shape_native(native.document, model.target)
    if document is native.document and document["model"] == model.upstream_name:
        return native.body
    return to_json({**document, "model": model.upstream_name})


def own(request: Request) -> NativeRequest:
    """Give the request as it came, for an adapter that is only chosen for such a one."""
    if request.native is None:
        raise RuntimeError("the request is in no other dialect")
    return request.native


def renamed(body: bytes, model: ServedModel) -> bytes:
    """Give an answer with the served name in it."""
    return body if model.rename is None else model.rename(body)
