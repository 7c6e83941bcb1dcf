"""Errors as answers: their headers, and the dialect of the client's own API."""

from capstan_gateway.errors import GatewayError, InvalidRequest, Overloaded
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.serving.refusals import error_response, respond_error
from support.serving import Client, read_answers


class Shouting:
    """Another API's errors."""

    def write_error(self, error: GatewayError, request_id: str) -> tuple[int, bytes]:
        """Give status and body."""
        return 418, f"{request_id}: {error.message}!".encode()


def test_an_error_in_the_openai_envelope() -> None:
    """Its status, its type of content, its length, its id, and what the error itself says in headers."""
    status, headers, body = error_response(Overloaded("full"), b"req_1")
    assert status == 503
    assert body == b'{"error":{"message":"full","type":"server_error","param":null,"code":"overloaded"}}'
    assert headers == [
        (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), (b"x-request-id", b"req_1"),
        (b"retry-after", b"1"), (b"retry-after-ms", b"1000"),
    ]  # fmt: skip


def test_an_error_in_another_dialect() -> None:
    """Status and body are that one's, the id is told by its header as well."""
    status, headers, body = error_response(InvalidRequest("no"), b"req_1", Shouting())
    assert (status, body) == (418, b"req_1: no!")
    assert headers == [
        (b"content-type", b"application/json"), (b"content-length", b"10"), (b"x-request-id", b"req_1"),
        (b"request-id", b"req_1"),
    ]  # fmt: skip


async def test_a_request_is_answered_with_an_error() -> None:
    """In the dialect that is asked for; whoever logs it gets the status."""
    given: list[int] = []

    async def refuses(exchange: Exchange) -> None:
        given.append(respond_error(exchange, InvalidRequest("no"), b"req_1", Shouting()))

    client = Client(refuses)
    await client.say(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
    (answer,) = read_answers(bytes(client.transport.sent))
    assert (answer.status, answer.body, answer.headers["request-id"]) == (418, b"req_1: no!", "req_1")
    assert given == [418]
