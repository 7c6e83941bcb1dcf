"""Credentials of external models and of guards: the keys that they name, copied into the gateway's Secrets, beside the
config lane.

Values stay as the base64 that the API server sent; they are never decoded, logged or put into an error. Only Secrets
that a model or a policy names are read. The config lane says what is wanted and waits a second at most for what is
new: a credential is there before the config that needs it, unless it cannot be had that soon; then its owner says so.

What a credential comes to is decided in `credential_rules`, where it is kept in `credential_shards`, when a Secret is
looked at in `secret_polls`; here is what does it.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from capstan_contract.names import MAX_CREDENTIAL_SHARDS, credential_object
from capstan_operator.backoff import Backoff
from capstan_operator.desired.diff import needs_apply
from capstan_operator.desired.naming import is_of_policy, owner_of_credential, plain_credential_file
from capstan_operator.gateway_config.credential_rules import (
    Decision,
    Held,
    Owner,
    Reading,
    Reference,
    Rules,
    Takeover,
    adopt,
    by_owner,
    decide,
    owner_of,
    read_secret,
)
from capstan_operator.gateway_config.credential_shards import (
    build_secret,
    former,
    gaining,
    has_reference,
    place,
    read_held,
    size_of,
)
from capstan_operator.gateway_config.secret_polls import DEFAULT_POLLING, Polling, SecretName, SecretPolls, Seen
from capstan_operator.kube.errors import Forbidden, KubeError, NotFound
from capstan_operator.kube.port import KubePort
from capstan_operator.metrics import Metrics
from capstan_operator.names import CREDENTIALS_MANAGER
from capstan_operator.resources.api_resource import SECRETS
from capstan_operator.resources.resource import Manifest, ObjectKey, PolicyKey
from capstan_operator.settings import Settings
from capstan_operator.status.types import Problem

log = logging.getLogger(__name__)

FIRST_WAIT_SECONDS: Final = 1.0
"""How long the config waits for a credential that is new."""
READ_SECONDS: Final = 5.0
"""Deadline of one look at a Secret."""
LINGER_SECONDS: Final = 120.0
"""How long a value stays that no config needs any more: a gateway may be about to take up the newest one."""
CHECK_SECONDS: Final = 60.0
"""How often the gateway's own Secrets are looked at, should somebody have changed them."""
GATHER_SECONDS: Final = 0.05
"""How long what is read is gathered before it is written."""
SLICE: Final = 250
"""Credentials that are decided at a stretch before the rest of the loop has its turn."""
WRITE_BACKOFF: Final = Backoff(first=0.5, factor=2.0, most=30.0)


@dataclass
class _Wanted:
    """What the config lane has asked for."""

    references: Mapping[str, Reference] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    owners: Mapping[str, PolicyKey] = field(default_factory=dict)
    takeovers: Mapping[str, Takeover] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)
    keys: Mapping[SecretName, set[str]] = field(default_factory=dict)
    """Of each Secret, those that somebody wants."""


class _Live:
    """The gateway's Secrets as they are."""

    def __init__(self) -> None:
        self.secrets: dict[int, Manifest] = {}
        self.held: dict[str, Held] = {}
        self.where: dict[str, int] = {}

    def took(self, shard: int, secret: Manifest) -> None:
        """A Secret is like this now."""
        self.secrets[shard] = secret
        # NB: a value on the move is in two of them for a moment.
        found = [(number, read_held(self.secrets[number])) for number in sorted(self.secrets)]
        self.held = {file: held for _, values in found for file, held in values.items()}
        self.where = {file: number for number, values in found for file in values}


