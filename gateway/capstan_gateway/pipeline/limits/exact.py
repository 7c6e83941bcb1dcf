"""How many tokens a prompt really has, for a decision that depends on it.

    known        it was counted before, or the conversation was, some turns ago, and what came since decides nothing:
                 but not that it is refused for good, since templates drop what was thought in earlier turns
    a tokenizer  the model's own, in this process, where one was shipped
    the engine   its `/tokenize`; nothing of a prompt is sent to a hosted API before it is admitted and judged
    nobody       the estimate stands: no answer in time, too many questions, pictures, a virtual model (which of its
                 members answers is not known yet)

A request asks once for each model that it may be answered by. An engine that does not answer in time is left alone for
a while, so that a hanging one costs one deadline and not one for each request. A tokenizer that is late is late for
that request alone.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final

import orjson

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import GatewayError, Overloaded
from capstan_gateway.life.threads import Busy
from capstan_gateway.pipeline.adapters import PROMPT_TOKENIZED, is_countable
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.beside import LARGE_BYTES, beside
from capstan_gateway.pipeline.call import call_model
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.layers import guards_of
from capstan_gateway.pipeline.reply import Reply, WholeReply
from capstan_gateway.pipeline.request import TOKENIZE_PATH
from capstan_gateway.pipeline.salt import counter_for
from capstan_gateway.routing.unroutable import RoutingError
from capstan_gateway.tokens.counter import CountedBy
from capstan_gateway.tokens.prefixes import PromptCounts, names_of
from capstan_gateway.tokens.prompt import prompt_tokens
from capstan_gateway.tokens.ratios import PromptRatios
from capstan_gateway.upstream.errors import UpstreamError

SECONDS: Final = 0.25
AT_ONCE: Final = 64
"""Questions that are under way together; further requests are decided by the estimate."""
PAUSE_SECONDS: Final = 5.0
"""How long an engine is not asked that has not answered in time."""
MOST_PAUSED: Final = 1024
MOST_BYTES: Final = 4 * 1024 * 1024
"""Of a longer prompt nobody counts the tokens in time."""
CACHE: Final = "cache"
PREFIX: Final = "prefix"
NOBODY: Final = "nobody"

IsOpen = Callable[[int, int], bool]
"""Whether the decision depends on which number of tokens it is, from the first to the second."""


class ExactCounts:
    """Asks whoever knows; one for the process."""

    def __init__(
        self,
        deps: Deps,
        *,
        seconds: float = SECONDS,
        at_once: int = AT_ONCE,
        on_count: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`seconds` is how long a request waits for a count; `on_count` hears who has given one."""
        self._deps = deps
        self._seconds = seconds
        self._at_once = at_once
        self._on_count = on_count
        self._key = secrets.token_bytes(32)
        self._counts = PromptCounts(deps.loop_time)
        self._paused: OrderedDict[str, float] = OrderedDict()
        """Until when the engine of each of these models is not asked."""
        self._asking = 0

    async def count(
        self, ask: Ask, model: ServedModel, estimate: int, ratios: PromptRatios, is_open: IsOpen,
        is_too_many: Callable[[int], bool] = lambda _: False,
    ) -> int | None:  # fmt: skip
        """Give a number by which the request can be decided for this model; None: the estimate stands.

        Nobody is asked where the decision is not open. `is_too_many` says that so many are refused for good, which no
        number does that is only guessed from an earlier one. It never raises but when it is cancelled.
        """
        if not is_open(*ratios.range_of(model.id, estimate)):
            return None
        by, tokens = NOBODY, None
        if self._may_count(ask, model):
            self._asking += 1
            try:
                by, tokens = await self._find(ask, model, ratios, is_open, is_too_many)
            except (TimeoutError, RoutingError, UpstreamError, GatewayError):
                pass
            finally:
                self._asking -= 1
        self._on_count(by)
        return tokens

    def _may_count(self, ask: Ask, model: ServedModel) -> bool:
        if self._asking >= self._at_once or model.plan is not None or ask.request.came > MOST_BYTES:
            return False
        return (self._deps.counters.of(model.id) is not None or self._may_ask(ask, model)) and is_countable(ask.request)

    def _may_ask(self, ask: Ask, model: ServedModel) -> bool:
        is_paused = self._paused.get(model.id, 0.0) > self._deps.loop_time()
        return not is_paused and not guards_of(ask.model.layers) and self._has_engine(model)

    def _has_engine(self, model: ServedModel) -> bool:
        endpoints = model.endpoints
        return (
            not model.external
            and bool(endpoints.states)
            and not guards_of(model.layers)  # NB: no engine is to see what they have not judged.
            and not endpoints.lacks(TOKENIZE_PATH, self._deps.loop_time())
        )

    def _pause(self, model: ServedModel) -> None:
        paused = self._paused
        paused.pop(model.id, None)
        paused[model.id] = self._deps.loop_time() + PAUSE_SECONDS
        if len(paused) > MOST_PAUSED:
            paused.popitem(last=False)

    async def _find(
        self, ask: Ask, model: ServedModel, ratios: PromptRatios, is_open: IsOpen, is_too_many: Callable[[int], bool]
    ) -> tuple[str, int | None]:
        deadline = asyncio.get_running_loop().time() + self._seconds
        async with asyncio.timeout_at(deadline):
            by, tokens, names = await self._find_here(ask, model, ratios, is_open, is_too_many)
        if tokens is None and self._may_ask(ask, model):
            by, tokens = CountedBy.ENGINE, await self._ask(ask, model, deadline)
        if tokens is None:
            return NOBODY, None
        if names and by not in (CACHE, PREFIX):
            self._counts.put(names[-1], tokens)
        return by, tokens

    async def _ask(self, ask: Ask, model: ServedModel, deadline: float) -> int | None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout_at(deadline):
                return await ask_engine(self._deps, ask, model)
        except TimeoutError:
            if loop.time() - began >= self._seconds / 2:  # NB: it was not the tokenizer before it that took the time.
                self._pause(model)
            raise

    async def _find_here(
        self, ask: Ask, model: ServedModel, ratios: PromptRatios, is_open: IsOpen, is_too_many: Callable[[int], bool]
    ) -> tuple[str, int | None, list[bytes]]:
        """Give who knows it in this process, the tokens if somebody does, and the names of the conversation."""
        counter, document = self._deps.counters.of(model.id), ask.request.document
        who = counter_for(model, ask.principal, counter)
        names = await self._on_size(ask, partial(names_of, document, key=self._key, counter=who))
        known = self._counts.find(names)
        if known is not None:
            if known.beginning == len(names):
                return CACHE, known.tokens, names
            since = prompt_tokens({"messages": document["messages"][known.beginning :]})
            least, most = ratios.range_of(model.id, since)
            guessed = known.tokens + ratios.corrected(model.id, since)
            if not is_open(known.tokens + least, known.tokens + most) and not is_too_many(guessed):
                return PREFIX, guessed, names
        if counter is None:
            return NOBODY, None, names
        try:
            if model.endpoints.held is not None and self._deps.prompts is not None:
                # It will be asked which engine has them: no prompt is made into tokens twice.
                tokens = await self._deps.prompts.made_here(ask, model, counter)
                if tokens is not None:
                    return counter.kind, len(tokens), names
            return counter.kind, await self._deps.counting.run(counter.count, document), names
        except Busy:
            return NOBODY, None, names  # The engine is not worse than nobody.

    async def _on_size(self, ask: Ask, work: Callable[[], list[bytes]]) -> list[bytes]:
        if ask.request.came <= LARGE_BYTES:
            return work()
        try:
            return await beside(self._deps.executor, work)
        except Overloaded:
            return []


async def ask_engine(deps: Deps, ask: Ask, model: ServedModel) -> int | None:
    """Ask a model's engine for the tokens of this request's prompt, which `is_countable`; None when it does not count.

    Raises RoutingError, UpstreamError or GatewayError.
    """
    if model.endpoints.held is not None and deps.prompts is not None:
        tokens = await deps.prompts.ask_engine(ask, model)
        return None if tokens is None else len(tokens)
    document = {name: value for name, value in ask.request.document.items() if name not in ("stream", "stream_options")}
    child = ask.fork(ask.request.rewritten(document), settles=True)
    child.may_wait = False
    child.hold()
    began = deps.loop_time()
    try:
        reply: Reply = await call_model(deps, model, child, by=PROMPT_TOKENIZED)
        if child.counted_by != CountedBy.ENGINE or not isinstance(reply, WholeReply):
            return None
        count = orjson.loads(reply.body)["input_tokens"]
    finally:
        ask.note_counting(deps.loop_time() - began)
        child.leave()
    return count if type(count) is int else None
