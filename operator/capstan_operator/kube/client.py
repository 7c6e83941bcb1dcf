"""The port over the official client: one connection pool, raw JSON in and out, retries, deadlines, a count of calls."""

import asyncio
import builtins
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol
from urllib.parse import urlencode
from urllib.request import getproxies

import aiohttp
import msgspec
import orjson
from kubernetes.aio.client.rest import RESTClientObject

from capstan_operator.backoff import DEFAULT_BACKOFF, Backoff
from capstan_operator.kube.auth import adopt_token, authorization, load_configuration
from capstan_operator.kube.errors import (
    Expired,
    KubeError,
    NotFound,
    Unauthorized,
    Unavailable,
    VersionTooNew,
    error_of,
    parse_retry_after,
)
from capstan_operator.kube.port import Listing
from capstan_operator.kube.versions import Versions, as_number
from capstan_operator.names import FIELD_MANAGER, STATUS_MANAGER
from capstan_operator.resources.api_resource import BUILT_IN, ApiResource, resource_of
from capstan_operator.resources.resource import Manifest

log = logging.getLogger(__name__)

# NB: the parameter makes the client send these bytes as they are; without it, it would encode the body a second time.
APPLY_TYPE = "application/apply-patch+yaml; charset=utf-8"
JSON_TYPE = "application/json"
METADATA_TYPE = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
MOST_ATTEMPTS = 5
"""Attempts of one call, the first included."""
SLICE_SECONDS = 0.005
"""How long items of a list are worked on at a stretch before the rest of the loop has its turn."""


class CallObserver(Protocol):
    """Told of every call that went out: for metrics."""

    def __call__(self, verb: str, kind: ApiResource, code: str, seconds: float, received: int, /) -> None: ...


@dataclass(frozen=True)
class Limits:
    """Bounds of one client."""

    call_seconds: float = 30.0
    """Deadline of one verb with all its attempts."""
    attempt_seconds: float = 15.0
    """Deadline of one attempt."""
    page: int = 500
    """Objects in one page of a LIST."""
    connections: int = 48


@dataclass(frozen=True)
class _Request:
    verb: str
    kind: ApiResource
    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | Manifest | None = None
    content_type: str = JSON_TYPE
    accept: str = JSON_TYPE
    read: Callable[[bytes], Any] = orjson.loads
    """Decodes the body of a successful answer; raises ValueError when it is none."""

    def __str__(self) -> str:
        return f"{self.verb} {self.path.removeprefix('/apis/').removeprefix('/api/')}"


class _Page(msgspec.Struct, gc=False):
    """A page of a LIST: the items are cut apart, and not decoded yet."""

    metadata: dict[str, Any]
    items: list[msgspec.Raw] | None


@dataclass(frozen=True)
class _Reading:
    """What a LIST is of, whatever its pages."""

    kind: ApiResource
    path: str
    query: dict[str, str]
    accept: str
    shape: Callable[[Manifest], Any]
    known: Callable[[str, str], Any] | None = None


class _Identity(msgspec.Struct, gc=False):
    """Which object in which version, of an item's metadata."""

    uid: str = ""
    resourceVersion: str = ""


class _Head(msgspec.Struct, gc=False):
    """What is read of an item to find out whether it is known."""

    metadata: _Identity


