"""RFC 9112, message by message, on raw sockets: what is served, what is refused, and what becomes of the connection.

The table of docs/gateway.md is this one: `VERDICTS` is held equal to it.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.gateway import RunningGateway, entry, running_gateway
from support.needs import ROOT
from support.serving import Client, read_answers, turns
from support.virtualtime import run_virtually

FOLLOWING = b"GET /healthz HTTP/1.1\r\nhost: follows\r\nconnection: close\r\n\r\n"
"""Sent behind each message: whether it is answered says whether the connection is still in use."""


@dataclass(frozen=True)
class Case:
    """One message and what becomes of it."""

    section: str
    """Of RFC 9112, or of RFC 9110 where it says so."""
    what: str
    sent: bytes
    statuses: tuple[int, ...]
    goes_on: bool = False
    """Whether the connection serves another request afterwards."""

    @property
    def row(self) -> str:
        """The case as a line of the table."""
        told = ", ".join(map(str, self.statuses)) or "no answer"
        return f"| {self.section} | {self.what} | {told} | {'goes on' if self.goes_on else 'ends'} |"


def get(*lines: bytes, target: bytes = b"/healthz", version: bytes = b"HTTP/1.1", method: bytes = b"GET") -> bytes:
    """Give a request without a body; the lines are its headers."""
    return b"%b %b %b\r\n" % (method, target, version) + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def post(*lines: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    """Give a request for a model that there is not, so that 404 says that its body was understood."""
    head = get(
        b"host: x", b"content-type: application/json", *lines, target=b"/v1/classify", method=b"POST", version=version
    )
    return head + body


def chunked(body: bytes) -> bytes:
    """Give such a request whose body is framed like this; `@` stands for the body that is understood."""
    return post(CHUNKED, body=body.replace(b"@", WHOLE))


CHUNKED = b"transfer-encoding: chunked"
WHOLE = b'{"model":"no"}'
GOOD_CHUNKS = b'e\r\n{"model":"no"}\r\n0\r\n\r\n'
HOST = b"host: x"

EXPECTING = post(b"expect: 100-continue", b"content-length: 14", body=WHOLE)

CASES: Sequence[Case] = (
    # --- the request line ---
    Case("2.2", "an empty line before the request", b"\r\n" + get(HOST), (200,), True),
    Case("2.2", "white space before the request", b" " + get(HOST), (400,)),
    Case("2.2", "lines that end with LF alone", b"GET /healthz HTTP/1.1\nhost: x\n\n", (400,)),
    Case("2.2", "CR within a header", get(HOST, b"x: a\rb"), (400,)),
    Case("2.3", "`HTTP/1.0`", get(HOST, version=b"HTTP/1.0"), (200,)),
    Case("2.3", "`HTTP/1.0`, `Connection: keep-alive`", get(b"connection: keep-alive", version=b"HTTP/1.0"), (200,)),
    Case("2.3", "`HTTP/1.2`, `HTTP/1.10`, `HTTP/3.0`", get(HOST, version=b"HTTP/1.2"), (400,)),
    Case("2.3", "`HTTP/2.0`", get(HOST, version=b"HTTP/2.0"), (505,)),
    Case("2.3", "`HTTP/0.9`", get(HOST, version=b"HTTP/0.9"), (505,)),
    Case("2.3", "no version", b"GET /healthz\r\nhost: x\r\n\r\n", (505,)),
    Case("2.3", "`http/1.1`", get(HOST, version=b"http/1.1"), (400,)),
    Case("2.3", "`PRI * HTTP/2.0`", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400,)),
    Case("3", "two spaces within the request line", b"GET  /healthz HTTP/1.1\r\nhost: x\r\n\r\n", (200,), True),
    Case("3", "a space behind the version", b"GET /healthz HTTP/1.1 \r\nhost: x\r\n\r\n", (400,)),
    Case("3", "a head above `--max-header-bytes`", get(HOST, b"x: " + b"y" * 5000), (431,)),
    Case("3", "more than 200 headers", get(HOST, *[b"x: y"] * 201), (431,)),
    Case("3.1", "a method in lower case", get(HOST, method=b"get"), (400,)),
    Case("3.1", "an unknown method", get(HOST, method=b"BREW"), (400,)),
    Case("3.1", "a method that the route does not take", get(HOST, method=b"PUT"), (405,), True),
    Case("9110, 9.3.2", "`HEAD`", get(HOST, method=b"HEAD"), (200,), True),
    Case("9110, 9.3.7", "`OPTIONS *`", get(HOST, method=b"OPTIONS", target=b"*"), (404,), True),
    Case("9110, 9.3.6", "`CONNECT`", get(b"host: a:1", method=b"CONNECT", target=b"a:1"), (400,)),
    # --- the target ---
    Case("3.2.1", "a path and a query", get(HOST, target=b"/healthz?a=b"), (200,), True),
    Case("3.2.1", "an escaped slash within a path", get(HOST, target=b"/v1%2fmodels"), (404,), True),
    Case("3.2.1", "an escaped letter within a path", get(HOST, target=b"/%68ealthz"), (404,), True),
    Case("3.2.1", "a target without a slash", get(HOST, target=b"healthz"), (400,)),
    Case("3.2.1", "a fragment", get(HOST, target=b"/healthz#x"), (400,)),
    Case("3.2.1", "a byte above 127", get(HOST, target=b"/\xc3\xa4"), (400,)),
    Case("3.2.2", "a whole URL", get(HOST, target=b"http://x/healthz"), (200,), True),
    Case("3.2.2", "a whole URL and no `Host`", get(target=b"http://x/healthz"), (400,)),
    Case("3.2.2", "a URL with a port that cannot be", get(HOST, target=b"http://x:99999999/healthz"), (400,)),
    Case("9110, 4.2.4", "a URL with a name and a password", get(HOST, target=b"http://a:b@x/healthz"), (400,)),
    Case("3.2.2", "a URL of another scheme", get(HOST, target=b"ftp://x/healthz"), (400,)),
    Case("3.2.3", "a host and a port alone", get(HOST, target=b"x:80"), (400,)),
    Case("3.2.4", "`GET *`", get(HOST, target=b"*"), (400,)),
    # --- Host ---
    Case("3.2", "no `Host`", get(), (400,)),
    Case("3.2", "no `Host` in `HTTP/1.0`", get(version=b"HTTP/1.0"), (200,)),
    Case("3.2", "two `Host`, different", get(b"host: a", b"host: b"), (400,)),
    Case("3.2", "two `Host`, the same", get(b"host: a", b"host: a"), (400,)),
    Case("3.2", "two `Host` in `HTTP/1.0`", get(b"host: a", b"host: b", version=b"HTTP/1.0"), (400,)),
    Case("3.2", "two hosts in one `Host`", get(b"host: a, b"), (400,)),
    Case("3.2", "a `Host` that is no host", get(b"host: a/b"), (400,)),
    Case("3.2", "an empty `Host`", get(b"host:"), (200,), True),
    # --- fields ---
    Case("5", "a line without a colon", get(HOST, b"nothing"), (400,)),
    Case("5", "an empty name", get(HOST, b": x"), (400,)),
    Case("5.1", "white space before the colon", get(b"host : x"), (400,)),
    Case("5.1", "white space before the first header", get(b" x: y", HOST), (400,)),
    Case("5.1", "white space around the value", get(b"host:\t x \t"), (200,), True),
    Case("5.2", "a folded header (obs-fold)", get(HOST, b"x: a", b" b"), (400,)),
    Case("9110, 5.5", "NUL within a value", get(HOST, b"x: a\0b"), (400,)),
    Case("9110, 5.5", "a byte above 127 within a value", get(HOST, b"x: \xff"), (200,), True),
    # --- Transfer-Encoding ---
    Case("6.1", "`chunked`", post(CHUNKED, body=GOOD_CHUNKS), (404,), True),
    Case("6.1", "`Chunked`", post(b"transfer-encoding: Chunked", body=GOOD_CHUNKS), (404,), True),
    Case("6.1", "`gzip, chunked`", post(b"transfer-encoding: gzip, chunked", body=GOOD_CHUNKS), (501,)),
    Case("6.1", "`gzip`", post(b"transfer-encoding: gzip", body=WHOLE), (501,)),
    Case("6.1", "`identity`", post(b"transfer-encoding: identity"), (501,)),
    Case("6.1", "`, chunked`", post(b"transfer-encoding: , chunked", body=GOOD_CHUNKS), (501,)),
    Case("6.1", "`chunked, identity`", post(b"transfer-encoding: chunked, identity", body=GOOD_CHUNKS), (400,)),
    Case("6.1", "`chunked` twice", post(CHUNKED, CHUNKED, body=GOOD_CHUNKS), (400,)),
    Case("6.1", "an empty `Transfer-Encoding`", post(b"transfer-encoding:"), (400,)),
    Case("6.1", "`chunked` in `HTTP/1.0`", post(CHUNKED, body=GOOD_CHUNKS, version=b"HTTP/1.0"), (400,)),
    Case("6.1", "`chunked` behind `Content-Length`", post(b"content-length: 14", CHUNKED, body=GOOD_CHUNKS), (400,)),
    Case("6.1", "`chunked` before `Content-Length`", post(CHUNKED, b"content-length: 14", body=GOOD_CHUNKS), (400,)),
    # --- Content-Length ---
    Case("6.2", "a length and its body", post(b"content-length: 14", body=WHOLE), (404,), True),
    Case("6.2", "zeros before the length", post(b"content-length: 0014", body=WHOLE), (404,), True),
    Case("6.2", "a signed length", post(b"content-length: +14", body=WHOLE), (400,)),
    Case("6.2", "a hexadecimal length", post(b"content-length: 0xe", body=WHOLE), (400,)),
    Case("6.2", "an empty length", post(b"content-length:", body=WHOLE), (400,)),
    Case("6.2", "a length above 2^64", post(b"content-length: 99999999999999999999999"), (400,)),
    Case("6.3", "two lengths, different", post(b"content-length: 14", b"content-length: 15", body=WHOLE), (400,)),
    Case("6.3", "two lengths, the same", post(b"content-length: 14", b"content-length: 14", body=WHOLE), (400,)),
    Case("6.3", "`14, 14`", post(b"content-length: 14, 14", body=WHOLE), (400,)),
    # Without a body it is no JSON.
    Case("6.3", "neither a length nor chunks: no body", post(), (400,), True),
    # --- chunks ---
    Case("7.1", "zeros before a chunk's size", chunked(b"0e\r\n@\r\n00\r\n\r\n"), (404,), True),
    Case("7.1", "a chunk's size with `0x`", chunked(b"0xe\r\n@\r\n0\r\n\r\n"), (400,)),
    Case("7.1", "a negative size of a chunk", chunked(b"-e\r\n@\r\n0\r\n\r\n"), (400,)),
    Case("7.1", "a size above 2^64", chunked(b"1000000000000000e\r\n@\r\n0\r\n\r\n"), (400,)),
    Case("7.1", "white space behind a size", chunked(b"e \r\n@\r\n0\r\n\r\n"), (400,)),
    Case("7.1", "a chunk longer than its size", chunked(b"e\r\n@X\r\n0\r\n\r\n"), (400,)),
    Case("7.1", "LF alone behind a size", chunked(b"e\n@\r\n0\r\n\r\n"), (400,)),
    Case("7.1", "LF alone behind a chunk", chunked(b"e\r\n@\n0\r\n\r\n"), (400,)),
    Case("7.1.1", "chunk extensions", chunked(b'e;a=b;c="d"\r\n@\r\n0;e\r\n\r\n'), (404,), True),
    Case("7.1.1", "LF within a chunk extension", chunked(b'e;a="b\nc"\r\n@\r\n0\r\n\r\n'), (400,)),
    Case("7.1.2", "trailers", chunked(b"e\r\n@\r\n0\r\nx: y\r\n\r\n"), (404,), True),
    Case("7.1.2", "a length among the trailers", chunked(b"0\r\ncontent-length: 5\r\n\r\n"), (400,)),
    Case("7.1.2", "white space in a trailer's name", chunked(b"0\r\nx : y\r\n\r\n"), (400,)),
    # --- the connection ---
    Case("9.3", "`Connection: close`", get(HOST, b"connection: close"), (200,)),
    Case("9.3", "`Connection: close` among others", get(HOST, b"connection: te, close"), (200,)),
    Case("9.3.2", "three requests at once", get(HOST) * 3, (200, 200, 200), True),
    Case("9.3.2", "nonsense behind a request", get(HOST) + b"nonsense\r\n\r\n", (200, 400)),
    Case("9.3.2", "no `Host` behind a request", get(HOST) + get(), (200, 400)),
    Case("9110, 7.8", "`Upgrade: h2c`", get(HOST, b"connection: upgrade", b"upgrade: h2c"), (200,), True),
    Case("9110, 7.8", "`Upgrade: websocket`", get(HOST, b"connection: upgrade", b"upgrade: websocket"), (200,), True),
    Case("9110, 10.1.1", "`Expect: 100-continue` and a body that is there", EXPECTING,
         (404,), True),
    Case("9110, 10.1.1", "another expectation", get(HOST, b"expect: miracles"), (200,), True),
)  # fmt: skip

VERDICTS = [case.row for case in CASES]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """A gateway whose only model is never asked."""
    async with running_gateway(tmp_path, entry("chat", "http://127.0.0.1:1"), max_header_bytes=4000) as running:
        yield running


async def say(gateway: RunningGateway, data: bytes) -> bytes:
    """Send on a connection of its own, and give all that is said until it ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        writer.write(data)
        async with asyncio.timeout(60):
            return await reader.read(-1)
    finally:
        writer.close()


