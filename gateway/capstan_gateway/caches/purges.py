"""What was purged, and which entries that covers. Pure.

A purge is a mark: whatever was made before it, and is about it, is not there any more, wherever it lies and whenever it
turns up. Entries that are deleted only make room; marks are what holds.

    entry    one answer, by the key that its clients were told
    model    all answers of a model, by its id
    tenant   all answers of a tenant and of its users, by its name: not what all tenants share (`scope: Model`)
    all      all answers
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import StrEnum
from itertools import islice
from typing import Final, NamedTuple

from capstan_gateway.caches.key import model_of, partition_of, tenant_of
from capstan_gateway.caches.port import CacheKey

MOST_MARKS: Final = 10_000
"""Of entries, and as many of models and tenants."""
KEPT_MS: Final = 31 * 86_400 * 1000
"""How long a mark is kept: longer than any entry lives. Entries are deleted, too, but one that was written meanwhile,
or that nobody could delete because Redis was away, may lie there until it expires."""
SLACK_MS: Final = 500
"""How far the clocks of gateways and of Redis may be apart."""
MOST_NAME: Final = 512
_KEY: Final = re.compile(r"([0-9a-f]{32}(?:-[0-9a-f]{32})?)\.([0-9a-f]{16})\.([0-9a-f]{64})")


class What(StrEnum):
    """What a purge is about."""

    ENTRY = "entry"
    MODEL = "model"
    TENANT = "tenant"
    ALL = "all"


class Purge(NamedTuple):
    """One purge."""

    what: What
    value: str = ""
    """The text of the key, the id of the model, the name of the tenant; empty for all."""

    @property
    def word(self) -> str:
        """The same as one word."""
        return f"{self.what}:{self.value}"


def read_purge(word: str) -> Purge | None:
    """Read such a word; None where it is none, such as one of a newer release."""
    what, _, value = word.partition(":")
    if what not in tuple(What) or len(value) > MOST_NAME or bool(value) == (what == What.ALL):
        return None
    return None if what == What.ENTRY and read_key(value) is None else Purge(What(what), value)


def read_key(text: str) -> CacheKey | None:
    """Read the key of an entry as clients are told it; None where it is none."""
    found = _KEY.fullmatch(text)
    return None if found is None else CacheKey(found[1], found[2], bytes.fromhex(found[3]))


class Marks:
    """What is known to be purged. Bounded: beyond `most` the oldest of a kind are forgotten."""

    def __init__(self, *, most: int = MOST_MARKS) -> None:
        self._most: Final = most
        self._entries: OrderedDict[str, int] = OrderedDict()
        self._models: OrderedDict[str, int] = OrderedDict()
        self.tenants: OrderedDict[str, int] = OrderedDict()
        """By name: until when what was made is purged, in milliseconds of Unix; the one that was noted last is last."""
        self.notes_of_tenants = 0
        """How often one of them was noted."""
        self._all = 0
        self.latest = 0
        """Nothing that was made later is purged."""

    def __len__(self) -> int:
        return len(self._entries) + len(self._models) + len(self.tenants) + bool(self._all)

    def note(self, purge: Purge, until_ms: int) -> bool:
        """Have what is about this, and was made until then, be purged; False where that was known."""
        if until_ms <= self.until(purge):
            return False
        self.latest = max(self.latest, until_ms)
        self.notes_of_tenants += purge.what is What.TENANT
        if purge.what is What.ALL:
            self._all = until_ms
            return True
        marks, name = self._of(purge)
        marks[name] = until_ms
        marks.move_to_end(name)
        while len(marks) > self._most:
            marks.popitem(last=False)
        return True

    def until(self, purge: Purge) -> int:
        """Give until when what was made is covered by a purge of the very same; 0 where there is none."""
        if purge.what is What.ALL:
            return self._all
        marks, name = self._of(purge)
        return marks.get(name, 0)

    def _of(self, purge: Purge) -> tuple[OrderedDict[str, int], str]:
        if purge.what is What.MODEL:
            return self._models, model_of(purge.value)
        return (self._entries if purge.what is What.ENTRY else self.tenants), purge.value

    def forget(self, now_ms: int) -> None:
        """Forget what no entry can be about any more: from time to time."""
        for marks in (self._entries, self._models, self.tenants):
            while marks and next(iter(marks.values())) < now_ms - KEPT_MS:
                marks.popitem(last=False)

    def covers(self, key: CacheKey, tenant_until: int, created_ms: int) -> bool:
        """Whether an entry is purged; `tenant_until` is that of its tenant, 0 where it has none."""
        return (
            created_ms <= self._all
            or created_ms <= tenant_until
            or created_ms <= self._models.get(key.model, 0)
            or created_ms <= self._entries.get(key.text, 0)
        )


class Covers:
    """Says of one policy's entries whether they are purged: `self(key, created_ms)`. Quick where nothing new is."""

    def __init__(self, marks: Marks, secret: Callable[[], bytes]) -> None:
        """Make it. `secret` gives what the policy's partitions are digested with just now."""
        self._marks: Final = marks
        self._secret: Final = secret
        self._tenants: OrderedDict[str, int] = OrderedDict()
        """What the marks have of tenants, by their partitions, in the same order."""
        self._digested = b""
        """The secret of these partitions."""
        self._heard = 0

    def __call__(self, key: CacheKey, created_ms: int) -> bool:
        """Whether an entry that was made then is purged."""
        marks = self._marks
        if created_ms > marks.latest:
            return False
        return marks.covers(key, self._tenant_until(key), created_ms)

    def _tenant_until(self, key: CacheKey) -> int:
        marks, secret = self._marks, self._secret()
        if secret != self._digested:
            self._digested, self._heard = secret, 0
            self._tenants.clear()
        if marks.notes_of_tenants != self._heard:
            self._hear(marks.notes_of_tenants - self._heard)
        # NB: those that the marks have forgotten were the first ones there, too.
        while len(self._tenants) > len(marks.tenants):
            self._tenants.popitem(last=False)
        return self._tenants.get(tenant_of(key.partition), 0)

    def _hear(self, notes: int) -> None:
        """Take in the last so many: a digest of each tenant takes some 10 microseconds, and there may be thousands."""
        self._heard = self._marks.notes_of_tenants
        for name in reversed(tuple(islice(reversed(self._marks.tenants), notes))):
            partition = partition_of(tenant=name, user=None, secret=self._digested)
            self._tenants[partition] = self._marks.tenants[name]
            self._tenants.move_to_end(partition)


