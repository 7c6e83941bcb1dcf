"""What is known of one policy's hits by meaning, in the process, and where replicas share it.

    a hit was compared ──► Places, sampled, wrong ──► off? ──► told to all replicas, when there is a Redis

What was counted is of one way of finding hits: any change of that begins anew. That a tier is off lasts until a person
says otherwise, in Redis as in the process: what Redis has forgotten (it was emptied) is told to it again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

from capstan_contract.caches import SemanticTier
from capstan_contract.entries import canonical
from capstan_gateway.caches.semantic.evidence import Places, is_off

REFRESH_MS: Final = 1000
"""How old what is known of other replicas may be before they are asked anew."""


class Event(NamedTuple):
    """A hit that was wrong."""

    keys: tuple[str, str]
    """Of the entry, and of what was asked."""
    similarity: float
    reported: bool


class Totals(NamedTuple):
    """What replicas have counted together."""

    sampled: int
    wrong: int
    off: bool
    epoch: int
    """When a person has had it begin anew, in milliseconds of Unix; 0: never."""
    at: int
    """How many events there were."""
    events: tuple[Event, ...] = ()
    """Those that others have told since the place that was asked about."""


class SharedLedger(Protocol):
    """What replicas share. A store that is down says None, and no call raises."""

    async def add(self, *, sampled: int, wrong: int, event: Event | None, seen: int) -> Totals | None:
        """Add to what was counted; give all of it, with the events since `seen`."""
        ...

    async def turn_off(self, *, seen: int) -> Totals | None:
        """Say to all that the tier is off."""
        ...

    async def reset(self, *, seen: int) -> Totals | None:
        """Forget all of it, for all."""
        ...


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What one process knows. For the loop's thread alone."""

    budget: float
    now_ms: Callable[[], int]
    shared: SharedLedger | None = None
    sampled: int = 0
    wrong: int = 0
    off: bool = False
    places: Places = field(default_factory=Places)
    _epoch: int = 0
    _at: int = 0
    _asked_ms: int = 0
    _heard: bool = False
    _untold: tuple[int, int] = 0, 0
    """Sampled and wrong: what could not be told."""

    def least(self, key: str, calibrated: float = 0.0) -> float:
        """Give the likeness that a hit of this entry needs."""
        return self.places.least(key, calibrated, self.budget)

    async def compared(self, keys: tuple[str, str], similarity: float, *, wrong: bool) -> None:
        """Note a hit that was compared. `keys` are those of the entry and of what was asked."""
        self.places.note(keys, similarity, wrong=wrong)
        self.sampled += 1
        self.wrong += wrong
        await self._tell(sampled=1, wrong=int(wrong), event=Event(keys, similarity, reported=False) if wrong else None)
        if not self.off and is_off(self.sampled, self.wrong, self.budget):
            self.off = True
            if self.shared is not None:
                self._take(await self.shared.turn_off(seen=self._at))

    async def reported(self, key: str, similarity: float) -> None:
        """Note that a client says that a hit of this entry was wrong. Rates are of hits that were chosen by chance, and
        have nothing of it."""
        self.places.note((key,), similarity, wrong=True, reported=True)
        await self._tell(sampled=0, wrong=0, event=Event((key, key), similarity, reported=True))

    async def reset(self) -> bool:
        """Begin anew: a person has said so. True when all replicas hear of it, False: it is this one's alone."""
        self._forget()
        totals = None if self.shared is None else await self.shared.reset(seen=self._at)
        self._take(totals)
        return totals is not None

    @property
    def known(self) -> bool:
        """Whether it is known what other replicas have found out so far, or there are none."""
        return self.shared is None or self._heard

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask what other replicas know."""
        return self.shared is not None and self.now_ms() - self._asked_ms >= REFRESH_MS

    async def refresh(self) -> None:
        """Ask that, where there is somebody to ask."""
        self._asked_ms = self.now_ms()
        await self._tell(sampled=0, wrong=0, event=None)

    async def _tell(self, *, sampled: int, wrong: int, event: Event | None) -> None:
        if self.shared is None:
            return
        sampled, wrong, self._untold = sampled + self._untold[0], wrong + self._untold[1], (0, 0)
        totals = await self.shared.add(sampled=sampled, wrong=wrong, event=event, seen=self._at)
        if totals is None:
            self._untold = self._untold[0] + sampled, self._untold[1] + wrong
            return
        self._take(totals)
        if self.off and not totals.off:
            self._take(await self.shared.turn_off(seen=self._at))  # Redis has forgotten it; nobody has said so.

    def _take(self, totals: Totals | None) -> None:
        if totals is None:
            return
        self._heard = True
        if totals.epoch > self._epoch:
            self._forget()
            self._epoch = totals.epoch
        self.sampled, self.wrong, self.off = totals.sampled, totals.wrong, self.off or totals.off
        self._at = totals.at
        for event in totals.events:
            self.places.note(dict.fromkeys(event.keys), event.similarity, wrong=True, reported=event.reported)

    def _forget(self) -> None:
        self.sampled, self.wrong, self.off, self._untold = 0, 0, False, (0, 0)
        self.places.clear()


def digest_of(policy: str, tier: SemanticTier) -> str:
    """Digest what a ledger is about: a policy, and how it finds hits."""
    return blake2b(canonical([policy, tier.model_dump(mode="json")]), digest_size=16, person=b"ledger").hexdigest()


def written(event: Event) -> str:
    """Write an event as a line."""
    return f"{event.keys[0]} {event.keys[1]} {min(max(event.similarity, 0.0), 1.0):.6f} {int(event.reported)}"


def read_events(lines: Sequence[object]) -> tuple[Event, ...]:
    """Read lines; those that are none are left out."""
    return tuple(event for line in lines if (event := _read(line)) is not None)


def _read(line: object) -> Event | None:
    parts = line.decode("ascii", "replace").split(" ") if isinstance(line, bytes) else []
    try:
        one, other, similarity, reported = parts[:4]
        likeness = float(similarity)
    except ValueError:
        return None
    return Event((one, other), likeness, reported == "1") if 0.0 <= likeness <= 1.0 else None
