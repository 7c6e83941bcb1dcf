"""The profiles of the install namespace, read when models that name one are, and merged under their specs.

What was read last stays while ConfigMaps cannot be read. A profile that is missing, or faulty, makes the models that
name it faulty: what serves of them stays as it is.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Final, Literal

from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.desired.faults import judge_faults
from capstan_operator.desired.profiled import ProfiledSpec, with_profile
from capstan_operator.desired.profiles import (
    PROFILES_SELECTOR,
    KnownProfile,
    ProfileBook,
    read_profiles,
)
from capstan_operator.kube.errors import KubeError, Unavailable
from capstan_operator.kube.port import KubePort
from capstan_operator.metrics import Metrics
from capstan_operator.resources.api_resource import CONFIG_MAPS

log = logging.getLogger(__name__)

MOMENT: Final = 1.0
"""Seconds for which a list is used again when no watch has told of a change."""
READ_SECONDS: Final = 10.0
"""Deadline of one look."""
MOST_TOLD: Final = 10
"""Faults that an Event names."""
SLICE: Final = 32
"""Specs that are merged without letting anybody else in between."""

Tell = Callable[[Literal["Normal", "Warning"], str, str], None]


@dataclass(frozen=True)
class _Merged:
    """What has come of a spec and of what was known of its profile."""

    own: LLMModelSpec
    known: KnownProfile | ProfileBook
    """The profile; of one that is not there all that are."""
    result: Model


class Profiles:
    """Keeps the profiles, and what was merged of them: the same spec again as long as nothing has changed."""

    def __init__(
        self,
        kube: KubePort,
        *,
        namespace: str,
        tell: Tell = lambda *_: None,
        on_change: Callable[[frozenset[str]], None] = lambda _: None,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`on_change` is told the names of profiles that are others now than at the last look."""
        self._kube = kube
        self._namespace = namespace
        self._tell = tell
        self._on_change = on_change
        self._metrics = metrics
        self._clock = clock
        self._book: ProfileBook | None = None
        self._versions: Mapping[str, str] = {}
        """Of the ConfigMaps that were read last, by name."""
        self._asked = 0.0
        """When the last list was asked for."""
        self._suspected = False
        self._owes_word = False
        """Whether somebody has gone without profiles that were never read."""
        self._told = ""
        self._reading = asyncio.Lock()
        self._merged: dict[str, _Merged] = {}
        """By uid."""

    @property
    def book(self) -> ProfileBook | None:
        """What was read last; None: nothing yet."""
        return self._book

    @property
    def kept(self) -> int:
        """Of so many models the merged spec is kept."""
        return len(self._merged)

    def suspect(self) -> None:
        """Say that a watch has told of a change: the next look asks anew."""
        self._suspected = True

    async def merge(self, models: Sequence[Model]) -> Sequence[Model]:
        """Give the models with their profiles. Raises KubeError if one of them names one and none were ever read."""
        if not any(map(names_profile, models)):
            return models
        book, found = await self.load(), []
        for number, model in enumerate(models):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            found.append(self._with_profile(model, book))
        return tuple(found)

    async def load(self) -> ProfileBook:
        """Give all profiles: the same object while nothing has changed. Raises KubeError if they were never read."""
        asked = self._clock()
        async with self._reading:
            is_fresh = self._asked >= asked or self._clock() - self._asked <= MOMENT
            if self._book is None or self._suspected or not is_fresh:
                await self._look()
            assert self._book is not None  # noqa: S101
            return self._book

    def keep_only(self, uids: Iterable[str]) -> None:
        """Forget what was merged of models that are not among the uids of a complete listing."""
        kept = set(uids)
        self._merged = {uid: one for uid, one in self._merged.items() if uid in kept}

    async def _look(self) -> None:
        began, self._suspected = self._clock(), False
        try:
            async with asyncio.timeout(READ_SECONDS):
                listing = await self._kube.list(
                    CONFIG_MAPS, namespace=self._namespace, label_selector=PROFILES_SELECTOR
                )
        except asyncio.CancelledError:
            self._suspected = True  # a watch may have told of what nobody has seen yet
            raise
        except (KubeError, TimeoutError) as error:
            self._suspected = True
            if self._book is None:
                self._owes_word = True
                raise (
                    error if isinstance(error, KubeError) else Unavailable("profiles could not be read in time")
                ) from None
            log.warning("could not read profiles", extra={"error": str(error)})
            return
        self._asked = began
        versions = {one["metadata"]["name"]: str(one["metadata"].get("resourceVersion")) for one in listing.items}
        if self._book is None or versions != self._versions:
            self._take(_same(self._book, read_profiles(listing.items)))
            self._versions = versions

    def _take(self, book: ProfileBook) -> None:
        before, self._book = self._book, book
        faulty = sum(one.profile is None for one in book.profiles.values())
        if self._metrics is not None:
            self._metrics.profiles.labels("usable").set(len(book.profiles) - faulty)
            self._metrics.profiles.labels("faulty").set(faulty)
        log.info("read profiles", extra={"count": len(book.profiles), "faulty": faulty})
        self._say(book)
        if before is None and not self._owes_word:
            return
        known, self._owes_word = before.profiles if before else {}, False
        names = known.keys() | book.profiles.keys()
        if changed := frozenset(name for name in names if known.get(name) is not book.profiles.get(name)):
            self._on_change(changed)

    def _say(self, book: ProfileBook) -> None:
        text = "; ".join(map(str, book.faults[:MOST_TOLD])) + ("; ..." if len(book.faults) > MOST_TOLD else "")
        if text and text != self._told:
            log.error("profiles are faulty", extra={"error": text})
            self._tell("Warning", "ProfilesFaulty", text)
        self._told = text

    def _with_profile(self, model: Model, book: ProfileBook) -> Model:
        spec = model.spec
        if spec is None or not names_profile(model):
            return model
        known = book.profiles.get(spec.profile or "", book)
        merged = self._merged.get(model.uid)
        if merged is None or merged.own is not spec or merged.known is not known:
            result = with_profile(model, book, where=f"the namespace '{self._namespace}'")
            if isinstance(result.spec, ProfiledSpec):
                result = replace(result, judged=judge_faults(result))
            elif model.judged:
                result = model
            merged = self._merged[model.uid] = _Merged(spec, known, result)
        found = merged.result
        return replace(model, spec=found.spec, faults=found.faults, judged=found.judged)


def names_profile(model: Model) -> bool:
    """Whether a profile is to be merged under a model's spec. What is wrong with that alone the profile may make good;
    one that is no spec stays as it is."""
    return model.spec is not None and model.spec.profile is not None and not model.faults


def _same(before: ProfileBook | None, now: ProfileBook) -> ProfileBook:
    """Give what was read now, with the objects of before for profiles that have not changed."""
    if before is None:
        return now
    pairs = {name: (before.profiles.get(name, one), one) for name, one in now.profiles.items()}
    return replace(now, profiles={name: old if old == new else new for name, (old, new) in pairs.items()})
