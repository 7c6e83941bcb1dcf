"""The one list of all LLMModels that everybody shares: the config lane, the models' lane, the resync, members.

Each namespace that the operator works in has an outcome of its own. When one cannot be read, because it is gone, its
Role is, or it times out, what was last known of it stays, and the others are up to date.

Specs come with the profiles that they name merged under them (`loaders/profiles.py`): whoever reads a model's spec
reads what is to be, and not only what its manifest says.

An install works on LLMModels of its class alone. Those of another class are left out here, and so nowhere seen.

A list is used again while it is at most a moment old and shows everything that was seen: the newest change that a watch
has reported for those who want all models, the newest version of the very objects for those who want some.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Final

from capstan_operator.api.kinds import LLM_MODELS, Model
from capstan_operator.kube.errors import KubeError, NotFound
from capstan_operator.kube.port import KubePort, Listing
from capstan_operator.kube.versions import as_number
from capstan_operator.loaders.namespaces import NamespaceWatch, Standing
from capstan_operator.loaders.parser import ModelParser
from capstan_operator.loaders.profiles import Profiles, names_profile
from capstan_operator.resources.resource import Manifest, ObjectKey

log = logging.getLogger(__name__)

MOMENT: Final = 1.0
"""Seconds for which a list is used again when nothing newer was seen."""
FEW_MODELS: Final = 16
"""So many are fetched one by one when no list is fresh enough."""


@dataclass(frozen=True)
class AllModels:
    """Every LLMModel, as far as it can be read."""

    models: Sequence[Model]
    """Of a namespace that cannot be read: as they were last known."""
    unreadable: frozenset[str] = frozenset()
    """Namespaces that could not be read this time."""
    unknown: frozenset[str] = frozenset()
    """Those of them that this process has never read: what is live of them must stay as it is."""
    unread: Sequence[Model] = ()
    """Those that name a profile while none were ever read: they are not among `models`, and what is live of them must
    stay as it is."""


@dataclass(frozen=True)
class _Read:
    """What the namespaces have answered, from when on."""

    at: float
    version: int | None
    """Every change up to this one is in it; None when that cannot be said."""
    all: AllModels
    by_key: Mapping[ObjectKey, Model] = field(default_factory=dict)


class ModelList:
    """Lists LLMModels once for everybody who asks at the same time."""

    def __init__(
        self,
        kube: KubePort,
        parser: ModelParser,
        *,
        namespaces: Sequence[str] = (),
        class_name: str = "",
        watch: NamespaceWatch | None = None,
        profiles: Profiles | None = None,
        moment: float = MOMENT,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._kube = kube
        self._parser = parser
        self._namespaces = tuple(namespaces)
        self._class_name = class_name
        self._watch = watch or NamespaceWatch(kube)
        self._profiles = profiles or Profiles(kube, namespace="")
        self._moment = moment
        self._clock = clock
        self._last: _Read | None = None
        self._known: dict[str, Sequence[Model]] = {}
        self._reading: asyncio.Task[_Read] | None = None

    async def all(self) -> AllModels:
        """Give every LLMModel of the namespaces that the operator works in, with every change that was seen so far, and
        with its profile.

        Raises KubeError when none of them can be read. Models that name a profile while none were ever read are left
        out: what everybody else serves does not wait for them.
        """
        found = (await self._read(lambda: self._kube.versions.news(LLM_MODELS))).all
        try:
            merged = await self._profiles.merge(found.models)
        except KubeError as error:
            unread = tuple(model for model in found.models if names_profile(model) and not model.deleting)
            extra = {"count": len(unread), "error": str(error)}
            log.warning("profiles were never read: what is live of the models that name one stays", extra=extra)
            kept = tuple(model for model in found.models if not names_profile(model) or model.deleting)
            return replace(found, models=kept, unread=unread)
        return found if merged is found.models else replace(found, models=merged)

    async def find(self, keys: Iterable[ObjectKey]) -> dict[ObjectKey, Model | KubeError]:
        """Give those of some LLMModels that exist, with their profiles, none older than what was seen of it; an error
        where that cannot be told. Of a namespace that cannot be listed, that is what a list has answered."""
        found = await self._found(keys)
        naming = [one for one in found.values() if not isinstance(one, KubeError) and names_profile(one)]
        try:
            merged = {one.key: one for one in await self._profiles.merge(naming)}
        except KubeError as error:
            return {**found, **dict.fromkeys((one.key for one in naming), error)}
        return {**found, **merged}

    def naming(self, profiles: frozenset[str]) -> list[ObjectKey]:
        """Give the models that name one of these profiles, as far as is known."""
        known = self._last.all.models if self._last else ()
        return sorted(one.key for one in known if one.spec is not None and one.spec.profile in profiles)

    async def _found(self, keys: Iterable[ObjectKey]) -> dict[ObjectKey, Model | KubeError]:
        wanted = sorted(set(keys))
        if not self._is_good(self._last, self._required(wanted)) and len(wanted) <= FEW_MODELS:
            found = await asyncio.gather(*(self._get(key) for key in wanted))
            return {key: model for key, model in zip(wanted, found, strict=True) if model is not None}
        try:
            read = await self._read(lambda: self._required(wanted))
        except KubeError as error:
            return dict.fromkeys(wanted, error)
        problems = {key: self._watch.problem(key.namespace) for key in wanted if key.namespace in read.all.unreadable}
        return {key: read.by_key[key] for key in wanted if key in read.by_key} | {
            key: error for key, error in problems.items() if error is not None
        }

    async def _read(self, required: Callable[[], int | None]) -> _Read:
        """Give a list that shows what is required now: the last one, the one under way, or a new one."""
        bound, asked = required(), self._clock()
        if self._last is not None and self._is_good(self._last, bound):
            return self._last
        while True:
            if self._reading is None:
                self._reading = asyncio.create_task(self._list(), name="list of models")
                self._reading.add_done_callback(self._end)
            # NB: who waits may be cancelled, and others wait for the same list.
            read = await asyncio.shield(self._reading)
            if read.at >= asked or (bound is not None and read.version is not None and read.version >= bound):
                return read

    def _end(self, task: asyncio.Task[_Read]) -> None:
        self._reading = None
        if not task.cancelled() and task.exception() is None:
            self._last = task.result()

    def _is_good(self, read: _Read | None, bound: int | None) -> bool:
        if read is None or bound is None or read.version is None:
            return False
        return read.version >= bound and self._clock() - read.at <= self._moment

    def _required(self, keys: Iterable[ObjectKey]) -> int | None:
        newest = 0
        for key in keys:
            version = self._kube.versions.of(LLM_MODELS, key)
            if version is None:
                return None
            newest = max(newest, version)
        return newest

    async def _get(self, key: ObjectKey) -> Model | KubeError | None:
        if self._watch.is_gone(key.namespace):
            return None
        try:
            return self._parse(await self._kube.get(LLM_MODELS, key.name, namespace=key.namespace))
        except NotFound:
            return None
        except KubeError as error:
            return error

    async def _list(self) -> _Read:
        at = self._clock()
        if not self._namespaces:
            listing = await self._kube.list(LLM_MODELS, shape=self._parse, known=self._parser.known)
            return self._made(at, [listing], AllModels(_ours(listing)))
        found = await _gather(self._one(name) for name in self._namespaces)
        by_name = dict(zip(self._namespaces, found, strict=True))
        errors = {name: error for name, error in by_name.items() if isinstance(error, KubeError)}
        if len(errors) == len(by_name):
            raise next(iter(errors.values()))
        listings = {name: listing for name, listing in by_name.items() if isinstance(listing, Listing)}
        self._known |= {name: _ours(listing) for name, listing in listings.items()}
        standings = await self._watch.update(self._namespaces, errors)
        for name in (name for name, standing in standings.items() if standing is Standing.GONE):
            self._known[name] = ()
        models = tuple(model for name in self._namespaces for model in self._known.get(name, ()))
        unknown = frozenset(errors) - self._known.keys()
        return self._made(at, listings.values(), AllModels(models, frozenset(errors), unknown))

    def _made(self, at: float, listings: Iterable[Listing], all_: AllModels) -> _Read:
        self._parser.keep_only(model.uid for model in all_.models)
        self._profiles.keep_only(model.uid for model in all_.models)
        versions = [as_number(listing.resource_version) for listing in listings]
        oldest = None if None in versions else min((v for v in versions if v is not None), default=None)
        return _Read(at, oldest, all_, {model.key: model for model in all_.models})

    def _parse(self, manifest: Manifest) -> Model | None:
        """Parse an LLMModel; None for one of another class, which another install works on: it is not there for us."""
        if ((manifest.get("spec") or {}).get("className") or "") != self._class_name:
            return None
        return self._parser.parse(manifest)

    async def _one(self, namespace: str) -> Listing | KubeError:
        try:
            return await self._kube.list(LLM_MODELS, namespace=namespace, shape=self._parse, known=self._parser.known)
        except KubeError as error:
            return error


def _ours(listing: Listing) -> tuple[Model, ...]:
    return tuple(model for model in listing.items if model is not None)


async def _gather(
    work: Iterable[Awaitable[Listing | KubeError]],
) -> list[Listing | KubeError]:
    return list(await asyncio.gather(*work))
