"""What the scorer says of models whose answers are judged in production: asked now and then while a model wants it."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

import aiohttp

from capstan_contract.evaluation import SCORES_PATH, ScoresError, TrackScores, read_scores
from capstan_operator.api.kinds import Model
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.status.conditions import conditions_by_type
from capstan_operator.status.evaluation import HEALTHY, evaluation_findings

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 15.0
ANSWER_SECONDS: Final = 5.0
FRESH_SECONDS: Final = 120.0
"""How old what was said last may be. Then it is as if nothing had been said."""
MOST_BYTES: Final = 16 * 1024**2
"""Of a page."""


class ScoreWatch:
    """Asks until cancelled; `of` gives what was said last of a model. Any scorer says the same: one is asked."""

    def __init__(
        self, url: str, *, wake: Callable[[ObjectKey], None], every: float = EVERY_SECONDS, fresh: float = FRESH_SECONDS
    ) -> None:
        """`url` is that of the scorers' Service; empty: there is none. `wake` hears of models whose status is news."""
        self._url = url.rstrip("/")
        self._wake = wake
        self._every = every
        self._fresh = fresh
        self._said: Mapping[str, tuple[TrackScores, ...]] = {}
        self._said_at: float | None = None
        self._models: dict[ObjectKey, Model] = {}
        """Those that want to know."""

    def look(self, model: Model) -> None:
        """Take note of a model as it is now."""
        wanted = model.spec.evaluation if model.spec else None
        is_gate = model.spec is not None and model.spec.rollouts.gates.score is not None
        if wanted is None or (wanted.alertBelow is None and not is_gate):
            self._models.pop(model.key, None)
        else:
            self._models[model.key] = model

    def forget(self, key: ObjectKey) -> None:
        """A model is gone."""
        self._models.pop(key, None)

    def of(self, key: ObjectKey) -> tuple[TrackScores, ...] | None:
        """Give how a model stands; None when nobody says."""
        if self._said_at is None or asyncio.get_running_loop().time() - self._said_at > self._fresh:
            return None
        return self._said.get(str(key), ())

    async def run(self) -> None:
        """Ask until cancelled."""
        if not self._url:
            await asyncio.Event().wait()
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                if self._models:
                    await self._ask(session)
                    self._tell()
                await asyncio.sleep(self._every)

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        try:
            async with session.get(self._url + SCORES_PATH, allow_redirects=False) as response:
                if response.status != 200:
                    log.debug("the scorer did not say its scores", extra={"reason": str(response.status)})
                    return
                if (response.content_length or 0) > MOST_BYTES:
                    log.debug("the scorer did not say its scores", extra={"reason": "too large"})
                    return
                text = await response.read()
            read = await asyncio.to_thread(read_scores, text)
        except (aiohttp.ClientError, TimeoutError, ConnectionError, ScoresError) as error:
            log.debug("the scorer did not say its scores", extra={"reason": type(error).__name__})
            return
        self._said, self._said_at = read.models, asyncio.get_running_loop().time()

    def _tell(self) -> None:
        """Wake the models whose condition would be another one."""
        for key, model in list(self._models.items()):
            present = conditions_by_type(model.status)
            found = evaluation_findings(model, self.of(key), present).get(HEALTHY)
            before = present.get(HEALTHY, {})
            if found is not None and (found.status, found.message) != (before.get("status"), before.get("message")):
                self._wake(key)
