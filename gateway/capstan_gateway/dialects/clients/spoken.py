"""The dialects that clients may speak beside chat completions."""

import time
from collections.abc import Callable
from typing import Final

import orjson

from capstan_gateway.dialects.clients import messages_answer, messages_request, responses_answer, responses_request
from capstan_gateway.dialects.clients.messages_stream import MessageEvents
from capstan_gateway.dialects.clients.port import ClientTools, Dialect, Presenter
from capstan_gateway.dialects.clients.responses_stream import ResponseEvents
from capstan_gateway.dialects.clients.responses_tools import Tools
from capstan_gateway.dialects.fields import Document
from capstan_gateway.envelope import error_payload
from capstan_gateway.errors import TOO_LONG, GatewayError


class _Messages:
    """Anthropic's Messages API; `port.Dialect`."""

    def read_tools(self, document: Document) -> ClientTools:
        return messages_request.MessagesTools(messages_request.hosted_tools(document))

    def read_request(self, document: Document, tools: ClientTools | None = None) -> Document:  # noqa: ARG002 - one signature
        return messages_request.to_chat_request(document)

    def write_answer(self, completion: Document, request: Document, tools: ClientTools | None = None) -> Document:  # noqa: ARG002 - one signature
        return messages_answer.to_message(completion, request)

    def presenter(self, request: Document, tools: ClientTools | None = None) -> Presenter:  # noqa: ARG002 - one signature
        return MessageEvents(request)

    def write_error(self, error: GatewayError, request_id: str) -> tuple[int, bytes]:
        return messages_answer.write_error(error, request_id)


class _Counted(_Messages):
    """The same for requests of which only the prompt is to be counted: they need no limit."""

    def read_request(self, document: Document, tools: ClientTools | None = None) -> Document:
        if document.get("max_tokens") is not None:
            return super().read_request(document, tools)
        chat = super().read_request({**document, "max_tokens": 1}, tools)
        del chat["max_tokens"]
        return chat


_OWN_FIELDS: Final = {
    "max_completion_tokens": "max_output_tokens", "max_tokens": "max_output_tokens", "messages": "input",
    "reasoning_effort": "reasoning.effort", "response_format": "text.format",
}  # fmt: skip
"""What the Responses API calls fields of chat, in which models and engines find fault."""


class Responses:
    """OpenAI's Responses API, of which nothing is kept; `port.Dialect`. The clock gives seconds since 1970."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def read_tools(self, document: Document) -> Tools:
        """Read the tools."""
        return Tools.of(document)

    def read_request(self, document: Document, tools: ClientTools | None = None) -> Document:
        """Translate a request."""
        return responses_request.to_chat_request(document, _tools_of(document, tools))

    def write_answer(self, completion: Document, request: Document, tools: ClientTools | None = None) -> Document:
        """Translate an answer."""
        known = _tools_of(request, tools)
        return responses_answer.to_response(completion, request, tools=known, now=int(self._clock()))

    def presenter(self, request: Document, tools: ClientTools | None = None) -> Presenter:
        """What translates a stream."""
        return ResponseEvents(request, self._clock, tools=_tools_of(request, tools))

    def write_error(self, error: GatewayError, request_id: str) -> tuple[int, bytes]:  # noqa: ARG002 - one signature
        """OpenAI's envelope."""
        told = error_payload(error)
        own = "input" if error.code == TOO_LONG else _OWN_FIELDS.get(error.param or "")
        if own is not None:
            told["error"]["param"] = own
            told["error"]["message"] = error.message.replace(f"`{error.param}`", f"`{own}`")
        return error.status, orjson.dumps(told)


class KeptResponses(Responses):
    """The same for one response that is kept: `number` is what its id is made of, `keep` takes the end of its stream.

    `keep` gives False when the response is not kept after all.
    """

    def __init__(self, number: str, keep: Callable[[Document], bool], clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock)
        self._number = number
        self._keep = keep

    def write_answer(self, completion: Document, request: Document, tools: ClientTools | None = None) -> Document:
        """Translate an answer, which the caller keeps."""
        known, now = _tools_of(request, tools), int(self._clock())
        return responses_answer.to_response(completion, request, tools=known, now=now, kept=self._number)

    def presenter(self, request: Document, tools: ClientTools | None = None) -> Presenter:
        """What translates a stream, and has it kept at its end."""
        known = _tools_of(request, tools)
        return ResponseEvents(request, self._clock, tools=known, kept=self._number, keep=self._keep)


def _tools_of(document: Document, tools: ClientTools | None) -> Tools:
    return tools if isinstance(tools, Tools) else Tools.of(document)


MESSAGES: Final[Dialect] = _Messages()
COUNTED: Final[Dialect] = _Counted()
"""Of `/v1/messages/count_tokens`."""
RESPONSES: Final[Dialect] = Responses()
