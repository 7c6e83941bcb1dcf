"""How requests went, counted apart by what answered them: members of a weighted router, tracks of a model.

Numbers are whole, so that counts add up exactly in whatever order replicas are asked: micros are microseconds, nanos
billionths of a US dollar, millis thousandths of a score. What a replica says it has counted since it began (`boot`).

Requests of one user are alike, so that each measure is also said by buckets: a user is always in the same one of
BUCKETS, and an interval that takes the buckets for what is drawn at random holds whatever a user does. Nobody is named:
a bucket holds many, and which it is follows from a key of the installation.

A reader takes what it knows: measures that it does not know change nothing, and only a page of another version is
refused as a whole.
"""

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import Field, NonNegativeInt, ValidationError

from capstan_contract.entries import Document, is_empty

TRACKS_PATH: Final = "/internal/tracks"
EXPERIMENTS_PATH: Final = "/internal/experiments"
TRACKS_VERSION: Final = 1
BUCKETS: Final = 128
"""Of users: a bound of what is kept, and many enough for the law of large numbers."""
STEPS: Final = 32
"""Cells of a histogram between a value and its double: a cell is at most 1/32 as wide as its values."""
MOST_VALUE: Final = (1 << 31) - 1
"""Of a histogram; larger ones are in its last cell. In microseconds: 35 minutes."""
CELLS: Final = 864
"""Which follows from the two."""


class TracksError(ValueError):
    """A page that is none of this version; the message says what is wrong."""


class Quantity(StrEnum):
    """What is measured."""

    ERROR = "error"
    """1 of a request that failed by the model's fault or the gateway's, 0 of any other: its count is the requests."""
    FIRST_TOKEN = "firstTokenMicros"  # noqa: S105
    """From the request's arrival to the first byte of its answer. Streams only."""
    INTER_TOKEN = "interTokenMicros"  # noqa: S105
    """Mean time between two events of a stream."""
    LATENCY = "latencyMicros"
    """From the request's arrival to the end of its answer; of those that succeeded."""
    COST = "costNanos"
    """Of the request's whole bill, where the model has a price."""
    FEEDBACK = "feedbackMillis"
    """What clients said of an answer: 0 bad, 1000 good."""
    JUDGED = "judgedMillis"
    """What a judge said of a sampled answer."""


TIMED: Final = frozenset((Quantity.FIRST_TOKEN, Quantity.INTER_TOKEN, Quantity.LATENCY))
"""Which have a histogram."""
_Cell = Annotated[int, Field(ge=0, lt=CELLS)]
_Bucket = Annotated[int, Field(ge=0, lt=BUCKETS)]


class Measure(Document):
    """One quantity of one arm."""

    count: NonNegativeInt = 0
    """How many values there are."""
    sum: NonNegativeInt = 0
    squares: NonNegativeInt = 0
    """Sum of the squares."""
    cells: tuple[tuple[_Cell, NonNegativeInt], ...] = Field(default=(), exclude_if=is_empty)
    """How many values are in which cell of the histogram, by cell; those without any are left out. See `cell_of`."""
    buckets: tuple[tuple[_Bucket, NonNegativeInt, NonNegativeInt], ...] = Field(default=(), exclude_if=is_empty)
    """How many values users of which bucket have, and their sum, by bucket; those without any are left out."""

    @property
    def mean(self) -> float | None:
        """Of all values; None: there are none."""
        return self.sum / self.count if self.count else None


NOTHING: Final = Measure()


class Counters(Document):
    """What was measured of one arm."""

    measures: dict[Quantity, Measure] = Field(default_factory=dict)
    """Those that have a value."""

    def of(self, quantity: Quantity) -> Measure:
        """Give one of them."""
        return self.measures.get(quantity, NOTHING)

    @property
    def requests(self) -> int:
        """How many requests had an answer, good or bad. One whose client went away before that is none."""
        return self.of(Quantity.ERROR).count


def is_nothing(counters: Counters) -> bool:
    """Whether nothing was measured."""
    return not counters.measures


class Track(Document):
    """What one variant of a model did by way of one replica."""

    track: str
    """`stable` or `canary`."""
    revision: str = ""
    """That of the model at the time: what another one did is not counted here."""
    epoch: str = ""
    """`Canary.id` of the try that is counted: another one counts from nothing."""
    counters: Counters = Counters()


class TracksReport(Document):
    """What a replica says of all models that have more than one variant, or had lately."""

    version: Literal[1] = TRACKS_VERSION
    boot: str = ""
    """Another one after each start of the replica, whose counts begin at nothing."""
    models: dict[str, tuple[Track, ...]] = Field(default_factory=dict)
    """By `namespace/name` of the LLMModel."""


class Arm(Document):
    """What one member of a router did by way of one replica."""

    member: str
    """Id of the model."""
    weight: NonNegativeInt = 0
    counters: Counters = Counters()
    """By way of this replica."""
    shared: Counters = Field(default=Counters(), exclude_if=is_nothing)
    """What all replicas know together, feedback and judges' scores: the same whoever says it, to be counted once."""


class Experiment(Document):
    """A weighted router, with one set of members and weights: with others it is another one."""

    router: str
    """Id of the router."""
    name: str = ""
    """By which clients call it."""
    stickyBy: str = "User"
    """Whose requests it keeps with one member; a value of `StickyBy`."""
    epoch: str = ""
    """A hash of members, weights and stickiness: the same in all replicas."""
    current: bool = True
    """Whether the replica's config has it so now."""
    arms: tuple[Arm, ...] = ()
    """Sorted by member."""


class ExperimentsReport(Document):
    """What a replica says of all weighted routers."""

    version: Literal[1] = TRACKS_VERSION
    boot: str = ""
    experiments: tuple[Experiment, ...] = ()


