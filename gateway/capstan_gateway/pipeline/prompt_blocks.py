"""The tokens of a prompt, and the names of its blocks, to ask the engine that holds them already.

    kept         its tokens were made before; or those of an earlier turn, which will do where nobody else is in time
    a tokenizer  the model's own, in this process, where one was shipped
    the engine   its `/tokenize`
    nobody       the request goes by the estimate: no tokens in time, too many questions, pictures

Limits that have a prompt counted ask here too, so that no prompt is read twice. An engine that does not answer in time
is left alone for a while; a tokenizer that is late is late for that request alone, and its tokens are kept for the next
turn of the conversation.
"""

import asyncio
import secrets
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import orjson

from capstan_contract.kv_events import block_names, root_name
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.dialects.clients.tokenized import is_all_text
from capstan_gateway.errors import GatewayError
from capstan_gateway.life.threads import Busy, Threads
from capstan_gateway.pipeline.adapters import PROMPT_AS_TOKENS
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.beside import LARGE_BYTES
from capstan_gateway.pipeline.call import call_model
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.reply import WholeReply
from capstan_gateway.pipeline.request import CHAT_PATH, TOKENIZE_PATH, Request
from capstan_gateway.routing.affinity import shared_chars
from capstan_gateway.routing.held_blocks import PromptBlocks
from capstan_gateway.routing.unroutable import RoutingError
from capstan_gateway.tokens.counter import CountedBy, PromptCounter
from capstan_gateway.tokens.kept import KeptTokens, packed
from capstan_gateway.tokens.prefixes import names_of
from capstan_gateway.upstream.errors import UpstreamError

SECONDS: Final = 0.05
"""How long a request waits for its tokens: about as long as an engine takes to compute a thousand of them."""
AT_ONCE: Final = 32
"""Questions to engines that are under way together."""
PAUSE_SECONDS: Final = 5.0
"""How long an engine is not asked that has not answered in time."""
MOST_PAUSED: Final = 1024
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
"""So many are named where they are; to name more takes a thread, about a microsecond for each block."""
Kept = tuple[Sequence[int], bool]
"""Tokens of a prompt, and whether these are all."""


