"""What the gateway config should be, seen beside what is live.

The live config says who has which name, what was accepted last of a model that is faulty now, and how much a new one
would drop. It is read back once, when the process starts, and is known from what is written after that.
"""

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal

from capstan_operator.api.kinds import LLM_MODELS, POLICY_KINDS, Model
from capstan_operator.desired.compile import Compiler
from capstan_operator.desired.hold import NOTHING_SEEN, Hold, Seen, decide_hold, vanished
from capstan_operator.desired.live import LiveConfig, reserved_by_status
from capstan_operator.desired.members import find_dependents
from capstan_operator.desired.name_rules import NameRules
from capstan_operator.desired.policies import policy_key
from capstan_operator.desired.policy_kinds import key_of_policy
from capstan_operator.desired.prices import NO_PRICES, prices_in_force
from capstan_operator.desired.prompts import last_of_entry, prompt_keys
from capstan_operator.desired.queueing import installed_queue
from capstan_operator.desired.rollouts.revisions import held_revision
from capstan_operator.desired.types import CompiledGateway, Verdict
from capstan_operator.errors import Retryable
from capstan_operator.gateway_config.prompt_sources import PromptSources
from capstan_operator.gateway_config.writer import ConfigWriter
from capstan_operator.kube.errors import Forbidden, NotFound
from capstan_operator.kube.port import KubePort
from capstan_operator.loaders.model_list import AllModels
from capstan_operator.loaders.policy_list import NO_POLICIES, AllPolicies
from capstan_operator.loaders.prices import PriceTables
from capstan_operator.loaders.stable_specs import StableSpecs
from capstan_operator.metrics import Metrics
from capstan_operator.names import RELEASE_ANNOTATION
from capstan_operator.resources.resource import ObjectKey, PolicyKey
from capstan_operator.settings import Settings
from capstan_operator.status.types import CONFIG_HELD

log = logging.getLogger(__name__)

MOST_LOOKUPS: Final = 8
"""So many of the models that a list does not have are asked for before it is believed."""

GROWTH: Final = 1.25
"""After how much more models the garbage collector is told again what lives long."""

_HELD: Final = ("Degraded", "True", CONFIG_HELD)

Tell = Callable[[Literal["Normal", "Warning"], str, str], None]
"""Writes an Event about the installation: type, reason, note."""


@dataclass(frozen=True)
class Proposal:
    """A compiled config, and what of the live one is held in it."""

    compiled: CompiledGateway
    dependents: Mapping[ObjectKey, frozenset[ObjectKey]]
    """The virtual models that name each model."""
    seen: Seen
    hold: Hold | None


@dataclass(frozen=True)
class Listed:
    """What a config is compiled from."""

    models: AllModels
    policies: AllPolicies


@dataclass(frozen=True)
class _Look:
    """Which objects a compile has seen."""

    hash: str
    seen: Seen


