"""Which answers were given to whom, by the ids that their clients know: of others nothing can be said. Pure.

An id is known for a while, and while it is one of the newest; with Redis (`shared.py`) all replicas know it.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson

from capstan_contract.feedback import MOST_ID, ArmName

_HEAD: Final = re.compile(rb'\s*\{\s*"id"\s*:\s*"([^"\\\x00-\x1f]{1,256})"')
"""How nearly every answer in one piece begins."""
_EVENT: Final = re.compile(
    rb'data: ?(?:\{"id": ?|\{"type": ?"(?:message_start|response\.created)", ?(?:"sequence_number": ?\d+, ?)?'
    rb'"(?:message|response)": ?\{"id": ?)"([^"\\\x00-\x1f]{1,256})"'
)
"""How nearly every stream does, of each dialect."""
_DATA: Final = re.compile(rb"^data: ?(\{.*\})\s*$", re.MULTILINE)
MOST_READ: Final = 64 * 1024
"""Bytes of an answer that is read for its id, where that does not stand at its beginning."""
_WRAPPED: Final = ("message", "response")


def id_of_whole(body: bytes) -> str:
    """Give the id of an answer in one piece; "" where it has none, or is too large to look for it."""
    found = _HEAD.match(body)
    if found is not None:
        return found[1].decode("utf-8", "replace")
    return _id_in(body) if len(body) <= MOST_READ else ""


def id_of_stream(first: bytes) -> str:
    """Give the id of a stream, from its first frames; "" where they have none."""
    found = _EVENT.search(first, 0, 4096)
    if found is not None:
        return found[1].decode("utf-8", "replace")
    if len(first) <= MOST_READ:
        for frame in _DATA.finditer(first):
            if name := _id_in(frame[1]):
                return name
    return ""


def _id_in(data: bytes) -> str:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(document, dict):
        return ""
    for one in (document, *(document.get(name) for name in _WRAPPED)):
        name = one.get("id") if isinstance(one, dict) else None
        if isinstance(name, str) and 0 < len(name) <= MOST_ID:
            return name
    return ""


class Answered(NamedTuple):
    """What is known of an answer that was given."""

    at: int
    """Unix milliseconds."""
    model: str
    """Name of the model that answered."""
    asked: str
    """Name by which it was asked for."""
    request_id: str
    arms: tuple[tuple[str, str, str, int], ...] = ()
    """Key, epoch, member and bucket of each arm that it was counted in."""

    def write(self) -> bytes:
        """Give the same as bytes."""
        return orjson.dumps((self.at, self.model, self.asked, self.request_id, self.arms))

    @property
    def names(self) -> tuple[ArmName, ...]:
        """Give its arms as they are told."""
        return tuple(
            ArmName(key=key, epoch=epoch, member=member, bucket=bucket) for key, epoch, member, bucket in self.arms
        )


def read_answered(data: bytes) -> Answered | None:
    """Read such bytes; None where they are none, such as those of a newer release."""
    try:
        at, model, asked, request_id, arms = json.loads(data)
        found = Answered(int(at), str(model), str(asked), str(request_id), tuple(_arm(*arm) for arm in arms))
    except (ValueError, TypeError):
        return None
    return found


def _arm(key: Any, epoch: Any, member: Any, bucket: Any) -> tuple[str, str, str, int]:
    return str(key), str(epoch), str(member), int(bucket)


class Name(NamedTuple):
    """What an answer is known by: nobody finds another tenant's."""

    tenant: str
    id: str

    @property
    def digest(self) -> str:
        """The same as a text that tells nothing, for stores."""
        return blake2b("\0".join(self).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class Given:
    """The answers of one process. Only the loop's thread touches it."""

    def __init__(
        self,
        *,
        most: int,
        seconds: float,
        now_ms: Callable[[], int],
        tell: Callable[[tuple[Name, Answered]], object] | None = None,
    ) -> None:
        """Make it; `tell` has other replicas know of each, and must not wait."""
        self._most: Final = most
        self._ms: Final = int(seconds * 1000)
        self._now_ms: Final = now_ms
        self._tell: Final = tell
        self._known: OrderedDict[Name, Answered] = OrderedDict()
        """The oldest first."""

    def __len__(self) -> int:
        return len(self._known)

    def note(
        self, tenant: str, id: str, model: str, asked: str, request_id: str, arms: tuple[tuple[str, str, str, int], ...]
    ) -> None:
        """Remember an answer that was given; one of an id that is known already takes its place."""
        known, name = self._known, Name(tenant, id)
        answered = Answered(self._now_ms(), model, asked, request_id, arms)
        known[name] = answered
        known.move_to_end(name)
        if len(known) > self._most:
            known.popitem(last=False)
        if self._tell is not None:
            self._tell((name, answered))

    def find(self, name: Name) -> Answered | None:
        """Give what is known here of an answer; None where that is nothing, or too long ago."""
        found = self._known.get(name)
        return found if found is not None and self.is_fresh(found) else None

    def is_fresh(self, answered: Answered) -> bool:
        """Whether something may still be said of it."""
        return self._now_ms() - answered.at < self._ms
