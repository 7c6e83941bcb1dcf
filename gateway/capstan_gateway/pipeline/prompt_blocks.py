"""The tokens of a prompt, and the names of its blocks, to ask the engine that holds them already.

    kept         its tokens were made before; or those of an earlier turn, which will do where nobody else is in time
    a tokenizer  the model's own, in this process, where one was shipped
    the engine   its `/tokenize`
    nobody       the request goes by the estimate: no tokens in time, too many questions, pictures

Limits that have a prompt counted ask here too, so that no prompt is read twice. Who is late is late for that request
alone, and what it makes is kept for the next turn of the conversation; an engine that is late again and again is left
alone for a while.
"""

import asyncio
import os
import secrets
from array import array
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

import orjson

from capstan_contract.kv_events import block_names, root_name
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.dialects.clients.tokenized import is_all_text
from capstan_gateway.errors import GatewayError, Overloaded
from capstan_gateway.life.threads import Busy, Threads
from capstan_gateway.pipeline.adapters import PROMPT_AS_TOKENS
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.beside import LARGE_BYTES
from capstan_gateway.pipeline.call import call_model
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.reply import WholeReply
from capstan_gateway.pipeline.request import CHAT_PATH, TOKENIZE_PATH, Request
from capstan_gateway.pipeline.salt import counter_for
from capstan_gateway.routing.affinity import shared_chars
from capstan_gateway.routing.held_blocks import PromptBlocks
from capstan_gateway.routing.unroutable import RoutingError
from capstan_gateway.tokens.counter import CountedBy, PromptCounter
from capstan_gateway.tokens.kept import KeptTokens, packed
from capstan_gateway.tokens.prefixes import names_of
from capstan_gateway.upstream.errors import UpstreamError

SECONDS: Final = 0.05
"""How long a request waits for its tokens, for each WAIT_TOKENS of them: a fraction of what an engine takes to compute
so many."""
WAIT_TOKENS: Final = 4096
MOST_THREADS: Final = 4
"""Prompts come in bursts, and those behind would wait for the first ones; tokenizers work without Python's lock."""
MOST_AT_WORK: Final = 16
"""Behind so many prompts that are being made into tokens the next one would wait in vain."""
MOST_LARGE: Final = 4
"""Of these, so many may be large, and they have a thread of their own: whoever sends many takes nobody's place."""
AT_ONCE: Final = 8
"""Questions to engines that are under way together."""
LATE_SECONDS: Final = 2.0
"""How long an engine has for its answer, for the next turn of the conversation."""
MOST_LATE: Final = 3
"""So often in a row an engine may be later than requests wait; one that does not tell at all may not once."""
PAUSE_SECONDS: Final = 5.0
"""How long it is not asked then."""
FORGET_SECONDS: Final = 5.0
"""How often it is looked whether tokens were kept for long enough."""
MOST_LATE_MODELS: Final = 1024
MOST_BYTES: Final = 4 * 1024 * 1024
"""Of a longer prompt nobody makes tokens in time."""
LEAST_BLOCKS: Final = 2
"""A shorter prompt is computed sooner than it is known where it has been."""
BYTES_PER_TOKEN: Final = 4
COMPLETION_PATH: Final = b"/completions"
_SEEN_OTHERWISE: Final = (
    "chat_template",
    "documents",
    "mm_processor_kwargs",
    "prompt_embeds",
    "truncate_prompt_tokens",
)
"""Fields with which an engine reads another prompt than is made into tokens here."""


SMALL_TOKENS: Final = 4096
"""So many are read and named where they are; to name more takes a thread, about a microsecond for each block."""
T = TypeVar("T")
Kept = tuple[Sequence[int], bool]
"""Tokens of a prompt, and whether these are all."""


