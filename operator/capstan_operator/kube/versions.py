"""The newest resourceVersions that this process has seen: how old a LIST may be, at most.

The API server answers a LIST from its own cache when it may be of any version from a given one on. That version is the
newest one that a write of ours, a watch event or another LIST has shown: so nothing is read that is older than what is
known already, and the store behind the API server need not be asked.

Versions of one kind are compared as numbers, as the API server itself does. One that is no number makes its kind
opaque: then every LIST asks for the newest state.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from capstan_operator.resources.api_resource import ApiResource
from capstan_operator.resources.resource import Manifest, ObjectKey

MOST_OBJECTS: Final = 8192


@dataclass
class _Seen:
    newest: int = 0
    news: int = 0
    opaque: bool = False
    objects: OrderedDict[ObjectKey, int] = field(default_factory=OrderedDict)
    floor: int = 0
    """What is required of an object that is not in `objects`: the newest version of those that were forgotten."""


class Versions:
    """Lower bounds, by kind and by object. Bounded: what is forgotten makes a bound too high, never too low."""

    def __init__(self, *, most: int = MOST_OBJECTS) -> None:
        self._most = most
        self._kinds: dict[str, _Seen] = {}
        self.histories = 0
        """How often the API server's versions went back. A generation of before may then stand for something else."""

    def wrote(self, kind: ApiResource, written: Manifest) -> None:
        """A write of ours made this object."""
        self._note(kind, written)

    def saw(self, kind: ApiResource, seen: Manifest) -> None:
        """A watch event showed this object: somebody else has changed it, or made it, or it went."""
        version = self._note(kind, seen)
        of_kind = self._of(kind)
        of_kind.news = max(of_kind.news, version)

    def listed(self, kind: ApiResource, version: str) -> None:
        """A LIST that the cache answered was of this version."""
        of_kind = self._of(kind)
        of_kind.newest = max(of_kind.newest, self._number(of_kind, version))

    def forget(self, kind: ApiResource) -> None:
        """Forget a kind: the API server knows no such version, as after its store was restored from a backup."""
        self._kinds.pop(_name(kind), None)

    def went_back(self, known: str | None, newest: str) -> bool:
        """Whether the newest version that there is is older than one that was known: the store was restored."""
        before, now = as_number(known), as_number(newest)
        back = before is not None and now is not None and now < before
        self.histories += back
        return back

    def newest(self, kind: ApiResource) -> str | None:
        """The newest version of a kind; None when nothing was seen of it, or it is opaque."""
        of_kind = self._of(kind)
        return str(of_kind.newest) if of_kind.newest and not of_kind.opaque else None

    def news(self, kind: ApiResource) -> int | None:
        """The newest version of a kind that others have made; None when it is opaque."""
        of_kind = self._of(kind)
        return None if of_kind.opaque else of_kind.news

    def of(self, kind: ApiResource, key: ObjectKey) -> int | None:
        """The newest version that is known of an object, or a newer one; None when its kind is opaque."""
        of_kind = self._of(kind)
        return None if of_kind.opaque else of_kind.objects.get(key, of_kind.floor)

    def _note(self, kind: ApiResource, manifest: Manifest) -> int:
        of_kind, metadata = self._of(kind), manifest.get("metadata") or {}
        version = self._number(of_kind, metadata.get("resourceVersion"))
        of_kind.newest = max(of_kind.newest, version)
        key = ObjectKey(metadata.get("namespace") or "", metadata.get("name") or "")
        of_kind.objects[key] = max(of_kind.objects.pop(key, 0), version)
        while len(of_kind.objects) > self._most:
            of_kind.floor = max(of_kind.floor, of_kind.objects.popitem(last=False)[1])
        return version

    def _of(self, kind: ApiResource) -> _Seen:
        return self._kinds.setdefault(_name(kind), _Seen())

    @staticmethod
    def _number(of_kind: _Seen, version: object) -> int:
        number = as_number(version)
        if number is None and version:
            of_kind.opaque = True
        return number or 0


def as_number(version: object) -> int | None:
    """Give a resourceVersion as a number; None for one that is none."""
    text = str(version or "")
    return int(text) if text.isascii() and text.isdigit() else None


def _name(kind: ApiResource) -> str:
    return f"{kind.group}/{kind.plural}"
