"""kopf's stores, keeping nothing.

kopf compares every object with what it has stored about it, for handlers that we do not have, and copies the whole
object several times for that: half of its work per event. These stores are never asked to write anything, because only
`on.event` handlers exist; were one added by mistake that needs a store, it would still leave no annotation behind.
"""

from collections.abc import Iterable
from typing import Any, Final

import kopf
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory

_READ: Final = frozenset(("apiVersion", "kind", "metadata"))


class NoDiffBase(kopf.DiffBaseStorage):
    """Knows no former state of an object."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> Any:  # noqa: ARG002
        """See kopf: the essence of an object, which nobody needs here."""
        return {}

    def fetch(self, *, body: kopf.Body) -> Any:  # noqa: ARG002
        """See kopf: there is no former state."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: Any) -> None:
        """See kopf: nothing is kept."""


class NoProgress(kopf.ProgressStorage):
    """Knows no progress of handlers."""

    def fetch(self, *, key: Any, body: kopf.Body) -> Any:  # noqa: ARG002
        """See kopf: there is no record."""
        return None

    def store(self, *, key: Any, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """See kopf: nothing is kept."""

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """See kopf: there is nothing to remove."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: Any) -> None:
        """See kopf: nothing is kept."""

    def clear(self, *, essence: Any) -> Any:
        """See kopf: there is nothing to take out."""
        return essence


class NoMemories(ResourceMemories):
    """Remembers no object, and leaves of an event's object what the handlers read: its metadata.

    kopf keeps some 2 KB in 25 pieces of every object that it has ever seen, for daemons, indexes and memos, of which
    there are none here: with 5,000 models it has seen 20,000 objects. And its views of an object refer to each other,
    so that an object stays until a collection finds it, in some 60 pieces if all of it is there.
    """

    async def recall(
        self,
        raw_body: Any,
        *,
        memobase: Any = None,
        noticed_by_listing: bool = False,
        ephemeral: bool = False,  # noqa: ARG002
    ) -> ResourceMemory:
        """See kopf: what it begins with for an object, every time. It is the first that is done for an event."""
        for name in raw_body.keys() - _READ:
            del raw_body[name]
        raw_body.get("metadata", {}).pop("managedFields", None)
        return await super().recall(raw_body, memobase=memobase, noticed_by_listing=noticed_by_listing, ephemeral=True)
