"""What is sent to a webhook, what its verdict is, and which services are asked."""

import re
import threading
import time
import urllib.error
import urllib.request
from http.server import HTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from capstan_contract.guards import Action, Source, Stage, WebhookGuard
from capstan_gateway.guards.port import NOTHING, Finding, Scan
from capstan_gateway.guards.prompts.unreadable import Unreadable
from capstan_gateway.images.addresses import is_for_policies
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.guards.asked.service import is_allowed, service_at
from capstan_gateway.pipeline.guards.asked.webhook import MOST_SENT_BYTES, Webhook, is_signed, read_verdict, signature
from capstan_gateway.pipeline.guards.port import Case
from support.asks import an_ask
from support.guards import piece

DOCS = Path(__file__).parents[4] / "docs" / "guards-asking.md"


def receiver() -> dict[str, Any]:
    """Give what the example of the documentation defines."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": "receiver"}
    exec(code, names)  # noqa: S102
    return names


def test_the_documented_receiver_verifies_what_is_sent() -> None:
    """The signature of another body, of another path or query, of another key, or of another time is refused."""
    verified = receiver()["verified"]
    signed = signature(b"s3cret", 1000, b"ab12", b"/check?v=1", b'{"a": 1}').decode()
    assert not verified(signed, "/check?v=1", b'{"a": 2}', 1100.0)
    assert not verified(signed, "/other?v=1", b'{"a": 1}', 1100.0)
    assert not verified(signed, "/check", b'{"a": 1}', 1100.0)
    assert not verified(signed, "/check?v=1", b'{"a": 1}', 1301.0)
    assert not verified(signed.replace("n=ab12", "n=ab13"), "/check?v=1", b'{"a": 1}', 1100.0)
    assert verified(signed, "/check?v=1", b'{"a": 1}', 1100.0) == "ab12"
    assert not verified(signed, "/check?v=1", b'{"a": 1}', 1101.0), "it came before"
    other = signature(b"other", 1000, b"ab12", b"/", b'{"a": 1}').decode()
    assert not verified(other, "/", b'{"a": 1}', 1000.0)
    assert not verified("", "/", b"", 1000.0)
    assert not verified("t=1,v1=", "/", b"", 1.0)


def test_the_documented_receiver_answers() -> None:
    """Over HTTP: its verdict is one, and what is not signed gets none."""
    server = HTTPServer(("127.0.0.1", 0), receiver()["Receiver"])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    body = b'{"pieces": [{"text": "a zebra"}]}'
    try:
        headers = {"x-capstan-signature": signature(b"s3cret", int(time.time()), b"ab12", b"/", body).decode()}
        url = f"http://127.0.0.1:{server.server_port}/"
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
            said = answer.read()
            told = read_verdict(said, ["a zebra"], Action.BLOCK)
            given = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        assert is_signed(said, given, b"s3cret", b"ab12")
        assert not is_signed(said, given, b"s3cret", b"ab13")
        assert not is_signed(said, given, b"other", b"ab12")
        assert not is_signed(said, given, None, b"ab12")
        assert told == [Scan(findings=[Finding("webhook", 0, 7, action=Action.BLOCK)])]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(urllib.request.Request(url, body), timeout=30)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_verdict_says_where_and_what() -> None:
    """Findings by their places; a kind that is no name is another one; a message is for the client."""
    told = read_verdict(
        b'{"action": "redact", "message": "no", "findings": [{"piece": 1, "start": 2, "end": 3, "kind": "My Kind"},'
        b' {"piece": 1, "start": 0, "end": 1}]}',
        ["ab", "cde"], Action.BLOCK,
    )  # fmt: skip
    redact = Action.REDACT
    assert told == [
        Scan(findings=[], message="no"),
        Scan(findings=[Finding("webhook", 0, 1, action=redact), Finding("my-kind", 2, 3, action=redact)], message="no"),
    ]
    assert read_verdict(b'{"action": "allow", "findings": 3}', ["x"], Action.BLOCK) == [NOTHING]


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"allow", b"[]", b"{}", b'{"action": null}', b'{"action": "ALLOW"}', b'{"action": ["allow"]}',
        b'{"action": "block", "message": 3}', b'{"action": "warn", "findings": {}}',
        b'{"action": "block", "message": "' + b"x" * 501 + b'"}',
        b'{"action": "redact", "findings": [{"piece": 0, "start": 0, "end": 0}]}',
        b'{"action": "redact", "findings": [{"piece": 1, "start": 0, "end": 1}]}',
        b'{"action": "redact", "findings": [{"piece": -1, "start": 0, "end": 1}]}',
        b'{"action": "redact", "findings": [{"piece": 0, "start": true, "end": 1}]}',
        b'{"action": "redact", "findings": [{"piece": 0, "start": 0, "end": 4}]}', b'{"action": "redact", "findings": [7]}',
        b'{"action": "redact", "findings": [{"piece": 0, "start": 0, "end": 1, "kind": 1}]}',
    ],
)  # fmt: skip
def test_what_is_no_verdict_is_unreadable(answer: bytes) -> None:
    """It is never taken for `allow`."""
    with pytest.raises(Unreadable):
        read_verdict(answer, ["abc"], Action.BLOCK)


def test_services_by_their_url() -> None:
    """With port, path and query as they are written."""
    one = service_at("https://guard.example:8443/v1/check?a=b")
    assert (one.endpoint.scheme, one.endpoint.host, one.endpoint.port, one.path) == (
        "https", "guard.example", 8443, b"/v1/check?a=b",
    )  # fmt: skip
    assert service_at("http://[::1]").endpoint.host == "::1"
    assert service_at("http://[::1]").path == b"/"


@pytest.mark.parametrize(
    "url",
    ["ftp://a/", "a", "", "http://", "https://u:p@a/", "http://a/#b", "http://a/ b", "http://a:99999/", "http://[x/"],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    """With words for whoever wrote the policy, and without the URL, in which a password may stand."""
    with pytest.raises(ValueError, match="its url"):
        service_at(url)


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "127.0.0.1", "::1", "192.168.1.1", "fd12::1", "8.8.8.8", "2606:4700::1", "::ffff:10.0.0.1"]
)
def test_private_addresses_are_asked(address: str) -> None:
    """Whoever writes a policy may name services of the cluster, and of this machine where that is nobody else's."""
    assert is_for_policies(address, loopback=True, plain=False)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
        "::a9fe:a9fe", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254", "0.0.0.0", "::", "224.0.0.1", "255.255.255.255",
        "ff02::1", "x", "",
    ],
)  # fmt: skip
def test_addresses_of_a_clouds_own_services_are_not(address: str) -> None:
    """In every form that reaches one."""
    assert not is_for_policies(address, loopback=True, plain=False)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "::7f00:1"]
)
def test_this_machine_is_not_asked(address: str) -> None:
    """A policy reaches nothing that trusts whoever is on the gateway's own machine, unless that is allowed."""
    assert not is_for_policies(address, loopback=False, plain=False)
    assert not is_for_policies(address, loopback=False, plain=True)


