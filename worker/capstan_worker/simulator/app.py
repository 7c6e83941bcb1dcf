"""The simulator's ASGI application: routes, the fault of a request, and what becomes of errors and aborts."""

import itertools
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from capstan_worker.asgi import Receive, Scope, Send, read_body, reply
from capstan_worker.errors import UsageError
from capstan_worker.health import METRICS_TYPE
from capstan_worker.kv_events.held import HeldBlocks
from capstan_worker.simulator.blocks import BlockCache
from capstan_worker.simulator.breakable_connection import SCOPE_KEY, BreakableConnection
from capstan_worker.simulator.errors import ApiError, ClientGone, FaultDone
from capstan_worker.simulator.exchange import Exchange
from capstan_worker.simulator.faults import Fault, FaultBook, parse_fault
from capstan_worker.simulator.generate import Generator
from capstan_worker.simulator.hearing import TASKS as HEARING
from capstan_worker.simulator.hearing import hear, parse_form
from capstan_worker.simulator.metrics import Metrics
from capstan_worker.simulator.pooling import POOLING
from capstan_worker.simulator.protocol import Body
from capstan_worker.simulator.requests import check_model, parse_body, parse_chat, parse_completion, prompt_texts
from capstan_worker.simulator.scheduler import Scheduler
from capstan_worker.simulator.settings import Dials, SimulatorSettings
from capstan_worker.simulator.tokens import split, token_id

_LARGEST_BODY = 64 * 2**20
_FAULT_HEADER = b"x-simulator-fault"
Handler = Callable[[Exchange, Body, str], Awaitable[None]]