class CredentialStore:
    """Keeps the gateway's Secrets in step with the Secrets that models name: `run` until cancelled."""

    def __init__(
        self,
        kube: KubePort,
        settings: Settings,
        *,
        on_change: Callable[[frozenset[Owner]], None] = lambda _: None,
        metrics: Metrics | None = None,
        polling: Polling = DEFAULT_POLLING,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._kube = kube
        self._settings = settings
        self._on_change = on_change
        self._metrics = metrics
        self._rules = Rules(settings.require_credential_label, settings.credential_grace_seconds)
        self._polls = SecretPolls(rng=rng, polling=polling)
        self._random = rng
        self._wanted: _Wanted | None = None
        self._live: _Live | None = None
        self._readings: dict[SecretName, Reading] = {}
        self._lost_since: dict[str, float] = {}
        self._unneeded_since: dict[str, float] = {}
        self._settled: set[str] = set()
        self._problems: Mapping[Owner, Problem] = {}
        self._due = asyncio.Event()
        self._polls_changed = asyncio.Event()
        self._progress = asyncio.Event()

    @property
    def problems(self) -> Mapping[Owner, Problem]:
        """What is wrong with the credentials of each model and each policy."""
        return self._problems

    def want(
        self,
        references: Mapping[str, tuple[str, str, str]],
        *,
        owners: Mapping[str, PolicyKey] = MappingProxyType({}),
        kept: Iterable[str] = (),
        unchanged: Iterable[ObjectKey] = (),
        origins: Mapping[str, str] = MappingProxyType({}),
        live_origins: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Have these copied: file name -> (namespace, Secret, key). Values of the files in `kept` stay as they are.
        `owners`: whose those are that are not models'.

        `unchanged` are the models that nobody has touched since their status was written; `origins` is where each file
        is to be sent, `live_origins` where those of the live config are. What they say of a file counts when it is
        first wanted: afterwards, the status is of what is wanted now.
        """
        now = self._now()
        before = self._wanted.since if self._wanted else {}
        wanted = {file: Reference(*found) for file, found in references.items()}
        keys: dict[SecretName, set[str]] = {}
        for reference in wanted.values():
            keys.setdefault((reference.namespace, reference.secret), set()).add(reference.key)
        since = {file: before.get(file, now) for file in wanted}
        same, known = frozenset(unchanged), self._wanted.takeovers if self._wanted else {}
        takeovers = {
            file: known.get(file)
            or Takeover(owner_of_credential(file)[0] in same, live_origins.get(plain_credential_file(file)))
            for file in wanted
            if not is_of_policy(file)  # a former release has kept none of these under another name
        }
        self._wanted = _Wanted(wanted, frozenset(kept), owners, takeovers, dict(origins), since, keys)
        self._settled &= wanted.keys()
        self._lost_since = {file: at for file, at in self._lost_since.items() if file in wanted}
        self._readings = {secret: found for secret, found in self._readings.items() if secret in keys}
        if self._live is not None:
            self._plan(self._wanted, self._live)
        self._due.set()

    def _plan(self, wanted: _Wanted, live: _Live) -> None:
        """Look at the Secrets of what is not held at once, and at the others in the course of time."""
        urgent = {
            secret
            for file, reference in wanted.references.items()
            if file not in live.held and (secret := (reference.namespace, reference.secret)) not in self._readings
        }
        self._polls.want(wanted.keys, urgent, self._now())
        self._polls_changed.set()

    async def settle(self) -> None:
        """Wait until every credential that is wanted is there, or known not to be; never longer than a second for each
        since it was wanted first."""
        while waited := self._unsettled():
            self._progress.clear()
            try:
                async with asyncio.timeout_at(max(waited) + FIRST_WAIT_SECONDS):
                    await self._progress.wait()
            except TimeoutError:
                log.info("went on without credentials", extra={"count": len(waited)})
                return

    def _unsettled(self) -> list[float]:
        since, now = self._wanted.since if self._wanted else {}, self._now()
        return [at for file, at in since.items() if file not in self._settled and now < at + FIRST_WAIT_SECONDS]

    async def run(self) -> None:
        """Read and write until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll(group), name="polls of Secrets")
            group.create_task(self._keep_written(), name="the gateway's Secrets")

    # --- reading ----------------------------------------------------------------------------------------------------

    async def _poll(self, group: asyncio.TaskGroup) -> None:
        while True:
            self._polls_changed.clear()
            while secret := self._polls.take(self._now()):
                group.create_task(self._look(secret), name="look at a Secret")
            try:
                async with asyncio.timeout_at(self._polls.next_look(self._now())):
                    await self._polls_changed.wait()
            except TimeoutError:
                pass  # a Secret is due

    async def _look(self, secret: SecretName) -> None:
        reading, seen = await self._read(*secret)
        if seen is Seen.FOUND and not self._is_usable(secret, reading):
            seen = Seen.ABSENT  # somebody is about to put it right, and waits
        if self._readings.get(secret) != reading:
            # NB: a Secret that is no longer wanted is put down too, and goes with the next wish.
            self._readings[secret] = reading
            self._due.set()
        self._polls.done(secret, seen, self._now())
        self._polls_changed.set()

    def _is_usable(self, secret: SecretName, reading: Reading) -> bool:
        keys = self._wanted.keys.get(secret, set()) if self._wanted else set()
        labelled = reading.labelled or not self._rules.require_label
        return labelled and keys <= (reading.values or {}).keys()

    async def _read(self, namespace: str, name: str) -> tuple[Reading, Seen]:
        try:
            async with asyncio.timeout(READ_SECONDS):
                return read_secret(await self._kube.get(SECRETS, name, namespace=namespace)), Seen.FOUND
        except NotFound:
            return Reading(missing=True), Seen.ABSENT
        except Forbidden:
            return Reading(forbidden=True), Seen.ABSENT
        except (KubeError, TimeoutError) as error:
            log.debug("could not read a Secret", extra={"object": f"{namespace}/{name}", "error": str(error)})
            return Reading(), Seen.FAILED

    # --- writing ----------------------------------------------------------------------------------------------------

    async def _keep_written(self) -> None:
        failures, checked = 0, float("-inf")
        while True:
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._due.wait()
                await asyncio.sleep(GATHER_SECONDS)
            except TimeoutError:
                pass  # a grace may be over, or somebody may have changed what is written
            self._due.clear()
            if self._wanted is None:
                continue
            try:
                is_used = self._live is not None and (self._live.secrets or self._wanted.references)
                if self._live is None or (is_used and self._now() - checked >= CHECK_SECONDS):
                    self._live, checked = await self._load(), self._now()
                    self._plan(self._wanted, self._live)
                await self._bring_about(self._wanted, self._live)
                failures = 0
            except KubeError as error:
                failures += 1
                log.warning("could not keep the gateway's credentials", extra={"error": str(error)})
                self._tell_unwritten()
                await asyncio.sleep(WRITE_BACKOFF.delay(failures, random=self._random))
                self._live = None
                self._due.set()

    async def _load(self) -> _Live:
        """Read the gateway's Secrets: up to the first one that is not there."""
        live = _Live()
        for shard in range(MAX_CREDENTIAL_SHARDS + 1):
            try:
                secret = await self._kube.get(SECRETS, self._object(shard), namespace=self._namespace)
            except NotFound:
                if shard:
                    break
                continue
            except Forbidden:
                # NB: the Role may be of a release that has one Secret only.
                if shard:
                    break
                raise
            live.took(shard, secret)
        return live

    async def _bring_about(self, wanted: _Wanted, live: _Live) -> None:
        decisions = await self._decide(wanted, live)
        values = {file: decision.held for file, decision in decisions.items() if decision.held}
        values |= self._lingering(wanted, live, values)
        unplaced = await self._write(values, live)
        for file in unplaced & decisions.keys():
            problem = Problem("CredentialsTooLarge", "the gateway's Secrets have no room for its credential")
            decisions[file] = Decision(None, problem)
        self._settled |= {
            file
            for file, reference in wanted.references.items()
            if file in live.held or (reference.namespace, reference.secret) in self._readings
        }
        self._tell(by_owner(decisions, wanted.owners))
        if self._metrics is not None:
            self._metrics.credentials_lacking.set(sum(decision.held is None for decision in decisions.values()))
        self._progress.set()

    async def _decide(self, wanted: _Wanted, live: _Live) -> dict[str, Decision]:
        decisions = {}
        for number, (file, reference) in enumerate(wanted.references.items()):
            reading = self._readings.get((reference.namespace, reference.secret))
            held = live.held.get(file)
            found = wanted.takeovers.get(file)
            if held is None and found and (plain := live.held.get(plain_credential_file(file))):
                held = adopt(
                    reading,
                    reference,
                    plain.value,
                    is_same=found.is_same,
                    goes_elsewhere=found.origin is None or found.origin != wanted.origins.get(file),
                )
            now, since = self._now(), self._lost_since.get(file)
            lost_for = None if since is None else now - since
            decision = decide(file, reference, reading, held, lost_for=lost_for, rules=self._rules)
            if decision.is_lost:
                self._lost_since.setdefault(file, now)
            else:
                self._lost_since.pop(file, None)
            decisions[file] = decision
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        return decisions

    def _lingering(self, wanted: _Wanted, live: _Live, values: Mapping[str, Held]) -> dict[str, Held]:
        """Give the values that are not wanted and stay: for a while, and while an entry that is kept names them."""
        now = self._now()
        unneeded = {
            file
            for file in live.held
            if file not in values and file not in wanted.references and file not in wanted.kept
        }
        self._unneeded_since = {file: self._unneeded_since.get(file, now) for file in unneeded}
        over = {file for file, since in self._unneeded_since.items() if now - since >= LINGER_SECONDS}
        stays = (unneeded - over) | (wanted.kept & live.held.keys())
        return {file: live.held[file] for file in stays if file not in values}

    async def _write(self, values: Mapping[str, Held], live: _Live) -> set[str]:
        """Write the Secrets that differ; give the files for which there is no room."""
        plain = former(live.held)
        own = {file: held for file, held in values.items() if has_reference(file)}
        sizes = {file: size_of(file, held) for file, held in own.items()}
        taken = sum(size_of(file, live.held[file]) for file in plain)
        where = {file: shard for file, shard in live.where.items() if has_reference(file)}
        placed = place(sizes, where, taken=taken)
        shards = {*range(max(placed.values(), default=-1) + 1), *live.secrets}
        others = max(shards, default=0)
        for shard in gaining({file: where[file] for file in where.keys() & placed.keys()}, placed):
            leaving = {file: live.held[file] for file, now_in in where.items() if now_in == shard and file in placed}
            await self._apply(shard, {**leaving, **_of(shard, placed, own)}, others, live)
        # NB: the first one says how many others there are, and goes last.
        for shard in sorted(shards, reverse=True):
            await self._apply(shard, _of(shard, placed, own), others, live)
        if plain - values.keys():
            await self._release_former({file: values[file] for file in plain & values.keys()}, live)
        return own.keys() - placed.keys()

    async def _apply(self, shard: int, values: Mapping[str, Held], others: int, live: _Live) -> None:
        name = self._object(shard)
        manifest = build_secret(name, self._namespace, values, others=None if shard else others)
        if needs_apply(manifest, live.secrets.get(shard)):
            live.took(shard, await self._kube.apply(manifest, manager=CREDENTIALS_MANAGER))
            log.info("wrote gateway credentials", extra={"object": name, "keys": len(values)})

    async def _release_former(self, kept: Mapping[str, Held], live: _Live) -> None:
        """Let go of the values that a former release has written under names without a reference, but for those that
        an entry names still.

        They are of that release's field manager, so that going back to it takes nothing away.
        """
        bare = build_secret(self._object(0), self._namespace, kept)
        del bare["metadata"]["annotations"]
        if not kept:
            del bare["data"]
        live.took(0, await self._kube.apply(bare))
        log.info("let go of credentials of a former release", extra={"object": self._object(0)})

    # --- telling ----------------------------------------------------------------------------------------------------

    def _tell_unwritten(self) -> None:
        """Say on the models that lack a credential that the gateway's Secrets cannot be kept."""
        if self._wanted is None or self._live is None:
            return  # it cannot be told who lacks one
        held, owners = self._live.held, self._wanted.owners
        lacking = (owner_of(file, owners) for file in self._wanted.references if file not in held)
        problem = Problem("CredentialsNotWritten", "the gateway's Secrets cannot be written")
        self._tell({**{owner: problem for owner in lacking if owner is not None}, **self._problems})

    def _tell(self, problems: Mapping[Owner, Problem]) -> None:
        before, self._problems = self._problems, problems
        changed = {key for key in before.keys() | problems.keys() if before.get(key) != problems.get(key)}
        if changed:
            self._on_change(frozenset(changed))

    @property
    def _namespace(self) -> str:
        return self._settings.build.install_namespace

    def _object(self, shard: int) -> str:
        return credential_object(self._settings.gateway_credentials_name, shard)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _of(shard: int, placed: Mapping[str, int], values: Mapping[str, Held]) -> dict[str, Held]:
    return {file: held for file, held in values.items() if placed.get(file) == shard}
