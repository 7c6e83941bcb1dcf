"""From the config to the layers of CachePolicies."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from capstan_contract.caches import CACHE_KIND, CacheBody, CacheCounts, CachesReport, read_cache_body
from capstan_contract.config import GatewayConfig, ModelEntry
from capstan_contract.entries import PolicyEntry
from capstan_contract.guards import GUARD_KIND
from capstan_contract.limits import Mode
from capstan_gateway.caches.answered import Of
from capstan_gateway.caches.key import identity_of, partition_of, tenant_of
from capstan_gateway.caches.lending import CacheBytes
from capstan_gateway.caches.memory import SLICE, MemoryEntries
from capstan_gateway.caches.port import AlikeEntries, CacheKey, Entry, SharedEntries, Tier
from capstan_gateway.caches.purges import Covers, OwnPurges, Purge, What, is_about, read_key
from capstan_gateway.caches.sealing import Sealing
from capstan_gateway.caches.semantic.index import Neighbours
from capstan_gateway.caches.semantic.ledger import Ledger, digest_of
from capstan_gateway.caches.semantic.questions import SharedQuestions
from capstan_gateway.errors import Overloaded
from capstan_gateway.life.threads import Threads
from capstan_gateway.pipeline.caches.alike import AlikeInProcess, Sentences, likeness
from capstan_gateway.pipeline.caches.counting import PolicyCells
from capstan_gateway.pipeline.caches.flights import Flights
from capstan_gateway.pipeline.caches.layer import CacheLayer
from capstan_gateway.pipeline.caches.live import Live, told
from capstan_gateway.pipeline.caches.modelled import AlikeByModel, ModelVectors
from capstan_gateway.pipeline.caches.needs import Room, Shared

MOST_WAITING: Final = 32
"""Questions that wait to be compared: who comes behind them asks the model instead."""
EntriesOf = Callable[[str, CacheBody, Sealing, Covers], SharedEntries | None]
"""Gives what replicas share of a policy, by its id, its body, what its entries are sealed with, and what is purged."""
QuestionsOf = Callable[[str, CacheBody, Sealing, Covers, Neighbours, Callable[[], object]], SharedQuestions | None]
"""The same of its questions: also by the index that those of others come into, and what is loaded before the first."""


class Around(NamedTuple):
    """A policy, and the model around which it acts, as it is in one config."""

    id: str
    body: CacheBody
    model_id: str
    identity: bytes
    """Of the model and of the guards in force on it."""


class Reported(NamedTuple):
    """An answer that was said to be wrong."""

    key: CacheKey
    everywhere: bool
    """Whether all replicas hear of it."""


class Caches:
    """The kind; `policies.PolicyKind` and `PerRevision`. What a policy keeps lasts as long as its body stays what it
    is."""

    per_revision = True

    def __init__(
        self,
        shared: Shared,
        *,
        entries_of: EntriesOf | None = None,
        questions_of: QuestionsOf | None = None,
        secret_of: Callable[[str], bytes | None] = lambda _: None,
        purges: OwnPurges | None = None,
    ) -> None:
        """Make it. `entries_of` and `questions_of` give what replicas share of a policy, `secret_of` the key in a
        credential file.

        Without `purges` a purge is of this process alone.
        """
        self._shared = shared
        self._entries_of = entries_of
        self._questions_of = questions_of
        self._secret_of = secret_of
        self._since = shared.now_ms() // 1000
        self._config: GatewayConfig | None = None
        self._bodies: dict[str, CacheBody] = {}
        self._guards: dict[str, PolicyEntry] = {}
        self._rooms: dict[tuple[str, CacheBody], Room] = {}
        self._lives: dict[str, tuple[str, Live]] = {}
        self._begun: dict[str, tuple[Mode, CacheCounts | None]] = {}
        """The mode of each policy, and what was counted in it already when that began: in one that it had before."""
        self._sentences: Final = Sentences()
        self._embedding: Final = Threads("embedding", queued=MOST_WAITING)
        self._bytes = CacheBytes(shared.deps.budget, lambda: [room.memory for room in self._rooms.values()])
        self.purges = purges or OwnPurges(now_ms=shared.now_ms)
        self.purges.heard.append(self._forget)
        self.purges.secrets = lambda: {room.secret for room in self._rooms.values()}

    def in_force(self, config: GatewayConfig, entry: ModelEntry) -> Iterable[tuple[str, Around]]:
        """Give the policies on a model, the one that only looks on first. There is a layer for each model."""
        if not entry.policies:
            return ()
        if config is not self._config:
            self._read(config)
        found = [(id, self._bodies[id]) for id in entry.policies if id in self._bodies]
        if not found:
            return ()
        identity = identity_of(entry, (self._guards[id] for id in entry.policies if id in self._guards))
        return [
            (f"{id}@{entry.id}", Around(id, body, entry.id, identity))
            for id, body in sorted(found, key=lambda one: one[1].mode is Mode.ENFORCE)
        ]

    def _read(self, config: GatewayConfig) -> None:
        self._bodies = {entry.id: read_cache_body(entry) for entry in config.policies if entry.kind == CACHE_KIND}
        self._guards = {entry.id: entry for entry in config.policies if entry.kind == GUARD_KIND}
        self._config = config

    def build(self, id: str, spec: Around) -> CacheLayer:  # noqa: ARG002 - the id is made of what `spec` says
        """Give the layer."""
        room = self._rooms.get((spec.id, spec.body))
        if room is None:
            room = self._rooms[spec.id, spec.body] = self._room(spec)
        enforces = spec.body.mode is Mode.ENFORCE
        return CacheLayer(room, self._shared, model_id=spec.model_id, identity=spec.identity, enforces=enforces)

    def _room(self, spec: Around) -> Room:
        body, deps = spec.body, self._shared.deps
        name = spec.id.partition("/")[2]
        sealing = Sealing(body.encryptionFile, self._secret_of)
        purged = self.purges.covers(lambda: sealing.secret)
        # NB: who only looks on shares nothing, so that nothing of it is given to anybody when that changes.
        alone = body.mode is not Mode.ENFORCE
        memory = MemoryEntries(
            max_bytes=body.memory.maxBytes, max_entries=body.memory.maxEntries, now_ms=self._shared.now_ms,
            account=self._bytes, purged=purged,
        )  # fmt: skip
        shared = None if alone or self._entries_of is None else self._entries_of(spec.id, body, sealing, purged)
        return Room(
            body=body,
            memory=memory,
            flights=Flights(deps.background),
            cells=PolicyCells(deps.metrics, name, body.mode.value.lower()),
            shared=shared,
            sealing=sealing,
            purged=purged,
            live=self._live(spec.id, body),
            vectors=self._vectors(name, body),
            alike=self._alike(spec, memory, shared, sealing, purged),
        )

    def _vectors(self, name: str, body: CacheBody) -> ModelVectors | None:
        """Give what makes vectors, where a model does."""
        if body.semantic is None or body.semantic.embedding is None:
            return None
        deps = self._shared.deps
        return ModelVectors(body.semantic.embedding, deps, cost=deps.metrics.cache_embedding_cost.at(name))

    def _alike(
        self, spec: Around, memory: MemoryEntries, shared: SharedEntries | None, sealing: Sealing, purged: Covers
    ) -> AlikeEntries | None:
        """Give what finds answers by meaning."""
        body, name = spec.body, spec.id.partition("/")[2]
        if body.semantic is None:
            return None
        index, questions = Neighbours(most=body.semantic.maxEntries), None
        if shared is not None and self._questions_of is not None and body.semantic.embedding is None:
            questions = self._questions_of(spec.id, body, sealing, purged, index, self._sentences.warm)

        async def entry_of(key: CacheKey) -> Entry | None:
            entry = memory.get(key)
            if entry is None and shared is not None:
                entry = (await shared.look(key, lease=False)).entry
                if entry is not None:
                    memory.put(key, entry)
            return entry

        def count(reason: str) -> None:
            self._shared.deps.metrics.cache_not_compared.at(name, reason).value += 1

        make = AlikeInProcess if body.semantic.embedding is None else AlikeByModel
        return make(
            body.semantic,
            sentences=self._sentences,
            threads=self._embedding,
            entry_of=entry_of,
            now_ms=self._shared.now_ms,
            count=count,
            index=index,
            shared=questions,
        )

    def _live(self, id: str, body: CacheBody) -> Live | None:
        """Give what sees whether hits by meaning are right: the same as long as they are found in the same way."""
        if body.semantic is None:
            return None
        digest = digest_of(id, body.semantic)
        known = self._lives.get(id)
        if known is not None and known[0] == digest:
            return known[1]
        shared = self._shared
        ledger = Ledger(budget=body.semantic.errorBudget, now_ms=shared.now_ms, shared=shared.ledger_of(digest))
        live = Live(
            policy=id.partition("/")[2], tier=body.semantic, ledger=ledger, deps=shared.deps,
            likeness=shared.likeness or partial(likeness, self._sentences, self._embedding),
            evict=partial(self._evict, id),
        )  # fmt: skip
        self._lives[id] = digest, live
        return live

    async def _evict(self, id: str, key: CacheKey) -> None:
        """Have an entry be no answer any more. What a policy that only looks on thinks of it is its own matter."""
        rooms = [room for one, room in self.rooms() if one == id]
        if any(room.body.mode is Mode.ENFORCE for room in rooms):
            await self.purge(Purge(What.ENTRY, key.text))
        for room in rooms:
            room.memory.drop(key)
            if room.alike is not None:
                room.alike.drop(key)

    async def reset(self, id: str) -> bool | None:
        """Have what was measured of a policy's hits by meaning begin anew. True when all replicas hear of it, False: it
        is this one's alone; None where there is no such policy, or it has no hits by meaning."""
        known = self._lives.get(id)
        return None if known is None or id not in self._bodies else await known[1].reset()

    def retain(self, config: GatewayConfig) -> None:
        """Forget what is of no policy of the config that is in use now."""
        if config is not self._config:
            self._read(config)
        for (id, body), room in tuple(self._rooms.items()):
            if self._bodies.get(id) != body:
                del self._rooms[id, body]
                self._beside(room.memory.close())
                if room.alike is not None:
                    room.alike.close()
        self._begin()
        compared = {id for id, body in self._bodies.items() if body.semantic is not None}
        self._lives = {id: live for id, live in self._lives.items() if id in compared}
        metrics = self._shared.deps.metrics
        metrics.retain_caches(id.partition("/")[2] for id in self._bodies)
        metrics.retain_compared(id.partition("/")[2] for id in compared)

    def _begin(self) -> None:
        """Begin to count anew where the mode of a policy is another one: what is told is of this mode alone."""
        self._begun = {id: begun for id, begun in self._begun.items() if id in self._bodies}
        for id, room in self.rooms():
            mode, known = room.body.mode, self._begun.get(id)
            if known is None:
                self._begun[id] = mode, None
            elif known[0] is not mode:
                self._begun[id] = mode, room.cells.counts(mode=mode)

    def rooms(self) -> Iterable[tuple[str, Room]]:
        """Give what policies keep, each with the id of its entry."""
        return tuple((id, room) for (id, _), room in self._rooms.items())

    # --- purges -------------------------------------------------------------------------------------------------------

    async def purge(self, purge: Purge) -> bool:
        """Have answers not be given again, by any policy; True when all replicas hear of it, False: it is this one's
        alone, for now."""
        everywhere = await self.purges.purge(purge)
        key = read_key(purge.value) if purge.what is What.ENTRY else None
        if key is not None:
            for _, room in self.rooms():
                if room.shared is not None:
                    await room.shared.drop((key,))
        return everywhere

    async def report_wrong(self, key: CacheKey, tenant: str, similarity: float | None) -> bool | None:
        """Take the word of a tenant that an answer was wrong: it is purged. `similarity` is what it was told, of a hit
        by meaning. Gives what `purge` gives; None where nothing of this tenant's is kept under the key."""
        whose = tenant_of(key.partition)
        if all(whose != partition_of(tenant=tenant, user=None, secret=room.secret) for _, room in self.rooms()):
            return None
        keeping = await self._keeping(key)
        if not keeping and not any(room.is_down for _, room in self.rooms()):
            return None
        return await self._evict_wrong(key, keeping, similarity)

    async def report_answer(self, of: Of, id: str, tenant: str, similarity: float | None) -> Reported | None:
        """The same of the answer with this id, or to the request with it; None where no such id was given to the tenant
        lately. Said again it changes nothing. Raises StoreDown when other replicas may know it and cannot be asked."""
        rooms = [room for _, room in self.rooms()]
        whose = sorted({partition_of(tenant=tenant, user=None, secret=room.secret) for room in rooms})
        shares = any(room.shared is not None for room in rooms)
        found = await self._shared.answered.find(of, id, whose, shares=shares)
        if found is None or tenant_of(found[1].key.partition) not in whose:
            return None
        name, told = found
        if told.reported:
            return Reported(told.key, everywhere=told.everywhere)
        keeping = await self._keeping(told.key)
        alike = told.similarity if similarity is None else similarity
        everywhere = await self._evict_wrong(told.key, keeping, alike)
        self._shared.answered.reported(name, told, everywhere=everywhere)
        return Reported(told.key, everywhere=everywhere)

    async def _keeping(self, key: CacheKey) -> set[str]:
        """Give the policies that keep something under a key, or have given it as a hit by meaning lately."""
        keeping = {id for id, _, _ in await self.find(key)}
        return keeping | {id for id, (_, live) in self._lives.items() if live.knows(key)}

    async def _evict_wrong(self, key: CacheKey, keeping: Iterable[str], similarity: float | None) -> bool:
        for id in keeping:
            if id in self._lives:
                await self._lives[id][1].report(key, similarity)
        return await self.purge(Purge(What.ENTRY, key.text))

    async def find(self, key: CacheKey) -> Sequence[tuple[str, Tier, Entry]]:
        """Give what is kept under a key: the id of each policy that has something, where that is, and what it is."""
        found: list[tuple[str, Tier, Entry]] = []
        for id, room in self.rooms():
            entry = room.memory.peek(key)
            if entry is not None:
                found.append((id, Tier.MEMORY, entry))
            elif room.shared is not None:
                looked = await room.shared.look(key, lease=False)
                if looked.entry is not None:
                    found.append((id, Tier.REDIS, looked.entry))
        return found

    def _forget(self, purge: Purge) -> None:
        """Hear of a purge, of this replica's or another one's. Nothing of it is given from now on: what it covers is
        known by its mark. What takes memory goes beside requests."""
        self._shared.deps.metrics.cache_purges.at(purge.what).value += 1
        key = read_key(purge.value) if purge.what is What.ENTRY else None
        for _, room in self.rooms():
            if key is not None:
                room.memory.drop(key)
                if room.alike is not None:
                    room.alike.drop(key)
                continue
            self._beside(_forgetting(room, purge))

    def _beside(self, steps: Iterator[None]) -> None:
        """Go through these steps, with requests in between."""
        try:
            self._shared.deps.background.start(_in_turns(steps))
        except Overloaded:
            for _ in steps:
                pass

    # --- what it says of itself ---------------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """How many bytes of the process' memory budget all policies hold."""
        return self._bytes.held

    @property
    def limit(self) -> int:
        """How many they may hold together."""
        return self._bytes.limit

    def read_gauges(self) -> None:
        """Read what policies keep, when Prometheus asks."""
        metrics = self._shared.deps.metrics
        for id, room in self.rooms():
            name = id.partition("/")[2]
            metrics.cache_entries.at(name).value = len(room.memory)
            metrics.cache_bytes.at(name).value = room.memory.bytes
            metrics.cache_evicted.at(name).value = room.memory.evicted

    def report(self) -> CachesReport:
        """Say what each policy has done, as far as this gateway has seen."""
        policies = {
            id: told(
                room.cells.counts(
                    mode=room.body.mode,
                    entries=len(room.memory),
                    size=room.memory.bytes,
                    redis_down=room.is_down,
                    before=self._begun.get(id, (None, None))[1],
                ),
                room.live,
            )
            for id, room in sorted(self.rooms(), key=lambda one: one[0])
        }
        return CachesReport(since=self._since, shared=self._entries_of is not None, policies=policies)


def _forgetting(room: Room, purge: Purge) -> Iterator[None]:
    """Forget what a purge of many is about, a slice at a time."""
    yield from room.memory.sweep()
    if room.alike is None:
        return
    for number, key in enumerate(room.alike.keys(), 1):
        if is_about(purge, key, room.secret):
            room.alike.drop(key)
        if number % SLICE == 0:
            yield


async def _in_turns(steps: Iterator[None]) -> None:
    for _ in steps:
        await asyncio.sleep(0)