class Prompts:
    """Implements `deps.BlocksOfPrompts`. One for the process."""

    def __init__(self, deps: Callable[[], Deps], clock: Callable[[], float], *, seconds: float = SECONDS) -> None:
        """`seconds` is how long a request waits."""
        self._deps = deps
        self._clock = clock
        self._seconds = seconds
        self._key = secrets.token_bytes(32)
        self._kept = KeptTokens(clock)
        self._threads = Threads("prompt-blocks")
        self._flights: dict[bytes, asyncio.Task[Sequence[int] | None]] = {}
        """By the prompt's last name: tokenizers that are at work. Bounded by what may wait for the thread."""
        self._paused: dict[str, float] = {}
        """Until when the engine of each of these models is not asked."""
        self._asking = 0

    def close(self) -> None:
        """Let the thread end."""
        self._threads.close()

    async def blocks_of(self, ask: Ask, model: ServedModel, *, size: int, salt: str) -> PromptBlocks | None:
        """See `deps.BlocksOfPrompts`."""
        held = model.endpoints.held
        sizes = set() if held is None else held.block_sizes()
        if held is None or not sizes or size < LEAST_BLOCKS * min(sizes) * BYTES_PER_TOKEN:
            return None
        found = await self._find(ask, model, size)
        names = None if found is None else await self._named(found[0], sizes, salt=salt, adapter=model.adapter)
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
        names = await self._names(ask, model, len(ask.request.raw or b""), counter)
        return await self._make(names, ask.request.document, counter)

    async def ask_engine(self, ask: Ask, model: ServedModel) -> Sequence[int] | None:
        """Give the tokens that a model's engine makes of a prompt that it can; None where it does not tell them.

        Raises RoutingError, UpstreamError or GatewayError.
        """
        tokens = await tokens_by_engine(self._deps(), ask, model)
        if tokens is not None:
            names = await self._names(ask, model, len(ask.request.raw or b""), self._deps().counters.of(model.id))
            if names:
                self._kept.put(names[-1], tokens)
        return tokens

    async def _find(self, ask: Ask, model: ServedModel, size: int) -> Kept | None:
        request = ask.request
        given = request.document.get("prompt")
        if isinstance(given, list) and request.route.upstream_path == COMPLETION_PATH:
            return _as_given(given)
        if size > MOST_BYTES or not _is_readable(request):
            return None
        counter = self._deps().counters.of(model.id)
        names = await self._names(ask, model, size, counter)
        known = self._kept.find(names)
        if known is not None and known.whole:
            return known.tokens, True
        tokens = await self._in_time(ask, model, counter, names)
        if tokens is not None:
            return tokens, True
        return None if known is None else (known.tokens, False)

    async def _in_time(
        self, ask: Ask, model: ServedModel, counter: PromptCounter | None, names: list[bytes]
    ) -> Sequence[int] | None:
        until = self._clock() + self._seconds
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                if counter is not None:
                    tokens = await self._make(names, ask.request.document, counter)
                    if tokens is not None:
                        return tokens
                return await self._by_engine(ask, model, names)
        return None

    async def _make(
        self, names: list[bytes], document: Mapping[str, Any], counter: PromptCounter
    ) -> Sequence[int] | None:
        """Make tokens beside the loop. When nobody waits for them any longer, they are kept all the same."""
        name = names[-1] if names else secrets.token_bytes(8)
        flight = self._flights.get(name)
        if flight is None:
            flight = self._flights[name] = asyncio.create_task(self._fly(name, document, counter))
            flight.add_done_callback(lambda _: self._flights.pop(name, None))
        return await asyncio.shield(flight)

    async def _fly(self, name: bytes, document: Mapping[str, Any], counter: PromptCounter) -> Sequence[int] | None:
        try:
            tokens = await self._threads.run(_tokens, counter, document)
        except Busy:
            return None
        if tokens is not None:
            self._kept.put(name, tokens)
        return tokens

    async def _by_engine(self, ask: Ask, model: ServedModel, names: list[bytes]) -> Sequence[int] | None:
        now = self._clock()
        if (
            self._asking >= AT_ONCE
            or self._paused.get(model.id, 0.0) > now
            or model.endpoints.lacks(TOKENIZE_PATH, now)
        ):
            return None
        self._asking += 1
        try:
            tokens = await tokens_by_engine(self._deps(), ask, model)
        except (RoutingError, UpstreamError, GatewayError):
            self._pause(model.id)
            return None
        except asyncio.CancelledError:
            if self._clock() - now >= self._seconds / 2:  # NB: else it was the tokenizer before it, or the client left.
                self._pause(model.id)
            raise
        finally:
            self._asking -= 1
        if tokens is None:
            self._pause(model.id)
        elif names:
            self._kept.put(names[-1], tokens)
        return tokens

    def _pause(self, model_id: str) -> None:
        paused = self._paused
        paused.pop(model_id, None)
        paused[model_id] = self._clock() + PAUSE_SECONDS
        if len(paused) > MOST_PAUSED:
            del paused[next(iter(paused))]

    async def _names(self, ask: Ask, model: ServedModel, size: int, counter: PromptCounter | None) -> list[bytes]:
        who = f"{model.id} {model.upstream_name} {'' if counter is None else counter.version}"
        work = partial(names_of, ask.request.document, key=self._key, counter=who)
        if size <= LARGE_BYTES:
            return work()
        with suppress(Busy):
            return await self._threads.run(work)
        return []

    async def _named(
        self, tokens: Sequence[int], sizes: set[int], *, salt: str, adapter: str
    ) -> Mapping[int, Sequence[int]] | None:
        root = root_name(salt=salt, adapter=adapter)
        if len(tokens) <= SMALL_TOKENS:
            return _blocks(tokens, sizes, root)
        with suppress(Busy):
            return await self._threads.run(_blocks, tokens, sizes, root)
        return None


def _is_readable(request: Request) -> bool:
    """Whether a tokenizer makes the same tokens of this request as the engine that is to answer it."""
    document = request.document
    if any(document.get(field) is not None for field in _SEEN_OTHERWISE):
        return False
    if request.route.upstream_path == CHAT_PATH:
        return is_all_text(document)
    return request.route.upstream_path == COMPLETION_PATH and isinstance(document.get("prompt"), str)


def _as_given(prompt: list[Any]) -> Kept | None:
    """Read a prompt that is given as tokens."""
    try:
        return packed(prompt), True
    except (TypeError, OverflowError):
        return None  # Several prompts, or what an engine will refuse.


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
    began = deps.loop_time()
    try:
        reply = await call_model(deps, model, child, by=PROMPT_AS_TOKENS)
        if child.counted_by != CountedBy.ENGINE or not isinstance(reply, WholeReply):
            return None
        tokens = packed(orjson.loads(reply.body)["tokens"])
    except (KeyError, TypeError, OverflowError, orjson.JSONDecodeError):
        return None
    finally:
        ask.note_counting(deps.loop_time() - began)
        child.leave()
    return tokens or None
