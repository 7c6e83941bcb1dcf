"""A GuardPolicy, compiled for the gateway, and what is wrong with one beyond its schema."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from capstan_contract.entries import PolicyEntry
from capstan_contract.expressions import MOST_TOGETHER, check_expression, expression_fault
from capstan_contract.guards import (
    ANSWERED,
    ASKED,
    GUARD_KIND,
    GuardBody,
    Source,
    Stage,
    guard_entry,
)
from capstan_contract.json_schemas import schema_fault
from capstan_contract.re2_syntax import Unreadable
from capstan_operator.api.guardpolicy import (
    GuardPolicySpec,
    GuardSpec,
    InputGuardSpec,
    ModelRef,
    OutputGuardSpec,
    TopicSpec,
)
from capstan_operator.api.kinds import Policy
from capstan_operator.api.parts import SecretKeyRef
from capstan_operator.api.rules.guards import name_of
from capstan_operator.desired.guard_words import find_word_faults
from capstan_operator.desired.naming import policy_credential_file
from capstan_operator.desired.policy_entries import MISSING, judge, targets_of
from capstan_operator.resources.resource import Fault, PolicyKey

_TOLD: Final = (Source.USER, Source.TOOL_RESULTS, Source.DOCUMENTS)
"""What comes from people and from the world: not what whoever serves the model says to it, nor its own words."""
_SAID: Final = (Source.TEXT, Source.REASONING)
_SOURCES: Final[Mapping[tuple[Stage, str], tuple[Source, ...]]] = {
    (Stage.INPUT, "PromptInjection"): _TOLD,
    (Stage.INPUT, "Jailbreak"): _TOLD,
    (Stage.INPUT, "Moderation"): _TOLD,
    (Stage.INPUT, "Topics"): (Source.USER,),
    (Stage.OUTPUT, "Topics"): _SAID,
    (Stage.OUTPUT, "Moderation"): _SAID,
    (Stage.OUTPUT, "Format"): (Source.TEXT,),
    (Stage.OUTPUT, "Grounding"): (Source.TEXT,),
    (Stage.OUTPUT, "Confidence"): (Source.TEXT,),
}
_ALL: Final = {Stage.INPUT: ASKED, Stage.OUTPUT: ANSWERED}
_AS_WRITTEN: Final = (
    *("action", "onError", "timeoutMillis", "message", "sensitivity", "allowList", "regions", "restore", "engine"),
    *(
        "format",
        "keywords",
        "caseSensitive",
        "verdict",
        "wholeWords",
        "jsonSchema",
        "pattern",
        "maxCharacters",
        "languages",
    ),
    *("askAgain", "aggregate", "url"),
)
"""Fields that are the same in the gateway's config."""


class Named(NamedTuple):
    """A model that a policy names."""

    field: str
    """Path of the field that names it."""
    guard: str
    name: str


class _Secret(NamedTuple):
    """A key of a Secret that a guard needs, and where it is sent."""

    reference: SecretKeyRef
    url: str


def guards_of(spec: GuardPolicySpec) -> Iterator[tuple[Stage, int, InputGuardSpec | OutputGuardSpec]]:
    """Give the guards of a policy, with their places in the lists."""
    for index, asked in enumerate(spec.input):
        yield Stage.INPUT, index, asked
    for index, answered in enumerate(spec.output):
        yield Stage.OUTPUT, index, answered


def find_guard_faults(policy: Policy) -> tuple[Fault, ...]:
    """Look for what is wrong with a GuardPolicy, whatever was found before."""
    spec = policy.spec
    if not isinstance(spec, GuardPolicySpec):
        return policy.faults or MISSING
    faults = (*_name_faults(spec), *_pattern_faults(spec), *_schema_faults(spec), *find_word_faults(spec))
    return judge(policy, faults, lambda: build_guard_entry(policy, spec))


def _name_faults(spec: GuardPolicySpec) -> Iterator[Fault]:
    for stage, guards in ((Stage.INPUT, spec.input), (Stage.OUTPUT, spec.output)):
        counts = Counter(name_of(guard) for guard in guards)
        for index, guard in enumerate(guards):
            if guard.name and counts[guard.name] > 1:
                yield Fault(f"spec.{stage}[{index}].name", "is what another guard is called by its type")


def _pattern_faults(spec: GuardPolicySpec) -> Iterator[Fault]:
    for stage, index, guard in guards_of(spec):
        path = f"spec.{stage}[{index}]"
        states = 0
        for number, one in enumerate(guard.patterns):
            try:
                states += check_expression(one.pattern).states
            except Unreadable as error:
                yield _no_expression(f"{path}.patterns[{number}].pattern", str(error))
        if states > MOST_TOGETHER:
            yield Fault(f"{path}.patterns", "are too large together; make guards of their own of some")
        whole = guard.pattern if isinstance(guard, OutputGuardSpec) else None
        if whole is not None and (why := expression_fault(whole, whole=True)) is not None:
            yield _no_expression(f"{path}.pattern", why)


def _schema_faults(spec: GuardPolicySpec) -> Iterator[Fault]:
    for index, guard in enumerate(spec.output):
        if guard.jsonSchema is not None and (found := schema_fault(guard.jsonSchema)) is not None:
            yield Fault(f"spec.output[{index}].jsonSchema{found[0]}", found[1])


def _no_expression(field: str, why: str) -> Fault:
    return Fault(field, f"must be an expression that guards can use: {why}")


def build_guard_entry(policy: Policy, spec: GuardPolicySpec) -> PolicyEntry:
    """Build the entry of a GuardPolicy. Raises ValidationError."""
    return guard_entry(
        policy.key.namespace, policy.key.name, build_guards(policy, spec), uid=policy.uid, targets=targets_of(spec)
    )


