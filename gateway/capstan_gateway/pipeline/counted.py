"""Counting here, by the model's own tokenizer where it was shipped: for routes that count, and to see that it is right.

Where there are no tokenizers nothing of this is there.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Protocol

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.dialects.clients.tokenized import TOKENIZED, conversation_to_engine, write_count
from capstan_gateway.documents import to_json
from capstan_gateway.errors import Overloaded
from capstan_gateway.headers import JSON
from capstan_gateway.life.threads import Busy
from capstan_gateway.pipeline.adapters import counted_chat, tokenized
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.background import Background
from capstan_gateway.pipeline.beside import LARGE_BYTES
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.layers import AnswerFunction
from capstan_gateway.pipeline.reply import Reply, WholeReply
from capstan_gateway.pipeline.request import CHAT_PATH, Request
from capstan_gateway.tokens.bill import TOLD
from capstan_gateway.tokens.counter import Counters, PromptCounter

OK: Final = 200
_COMPLETION_PATH: Final = b"/completions"
MAX_COMPARED: Final = 4
"""Prompts that are compared at a time."""


async def counted_here(deps: Deps, ask: Ask, model: ServedModel) -> Reply | None:
    """Give the answer of a route that counts, with no engine asked; None where nobody here can count that exactly."""
    counter, request = deps.counters.of(model.id), ask.request
    if counter is None or model.speaks_anthropic or request.untranslatable is not None:
        return None
    try:
        body = await deps.tokenizing.run(_counted, counter, request, model)
    except Busy:
        return None  # The next source is not worse than none.
    if body is None:
        return None
    ask.answered_by = model
    ask.counted_by = counter.kind
    return WholeReply(OK, JSON, body, native=True)


def _counted(counter: PromptCounter, request: Request, model: ServedModel) -> bytes | None:
    if request.route.dialect is not TOKENIZED:
        document = counted_chat(request, model)
        count = counter.count(conversation_to_engine(document, model.upstream_name))
        return None if count is None else to_json({"input_tokens": count})
    document = tokenized(request)
    if document.get("return_token_strs"):
        return None
    tokens = counter.tokens(document)
    count = counter.count(document) if tokens is None else len(tokens)
    if count is None:
        return None
    return write_count(count, counted_by=counter.kind, max_model_len=model.context_window, tokens=tokens)


class Comparable(Counters, Protocol):
    """Counters that want to hear what engines have told; `tokenizers.shelf.Shelf` is one."""

    def to_compare(self, model_id: str) -> PromptCounter | None:
        """Give the counter whose count of the next prompt of this model is to be told; None where none is."""
        ...

    def observe(self, model_id: str, counter: PromptCounter, *, counted: int, told: int) -> None:
        """Take a count, and what the engine told of the same prompt."""
        ...


class Comparison:
    """Compares some prompts with what engines tell of them: beside the requests, and after they have ended."""

    def __init__(self, deps: Deps, counters: Comparable) -> None:
        self._deps = deps
        self._counters = counters
        self._under_way = 0

    async def answer(self, model: ServedModel, inner: AnswerFunction, ask: Ask) -> Reply:
        """Give the reply of `inner`."""
        request = ask.request
        if request.route.upstream_path not in (CHAT_PATH, _COMPLETION_PATH) or request.came > LARGE_BYTES:
            return await inner(ask)
        counter = self._counters.to_compare(model.id)
        if counter is not None and self._under_way < MAX_COMPARED:
            # NB: first, so that it is called last: the call is settled then.
            ask.on_end(partial(self._end, model, counter, ask, ask.request.document, ask.bill.calls))
        return await inner(ask)

    def _end(
        self, model: ServedModel, counter: PromptCounter, ask: Ask, document: Mapping[str, Any], mark: int
    ) -> None:
        told = next(
            (
                usage.prompt_tokens
                for usage, how, answered, _, name in ask.bill.settled[mark:]
                if answered and how is TOLD and name == model.name and not usage.bare
            ),
            0,
        )
        if told and self._under_way < MAX_COMPARED:
            self._under_way += 1
            try:
                self._background.start(self._compare(model.id, counter, document, told))
            except Overloaded:
                self._under_way -= 1

    @property
    def _background(self) -> Background:
        return self._deps.background

    async def _compare(self, model_id: str, counter: PromptCounter, document: Mapping[str, Any], told: int) -> None:
        try:
            counted = await self._deps.tokenizing.run(counter.count, document)
        except Busy:
            return  # Another prompt will do as well.
        finally:
            self._under_way -= 1
        if counted is not None:
            self._counters.observe(model_id, counter, counted=counted, told=told)
