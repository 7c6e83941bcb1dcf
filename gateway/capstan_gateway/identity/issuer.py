"""One issuer of tokens: its keys are fetched in the background, and no request waits for that as a rule.

every --oidc-refresh-seconds     fetched anew
it fails                         tried again after 1, 2, 4, ... 60 s; the keys that are known stay meanwhile
... for --oidc-stale-seconds     and are then no longer believed
a token names an unknown key     fetched at once, but no more often than every 5 s: the key may be new, or made up
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from capstan_gateway.identity.jwks import KeySet, NoKeys, ReadKey, read_key_set
from capstan_gateway.identity.published import Unpublished

log = logging.getLogger(__name__)

REFETCH_SECONDS: Final = 5.0
"""How often unknown keys may have the keys fetched."""
WAIT_SECONDS: Final = 2.0
"""How long a request waits for that."""
MOST_WAITING: Final = 256
FIRST_RETRY_SECONDS: Final = 1.0
MOST_RETRY_SECONDS: Final = 60.0


class Issuer:
    """Holds the newest keys of one issuer. Belongs to the loop that it runs in."""

    def __init__(
        self,
        name: str,
        fetch: Callable[[], Awaitable[bytes]],
        read: ReadKey,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        refresh_seconds: float,
        stale_seconds: float,
        on_fetched: Callable[[str], object] = lambda outcome: None,  # noqa: ARG005 - nobody counts
    ) -> None:
        self.name: Final = name
        self.keys: KeySet | None = None
        """None before the first ones are there, and when they are too old to be believed."""
        self.on_changed: Callable[[], object] = lambda: None
        """Called when other keys are believed than before."""
        self.failure: str | None = None
        """Why the newest keys could not be had; None when they could."""
        self._fetch = fetch
        self._read = read
        self._clock = clock
        self._rng = rng
        self._refresh_seconds = refresh_seconds
        self._stale_seconds = stale_seconds
        self._on_fetched = on_fetched
        self._fetched_at = 0.0
        self._began_at = float("-inf")
        self._failures = 0
        self._asked = asyncio.Event()
        self._fetching: asyncio.Future[None] | None = None
        self._waiting = 0

    async def run(self) -> None:
        """Fetch for ever."""
        while True:
            await self._fetch_once()
            self._asked.clear()
            try:
                async with asyncio.timeout(self._pause()):
                    await self._asked.wait()
            except TimeoutError:
                continue

    @property
    def may_learn(self) -> bool:
        """Whether a request that needs other keys may wait for them: they are on their way, or may be fetched now."""
        if self._waiting >= MOST_WAITING:
            return False
        return self._fetching is not None or self._asked.is_set() or self._may_fetch()

    async def learn(self) -> None:
        """Return when the keys were fetched once more, or that takes too long; have them fetched if that may be."""
        if not self.may_learn:
            return
        if self._fetching is None:
            self._asked.set()
            self._fetching = asyncio.get_running_loop().create_future()
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await asyncio.shield(self._fetching)
        except TimeoutError:
            return
        finally:
            self._waiting -= 1

    def _may_fetch(self) -> bool:
        return self._clock() - self._began_at >= REFETCH_SECONDS

    def _pause(self) -> float:
        if not self._failures:
            return self._refresh_seconds * self._rng.uniform(0.9, 1.1)
        most = min(MOST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(self._failures - 1, 10))
        return most * self._rng.uniform(0.5, 1.0)

    async def _fetch_once(self) -> None:
        self._began_at = self._clock()
        fetching = self._fetching = self._fetching or asyncio.get_running_loop().create_future()
        try:
            text = await self._fetch()
            known = self.keys
            keys = known if known is not None and known.source == text else read_key_set(text, self._read)
        except (Unpublished, NoKeys) as error:
            self._failed(str(error))
        else:
            self._fetched(keys)
        finally:
            self._fetching = None
            if not fetching.done():
                fetching.set_result(None)

    def _fetched(self, keys: KeySet) -> None:
        self._on_fetched("success")
        if self.failure is not None:
            log.info("fetched the keys of an issuer again", extra={"issuer": self.name})
        self._fetched_at, self._failures, self.failure = self._clock(), 0, None
        self._believe(keys)

    def _failed(self, reason: str) -> None:
        self._on_fetched("error")
        self._failures += 1
        if self.failure is None:
            log.warning("could not fetch the keys of an issuer", extra={"issuer": self.name, "reason": reason})
        self.failure = reason
        if self.keys is not None and self._clock() - self._fetched_at > self._stale_seconds:
            log.error("the keys of an issuer are too old to be believed", extra={"issuer": self.name})
            self._believe(None)

    def _believe(self, keys: KeySet | None) -> None:
        if keys is not self.keys:
            self.keys = keys
            self.on_changed()
