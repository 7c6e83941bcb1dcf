"""The task that probes endpoints, so that one which hangs is out before a client meets it."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from random import Random
from typing import Final

from capstan_gateway.routing.probing import (
    ProbeKind,
    ProbeSettings,
    Schedule,
    Target,
    begin,
    conclude,
    decide,
    first_plan,
)
from capstan_gateway.routing.verdicts import SERVER_ERROR, blames_endpoint
from capstan_gateway.upstream.errors import DeadlineExceeded, UpstreamError
from capstan_gateway.upstream.port import Endpoint, UpstreamClient

log = logging.getLogger(__name__)

MAX_BODY: Final = 1024 * 1024
NOT_THERE: Final = frozenset((404, 405, 501))


class Prober:
    """Probes what `targets` gives, each endpoint by one probe at a time; what has left is forgotten.

    `targets` gives targets by the id of their endpoint, and the same mapping as long as nothing has changed: a look at
    thousands of endpoints of which none is due then costs next to nothing.
    """

    def __init__(
        self,
        client: UpstreamClient,
        targets: Callable[[], Mapping[str, Target]],
        *,
        rng: Random,
        count: Callable[[str, str, str], None],
        settings: ProbeSettings | None = None,
    ) -> None:
        self._client = client
        self._targets = targets
        self._rng = rng
        self._count = count
        self._settings = settings or ProbeSettings()
        self._now = asyncio.get_running_loop().time
        self._seen: Mapping[str, Target] = {}
        self._plans: dict[str, tuple[Target, Schedule]] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    @property
    def known(self) -> frozenset[str]:
        """Ids of the endpoints with a schedule."""
        return frozenset(self._plans)

    async def run(self) -> None:
        """Probe until cancelled, which ends all probes."""
        if self._settings.idle_seconds <= 0:
            return
        async with asyncio.TaskGroup() as group:
            while True:
                self._look(group)
                await asyncio.sleep(self._settings.tick_seconds)

    def _look(self, group: asyncio.TaskGroup) -> None:
        """Begin the probes that are due, and end those of endpoints that have left."""
        now = self._now()
        targets = self._targets()
        if targets is not self._seen:
            self._take(targets, now)
        for id_, (target, plan) in self._plans.items():
            if now < plan.next_at or id_ in self._running:
                continue
            if len(self._running) >= self._settings.max_concurrency:
                break
            kind = decide(target, plan, now, self._settings)
            if kind is not None:
                task = self._running[id_] = group.create_task(self._probe(target, plan, kind))
                task.add_done_callback(partial(self._ended, id_))

    def _take(self, targets: Mapping[str, Target], now: float) -> None:
        """Watch these from now on; an endpoint that stays keeps its schedule."""
        before, self._seen, self._plans = self._plans, targets, {}
        for id_, target in targets.items():
            known = before.get(id_)
            plan = known[1] if known is not None else first_plan(now, self._settings, self._rng)
            self._plans[id_] = target, plan
        for gone in before.keys() - targets.keys():
            if gone in self._running:
                self._running[gone].cancel()

    def _ended(self, id_: str, _: asyncio.Task[None]) -> None:
        del self._running[id_]

    async def _probe(self, target: Target, plan: Schedule, kind: ProbeKind) -> None:
        headers = target.headers()
        settings = self._settings
        if headers is None:
            plan.next_at = self._now() + settings.idle_seconds
            return
        ticket = begin(target.state, self._now())
        try:
            if kind is ProbeKind.READINESS:
                well = await self._is_ready(target, plan, list(headers))
            else:
                well = await self._answers(target, list(headers))
        except UpstreamError as error:
            # Of a probe every deadline is the endpoint's: nobody else has made it late.
            if not isinstance(error, DeadlineExceeded) and not blames_endpoint(error):
                plan.next_at = self._now() + settings.retry_seconds
                return
            well = False
        except Exception:
            # A bug that this endpoint has found: the other ones are to be probed all the same.
            log.exception("a probe failed with a bug", extra={"endpoint": target.state.endpoint.id})
            plan.next_at = self._now() + settings.request_seconds
            self._count(target.model, kind, "failed")
            return
        conclude(target, plan, kind, well, self._now(), settings, self._rng, ticket=ticket)
        self._count(target.model, kind, "passed" if well else "failed")

    async def _is_ready(self, target: Target, plan: Schedule, headers: list[tuple[bytes, bytes]]) -> bool:
        endpoint = target.state.endpoint
        if not plan.by_models and not target.hosted:
            status = await self._get(replace(endpoint, base_path=b""), b"/health", headers)
            if status not in NOT_THERE:
                return status < SERVER_ERROR
            plan.by_models = True
        return await self._get(endpoint, b"/models", headers) < SERVER_ERROR

    async def _get(self, endpoint: Endpoint, path: bytes, headers: list[tuple[bytes, bytes]]) -> int:
        seconds = self._settings.readiness_timeout
        return await self._status(endpoint, b"GET", path, headers, b"", seconds)

    async def _answers(self, target: Target, headers: list[tuple[bytes, bytes]]) -> bool:
        state = target.state
        state.in_flight += 1
        try:
            seconds = self._settings.request_timeout
            status = await self._status(state.endpoint, b"POST", target.path, headers, target.body, seconds)
        finally:
            state.in_flight -= 1
        return status < SERVER_ERROR

    async def _status(
        self,
        endpoint: Endpoint,
        method: bytes,
        path: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        seconds: float,
    ) -> int:
        """Give the status of an answer that came whole, and all of it in time: one that drips has not."""
        response = await self._client.send(
            endpoint,
            method=method,
            path=path,
            headers=headers,
            body=body,
            connect_timeout=min(seconds, 5.0),
            first_byte_timeout=seconds,
            idle_timeout=seconds,
            expires_at=self._now() + seconds,
            repeatable=True,
        )
        try:
            await response.read(MAX_BODY)
        finally:
            response.abort()
        return response.status
