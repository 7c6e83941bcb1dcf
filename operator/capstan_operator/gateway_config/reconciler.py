"""The gateway config: one singleton key, on a lane of its own.

A change of an LLMModel reaches the gateway without waiting for anybody's Deployment: list the models, compile, write
what differs. A credential is there before the config that needs it.

What this lane finds out is `GatewayState`, which the models' reconciles read: the verdict on each model, and Secrets
that are missing. Only models for which that changed are woken.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from capstan_contract.config import GatewayConfig, ModelEntry
from capstan_operator.api.kinds import Model, Policy
from capstan_operator.desired.entries import credential_origins
from capstan_operator.desired.live import key_of
from capstan_operator.desired.policy_kinds import key_of_policy, policy_files
from capstan_operator.desired.types import CompiledGateway, PolicyVerdict, Verdict
from capstan_operator.errors import Terminal
from capstan_operator.gateway_config.acknowledge import Acknowledger, Expected
from capstan_operator.gateway_config.api_keys import GatewayKeys, only_known
from capstan_operator.gateway_config.credential_rules import Owner
from capstan_operator.gateway_config.credentials import CredentialStore
from capstan_operator.gateway_config.ledger import UNKNOWN, Recorded, Records, records_of_written, splits_of
from capstan_operator.gateway_config.prompt_sources import PromptSources
from capstan_operator.gateway_config.proposal import Proposal, Proposer, Tell
from capstan_operator.gateway_config.writer import ConfigWriter
from capstan_operator.kube.port import KubePort
from capstan_operator.loaders.api_keys import ApiKeys
from capstan_operator.loaders.model_list import AllModels
from capstan_operator.loaders.policy_list import NO_POLICIES, AllPolicies, PolicyList
from capstan_operator.loaders.snapshot import SnapshotLoader
from capstan_operator.loaders.stable_specs import StableSpecs
from capstan_operator.metrics import Metrics
from capstan_operator.resources.resource import ObjectKey, PolicyKey
from capstan_operator.settings import Settings
from capstan_operator.status.types import Problem

log = logging.getLogger(__name__)

UNREADABLE_RECHECK_SECONDS: Final = 15.0
"""How soon namespaces that could not be read are tried again."""
MISSING_RECHECK_SECONDS: Final = 300.0
"""And a kind that the API server does not know: a watch waits for it besides, and each run costs a compile."""


@dataclass(frozen=True)
class Judged:
    """What the last compile said about one generation of one model."""

    uid: str
    generation: int
    verdict: Verdict
    problem: Problem | None = None
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class JudgedPolicy:
    """What the last compile said about one generation of one policy."""

    uid: str
    generation: int
    verdict: PolicyVerdict
    problem: Problem | None = None
    """What is wrong with the Secrets that it names."""


@dataclass
class GatewayState:
    """What the config lane has found out; read by the models' and the policies' reconciles."""

    judged: Mapping[ObjectKey, Judged] = field(default_factory=dict)
    dependents: Mapping[ObjectKey, frozenset[ObjectKey]] = field(default_factory=dict)
    """The virtual models that name each model."""
    policies: Mapping[PolicyKey, JudgedPolicy] = field(default_factory=dict)
    config_hash: str | None = None
    """Hash of the config that is written."""
    problem: Problem | None = None
    """Why a newer one cannot be written."""
    awaiting: set[ObjectKey] = field(default_factory=set)
    """Models whose reconcile came before the config lane had seen their generation."""

    def is_compiled(self, key: ObjectKey, uid: str, generation: int, labels: Mapping[str, str] | None = None) -> bool:
        """Whether the last compile has seen this generation of this object, or a newer one, with these labels: they
        change no generation, and policies select by them."""
        judged = self.judged.get(key)
        if judged is None or judged.uid != uid or judged.generation < generation:
            return False
        return labels is None or judged.labels == labels

    def is_policy_compiled(self, key: PolicyKey, uid: str, generation: int) -> bool:
        """Whether the last compile has seen this generation of this policy, or a newer one."""
        judged = self.policies.get(key)
        return judged is not None and judged.uid == uid and judged.generation >= generation

    def verdict(self, model: Model) -> Judged | None:
        """What is known of exactly this generation; None when the config lane has not seen it yet."""
        if not self.is_compiled(model.key, model.uid, model.generation):
            self.awaiting.add(model.key)
            return None
        return self.judged[model.key]


def recheck_after(listed: AllModels, policies: AllPolicies) -> float | None:
    """Give the seconds after which what could not be read is tried again; None when all could."""
    if listed.unreadable or listed.unread or policies.is_unreadable:
        return UNREADABLE_RECHECK_SECONDS
    return MISSING_RECHECK_SECONDS if policies.is_kind_missing else None


def record_models(models: Iterable[Model], compiled: CompiledGateway) -> Records:
    """Give what each entry of a compiled config stands for."""
    served = {entry.id for entry in compiled.config.models}
    return {
        str(model.key): _recorded(model, compiled.verdicts[model.key]) for model in models if str(model.key) in served
    }


def record_policies(policies: Iterable[Policy], compiled: CompiledGateway) -> Records:
    """Give what each policy of a compiled config stands for: what is kept of one is not of this generation. One
    that is for models to come is in the config before it is accepted."""
    in_config = {entry.id for entry in compiled.config.policies}
    known = {str(key_of_policy(policy)): policy for policy in policies}
    return {
        id_: Recorded(known[id_].uid, known[id_].generation)
        if id_ in known and not compiled.policies[id_].kept
        else UNKNOWN
        for id_ in in_config
    }


def _recorded(model: Model, verdict: Verdict) -> Recorded:
    """What is served of a model that is not accepted is not of this generation, unless nobody has changed it."""
    return Recorded(model.uid, model.generation) if verdict.accepted or verdict.held else UNKNOWN


def _origins(entries: Iterable[ModelEntry]) -> dict[str, str]:
    """Give where each credential is sent, by file name."""
    return {file: origin for entry in entries for file, origin in credential_origins(entry).items()}


def _is_unchanged(model: Model) -> bool:
    """Whether the status is of the newest generation: somebody has seen the model as it is now."""
    return model.generation > 0 and model.status.get("observedGeneration") == model.generation


class GatewayConfigReconciler:
    """Reconciles the gateway config objects."""

    def __init__(
        self,
        kube: KubePort,
        loader: SnapshotLoader,
        settings: Settings,
        *,
        credentials: CredentialStore,
        acknowledger: Acknowledger,
        wake: Callable[[ObjectKey], None],
        is_busy: Callable[[ObjectKey], bool],
        metrics: Metrics,
        tell: Tell = lambda *_: None,
        keys: GatewayKeys | None = None,
        policies: PolicyList | None = None,
        wake_policy: Callable[[PolicyKey], None] = lambda _: None,
        prompts: PromptSources | None = None,
        stable_specs: StableSpecs | None = None,
    ) -> None:
        self.state = GatewayState()
        self._loader = loader
        self._policies = policies
        self._wake_policy = wake_policy
        self._writer = ConfigWriter(kube, settings)
        self._keys = keys or GatewayKeys(ApiKeys(kube, namespace=settings.build.install_namespace), metrics=metrics)
        # NB: what is written last must have the keys that are known last, whichever lane writes it.
        self._turn = asyncio.Lock()
        self._proposer = Proposer(
            kube, self._writer, settings, metrics=metrics, tell=tell, prompts=prompts, stable_specs=stable_specs
        )
        self._credentials = credentials
        self._acknowledger = acknowledger
        self._wake = wake
        self._is_busy = is_busy
        self._metrics = metrics

    async def reconcile(self) -> float | None:
        """Bring the config objects up to date; give the seconds after which to look again although nothing changes.

        Raises Terminal when the config cannot be written whatever is tried; the old one then stays.
        """
        listed, policies = await asyncio.gather(self._loader.all_models(), self._all_policies())
        models = listed.models
        proposal = await self._proposer.propose(listed, policies)
        await self._provide_credentials(models, proposal.compiled)
        async with self._turn:
            proposal = await self._with_keys(proposal)
            try:
                await self._write(proposal)
            finally:
                # NB: each of these looks at every model, and others have their turn between them.
                await self._record(models, policies.policies, proposal.compiled)
                await self._publish(models, policies.policies, proposal)
        after = recheck_after(listed, policies)
        if self._proposer.lacks_specs:
            return UNREADABLE_RECHECK_SECONDS if after is None else min(after, UNREADABLE_RECHECK_SECONDS)
        return after

    async def _all_policies(self) -> AllPolicies:
        return NO_POLICIES if self._policies is None else await self._policies.all()

    async def _with_keys(self, proposal: Proposal) -> Proposal:
        """Give what was compiled with the keys as they are known now."""
        written, compiled = self._writer.written, proposal.compiled
        is_lost = written is None and self._writer.index is not None
        config = await asyncio.to_thread(self._keys.into, compiled.config, written, is_lost=is_lost)
        proposal = replace(proposal, compiled=replace(compiled, config=config))
        self._proposer.has_keys(proposal)
        return proposal

    async def read_keys(self) -> None:
        """Bring what is known of the API keys up to date. Raises KubeError: what is known stays."""
        if self._writer.written is None:
            await self._writer.look()
        await self._keys.read(self._writer.written)

    async def write_keys(self) -> None:
        """Bring the keys of the live config up to date, and nothing else of it: no model is read for it.

        A key that is gone must not wait for anybody's list of models. Raises Terminal when the keys do not fit; those
        that are gone are out all the same.
        """
        async with self._turn:
            await self._writer.look()
            before = self._writer.written
            if before is None:
                return  # the models' part of the lane writes the first one, with all keys
            config = await asyncio.to_thread(self._keys.into, before, before)
            try:
                await self._write_keys(config, before)
            except Terminal:
                await self._write_keys(only_known(config, before), before)
                raise

    async def _write_keys(self, config: GatewayConfig, before: GatewayConfig) -> None:
        if config.hash == before.hash:
            return
        await self._writer.write(config)
        self._proposer.has_changed_keys(before.hash, config.hash)
        self.state.config_hash = config.hash
        self._acknowledger.expect_same(before.hash, config.hash)
        log.info("wrote the API keys", extra={"count": len(config.keys)})

    async def _provide_credentials(self, models: Iterable[Model], compiled: CompiledGateway) -> None:
        """Have the credentials of a config there before it, as far as they can be had at once.

        What the live config needs stays as well: nobody knows yet whether a newer one can be written.
        """
        written = self._writer.written
        live = _origins(written.models if written else ())
        of_policies = {file for entry in (written.policies if written else ()) for file in policy_files(entry)}
        self._credentials.want(
            compiled.credentials,
            owners=compiled.credential_owners,
            kept=(compiled.kept_credentials | live.keys() | of_policies) - compiled.credentials.keys(),
            unchanged=[model.key for model in models if _is_unchanged(model)],
            origins=_origins(compiled.config.models),
            live_origins=live,
        )
        await self._credentials.settle()

    def credentials_changed(self, keys: frozenset[Owner]) -> None:
        """Take in what is wrong with the credentials of these models and policies now."""
        problems, judged, policies = self._credentials.problems, dict(self.state.judged), dict(self.state.policies)
        for key in keys:
            problem = problems.get(key)
            if isinstance(key, PolicyKey):
                if key in policies and policies[key].problem != problem:
                    policies[key] = replace(policies[key], problem=problem)
                    self._wake_policy(key)
            elif key in judged and judged[key].problem != problem:
                judged[key] = replace(judged[key], problem=problem)
                self._wake(key)
        self.state.judged, self.state.policies = judged, policies

    async def _publish(self, models: Iterable[Model], policies: Iterable[Policy], proposal: Proposal) -> None:
        """Tell the models' lane what is new, and the acknowledger what to wait for."""
        verdicts, early = proposal.compiled.verdicts, self._too_early(proposal)
        await asyncio.sleep(0)
        problems, before = self._credentials.problems, self.state.judged
        judged = {
            model.key: Judged(model.uid, model.generation, verdicts[model.key], problems.get(model.key), model.labels)
            for model in models
            if model.key not in early
        }
        judged |= {key: before[key] for key in early & before.keys()}
        self.state.judged = judged
        self.state.dependents = proposal.dependents
        policies_before, self.state.policies = self.state.policies, self._judge_policies(policies, proposal.compiled)
        virtual = frozenset[ObjectKey]().union(*self.state.dependents.values())
        awaiting, self.state.awaiting = self.state.awaiting - early, self.state.awaiting & early
        await asyncio.sleep(0)
        self._metrics.models.set(len(judged))
        self._metrics.accepted.set(sum(item.verdict.served for item in judged.values()))
        accepted = sum(found.verdict.accepted for found in self.state.policies.values())
        self._metrics.policies.labels("accepted").set(accepted)
        self._metrics.policies.labels("refused").set(len(self.state.policies) - accepted)
        self._acknowledger.expect(
            self.state.config_hash,
            {key: Expected(item.uid, item.generation, item.verdict.served) for key, item in judged.items()},
            policies={
                key: Expected(found.uid, found.generation, found.verdict.in_config)
                for key, found in self.state.policies.items()
            },
            problem=self.state.problem,
        )
        await asyncio.sleep(0)
        for key, item in judged.items():
            if before.get(key) == item:
                continue
            # NB: a virtual model that is under way may have read its members before it was known to depend on them.
            if key in awaiting or key in virtual or not self._comes_anyway(key, item, before.get(key)):
                self._wake(key)
        for policy, found in self.state.policies.items():
            if policies_before.get(policy) != found:
                self._wake_policy(policy)

    def _judge_policies(
        self, policies: Iterable[Policy], compiled: CompiledGateway
    ) -> Mapping[PolicyKey, JudgedPolicy]:
        """Give what is said of each policy now."""
        verdicts, problems = compiled.policies, self._credentials.problems
        return {
            key: JudgedPolicy(policy.uid, policy.generation, verdicts[str(key)], problems.get(key))
            for policy in policies
            if str(key := key_of_policy(policy)) in verdicts
        }

    def _too_early(self, proposal: Proposal) -> frozenset[ObjectKey]:
        """Give the models of which nothing is said until the config is written, if that is tried again: those that lose
        their live entry, or keep it from an edit that is refused. A status that says more than the config would tell
        the next process that its model has been seen to."""
        written, compiled = self._writer.written, proposal.compiled
        if written is None or written.hash == compiled.config.hash or self.state.problem is not None:
            return frozenset()
        live = {key_of(entry.id) for entry in written.models}
        return frozenset(key for key, verdict in compiled.verdicts.items() if not verdict.accepted and key in live)

    def _comes_anyway(self, key: ObjectKey, item: Judged, before: Judged | None) -> bool:
        """Whether the model's own wake-up is under way and will find this: a new generation woke both lanes."""
        is_new = before is None or (before.uid, before.generation) != (item.uid, item.generation)
        return is_new and self._is_busy(key)

    async def _write(self, proposal: Proposal) -> None:
        try:
            await self._writer.write(proposal.compiled.config)
        except Terminal as error:
            self._tell_problem(Problem(error.reason, str(error)))
            raise
        self._tell_problem(None)
        await self._proposer.has_written(proposal)

    async def _record(self, models: Iterable[Model], policies: Iterable[Policy], compiled: CompiledGateway) -> None:
        """Have the ledger know what the written config stands for, whether or not it is the one that was compiled."""
        written, ledger = self._writer.written, self._acknowledger.ledger
        self.state.config_hash = written.hash if written else None
        if written is None:
            return
        records = await asyncio.to_thread(record_models, models, compiled)
        records = {**records, **record_policies(policies, compiled)}
        if written.hash != compiled.config.hash:
            known = ledger.records(written.hash) or {}
            records = records_of_written(written, known, compiled.config, records)
        ledger.record(written.hash, {**records, **splits_of(written)})

    def _tell_problem(self, problem: Problem | None) -> None:
        self.state.problem = problem
        self._metrics.tell_config_problem(problem.reason if problem else None)
