"""What becomes of one credential: the value that the gateway gets, and what its LLMModel says about it. Pure.

- A Secret that an external model names carries our label: whoever owns the Secret says so that LLMModels of the
  namespace may use it. A value that was in use before is in use still, with a word about it.
- A value that can no longer be had stays for a grace, and for as long as the API server only fails to say.
- A value is under the name of its reference (see `credential_file`), so one never answers for another, and none goes
  to another host than before without the label.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from capstan_contract.caches import LEAST_SEALING_BYTES
from capstan_contract.names import CREDENTIAL_LABEL
from capstan_operator.desired.naming import QUEUE_KEY, is_of_policy, is_sealing_key, owner_of_credential
from capstan_operator.resources.resource import Manifest, ObjectKey, PolicyKey
from capstan_operator.status.types import Problem

Owner: TypeAlias = ObjectKey | PolicyKey
"""Who needs a credential: a model, or a policy."""
MOST_VALUE_BYTES: Final = 16 * 1024
"""Of a value as base64. No provider takes a longer header, and one model's must not crowd out those of others."""


@dataclass(frozen=True)
class Reference:
    """Where the credential of a file comes from."""

    namespace: str
    secret: str
    key: str


class Takeover(NamedTuple):
    """What was true of a file when it was first wanted: it says whether a former release's value is for it."""

    is_same: bool
    """The model was as the former release had seen it."""
    origin: str | None
    """Where the live config sent what the former release had kept for it."""


@dataclass(frozen=True)
class Reading:
    """What the last look at a Secret has said."""

    values: Mapping[str, str] | None = field(default=None, repr=False)
    """Its data as base64; None when it could not be had."""
    labelled: bool = False
    missing: bool = False
    forbidden: bool = False
    """Neither of the two: the API server could not say."""


@dataclass(frozen=True)
class Held:
    """What a Secret of the gateway holds under a file's name."""

    value: str = field(repr=False)
    unlabelled: bool = False
    """It was copied from a Secret without our label."""


@dataclass(frozen=True)
class Decision:
    """What is to be held under a file's name, and what is wrong."""

    held: Held | None = None
    problem: Problem | None = None
    is_lost: bool = False
    """The value can no longer be had: the grace runs."""


@dataclass(frozen=True)
class Rules:
    """What the settings say."""

    require_label: bool = True
    grace: float = 600.0


def read_secret(manifest: Manifest) -> Reading:
    """Give what a Secret says."""
    labels = (manifest.get("metadata") or {}).get("labels") or {}
    values = {str(key): str(value) for key, value in (manifest.get("data") or {}).items() if value}
    return Reading(values=values, labelled=labels.get(CREDENTIAL_LABEL) == "true")


def decide(
    file: str,
    reference: Reference,
    reading: Reading | None,
    held: Held | None,
    *,
    lost_for: float | None,
    rules: Rules,
) -> Decision:
    """Decide on one credential. `reading` is None before the first look; `lost_for`: seconds since it was lost."""
    if reading is None:
        return Decision(held)
    subject = _subject(file, reference)
    if reading.values is None and not (reading.missing or reading.forbidden):
        return Decision(held, Problem("SecretUnreadable", f"{subject} could not be read{_still(held)}", bool(held)))
    if objection := _objection(file, reference, reading, held, rules):
        is_over = lost_for is not None and lost_for >= rules.grace
        kept = None if is_over else held
        reason, predicate = objection
        return Decision(kept, Problem(reason, f"{subject} {predicate}{_still(kept)}", bool(kept)), is_lost=True)
    value = (reading.values or {})[reference.key]
    if reading.labelled or not rules.require_label:
        return Decision(Held(value, unlabelled=not reading.labelled))
    return Decision(
        Held(value, unlabelled=True),
        Problem("SecretNotLabelled", f"{subject} {_want_of_label(reference)}; it was in use before and is still", True),
    )


