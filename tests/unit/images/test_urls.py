"""Which images the gateway fetches for a client, and which addresses it never asks."""

from typing import Any

import pytest

from capstan_gateway.images.addresses import is_public
from capstan_gateway.images.urls import (
    NotAllowed,
    Source,
    elsewhere_of,
    images_of,
    names_a_url,
    others_of,
    source_of,
    with_images,
)

HOSTS = ("img.example.com", "*.cdn.example.com", "other.example:8443")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "100.100.100.200", "168.63.129.16", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
        "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:53aa:64c:0:0:80ff:fffe", "", "localhost", "0x7f.1", "2130706433",
        "fec0::1", "5f00::1", "3fff::1", "192.88.99.1", "2002:c058:6301::1",
    ],
)  # fmt: skip
def test_no_address_of_a_network_of_somebodys_own_is_asked(address: str) -> None:
    """Private, loopback, link-local, metadata, multicast, and each of them written in IPv6, are not public."""
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_may_be_asked(address: str) -> None:
    """The internet is there."""
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "source"),
    [
        (
            "https://img.example.com/a.png?x=1#y",
            Source("https", "img.example.com", 443, "/a.png?x=1", "img.example.com"),
        ),
        ("HTTPS://IMG.example.com", Source("https", "img.example.com", 443, "/", "img.example.com")),
        ("https://img.example.com./a", Source("https", "img.example.com", 443, "/a", "img.example.com")),
        ("https://a.b.cdn.example.com/", Source("https", "a.b.cdn.example.com", 443, "/", "*.cdn.example.com")),
        ("https://other.example:8443/a", Source("https", "other.example", 8443, "/a", "other.example:8443")),
    ],
)
def test_a_host_of_the_list_is_fetched(url: str, source: Source) -> None:
    """Whatever the case, a dot at the end or a fragment; below a `*.`; at the port that the list names."""
    assert source_of(url, hosts=HOSTS, allow_http=False) == source


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://img.example.com/a", "only https"),
        ("ftp://img.example.com/a", "only https"),
        ("https://evil.example/a", "its host is not"),
        ("https://img.example.com.evil.example/a", "its host is not"),
        ("https://cdn.example.com/", "its host is not"),
        ("https://evilcdn.example.com/", "its host is not"),
        ("https://img.example.com:8080/a", "its host is not"),
        ("https://other.example/a", "its host is not"),
        ("https://169.254.169.254/latest", "its host is not"),
        ("https://img.example.com@evil.example/a", "user name"),
        ("https://evil@img.example.com/a", "user name"),
        ("https://evil.example\\@img.example.com/a", "percent-encoded"),
        ("https://img.example.com/a b", "percent-encoded"),
        ("https://img.example.com/a\r\nx: y", "percent-encoded"),
        ("https://img.example.com:port/", "cannot be read"),
        ("https://[::1/", "cannot be read"),
        ("https:///a", "its host is not"),
        ("https://img.example.com/" + "a" * 3000, "longer than"),
        ("https://img.example.com:0/a", "its host is not"),
        ("https://img.example.com:65536/a", "cannot be read"),
        ("https://img.example.com../a", "its host is not"),
        ("https://img.example.com.../a", "its host is not"),
        ("https://..cdn.example.com/a", "its host is not"),
        ("https://a..cdn.example.com/a", "its host is not"),
        ("https://" + "a" * 64 + ".cdn.example.com/a", "its host is not"),
        ("https://a%2eb.cdn.example.com/a", "its host is not"),
        (" https://img.example.com/a", "percent-encoded"),
        ("ht\ttps://img.example.com/a", "percent-encoded"),
        ("file:///etc/passwd", "only https"),
    ],
)
def test_no_other_url_is_fetched(url: str, why: str) -> None:
    """Another scheme, host, port or a trick with names is refused with the reason, and without the URL."""
    with pytest.raises(NotAllowed, match=why) as caught:
        source_of(url, hosts=HOSTS, allow_http=False)
    assert "example" not in str(caught.value)


def test_plain_http_is_a_setting() -> None:
    """With it http is as good as https."""
    assert source_of("http://img.example.com/a", hosts=HOSTS, allow_http=True).port == 80


