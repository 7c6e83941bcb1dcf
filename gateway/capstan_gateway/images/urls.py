"""Pure: which URLs of images the gateway fetches, and where they stand in a request."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

MAX_URL_CHARS: Final = 2048
_PLAIN: Final = re.compile(r"[!-\[\]-~]+")
"""ASCII without spaces, control characters and backslashes, which parsers of URLs read differently."""


class NotAllowed(ValueError):
    """A URL that is not fetched; the message says why, without the URL."""


@dataclass(frozen=True, slots=True)
class Place:
    """An image by URL in a chat request."""

    message: int
    part: int
    url: str

    @property
    def field(self) -> str:
        """Its path."""
        return f"messages.{self.message}.content.{self.part}.image_url"


@dataclass(frozen=True, slots=True)
class Source:
    """Where an image is fetched from."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    target: str


def source_of(url: str, *, hosts: tuple[str, ...], allow_http: bool) -> Source:
    """Say where to fetch this URL. Raises NotAllowed unless its host is one of these and nothing in it is odd."""
    if len(url) > MAX_URL_CHARS:
        raise NotAllowed(f"the URL is longer than {MAX_URL_CHARS} characters")
    if not _PLAIN.fullmatch(url):
        raise NotAllowed("the URL holds characters that must be percent-encoded")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise NotAllowed("the URL cannot be read") from None
    scheme: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
    if parts.scheme not in ("http", "https") or (scheme == "http" and not allow_http):
        raise NotAllowed("only https URLs are fetched")
    if "@" in parts.netloc:
        raise NotAllowed("a URL with a user name is not fetched")
    default = 443 if scheme == "https" else 80
    host = host.rstrip(".")
    if not any(_fits(entry, host, port or default, default) for entry in hosts):
        raise NotAllowed("its host is not one from which images are fetched")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Source(scheme, host, port or default, target)


def images_of(document: Mapping[str, Any]) -> Iterator[Place]:
    """Give the images of a chat request that are named by an http(s) URL."""
    messages = document.get("messages")
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        for at, part in enumerate(content if isinstance(content, list) else ()):
            url = _url_of(part)
            if url[:8].lower().startswith(("http://", "https://")):
                yield Place(number, at, url)


def with_images(document: Mapping[str, Any], data: Mapping[str, str]) -> dict[str, Any]:
    """Give the request with these data URLs in place of their URLs. The one that came is not changed."""
    messages = list(document["messages"])
    for place in images_of(document):
        if place.url not in data:
            continue
        message = messages[place.message]
        if message is document["messages"][place.message]:
            messages[place.message] = message = {**message, "content": list(message["content"])}
        part = message["content"][place.part]
        image = part["image_url"] if isinstance(part["image_url"], dict) else {}
        message["content"][place.part] = {**part, "image_url": {**image, "url": data[place.url]}}
    return {**document, "messages": messages}


def _url_of(part: Any) -> str:
    image = part.get("image_url") if isinstance(part, dict) else None
    url = image.get("url") if isinstance(image, dict) else image
    return url if isinstance(url, str) else ""


def _fits(entry: str, host: str, port: int, default: int) -> bool:
    name, _, wanted = entry.partition(":")
    if port != (int(wanted) if wanted else default):
        return False
    if name.startswith("*."):
        return host.endswith(name[1:]) and len(host) > len(name) - 1
    return host == name
