"""What is asked of a model, by a client or by the gateway itself, and what becomes of it.

It knows nothing of who waits for the answer, and may outlive them: it lasts as long as somebody holds it.

    ask.hold()         one more has a use for it: the client, a request that waits for the same answer, a job
    ask.on_end(close)  whatever is opened on its behalf is closed by what is registered here: once, on every path
    ask.leave()        one fewer; the last one ends it, and stops the task that works on it
"""

import logging
from asyncio import Task
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from capstan_gateway.arms.counted import Counted
from capstan_gateway.config.runtime import Runtime, ServedModel
from capstan_gateway.headers import Header
from capstan_gateway.identity.principal import NOBODY, Principal
from capstan_gateway.images.gathered import GatheredImages
from capstan_gateway.memory import MemoryBudget, Share
from capstan_gateway.pipeline.cache_notes import CacheNote
from capstan_gateway.pipeline.governed import Governed
from capstan_gateway.pipeline.options import NO_OPTIONS, Options
from capstan_gateway.pipeline.replaced import Replaced, Value
from capstan_gateway.pipeline.request import Request
from capstan_gateway.routing.port import MAX_NOTES, CallStats
from capstan_gateway.tokens.bill import Bill

Closer = Callable[[], object]
"""Closes what was opened for an ask. It does not wait: what takes time is handed to whoever does that."""
log: Final = logging.getLogger(__name__)
_ENDED: Final = "the ask has ended"
MOST_NOTED: Final = 64
"""Notes of guards that one request keeps."""


class Outer(Protocol):
    """What an ask knows of a layer that it is inside of; `layers.Layer` is one."""

    @property
    def order(self) -> int:
        """Where it stands: the lower, the further outside."""
        ...