def cell_of(value: int) -> int:
    """Give the cell of a value: below STEPS each has its own, above there are STEPS of equal width to each double."""
    value = min(value, MOST_VALUE)
    if value < STEPS:
        return max(value, 0)
    shift = value.bit_length() - STEPS.bit_length()
    return shift * STEPS + (value >> shift)


def bounds_of(cell: int) -> tuple[int, int]:
    """Give the least value of a cell, and the least of the next."""
    if cell < STEPS:
        return cell, cell + 1
    shift, rest = divmod(cell, STEPS)
    low = (STEPS + rest) << (shift - 1)
    return low, low + (1 << (shift - 1))


def quantile(measure: Measure, share: float) -> float | None:
    """Give the value below which this share of all lies, as if they lay evenly in their cells; None: there are none."""
    total = sum(count for _, count in measure.cells)
    wanted = share * total
    for cell, count in measure.cells:
        if count and wanted <= count:
            low, high = bounds_of(cell)
            # Of whole numbers: a cell of one value holds just that.
            return low + (high - 1 - low) * wanted / count
        wanted -= count
    return None


def merge(one: Counters, other: Counters) -> Counters:
    """Add up what two replicas, or two times, have counted. Exact: the order of several does not matter."""
    measures = dict(one.measures)
    for quantity, measure in other.measures.items():
        before = measures.get(quantity)
        measures[quantity] = measure if before is None else _added(before, measure)
    return Counters(measures={quantity: measures[quantity] for quantity in Quantity if quantity in measures})


def merge_experiments(reports: Iterable[ExperimentsReport]) -> tuple[Experiment, ...]:
    """Add up what replicas say of experiments, sorted by router and epoch. One that any replica has now is current."""
    found: dict[tuple[str, str], Experiment] = {}
    for report in reports:
        for one in report.experiments:
            key = one.router, one.epoch
            found[key] = one if key not in found else _joined(found[key], one)
    return tuple(found[key] for key in sorted(found))


def _joined(one: Experiment, other: Experiment) -> Experiment:
    arms = {arm.member: arm for arm in one.arms}
    for arm in other.arms:
        known = arms.get(arm.member)
        arms[arm.member] = (
            arm
            if known is None
            else known.model_copy(
                update={
                    "counters": merge(known.counters, arm.counters),
                    "shared": newer(known.shared, arm.shared),
                }
            )
        )
    return one.model_copy(
        update={
            "arms": tuple(arms[name] for name in sorted(arms)),
            "current": one.current or other.current,
            "name": one.name or other.name,
        }
    )


def newer(one: Counters, other: Counters) -> Counters:
    """Give what was asked for later of the same counters: of each measure that with more values."""
    measures = dict(one.measures)
    for quantity, measure in other.measures.items():
        if measure.count > one.of(quantity).count:
            measures[quantity] = measure
    return Counters(measures={quantity: measures[quantity] for quantity in Quantity if quantity in measures})


def tracks_of(reports: Iterable[TracksReport], model: str, *, epoch: str) -> dict[str, Counters]:
    """Add up what replicas say of one try of a model, by the tracks that it has; another try of it is not counted.

    All of what each replica has counted since it began: one that was started anew has lost what it had counted before.
    """
    found: dict[str, Counters] = {}
    for report in reports:
        for one in report.models.get(model, ()):
            if one.epoch == epoch:
                found[one.track] = merge(found.get(one.track, Counters()), one.counters)
    return found


def _added(one: Measure, other: Measure) -> Measure:
    cells = dict(one.cells)
    for cell, count in other.cells:
        cells[cell] = cells.get(cell, 0) + count
    buckets = {bucket: (count, total) for bucket, count, total in one.buckets}
    for bucket, count, total in other.buckets:
        known = buckets.get(bucket, (0, 0))
        buckets[bucket] = known[0] + count, known[1] + total
    return Measure(
        count=one.count + other.count, sum=one.sum + other.sum, squares=one.squares + other.squares,
        cells=tuple(sorted(cells.items())),
        buckets=tuple((bucket, *buckets[bucket]) for bucket in sorted(buckets)),
    )  # fmt: skip


def read_tracks(text: bytes | str) -> TracksReport:
    """Read a page of TRACKS_PATH. Raises TracksError for what is none, or of another version."""
    try:
        return TracksReport.model_validate(_known(text), extra="ignore")
    except ValidationError as error:
        raise TracksError(_words(error)) from None


def read_experiments(text: bytes | str) -> ExperimentsReport:
    """Read a page of EXPERIMENTS_PATH. Raises TracksError for what is none, or of another version."""
    try:
        return ExperimentsReport.model_validate(_known(text), extra="ignore")
    except ValidationError as error:
        raise TracksError(_words(error)) from None


def _known(text: bytes | str) -> Any:
    try:
        page = json.loads(text)
    except (ValueError, RecursionError):
        raise TracksError("a page of counters must be JSON") from None
    if not isinstance(page, dict) or type(page.get("version")) is not int or page["version"] != TRACKS_VERSION:
        raise TracksError(f"a page of counters must be an object with `version` {TRACKS_VERSION}")
    return _without_unknown(page)


def _without_unknown(value: Any) -> Any:
    """Leave out measures that a newer release counts."""
    if isinstance(value, list):
        return [_without_unknown(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    return {
        name: {key: measure for key, measure in one.items() if key in _QUANTITIES}
        if name == "measures" and isinstance(one, Mapping)
        else _without_unknown(one)
        for name, one in value.items()
    }


_QUANTITIES: Final = frozenset(quantity.value for quantity in Quantity)


def _words(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"a page of counters has at `{place}` what cannot be: {first['msg']}"
