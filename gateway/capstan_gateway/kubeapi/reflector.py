"""LIST, then WATCH, for ever: a collection as it is now, kept through every kind of interruption.

- The list gives the state, the watch its changes; a watch that ends goes on from its last resource version.
- 410 Gone (the version is too old) lists anew. So does an error inside the watch.
- While the API is away, what was known last stays; attempts back off, with jitter, to 10 s.
- Silence longer than bookmarks allow counts as a dead connection.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import orjson

from capstan_gateway.kubeapi.client import Json, KubeClient, KubeError, KubeUnreachable
from capstan_gateway.life.pauses import doubled
from capstan_gateway.life.refusals import Refusals
from capstan_gateway.upstream.errors import UpstreamError
from capstan_gateway.upstream.port import UpstreamResponse

log = logging.getLogger(__name__)

WATCH_SECONDS: Final = 270
"""How long a watch is asked to last, and up to 30 seconds more."""
LONGEST_WATCH_SECONDS: Final = WATCH_SECONDS + 60.0
"""What lasts longer is a server that drips."""
SHORT_WATCH_SECONDS: Final = 5.0
"""A watch that ends sooner was ended by something between; when that goes on, the pauses before the next one grow."""
BACKOFF_FIRST: Final = 0.2
BACKOFF_MOST: Final = 10.0
PAGE_SIZE: Final = "500"
MAX_NAME_CHARS: Final = 512
MAX_EVENT_BYTES: Final = 8 * 1024 * 1024


def name_of(item: object) -> str:
    """Give `namespace/name` of an object, whatever it is."""
    metadata = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(metadata, dict):
        return "?"
    return f"{metadata.get('namespace') or ''}/{metadata.get('name') or '?'}"[:MAX_NAME_CHARS]


class Gone(KubeError):
    """The resource version is too old to watch from."""


class Reflector:
    """Calls `replaced` with the whole collection after a list, `changed` with one object after an event."""

    def __init__(
        self,
        client: KubeClient,
        path: str,
        query: Mapping[str, str],
        *,
        replaced: Callable[[list[Json]], None],
        changed: Callable[[str, Json], None],
        rng: random.Random,
        refusals: Refusals | None = None,
    ) -> None:
        self._refusals = refusals or Refusals()
        self._client = client
        self._path = path
        self._query = dict(query)
        self._replaced = replaced
        self._changed = changed
        self._rng = rng
        self._version: str | None = None
        self._failures = 0
        self._short = 0
        """How many watches in a row ended at once."""

    async def run(self) -> None:
        """Follow the collection for ever, from its list on."""
        self._version = None
        loop = asyncio.get_running_loop()
        while True:
            try:
                if self._version is None:
                    await self._list()
                began = loop.time()
                await self._watch()
                # A watch ends every few minutes by itself.
                self._short = self._short + 1 if loop.time() - began < SHORT_WATCH_SECONDS else 0
                pause = doubled(BACKOFF_FIRST, BACKOFF_MOST, self._short)
                await asyncio.sleep(pause * self._rng.uniform(0.2, 0.5))
            except Gone as error:
                self._version = None
                await self._back_off(error)
            except KubeError as error:
                await self._back_off(error)

    async def _list(self) -> None:
        items: list[Json] = []
        query = {**self._query, "limit": PAGE_SIZE}
        while True:
            try:
                page = await self._client.get(self._path, query)
            except KubeError as error:
                if error.status == 410 and "continue" in query:
                    raise Gone(str(error), 410) from error
                raise
            found, metadata = page.get("items") or [], page.get("metadata") or {}
            if not isinstance(found, list) or not isinstance(metadata, dict):
                raise KubeError(f"GET {self._path} did not give a list")
            items.extend(found)
            if not metadata.get("continue"):
                break
            query["continue"] = metadata["continue"]
        self._version = metadata.get("resourceVersion")
        try:
            self._replaced(items)
        except Exception as error:  # noqa: BLE001 - it is logged there
            # A bug, that one of these objects has found: it is the same for every replica, and none must end by it.
            self._refusals.refuse(self._path, "its list", error)
        else:
            self._refusals.accept(self._path, "its list")

    async def _watch(self) -> None:
        query = {
            **self._query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS + self._rng.randrange(30)),
            "resourceVersion": self._version or "0",
        }
        try:
            response = await self._client.open_watch(self._path, query, seconds=LONGEST_WATCH_SECONDS)
        except KubeError as error:
            if error.status == 410:
                raise Gone(str(error), 410) from error
            raise
        try:
            await self._follow(response)
        except UpstreamError as error:
            raise KubeUnreachable(str(error)) from error
        finally:
            response.abort()

    async def _follow(self, response: UpstreamResponse) -> None:
        kept = b""
        while data := await response.receive():
            *lines, kept = (kept + data).split(b"\n")
            if len(kept) > MAX_EVENT_BYTES:
                raise KubeError(f"WATCH {self._path} sent an event that is too large")
            self._take(lines)
            self._failures = 0

    def _take(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            if not line:
                continue
            try:
                event = orjson.loads(line)
                kind, item = event["type"], event["object"]
                metadata = item.get("metadata") or {}
                version = metadata.get("resourceVersion")
            except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
                raise Gone(f"WATCH {self._path} sent something that is not an event") from error
            if kind == "ERROR":
                code = item.get("code")
                raise Gone(f"WATCH {self._path} ended: {item.get('reason')}", code if isinstance(code, int) else 0)
            self._version = version or self._version
            if kind != "BOOKMARK":
                self._hand_on(kind, item)

    def _hand_on(self, kind: str, item: Json) -> None:
        """Give one object to who wants it; one that cannot be taken is left out, and named."""
        name = name_of(item)
        try:
            self._changed(kind, item)
        except Exception as error:  # noqa: BLE001 - it is logged there
            self._refusals.refuse(self._path, name, error)
        else:
            self._refusals.accept(self._path, name)

    async def _back_off(self, error: KubeError) -> None:
        self._failures += 1
        delay = doubled(BACKOFF_FIRST, BACKOFF_MOST, self._failures - 1) * self._rng.uniform(0.5, 1.0)
        log.warning(
            "lost the Kubernetes API, kept what was known",
            extra={"path": self._path, "reason": str(error), "retry_seconds": round(delay, 2)},
        )
        await asyncio.sleep(delay)