def build_guards(policy: Policy, spec: GuardPolicySpec) -> GuardBody:
    """Compile a spec: names, texts and models are all said. Raises ValidationError."""
    return GuardBody.model_validate(
        {
            "mode": spec.mode,
            "input": tuple(_guard(policy, Stage.INPUT, guard) for guard in spec.input),
            "output": tuple(_guard(policy, Stage.OUTPUT, guard) for guard in spec.output),
            "unchecked": spec.unchecked,
        }
    )


def _guard(policy: Policy, stage: Stage, guard: GuardSpec) -> dict[str, Any]:
    said = {name: value for name in _AS_WRITTEN if (value := getattr(guard, name, None)) not in (None, ())}
    said |= {
        "type": str(guard.type),
        "name": name_of(guard),
        "appliesTo": _sources(stage, guard),
        **_models(policy.key.namespace, guard),
        **_parts(guard),
    }
    for field, secret in _secrets(guard):
        said[field] = _file(policy, stage, guard, secret)
    return said


def _sources(stage: Stage, guard: GuardSpec) -> tuple[Source, ...]:
    """Give the texts that a guard looks at, in the order in which they are listed."""
    wanted = {Source(str(one)) for one in guard.appliesTo} or set(_SOURCES.get((stage, str(guard.type)), _ALL[stage]))
    return tuple(source for source in Source if source in wanted)


def _models(namespace: str, guard: GuardSpec) -> dict[str, Any]:
    """Give the fields that name models, by their ids."""
    if (classifier := getattr(guard, "classifier", None)) is not None:
        return {"classifier": {"model": _id(namespace, classifier.modelRef)}}
    if guard.embedding is not None:
        return {"model": _id(namespace, guard.embedding.modelRef)}
    return {} if guard.modelRef is None else {"model": _id(namespace, guard.modelRef)}


def _id(namespace: str, reference: ModelRef) -> str:
    return f"{namespace}/{reference.name}"


def _parts(guard: GuardSpec) -> dict[str, Any]:
    """Give the fields that are written otherwise in the gateway's config."""
    found: dict[str, Any] = {
        "deny": tuple(_topic(topic) for topic in guard.deny),
        "allow": tuple(_topic(topic) for topic in guard.allow),
        "entities": tuple(
            {"type": str(one.type), "threshold": _number(one.threshold), "action": one.action} for one in guard.entities
        ),
        "categories": tuple({"name": one.name, "threshold": _number(one.threshold)} for one in guard.categories),
        "patterns": tuple({"name": one.name, "pattern": one.pattern} for one in guard.patterns),
        "similarity": _number(guard.similarity),
        "threshold": _number(getattr(guard, "threshold", None)),
    }
    if guard.endpoint is not None:
        found |= {"url": guard.endpoint.url, "upstreamModel": guard.endpoint.model}
    return {name: value for name, value in found.items() if value not in (None, ())}


def _topic(topic: TopicSpec) -> dict[str, Any]:
    return {"name": topic.name, "phrases": topic.phrases, "examples": topic.examples}


def _number(fraction: str | None) -> float | None:
    return None if fraction is None else float(fraction)


def _secrets(guard: GuardSpec) -> Iterator[tuple[str, _Secret]]:
    """Give the keys that a guard needs, by the field that names their file in the gateway's config."""
    if guard.endpoint is not None and guard.endpoint.apiKeySecretRef is not None:
        yield "credentialFile", _Secret(guard.endpoint.apiKeySecretRef, guard.endpoint.url)
    if guard.secretRef is not None:
        yield "secretFile", _Secret(guard.secretRef, guard.url or "")


def _file(policy: Policy, stage: Stage, guard: GuardSpec, secret: _Secret) -> str:
    return policy_credential_file(
        PolicyKey(GUARD_KIND, *policy.key),
        f"{stage}-{name_of(guard)}",
        uid=policy.uid,
        secret=secret.reference.name,
        secret_key=secret.reference.key,
        url=secret.url,
    )


def secrets_of(policy: Policy) -> dict[str, tuple[str, str, str]]:
    """Give the credential files of a policy, and where each comes from: (namespace, Secret, key)."""
    if not isinstance(policy.spec, GuardPolicySpec):
        return {}
    return {
        _file(policy, stage, guard, secret): (policy.key.namespace, secret.reference.name, secret.reference.key)
        for stage, _, guard in guards_of(policy.spec)
        for _, secret in _secrets(guard)
    }


def files_of(entry: PolicyEntry) -> Iterator[str]:
    """Give the credential files that the entry of a GuardPolicy names."""
    for stage in Stage:
        guards: Iterable[Mapping[str, Any]] = entry.body.get(stage.value, ())
        for guard in guards:
            yield from (str(guard[field]) for field in ("credentialFile", "secretFile") if guard.get(field))


def models_named(spec: GuardPolicySpec) -> Iterator[Named]:
    """Give the models that a policy's guards ask, and the fields that name them."""
    for stage, index, guard in guards_of(spec):
        path, name = f"spec.{stage}[{index}]", name_of(guard)
        if isinstance(guard, InputGuardSpec) and guard.classifier is not None:
            yield Named(f"{path}.classifier.modelRef.name", name, guard.classifier.modelRef.name)
        if guard.embedding is not None:
            yield Named(f"{path}.embedding.modelRef.name", name, guard.embedding.modelRef.name)
        if guard.modelRef is not None:
            yield Named(f"{path}.modelRef.name", name, guard.modelRef.name)
