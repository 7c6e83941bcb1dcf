"""What a detector is: it looks at one text, alone, and says what it has found and where.

A detector is made once for a policy, never changes, and is asked from any thread. It knows neither what becomes of what
it finds (`Action`) nor whose text it is, but for its source.

    Detector           decides by itself: patterns, checksums, a small model in the process
    StreamDetector     one that can also be asked about a text of which only the beginning is there
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeGuard

from capstan_contract.guards import Action, Source


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a text. It never holds the text itself."""

    kind: str
    """What it is: an entity such as Email, the name of a pattern, of a category, of a topic. It is said to clients of
    policies, in headers, metrics and the audit record, so it is a word of the policy or of ours."""
    start: int
    """In characters of the text that was given; so is `end`, which is behind the last one."""
    end: int
    score: float = 1.0
    """From 0 to 1, how sure that is."""
    action: Action | None = None
    """What is to become of it, where who has found it says so; None: what the policy says."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What a detector says of one text."""

    findings: Sequence[Finding] = ()
    """By where they begin. They may overlap."""
    doubt: float | None = None
    """Set where the detector cannot tell, and a model that is asked might: how likely it is. Its findings then hold
    what is to be taken for found if nobody can be asked."""
    message: str | None = None
    """What a client may be told of a block, where who has found it says so, and the policy says nothing."""


NOTHING = Scan()


class Cost(IntEnum):
    """What a scan costs for 8 KB of text."""

    CHEAP = 1
    """Below a millisecond: done on the loop, where the text is not longer."""
    DEAR = 2
    """Above it: done beside the loop."""


class Detector(Protocol):
    """Looks at one text."""

    @property
    def cost(self) -> Cost:
        """What it costs."""
        ...

    def scan(self, text: str, source: Source) -> Scan:
        """Give what is in a text, in time that grows no faster than the text does. It raises nothing."""
        ...


class StreamDetector(Detector, Protocol):
    """Looks at a text that is still coming.

    `scan` of any beginning of a text, cut at `safe_end` of it, finds the same there as `scan` of the whole: what is in
    front of that place is decided, whatever comes behind.
    """

    @property
    def reach(self) -> int:
        """How many characters in front of a place what is there can depend on: no finding is longer.

        What is further back need not be given again.
        """
        ...

    def safe_end(self, text: str) -> int:
        """Give up to where a text of which more is to come is decided; at least `len(text) - reach`."""
        ...


def front_of(detector: StreamDetector) -> int:
    """Give how many characters in front of what was let go it must be shown again.

    That is its reach, or less where it has a `front`: a place that was its `safe_end`, further than its reach from the
    end then, is for it as the beginning of a text for all that is so far behind it.
    """
    return getattr(detector, "front", detector.reach)


def is_of_streams(detector: Detector | None) -> TypeGuard[StreamDetector]:
    """Tell whether a detector can be asked about a text that is still coming."""
    return hasattr(detector, "safe_end") and hasattr(detector, "reach")


def follow_each_other(detector: Detector | None) -> bool:
    """Tell whether where a finding begins depends on where the one in front of it has ended, however far back."""
    return bool(getattr(detector, "follow_each_other", False))


def reads_source(detector: Detector) -> bool:
    """Tell whether a detector is about JSON as it is written, and not about what is read there."""
    return bool(getattr(detector, "reads_source", False))


def decided(detector: StreamDetector, text: str, source: Source) -> tuple[Scan, int]:
    """Give what is in a text of which more is to come, and up to where it is decided.

    A detector that knows both at the price of one has a method `decide` for it.
    """
    both = getattr(detector, "decide", None)
    if both is None:
        return detector.scan(text, source), detector.safe_end(text)
    scan, end = both(text, source)
    return scan, end
