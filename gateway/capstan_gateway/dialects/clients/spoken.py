"""The dialects that clients may speak beside chat completions."""

from typing import Final

from capstan_gateway.dialects.clients import messages_answer, messages_request, responses_answer, responses_request
from capstan_gateway.dialects.clients.messages_stream import MessageEvents
from capstan_gateway.dialects.clients.port import Dialect, Presenter
from capstan_gateway.dialects.clients.responses_stream import ResponseEvents
from capstan_gateway.dialects.fields import Document
from capstan_gateway.envelope import error_body
from capstan_gateway.errors import GatewayError


class _Messages:
    """Anthropic's Messages API; `port.Dialect`."""

    def read_request(self, document: Document) -> Document:
        return messages_request.to_chat_request(document)

    def write_answer(self, completion: Document, request: Document) -> Document:  # noqa: ARG002 - one signature
        return messages_answer.to_message(completion)

    def presenter(self, request: Document) -> Presenter:  # noqa: ARG002 - one signature
        return MessageEvents()

    def write_error(self, error: GatewayError, request_id: str) -> tuple[int, bytes]:
        return messages_answer.write_error(error, request_id)


class _Responses:
    """OpenAI's Responses API, the stateless part; `port.Dialect`."""

    def read_request(self, document: Document) -> Document:
        return responses_request.to_chat_request(document)

    def write_answer(self, completion: Document, request: Document) -> Document:
        return responses_answer.to_response(completion, request)

    def presenter(self, request: Document) -> Presenter:
        return ResponseEvents(request)

    def write_error(self, error: GatewayError, request_id: str) -> tuple[int, bytes]:  # noqa: ARG002 - one signature
        return error.status, error_body(error)


MESSAGES: Final[Dialect] = _Messages()
RESPONSES: Final[Dialect] = _Responses()
