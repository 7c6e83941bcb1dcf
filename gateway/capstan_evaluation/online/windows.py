"""Scores of a model over a sliding window, apart by criterion, track and revision. Pure: times are given.

The interval of a mean is one that holds however often somebody looks (`statistics.closed`), so that an alert which is
asked every minute is wrong no more often than it says. That holds from when the window began to fill. When scores slide
out of it, the interval speaks of the present window alone, for which it is wider than it would have to be.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from capstan_contract.evaluation import MOST_CRITERIA, Evaluation, ScoreWindow, TrackScores
from capstan_contract.samples import MOST_GROUPS, ScoreRecord
from capstan_evaluation.statistics.closed.exact import proportion

ALPHA: Final = 0.05
MOST_WINDOWS: Final = 16 * MOST_CRITERIA
"""Of one model, those of former criteria and judges among them."""


class Group(NamedTuple):
    """What is counted together. Another text of a criterion, another judge and another revision count by themselves."""

    criterion: str
    rubric: str
    judge: str
    track: str
    revision: str


@dataclass
class Window:
    """The newest scores of one group, and as many of what is no score: a judge that is away pushes no score out."""

    most: int
    records: deque[ScoreRecord] = field(default_factory=deque)
    """Scores, the oldest first, as they came."""
    without: deque[ScoreRecord] = field(default_factory=deque)
    """Of answers that have none."""

    def add(self, record: ScoreRecord) -> None:
        """Take a score; the oldest one goes where there are too many."""
        kept = self.without if record.value is None else self.records
        kept.append(record)
        if len(kept) > self.most:
            kept.popleft()

    def expire(self, before: float) -> None:
        """Let go of answers from before this time, in Unix seconds."""
        self.records, self.without = _since(self.records, before), _since(self.without, before)

    def standing(self, group: Group, *, tuned: int) -> TrackScores:
        """Say how it stands; `tuned` is the number of scores at which the interval is narrowest."""
        values = [record.value for record in self.records if record.value is not None]
        low, high = interval_of(sum(values), len(values), tuned=tuned)
        return TrackScores(
            criterion=group.criterion, rubric=group.rubric, track=group.track, revision=group.revision,
            count=len(values), total=sum(values), squares=sum(value * value for value in values),
            mean=min(1.0, sum(values) / len(values)) if values else 0.0, low=low, high=high,
            couldNotTell=sum(not record.failed for record in self.without),
            failed=sum(record.failed for record in self.without),
            newest=max((record.at for record in (*self.records, *self.without)), default=0.0),
        )  # fmt: skip


def _since(records: deque[ScoreRecord], before: float) -> deque[ScoreRecord]:
    if any(record.at < before for record in records):
        return deque(record for record in records if record.at >= before)
    return records


def interval_of(total: float, count: int, *, tuned: int) -> tuple[float, float]:
    """Give the interval of a mean of scores from 0 to 1, at 95 %; from 0 to 1 where nothing is known."""
    if not count:
        return 0.0, 1.0
    found = proportion(total, count, alpha=ALPHA, tuned=float(tuned)).clip(0.0, 1.0)
    return found.low, found.high


class ModelWindows:
    """All windows of one model. Of tracks and revisions only the newest MOST_GROUPS are kept."""

    def __init__(self) -> None:
        self._windows: OrderedDict[Group, Window] = OrderedDict()
        """The one that had a score last is the last one."""

    def add(self, record: ScoreRecord, window: ScoreWindow) -> None:
        """Take a score."""
        group = Group(record.criterion, record.rubric, record.judge, record.track, record.revision)
        found = self._windows.get(group)
        if found is None:
            found = self._windows[group] = Window(window.count)
            self._bound(group)
        found.most = window.count
        found.add(record)
        self._windows.move_to_end(group)

    def _bound(self, new: Group) -> None:
        alike = [group for group in self._windows if group[:3] == new[:3]]
        for group in alike[: max(0, len(alike) - MOST_GROUPS)]:
            del self._windows[group]
        while len(self._windows) > MOST_WINDOWS:
            self._windows.popitem(last=False)

    def standing(self, evaluation: Evaluation, now: float) -> tuple[TrackScores, ...]:
        """Say how each criterion of an evaluation stands, in Unix time; one that was not scored yet has no entry."""
        wanted = {(criterion.name, criterion.rubric, evaluation.judge) for criterion in evaluation.criteria}
        window = evaluation.window
        found = []
        for group, scores in list(self._windows.items()):
            scores.expire(now - window.seconds)
            if not scores.records and not scores.without:
                del self._windows[group]
            elif group[:3] in wanted:
                found.append(scores.standing(group, tuned=window.minimumCount))
        return tuple(sorted(found, key=lambda one: (one.criterion, one.track, one.revision)))
