"""Whether hits by meaning are right, seen while they are given: a share of them is asked of the model all the same.

    a hit ─► its client has it ─► by chance: the model is asked, in the background ─► both answers are compared
                                                                 wrong: the entry is evicted everywhere ◄─┘
    mode Shadow: the model answers anyway, so what would have been a hit is compared with that, and costs nothing

It is on nobody's bill and takes nothing of anybody's limits. What comes of it is a rate with an interval (`Ledger`): a
tier that is surely wrong too often is off from then on, until a person says otherwise.
"""

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, NamedTuple

import orjson

from capstan_contract.caches import CacheCounts, SemanticTier
from capstan_gateway.caches.port import CacheKey, Entry, Form, Found
from capstan_gateway.caches.semantic.compared import MOST_CHARS, Verdict, by_likeness, by_words
from capstan_gateway.caches.semantic.evidence import rate_of
from capstan_gateway.caches.semantic.ledger import Ledger
from capstan_gateway.caches.storable import is_complete
from capstan_gateway.errors import GatewayError, Overloaded
from capstan_gateway.guards.prompts.asked import Way
from capstan_gateway.memory import Share
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.beside import beside
from capstan_gateway.pipeline.caches.judged import question_for_judge, read_verdict
from capstan_gateway.pipeline.caches.question import Question
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.guards.asked.failures import NotAsked
from capstan_gateway.pipeline.guards.asked.model import ROUTES, ask_model, model_of
from capstan_gateway.pipeline.layers import AnswerFunction
from capstan_gateway.pipeline.reply import WholeReply
from capstan_gateway.pipeline.request import Request
from capstan_gateway.quality.text import answer_text
from capstan_gateway.routing.unroutable import RoutingError
from capstan_gateway.telemetry.cells import Number
from capstan_gateway.telemetry.metrics import Metrics
from capstan_gateway.upstream.errors import UpstreamError

log: Final = logging.getLogger(__name__)
MOST_AT_ONCE: Final = 8
"""Comparisons of one policy; further ones are dropped, and counted."""
SECONDS: Final = 120.0
"""How long one may take, with all that it asks."""
HELD_FACTOR: Final = 3
"""How much memory one takes, by the size of its request."""
MOST_RECENT: Final = 10_000
INLINE_BYTES: Final = 16 * 1024
OK: Final = 200
FAILED: Final = "failed"
DROPPED: Final = "dropped"
Evict = Callable[[CacheKey], Awaitable[None]]
"""Has an entry be no answer to anything any more, on every replica."""


class LiveCells:
    """What is counted of one policy's hits by meaning."""

    __slots__ = ("_bounds", "_off", "_outcomes", "cost")

    def __init__(self, metrics: Metrics, policy: str) -> None:
        self._outcomes = {word: metrics.cache_samples.at(policy, word) for word in (*Verdict, FAILED, DROPPED)}
        self._bounds = {bound: metrics.cache_false_hits.at(policy, bound) for bound in ("low", "mid", "high")}
        self._off: Number = metrics.cache_semantic_off.at(policy)
        self.cost: Number = metrics.cache_sampling_cost.at(policy)

    def count(self, outcome: str) -> None:
        """Count one comparison."""
        self._outcomes[outcome].value += 1

    def show(self, ledger: Ledger) -> None:
        """Show the rate, and whether the tier is off."""
        rate = rate_of(ledger.sampled, ledger.wrong)
        self._off.value = ledger.off
        for bound, cell in self._bounds.items():
            cell.value = getattr(rate, bound)


class Hit(NamedTuple):
    """A hit by meaning, as it is compared."""

    question: Question
    found: Found

    @property
    def keys(self) -> tuple[str, str]:
        """Those of the entry, and of what was asked."""
        return self.found.key.text, self.question.key.text


