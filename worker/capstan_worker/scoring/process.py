"""`capstan-worker score`: judges samples, and says on its port how models stand.

    /healthz           200 while the process works
    /readyz            200 when all scores were read
    /metrics           scores, and what the scorer does
    /internal/scores   the same for the operator: `capstan_contract.evaluation.ScoreReport`

None of them holds a word of a prompt or an answer.
"""

import asyncio
import logging
import time
from typing import Any

from capstan_contract.evaluation import SCORES_PATH
from capstan_contract.queue.calls import Call
from capstan_contract.queue.wire import Packing
from capstan_evaluation.online.asking import judges_of
from capstan_evaluation.online.metrics import render
from capstan_evaluation.online.scorer import Scorer, ScorerSettings, StoreAway
from capstan_evaluation.runs.client import Connection, open_session
from capstan_worker.asgi import TEXT, Receive, Scope, Send, reply
from capstan_worker.errors import QueueAway
from capstan_worker.health import METRICS_TYPE
from capstan_worker.queue.link import Link
from capstan_worker.scoring.settings import ScoreSettings
from capstan_worker.serve import Listener, Signals, first
from capstan_worker.settings import WorkerSettings

log = logging.getLogger(__name__)


class LinkedStore:
    """Implements `online.scorer.Store`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def run(self, call: Call) -> Any:
        """Run a script. Raises StoreAway."""
        try:
            return await self._link.run(call)
        except QueueAway as error:
            raise StoreAway(str(error)) from error


class ScorePort:
    """The ASGI application of a scorer's port."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"]
        if path == "/healthz":
            await reply(send, 200, b"ok\n", content_type=TEXT)
        elif path == "/readyz":
            synced = self._scorer.synced
            body = b"ok\n" if synced else b"scores were not read yet, or Redis does not answer\n"
            await reply(send, 200 if synced else 503, body, content_type=TEXT)
        elif path == "/metrics":
            await reply(send, 200, render(self._scorer).encode(), content_type=METRICS_TYPE)
        elif path == SCORES_PATH and self._scorer.synced:
            await reply(send, 200, self._scorer.report().model_dump_json().encode())
        else:
            await reply(send, 503 if path == SCORES_PATH else 404, b"not found\n", content_type=TEXT)


class ScoreProcess:
    """The scorer, its port and its connections."""

    def __init__(self, settings: ScoreSettings, worker: WorkerSettings) -> None:
        self._settings = settings
        self._worker = worker

    async def run(self) -> None:
        """Work until a signal comes. What is being judged then is judged by another one, or after the next start."""
        from capstan_worker.queue.link import RedisLink

        settings = self._settings
        link = RedisLink(
            settings.redis_url, password=settings.redis_password,
            sentinel_password=settings.redis_sentinel_password, ca_file=settings.redis_ca_file,
            seconds=settings.redis_seconds, without="no sample is judged",
        )  # fmt: skip
        signals = Signals()
        async with open_session(settings.judge_concurrency) as session:
            connection = Connection(session, concurrency=settings.judge_concurrency)
            scorer = Scorer(
                LinkedStore(link), judges_of(connection, settings.gateway_url, settings.key), _rules(settings),
                packing=Packing((settings.evaluation_secret or "").encode()), now=time.time,
            )  # fmt: skip
            port = Listener(ScorePort(scorer), host=self._worker.host, port=self._worker.port)
            await port.open()
            log.info("scorer listening", extra={"url": settings.gateway_url})
            try:
                await first(scorer.run(), _asked(signals.asked))
            finally:
                await port.finish(1.0)
                await link.aclose()


async def _asked(signal: asyncio.Event) -> None:
    await signal.wait()


def _rules(settings: ScoreSettings) -> ScorerSettings:
    return ScorerSettings(
        name=settings.name(), calls_per_hour=settings.judge_calls_per_hour, concurrency=settings.judge_concurrency,
        tries=settings.judge_tries, idle_seconds=settings.retry_seconds, poll_seconds=settings.poll_seconds,
    )  # fmt: skip