class Proposer:
    """Compiles again and again; one call at a time."""

    def __init__(
        self,
        kube: KubePort,
        writer: ConfigWriter,
        settings: Settings,
        *,
        metrics: Metrics,
        tell: Tell,
        prompts: PromptSources | None = None,
        stable_specs: StableSpecs | None = None,
    ) -> None:
        self._kube = kube
        self._prompts = prompts or PromptSources(kube)
        self._stable_specs = stable_specs or StableSpecs(kube)
        self.lacks_specs = False
        """Whether the spec of a stable revision could not be read: what is live of its model stays meanwhile."""
        self._writer = writer
        self._settings = settings
        self._rules = NameRules.from_settings(settings)
        self._metrics = metrics
        self._tell = tell
        self._compiler = Compiler(queue=installed_queue(settings.build))
        self._price_tables = PriceTables(kube, namespace=settings.build.install_namespace, tell=tell)
        self._prices = NO_PRICES
        # NB: a run that was cancelled at its deadline leaves its thread behind.
        self._compiling = threading.Lock()
        self._is_loaded = False
        self._inherited: Mapping[str, ObjectKey] = {}
        """Names that are reserved by status alone, until this process has written a config."""
        self._written: _Look | None = None
        """Of the config that is written, if this process has compiled it."""
        self._newest: _Look | None = None
        self._held: frozenset[ObjectKey] = frozenset()
        self._told = ""
        self._frozen = 0

    async def propose(self, listed: AllModels, policies: AllPolicies = NO_POLICIES) -> Proposal:
        """Compile what was listed. Raises Retryable when it cannot be told what is live, or gone."""
        live = await self._look(listed)
        await self._doubt(live, listed)
        await self._doubt_policies(live, policies)
        listed = await self._with_prompts(await self._with_stable_specs(listed), live)
        self._prices = await self._price_tables.load(lambda: prices_in_force(live.entries.values(), listed.models))
        listed_all = Listed(listed, policies)
        proposal = await asyncio.to_thread(self._compile, listed_all, live)
        if proposal.hold is not None:
            await self._writer.look()
            proposal = await self._with_hold(proposal, proposal.hold, listed_all, live)
        self._newest = _Look(proposal.compiled.config.hash, proposal.seen)
        self._held = frozenset(proposal.hold.dropped if proposal.hold else ())
        self._metrics.config_held.set(len(self._held))
        self._tell_hold(proposal.hold)
        return proposal

    async def _with_stable_specs(self, listed: AllModels) -> AllModels:
        """Give each model with the spec that its stable pods follow from, where a rollout in steps is on its way."""
        holding = [one for one in listed.models if held_revision(one)]
        self.lacks_specs = not await self._stable_specs.read(holding)
        if not holding:
            return listed
        return replace(listed, models=[self._stable_specs.applied(one) for one in listed.models])

    async def _with_prompts(self, listed: AllModels, live: LiveConfig) -> AllModels:
        """Give the models with the prompts that they have in ConfigMaps."""
        naming = [one for one in listed.models if prompt_keys(one)]
        await self._prompts.want(naming)
        if not naming:
            return listed
        last = live.entries
        models = [self._prompts.fill(one, last_of_entry(last.get(str(one.key)))).model for one in listed.models]
        return replace(listed, models=models)

    async def _with_hold(self, proposal: Proposal, hold: Hold, listed: Listed, live: LiveConfig) -> Proposal:
        """Give the config in which the live entries stay, unless a person has said that they are to go."""
        name = self._settings.gateway_config_name
        held = await asyncio.to_thread(self._compile, listed, live, hold.verdicts(proposal.compiled, name))
        # NB: a virtual one of which no member is left has gone all the same: no token is of it.
        left = Hold(tuple(key for key in hold.dropped if held.compiled.verdicts[key].held))
        if not left.dropped:
            return replace(held, hold=None)
        if self._released == left.token:
            return replace(proposal, hold=None)
        verdicts = {**held.compiled.verdicts, **left.verdicts(held.compiled, name)}
        return replace(held, compiled=replace(held.compiled, verdicts=verdicts), hold=left)

    def has_keys(self, proposal: Proposal) -> None:
        """Take in with which hash a proposal goes out, now that it has its keys."""
        self._newest = _Look(proposal.compiled.config.hash, proposal.seen)

    def has_changed_keys(self, before: str, after: str) -> None:
        """Take in that the config of one hash has become that of another one, with the same models."""
        if self._newest is not None and self._newest.hash == before:
            self._newest = replace(self._newest, hash=after)
        if self._written is not None and self._written.hash == before:
            self._written = replace(self._written, hash=after)

    async def has_written(self, proposal: Proposal) -> None:
        """Take back what a person has said about a hold once it is done: it stands for no other one."""
        if proposal.hold is None and self._released:
            await self._writer.empty_annotation(RELEASE_ANNOTATION)

    def _compile(
        self, both: Listed, live: LiveConfig, held: Mapping[ObjectKey, Verdict] = MappingProxyType({})
    ) -> Proposal:
        listed = both.models
        percent, seen = self._settings.max_dropped_percent, self._written.seen if self._written else NOTHING_SEEN
        with self._compiling, self._calm(len(listed.models)):
            compiled = self._compiler.compile(
                listed.models,
                policies=both.policies.as_known(),
                prices=self._prices,
                live=live,
                rules=self._rules,
                unread=listed.unknown,
                unread_models=listed.unread,
                held=held,
            )
            hold = decide_hold(live, listed.models, compiled, percent=percent, seen=seen, held=self._held)
            looked_at = {one.key: (one.uid, one.generation) for one in listed.models}
            return Proposal(compiled, find_dependents(listed.models), looked_at, hold)

    @contextmanager
    def _calm(self, models: int) -> Iterator[None]:
        """Let no collection of garbage stop the loop for the third of a second that it takes with 5,000 models.

        What a compile makes has no cycles, and what it keeps lives long: as often as the number of models has grown,
        the collector is told to look at it no more.
        """
        gc.disable()
        try:
            yield
        finally:
            gc.enable()
            if models > self._frozen * GROWTH:
                self._frozen = models
                gc.freeze()

    async def _look(self, listed: AllModels) -> LiveConfig:
        if not self._is_loaded:
            await self._load(listed)
        written = self._writer.written
        if self._newest and written and self._newest.hash == written.hash:
            self._written, self._inherited = self._newest, {}
        elif self._written and (written is None or self._written.hash != written.hash):
            self._written = None
        if written is not None:
            return LiveConfig.of(written, self._inherited)
        if listed.unknown and self._writer.index is not None:
            raise Retryable(f"namespaces were never read: {', '.join(sorted(listed.unknown))}")
        if listed.unread and self._writer.index is not None:
            raise Retryable("profiles were never read")
        return LiveConfig(reserved=self._inherited)

    async def _load(self, listed: AllModels) -> None:
        """Take over from the process before."""
        await self._writer.load()
        self._is_loaded = True
        known = (*listed.models, *listed.unread)
        self._inherited = reserved_by_status(known)
        self._held = frozenset(model.key for model in known if _says_held(model))
        if self._writer.written is None and self._writer.index is not None:
            text = "the live gateway config cannot be read: names go by age, and no faulty model keeps its entry"
            log.warning(text)
            self._tell("Warning", "ConfigUnreadable", text)

    async def _doubt(self, live: LiveConfig, listed: AllModels) -> None:
        """Do not believe that many models are gone before some of them were asked for by name, where this listing has
        looked for them: in other namespaces nobody can tell, and need not."""
        gone = vanished(live, listed.models, percent=self._settings.max_dropped_percent)
        unread = {model.key for model in listed.unread}
        missing = [key for key in gone if key not in unread and self._is_read(key.namespace, listed)]
        step = max(len(missing) // MOST_LOOKUPS, 1)
        found = await asyncio.gather(*(self._exists(key) for key in missing[::step][:MOST_LOOKUPS]))
        if any(found):
            raise Retryable("the list of LLMModels does not have some that are there")

    def _is_read(self, namespace: str, listed: AllModels) -> bool:
        watched = self._settings.watch_namespaces
        is_watched = not watched or namespace in (*watched, self._settings.build.install_namespace)
        return is_watched and namespace not in listed.unreadable

    async def _doubt_policies(self, live: LiveConfig, listed: AllPolicies) -> None:
        """Do not believe that a policy is gone before it was asked for by name: what it limits would be free at once.

        They are few, and go seldom; of many at once some are asked for. Nor is a config compiled without any policy
        when neither they nor the live config can be read.
        """
        if listed.is_unknown and self._writer.written is None and self._writer.index:
            raise Retryable("policies were never read, and the live gateway config cannot be")
        watched = self._settings.watch_namespaces
        scopes = (*watched, self._settings.build.install_namespace) if watched else ()
        known = {key_of_policy(policy) for policy in listed.policies}
        gone = sorted(policy_key(id_) for id_ in live.policies)
        missing = [key for key in gone if key not in known and listed.is_read(key, scopes)]
        step = max(len(missing) // MOST_LOOKUPS, 1)
        found = await asyncio.gather(*(self._policy_exists(key) for key in missing[::step][:MOST_LOOKUPS]))
        if any(found):
            raise Retryable("the lists of policies do not have some that are there")

    async def _policy_exists(self, key: PolicyKey) -> bool:
        """Whether a policy of this install's class is there."""
        resource = next(kind.api_resource for kind in POLICY_KINDS if kind.name == key.kind)
        try:
            found = await self._kube.get(resource, key.name, namespace=key.namespace)
        except (NotFound, Forbidden):
            return False
        return ((found.get("spec") or {}).get("className") or "") == self._settings.class_name

    async def _exists(self, key: ObjectKey) -> bool:
        """Whether a model is known to be there: who may not ask cannot tell, and goes by the list."""
        try:
            await self._kube.get(LLM_MODELS, key.name, namespace=key.namespace)
        except (NotFound, Forbidden):
            return False
        return True

    @property
    def _released(self) -> str | None:
        """What a person has said on the config's ConfigMap."""
        metadata = (self._writer.index or {}).get("metadata") or {}
        value = (metadata.get("annotations") or {}).get(RELEASE_ANNOTATION)
        return value if isinstance(value, str) else None

    def _tell_hold(self, hold: Hold | None) -> None:
        token = hold.token if hold else ""
        if token == self._told:
            return
        self._told = token
        if hold is None:
            log.info("nothing of the gateway config is held any more")
            self._tell("Normal", "ConfigReleased", "nothing of the gateway config is held any more")
            return
        text = (
            f"the newest gateway config would drop {len(hold.dropped)} models although nobody has changed them"
            f" ({_some(hold.dropped)}): what is live of them stays as it is; if that is meant, set the annotation"
            f" {RELEASE_ANNOTATION}={token} on this ConfigMap"
        )
        log.error(
            "held entries of the gateway config", extra={"count": len(hold.dropped), "models": _some(hold.dropped)}
        )
        self._tell("Warning", CONFIG_HELD, text)


def _says_held(model: Model) -> bool:
    """Whether the process before has held the entry of a model as it is now."""
    conditions = model.status.get("conditions") or ()
    return any((one.get("type"), one.get("status"), one.get("reason")) == _HELD for one in conditions)


def _some(keys: Sequence[ObjectKey], most: int = 5) -> str:
    more = ["..."] if len(keys) > most else []
    return ", ".join([*map(str, keys[:most]), *more])