@pytest.mark.parametrize(
    ("address", "plainly"),
    [("10.0.0.1", True), ("fd12::1", True), ("127.0.0.1", True), ("8.8.8.8", False), ("2606:4700::1", False), ("::ffff:8.8.8.8", False)],
)  # fmt: skip
def test_public_addresses_are_asked_by_https_only(address: str, plainly: bool) -> None:
    """Who is on the way could read the texts, and answer that all of them are allowed."""
    assert is_for_policies(address, loopback=True, plain=False)
    assert is_for_policies(address, loopback=True, plain=True) == plainly


@pytest.mark.parametrize(
    ("url", "hosts", "allowed"),
    [
        ("http://a.team-a.svc:8080/", (), True),
        ("http://a.team-a.svc:8080/", ("a.team-a.svc:8080",), True),
        ("http://A.team-a.SVC:8080/", ("*.team-a.svc:8080",), True),
        ("http://a.team-a.svc:8080/", ("a.team-a.svc",), False),
        ("http://a.team-a.svc/", ("a.team-a.svc",), True),
        ("https://guard.example.com/", ("*.example.com",), True),
        ("https://guard.example.com.evil.com/", ("*.example.com", "guard.example.com"), False),
        ("https://10.0.0.1/", ("*.example.com",), False),
    ],
)
def test_policies_of_namespaces_name_the_hosts_that_they_may(url: str, hosts: tuple[str, ...], allowed: bool) -> None:
    """With a list, a host of it at the port that it says, and no other; without one, any."""
    assert is_allowed(service_at(url), hosts) == allowed


async def test_more_text_than_a_webhook_is_sent_is_not_judged() -> None:
    """Nobody is asked about a part of it, and nothing passes for that."""
    guard = WebhookGuard(name="h", appliesTo=(Source.USER,), url="https://example.org/")
    case = Case(stage=Stage.INPUT, ask=an_ask(), pieces=[piece("x" * MOST_SENT_BYTES)])
    with pytest.raises(Unreadable):
        await Webhook(guard, cast(Deps, None)).judge(case)
