"""Running one chat or completion request: wait for a place, take the time an engine would take, answer."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from capstan_worker.simulator.answers import Answer
from capstan_worker.simulator.blocks import BLOCK_SIZE, block_hashes, blocks_for
from capstan_worker.simulator.breakable_connection import BreakableConnection
from capstan_worker.simulator.errors import ApiError
from capstan_worker.simulator.exchange import Exchange
from capstan_worker.simulator.faults import Fault
from capstan_worker.simulator.hearing import Heard
from capstan_worker.simulator.metrics import Metrics
from capstan_worker.simulator.pooling import Pooled
from capstan_worker.simulator.requests import Generation
from capstan_worker.simulator.scheduler import Scheduler, Ticket
from capstan_worker.simulator.settings import Dials
from capstan_worker.simulator.shapes import Shapes

_SLOW_TTFT_MS = 20_000.0


@dataclass(frozen=True)
class Pace:
    """When the tokens of one request come, in seconds of the loop's clock."""

    first: float
    step: float

    def at(self, token: int) -> float:
        """Give the time of a token, counted from 0."""
        return self.first + token * self.step


class Generator:
    """Runs requests on the scheduler of one simulator."""

    def __init__(self, scheduler: Scheduler, metrics: Metrics, *, chunk_tokens: int) -> None:
        self._scheduler = scheduler
        self._metrics = metrics
        self._chunk_tokens = chunk_tokens

    async def run(self, exchange: Exchange, request: Generation, dials: Dials, number: str) -> None:
        """Answer one request."""
        loop = asyncio.get_running_loop()
        arrived = loop.time()
        answers = request.answers()
        ticket = self._ticket(request, answers)
        self._scheduler.enter(ticket)
        computed: list[int] = []
        try:
            await self._turn(exchange.connection, ticket)
            admitted = loop.time()
            cached = ticket.lease.hit_tokens if ticket.lease is not None else 0
            pace = self._pace(request, dials, exchange.fault, admitted, cached)
            shapes = Shapes(request, number=number, created=int(time.time()), cached_tokens=cached)
            if request.stream:
                await self._stream(exchange, request, answers, shapes, pace)
            else:
                await exchange.connection.sleep_until(pace.at(max(len(answer.tokens) for answer in answers) - 1))
                await exchange.whole(shapes.whole(answers))
            computed = self._computed(request, answers, ticket)
            self._count(request, answers, arrived, admitted, pace)
        finally:
            self._scheduler.leave(ticket, computed)

    async def run_pooling(self, exchange: Exchange, pooled: Pooled, dials: Dials) -> None:
        """Answer a request that generates nothing: it takes a place and the time of its prefill."""
        loop = asyncio.get_running_loop()
        arrived = loop.time()
        ticket = Ticket((), pooled.tokens, 0)
        self._scheduler.enter(ticket)
        try:
            await self._turn(exchange.connection, ticket)
            ttft = dials.ttft_ms / 1000 * dials.latency_factor
            if exchange.fault is not None and exchange.fault.name == "slow":
                ttft = exchange.fault.number("ttft-ms", _SLOW_TTFT_MS) / 1000
            if dials.prefill_tokens_per_second:
                ttft += pooled.tokens / dials.prefill_tokens_per_second * dials.latency_factor
            await exchange.connection.sleep_until(loop.time() + ttft)
            await exchange.whole(pooled.document)
        finally:
            self._scheduler.leave(ticket)
        self._metrics.prompt_tokens.inc(pooled.tokens)
        self._metrics.finished["stop"].inc()
        self._metrics.latency.observe(loop.time() - arrived)

    async def run_heard(self, exchange: Exchange, heard: Heard, dials: Dials) -> None:
        """Answer a request that has a file heard: it takes a place, the time of its prefill, and that of its words."""
        loop = asyncio.get_running_loop()
        arrived = loop.time()
        ticket = Ticket((), heard.prompt_tokens, 0)
        self._scheduler.enter(ticket)
        try:
            await self._turn(exchange.connection, ticket)
            pace = self._pace_of(heard, dials, exchange.fault, loop.time())
            if heard.stream:
                await self._stream_heard(exchange, heard, pace)
            else:
                await exchange.connection.sleep_until(pace.at(len(heard.words) - 1))
                said = heard.whole()
                await (exchange.text(said) if isinstance(said, str) else exchange.whole(said))
        finally:
            self._scheduler.leave(ticket)
        self._metrics.prompt_tokens.inc(heard.prompt_tokens)
        self._metrics.generation_tokens.inc(len(heard.words))
        self._metrics.finished["stop"].inc()
        self._metrics.latency.observe(loop.time() - arrived)

    async def _stream_heard(self, exchange: Exchange, heard: Heard, pace: Pace) -> None:
        await exchange.connection.sleep_until(pace.first)
        await exchange.begin_stream()
        step = self._chunk_tokens
        for start in range(0, len(heard.words), step):
            if pace.step:
                await exchange.connection.sleep_until(pace.at(start + step - 1))
            await exchange.event(heard.chunk((" " if start else "") + " ".join(heard.words[start : start + step])))
        await exchange.event(heard.chunk("", finish="stop"))
        if heard.include_usage:
            await exchange.event(heard.chunk(None, usage=heard.usage()))
        await exchange.end_stream()

    @staticmethod
    def _pace_of(heard: Heard, dials: Dials, fault: Fault | None, now: float) -> Pace:
        ttft, tpot = dials.ttft_ms * dials.latency_factor, dials.tpot_ms * dials.latency_factor
        if fault is not None and fault.name == "slow":
            ttft, tpot = fault.number("ttft-ms", _SLOW_TTFT_MS), fault.number("tpot-ms", tpot)
        if dials.prefill_tokens_per_second:
            ttft += 1000 * heard.prompt_tokens / dials.prefill_tokens_per_second * dials.latency_factor
        return Pace(first=now + ttft / 1000, step=tpot / 1000)

    async def _turn(self, connection: BreakableConnection, ticket: Ticket) -> None:
        if ticket.turn is not None:
            await connection.wait(ticket.turn)

    async def _stream(
        self, exchange: Exchange, request: Generation, answers: Sequence[Answer], shapes: Shapes, pace: Pace
    ) -> None:
        await exchange.connection.sleep_until(pace.first)
        await exchange.begin_stream()
        done = 0
        if request.chat:
            usage = shapes.usage(0) if request.continuous_usage else None
            for index in range(len(answers)):
                await exchange.event(shapes.chunk([shapes.opening(index)], usage))
        step = self._chunk_tokens
        for start in range(0, max(len(answer.tokens) for answer in answers), step):
            if pace.step:
                # NB: the time of the last token of the piece; it cannot be sent before.
                await exchange.connection.sleep_until(pace.at(start + step - 1))
            for index, answer in enumerate(answers):
                if start >= max(len(answer.tokens), 1):
                    continue
                done += min(step, len(answer.tokens) - start)
                usage = shapes.usage(done) if request.continuous_usage else None
                piece = shapes.piece(index, answer, start, start + step)
                await exchange.event(shapes.chunk([piece], usage))
        if request.include_usage:
            await exchange.event(shapes.chunk([], shapes.usage(done)))
        await exchange.end_stream()

    def _ticket(self, request: Generation, answers: Sequence[Answer]) -> Ticket:
        first = request.prompts[0]
        hashes = block_hashes(first, before=request.root)
        total = len(hashes)
        for index, answer in enumerate(answers):
            prompt = request.prompts[index // request.n]
            shared = len(prompt) // BLOCK_SIZE if index < request.n else 0
            total += blocks_for(len(prompt) + len(answer.tokens)) - shared
        if total > self._scheduler.blocks.capacity:
            raise ApiError(400, f"The request needs {total} KV blocks; there are {self._scheduler.blocks.capacity}.")
        return Ticket(hashes, sum(len(prompt) for prompt in request.prompts), total)

    def _pace(self, request: Generation, dials: Dials, fault: Fault | None, now: float, cached: int) -> Pace:
        factor = dials.latency_factor
        ttft, tpot = dials.ttft_ms * factor, dials.tpot_ms * factor
        if fault is not None and fault.name == "slow":
            ttft, tpot = fault.number("ttft-ms", _SLOW_TTFT_MS), fault.number("tpot-ms", tpot)
        if dials.prefill_tokens_per_second:
            missing = sum(len(prompt) for prompt in request.prompts) - cached
            ttft += 1000 * missing / dials.prefill_tokens_per_second * factor
        if dials.batch_slowdown:
            tpot *= 1 + dials.batch_slowdown * (self._scheduler.running - 1) / max(dials.concurrency - 1, 1)
        if dials.jitter:
            share = 1 + dials.jitter * ((request.seeds[0] & 0xFFFF) / 0x8000 - 1)
            ttft, tpot = ttft * share, tpot * share
        return Pace(first=now + ttft / 1000, step=tpot / 1000)

    def _computed(self, request: Generation, answers: Sequence[Answer], ticket: Ticket) -> list[int]:
        """Give the full blocks of the first answer that follow the prompt's: the next turn of a chat hits them."""
        prompt = request.prompts[0]
        rest = len(prompt) // BLOCK_SIZE * BLOCK_SIZE
        before = ticket.hashes[-1] if ticket.hashes else request.root
        return block_hashes((*prompt[rest:], *answers[0].tokens), before=before)

    def _count(
        self, request: Generation, answers: Sequence[Answer], arrived: float, admitted: float, pace: Pace
    ) -> None:
        metrics = self._metrics
        now = asyncio.get_running_loop().time()
        generated = sum(len(answer.tokens) for answer in answers)
        metrics.prompt_tokens.inc(sum(len(prompt) for prompt in request.prompts))
        metrics.generation_tokens.inc(generated)
        metrics.finished[answers[0].finish_reason].inc()
        metrics.queued.observe(admitted - arrived)
        metrics.first_token.observe(max(pace.first, admitted) - arrived)
        metrics.latency.observe(now - arrived)
        if generated > 1:
            metrics.inter_token.observe(pace.step)
            metrics.per_token.observe(pace.step)
