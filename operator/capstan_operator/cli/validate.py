"""`capstan validate`: say what is wrong with manifests, before a cluster has to."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from capstan_operator.api.cachepolicy import CachePolicySpec
from capstan_operator.api.guardpolicy import GuardPolicySpec
from capstan_operator.api.kinds import KINDS, LLMMODEL, Kind, Model, Policy
from capstan_operator.api.parse import DEFAULT_NAMESPACE
from capstan_operator.api.ratelimitpolicy import RateLimitPolicySpec
from capstan_operator.cli.gate_suites import with_suites
from capstan_operator.desired.caches import models_of_cache
from capstan_operator.desired.compile import INVALID, compile_gateway
from capstan_operator.desired.guards import models_named
from capstan_operator.desired.name_rules import CONFLICTED, NO_RULES, NameRules
from capstan_operator.desired.naming import adapter_served_name, served_name
from capstan_operator.desired.policies import find_target_faults
from capstan_operator.desired.types import LeftOut, LostFallback, PolicyVerdict
from capstan_operator.manifests.brought import with_brought
from capstan_operator.manifests.collect import Address, Manifests, load_manifests
from capstan_operator.manifests.documents import Diagnostic, Document, Severity, about
from capstan_operator.manifests.judge import judge_resources
from capstan_operator.manifests.profiles import with_profiles
from capstan_operator.manifests.prompts import with_prompts
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.settings import load_settings
from capstan_process.settings import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files, or folders with manifests")
    parser.add_argument(
        "-n", "--namespace", default=DEFAULT_NAMESPACE, help="of objects that name none (default: %(default)s)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors and warnings only")
    parser.epilog = (
        "What names are allowed is read from the operator's settings, the CAPSTAN_* variables, if they are set."
    )


def run(arguments: argparse.Namespace) -> int:
    """Print every diagnostic and a summary; 1 when one of them is an error."""
    loaded = load_manifests(arguments.paths, namespace=arguments.namespace)
    manifests = with_suites(with_brought(with_prompts(with_profiles(loaded))))
    try:
        rules = NameRules.from_settings(load_settings())
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    diagnostics = sorted((*manifests.diagnostics, *check_together(manifests, rules)), key=_position)
    for diagnostic in diagnostics:
        if diagnostic.severity is Severity.ERROR:
            print(diagnostic, file=sys.stderr)
        elif diagnostic.severity is Severity.WARNING or not arguments.quiet:
            print(line_of(diagnostic))
    counts = Counter(diagnostic.severity for diagnostic in diagnostics)
    if not arguments.quiet:
        print(summary(manifests, counts[Severity.ERROR], counts[Severity.WARNING]))
    return 1 if counts[Severity.ERROR] else 0


def check_together(manifests: Manifests, rules: NameRules = NO_RULES) -> Iterator[Diagnostic]:
    """Find what only shows when a manifest is seen with its engine's abilities and with the other manifests."""
    yield from judge_resources(manifests)
    models, policies = manifests.models, manifests.policies
    compiled = compile_gateway(models.values(), policies=policies.values(), rules=rules)
    for key, verdict in compiled.verdicts.items():
        if not verdict.accepted and verdict.reason != INVALID and not verdict.left_out:
            yield about(manifests.origin(LLMMODEL, key), verdict.message, "spec.model")
        yield from _left_out(manifests, key, verdict.left_out)
        yield from (about(manifests.origin(LLMMODEL, key), lost.message, lost.field) for lost in verdict.lost_names)
        yield from _foreign_fallbacks(manifests, key, verdict.lost_fallbacks)
    yield from _unknown_fallbacks(manifests, [model for model in models.values() if model.spec is not None])
    for address, policy in policies.items():
        yield from _policy_doubts(manifests, policy, compiled.policies[str(address)], rules)


def _policy_doubts(
    manifests: Manifests, policy: Policy, verdict: PolicyVerdict, rules: NameRules
) -> Iterator[Diagnostic]:
    """Tell what a policy would not do: what it is to limit may well be in the cluster, and what beats it is here."""
    origin = manifests.origins[Address(policy.kind, policy.key)]
    yield from (about(origin, fault.message, fault.field) for fault in find_target_faults(policy, rules))
    if policy.spec is None:
        return
    if verdict.reason == CONFLICTED:
        yield about(origin, verdict.message, "spec")
    for loss in verdict.losses if verdict.reason != CONFLICTED else ():
        if loss.reason == CONFLICTED:
            message = f"is not in force on the LLMModel '{loss.model.name}': {loss.winner} is"
            yield about(origin, message, "spec", Severity.WARNING)
    named = [(f"spec.targetRefs[{index}].name", one.name) for index, one in enumerate(policy.spec.targetRefs)]
    if isinstance(policy.spec, RateLimitPolicySpec):
        yield from _downgrade_doubts(origin, policy.spec)
        named += _downgrades(policy.spec)
    if isinstance(policy.spec, GuardPolicySpec):
        named += [(one.field, one.name) for one in models_named(policy.spec)]
    if isinstance(policy.spec, CachePolicySpec):
        yield from _task_doubts(manifests, origin, policy.key.namespace, policy.spec)
        named += [(field, name) for field, name, _ in models_of_cache(policy.spec)]
    for field, name in named:
        if Address(LLMMODEL.name, ObjectKey(policy.key.namespace, name)) not in manifests.resources:
            message = f"names the LLMModel '{name}', which is in none of these manifests"
            yield about(origin, message, field, Severity.WARNING)