class Ask:
    """One request on its way to an answer. It keeps the Runtime that it began with to its end."""

    # NB: slots, all of them set: a default of the class is looked up the slow way each time that it is read.
    __slots__ = (
        "_closers", "_memory", "_root", "answered_by", "arms", "bill", "budget", "cached", "counted_by", "ended",
        "expires_at",
        "gathered", "governed", "guarded", "headers", "holders", "inside", "may_wait", "model", "named", "on_withheld",
        "options", "own", "principal", "replaced", "request", "request_id", "route_note", "runtime", "service_tier",
        "session",
        "started", "stats", "task", "trace", "unchecked",
    )  # fmt: skip

    def __init__(
        self,
        request: Request,
        model: ServedModel,
        runtime: Runtime,
        started: float,
        expires_at: float,
        budget: MemoryBudget,
        request_id: bytes = b"",
        trace: Sequence[Header] = (),
        session: str = "",
        principal: Principal = NOBODY,
        options: Options = NO_OPTIONS,
        holders: int = 0,
        # NB: not for keywords alone: of those each default is looked up in a dictionary.
        bill: Bill | None = None,
        headers: Sequence[Header] = (),
    ) -> None:
        self.request = request
        """What is asked now: a policy may have rewritten it."""
        self.model: Final = model
        """The model that was asked for."""
        self.runtime: Final = runtime
        self.started: Final = started
        """In the loop's time, like every other time here."""
        self.expires_at: Final = expires_at
        """The total deadline."""
        self.budget: Final = budget
        """That of the process: whatever is held for the ask is taken from it."""
        self.request_id: Final = request_id
        self.trace: Final = trace
        """Headers that name the trace."""
        self.session: Final = session
        """What the client calls its session: requests of one session prefer one endpoint."""
        self.principal: Final = principal
        """Who asks: models that this one may not use are not asked, whoever names them."""
        self.options: Final = options
        """What the client asks of the gateway itself."""
        self.headers: Final = headers
        """What the client's request says in its head."""
        self.cached: CacheNote | None = None
        """What a cache had to do with its answer, for headers; None where none is in force."""
        self.inside: tuple[Outer, ...] = ()
        """The layers that it is on its way through, the outermost first."""
        self.governed: Governed | None = None
        """What limits say of it; None where none do."""
        self.guarded: list[tuple[str, str]] | None = None
        """What guards did without ending it, for headers: a name and a word each. Of the ask that this one is a call
        within, when it is one; None where no guard did anything."""
        self.named: set[str] | None = None
        """Placeholders that stand for something of it, without brackets, whichever policy has given them; see `names`.
        As above."""
        self.replaced: Replaced | None = None
        """What guards have replaced in it; see `note_replaced`. As above."""
        self.unchecked = False
        """Whether it holds what no guard can read. As above."""
        self.on_withheld: tuple[Callable[[], object], ...] = ()
        """Who lets go of the answer when a guard withholds it from the client; see `forget_if_withheld`. As above."""
        self.service_tier: object = None
        """What the client says of its class in a dialect of its own, which a policy that rewrites the request drops."""
        self.own = False
        """Whether the gateway asks this on its own behalf, as a judge or for a guard: no client is given the answer."""
        self.may_wait = True
        """Whether it may wait for an endpoint of a model that has none: not while another model may answer."""
        self.answered_by: ServedModel | None = None
        """The model that answered: another one after a fallback. None as long as none did."""
        self.arms: tuple[Counted, ...] = ()
        """Where it is counted apart: members of a weighted router, or tracks of a model, that it was given to."""
        self.counted_by = ""
        """Who counted, where only the tokens of a prompt are wanted; a value of `CountedBy`."""
        self.stats = CallStats()
        self.bill = Bill() if bill is None else bill
        """Every call that is made for it."""
        self.gathered: GatheredImages | None = None
        """The images that were fetched for it and for every call within it."""
        self.route_note = b""
        """How a virtual model came to its answer, for a header."""
        self.task: Task[Any] | None = None
        """Who works on it, when that is nobody who holds it."""
        self.holders = holders
        self.ended = False
        self._closers: list[Closer] | None = None
        self._memory: Share | None = None
        self._root: Ask | None = None
        """The ask that this one is a call within; None for that ask itself."""

    def fork(self, request: Request | None = None, *, settles: bool = False) -> "Ask":
        """Give one call within this ask, or one that does its work for several: with the same deadline.

        Nobody holds it yet. With `settles` it has a bill of its own; else what it uses is on this one's.
        """
        child = Ask(
            self.request if request is None else request, self.model,
            runtime=self.runtime, started=self.started, expires_at=self.expires_at, budget=self.budget,
            bill=None if settles else self.bill,
            request_id=self.request_id, trace=self.trace, session=self.session, principal=self.principal,
            options=self.options, headers=self.headers,
        )  # fmt: skip
        child.inside, child.governed, child.own = self.inside, self.governed, self.own
        child.service_tier = self.service_tier
        if not settles:
            child._root = self._root or self
        else:
            child.named = (self._root or self).named
        return child

    def join(self, child: "Ask", *, answers: bool) -> None:
        """Take over what a call within this ask has done; with `answers` it is the one whose answer is given."""
        self.stats.attempts += child.stats.attempts
        self.stats.retries += child.stats.retries
        self.stats.spent = self.stats.spent or child.stats.spent
        self.stats.hedges += child.stats.hedges
        self.arms = child.arms or self.arms
        self.stats.failures.extend(child.stats.failures[: max(0, MAX_NOTES - len(self.stats.failures))])
        if child.stats.counted is not None:
            self.stats.counted = (self.stats.counted or 0.0) + child.stats.counted
        if not answers:
            self.stats.waited += child.stats.first_byte + child.stats.waited + child.stats.read
            return
        self.stats.waited += child.stats.waited
        self.stats.first_byte, self.stats.read = child.stats.first_byte, child.stats.read
        self.stats.queued = child.stats.queued
        self.answered_by = child.answered_by
        self.counted_by = child.counted_by
        self.cached = child.cached or self.cached

    def note_counting(self, seconds: float) -> None:
        """Note how long somebody was asked for the tokens of its prompt, which was no attempt to answer it."""
        self.stats.waited += seconds
        self.stats.counted = (self.stats.counted or 0.0) + seconds

    def note_guard(self, name: str, word: str) -> None:
        """Note what a guard did to it, or to its answer."""
        root = self._root or self
        root.guarded = root.guarded or []
        if len(root.guarded) < MOST_NOTED:
            root.guarded.append((name, word))

    def names(self) -> set[str]:
        """Give the names of placeholders that stand for something of it: no other value may get one of them. Whoever
        gives one adds it."""
        root = self._root or self
        if root.named is None:
            root.named = set()
        return root.named

    def note_replaced(self, texts: Iterable[tuple[str, str]], values: Iterable[Value]) -> None:
        """Note which texts of it a guard has made others of, and what it has replaced in them."""
        root = self._root or self
        root.replaced = root.replaced or Replaced()
        root.replaced.note(texts, values)

    @property
    def is_redacted(self) -> bool:
        """Whether a guard has replaced something in it: then it is somebody's own, and so is its answer."""
        root = self._root or self
        return bool(root.named) or root.replaced is not None

    def forget_if_withheld(self, forget: Callable[[], object]) -> None:
        """Have this called when a guard withholds the answer: what has kept it lets go of it. It does not wait."""
        root = self._root or self
        root.on_withheld = (*root.on_withheld, forget)

    def note_withheld(self) -> None:
        """Note that a guard withholds its answer, or that of a call within it."""
        root = self._root or self
        forget, root.on_withheld = root.on_withheld, ()
        for one in forget:
            _call(one, self.request_id)

    def take_notes(self, other: "Ask") -> None:
        """Take over what was noted of an ask that did the work of this one: by guards, and by who keeps answers."""
        root = self._root or self
        for name, word in other.guarded or ():
            root.note_guard(name, word)
        if other.replaced is not None:
            root.replaced = root.replaced or Replaced()
            root.replaced.join(other.replaced)
        if other.unchecked:
            root.unchecked = True
        root.on_withheld += other.on_withheld

    def note_unchecked(self) -> None:
        """Note that it holds what no guard can read."""
        (self._root or self).unchecked = True

    def memory(self) -> Share:
        """What it holds of the process' budget beside its request, until it ends: answers that are there as a whole."""
        share = self._memory
        if share is None or share.released:  # A model that failed may have closed it, before the next one is asked.
            share = self._memory = self.share()
        return share

    def share(self) -> Share:
        """Open an account for one more thing that is held for it; what that has is given back when the ask ends."""
        share = self.budget.share()
        self.on_end(share.release)
        return share

    def images(self, begin: Callable[[], GatheredImages]) -> GatheredImages:
        """Give what is fetched for the ask that this one is a call within, or `begin` it: it lasts whoever answers.

        RuntimeError when that ask has ended.
        """
        root = self._root or self
        if root.ended:
            raise RuntimeError(_ENDED)
        if root.gathered is None:
            root.gathered = begin()
            root._closers = root._closers or []  # Who leaves last ends it as a whole, which lets go of them.
        return root.gathered

    def let_go_of_images(self) -> None:
        """Nobody else is asked: what was fetched is of no more use."""
        images, self.gathered = self.gathered, None
        if images is not None:
            images.close()

    # --- its end ----------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Keep it from ending until `leave`; RuntimeError when it has ended already."""
        if self.ended:
            raise RuntimeError(_ENDED)
        self.holders += 1

    def leave(self) -> None:
        """Hold it no more. The last one to leave stops whoever works on it, and ends it."""
        self.holders -= 1
        if self.holders > 0:
            return
        if self.task is not None:
            self.task.cancel()  # It ends the ask as soon as it has stopped.
        elif self._closers is None:
            self.ended = True  # There is nothing to close: of most there is not.
        else:
            self.end()

    def on_end(self, closer: Closer) -> None:
        """Have this called once when the ask ends, or the part of it in which this is said fails; now when it is over.

        What was opened last is closed first. One that raises is logged, and keeps none of the others from being called.
        """
        if self.ended:
            _call(closer, self.request_id)
        elif self._closers is None:
            self._closers = [closer]
        else:
            self._closers.append(closer)

    def opened(self) -> int:
        """Give the mark to `close_since` what is opened from now on."""
        return 0 if self._closers is None else len(self._closers)

    def close_since(self, mark: int) -> None:
        """Close what was opened since that mark, the last first: the part that opened it has failed."""
        closers = self._closers
        if closers is None:
            return
        interruption: BaseException | None = None
        while len(closers) > mark:
            try:
                _call(closers.pop(), self.request_id)
            except BaseException as error:  # noqa: BLE001 - raised behind the others
                interruption = interruption or error
        if interruption is not None:
            raise interruption

    def end(self) -> None:
        """Close what was opened, what was opened last first: once. That settles what is not settled yet."""
        if not self.ended:
            self.ended = True
            closers = self._closers
            if closers is not None and len(closers) == 1 and self.gathered is None:
                _call(closers.pop(), self.request_id)  # As most that have any.
                return
            try:
                self.close_since(0)
            finally:
                self.let_go_of_images()


def _call(closer: Closer, request_id: bytes) -> None:
    try:
        closer()
    except Exception as error:
        log.exception(
            "something that was opened for a request could not be closed",
            extra={"request_id": request_id.decode(), "reason": type(error).__name__},
        )
