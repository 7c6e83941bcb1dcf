"""Whether the cluster knows InferencePools, and which of them are ours: looked at every few seconds where an install
asks for them, or any of ours is left.

There is no watch, because a watch of a kind that is not installed is an error each time, and a cluster may have it at
one time and not at another. A LIST answers both questions.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Literal

from capstan_contract.names import MANAGED_BY, MANAGED_BY_LABEL, MODEL_LABEL
from capstan_operator.kube.errors import Forbidden, KubeError, UnknownResource
from capstan_operator.kube.port import KubePort
from capstan_operator.resources.api_resource import INFERENCE_POOLS
from capstan_operator.resources.resource import Manifest, ObjectKey

log = logging.getLogger(__name__)

EVERY: Final = 10.0
SHARE: Final = 0.1
"""The share of the time that looking may take: with very many pools it is done less often."""
NOT_INSTALLED: Final = (
    "the cluster has no kind InferencePool (inference.networking.k8s.io/v1): models get theirs when it has"
)
REASON: Final = "NoInferencePools"

Seen = frozenset[tuple[ObjectKey, str, object]]
"""The pools of ours: their models, their uids, and what changes when somebody edits them."""
Tell = Callable[[Literal["Normal", "Warning"], str, str], None]


class PoolWatch:
    """Looks until cancelled; `is_installed` says whether pools can be written."""

    def __init__(
        self,
        kube: KubePort,
        *,
        namespaces: Sequence[str],
        is_wanted: bool,
        may_be_left: bool = False,
        wake: Callable[[ObjectKey], None],
        models: Callable[[], Awaitable[Iterable[ObjectKey]]],
        tell: Tell = lambda *_: None,
    ) -> None:
        """`namespaces` are those to look in, empty: all; `may_be_left` says to look although no pools are wanted.

        `wake` is called for a model whose pool has changed or gone, and for all `models` once the kind is there. `tell`
        is told why an install that asks for pools has none.
        """
        self._kube = kube
        self._namespaces = namespaces
        self._is_wanted = is_wanted
        self._may_be_left = may_be_left
        self._wake = wake
        self._models = models
        self._tell = tell
        self._seen: Seen = frozenset()
        self._believed: set[ObjectKey] = set()
        self._missed: set[ObjectKey] = set()
        self._has_looked = False
        self._owes_all = False
        self.is_installed = False
        """Whether the API server knew the kind, and let it be listed, when it was asked last."""
        self.problem = ""
        """Why an install that asks for pools has none."""

    def note(self, key: ObjectKey, *, has_pool: bool, could_list: bool = True) -> None:
        """Take up whether a model has a pool, after its children were written; `could_list`: whether the kind was
        there then."""
        (self._believed.add if has_pool else self._believed.discard)(key)
        (self._missed.discard if could_list else self._missed.add)(key)

    @property
    def has_work(self) -> bool:
        """Whether to look again: where pools are wanted always, else until those that were left are gone."""
        left = self._may_be_left and (not self._has_looked or bool(self._seen) or bool(self._believed))
        return self._is_wanted or left

    async def run(self) -> None:
        """Go on until cancelled."""
        loop = asyncio.get_running_loop()
        while self.has_work:
            began = loop.time()
            await self.step()
            await asyncio.sleep(max(EVERY, (loop.time() - began) / SHARE))
        await asyncio.Event().wait()

    async def step(self) -> None:
        """Look once. Of an API server that fails nothing is concluded."""
        try:
            self._settle(await self._look())
        except UnknownResource:
            self._settle(None, NOT_INSTALLED)
        except Forbidden as error:
            self._settle(None, f"the operator lacks a right: {error}")
        except KubeError as error:
            log.debug("could not look at InferencePools", extra={"error": str(error)})
            return
        self._has_looked = True
        if self._owes_all:
            await self._wake_all()

    def _settle(self, found: Seen | None, problem: str = "") -> None:
        """Take up what was found; None: there are no pools for us, because of the problem."""
        was, self.is_installed = self.is_installed, found is not None
        before, self._seen = self._seen, found or frozenset()
        self._owes_all = self.is_installed and self._is_wanted and (self._owes_all or not was)
        # NB: what came and went between two looks was never seen here: a pool, or the kind.
        gone = self._believed - {key for key, *_ in self._seen}
        if self.is_installed and self._is_wanted:
            gone, self._missed = gone | self._missed, set()
        for key in sorted({key for key, *_ in before ^ self._seen} | gone):
            self._wake(key)
        if self._is_wanted and problem != self.problem:
            if problem:
                log.warning("models get no InferencePools", extra={"reason": problem})
                self._tell("Warning", REASON, problem)
            self.problem = problem

    async def _wake_all(self) -> None:
        """Wake every model: those that were looked at while the kind was not known have no pool."""
        try:
            keys = await self._models()
        except KubeError as error:
            log.debug("could not list models", extra={"error": str(error)})
            return
        self._owes_all = False
        for key in keys:
            self._wake(key)

    async def _look(self) -> Seen:
        label = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
        pages = [
            await self._kube.list(INFERENCE_POOLS, namespace=scope, label_selector=label, metadata_only=True)
            for scope in self._namespaces or (None,)
        ]
        pools = [pool for page in pages for pool in page.items]
        return frozenset(_seen(pool) for pool in pools if MODEL_LABEL in pool["metadata"]["labels"])


def _seen(pool: Manifest) -> tuple[ObjectKey, str, object]:
    metadata = pool["metadata"]
    edited = (metadata.get("generation"), "deletionTimestamp" in metadata)
    return ObjectKey(metadata["namespace"], metadata["labels"][MODEL_LABEL]), metadata["uid"], edited
