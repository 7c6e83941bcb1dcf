"""Objects that a job failed over: left out, named, and no reason to end for anything else."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

MOST_KNOWN: Final = 1000
MOST_NAMED: Final = 5


class Refusals:
    """Which objects are refused now, by where they came from. Bounded: of too many the oldest are forgotten."""

    def __init__(self, on_refused: Callable[[str], None] = lambda _: None) -> None:
        self._on_refused = on_refused
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()

    def refuse(self, source: str, name: str, error: Exception) -> None:
        """This object could not be taken. One that fails in the same way again is counted, and not logged again."""
        self._on_refused(source)
        kind = type(error).__name__
        if self._known.get((source, name)) != kind:
            log.error("refused an object", exc_info=error, extra={"source": source, "object": name, "reason": kind})
        self._known[source, name] = kind
        self._known.move_to_end((source, name))
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def accept(self, source: str, name: str) -> None:
        """This object was taken, or is gone."""
        if self._known:
            self._known.pop((source, name), None)

    def retain(self, source: str, names: set[str], *, within: str = "") -> None:
        """There are no other objects of this source, or none whose name begins with `within`."""
        for key in [key for key in self._known if key[0] == source and key[1] not in names]:
            if key[1].startswith(within):
                del self._known[key]

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each source that has refused objects."""
        by_source: dict[str, list[str]] = {}
        for source, name in self._known:
            by_source.setdefault(source, []).append(name)
        return tuple(
            f"{len(names)} of {source} refused: {', '.join(names[:MOST_NAMED])}" for source, names in by_source.items()
        )