async def test_each_message_has_its_verdict(gateway: RunningGateway) -> None:
    """Every message of the table gets the answers that it says, and the connection goes on or ends as it says."""
    for case in CASES:
        methods = [case.sent.lstrip().split(b" ", 1)[0]] + [b"GET"] * 4
        answers = read_answers(await say(gateway, case.sent + FOLLOWING), *methods)
        expected = (*case.statuses, *((200,) if case.goes_on else ()))
        assert tuple(answer.status for answer in answers) == expected, case
        assert all(answer.complete for answer in answers), case
        assert all("date" in answer.headers for answer in answers), case
        if not case.goes_on:
            assert answers[-1].headers["connection"] == "close", case


async def test_every_refusal_has_an_id_and_is_counted(gateway: RunningGateway) -> None:
    """What is refused while it is read can be found again: by the id in its answer, and as a number."""
    for number, reason in ((case, reason) for case, reason in (
        (get(), "malformed"), (get(HOST, b"x: " + b"y" * 5000), "head"), (get(HOST, version=b"HTTP/2.0"), "malformed"),
    )):  # fmt: skip
        before = gateway.metric("gateway_admission_rejected_total", reason=reason)
        (answer,) = read_answers(await say(gateway, number))
        assert answer.headers["x-request-id"].startswith("req_")
        assert gateway.metric("gateway_admission_rejected_total", reason=reason) == before + 1


