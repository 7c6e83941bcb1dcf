"""What the head of a request must be like, and what its client is told when it is not."""

from collections.abc import Sequence

import pytest

from capstan_gateway.serving.head import fault_of

HOST = (b"x",)


def told(
    *,
    method: bytes = b"GET",
    target: bytes = b"/x",
    version: str = "1.1",
    hosts: Sequence[bytes] = HOST,
    codings: Sequence[bytes] = (),
    has_length: bool = False,
) -> tuple[int, str] | None:
    """Give status and message of what is wrong with a head."""
    fault = fault_of(method=method, target=target, version=version, hosts=hosts, codings=codings, has_length=has_length)
    return None if fault is None else (fault.status, fault.message)


@pytest.mark.parametrize("version", ["2.0", "0.9", "1.2", ""])
def test_other_versions_are_refused(version: str) -> None:
    """With the one status that says so, whatever else is wrong."""
    assert told(version=version, hosts=()) == (505, "the request is not HTTP/1.1")


@pytest.mark.parametrize(
    ("hosts", "version", "message"),
    [
        ((b"x", b"x"), "1.1", "the request has more than one `Host` header"),
        ((b"x", b"x"), "1.0", "the request has more than one `Host` header"),
        ((), "1.1", "the request has no `Host` header"),
        ((b"a,b",), "1.1", "the `Host` header is no host"),
        ((b"a b",), "1.1", "the `Host` header is no host"),
        ((b"a/b",), "1.0", "the `Host` header is no host"),
        ((b"u@h",), "1.1", "the `Host` header is no host"),
        ((b"x\f",), "1.1", "the `Host` header is no host"),
    ],
)
def test_there_is_one_host_and_it_is_one(hosts: Sequence[bytes], version: str, message: str) -> None:
    """What two servers could take for different hosts is refused."""
    assert told(hosts=hosts, version=version) == (400, message)


@pytest.mark.parametrize("hosts", [(b"",), (b"a.b:80",), (b" \tx\t ",), (b"[::1]:8080",), (b"a_b~%20",)])
def test_a_host_may_be_a_name_an_address_or_nothing(hosts: Sequence[bytes]) -> None:
    """With its port, and with spaces around it; a target without an authority has an empty one."""
    assert told(hosts=hosts) is None


def test_http_1_0_needs_no_host() -> None:
    """Its clients do not know it."""
    assert told(version="1.0", hosts=()) is None


@pytest.mark.parametrize(
    ("codings", "version", "has_length"),
    [
        ((b"chunked",), "1.1", True),
        ((b"chunked",), "1.0", False),
        ((b"chunked", b"chunked"), "1.1", False),
        ((b"gzip", b"chunked"), "1.1", False),
        ((b"gzip",), "1.1", True),
    ],
)
def test_framing_that_two_servers_could_read_differently(
    codings: Sequence[bytes], version: str, has_length: bool
) -> None:
    """A coding beside a length, twice, or in HTTP/1.0: requests are smuggled so."""
    message = "the request's framing is not clear: `Transfer-Encoding` must stand alone in HTTP/1.1"
    assert told(codings=codings, version=version, has_length=has_length) == (400, message)


def test_only_chunks_are_known() -> None:
    """In any case of its letters, with spaces around it; of another coding the client is told that it is not known."""
    for coding in (b"chunked", b"Chunked", b" CHUNKED\t"):
        assert told(codings=(coding,)) is None
    for coding in (b"gzip", b"gzip, chunked", b"chunked, identity", b"", b"chunked\v", b"Xchunked", b"chunkedX"):
        assert told(codings=(coding,)) == (501, "the only transfer coding is `chunked`")


@pytest.mark.parametrize(
    ("method", "target", "message"),
    [
        (b"GET", b"/x#y", "the request's target has a fragment"),
        (b"CONNECT", b"h:1#y", "the request's target has a fragment"),
        (b"GET", b"*", "the target `*` is for OPTIONS"),
        (b"GET", b"x", "the request's target is neither a path nor an http URL"),
        (b"GET", b"h:1", "the request's target is neither a path nor an http URL"),
        (b"GET", b"ftp://h/x", "the request's target is neither a path nor an http URL"),
        (b"GET", b"http://h:99999999/x", "the request's target is not a valid URL"),
        (b"GET", b"http://user@h/x", "the request's target is not a valid URL"),
        (b"GET", b"http:///x", "the request's target is not a valid URL"),
    ],
)
def test_targets_that_are_refused(method: bytes, target: bytes, message: str) -> None:
    """What is neither a path nor the URL of a host, or would be understood in two ways."""
    assert told(method=method, target=target) == (400, message)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (b"GET", b"/x?y"), (b"CONNECT", b"h:1"), (b"OPTIONS", b"*"), (b"GET", b"http://h/x"), (b"GET", b"HTTPS://h:1"),
    ],
)  # fmt: skip
def test_targets_that_are_served(method: bytes, target: bytes) -> None:
    """A path, an http URL in any case of its letters, `*` for OPTIONS, and a host for CONNECT."""
    assert told(method=method, target=target) is None
