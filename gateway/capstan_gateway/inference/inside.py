"""Requests that the gateway asks itself, without a connection: those of batches, and responses in the background.

They go the way of any other, from the handler of their route on: limits, guards, caches, usage and the request log see
them as requests of whoever has asked for it. No credential is needed for that, so that there is none to leak.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from capstan_contract.config import Dispatch
from capstan_gateway.background.port import Slot
from capstan_gateway.batches.records import BatchSpec
from capstan_gateway.config.runtime import Runtime
from capstan_gateway.headers import Header
from capstan_gateway.identity.gate import Gate
from capstan_gateway.identity.principal import Principal
from capstan_gateway.inference.handler import InferenceHandler
from capstan_gateway.memory import MemoryBudget, Share
from capstan_gateway.own_asks import Answer
from capstan_gateway.pipeline.watch import InFlight
from capstan_gateway.serving.exchange import HIGH_WATER, Exchange
from capstan_gateway.serving.wire import ClientWire

JSON: Final[Header] = (b"content-type", b"application/json")
RESPONSES_PATH: Final = b"/v1/responses"
_NO_ANSWER: Final = (
    b'{"error":{"message":"the gateway gave no answer","type":"server_error","param":null,"code":"internal_error"}}'
)


class _Nobody:
    """The connection of a request that has none."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self.wire = ClientWire(
            asyncio.get_running_loop(), write_seconds=30.0, on_deadline=lambda: None, on_stalled=lambda: None
        )
        self.date_line: Callable[[], bytes] = lambda: b""

    def share(self) -> Share:
        return self._share

    def resume_reading(self) -> None:
        return

    def on_awaiting_body(self) -> None:
        return

    def on_body_arrived(self) -> None:
        return

    def on_answered(self, keep_alive: bool) -> None:  # noqa: ARG002 - of Owner
        return

    def on_abandoned(self) -> None:
        return


class InsideExchange(Exchange):
    """A request whose body is there, and whose answer stays here."""

    __slots__ = ("answer",)

    def __init__(self, target: bytes, body: bytes, share: Share, headers: Sequence[Header] = ()) -> None:
        nobody = _Nobody(share)
        super().__init__(nobody, nobody.wire, b"POST", target, [JSON, *headers], len(body), True, False, False)
        self.answer: Answer | None = None
        self.on_body(body)
        self.on_body_complete()

    def respond(self, status: int, lines: bytes, body: bytes) -> None:
        """Take the answer."""
        self.started = self.complete = True
        self.on_gone = None
        if len(body) > HIGH_WATER:
            # It is kept behind the end of whom it was held for. Where there is no room it is there all the same.
            self.memory.grow(len(body))
        self.answer = Answer(status, _headers(lines), body)

    def start(self, status: int, lines: bytes, first: bytes, *, last: bool = False) -> None:  # noqa: ARG002
        """Streams are refused before they are asked for."""
        raise RuntimeError("an answer that nobody waits for is given as a whole")


class InsideAsks:
    """Asks for batches, and in the background; implements `batches.port.Asks` and `background.port.Asks`."""

    def __init__(
        self,
        handlers: Mapping[bytes, InferenceHandler],
        *,
        current: Callable[[], Runtime | None],
        gate: Gate,
        requests: InFlight,
        budget: MemoryBudget,
        spare: int,
        queued: bool,
    ) -> None:
        """`spare` is how many requests an endpoint has in flight when it has no more room for batches; `queued` says
        that models may have queues."""
        self._handlers = handlers
        self._current = current
        self._gate = gate
        self._requests = requests
        self._budget = budget
        self._spare = spare
        self._queued = queued

    @property
    def is_ready(self) -> bool:
        """Whether it is a time to work."""
        return self._current() is not None and not self._requests.draining

    def who(self, spec: BatchSpec) -> Principal | None:
        """Give who has asked for a batch, as they are known by now."""
        return self.still(spec.principal, by_key=spec.by_key)

    def still(self, principal: Principal, *, by_key: bool) -> Principal | None:
        """Give who somebody is by now."""
        runtime = self._current()
        return None if runtime is None else self._gate.still(principal, runtime.keyring, by_key=by_key)

    def has_model(self, principal: Principal, name: str) -> bool:
        """Whether there is a model of this name for them."""
        runtime = self._current()
        return runtime is not None and runtime.seen_by(principal).find(name) is not None

    def has_room(self, principal: Principal, name: str, running: int) -> bool:
        """Whether a model has room to spare: always where a queue says whose turn it is. What is hosted elsewhere, or
        chooses among models, is asked for as much of the time as this gateway is half empty."""
        runtime, requests = self._current(), self._requests
        if runtime is None or len(requests) >= requests.limit // 2:
            return False
        model = runtime.seen_by(principal).find(name)
        if model is None or model.external or model.plan is not None:
            return True
        if self._queued and model.queue is not None and model.queue.dispatch is not Dispatch.DIRECT:
            return True
        states = model.endpoints.states
        # What is about to be sent is in no endpoint's count yet; what comes by way of a virtual model is in that alone.
        asked = running + sum(
            not one.principal.batch and one.ask is not None and one.ask.model.id == model.id for one in requests
        )
        return max(asked, sum(state.in_flight for state in states)) < self._spare * max(len(states), 1)

    async def ask(
        self, url: str, body: bytes, principal: Principal, share: Share | None = None, *,
        headers: Sequence[tuple[str, str]] = (),
    ) -> Answer:  # fmt: skip
        """Give the answer to one request.

        What it holds of the budget is in the `share` that is given, for whoever keeps the answer to release.
        """
        said = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return await self._ask(url.encode(), body, principal, share, headers=said)

    async def respond(
        self, body: bytes, principal: Principal, slot: Slot, share: Share, *, headers: Sequence[Header] = ()
    ) -> Answer:
        """Give the answer to one request of the Responses API; the `share` as above."""
        return await self._ask(RESPONSES_PATH, body, principal, share, slot, headers)

    async def _ask(
        self, target: bytes, body: bytes, principal: Principal, share: Share | None, slot: Slot | None = None,
        headers: Sequence[Header] = (),
    ) -> Answer:  # fmt: skip
        own = self._budget.share()
        exchange = InsideExchange(target, body, own if share is None else share, headers)
        serving = asyncio.ensure_future(self._serve(self._handlers[target], exchange, principal, slot))
        exchange.task = cast("asyncio.Task[object]", serving)
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            # As a client that has gone: what is asked for it is stopped, and it is recorded.
            exchange.on_lost()
            await asyncio.gather(serving, return_exceptions=True)
            raise
        finally:
            own.release()
        return exchange.answer or Answer(500, (JSON,), _NO_ANSWER)

    @staticmethod
    async def _serve(
        handler: InferenceHandler, exchange: InsideExchange, principal: Principal, slot: Slot | None
    ) -> None:
        serving = handler.serve_own(exchange, principal, slot)
        if serving is not None:
            await serving


def _headers(lines: bytes) -> tuple[Header, ...]:
    found = (line.partition(b": ") for line in lines.split(b"\r\n") if line)
    return tuple((name.lower(), value) for name, _, value in found)
