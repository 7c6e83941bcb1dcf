"""The gateway config of all LLMModels, and what became of each.

A name (served name, alias, adapter's name) has one owner in the whole cluster: the LLMModel that has it in the live
config, then the oldest that claims it, then the first by namespace and name (see `claims`). A model that loses its
served name is left out and claims nothing; one that loses another name does without that name. What becomes of virtual
models is said in `members`, what of a faulty edit in `candidates`.

Nothing that one namespace writes changes what the names of another one reach: names stay with who has them, members
are of the model's own namespace, and fallbacks are bound here to models that the namespace may use.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from capstan_contract.config import Backend, GatewayConfig, ModelEntry, ServiceBackend, StaticBackend
from capstan_operator.api.kinds import Model, Policy
from capstan_operator.desired.candidates import (
    ACCEPTED,
    INVALID,
    Candidate,
    Drafts,
    held_candidate,
    invalid,
    judge_alone,
    unread_candidate,
    unread_candidates,
)
from capstan_operator.desired.claims import Awards, award
from capstan_operator.desired.entries import credential_files, credentials_of, default_backend
from capstan_operator.desired.fallbacks import bind_fallbacks
from capstan_operator.desired.live import LiveConfig, key_of, names_of
from capstan_operator.desired.members import add_virtual, dependence, describe
from capstan_operator.desired.name_rules import CONFLICTED, NO_RULES, NameRules, lost_to, name_fields
from capstan_operator.desired.policies import NO_POLICIES, AttachedPolicies, Policies, attach_policies
from capstan_operator.desired.prices import NO_PRICES, PriceTable
from capstan_operator.desired.queueing import InstalledQueue, queue_credential
from capstan_operator.desired.rollouts.entry import build_canary, kept_canary
from capstan_operator.desired.starting import start_failure_of
from capstan_operator.desired.types import CompiledGateway, LostName, Verdict
from capstan_operator.resources.resource import ObjectKey

__all__ = ["INVALID", "Compiler", "compile_gateway", "default_backend", "invalid"]

MOST_RESERVED_BYTES: Final = 131_072
"""So much of the config may be names that nobody is served under."""


def compile_gateway(
    models: Iterable[Model],
    *,
    policies: Iterable[Policy] = (),
    live: LiveConfig | None = None,
    rules: NameRules = NO_RULES,
    backend_of: Callable[[Model], Backend] = default_backend,
    queue: InstalledQueue | None = None,
) -> CompiledGateway:
    """Compile the gateway config, with a verdict for each model and each policy. The order of neither matters.

    `live` is the config that the gateways run now: None where there is none, as for manifests in files. `backend_of`
    says where a model that is not virtual is answered; by default its Service, or the hosted API that it names.
    `queue` is that of the installation.
    """
    found = Policies(tuple(policies))
    return Compiler(backend_of=backend_of, queue=queue).compile(models, policies=found, live=live, rules=rules)


class Compiler:
    """Compiles again and again: an entry that is as it was before is the same object again. Not for two threads."""

    def __init__(
        self, *, backend_of: Callable[[Model], Backend] = default_backend, queue: InstalledQueue | None = None
    ) -> None:
        self._backend_of = backend_of
        self._queue = queue
        self._drafts = Drafts(queue=queue)
        self._entries: dict[str, ModelEntry] = {}

    def compile(
        self,
        models: Iterable[Model],
        *,
        policies: Policies = NO_POLICIES,
        prices: PriceTable = NO_PRICES,
        live: LiveConfig | None = None,
        rules: NameRules = NO_RULES,
        unread: frozenset[str] = frozenset(),
        unread_models: Sequence[Model] = (),
        held: Mapping[ObjectKey, Verdict] = MappingProxyType({}),
    ) -> CompiledGateway:
        """Compile: see `compile_gateway`.

        Of namespaces that are `unread` nobody knows the models: what is live of them stays as it is. So does what is
        live of `unread_models`, whose specs are not whole, and of the models that are `held` (see `hold`), which get
        these verdicts. `prices` is what hosted models cost that do not say it.
        """
        live = live or LiveConfig()
        self._drafts.price_by(prices)
        known = {model.key: model for model in models}
        candidates = {
            key: judge_alone(model, live=live, rules=rules, drafts=self._drafts, backend_of=self._backend_of)
            for key, model in sorted(known.items())
        }
        self._drafts.keep_only(known)
        candidates |= {model.key: unread_candidate(model, live, rules) for model in unread_models}
        known |= {model.key: model for model in unread_models}
        away = unread - {key.namespace for key in known}
        candidates |= {one.key: one for one in unread_candidates(live, away, rules)}
        for key, verdict in held.items():
            candidates[key] = held_candidate(candidates[key], verdict, live.entries[str(key)], rules)
        claimants = [one for candidate in candidates.values() if (one := candidate.claimant())]
        run = _Run(known, candidates, award(claimants, live.holders), rules, live, self._queue)
        run.add_entries()
        run.bind_fallbacks()
        run.attach(policies)
        run.tell_starts()
        run.add_canaries()
        self._entries = {id_: _same(self._entries.get(id_), entry) for id_, entry in run.entries.items()}
        return run.result(self._entries)


def _same(before: ModelEntry | None, now: ModelEntry) -> ModelEntry:
    return before if before is not None and (before is now or before == now) else now


@dataclass
class _Run:
    """One compile, after it is known who has which name."""

    models: Mapping[ObjectKey, Model]
    candidates: Mapping[ObjectKey, Candidate]
    awards: Awards
    rules: NameRules
    live: LiveConfig
    queue: InstalledQueue | None = None
    entries: dict[str, ModelEntry] = field(default_factory=dict)
    verdicts: dict[ObjectKey, Verdict] = field(default_factory=dict)
    attached: AttachedPolicies = field(default_factory=AttachedPolicies)

    def add_entries(self) -> None:
        """Add the members of virtual models before these."""
        for candidate in sorted(self.candidates.values(), key=dependence):
            verdict, entry = self._judge(candidate)
            if entry is not None and candidate.is_virtual:
                verdict, entry = add_virtual(candidate, entry, verdict, self.models, self.verdicts, self.entries)
            self.verdicts[candidate.key] = verdict
            if entry is not None:
                self.entries[entry.id] = entry

    def _judge(self, candidate: Candidate) -> tuple[Verdict, ModelEntry | None]:
        """Give the verdict as far as names go, and the entry with the names that the model has."""
        draft = candidate.draft
        if draft is None:
            return candidate.verdict, None
        if name := self.awards.out.get(candidate.key):
            lost = lost_to("spec.model.servedName", name, self.awards.owners[name])
            return Verdict(accepted=False, reason=CONFLICTED, message=lost.message), None
        losses = (*candidate.lost_names, *self._lost_to_others(candidate, draft))
        if not losses:
            return candidate.verdict, draft
        return replace(candidate.verdict, lost_names=losses), without_names(draft, {one.name for one in losses})

    def _lost_to_others(self, candidate: Candidate, draft: ModelEntry) -> Iterable[LostName]:
        lost = {one.name for one in candidate.lost_names}
        for path, name in name_fields(draft):
            if name not in lost and (winner := self.awards.owners[name]) != candidate.key:
                yield lost_to(path, name, winner)

    def bind_fallbacks(self) -> None:
        """Leave out the fallbacks that a model may not use, once it is known which models are served."""
        owners = {name: id_ for id_, entry in self.entries.items() for name in names_of(entry)}
        for id_, entry in self.entries.items():
            if entry.fallbacks:
                bound, lost = bind_fallbacks(entry, owners, self.rules)
                self.entries[id_] = bound
                key = ObjectKey(*id_.split("/", 1))
                if lost:
                    self.verdicts[key] = replace(self.verdicts[key], lost_fallbacks=lost)

    def attach(self, policies: Policies) -> None:
        """Say of each entry which policies are in force on it: of one that stays, too, those of now."""
        self.attached = attach_policies(policies, self.entries, self.models, live=self.live, rules=self.rules)
        for id_, entry in self.entries.items():
            if (ids := self.attached.on.get(id_, ())) != entry.policies:
                self.entries[id_] = entry.model_copy(update={"policies": ids})
            if ids and (key := key_of(id_)) in self.verdicts:
                self.verdicts[key] = replace(self.verdicts[key], policies=ids)

    def tell_starts(self) -> None:
        """Say of each entry whether replicas come up, as the status says now: also of one that stays."""
        for id_, entry in self.entries.items():
            model = self.models.get(key_of(id_))
            failure = start_failure_of(model.status) if model and _has_replicas(entry.backend) else None
            if failure != entry.startFailure:
                self.entries[id_] = entry.model_copy(update={"startFailure": failure})

    def add_canaries(self) -> None:
        """Say of each entry which other revision is tried, as the status says now; one that stays keeps what it has,
        but for a canary that has failed meanwhile."""
        for id_, entry in self.entries.items():
            model = self.models.get(key_of(id_))
            if model is None:
                continue
            stays = model.spec is None or self.candidates[model.key].stays
            canary = kept_canary(model, entry.canary) if stays else build_canary(model, entry)
            if canary != entry.canary:
                self.entries[id_] = entry.model_copy(update={"canary": canary})

    def result(self, entries: Mapping[str, ModelEntry]) -> CompiledGateway:
        """Give the config of these entries, and the verdicts with what each model does without in words."""
        credentials: dict[str, tuple[str, str, str]] = dict(self.attached.secrets)
        kept: set[str] = set(self.attached.kept_files)
        for candidate in self.candidates.values():
            entry = entries.get(str(candidate.key))
            if entry is None:
                continue
            if candidate.stays:
                kept |= credential_files(entry)
            elif candidate.model.spec:
                credentials.update(credentials_of(candidate.model, candidate.model.spec.external))
                credentials.update(queue_credential(candidate.model, candidate.model.spec, self.queue))
        return CompiledGateway(
            config=GatewayConfig.build(
                tuple(entries.values()), policies=self.attached.entries, reserved=self._reserved(entries)
            ),
            verdicts=MappingProxyType({key: _in_words(verdict) for key, verdict in sorted(self.verdicts.items())}),
            credentials=MappingProxyType(dict(sorted(credentials.items()))),
            kept_credentials=frozenset(kept),
            credential_owners=self.attached.owners,
            policies=self.attached.verdicts,
        )

    def _reserved(self, entries: Mapping[str, ModelEntry]) -> dict[str, str]:
        """Give the names of those that have no entry although they have got what they claim: their members are gone.

        There are bounds to it, so that nobody's names keep the config from fitting; who is in it stays in it.
        """
        wanted = {name: str(key) for name, key in self.awards.owners.items() if str(key) not in entries}
        room, reserved = MOST_RESERVED_BYTES, dict[str, str]()
        for name in sorted(wanted, key=lambda name: (name not in self.live.holders, name)):
            room -= len(name) + len(wanted[name])
            if room < 0:
                break
            reserved[name] = wanted[name]
        return reserved


def without_names(entry: ModelEntry, names: set[str]) -> ModelEntry:
    """Give an entry without some of its aliases and adapters."""
    return entry.model_copy(
        update={
            "aliases": tuple(alias for alias in entry.aliases if alias not in names),
            "adapters": tuple(adapter for adapter in entry.adapters if adapter.servedName not in names),
        }
    )


def _in_words(verdict: Verdict) -> Verdict:
    """Add to the message of an accepted model what it does without."""
    if not verdict.accepted or not verdict.without:
        return verdict
    message = f"{ACCEPTED.message}, with less than it names: {describe(verdict.without)}"
    return replace(verdict, message=message)


def _has_replicas(backend: Backend) -> bool:
    """Whether replicas of ours answer: those of a Service; or processes, of which none is ready."""
    return isinstance(backend, ServiceBackend) or (isinstance(backend, StaticBackend) and not backend.urls)
