"""The table of the kinds of policies: what differs between them when a config is compiled."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from capstan_contract.entries import PolicyEntry
from capstan_operator.api.kinds import CACHEPOLICY, GUARDPOLICY, RATELIMITPOLICY, Policy
from capstan_operator.desired.caches import build_cache_entry, files_of_cache, find_cache_faults, secrets_of_cache
from capstan_operator.desired.downgrades import tell_dead
from capstan_operator.desired.guards import build_guard_entry, files_of, find_guard_faults, secrets_of
from capstan_operator.desired.limits import build_limit_entry, find_limit_faults
from capstan_operator.desired.surroundings import Surroundings
from capstan_operator.desired.unasked import tell_unasked
from capstan_operator.desired.uncached import tell_uncached
from capstan_operator.resources.resource import Fault, PolicyKey

Tell = Callable[[PolicyEntry, Surroundings], Iterator[str]]
"""Gives sentences about what a policy does not do, as the models around it are."""


@dataclass(frozen=True)
class PolicyRules:
    """How the policies of one kind are compiled."""

    faults: Callable[[Policy], tuple[Fault, ...]]
    """What keeps one from being enforced; nothing means that `build` can be asked."""
    build: Callable[[Policy, Any], PolicyEntry]
    """The entry of one, of its spec. Raises ValidationError."""
    tell: Tell = lambda *_: iter(())
    is_floor: bool = False
    """Whether one of the installation is in force beside one that is for the model itself."""
    secrets: Callable[[Policy], Mapping[str, tuple[str, str, str]]] = lambda _: MappingProxyType({})
    """The credential files that one needs, and where each comes from: (namespace, Secret, key)."""
    files: Callable[[PolicyEntry], Iterator[str]] = lambda _: iter(())
    """Those that its entry names."""


POLICY_RULES: Final[Mapping[str, PolicyRules]] = MappingProxyType(
    {
        CACHEPOLICY.name: PolicyRules(
            find_cache_faults, build_cache_entry, tell_uncached, secrets=secrets_of_cache, files=files_of_cache
        ),
        GUARDPOLICY.name: PolicyRules(
            find_guard_faults, build_guard_entry, tell_unasked, is_floor=True, secrets=secrets_of, files=files_of
        ),
        RATELIMITPOLICY.name: PolicyRules(find_limit_faults, build_limit_entry, tell_dead),
    }
)
"""By name of the kind."""


def key_of_policy(policy: Policy) -> PolicyKey:
    """Give the key of a policy among those of all kinds. Its text is the id of its entry."""
    return PolicyKey(policy.kind, *policy.key)


def find_policy_faults(policy: Policy) -> tuple[Fault, ...]:
    """Give everything that keeps a policy from being enforced; nothing means that `build_policy_entry` can be asked."""
    return judge_policy_faults(policy) if policy.judged is None else policy.judged


def judge_policy_faults(policy: Policy) -> tuple[Fault, ...]:
    """Look for the faults of a policy, whatever was found before."""
    return POLICY_RULES[policy.kind].faults(policy)


def build_policy_entry(policy: Policy) -> PolicyEntry:
    """Build the entry of a policy without faults."""
    return POLICY_RULES[policy.kind].build(policy, policy.spec)


def is_floor(kind: str) -> bool:
    """Whether policies of the installation are in force beside those of models; of kinds that are not known, too."""
    return kind in POLICY_RULES and POLICY_RULES[kind].is_floor


def tell_models(entry: PolicyEntry, around: Surroundings) -> Iterator[str]:
    """Say what a policy does not do, as the models that it names or is for are."""
    if (rules := POLICY_RULES.get(entry.kind)) is not None:
        yield from rules.tell(entry, around)


def policy_files(entry: PolicyEntry) -> frozenset[str]:
    """Give the credential files that the entry of a policy names."""
    rules = POLICY_RULES.get(entry.kind)
    return frozenset() if rules is None else frozenset(rules.files(entry))