def test_images_are_found_and_replaced() -> None:
    """Every image by URL, as an object or a bare string, is replaced; data URLs, texts and the given document stay."""
    url, data = "https://img.example.com/a", "data:image/png;base64,AA=="
    content = [
        {"type": "text", "text": url},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
        {"type": "image_url", "image_url": url},
        {"type": "image_url", "image_url": {"url": data}},
        {"type": "image_url", "image_url": 5},
        5,
    ]
    given = {"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": content}, 7]}
    assert [place.field for place in images_of(given)] == [
        "messages.1.content.1.image_url",
        "messages.1.content.2.image_url",
    ]
    made = with_images(given, {url: data})
    assert made["messages"][1]["content"][1] == {"type": "image_url", "image_url": {"url": data, "detail": "low"}}
    assert made["messages"][1]["content"][2] == {"type": "image_url", "image_url": {"url": data}}
    assert [made["messages"][1]["content"][at] for at in (0, 3, 4, 5)] == [content[at] for at in (0, 3, 4, 5)]
    assert content[1]["image_url"]["url"] == url


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("data:image/png;base64,AA==", False),
        ("DATA:image/png;base64,AA==", False),
        (" \tdata:image/png;base64,AA==", False),
        ("iVBORw0KGgo/+==", False),
        ("", False),
        (" http://10.0.0.1/", True),
        ("\x00http://10.0.0.1/", True),
        ("ht\ttp://10.0.0.1/", True),
        ("file:///etc/passwd", True),
        ("HTTP://10.0.0.1/", True),
        ("dat:a:", True),
    ],
)
def test_what_a_parser_might_fetch_is_found(url: str, found: bool) -> None:
    """Data URLs and bare base64 lead nowhere; all else that has a scheme for some parser is looked at, however odd."""
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"image_url": url}]
    given = {"messages": [{"role": "user", "content": parts}]}
    assert [place.url for place in images_of(given)] == [url, url] * found
    for kind, name in (("audio_url", "url"), ("file", "file_data"), ("input_audio", "data"), ("file", "file_url")):
        document = {"messages": [{"role": "user", "content": [{kind: {"url": "", name: url}, "type": kind}]}]}
        assert [(place.kind, place.url) for place in others_of(document)] == [(kind, url)] * found
    assert [*others_of(given)] == []


@pytest.mark.parametrize(
    ("block", "found"),
    [
        ({"type": "image", "source": {"type": "url", "url": "http://10.0.0.1/"}}, True),
        ({"type": "image", "source": {"type": "base64", "data": "AA==", "media_type": "image/png"}}, False),
        ({"type": "tool_result", "content": [{"type": "image", "source": {"url": "https://a.example/"}}]}, True),
        ({"type": "input_image", "image_url": "https://a.example/"}, True),
        ({"type": "tool_use", "input": {"url": "https://a.example/"}}, False),
        ({"type": "text", "text": "https://a.example/"}, False),
    ],
)
def test_a_url_is_seen_in_every_dialect(block: dict[str, Any], found: bool) -> None:
    """However deep it stands: what a tool was given is no picture, and a text is none."""
    assert names_a_url({"messages": [{"role": "user", "content": [block]}]}) is found
    assert names_a_url({"messages": [], "system": [block]}) is found


PICTURE = {"type": "image_url", "image_url": {"url": "http://10.0.0.1/a.png"}}


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"query": "q", "documents": {"content": [PICTURE]}}, "documents"),
        ({"query": {"content": [PICTURE]}, "documents": ["d"]}, "query"),
        ({"text_1": "a", "text_2": [{"content": [{"audio_url": "https://x.example/a"}]}]}, "text_2"),
        ({"input": [{"content": [{"type": "video_url", "video_url": {"url": " http://x"}}]}]}, "input"),
        ({"data_1": {"deep": [{"er": [{"image_url": "http://x"}]}]}}, "data_1"),
        ({"query": {"content": [{**PICTURE, "image_url": {"url": "data:image/png;base64,AA"}}]}}, None),
        ({"input": ["see http://x.example/", "y: z"]}, None),
        ({"input": [[1, 2, 3]], "documents": [{"text": "a", "url": "http://x.example/source"}]}, None),
        ({"messages": [{"role": "user", "content": [PICTURE]}]}, None),
    ],
)
def test_what_is_by_url_beside_the_messages_is_found(document: dict[str, Any], field: str | None) -> None:
    """Parts like those of messages stand also in what is ranked, scored, classified and embedded; texts are texts."""
    assert elsewhere_of(document) == field