def _task_doubts(manifests: Manifests, origin: Document, namespace: str, spec: CachePolicySpec) -> Iterator[Diagnostic]:
    """Tell which models a cache would ask for what they cannot do."""
    for field, name, task in models_of_cache(spec):
        model = manifests.models.get(ObjectKey(namespace, name))
        is_of = task if model is None or model.spec is None else model.spec.model.task
        if is_of != task:
            message = f"names the LLMModel '{name}', which is of the task {is_of}, not {task}"
            yield about(origin, message, field, Severity.WARNING)


def _downgrade_doubts(origin: Document, spec: RateLimitPolicySpec) -> Iterator[Diagnostic]:
    only = [one.name for one in spec.targetRefs]
    for field, name in _downgrades(spec):
        if only == [name]:
            message = "is the only LLMModel that the policy is for: there is nothing to go down to"
            yield about(origin, message, field, Severity.WARNING)


def _downgrades(spec: RateLimitPolicySpec) -> list[tuple[str, str]]:
    return [
        (f"spec.budgets[{index}].downgradeTo", one.downgradeTo)
        for index, one in enumerate(spec.budgets)
        if one.downgradeTo is not None
    ]


def _left_out(manifests: Manifests, key: ObjectKey, members: tuple[LeftOut, ...]) -> Iterator[Diagnostic]:
    """Tell what a virtual model would have to do without; what no manifest here has may well be in the cluster."""
    for member in members:
        named = f"names the LLMModel '{member.key.name}', which"
        if Address(LLMMODEL.name, member.key) not in manifests.resources:
            message = f"{named} is in none of these manifests"
            yield about(manifests.origin(LLMMODEL, key), message, member.field, Severity.WARNING)
        else:
            yield about(manifests.origin(LLMMODEL, key), f"{named} {member.reason}", member.field)


def _foreign_fallbacks(manifests: Manifests, key: ObjectKey, lost: tuple[LostFallback, ...]) -> Iterator[Diagnostic]:
    """Warn about fallbacks that the cluster leaves out, unless its settings allow them."""
    for fallback in lost:
        if fallback.needs_person:
            message = f"names the model '{fallback.name}', which {fallback.message}; it is left out"
            yield about(manifests.origin(LLMMODEL, key), message, fallback.field, Severity.WARNING)


def _unknown_fallbacks(manifests: Manifests, models: list[Model]) -> Iterator[Diagnostic]:
    """Warn about fallbacks that no manifest here has: they may well be in the cluster."""
    known = {name for model in models for name in _names(model)}
    for model in models:
        for index, name in enumerate(model.spec.serving.fallbacks if model.spec else ()):
            if name not in known:
                message = f"names the model '{name}', which is in none of these manifests"
                field = f"spec.serving.fallbacks[{index}]"
                yield about(manifests.origin(LLMMODEL, model.key), message, field, Severity.WARNING)


def _names(model: Model) -> Iterator[str]:
    if model.spec is not None:
        yield served_name(model)
        yield from model.spec.model.aliases
        yield from (adapter_served_name(model, adapter) for adapter in model.spec.adapters)


def summary(manifests: Manifests, errors: int, warnings: int, *, kinds: Sequence[Kind[Any]] = KINDS) -> str:
    """Say the outcome in one line; models are counted even when there are none."""
    counts = [(kind, len(manifests.of_kind(kind))) for kind in kinds]
    parts = [_plural(count, kind.noun) for kind, count in counts if count or kind is LLMMODEL]
    return ", ".join([*parts, _plural(errors, "error"), _plural(warnings, "warning")])


def _plural(count: int, noun: str) -> str:
    several = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count} {noun if count == 1 else several}"


def _position(diagnostic: Diagnostic) -> tuple[str, int, int, str]:
    return diagnostic.file, diagnostic.line, diagnostic.document, diagnostic.field


def line_of(diagnostic: Diagnostic) -> str:
    """Write a diagnostic in one line; the severity is said unless it is an error."""
    if diagnostic.severity is Severity.ERROR:
        return str(diagnostic)
    rest = str(replace(diagnostic, file="", line=0)).removeprefix(": ")
    return f"{diagnostic.file}:{diagnostic.line}: {diagnostic.severity}: {rest}"