class Prompts:
    """Implements `deps.BlocksOfPrompts`. One for the process."""

    def __init__(self, deps: Callable[[], Deps], clock: Callable[[], float], *, seconds: float = SECONDS) -> None:
        """`seconds` is how long a request waits, for each 4,096 tokens."""
        self._deps = deps
        self._clock = clock
        self._seconds = seconds
        self._key = secrets.token_bytes(32)
        self._kept = KeptTokens(clock)
        self._threads = Threads("prompt-blocks", workers=min(MOST_THREADS, os.cpu_count() or 1))
        self._large_threads = Threads("large-prompts")
        self._large = 0
        """Flights of large prompts."""
        self._flights: dict[tuple[bytes, bytes], asyncio.Task[None]] = {}
        """By the prompt's last name: who is at work."""
        self._late: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """Models whose engines were late: how often in a row, and until when they are not asked."""
        self._asking = 0

    async def run(self) -> None:
        """Give up what is kept of prompts for too long, until cancelled."""
        while True:
            await asyncio.sleep(FORGET_SECONDS)
            self._kept.forget()

    def close(self) -> None:
        """Let the threads end."""
        self._threads.close()
        self._large_threads.close()

    async def blocks_of(self, ask: Ask, model: ServedModel, *, size: int, salt: str) -> PromptBlocks | None:
        """See `deps.BlocksOfPrompts`."""
        held = model.endpoints.held
        sizes = set() if held is None else held.block_sizes()
        if held is None or not sizes or size < LEAST_BLOCKS * min(sizes) * BYTES_PER_TOKEN:
            return None
        seconds = self._seconds * max(1.0, size / (BYTES_PER_TOKEN * WAIT_TOKENS))
        found = await self._find(ask, model, size, seconds)
        root = root_name(salt=salt, adapter=model.adapter)
        names = None if found is None else await self._on_size(_blocks, found[0], seconds, sizes, root)
        if found is None or names is None:
            held.estimated += 1
            return None
        tokens, whole = found
        held.exact += whole
        held.beginnings += not whole
        total = len(tokens) if whole else max(len(tokens), size // BYTES_PER_TOKEN)
        chars = shared_chars(
            ask.request.document, model.endpoints.heads, endpoints=len(model.endpoints.states), session=ask.session
        )
        return PromptBlocks(total, names, min(total, chars * total // size))

    async def made_here(self, ask: Ask, model: ServedModel, counter: PromptCounter) -> Sequence[int] | None:
        """Give the tokens that the model's tokenizer makes of a prompt; None where it cannot tell, or is too busy."""
        size = len(ask.request.raw or b"")
        names = await self._names(ask, model, size, counter)
        return await self._make(names, ask.request.document, counter, size)

    async def ask_engine(self, ask: Ask, model: ServedModel) -> Sequence[int] | None:
        """Give the tokens that a model's engine makes of a prompt that it can; None where it does not tell them.

        Raises RoutingError, UpstreamError or GatewayError.
        """
        began = self._clock()
        try:
            tokens = await tokens_by_engine(self._deps(), ask, model)
        finally:
            ask.note_counting(self._clock() - began)
        if tokens is not None:
            names = await self._names(ask, model, len(ask.request.raw or b""), self._deps().counters.of(model.id))
            if names:
                self._kept.put(names[-1], tokens)
        return tokens

    async def _find(self, ask: Ask, model: ServedModel, size: int, seconds: float) -> Kept | None:
        request = ask.request
        if size > MOST_BYTES:
            return None
        given = request.document.get("prompt")
        if isinstance(given, list) and request.route.upstream_path == COMPLETION_PATH:
            taken = await self._on_size(_as_given, given, seconds)
            return None if taken is None else (taken, True)
        if not _is_readable(request):
            return None
        counter = self._deps().counters.of(model.id)
        names = await self._names(ask, model, size, counter)
        known = self._kept.find(names)
        if known is not None and known.whole:
            return known.tokens, True
        began = self._clock()
        tokens = await self._in_time(ask, model, counter, names, size, seconds)
        ask.note_counting(self._clock() - began)
        if tokens is not None:
            return tokens, True
        return None if known is None else (known.tokens, False)

    async def _in_time(
        self,
        ask: Ask,
        model: ServedModel,
        counter: PromptCounter | None,
        names: list[bytes],
        size: int,
        seconds: float,
    ) -> Sequence[int] | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if counter is not None:
                    tokens = await self._make(names, ask.request.document, counter, size)
                    if tokens is not None:
                        return tokens
                return await self._by_engine(ask, model, names, size, seconds)
        return None

    async def _make(
        self, names: list[bytes], document: Mapping[str, Any], counter: PromptCounter, size: int
    ) -> Sequence[int] | None:
        """Have a tokenizer make tokens beside the loop."""
        threads = self._large_threads if size > LARGE_BYTES else self._threads

        async def make() -> "array[int] | None":
            with suppress(Busy):
                return await threads.run(_tokens, counter, document)
            return None

        return await self._shared(names, b"here", make, size)

    async def _by_engine(
        self, ask: Ask, model: ServedModel, names: list[bytes], size: int, seconds: float
    ) -> Sequence[int] | None:
        """Have an engine make them, unless it is left alone."""
        now = self._clock()
        until = self._late.get(model.id, (0, 0.0))[1]
        if self._asking >= AT_ONCE or now < until or model.endpoints.lacks(TOKENIZE_PATH, now):
            return None

        async def make() -> "array[int] | None":
            self._asking += 1
            tokens = None
            try:
                async with asyncio.timeout(LATE_SECONDS):
                    tokens = await tokens_by_engine(self._deps(), ask, model)
            except (TimeoutError, RoutingError, UpstreamError, GatewayError):
                pass
            finally:
                self._asking -= 1
            if tokens is None:
                self._note_late(model.id, MOST_LATE)
            elif self._clock() - now > seconds:
                self._note_late(model.id, 1)
            else:
                self._late.pop(model.id, None)
            return tokens

        return await self._shared(names, b"engine", make, size)

    async def _shared(
        self, names: list[bytes], who: bytes, make: Callable[[], Coroutine[Any, Any, "array[int] | None"]], size: int
    ) -> Sequence[int] | None:
        """Give what this makes, once for all who want it at a time. When nobody waits any longer, it is kept all the
        same."""
        if not names:
            return None  # What cannot be written cannot be found again.
        name = names[-1]
        large = size > LARGE_BYTES
        flight = self._flights.get((name, who))
        if flight is None:
            if len(self._flights) >= MOST_AT_WORK or (large and self._large >= MOST_LARGE):
                return None

            async def keep() -> None:
                tokens = await make()
                if tokens is not None:
                    self._kept.put(name, tokens)

            try:
                flight = self._flights[name, who] = self._deps().background.start(keep())
            except Overloaded:
                return None
            self._large += large

            def landed(_: object) -> None:
                del self._flights[name, who]
                self._large -= large

            flight.add_done_callback(landed)
        await asyncio.shield(flight)
        known = self._kept.find(names)
        return known.tokens if known is not None and known.whole else None

    def _note_late(self, model_id: str, times: int) -> None:
        late = self._late.pop(model_id, (0, 0.0))[0] + times
        self._late[model_id] = late, self._clock() + PAUSE_SECONDS if late >= MOST_LATE else 0.0
        if len(self._late) > MOST_LATE_MODELS:
            self._late.popitem(last=False)

    async def _names(self, ask: Ask, model: ServedModel, size: int, counter: PromptCounter | None) -> list[bytes]:
        who = counter_for(model, ask.principal, counter)
        work = partial(names_of, ask.request.document, key=self._key, counter=who)
        if size <= LARGE_BYTES:
            return work()
        with suppress(Busy):
            return await self._threads.run(work)
        return []

    async def _on_size(
        self, work: Callable[..., T | None], tokens: Sequence[int], seconds: float, *more: Any
    ) -> T | None:
        """Give what this makes of tokens, of many beside the loop; None where it is too late then."""
        if len(tokens) <= SMALL_TOKENS:
            return work(tokens, *more)
        with suppress(Busy, TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._threads.run(work, tokens, *more)
        return None


def _is_readable(request: Request) -> bool:
    """Whether a tokenizer makes the same tokens of this request as the engine that is to answer it."""
    document = request.document
    if any(document.get(field) is not None for field in _SEEN_OTHERWISE):
        return False
    if request.route.upstream_path == CHAT_PATH:
        return is_all_text(document)
    return request.route.upstream_path == COMPLETION_PATH and isinstance(document.get("prompt"), str)


def _as_given(prompt: list[Any]) -> "array[int] | None":
    """Read a prompt that is given as tokens."""
    tokens = packed(())
    try:
        # NB: in pieces, between which the loop gets Python's lock when this runs beside it.
        for start in range(0, len(prompt), SMALL_TOKENS):
            tokens.extend(packed(prompt[start : start + SMALL_TOKENS]))
    except (TypeError, OverflowError):
        return None  # Several prompts, or what an engine will refuse.
    return tokens


def _tokens(counter: PromptCounter, document: Mapping[str, Any]) -> "array[int] | None":
    """Blocking."""
    tokens = counter.tokens(document)
    return None if tokens is None else packed(tokens)


def _blocks(tokens: Sequence[int], sizes: set[int], root: int) -> Mapping[int, Sequence[int]]:
    return {size: block_names(tokens, size, before=root) for size in sizes}


async def tokens_by_engine(deps: Deps, ask: Ask, model: ServedModel) -> "array[int] | None":
    """Ask a model's engine for the tokens of a prompt that is text; None when it does not tell them.

    Raises RoutingError, UpstreamError or GatewayError.
    """
    document = {name: value for name, value in ask.request.document.items() if name not in ("stream", "stream_options")}
    child = ask.fork(ask.request.rewritten(document), settles=True)
    child.may_wait = False
    child.hold()
    try:
        reply = await call_model(deps, model, child, by=PROMPT_AS_TOKENS)
        if child.counted_by != CountedBy.ENGINE or not isinstance(reply, WholeReply):
            return None
        tokens = packed(orjson.loads(reply.body)["tokens"])
    except (KeyError, TypeError, OverflowError, orjson.JSONDecodeError):
        return None
    finally:
        child.leave()
    return tokens or None
