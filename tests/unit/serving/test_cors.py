"""Pages of other origins: what a browser is told."""

import pytest

from capstan_gateway.headers import Header
from capstan_gateway.serving.cors import MAX_REQUESTED, Cors, CorsSettings
from capstan_gateway.serving.exchange import Exchange
from support.serving import Client, read_answers

APP = "https://app.example"
EXACT = CorsSettings(origins=(APP,), headers=("authorization", "content-type"), exposed=("x-request-id",))
ANY = CorsSettings(origins=("*",), exposed=("x-request-id",))


def request(*lines: bytes, method: bytes = b"GET") -> bytes:
    """Give a request with these headers."""
    return b"%b /x HTTP/1.1\r\nhost: x\r\n" % method + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


async def told(cors: CorsSettings | None, sent: bytes) -> dict[str, str]:
    """Give the status and the headers of the answer that have to do with origins."""
    client = Client(cors=cors)
    await client.say(sent)
    (answer,) = read_answers(bytes(client.transport.sent), sent.split(b" ")[0])
    found = {name: value for name, value in answer.headers.items() if name.startswith("access-") or name == "vary"}
    return {"status": str(answer.status), **found}


async def test_without_origins_nothing_is_said() -> None:
    """Where no origin is allowed, an answer says nothing of origins, and OPTIONS is a method like others."""
    assert await told(None, request(b"origin: https://app.example")) == {"status": "200"}


async def test_an_allowed_origin() -> None:
    """The answer to a page of an allowed origin says so, what it may read, and that it is different for others."""
    assert await told(EXACT, request(b"origin: https://app.example")) == {
        "status": "200", "access-control-allow-origin": APP, "access-control-expose-headers": "x-request-id",
        "vary": "origin",
    }  # fmt: skip


@pytest.mark.parametrize(
    "origin", [b"https://app.example.evil", b"https://APP.example", b"null", b"http://app.example"]
)
async def test_another_origin(origin: bytes) -> None:
    """Origins are compared letter by letter; another one is served and not allowed, and caches know the difference."""
    assert await told(EXACT, request(b"origin: " + origin)) == {"status": "200", "vary": "origin"}


async def test_every_origin() -> None:
    """Where all origins are allowed the answer is the same for each."""
    assert await told(ANY, request(b"origin: null")) == {
        "status": "200", "access-control-allow-origin": "*", "access-control-expose-headers": "x-request-id",
    }  # fmt: skip


async def test_a_preflight_is_answered_before_any_handler() -> None:
    """A preflight says which methods and headers are allowed and for how long, and no handler hears of it."""
    served = []

    async def handler(exchange: Exchange) -> None:
        served.append(exchange)

    client = Client(handler, cors=EXACT)
    await client.say(
        request(
            b"origin: https://app.example", b"access-control-request-method: POST",
            b"access-control-request-headers: authorization", method=b"OPTIONS",
        )
    )  # fmt: skip
    (answer,) = read_answers(bytes(client.transport.sent))
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == APP
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD, POST"
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type"
    assert answer.headers["access-control-max-age"] == "600"
    assert answer.headers["vary"].startswith("origin")
    assert served == []
    assert not client.ended


async def test_every_header_may_be_sent() -> None:
    """With `*` a page may send what it asks for: browsers do not take the asterisk for `authorization`."""
    asked = b"access-control-request-headers: authorization, x-anything"
    sent = request(b"origin: null", b"access-control-request-method: POST", asked, method=b"OPTIONS")
    assert (await told(ANY, sent))["access-control-allow-headers"] == "authorization, x-anything"


def test_what_a_page_asks_for_is_not_repeated_unseen() -> None:
    """What cannot be a list of header names is not written into an answer."""
    for asked in (b"a\x01b", b"x" * 5000 + b"\x01", b'"x"'):
        lines = Cors(ANY).preflight(
            b"OPTIONS",
            [
                (b"origin", b"null"),
                (b"access-control-request-method", b"POST"),
                (b"access-control-request-headers", asked),
            ],
        )
        assert lines is not None
        assert b"\x01" not in lines
        assert b'"' not in lines


async def test_no_preflight() -> None:
    """OPTIONS without a method that is asked for, or of an origin that is not allowed, is a request like others."""
    for lines in (
        (b"origin: https://app.example",),
        (b"origin: https://x.example", b"access-control-request-method: POST"),
    ):
        assert (await told(EXACT, request(*lines, method=b"OPTIONS")))["status"] == "200"


async def test_refusals_of_handlers_say_it_too() -> None:
    """A page can read why its request was refused: errors say which origin is allowed like other answers."""

    async def fails(exchange: Exchange) -> None:
        raise LookupError("a bug")

    client = Client(fails, cors=EXACT)
    await client.say(request(b"origin: https://app.example"))
    (answer,) = read_answers(bytes(client.transport.sent))
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (500, APP)


