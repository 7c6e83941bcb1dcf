"""What was said of answers, kept in the process since it began: where there is no Redis."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final, NamedTuple

from capstan_contract.feedback import WHOLE, Feedback
from capstan_contract.tracks import Counters, Quantity
from capstan_gateway.arms.tally import Tally
from capstan_gateway.feedback.given import Name
from capstan_gateway.feedback.port import Page, Put

MOST_EXPERIMENTS: Final = 64


class _Kept(NamedTuple):
    place: int
    said: Feedback


class MemoryFeedback:
    """Implements `port.FeedbackStore`. The twin of `redis.RedisFeedback`."""

    source = "memory"

    def __init__(self, *, most: int, seconds: float, now_ms: Callable[[], int]) -> None:
        self._most: Final = most
        self._ms: Final = int(seconds * 1000)
        self._now_ms: Final = now_ms
        self._kept: OrderedDict[Name, _Kept] = OrderedDict()
        """What was said longest ago first."""
        self._last = 0
        self._arms: OrderedDict[tuple[str, str], dict[str, Tally]] = OrderedDict()

    async def put(self, name: Name, said: Feedback) -> Put:
        """Keep it."""
        self._drop_old()
        before = self._kept.get(name)
        if before is not None and _same(before.said, said):
            return Put.SAME
        if before is not None:
            said = said.model_copy(update={"arms": before.said.arms})  # Where it is counted, whoever gave it again.
        self._last += 1
        self._kept[name] = _Kept(self._last, said)
        self._kept.move_to_end(name)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        self._count(None if before is None else before.said, said)
        return Put.NEW if before is None else Put.CHANGED

    async def page(self, after: int, limit: int) -> Page:
        """Give a page."""
        self._drop_old()
        found = list(islice((one for one in self._kept.values() if one.place > after), limit + 1))
        return Page(tuple(one.said for one in found[:limit]), found[limit - 1].place if len(found) > limit else None)

    async def arms(self, key: str, epoch: str) -> Mapping[str, Counters]:
        """Give what was said of the answers of each arm."""
        return {member: tally.counters() for member, tally in self._arms.get((key, epoch), {}).items()}

    def _drop_old(self) -> None:
        oldest = self._now_ms() - self._ms
        while self._kept and next(iter(self._kept.values())).said.at < oldest:
            self._kept.popitem(last=False)

    def _count(self, before: Feedback | None, said: Feedback) -> None:
        millis = round(said.score * WHOLE)
        for arm in said.arms:
            tallies = self._arms.setdefault((arm.key, arm.epoch), {})
            self._arms.move_to_end((arm.key, arm.epoch))
            tally = tallies.setdefault(arm.member, Tally())
            if before is None:
                tally.add(Quantity.FEEDBACK, arm.bucket, millis)
            elif any(bucket == arm.bucket for bucket, *_ in tally.counters().of(Quantity.FEEDBACK).buckets):
                tally.replace(Quantity.FEEDBACK, arm.bucket, round(before.score * WHOLE), millis)
        while len(self._arms) > MOST_EXPERIMENTS:
            self._arms.popitem(last=False)


def _same(one: Feedback, other: Feedback) -> bool:
    return (one.score, one.label, one.comment, one.source) == (other.score, other.label, other.comment, other.source)