def is_about(purge: Purge, key: CacheKey, secret: bytes) -> bool:
    """Whether a purge is about an entry, whenever that was made."""
    if purge.what is What.ENTRY:
        return key.text == purge.value
    if purge.what is What.MODEL:
        return key.model == model_of(purge.value)
    if purge.what is What.TENANT:
        return tenant_of(key.partition) == partition_of(tenant=purge.value, user=None, secret=secret)
    return True


class OwnPurges:
    """What is purged in one process, and nobody else is told."""

    name = "purges"

    def __init__(self, *, now_ms: Callable[[], int]) -> None:
        self._now_ms: Final = now_ms
        self.marks: Final = Marks()
        self.heard: list[Callable[[Purge], object]] = []
        """Called with each purge that is news."""
        self.secrets: Callable[[], Iterable[bytes]] = lambda: (b"",)
        """Gives what partitions are digested with: of each policy."""

    @property
    def pending(self) -> int:
        """How many purges others are still to be told of."""
        return 0

    def covers(self, secret: Callable[[], bytes]) -> Covers:
        """Give who says of one policy's entries whether they are purged."""
        return Covers(self.marks, secret)

    async def purge(self, purge: Purge) -> bool:
        """Have it be purged; True when every replica hears of it, False when it is this one's alone, for now."""
        self.marks.forget(self._now_ms())
        self.note(purge, self._now_ms())
        return False

    def note(self, purge: Purge, until_ms: int) -> None:
        """Have what was made until then be purged, and tell who holds any of it."""
        if self.marks.note(purge, until_ms):
            for hear in self.heard:
                hear(purge)
