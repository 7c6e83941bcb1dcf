"""What is asked of whoever keeps what was said of answers."""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple, Protocol

from capstan_contract.feedback import Feedback
from capstan_contract.tracks import Counters
from capstan_gateway.feedback.given import Name


class Put(Enum):
    """What became of something that was said."""

    NEW = "new"
    CHANGED = "changed"
    """It takes the place of what was said before."""
    SAME = "same"
    """It was said before, word for word."""


class Page(NamedTuple):
    """Some of what was said, the oldest first."""

    data: tuple[Feedback, ...]
    next: int | None
    """Where to go on; None: that is all."""


class FeedbackStore(Protocol):
    """Keeps a bounded number of opinions, each for a while. Calls raise StoreDown."""

    @property
    def source(self) -> str:
        """Where they are: `redis`, with those of all gateways, or `memory`, with those of this one since it began."""
        ...

    async def put(self, name: Name, said: Feedback) -> Put:
        """Keep what was said of an answer, and count it once in the arms of that."""
        ...

    async def page(self, after: int, limit: int) -> Page:
        """Give what was said behind this place."""
        ...

    async def arms(self, key: str, epoch: str) -> Mapping[str, Counters]:
        """Give what was said of the answers of each arm."""
        ...
