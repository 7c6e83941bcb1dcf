"""From the config to the layers of CachePolicies."""

from collections.abc import Callable, Iterable
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

from capstan_contract.caches import CACHE_KIND, CacheBody, CachesReport, read_cache_body
from capstan_contract.config import GatewayConfig, ModelEntry
from capstan_contract.entries import PolicyEntry
from capstan_contract.guards import GUARD_KIND
from capstan_contract.limits import Mode
from capstan_gateway.caches.codec import SECRET_BYTES
from capstan_gateway.caches.key import identity_of
from capstan_gateway.caches.memory import MemoryEntries
from capstan_gateway.caches.port import CacheKey, SharedEntries
from capstan_gateway.caches.semantic.ledger import Ledger, digest_of
from capstan_gateway.pipeline.caches.counting import PolicyCells
from capstan_gateway.pipeline.caches.flights import Flights
from capstan_gateway.pipeline.caches.layer import CacheLayer
from capstan_gateway.pipeline.caches.live import Live, told
from capstan_gateway.pipeline.caches.needs import Room, Shared

EntriesOf = Callable[[str, CacheBody, bytes], SharedEntries | None]
"""Gives what replicas share of a policy, by its id, its body and what its entries are sealed with."""


def _nothing_shared(_id: str, _body: CacheBody, _secret: bytes) -> SharedEntries | None:
    return None


class Around(NamedTuple):
    """A policy, and the model around which it acts, as it is in one config."""

    id: str
    body: CacheBody
    model_id: str
    identity: bytes
    """Of the model and of the guards in force on it."""
    secret: bytes


class Caches:
    """The kind; `policies.PolicyKind`. What a policy keeps lasts as long as its body stays what it is."""

    def __init__(
        self,
        shared: Shared,
        *,
        entries_of: EntriesOf = _nothing_shared,
        secret_of: Callable[[str], bytes | None] = lambda _: None,
    ) -> None:
        """Make it. `entries_of` gives what replicas share of a policy, `secret_of` the key in a credential file."""
        self._shared = shared
        self._entries_of = entries_of
        self._secret_of = secret_of
        self._since = shared.now_ms() // 1000
        self._config: GatewayConfig | None = None
        self._bodies: dict[str, CacheBody] = {}
        self._guards: dict[str, PolicyEntry] = {}
        self._rooms: dict[str, Room] = {}
        self._lives: dict[str, tuple[str, Live]] = {}

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
            (f"{id}@{entry.id}", Around(id, body, entry.id, identity, self._secret(body)))
            for id, body in sorted(found, key=lambda one: one[1].mode is Mode.ENFORCE)
        ]

    def _secret(self, body: CacheBody) -> bytes:
        given = None if body.encryptionFile is None else self._secret_of(body.encryptionFile)
        return b"" if given is None else blake2b(given, digest_size=SECRET_BYTES, person=b"cache").digest()

    def _read(self, config: GatewayConfig) -> None:
        self._bodies = {entry.id: read_cache_body(entry) for entry in config.policies if entry.kind == CACHE_KIND}
        self._guards = {entry.id: entry for entry in config.policies if entry.kind == GUARD_KIND}
        self._config = config

    def build(self, id: str, spec: Around) -> CacheLayer:  # noqa: ARG002 - the id is made of what `spec` says
        """Give the layer."""
        room = self._rooms.get(spec.id)
        if room is None or room.body != spec.body or room.secret != spec.secret:
            room = self._rooms[spec.id] = self._room(spec)
        enforces = spec.body.mode is Mode.ENFORCE
        return CacheLayer(room, self._shared, model_id=spec.model_id, identity=spec.identity, enforces=enforces)

    def _room(self, spec: Around) -> Room:
        body, deps = spec.body, self._shared.deps
        name = spec.id.partition("/")[2]
        # NB: what is to be sealed is kept in memory alone as long as the key is not there; and who only looks on shares
        # nothing, so that nothing of it is given to anybody when that changes.
        alone = (
            body.redis is None or body.mode is not Mode.ENFORCE or (body.encryptionFile is not None and not spec.secret)
        )
        return Room(
            body=body,
            memory=MemoryEntries(
                max_bytes=body.memory.maxBytes, max_entries=body.memory.maxEntries, now_ms=self._shared.now_ms
            ),
            flights=Flights(deps.background),
            cells=PolicyCells(deps.metrics, name, body.mode.value.lower()),
            shared=None if alone else self._entries_of(spec.id, body, spec.secret),
            secret=spec.secret,
            live=self._live(spec.id, body),
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
            policy=id.partition("/")[2], tier=body.semantic, ledger=ledger, deps=shared.deps, likeness=shared.likeness,
            evict=partial(self._evict, id),
        )  # fmt: skip
        self._lives[id] = digest, live
        return live

    async def _evict(self, id: str, key: CacheKey) -> None:
        """Have an entry be no answer any more. What a policy that only looks on thinks of it is its own matter."""
        room = self._rooms.get(id)
        if room is None:
            return
        room.memory.drop(key)
        if room.alike is not None:
            room.alike.drop_where(lambda one: one == key)
        if room.shared is not None:
            await room.shared.drop((key,))

    async def reset(self, id: str) -> bool:
        """Have what was measured of a policy's hits by meaning begin anew; False where there is no such policy, or it
        has no hits by meaning."""
        known = self._lives.get(id)
        if known is None or id not in self._bodies:
            return False
        await known[1].reset()
        return True

    def retain(self, config: GatewayConfig) -> None:
        """Forget what is of no policy of the config that is in use now."""
        if config is not self._config:
            self._read(config)
        self._rooms = {id: room for id, room in self._rooms.items() if id in self._bodies}
        self._lives = {id: live for id, live in self._lives.items() if id in self._bodies}
        self._shared.deps.metrics.retain_caches(id.partition("/")[2] for id in self._bodies)

    def rooms(self) -> Iterable[tuple[str, Room]]:
        """Give what policies keep, each with the id of its entry."""
        return tuple(self._rooms.items())

    def report(self) -> CachesReport:
        """Say what each policy has done, as far as this gateway has seen."""
        policies = {
            id: told(
                room.cells.counts(
                    mode=room.body.mode, entries=len(room.memory), size=room.memory.bytes, redis_down=room.is_down
                ),
                room.live,
            )
            for id, room in sorted(self._rooms.items())
        }
        return CachesReport(since=self._since, shared=self._entries_of is not _nothing_shared, policies=policies)