class Live:
    """What one policy sees of its hits by meaning. It outlives configs as long as the way of finding them is the same.
    For the loop's thread."""

    def __init__(
        self,
        *,
        policy: str,
        tier: SemanticTier,
        ledger: Ledger,
        deps: Deps,
        likeness: Callable[[str, str], Awaitable[float]] | None,
        evict: Evict,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.ledger: Final = ledger
        self.tier: Final = tier
        self._evict: Final = evict
        self._policy: Final = policy
        self._deps: Final = deps
        self._likeness: Final = likeness
        self._chance: Final = chance
        self._cells: Final = LiveCells(deps.metrics, policy)
        self._cells.show(ledger)
        self._running = 0
        self._asked = False
        self._recent: OrderedDict[str, float] = OrderedDict()

    # --- before a hit is given ----------------------------------------------------------------------------------------

    async def is_on(self) -> bool:
        """Whether hits by meaning may be given. What other replicas know is asked for in the background, but for the
        first time: a tier that is off is off for a replica that has just begun, and for one that cannot ask."""
        if self._asked:
            self.hear()
        else:
            self._asked = True
            await self._hear()
        return self.ledger.known and not self.ledger.off

    def hear(self) -> None:
        """Ask what other replicas know, in the background: also where nobody asks for anything here."""
        if self.ledger.is_due:
            self._start(self._hear())

    async def _hear(self) -> None:
        await self.ledger.refresh()
        self._cells.show(self.ledger)

    def admits(self, found: Found) -> bool:
        """Whether nothing is known against this one."""
        return (found.similarity or 0.0) >= self.ledger.least(found.key.text)

    def note(self, found: Found) -> None:
        """Remember how alike a hit was that is given: it may be reported."""
        key, similarity = found.key.text, found.similarity or 0.0
        self._recent[key] = max(self._recent.get(key, 0.0), similarity)
        self._recent.move_to_end(key)
        if len(self._recent) > MOST_RECENT:
            self._recent.popitem(last=False)

    # --- after it -----------------------------------------------------------------------------------------------------

    def given(self, ask: Ask, question: Question, found: Found, inner: AnswerFunction) -> None:
        """Take a hit that is given to the client of this ask: by chance it is compared, when that has its answer."""
        if self._chance() < self.tier.sampleRate:
            ask.on_end(partial(self._sample, ask, ask.request, ask.inside, Hit(question, found), inner))

    def would_be(self, ask: Ask, question: Question, found: Found, real: Entry | None) -> Awaitable[None]:
        """Compare what would have been a hit with what the model has said. With a judge that costs, so then it is done
        for the same share as when hits are given."""
        return self._watched(ask, Hit(question, found), real)

    def knows(self, key: CacheKey) -> bool:
        """Whether this entry was a hit by meaning lately."""
        return key.text in self._recent

    async def report(self, key: CacheKey, similarity: float | None) -> None:
        """Take the word of a client that an answer was wrong; `similarity` as it was told to it."""
        known = max(self._recent.pop(key.text, 0.0), similarity or 0.0)
        if known:
            await self.ledger.reported(key.text, known)

    async def reset(self) -> bool:
        """Begin anew: a person says so. True when all replicas hear of it."""
        everywhere = await self.ledger.reset()
        self._cells.show(self.ledger)
        return everywhere

    async def _watched(self, ask: Ask, hit: Hit, real: Entry | None) -> None:
        if real is None or real.form is not Form.ANSWER:
            return
        if self.tier.judge is not None and self._chance() >= self.tier.sampleRate:
            return
        child = self._child(ask, ask.request)
        child.hold()
        try:
            verdict = await self._compare(child, hit, real.body)
        except Exception as error:  # noqa: BLE001 - it is nobody's request, and `_failed` says what is wrong
            self._failed(error)
            return
        finally:
            self._spent(child)
        await self._learn(hit, verdict)

    def _sample(self, ask: Ask, request: Request, inside: tuple[Any, ...], hit: Hit, inner: AnswerFunction) -> None:
        if self._running >= MOST_AT_ONCE:
            return self._cells.count(DROPPED)
        share = self._deps.budget.share()
        if not share.grow_easily(HELD_FACTOR * (request.came or request.size)):
            return self._cells.count(DROPPED)
        child = self._child(ask, request)
        child.inside = inside
        self._running += 1
        if not self._start(self._sampled(child, hit, inner, share)):
            self._running -= 1
            share.release()
            self._cells.count(DROPPED)
        return None

    async def _sampled(self, child: Ask, hit: Hit, inner: AnswerFunction, share: Share) -> None:
        child.hold()
        try:
            async with asyncio.timeout(SECONDS):
                real = await self._real(child, inner)
                if real is None:
                    return self._cells.count(FAILED)
                verdict = await self._compare(child, hit, real)
        except Exception as error:  # noqa: BLE001 - as above
            return self._failed(error)
        finally:
            self._running -= 1
            share.release()
            self._spent(child)
        return await self._learn(hit, verdict)

    def _child(self, ask: Ask, request: Request) -> Ask:
        """Give an ask of the policy's own: with a deadline and a bill of its own, and no limits."""
        now = self._deps.loop_time()
        document = {name: value for name, value in request.document.items() if name not in ("stream", "stream_options")}
        return Ask(
            request.rewritten(document, route=ROUTES[Way.CHAT]), ask.model, ask.runtime, started=now,
            expires_at=now + SECONDS, budget=self._deps.budget, request_id=ask.request_id, principal=ask.principal,
            options=ask.options, headers=ask.headers,
        )  # fmt: skip

    async def _real(self, child: Ask, inner: AnswerFunction) -> bytes | None:
        """Ask the model; None where what it says is no answer that would be kept."""
        reply = await inner(child)
        if not isinstance(reply, WholeReply) or reply.status != OK or reply.withheld:
            return None
        return reply.body

    # --- comparing ----------------------------------------------------------------------------------------------------

    async def _compare(self, child: Ask, hit: Hit, real: bytes) -> Verdict:
        if len(real) + len(hit.found.entry.body) <= INLINE_BYTES:
            texts = _texts(hit.found.entry.body, real)
        else:
            texts = await beside(self._deps.executor, partial(_texts, hit.found.entry.body, real))
        if texts is None:
            return Verdict.UNKNOWN
        verdict = by_words(*texts)
        if self.tier.judge is not None:
            return verdict if verdict is Verdict.SAME else await self._judged(child, self.tier.judge, hit, texts)
        if verdict is Verdict.UNKNOWN and self._likeness is not None:
            return by_likeness(await self._likeness(texts[0][:MOST_CHARS], texts[1][:MOST_CHARS]))
        return verdict

    async def _judged(self, child: Ask, judge: str, hit: Hit, texts: tuple[str, str]) -> Verdict:
        asked = hit.question.alike.text if hit.question.alike is not None else ""
        model = model_of(child, judge)
        question = question_for_judge(asked, *texts)
        return read_verdict(await ask_model(child, model, question, self._deps.executor))

    async def _learn(self, hit: Hit, verdict: Verdict) -> None:
        self._cells.count(verdict)
        if verdict is Verdict.UNKNOWN:
            return
        ledger, was_off = self.ledger, self.ledger.off
        wrong = verdict is Verdict.OTHER
        if wrong:
            await self._evict(hit.found.key)
        await ledger.compared(hit.keys, hit.found.similarity or 0.0, wrong=wrong)
        self._cells.show(ledger)
        if ledger.off and not was_off:
            log.error(
                "a policy gives no answers by meaning any more: too many were wrong",
                extra={"policy": self._policy, "sampled": ledger.sampled, "wrong": ledger.wrong},
            )

    def _spent(self, child: Ask) -> None:
        child.leave()
        child.bill.settle_streams()
        self._cells.cost.value += child.bill.nano_dollars

    def _failed(self, error: Exception) -> None:
        self._cells.count(FAILED)
        if not isinstance(error, TimeoutError | GatewayError | RoutingError | UpstreamError | NotAsked):
            log.error("a hit could not be compared", exc_info=error, extra={"reason": type(error).__name__})

    def _start(self, work: Any) -> bool:
        try:
            self._deps.background.start(work)
        except Overloaded:
            return False
        return True


def told(counts: CacheCounts, live: Live | None) -> CacheCounts:
    """Give what a policy says of itself, with what was seen of its hits by meaning; what others know is asked for."""
    if live is None:
        return counts
    live.hear()
    ledger = live.ledger
    return counts.model_copy(update={"sampled": ledger.sampled, "wrong": ledger.wrong, "semanticOff": ledger.off})


def _texts(given: bytes, real: bytes) -> tuple[str, str] | None:
    """Read the texts of two answers; None where one of them is none that came to its end."""
    try:
        documents = orjson.loads(given), orjson.loads(real)
    except orjson.JSONDecodeError:
        return None
    if not all(is_complete(document, tools=True) for document in documents):
        return None
    return answer_text(documents[0]), answer_text(documents[1])
