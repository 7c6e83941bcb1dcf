"""The policies of a config: each judged by itself, then attached, then what is to be said of each.

What keeps a limit alive is the same as what keeps a model alive. A faulty edit leaves the limits in force that were
accepted last, on the models that they were for; so do a namespace, or a whole kind, that cannot be read. Only a policy
that somebody has deleted, or changed into a sound one, ends what was in force. One that was never accepted is in force
nowhere: there is nothing to fall back to, and a model is not taken away because somebody tries to limit it and fails.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from capstan_contract.config import ModelEntry
from capstan_contract.entries import PolicyEntry, PolicyTargets
from capstan_contract.limits import Mode
from capstan_operator.api.kinds import Model, Policy
from capstan_operator.api.policies import MOST_LOSSES
from capstan_operator.desired.attach import CONFLICTED, Attachable, Attachments, Present, attach
from capstan_operator.desired.live import LiveConfig, key_of
from capstan_operator.desired.name_rules import NameRules
from capstan_operator.desired.policy_kinds import (
    POLICY_RULES,
    build_policy_entry,
    find_policy_faults,
    is_floor,
    key_of_policy,
    policy_files,
    tell_models,
)
from capstan_operator.desired.surroundings import Surroundings
from capstan_operator.desired.types import Loss, PolicyVerdict
from capstan_operator.resources.resource import Fault, ObjectKey, PolicyKey

TARGET_NOT_FOUND: Final = "TargetNotFound"
NOT_SERVED: Final = "NotServed"
ACCEPTED: Final = "Accepted"
MOST_NAMED: Final = 3
"""So many models are named in a message; the status names more of them."""


@dataclass(frozen=True)
class Policies:
    """The policies that were listed."""

    known: tuple[Policy, ...] = ()
    is_unread: Callable[[PolicyKey], bool] = field(default=lambda _: False)
    """Whether nobody knows the policies of a kind and a namespace: what is live of them stays as it is."""


NO_POLICIES: Final = Policies()


@dataclass(frozen=True)
class _Candidate:
    """One policy, and what it would have in the config."""

    key: PolicyKey
    created: str
    verdict: PolicyVerdict
    entry: PolicyEntry | None = None
    policy: Policy | None = None
    """None: nobody knows it as it is now."""

    def attachable(self, entry: PolicyEntry) -> Attachable:
        return Attachable(
            entry.id,
            entry.kind,
            self.key.object,
            self.created,
            mode_of(entry),
            entry.targets or PolicyTargets(),
            is_floor(entry.kind),
        )


@dataclass(frozen=True)
class AttachedPolicies:
    """What the policies come to."""

    entries: tuple[PolicyEntry, ...] = ()
    on: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Ids of the policies that are in force on each model, by its id; of no other models."""
    verdicts: Mapping[str, PolicyVerdict] = field(default_factory=lambda: MappingProxyType({}))
    """By id of the policy."""
    secrets: Mapping[str, tuple[str, str, str]] = field(default_factory=lambda: MappingProxyType({}))
    """The credential files of the entries, and where each comes from: (namespace, Secret, key)."""
    owners: Mapping[str, PolicyKey] = field(default_factory=lambda: MappingProxyType({}))
    """Whose they are."""
    kept_files: frozenset[str] = frozenset()
    """The credential files of entries that stay although nobody can say any more where they come from."""


def mode_of(entry: PolicyEntry) -> str:
    """Give the mode of a policy: every kind has it in its body, and leaves it out where it enforces."""
    return str(entry.body.get("mode", Mode.ENFORCE))


def policy_key(id_: str) -> PolicyKey:
    """Give the policy that an entry is of."""
    kind, _, key = id_.partition("/")
    return PolicyKey(kind, *key_of(key))


def attach_policies(
    policies: Policies,
    entries: Mapping[str, ModelEntry],
    models: Mapping[ObjectKey, Model],
    *,
    live: LiveConfig,
    rules: NameRules,
) -> AttachedPolicies:
    """Judge the policies, and attach them to the models that have an entry; `models` are all that were listed."""
    candidates = {str(one.key): one for one in _judge(policies, live, rules)}
    if not candidates:
        return AttachedPolicies()
    sound = {id_: one.entry for id_, one in candidates.items() if one.entry is not None}
    served = {key_of(id_): entry for id_, entry in entries.items()}
    labels = {key: models[key].labels for key in served.keys() & models.keys()}
    present = Present(
        {key_of(id_): entry.policies for id_, entry in live.entries.items() if entry.policies},
        {id_: mode_of(entry) for id_, entry in live.policies.items()},
    )
    attached = attach((candidates[id_].attachable(entry) for id_, entry in sound.items()), labels, present=present)
    on = {str(key): ids for key, ids in attached.on.items()}
    for key in served.keys() - models.keys():
        # Nobody knows the labels of these: they keep what they have, as far as there still is such a policy.
        if kept := tuple(id_ for id_ in live.entries[str(key)].policies if id_ in sound):
            on[str(key)] = kept
    places: defaultdict[str, list[ObjectKey]] = defaultdict(list)
    for key, ids in attached.on.items():
        for id_ in ids:
            places[id_].append(key)
    around = Surroundings(served, models)
    verdicts = {
        id_: _conclude(one, attached, replace(around, on=places.get(id_, ())))
        for id_, one in sorted(candidates.items())
    }
    kept_ids = {id_ for ids in on.values() for id_ in ids}
    left = tuple(entry for id_, entry in sound.items() if verdicts[id_].in_config or id_ in kept_ids)
    return _with_secrets(AttachedPolicies(left, on, verdicts), candidates)