def test_the_table_is_in_the_documentation() -> None:
    """docs/gateway.md has the verdicts as they are tested, in the same order."""
    page = (ROOT / "docs" / "gateway.md").read_text()
    table = page.partition("<!-- http -->\n")[2].partition("\n<!-- end of http -->")[0]
    assert table.splitlines()[2:] == VERDICTS


def serve(pieces: Sequence[bytes]) -> tuple[list[tuple[int, bytes]], bool]:
    """Give the answers to what comes in these reads, and whether the connection ended."""

    async def main() -> tuple[list[tuple[int, bytes]], bool]:
        client = Client()
        for piece in pieces:
            client.transport.feed(piece)
            await turns(2)
        await turns(40)
        # NB: a body is asked for with 100 only where it has not come with its head.
        answers = [(one.status, one.body) for one in read_answers(bytes(client.transport.sent)) if one.status != 100]
        ended = client.ended
        client.transport.hang_up()
        await asyncio.sleep(1000)
        return answers, ended

    return run_virtually(main())


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([case.sent for case in CASES if not case.sent.startswith(b"HEAD")]), st.data())
def test_a_verdict_does_not_depend_on_the_reads(sent: bytes, data: st.DataObject) -> None:
    """However a message is split into reads, it gets the same answers, and the connection the same end."""
    whole = sent + FOLLOWING
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=6), label="cuts"))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert serve(pieces) == serve([whole])
