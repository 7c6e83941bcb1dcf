"""URLs in a config: what no gateway could connect to does not get into one."""

import pytest
from pydantic import ValidationError

from capstan_contract.config import ExternalEndpoint, StaticBackend

LONG = "a" * 64
IMPOSSIBLE = [
    "https://h:99999/v1",
    "https://h:0/v1",
    "https://[:::]/v1",
    "https://[1::2::3]/v1",
    "https://foo..example.com/v1",
    f"https://{LONG}.example.com/v1",
    "https://.example.com/v1",
    "https:///v1",
    "ftp://h/v1",
    "h:80",
    "https://h/v1 x",
    "https://h/\u00fc",
    "https://h/\n",
]
POSSIBLE = ["http://127.0.0.1:8000", "http://[::1]:8000", "https://api.example.com./v1", f"https://{LONG[:63]}/v1"]


@pytest.mark.parametrize("url", IMPOSSIBLE)
def test_an_impossible_url_is_refused_without_being_repeated(url: str) -> None:
    """A port, an address or a name that cannot be is refused when the config is read, not when a request comes."""
    with pytest.raises(ValidationError) as refusal:
        ExternalEndpoint(name="default", url=url)
    assert url not in refusal.value.errors(include_input=False)[0]["msg"]
    with pytest.raises(ValidationError):
        StaticBackend(urls=(url,))


@pytest.mark.parametrize("url", POSSIBLE)
def test_other_urls_are_kept_as_they_are(url: str) -> None:
    """What can be connected to is not touched."""
    assert ExternalEndpoint(name="default", url=url).url == url
    assert StaticBackend(urls=(url,)).urls == (url,)