def _objection(
    file: str, reference: Reference, reading: Reading, held: Held | None, rules: Rules
) -> tuple[str, str] | None:
    """Say why a value cannot be had: reason and predicate."""
    if reading.missing:
        return "SecretNotFound", "is not there"
    if reading.forbidden:
        return "SecretForbidden", "may not be read by the operator"
    # NB: without the label, not even whether the key exists is told.
    if rules.require_label and not reading.labelled and not (held and held.unlabelled):
        return "SecretNotLabelled", _want_of_label(reference)
    value = (reading.values or {}).get(reference.key)
    if not value:
        return "SecretKeyNotFound", f"has no key '{reference.key}'"
    if len(value) > MOST_VALUE_BYTES:
        return "SecretValueTooLarge", f"has a value under '{reference.key}' that is too large for an API key"
    if is_sealing_key(file) and len(value) * 3 // 4 - value.count("=") < LEAST_SEALING_BYTES:
        short = f"that is shorter than {LEAST_SEALING_BYTES} bytes: what entries are sealed with must not be guessed"
        return "SecretValueTooShort", f"has a value under '{reference.key}' {short}"
    return None


def _want_of_label(reference: Reference) -> str:
    command = f"kubectl label secret {reference.secret} -n {reference.namespace} {CREDENTIAL_LABEL}=true"
    return f"does not say that LLMModels may use it: {command}"


def _still(held: Held | None) -> str:
    return "; its last value stays in use for now" if held else ""


def _subject(file: str, reference: Reference) -> str:
    if is_of_policy(file):
        return f"the Secret '{reference.secret}' that the policy names"
    endpoint = owner_of_credential(file)[1]
    if endpoint == QUEUE_KEY:
        return f"the Secret '{reference.secret}' that seals the model's queue (`queue.sealSecret` of the chart)"
    where = f"spec.external.endpoints[name={endpoint}]" if endpoint else "spec.external"
    return f"the Secret '{reference.secret}' that `{where}.secretRef` names"


def adopt(
    reading: Reading | None, reference: Reference, former: str | None, *, is_same: bool, goes_elsewhere: bool
) -> Held | None:
    """Say whether a value that a former release has kept, without its reference, is that of this reference.

    Never when it `goes_elsewhere`: not to the scheme, host and port to which the former release has sent it. `is_same`:
    the model had not changed since when it was first looked at. If it had, only a Secret that still has this very value
    says so.
    """
    # NB: `is_same` is no word for where a value goes: once its status is written, an edited model is as it was, too.
    if former is None or goes_elsewhere:
        return None
    found = (reading.values or {}).get(reference.key) if reading else None
    return Held(former, unlabelled=True) if is_same or found == former else None


def owner_of(file: str, owners: Mapping[str, PolicyKey]) -> Owner | None:
    """Give who needs a credential; the name of a file says which model, and not which policy. None: nobody knows."""
    return owners.get(file) if is_of_policy(file) else owner_of_credential(file)[0]


def by_owner(
    decisions: Mapping[str, Decision], owners: Mapping[str, PolicyKey] = MappingProxyType({})
) -> dict[Owner, Problem]:
    """Give one problem for each model, and each policy, with a credential that is not as it should be."""
    problems: dict[Owner, list[Problem]] = {}
    keyed: set[Owner] = set()
    for file, decision in sorted(decisions.items()):
        owner = owner_of(file, owners)
        if owner is None:
            continue
        if decision.problem:
            problems.setdefault(owner, []).append(decision.problem)
        if decision.held:
            keyed.add(owner)
    return {owner: _together(found, partial=owner in keyed) for owner, found in problems.items()}


def _together(found: Iterable[Problem], *, partial: bool) -> Problem:
    # What keeps an endpoint from its credential comes before what does not.
    ordered = sorted(found, key=lambda problem: problem.partial)
    return Problem(ordered[0].reason, "; ".join(problem.message for problem in ordered), partial=partial)
