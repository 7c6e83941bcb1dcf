"""One call of a model on behalf of a request: on its bill, inside of its limits, and never named to its client.

The model is one of the whole config: who is guarded need not be allowed to use what guards.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from capstan_contract.config import Provider, Task
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.documents import INLINE_BYTES
from capstan_gateway.errors import UpstreamFailed, UpstreamRejected
from capstan_gateway.guards.prompts.asked import Question, Way
from capstan_gateway.life.threads import Threads
from capstan_gateway.pipeline.answers import read_object
from capstan_gateway.pipeline.ask import Ask, Outer
from capstan_gateway.pipeline.guards.asked.failures import NotAsked
from capstan_gateway.pipeline.layers import Order, of_its_own
from capstan_gateway.pipeline.reply import Reply, WholeReply
from capstan_gateway.pipeline.request import CHAT_PATH, Route

MOST_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""Of one call: embeddings of 32 texts are up to some megabytes."""
AT_ONCE: Final = 8
"""Calls of one guard and request."""
BAD_REQUEST: Final = 400
MODERATION_PATH: Final = b"/moderations"
ROUTES: Final = {
    Way.CHAT: Route("/v1/chat/completions", CHAT_PATH, frozenset((Task.CHAT,))),
    Way.COMPLETION: Route("/v1/completions", b"/completions", frozenset((Task.CHAT, Task.COMPLETION))),
    Way.CLASSIFY: Route("/v1/classify", b"/classify", frozenset((Task.CLASSIFY,))),
    Way.SCORE: Route("/v1/score", b"/score", frozenset((Task.SCORE, Task.EMBED))),
    Way.EMBED: Route("/v1/embeddings", b"/embeddings", frozenset((Task.EMBED,))),
    Way.MODERATE: Route("/v1/moderations", MODERATION_PATH, frozenset((Task.CHAT, Task.CLASSIFY))),
}
_OPTIONAL: Final = (
    (("response_format",), ("response_format", "schema")),
    (("logprobs", "top_logprobs"), ("logprob",)),
)
"""Fields that some engines refuse, and the words by which they say so."""
T = TypeVar("T")


def model_of(ask: Ask, id: str) -> ServedModel:
    """Give the model of this id. NotAsked when the config has none."""
    model = ask.runtime.whole.by_id.get(id)
    if model is None:
        raise NotAsked(f"the model `{id}` is not served")
    return model


async def ask_model(ask: Ask, model: ServedModel, question: Question, threads: Threads) -> Mapping[str, Any]:
    """Give the answer. Raises NotAsked, RoutingError, UpstreamError or GatewayError when there is none."""
    try:
        return await _ask(ask, model, question, question.document, threads)
    except UpstreamRejected as error:
        document = _without_refused(question.document, error)
        if document is None:
            raise
    return await _ask(ask, model, question, document, threads)


def _without_refused(document: Mapping[str, Any], error: UpstreamRejected) -> dict[str, Any] | None:
    """Give what to ask an engine that refuses a field which an answer can do without; None where that is not why.

    One that cannot be held to a form may keep to it all the same, and a word tells what its probability would: whoever
    reads the answer sees to that.
    """
    if error.status != BAD_REQUEST:
        return None
    said = f"{error.param} {error.message}"
    for fields, words in _OPTIONAL:
        if any(word in said for word in words) and any(name in document for name in fields):
            return {name: value for name, value in document.items() if name not in fields}
    return None


async def _ask(
    ask: Ask, model: ServedModel, question: Question, document: dict[str, Any], threads: Threads
) -> Mapping[str, Any]:
    route = ROUTES[question.way]
    if model.task not in route.tasks:
        raise NotAsked(f"the model `{model.id}` does the task {model.task}, and is asked by {route.path}")
    document = {"model": model.upstream_name, **document}
    if model.provider == Provider.OPENAI and question.way is Way.CHAT:
        # Their newer models refuse the older name.
        document["max_completion_tokens"] = document.pop("max_tokens")
    child = ask.fork(ask.request.rewritten(document, route=route))
    child.inside = unguarded(child.inside, model)
    child.own = True
    child.may_wait = False
    child.hold()
    try:
        if child.governed is not None:
            await child.governed.cover(child, model)  # It is on the bill, so it is taken before.
        reply: Reply = await model.answer_alone(child)
    finally:
        ask.join(child, answers=False)
        child.leave()
    if not isinstance(reply, WholeReply) or len(reply.body) > MOST_ANSWER_BYTES:
        raise UpstreamFailed("the model of a guard answered in another form than was asked for, or at too great length")
    return read_object(reply) if len(reply.body) <= INLINE_BYTES else await threads.run(read_object, reply)


def unguarded(inside: Sequence[Outer], model: ServedModel) -> tuple[Outer, ...]:
    """Give the layers that a guard's call is inside of: what limits and guards the client, and the model's own guards.

    A policy that is in force everywhere is so on the models that its guards ask: those would ask themselves.
    """
    guards = (layer for layer in (*inside, *model.layers) if layer.order is Order.GUARDS)
    return (*of_its_own(inside), *guards)


async def all_of(work: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Give what all of these give, in their order; `AT_ONCE` of them at once. The first that fails ends the others."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(begin: Callable[[], Awaitable[T]]) -> T:
        async with places:
            return await begin()

    tasks = [asyncio.ensure_future(one(begin)) for begin in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def answers_of(
    ask: Ask, model: ServedModel, questions: Iterable[Question], threads: Threads
) -> list[Mapping[str, Any]]:
    """Give the answers to these questions, in their order."""
    return await all_of(partial(ask_model, ask, model, question, threads) for question in questions)
