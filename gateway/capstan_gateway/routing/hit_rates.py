"""The task that asks engines for the hits of their prefix caches, and how full they are, off the way of requests."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Final

from capstan_gateway.routing.hit_counts import HitWindow, ratio_of, read_hits, read_kv_use
from capstan_gateway.routing.probing import Target
from capstan_gateway.upstream.errors import UpstreamError
from capstan_gateway.upstream.port import UpstreamClient

log = logging.getLogger(__name__)

WINDOW_SECONDS: Final = 300.0
MAX_BODY: Final = 2 * 1024 * 1024
"""Of an engine's metrics; vLLM's are about 100 KiB."""
MOST_A_ROUND: Final = 256
"""So many engines are asked at a time; where there are more, all are after some rounds."""
AT_ONCE: Final = 4
ASK_SECONDS: Final = 5.0
OK: Final = 200
SILENT_SECONDS: Final = 600.0
"""How long an engine that tells nothing is not asked again: it may be another version by then."""


class HitRates:
    """Asks the engines that `targets` gives, and tells `set_ratios` the share of hits of each model.

    A model is left out when nobody asked it for anything in the last minutes, or no engine of it tells. What is kept is
    bounded by the endpoints that there are; an engine that does not answer in time keeps what it said.
    """

    def __init__(
        self,
        client: UpstreamClient,
        targets: Callable[[], Mapping[str, Target]],
        *,
        set_ratios: Callable[[Mapping[str, float]], None],
        seconds: float,
    ) -> None:
        self._client = client
        self._targets = targets
        self._set_ratios = set_ratios
        self._seconds = seconds
        self._now = asyncio.get_running_loop().time
        self._windows: dict[str, HitWindow] = {}
        self._silent: dict[str, float] = {}
        """Engines that told nothing, and until when they are left alone."""
        self._last = ""

    @property
    def known(self) -> frozenset[str]:
        """Ids of the endpoints that have told something."""
        return frozenset(self._windows)

    async def run(self) -> None:
        """Ask until cancelled; never with an interval of 0."""
        while self._seconds > 0:
            await asyncio.sleep(self._seconds)
            await self.ask_round()

    async def ask_round(self) -> None:
        """Ask those whose turn it is, and tell what all have said."""
        targets = {id_: target for id_, target in self._targets().items() if not target.hosted}
        for known in (self._windows, self._silent):
            for gone in known.keys() - targets.keys():
                del known[gone]
        waiting = iter(self._turn(targets))

        async def ask_some() -> None:
            for id_ in waiting:
                await self._ask(id_, targets[id_])

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(ask_some())
        self._tell(targets)

    def _turn(self, targets: Mapping[str, Target]) -> list[str]:
        """Give the engines to ask now, those behind the last round's first."""
        now = self._now()
        ids = sorted(id_ for id_ in targets if self._silent.get(id_, 0.0) <= now)
        ordered = [*(id_ for id_ in ids if id_ > self._last), *(id_ for id_ in ids if id_ <= self._last)]
        turn = list(islice(ordered, MOST_A_ROUND))
        self._last = turn[-1] if len(ids) > MOST_A_ROUND else ""
        return turn

    async def _ask(self, id_: str, target: Target) -> None:
        try:
            status, body = await self._get(target)
        except UpstreamError:
            return  # Whether it is well is for probes to say.
        except Exception:
            # A bug that this engine has found: the other ones are to be asked all the same.
            log.exception("an engine's hits were not read, because of a bug", extra={"endpoint": id_})
            self._silent[id_] = self._now() + SILENT_SECONDS
            return
        hits, use = (read_hits(body), read_kv_use(body)) if status == OK else (None, None)
        if use is not None:
            target.state.observe_kv_use(use, self._now())
        if hits is None and use is not None:
            self._windows.pop(id_, None)
            return
        if hits is None:
            self._silent[id_] = self._now() + SILENT_SECONDS
            self._windows.pop(id_, None)
            return
        self._silent.pop(id_, None)
        window = self._windows.get(id_)
        if window is None:
            window = self._windows[id_] = HitWindow(WINDOW_SECONDS)
        window.add(self._now(), hits)

    async def _get(self, target: Target) -> tuple[int, bytes]:
        response = await self._client.send(
            replace(target.state.endpoint, base_path=b""),
            method=b"GET",
            path=b"/metrics",
            headers=[(b"accept", b"text/plain")],
            connect_timeout=ASK_SECONDS,
            first_byte_timeout=ASK_SECONDS,
            idle_timeout=ASK_SECONDS,
            expires_at=self._now() + ASK_SECONDS,
            repeatable=True,
        )
        try:
            return response.status, await response.read(MAX_BODY)
        finally:
            response.abort()

    def _tell(self, targets: Mapping[str, Target]) -> None:
        of_models: dict[str, list[HitWindow]] = {}
        for id_, window in self._windows.items():
            of_models.setdefault(targets[id_].model, []).append(window)
        ratios = {model: ratio_of(windows) for model, windows in of_models.items()}
        self._set_ratios({model: ratio for model, ratio in ratios.items() if ratio is not None})
