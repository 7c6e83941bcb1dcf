"""The forms of a Redis' URL."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.redis_address import FORMS, Kind, Node, read_address, read_redis_url


def test_one_server() -> None:
    """Host, port, user, password and number are read; what is left out has its usual value."""
    full = read_address("rediss://us%40er:p%2Fw@redis.example.com:6400/3")
    assert (full.kind, full.nodes, full.tls) == (Kind.ONE, (Node("redis.example.com", 6400),), True)
    assert (full.username, full.password, full.database) == ("us@er", "p/w", 3)
    assert "p/w" not in repr(full)
    bare = read_address("redis://[::1]")
    assert (bare.nodes, bare.tls, bare.username, bare.password, bare.database) == (
        (Node("::1", 6379),), False, None, None, 0,
    )  # fmt: skip
    assert read_address("redis://:secret@h").password == "secret"


def test_sentinels_and_clusters() -> None:
    """Sentinels come with the service's name, clusters with nothing behind their nodes."""
    found = read_address("redis+sentinel://u:p@a,b:26380,[::1]:1/my-master/2")
    assert (found.kind, found.service, found.database) == (Kind.SENTINEL, "my-master", 2)
    assert found.nodes == (Node("a", 26379), Node("b", 26380), Node("::1", 1))
    cluster = read_address("rediss+cluster://a:7000,b/")
    assert (cluster.kind, cluster.tls, cluster.nodes) == (Kind.CLUSTER, True, (Node("a", 7000), Node("b", 6379)))


@pytest.mark.parametrize(
    "url",
    [
        "", "redis:", "redis://", "redis://h/x", "redis://h/1/2", "redis://h?ssl_cert_reqs=none", "redis://h#x",
        "redis://h:0", "redis://h:65536", "redis://a,b", "http://h", "unix:///x", "redis+sentinel://a",
        "redis+sentinel://a/", "redis+sentinel://a/m/x", "redis+cluster://a/1", "redis+cluster://a,", "redis://h /0",
        "redis+cluster://" + ",".join(["a"] * 33),
    ],
)  # fmt: skip
def test_other_forms(url: str) -> None:
    """What has another form is refused, with the forms that are allowed."""
    with pytest.raises(ValueError, match=r"must be redis://HOST"):
        read_redis_url(url)


@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    """Whatever is given is taken, or refused without being repeated."""
    with suppress(ValueError):
        assert read_redis_url("redis" + text) == "redis" + text
    with pytest.raises(ValueError, match=r"^must be redis://HOST:[^x]*x?") as raised:
        read_redis_url(text + "\0x")
    assert str(raised.value) == FORMS
