"""Pure: which URLs of images the gateway fetches, and where they stand in a request."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

MAX_URL_CHARS: Final = 2048
_PLAIN: Final = re.compile(r"[!-\[\]-~]+")
"""ASCII without spaces, control characters and backslashes, which parsers of URLs read differently."""
_PASSED_OVER: Final = "".join(map(chr, range(33)))
"""What parsers of URLs pass over in front of the scheme."""
_OTHERS: Final = ("audio_url", "video_url", "file_url", "file", "input_audio")
_KINDS: Final = frozenset(("image_url", *_OTHERS))
_NAMES: Final = ("url", "file_url", "file_data", "data")
_HOST: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


class NotAllowed(ValueError):
    """A URL that is not fetched; the message says why, without the URL."""


@dataclass(frozen=True, slots=True)
class Place:
    """An image, or something else, by URL in a chat request."""

    message: int
    part: int
    kind: str
    """The field of the part that names it."""
    url: str

    @property
    def field(self) -> str:
        """Its path."""
        return f"messages.{self.message}.content.{self.part}.{self.kind}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where an image is fetched from."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    target: str
    entry: str
    """Of the list of hosts, by which it is allowed."""


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
    port = default if port is None else port
    host = host.removesuffix(".")
    found = next((entry for entry in hosts if fits_host(entry, host, port, default)), None)
    if found is None or not _HOST.fullmatch(host):
        raise NotAllowed("its host is not one from which images are fetched")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Source(scheme, host, port, target, found)


def images_of(document: Mapping[str, Any]) -> Iterator[Place]:
    """Give the images of a chat request that are named by a URL which somebody would have to fetch."""
    for number, at, part in _parts(document):
        for url in _urls_of(part.get("image_url"), ("url",)):
            yield Place(number, at, "image_url", url)


def others_of(document: Mapping[str, Any]) -> Iterator[Place]:
    """Give what else of a chat request is named by such a URL: sounds, films, files."""
    for number, at, part in _parts(document):
        for kind in _OTHERS:
            for url in _urls_of(part.get(kind), _NAMES):
                yield Place(number, at, kind, url)


def names_a_url(document: Any) -> bool:
    """Whether anything in the messages of a request in any dialect is named by such a URL, but in inputs of tools."""
    found = (document.get("messages"), document.get("system"))
    return any(
        True
        for name, value in _fields_within(found, but="input")
        if name in _NAMES or name in _KINDS
        for _ in _urls_of(value, ())
    )


def elsewhere_of(document: Mapping[str, Any]) -> str | None:
    """Give the field of the request, beside its messages, that holds something named by such a URL; None without one.

    Engines take pictures in what they rank, score, classify and embed as well, in parts like those of messages.
    """
    for field, given in document.items():
        if field != "messages" and isinstance(given, dict | list):
            for name, value in _fields_within((given,)):
                if name in _KINDS and any(True for _ in _urls_of(value, _NAMES)):
                    return field
    return None


def _fields_within(values: Iterable[Any], *, but: str = "") -> Iterator[tuple[str, Any]]:
    """Give every field of every object in these values, but those of one name, however deep."""
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            if value and not isinstance(value[0], int | float):  # A prompt, or a vector, may be given as numbers.
                waiting.extend(value)
        elif isinstance(value, dict):
            for name, inner in value.items():
                yield name, inner
                if name != but:
                    waiting.append(inner)


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


def _parts(document: Mapping[str, Any]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    messages = document.get("messages")
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        for at, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, dict):
                yield number, at, part


def _urls_of(given: Any, names: Iterable[str]) -> Iterator[str]:
    for found in [given.get(name) for name in names] if isinstance(given, dict) else (given,):
        if isinstance(found, str) and _is_elsewhere(found):
            yield found


def _is_elsewhere(url: str) -> bool:
    """Whether a parser may see a URL that leads somewhere: not in data URLs, nor in bare base64, which has no colon.

    NB: what is odd in front of a scheme or within it, some parsers pass over: it counts, and is refused later.
    """
    return ":" in url and url.lstrip(_PASSED_OVER)[:5].lower() != "data:"


def fits_host(entry: str, host: str, port: int, default: int) -> bool:
    """Whether a host is one of an entry: `example.com` or `*.example.com`, at the default port or the one behind it."""
    name, _, wanted = entry.partition(":")
    if port != (int(wanted) if wanted else default):
        return False
    if name.startswith("*."):
        return host.endswith(name[1:]) and len(host) > len(name) - 1
    return host == name
