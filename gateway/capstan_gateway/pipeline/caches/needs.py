"""What all CachePolicies share, and what each of them keeps across configs."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from capstan_contract.caches import CacheBody, Scope
from capstan_gateway.caches.answered import Answered, Of, Told
from capstan_gateway.caches.key import tenant_of
from capstan_gateway.caches.memory import MemoryEntries
from capstan_gateway.caches.port import AlikeEntries, CacheKey, SharedEntries
from capstan_gateway.caches.sealing import Sealing
from capstan_gateway.caches.semantic.ledger import SharedLedger
from capstan_gateway.pipeline.caches.counting import PolicyCells
from capstan_gateway.pipeline.caches.flights import Flights
from capstan_gateway.pipeline.caches.live import Live
from capstan_gateway.pipeline.caches.modelled import ModelVectors
from capstan_gateway.pipeline.deps import Deps


def unix_ms() -> int:
    """Give the time, in milliseconds of Unix."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all policies have in common."""

    deps: Deps
    now_ms: Callable[[], int] = unix_ms
    ledger_of: Callable[[str], SharedLedger | None] = lambda _: None
    """Gives what replicas share of hits by meaning, by the digest of what it is about; None: nothing."""
    likeness: Callable[[str, str], Awaitable[float]] | None = None
    """Compares two answers; None: nobody can."""
    answered: Answered = field(default_factory=lambda: Answered(now_ms=unix_ms))
    """Knows answers by their ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What one policy keeps, whatever the config around it."""

    body: CacheBody
    memory: MemoryEntries
    flights: Flights
    cells: PolicyCells
    shared: SharedEntries | None = None
    """None: the policy shares nothing, or there is no Redis."""
    alike: AlikeEntries | None = None
    """None: only the very same requests hit."""
    vectors: ModelVectors | None = None
    """Makes the vectors that questions are compared by; None: the process does itself."""
    live: Live | None = None
    """Sees whether hits by meaning are right; None: there are none."""
    making: set[CacheKey] = field(default_factory=set)
    """What is asked just now, in mode Shadow: in mode Enforce that is a flight."""
    sealing: Sealing = field(default_factory=Sealing)
    purged: Callable[[CacheKey, int], bool] = lambda key, created_ms: False  # noqa: ARG005
    """Whether an answer to this that was asked for then is not to be given again."""

    @property
    def secret(self) -> bytes:
        """What keys and entries are sealed with just now; empty where they are not."""
        return self.sealing.secret

    @property
    def is_down(self) -> bool:
        """Whether what replicas share cannot be had now."""
        return self.shared is not None and self.shared.is_down


def note_answer(
    room: Room, answered: Answered, request_id: bytes, key: CacheKey, *, id: str = "", similarity: float | None = None
) -> None:
    """Remember the ids by which a client may speak of an answer: its request's, and its own where that is known."""
    if room.body.scope is Scope.MODEL:
        return  # It is nobody's own to report.
    tenant, told, shares = tenant_of(key.partition), Told(key, similarity), room.shared is not None
    answered.note(Of.REQUEST, request_id.decode("ascii", "replace"), tenant, told, shares=shares)
    if id:
        answered.note(Of.ANSWER, id, tenant, Told(key), shares=shares)
