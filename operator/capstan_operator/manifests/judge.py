"""What there is to say of a resource by itself, beyond its schema: one entry for each kind that says something."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from capstan_operator.api.kinds import LLMMODEL, POLICY_KINDS
from capstan_operator.desired.faults import find_doubts, find_faults, find_hindrances
from capstan_operator.desired.policy_kinds import find_policy_faults
from capstan_operator.manifests.collect import Manifests
from capstan_operator.manifests.documents import Diagnostic, Severity, about
from capstan_operator.resources.resource import Fault

Look = Callable[[Any], tuple[Fault, ...]]


def _nothing(_resource: object) -> tuple[Fault, ...]:
    return ()


@dataclass(frozen=True)
class Judge:
    """How the resources of one kind are looked at; each function gets a resource whose schema holds."""

    faults: Look
    """What keeps it from being used, wherever it is."""
    hindrances: Look = _nothing
    """What an ordinary cluster cannot run as it is meant."""
    doubts: Look = _nothing
    """What is hardly meant."""


JUDGES: Final[Mapping[str, Judge]] = MappingProxyType(
    {
        LLMMODEL.name: Judge(find_faults, find_hindrances, find_doubts),
        **{kind.name: Judge(find_policy_faults) for kind in POLICY_KINDS},
    }
)
"""By name of the kind. A kind that is not here has nothing to say beyond its schema."""


def find_resource_faults(manifests: Manifests, judges: Mapping[str, Judge] = JUDGES) -> Iterator[Diagnostic]:
    """Give what keeps resources from being used although their schema allows them."""
    return _look(manifests, judges, lambda judge: judge.faults, Severity.ERROR)


def judge_resources(manifests: Manifests, judges: Mapping[str, Judge] = JUDGES) -> Iterator[Diagnostic]:
    """Give all that is to be said of each resource before a cluster gets it."""
    yield from find_resource_faults(manifests, judges)
    yield from _look(manifests, judges, lambda judge: judge.hindrances, Severity.ERROR)
    yield from _look(manifests, judges, lambda judge: judge.doubts, Severity.WARNING)


def _look(
    manifests: Manifests, judges: Mapping[str, Judge], how: Callable[[Judge], Look], severity: Severity
) -> Iterator[Diagnostic]:
    for address, resource in manifests.resources.items():
        judge = judges.get(address.kind)
        if judge is not None and resource.spec is not None:
            origin = manifests.origins[address]
            yield from (about(origin, fault.message, fault.field, severity) for fault in how(judge)(resource))
