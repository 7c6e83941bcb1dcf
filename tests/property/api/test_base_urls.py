"""The rule for URLs in a manifest is at least as strict as the gateway's."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from capstan_contract.config import ExternalEndpoint
from capstan_operator.api.backends import BaseUrl
from capstan_operator.api.patterns import URL

BASE_URL: TypeAdapter[str] = TypeAdapter(BaseUrl)


@given(st.from_regex(URL, fullmatch=True).map(lambda url: url.rstrip("\n")))
def test_whatever_a_manifest_may_say_a_gateway_can_read(url: str) -> None:
    """No URL that an LLMModel may have is refused by the config that it is compiled into."""
    assert ExternalEndpoint(name="default", url=url).url == url


@given(st.ip_addresses(v=6).map(lambda address: f"https://[{address.compressed}]:8443/v1"))
def test_every_ipv6_address_is_allowed(url: str) -> None:
    """The rule knows each way in which IPv6 addresses are shortened."""
    assert BASE_URL.validate_python(url) == url


@given(st.text("0123456789abcdef:", max_size=20))
def test_nothing_else_in_brackets_is(text: str) -> None:
    """What is in brackets is an address, or the URL is refused."""
    try:
        BASE_URL.validate_python(f"https://[{text}]/v1")
    except ValidationError:
        return
    ipaddress.IPv6Address(text)


@given(st.integers(0, 99999))
def test_ports_that_there_are(port: int) -> None:
    """Exactly the ports from 1 to 65535 are allowed."""
    try:
        BASE_URL.validate_python(f"https://h:{port}/v1")
        allowed = True
    except ValidationError:
        allowed = False
    assert allowed is (0 < port < 65536)


@pytest.mark.parametrize("url", ["https://foo..example.com", f"https://{'a' * 64}.example.com", "https://-a.example"])
def test_names_that_cannot_be(url: str) -> None:
    """The parts of a host's name are neither empty nor too long."""
    with pytest.raises(ValidationError):
        BASE_URL.validate_python(url)