class Simulator:
    """One simulated engine. It is an ASGI application; its connections must be of the class `BreakableConnection`."""

    def __init__(self, settings: SimulatorSettings, told: HeldBlocks | None = None) -> None:
        """`told` is kept at the blocks that its cache holds."""
        self.settings = settings
        self.dials = settings.dials
        self.loaded = settings.startup_seconds == 0
        blocks = BlockCache(settings.kv_blocks, prefix_caching=self.dials.prefix_cache, told=told)
        self.scheduler = Scheduler(self.dials.concurrency, blocks)
        self.metrics = Metrics(settings.model, self.scheduler)
        self.in_flight = 0
        self._generator = Generator(self.scheduler, self.metrics, chunk_tokens=settings.chunk_tokens)
        self._faults = FaultBook(self.dials.faults, seed=settings.seed)
        self._numbers = itertools.count(1)
        self._created = int(time.time())
        self._gets: Mapping[str, Callable[[Send], Awaitable[None]]] = {
            "/health": self._health,
            "/ping": self._health,
            "/metrics": self._metrics,
            "/version": self._version,
            "/v1/models": self._models,
        }
        self._posts: Mapping[str, Handler] = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completion,
            "/tokenize": self._tokenize,
        }

    def turn(self, dials: Dials, *, keep_faults: bool = False) -> None:
        """Take over new dials; unless `keep_faults`, the counts of the faults begin anew."""
        blocks = self.scheduler.blocks
        if blocks.prefix_caching and not dials.prefix_cache:
            blocks.clear()
        blocks.prefix_caching = dials.prefix_cache
        self.scheduler.places = dials.concurrency
        self.dials = dials
        if not keep_faults:
            self._faults = FaultBook(dials.faults, seed=self.settings.seed)
        self.scheduler.admit_waiting()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"]
        if scope["method"] in ("GET", "HEAD") and path in self._gets:
            await self._gets[path](send)
            return
        self.in_flight += 1
        try:
            await self._answer(scope, receive, send, path)
        finally:
            self.in_flight -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        connection: BreakableConnection = scope[SCOPE_KEY]
        exchange = Exchange(connection, send, None)
        try:
            handler = self._find(scope["method"], path)
            self.metrics.requests.labels(path=path).inc()
            exchange.fault = self._fault(scope)
            body = await self._body(scope, receive, path)
            await exchange.strike_before()
            await handler(exchange, body, f"{next(self._numbers):032x}")
        except ApiError as error:
            self.metrics.finished["error"].inc()
            if not connection.lost:
                await exchange.error(error)
        except ClientGone:
            self.metrics.aborted.inc()
            self.metrics.finished["abort"].inc()
        except FaultDone:
            self.metrics.finished["error"].inc()

    def _find(self, method: str, path: str) -> Handler:
        if path in self._posts or path in POOLING or path in HEARING:
            if method != "POST":
                raise ApiError(405, "Method Not Allowed", type="Method Not Allowed")
            if not self.loaded:
                raise ApiError(503, "The model is still loading.", type="ServiceUnavailableError")
            if path in POOLING:
                return self._pooling(path)
            if path in HEARING:
                return self._hearing(path)
            if path == "/tokenize" or self.settings.task in ("chat", "completion"):
                return self._posts[path]
            name = "Chat Completions" if path.endswith("chat/completions") else "Completions"
            raise ApiError(400, f"The model does not support {name} API")
        raise ApiError(404, "Not Found", type="Not Found")

    def _fault(self, scope: Scope) -> Fault | None:
        chosen = self._faults.choose()
        if self.settings.allow_fault_headers:
            given = next((value for name, value in scope["headers"] if name == _FAULT_HEADER), None)
            if given is not None:
                try:
                    chosen = parse_fault(given.decode("latin-1"))
                except UsageError as error:
                    raise ApiError(400, str(error), param="x-simulator-fault") from error
        if chosen is not None:
            self.metrics.faults.labels(fault=chosen.name).inc()
        return chosen

    async def _body(self, scope: Scope, receive: Receive, path: str) -> Body:
        try:
            body = await read_body(receive, limit=_LARGEST_BODY)
        except ValueError as error:
            raise ApiError(413, str(error)) from error
        if body is None:
            raise ClientGone
        if path in HEARING:
            return parse_form(next((value for name, value in scope["headers"] if name == b"content-type"), b""), body)
        return parse_body(body)

    async def _chat(self, exchange: Exchange, body: Body, number: str) -> None:
        request = parse_chat(body, self.settings, self.dials)
        self._strike_length(exchange.fault)
        await self._generator.run(exchange, request, self.dials, number)

    async def _completion(self, exchange: Exchange, body: Body, number: str) -> None:
        request = parse_completion(body, self.settings, self.dials)
        self._strike_length(exchange.fault)
        await self._generator.run(exchange, request, self.dials, number)

    def _strike_length(self, fault: Fault | None) -> None:
        if fault is not None and fault.name == "context-length":
            window = self.settings.context_window
            raise ApiError(
                400,
                f"This model's maximum context length is {window} tokens. However, your prompt contains {window + 1} "
                f"input tokens (simulated fault). Please reduce the length of the input prompt.",
                param="input_tokens",
            )

    def _pooling(self, path: str) -> Handler:
        task, make = POOLING[path]
        if self.settings.task != task:
            name = {"embed": "Embeddings", "classify": "Classification", "score": "Score"}[task]
            raise ApiError(400, f"The model does not support {name} API")

        async def handle(exchange: Exchange, body: Body, number: str) -> None:
            self._strike_length(exchange.fault)
            pooled = make(body, check_model(body, self.settings), self.settings, number)
            await self._generator.run_pooling(exchange, pooled, self.dials)

        return handle

    def _hearing(self, path: str) -> Handler:
        if self.settings.task != "transcribe":
            raise ApiError(400, f"The model does not support {HEARING[path].title()}s API")

        async def handle(exchange: Exchange, body: Body, number: str) -> None:
            heard = hear(body, check_model(body, self.settings), number, path)
            await self._generator.run_heard(exchange, heard, self.dials)

        return handle

    async def _tokenize(self, exchange: Exchange, body: Body, _number: str) -> None:
        check_model(body, self.settings)
        if "messages" in body:
            asked = {name: body[name] for name in ("model", "messages", "tools") if name in body}
            tokens = list(parse_chat(asked, self.settings, self.dials).prompts[0])
        else:
            tokens = split(prompt_texts(body.get("prompt"), "prompt")[0])
        numbers = [token_id(token) for token in tokens]
        window = self.settings.context_window
        await exchange.whole({"count": len(tokens), "max_model_len": window, "tokens": numbers, "token_strs": None})

    async def _health(self, send: Send) -> None:
        ok = self.loaded and self.dials.healthy
        await reply(send, 200 if ok else 503, b"")

    async def _metrics(self, send: Send) -> None:
        await reply(send, 200, self.metrics.render(), content_type=METRICS_TYPE)

    async def _version(self, send: Send) -> None:
        await reply(send, 200, b'{"version":"capstan-simulator"}')

    async def _models(self, send: Send) -> None:
        names = (self.settings.model, *self.settings.aliases)
        await reply(send, 200, orjson.dumps({"object": "list", "data": [self._card(name) for name in names]}))

    def _card(self, name: str) -> dict[str, Any]:
        base = self.settings.model
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "capstan-simulator",
            "root": base,
            "parent": None if name == base else base,
            "max_model_len": self.settings.context_window,
            "permission": [],
        }