def _with_secrets(attached: AttachedPolicies, candidates: Mapping[str, _Candidate]) -> AttachedPolicies:
    """Say which credentials the entries need."""
    secrets: dict[str, tuple[str, str, str]] = {}
    owners: dict[str, PolicyKey] = {}
    kept: set[str] = set()
    for entry in attached.entries:
        candidate = candidates[entry.id]
        if candidate.policy is None:
            kept |= policy_files(entry)
            continue
        found = POLICY_RULES[entry.kind].secrets(candidate.policy)
        secrets |= found
        owners |= dict.fromkeys(found, candidate.key)
    return replace(attached, secrets=dict(sorted(secrets.items())), owners=owners, kept_files=frozenset(kept))


def _judge(policies: Policies, live: LiveConfig, rules: NameRules) -> Iterator[_Candidate]:
    known = {key_of_policy(policy) for policy in policies.known}
    for policy in policies.known:
        yield _judge_alone(policy, live, rules)
    for id_, entry in live.policies.items():
        key = policy_key(id_)
        if key not in known and policies.is_unread(key):
            unread = PolicyVerdict(accepted=False, reason="Unread", message="its namespace cannot be read", kept=True)
            yield _Candidate(key, "", unread, entry)


def _judge_alone(policy: Policy, live: LiveConfig, rules: NameRules) -> _Candidate:
    key = key_of_policy(policy)
    if policy.deleting:
        gone = PolicyVerdict(accepted=False, reason="Deleting", message="the policy is being deleted")
        return _Candidate(key, policy.created, gone)
    faults = (*find_policy_faults(policy), *find_target_faults(policy, rules))
    if not faults:
        sound = PolicyVerdict(accepted=True, reason=ACCEPTED, message="")
        return _Candidate(key, policy.created, sound, build_policy_entry(policy), policy)
    message = "; ".join(str(fault) for fault in faults)
    last = live.policies.get(str(key))
    if last is None or last.uid != policy.uid:
        return _Candidate(key, policy.created, PolicyVerdict(accepted=False, reason="Invalid", message=message))
    kept = PolicyVerdict(
        accepted=False, reason="Invalid", message=f"{message}; what was accepted last stays in force", kept=True
    )
    return _Candidate(key, policy.created, kept, last)


def find_target_faults(policy: Policy, rules: NameRules) -> tuple[Fault, ...]:
    """Only who may speak for everybody may leave out whom a policy is for."""
    spec = policy.spec
    if spec is None or spec.targetRefs or spec.targetSelector is not None:
        return ()
    if rules.may_be_everywhere(policy.key.namespace):
        return ()
    message = (
        "must have `targetRefs` or `targetSelector`: only a policy of the namespace that Capstan is installed in may be"
        " for all models; `targetSelector: {}` is for all of this namespace"
    )
    return (Fault("spec", message),)


def _conclude(candidate: _Candidate, attached: Attachments, around: Surroundings) -> PolicyVerdict:
    """Say what a policy comes to once all are attached."""
    verdict, entry = candidate.verdict, candidate.entry
    if entry is None:
        return verdict
    losses = (*attached.losses.get(entry.id, ()), *_missing(candidate.key.object, entry, around))
    count = attached.counts.get(entry.id, 0)
    verdict = replace(
        verdict,
        models=count,
        lost=len(losses),
        losses=tuple(sorted(losses, key=lambda one: one.model)[:MOST_LOSSES]),
        in_config=True,
    )
    if not verdict.accepted:
        return verdict
    reason = _objection(losses, count)
    accepted = reason is None
    return replace(
        verdict,
        accepted=accepted,
        reason=reason or ACCEPTED,
        message="; ".join([_message(losses, count), *tell_models(entry, around)]),
        # What another one is in force instead of is in force nowhere, and gateways need not know it.
        in_config=reason != CONFLICTED,
    )


def _missing(key: ObjectKey, entry: PolicyEntry, around: Surroundings) -> Iterator[Loss]:
    for name in entry.targets.names if entry.targets else ():
        model = ObjectKey(key.namespace, name)
        if model not in around.served:
            yield Loss(model, NOT_SERVED if model in around.models else TARGET_NOT_FOUND)


def _objection(losses: Collection[Loss], count: int) -> str | None:
    """Say why a policy is not accepted: all that it is for have another one, or nothing that it names is there."""
    if count or not losses:
        return None
    reasons = {loss.reason for loss in losses}
    if CONFLICTED in reasons:
        return CONFLICTED
    return TARGET_NOT_FOUND if reasons == {TARGET_NOT_FOUND} else None


def _message(losses: Collection[Loss], count: int) -> str:
    models = f"{count} model{'' if count == 1 else 's'}"
    parts = [f"in force on {models}" if count else "in force on no model"]
    parts += [f"not on {text}" for text in _reasons(losses)]
    return "; ".join(parts)


def _reasons(losses: Iterable[Loss]) -> Iterator[str]:
    """Say for each reason which models it is, the first of them by name."""
    groups: dict[tuple[str, str | None], list[ObjectKey]] = {}
    for loss in sorted(losses, key=lambda one: (one.reason, one.winner or "", one.model)):
        groups.setdefault((loss.reason, loss.winner), []).append(loss.model)
    for (reason, winner), found in list(groups.items())[:MOST_NAMED]:
        names = ", ".join(f"'{key.name}'" for key in found[:MOST_NAMED])
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        yield f"{names}{more}, {_why(reason, winner)}"
    if len(groups) > MOST_NAMED:
        yield "others, for which see the losses below"


def _why(reason: str, winner: str | None) -> str:
    if winner is not None:
        key = policy_key(winner)
        beaten = "is in force" if reason == CONFLICTED else "is for the model itself and comes first"
        return f"where the {key.kind} '{key.object}' {beaten}"
    return "which is not served" if reason == NOT_SERVED else "which is not there"