class KubeClient:
    """Implements KubePort. Make it with `connect`, end it with `close`.

    `resources` are those that manifests to apply may be of.
    """

    def __init__(
        self,
        configuration: Any,
        *,
        resources: Iterable[ApiResource] = BUILT_IN,
        reload: Callable[[], Awaitable[Any]] = load_configuration,
        observe: CallObserver | None = None,
        on_write: Callable[[ApiResource, Manifest], None] | None = None,
        limits: Limits = Limits(),
        backoff: Backoff = DEFAULT_BACKOFF,
        rng: Callable[[], float] = random.random,
        user_agent: str = "capstan-operator",
    ) -> None:
        configuration.connection_pool_maxsize = limits.connections
        # NB: aiohttp would read ~/.netrc in a thread before each request. Only proxies from the environment need it.
        configuration.client_session_kwargs = {"trust_env": bool(getproxies())}
        self._configuration = configuration
        self._resources = tuple(resources)
        self._rest = RESTClientObject(configuration)
        self._reload = reload
        self._reload_lock = asyncio.Lock()
        self._observe = observe
        self._on_write = on_write
        self._limits = limits
        self._backoff = backoff
        self._random = rng
        self._agent = user_agent
        self._versions = Versions()

    @property
    def versions(self) -> Versions:
        """See KubePort."""
        return self._versions

    @classmethod
    async def connect(cls, **options: Any) -> "KubeClient":
        """Load the credentials of this process and give a client; nothing is sent yet."""
        return cls(await load_configuration(), **options)

    async def close(self) -> None:
        """End the connection pool."""
        await self._rest.close()

    async def list(
        self,
        kind: ApiResource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        shape: Callable[[Manifest], Any] | None = None,
        known: Callable[[str, str], Any] | None = None,
    ) -> Listing:
        """See KubePort. Read in pages; begun again when the continue token expires on the way.

        A list by a selector is asked for at once: the API server answers it from its cache whatever its release, while
        before 1.34 it reads pages from its store.
        """
        query = {"labelSelector": label_selector, "fieldSelector": field_selector}
        reading = _Reading(
            kind,
            kind.path(namespace),
            {k: v for k, v in query.items() if v},
            METADATA_TYPE if metadata_only else JSON_TYPE,
            shape or (lambda item: item),
            known,
        )
        first = 0 if label_selector else self._limits.page
        for limit in (first, first, 0):
            try:
                return await self._list_since(reading, limit)
            except Expired:
                # The last round asks for everything at once, which cannot expire.
                log.info("began a list again because its continue token expired", extra={"path": reading.path})
        raise Unavailable(f"list {reading.path}: the list expires faster than it can be read")

    async def get(self, kind: ApiResource, name: str, *, namespace: str | None = None) -> Manifest:
        """See KubePort."""
        found: Manifest = await self._call(_Request("get", kind, "GET", kind.path(namespace, name)))
        return found

    async def apply(self, manifest: Manifest, *, manager: str = FIELD_MANAGER, force: bool = True) -> Manifest:
        """See KubePort."""
        return await self._apply(manifest, manager, None, force)

    async def apply_status(self, manifest: Manifest, *, manager: str = STATUS_MANAGER) -> Manifest:
        """See KubePort."""
        return await self._apply(manifest, manager, "status", True)

    async def delete(
        self, kind: ApiResource, name: str, *, namespace: str | None = None, uid: str | None = None
    ) -> None:
        """See KubePort."""
        options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            await self._call(_Request("delete", kind, "DELETE", kind.path(namespace, name), body=options))
        except NotFound:
            log.debug("object was gone already", extra={"path": kind.path(namespace, name)})

    async def _apply(self, manifest: Manifest, manager: str, subresource: str | None, force: bool) -> Manifest:
        kind, metadata = resource_of(manifest, self._resources), manifest["metadata"]
        written: Manifest = await self._call(
            _Request(
                "apply_status" if subresource else "apply",
                kind,
                "PATCH",
                kind.path(metadata.get("namespace"), metadata["name"], subresource),
                query=(("fieldManager", manager), ("force", "true" if force else "false")),
                body=orjson.dumps(manifest),
                content_type=APPLY_TYPE,
            )
        )
        self._versions.wrote(kind, written)
        if self._on_write is not None:
            self._on_write(kind, written)
        return written

    async def _list_since(self, reading: _Reading, limit: int) -> Listing:
        """List from the newest version that was seen on; from the newest that there is when none was."""
        since = self._versions.newest(reading.kind)
        try:
            return await self._list_pages(reading, limit, since)
        except VersionTooNew:
            # NB: a store that was restored from a backup counts from an older version on.
            log.warning("the API server knows no such version; asked for the newest", extra={"path": reading.path})
            self._versions.forget(reading.kind)
            listing = await self._list_pages(reading, limit, None)
            if not self._versions.went_back(since, listing.resource_version):
                return listing  # that part of the API server was behind
            log.warning("the API server's versions went back: what was read before no longer counts")
            return await self._list_pages(reading, limit, None)  # NB: shapes may have remembered what they read before

    async def _list_pages(self, reading: _Reading, limit: int, since: str | None) -> Listing:
        items: builtins.list[Any] = []
        size: dict[str, str] = {"limit": str(limit)} if limit else {}
        position = {"resourceVersion": since, "resourceVersionMatch": "NotOlderThan"} if since else {}
        newest = 0
        while True:
            asked = tuple({**reading.query, **size, **position}.items())
            page: _Page = await self._call(
                _Request("list", reading.kind, "GET", reading.path, query=asked, accept=reading.accept, read=_cut)
            )
            newest = max(newest, await self._take(page.items or [], reading, items))
            metadata = page.metadata
            if not metadata.get("continue"):
                break
            position = {"continue": metadata["continue"]}
        version = str(metadata.get("resourceVersion", ""))
        # NB: a list that asks for the newest state is of the store's version, which a cache reaches only seconds later
        # when nothing of the kind changes; what is in it, a cache has.
        self._versions.listed(reading.kind, version if since else str(newest or ""))
        return Listing(items, version)

    async def _take(self, found: Sequence[msgspec.Raw], reading: _Reading, items: builtins.list[Any]) -> int:
        """Decode and shape the items of a page, in slices; give the newest version among them."""
        newest, turn = 0, monotonic()
        for raw in found:
            version, item = _known(raw, reading)
            if item is None:
                version, item = _shaped(raw, reading)
            newest = max(newest, as_number(version) or 0)
            items.append(item)
            if monotonic() - turn > SLICE_SECONDS:
                await asyncio.sleep(0)
                turn = monotonic()
        return newest

    async def _call(self, request: _Request) -> Any:
        """Make the call until it succeeds, fails for good, or its deadline is over."""
        try:
            async with asyncio.timeout(self._limits.call_seconds):
                return await self._attempts(request)
        except TimeoutError as error:
            raise Unavailable(f"{request}: no answer within {self._limits.call_seconds:.0f} s") from error

    async def _attempts(self, request: _Request) -> Any:
        refreshed = False
        for attempt in range(1, MOST_ATTEMPTS + 1):
            try:
                return await self._attempt(request)
            except Unauthorized:
                if refreshed or not await self._refresh():
                    raise
                refreshed = True
            except Unavailable as error:
                if attempt == MOST_ATTEMPTS:
                    raise
                delay = self._backoff.delay(attempt, random=self._random)
                delay = max(delay, error.after or 0.0)
                log.debug("will call again", extra={"call": str(request), "seconds": delay, "reason": str(error)})
                await asyncio.sleep(delay)
        raise Unauthorized(f"{request}: the credentials are not accepted", status=401)

    async def _attempt(self, request: _Request) -> Any:
        started = asyncio.get_running_loop().time()
        code, received = "error", 0
        try:
            status, headers, data = await self._send(request)
            received = len(data)
            code = str(status)
            if 200 <= status < 300:
                return _read(request, data)
            raise error_of(
                status, _decode(data), what=str(request), after=parse_retry_after(headers.get("Retry-After"))
            )
        finally:
            if self._observe is not None:
                took = asyncio.get_running_loop().time() - started
                self._observe(request.verb, request.kind, code, took, received)

    async def _send(self, request: _Request) -> tuple[int, Any, bytes]:
        url = self._configuration.host + request.path + ("?" + urlencode(request.query) if request.query else "")
        headers = {
            "Accept": request.accept,
            # NB: the API server would gzip a large list, which costs both sides more than the bytes do.
            "Accept-Encoding": "identity",
            "Content-Type": request.content_type,
            "User-Agent": self._agent,
        }
        header = await authorization(self._configuration)
        if header is not None:
            headers["authorization"] = header
        try:
            response = await self._rest.request(  # type: ignore[no-untyped-call]
                request.method,
                url,
                headers=headers,
                body=request.body,
                _request_timeout=aiohttp.ClientTimeout(total=self._limits.attempt_seconds),
            )
            return response.status, response.headers, await response.read()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise Unavailable(f"{request}: {type(error).__name__}: {error}") from error

    async def ask_through(
        self, of: str, path: str, *, namespace: str, headers: Mapping[str, str], body: Mapping[str, Any] | None = None
    ) -> tuple[int, bytes]:
        """Ask a Service or a pod (`services/NAME:PORT`, `pods/NAME:PORT`) by way of the API server; give the status and
        the body, whoever of the two has answered. With a `body` it is a POST of that as JSON.

        `Authorization` is what the API server reads, and does not pass on. Raises Unavailable where nobody answers.
        """
        base = f"{self._configuration.host}/api/v1/namespaces/{namespace}/{of}/proxy"
        method = "GET" if body is None else "POST"
        given = {"Accept": "application/json", "User-Agent": self._agent, **headers}
        header = await authorization(self._configuration)
        if header is not None:
            given["authorization"] = header
        timeout = aiohttp.ClientTimeout(total=self._limits.attempt_seconds)
        try:
            response = await self._rest.request(  # type: ignore[no-untyped-call]
                method, base + path, headers=given, body=body, _request_timeout=timeout
            )
            return response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise Unavailable(f"{method} {of}: {type(error).__name__}: {error}") from error

    async def _refresh(self) -> bool:
        """Read the credentials afresh; tell whether trying again makes sense."""
        before = self._configuration.api_key.copy()
        async with self._reload_lock:
            if self._configuration.api_key != before:
                return True  # another call has done it meanwhile
            fresh = await self._reload()
            changed = adopt_token(self._configuration, fresh)
            log.info("read the credentials afresh after the API server refused them", extra={"changed": changed})
            return changed