ORIGIN = b"origin: https://app.example"
ALLOWED = {"access-control-allow-origin": APP, "access-control-expose-headers": "x-request-id", "vary": "origin"}


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(ORIGIN, b"accept: *", b"broken header"), "400"),
        (request(ORIGIN, b"host: y"), "400"),
        (request(ORIGIN, *[b"a: b"] * 250), "431"),
        (request(ORIGIN, b"a: " + b"b" * 5000), "431"),
        (request(ORIGIN, b"transfer-encoding: gzip"), "501"),
    ],
)
@pytest.mark.parametrize("behind", [False, True])
async def test_what_is_no_request_is_refused_to_its_page_as_well(sent: bytes, status: str, behind: bool) -> None:
    """A refusal of a head whose origin was read says so, also behind another request: else no page could see why."""
    client = Client(cors=EXACT)
    await client.say(request() + sent if behind else sent)
    answer = read_answers(bytes(client.transport.sent))[-1]
    assert str(answer.status) == status
    assert answer.headers.items() >= ALLOWED.items()


async def test_a_refusal_says_nothing_of_an_origin_that_was_not_read() -> None:
    """Neither of one that comes behind the fault, nor of the one of an earlier request; caches know the difference."""
    client = Client(cors=EXACT)
    await client.say(request(ORIGIN), b"broken\r\n" + ORIGIN + b"\r\n\r\n")
    answer = read_answers(bytes(client.transport.sent))[-1]
    assert (answer.status, answer.headers["vary"]) == (400, "origin")
    assert "access-control-allow-origin" not in answer.headers


async def test_a_refusal_has_the_id_that_its_client_gave() -> None:
    """Where it was read before the fault: the parser keeps the header that stands right before it to itself."""
    client = Client()
    await client.say(request(b"x-request-id: mine", b"accept: *", b"broken header"))
    (answer,) = read_answers(bytes(client.transport.sent))
    assert (answer.status, answer.headers["x-request-id"]) == (400, "mine")


def asked(*, method: bytes = b"POST", headers: bytes = b"", origin: bytes = b"https://app.example") -> list[Header]:
    """Give the headers of a preflight."""
    found = [(b"origin", origin), (b"access-control-request-method", method)]
    return [*found, (b"access-control-request-headers", headers)] if headers else found


def test_a_preflight_to_the_letter() -> None:
    """Of one allowed origin: that one, the methods, the headers that are allowed whatever is asked, for how long."""
    assert Cors(EXACT).preflight(b"OPTIONS", asked(headers=b"x-other")) == (
        b"access-control-allow-origin: https://app.example\r\n"
        b"access-control-allow-methods: GET, HEAD, POST\r\n"
        b"access-control-allow-headers: authorization, content-type\r\n"
        b"access-control-max-age: 600\r\n"
        b"vary: origin, access-control-request-method, access-control-request-headers\r\n"
    )


def test_a_preflight_where_everything_is_allowed() -> None:
    """Any origin is an asterisk; headers that are asked for are repeated, up to a bound; without any no line is."""
    start = b"access-control-allow-origin: *\r\naccess-control-allow-methods: GET, HEAD, POST\r\n"
    end = (
        b"access-control-max-age: 600\r\n"
        b"vary: origin, access-control-request-method, access-control-request-headers\r\n"
    )
    cors = Cors(ANY)
    assert cors.preflight(b"OPTIONS", asked()) == start + end
    allowed = b"access-control-allow-headers: %b\r\n"
    every = b"aZ09!#$%&'*+-.^_`|~, \tb"
    assert cors.preflight(b"OPTIONS", asked(headers=every)) == start + allowed % every + end
    long = b"x" * (MAX_REQUESTED + 1)
    assert cors.preflight(b"OPTIONS", asked(headers=long)) == start + allowed % long[:-1] + end


def test_what_is_not_configured_is_not_said() -> None:
    """Without methods or exposed headers there are no such lines."""
    cors = Cors(CorsSettings(origins=("*",), methods=(), headers=(), max_age_seconds=7))
    assert cors.lines(asked()) == b"access-control-allow-origin: *\r\n"
    assert cors.preflight(b"OPTIONS", asked()) == (
        b"access-control-allow-origin: *\r\naccess-control-max-age: 7\r\n"
        b"vary: origin, access-control-request-method, access-control-request-headers\r\n"
    )


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        (b"GET", asked()),
        (b"OPTIONS", asked()[:1]),
        (b"OPTIONS", asked()[1:]),
        (b"OPTIONS", asked(origin=b"https://x.example")),
        (b"OPTIONS", asked(origin=b"")),
    ],
)
def test_what_is_no_preflight_of_an_allowed_origin(method: bytes, headers: list[Header]) -> None:
    """Another method, nothing that is asked for, no origin or another one: a request like others."""
    assert Cors(EXACT).preflight(method, headers) is None


def test_an_answer_without_an_origin() -> None:
    """It says nothing but that others may be different, where not all origins are allowed."""
    assert Cors(EXACT).lines([]) == b"vary: origin\r\n"
    assert Cors(ANY).lines([]) == b""
    several = Cors(CorsSettings(origins=("https://a.example", APP), exposed=("a", "b")))
    assert several.lines([(b"origin", APP.encode())]) == (
        b"access-control-allow-origin: https://app.example\r\nvary: origin\r\naccess-control-expose-headers: a, b\r\n"
    )
