"""What a reader of the config must know, and what becomes of entries that need more than it does.

To add a requirement: build what it is about into the gateway, then put its name into KNOWN, in the same release or an
earlier one than the operator that writes it. The same holds for a kind of policy. A change of the contract that an
older reader would ignore, and must not, or could not read at all, needs a requirement of its own.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic import ValidationError

from capstan_contract.caches import CACHE_EMBEDDING, CACHE_KIND, check_cache_body
from capstan_contract.config import (
    CascadeBackend,
    CascadeEstimator,
    EstimatorType,
    ModelEntry,
    RouterBackend,
    referenced_models,
)
from capstan_contract.guards import GUARD_KIND, check_guard_body
from capstan_contract.limits import RATE_LIMIT_KIND, check_body

BodyCheck = Callable[[Mapping[str, Any]], object]
"""Reads the body of a kind; raises a ValueError, such as ValidationError, when it cannot be read or enforced."""
_BODIES: Final[Mapping[str, BodyCheck]] = {
    RATE_LIMIT_KIND: check_body,
    GUARD_KIND: check_guard_body,
    CACHE_KIND: check_cache_body,
}


@dataclass(frozen=True)
class Known:
    """What a reader knows."""

    requirements: frozenset[str] = frozenset()
    policy_kinds: frozenset[str] = frozenset()
    bodies: Mapping[str, BodyCheck] = field(default_factory=lambda: _BODIES)
    """What reads the bodies of policies, by their kinds."""

    def reading(self, bodies: Mapping[str, BodyCheck]) -> "Known":
        """Give the same with other checks for these kinds: of a reader that knows better what it can enforce."""
        return replace(self, bodies={**self.bodies, **bodies})


TENANT_SALT: Final = "tenantSalt"
"""Requests bring a salt of their tenant's (`ModelEntry.tenantSalt`)."""
TRANSCRIPTIONS: Final = "transcriptions"
"""It is of the task `transcribe`: what is asked of it is a form, with a file in it."""
KNOWN: Final = Known(
    requirements=frozenset((TENANT_SALT, CACHE_EMBEDDING, TRANSCRIPTIONS)),
    policy_kinds=frozenset((RATE_LIMIT_KIND, GUARD_KIND, CACHE_KIND)),
)
"""What this release knows."""


def unknown_requirements(raw: Mapping[str, Any], known: Known) -> tuple[str, ...]:
    """The requirements of an entry, or of a config, that are not known. It need not be readable otherwise."""
    requires = raw.get("requires", [])
    if not isinstance(requires, list) or not all(isinstance(name, str) for name in requires):
        return ("requires/unreadable",)
    return tuple(sorted(set(requires) - known.requirements))


def objections_to_policy(raw: Mapping[str, Any], known: Known) -> tuple[str, ...]:
    """Say why a policy cannot be enforced; nothing when it can."""
    kind = raw.get("kind")
    objections = unknown_requirements(raw, known)
    if not isinstance(kind, str):
        return ("kind/unreadable", *objections)
    if kind not in known.policy_kinds:
        return (f"kind/{kind}", *objections)
    check = known.bodies.get(kind)
    return objections if check is None else (*_objections_to_body(raw.get("body", {}), check), *objections)


def _objections_to_body(body: object, check: BodyCheck) -> tuple[str, ...]:
    """Say why the body of a policy cannot be read: nobody is served with half of what protects a model."""
    if not isinstance(body, dict):
        return ("field/body: must be an object",)
    try:
        check(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        return (f"field/{'.'.join(('body', *map(str, first['loc'])))}: {first['msg']}",)
    except ValueError as error:
        return (f"field/body: {error}",)
    return ()


def objections_to_model(raw: Mapping[str, Any], known: Known, policies: Collection[str]) -> tuple[str, ...]:
    """Say why a model must not be served; nothing when it may. `policies` are those that are enforced."""
    named = raw.get("policies", [])
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        return ("policies/unreadable",)
    return (*unknown_requirements(raw, known), *(f"policy/{name}" for name in named if name not in policies))


def without_refused(
    models: Iterable[ModelEntry], refused: Mapping[str, tuple[str, ...]]
) -> tuple[list[ModelEntry], dict[str, tuple[str, ...]]]:
    """The models that may be served when some are refused, and all that are refused.

    A virtual model does without its refused members, and is refused when nothing of it is left.
    """
    gone, kept = dict(refused), list(models)
    # Cascades first, since routers may have them as members.
    for virtual in (CascadeBackend, RouterBackend):
        before, kept = kept, []
        for entry in before:
            if not isinstance(entry.backend, virtual) or gone.keys().isdisjoint(referenced_models(entry.backend)):
                kept.append(entry)
            elif (backend := _without(entry.backend, gone.keys())) is not None:
                kept.append(entry.model_copy(update={"backend": backend}))
            else:
                gone[entry.id] = _missing(referenced_models(entry.backend), gone)
    return kept, gone


def _missing(members: Sequence[str], gone: Collection[str]) -> tuple[str, ...]:
    return tuple(f"member/{member}" for member in dict.fromkeys(members) if member in gone)


def _without(backend: RouterBackend | CascadeBackend, gone: Collection[str]) -> RouterBackend | CascadeBackend | None:
    """A backend without these members; None when it cannot answer any more."""
    if isinstance(backend, RouterBackend):
        members = tuple(member for member in backend.members if member.model not in gone)
        return backend.model_copy(update={"members": members}) if members else None
    left = tuple(member for member in backend.members if member not in gone)
    estimator = backend.estimator
    if estimator.judge in gone:
        if estimator.type is EstimatorType.JUDGE:
            return None
        estimator = CascadeEstimator(type=estimator.type)
    return backend.model_copy(update={"members": left, "estimator": estimator}) if left else None
