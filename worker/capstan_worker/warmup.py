"""Warming prefixes: one short request per prefix, so that its KV blocks are computed before the first user comes.

It goes through the engine's own HTTP API, because only there the chat template is applied as it is for users.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from capstan_worker.prefixes import Prefix

if TYPE_CHECKING:
    import aiohttp

log = logging.getLogger(__name__)
_SECONDS_PER_PREFIX = 300.0
_SECONDS_PER_TOUCH = 60.0
_TRIES = 5
_PAUSE_SECONDS = 1.0


class Warmup:
    """The warm-up of one engine. It never keeps an engine from serving for good: what fails is logged and left out."""

    def __init__(
        self,
        url: str,
        model: str,
        prefixes: tuple[Prefix, ...],
        *,
        pause: float = _PAUSE_SECONDS,
        api_key: str | None = None,
    ) -> None:
        self._url = url.rstrip("/") + "/v1/chat/completions"
        self._model = model
        self.prefixes = prefixes
        self._pause = pause
        self._headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self.done = not prefixes
        self.failed: list[str] = []

    async def run(self) -> None:
        """Send every prefix once."""
        if self.done:
            return
        # NB: imported only where there is something to warm; a simulator without prefixes stays small.
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=_SECONDS_PER_PREFIX, connect=5)
        async with aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session:
            for prefix in self.prefixes:
                if not await self._warm(session, prefix):
                    self.failed.append(prefix.name)
        self.done = True
        log.info("prefixes warm", extra={"count": len(self.prefixes) - len(self.failed)})

    async def once(self, prefix: Prefix) -> dict[str, Any] | None:
        """Send one prefix once more, without another try; give the usage that the engine tells, None when it does not.

        Whatever goes wrong is logged, and harms nobody: the prefix is computed with the next request that needs it.
        """
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=_SECONDS_PER_TOUCH, connect=5)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session,
                session.post(self._url, json=self._body(prefix)) as response,
            ):
                answer = await response.json(content_type=None) if response.status == 200 else None
                reason = f"status {response.status}"
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            answer, reason = None, type(error).__name__
        if not isinstance(answer, dict):
            log.info("prefix not asked for again", extra={"prefix": prefix.name, "reason": reason})
            return None
        usage = answer.get("usage")
        return usage if isinstance(usage, dict) else None

    def _body(self, prefix: Prefix) -> dict[str, Any]:
        # NB: one token is enough; what counts is that the prompt was processed.
        messages = [{"role": "system", "content": prefix.system}, {"role": "user", "content": "."}]
        return {"model": self._model, "messages": messages, "max_tokens": 1}

    async def _warm(self, session: "aiohttp.ClientSession", prefix: Prefix) -> bool:
        import aiohttp

        body, problem = self._body(prefix), ""
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(self._pause)
            try:
                async with session.post(self._url, json=body) as response:
                    await response.read()
                    if response.status == 200:
                        return True
                    problem = f"status {response.status}"
                    if 400 <= response.status < 500 and response.status != 429:
                        break
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = type(error).__name__
        log.warning("prefix not warmed", extra={"prefix": prefix.name, "reason": problem})
        return False