_cut = msgspec.json.Decoder(_Page).decode
"""Of 5,000 objects of 2 KB this takes 10 ms; to decode them in one piece holds the loop for 260 ms."""


def _read(request: _Request, data: bytes) -> Any:
    """Read a successful answer. One that is no object is none: as an empty LIST it would take everything away."""
    try:
        body = request.read(data)
    except (ValueError, msgspec.MsgspecError) as error:
        raise Unavailable(f"{request}: the answer is not what an API server says") from error
    if not isinstance(body, dict | _Page):
        raise Unavailable(f"{request}: the answer is not an object")
    return body


_head = msgspec.json.Decoder(_Head).decode
"""A seventh of the time that it takes to decode an item in whole, and nothing is made of it."""


def _known(raw: msgspec.Raw, reading: _Reading) -> tuple[object, Any]:
    """Give an item's version, and what is known to have become of it; None when it must be read."""
    if reading.known is None:
        return None, None
    try:
        identity = _head(raw).metadata
    except msgspec.MsgspecError:
        return None, None  # whoever reads it in whole says what is wrong
    if not (identity.uid and identity.resourceVersion):
        return None, None
    return identity.resourceVersion, reading.known(identity.uid, identity.resourceVersion)


def _shaped(raw: msgspec.Raw, reading: _Reading) -> tuple[object, Any]:
    """Read an item; give its version, and what becomes of it."""
    item = _item(raw, reading)
    item["apiVersion"], item["kind"] = reading.kind.api_version, reading.kind.kind
    # NB: a third of most objects, and nothing here reads it.
    item["metadata"].pop("managedFields", None)
    return item["metadata"].get("resourceVersion"), reading.shape(item)


def _item(raw: msgspec.Raw, reading: _Reading) -> Manifest:
    try:
        item = orjson.loads(memoryview(raw))
    except ValueError as error:
        raise Unavailable(f"list {reading.path}: an item is not JSON") from error
    if not isinstance(item, dict) or not isinstance(item.get("metadata"), dict):
        raise Unavailable(f"list {reading.path}: an item is no object")
    return item


def _decode(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


__all__ = ["KubeClient", "KubeError", "Limits"]
