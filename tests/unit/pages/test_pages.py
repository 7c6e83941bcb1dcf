"""The bridge to FastAPI: what an application answers reaches the client as one HTTP answer."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from capstan_gateway.pages.application import install_error_handlers
from capstan_gateway.pages.asgi import MAX_BODY, AsgiHandler
from capstan_gateway.serving.request_ids import RequestIds
from support.serving import Answer, Client, read_answers, turns


def application() -> FastAPI:
    """Make an application with a page of each kind."""
    app = FastAPI()
    install_error_handlers(app, RequestIds())

    @app.get("/items/{name:path}")
    async def get_item(name: str, q: str = "") -> dict[str, str]:
        return {"name": name, "q": q}

    @app.get("/empty")
    async def get_empty() -> Response:
        return Response(status_code=204)

    @app.get("/large")
    async def get_large() -> Response:
        return Response(b"x" * 300_000)

    @app.get("/pieces")
    async def get_pieces() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            for piece in (b"a", b"b", b"c"):
                yield piece

        return StreamingResponse(pieces())

    @app.get("/folder/")
    async def get_folder() -> dict[str, str]:
        return {}

    @app.post("/length")
    async def get_length(request: Request) -> int:
        return len(await request.body())

    @app.get("/bug")
    async def get_bug() -> None:
        raise LookupError("a bug")

    @app.get("/injected")
    async def get_injected() -> Response:
        return Response(headers={"x-thing": "a\r\nset-cookie: b"})

    return app


async def ask(request: bytes) -> tuple[Client, list[Answer]]:
    """Send one request to the application."""
    client = Client(AsgiHandler(application()))
    client.transport.feed(request)
    await turns(40)
    return client, read_answers(bytes(client.transport.sent), request.split(b" ")[0])


def get(target: bytes, method: bytes = b"GET") -> bytes:
    """Give a request without a body."""
    return b"%b %b HTTP/1.1\r\nhost: here\r\n\r\n" % (method, target)


async def test_path_and_query() -> None:
    """The path reaches the application as it came, the query decoded once, in whichever form the target comes."""
    for target in (b"/items/a%20b%2Fc?q=d%26e", b"http://else/items/a%20b%2Fc?q=d%26e"):
        _, (answer,) = await ask(get(target))
        assert answer.status == 200
        assert answer.body == b'{"name":"a%20b%2Fc","q":"d&e"}'


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get(b"/none"), 404), (get(b"/items/x", b"DELETE"), 405), (get(b"*", b"OPTIONS"), 404), (get(b"/bug"), 500),
        (get(b"/items/x", b"HEAD"), 200), (get(b"/docs"), 200), (get(b"/docs", b"HEAD"), 200), (get(b"/empty"), 204),
        (get(b"h:1", b"CONNECT"), 400), (get(b"/large"), 200), (get(b"/folder"), 307), (get(b"/items/%ff%00"), 200),
    ],
)  # fmt: skip
async def test_every_answer_is_one_whole_answer(request_bytes: bytes, status: int) -> None:
    """Refusals, bugs, HEAD, pages without a body and large ones: status, length and body fit together."""
    client, answers = await ask(request_bytes)
    assert [answer.status for answer in answers] == [status]
    (answer,) = answers
    assert answer.complete
    if request_bytes.startswith(b"HEAD"):
        assert answer.body == b""
        assert int(answer.headers["content-length"]) > 0
    elif status != 204:
        assert int(answer.headers["content-length"]) == len(answer.body)
    assert client.ended is request_bytes.startswith(b"CONNECT")


async def test_an_answer_in_pieces_has_a_length() -> None:
    """What an application streams is sent whole."""
    _, (answer,) = await ask(get(b"/pieces"))
    assert answer.body == b"abc"
    assert answer.headers["content-length"] == "3"


async def test_redirects_stay_on_the_host_that_was_asked() -> None:
    """A redirect of the framework names the host of the request, and cannot bring in further headers."""
    _, (answer,) = await ask(get(b"/folder"))
    assert answer.headers["location"] == "http://here/folder/"


async def test_a_header_cannot_become_two() -> None:
    """An answer with a line end within a header is not sent."""
    client, answers = await ask(get(b"/injected"))
    assert [answer.status for answer in answers] == [500]
    assert b"set-cookie" not in client.transport.sent


@pytest.mark.parametrize(("size", "statuses"), [(0, [200]), (MAX_BODY, [200]), (MAX_BODY + 1, [413])])
async def test_a_page_reads_a_small_body(size: int, statuses: list[int]) -> None:
    """A page that reads the body gets it up to a bound; above it the client is told."""
    _, answers = await ask(b"POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
    assert [answer.status for answer in answers] == statuses


async def test_a_client_that_leaves_a_page() -> None:
    """A client that goes while its page reads the body ends the request without a trace."""
    client, _ = await ask(b"POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab")
    client.transport.hang_up()
    await turns(20)
    assert client.transport.closed
    assert client.transport.sent == b""


async def test_an_application_that_answers_nothing() -> None:
    """Where nothing is answered, the connection ends."""

    async def app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        await receive()

    client = Client(AsgiHandler(app))
    assert await client.say(get(b"/")) == b""
    assert client.ended
