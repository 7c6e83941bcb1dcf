"""`capstan validate`: say what is wrong with manifests, before a cluster has to."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from capstan_operator.api.kinds import Model
from capstan_operator.api.parse import DEFAULT_NAMESPACE
from capstan_operator.desired.compile import INVALID, compile_gateway
from capstan_operator.desired.faults import find_doubts, find_faults, find_hindrances
from capstan_operator.desired.name_rules import NO_RULES, NameRules
from capstan_operator.desired.naming import adapter_served_name, served_name
from capstan_operator.desired.types import LeftOut, LostFallback
from capstan_operator.manifests.reading import Diagnostic, Manifests, Severity, about, load_manifests
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.settings import SettingsError, load_settings


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
    manifests = load_manifests(arguments.paths, namespace=arguments.namespace)
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
        print(summary(len(manifests.models), counts[Severity.ERROR], counts[Severity.WARNING]))
    return 1 if counts[Severity.ERROR] else 0


def check_together(manifests: Manifests, rules: NameRules = NO_RULES) -> Iterator[Diagnostic]:
    """Find what only shows when a manifest is seen with its engine's abilities and with the other manifests."""
    whole = [model for model in manifests.models.values() if model.spec is not None]
    for model in whole:
        faults = (*find_faults(model), *find_hindrances(model))
        yield from (about(manifests.origins[model.key], fault.message, fault.field) for fault in faults)
        doubts = find_doubts(model)
        yield from (
            about(manifests.origins[model.key], doubt.message, doubt.field, Severity.WARNING) for doubt in doubts
        )
    for key, verdict in compile_gateway(manifests.models.values(), rules=rules).verdicts.items():
        if not verdict.accepted and verdict.reason != INVALID and not verdict.left_out:
            yield about(manifests.origins[key], verdict.message, "spec.model")
        yield from _left_out(manifests, key, verdict.left_out)
        yield from (about(manifests.origins[key], lost.message, lost.field) for lost in verdict.lost_names)
        yield from _foreign_fallbacks(manifests, key, verdict.lost_fallbacks)
    yield from _unknown_fallbacks(manifests, whole)


def _left_out(manifests: Manifests, key: ObjectKey, members: tuple[LeftOut, ...]) -> Iterator[Diagnostic]:
    """Tell what a virtual model would have to do without; what no manifest here has may well be in the cluster."""
    for member in members:
        named = f"names the LLMModel '{member.key.name}', which"
        if member.key not in manifests.models:
            message = f"{named} is in none of these manifests"
            yield about(manifests.origins[key], message, member.field, Severity.WARNING)
        else:
            yield about(manifests.origins[key], f"{named} {member.reason}", member.field)


def _foreign_fallbacks(manifests: Manifests, key: ObjectKey, lost: tuple[LostFallback, ...]) -> Iterator[Diagnostic]:
    """Warn about fallbacks that the cluster leaves out, unless its settings allow them."""
    for fallback in lost:
        if fallback.needs_person:
            message = f"names the model '{fallback.name}', which {fallback.message}; it is left out"
            yield about(manifests.origins[key], message, fallback.field, Severity.WARNING)


def _unknown_fallbacks(manifests: Manifests, models: list[Model]) -> Iterator[Diagnostic]:
    """Warn about fallbacks that no manifest here has: they may well be in the cluster."""
    known = {name for model in models for name in _names(model)}
    for model in models:
        for index, name in enumerate(model.spec.serving.fallbacks if model.spec else ()):
            if name not in known:
                message = f"names the model '{name}', which is in none of these manifests"
                field = f"spec.serving.fallbacks[{index}]"
                yield about(manifests.origins[model.key], message, field, Severity.WARNING)


def _names(model: Model) -> Iterator[str]:
    if model.spec is not None:
        yield served_name(model)
        yield from model.spec.model.aliases
        yield from (adapter_served_name(model, adapter) for adapter in model.spec.adapters)


def summary(models: int, errors: int, warnings: int) -> str:
    """Say the outcome in one line."""
    parts = [_plural(models, "model"), _plural(errors, "error"), _plural(warnings, "warning")]
    return ", ".join(parts)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _position(diagnostic: Diagnostic) -> tuple[str, int, int, str]:
    return diagnostic.file, diagnostic.line, diagnostic.document, diagnostic.field


def line_of(diagnostic: Diagnostic) -> str:
    """Write a diagnostic in one line; the severity is said unless it is an error."""
    if diagnostic.severity is Severity.ERROR:
        return str(diagnostic)
    rest = str(replace(diagnostic, file="", line=0)).removeprefix(": ")
    return f"{diagnostic.file}:{diagnostic.line}: {diagnostic.severity}: {rest}"
