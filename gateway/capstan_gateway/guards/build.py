"""From a guard of a policy to what does its work in the process: here is known which detector a type has.

A detector that is expensive to have (a model, a large dictionary) is imported and made when a policy wants it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from capstan_contract.guards import (
    AttackGuard,
    FormatGuard,
    Guard,
    KeywordsGuard,
    PiiGuard,
    RegexGuard,
    TopicsGuard,
)
from capstan_gateway.guards.attacks.build import build_attack_detector
from capstan_gateway.guards.pii.build import build_pii_detector
from capstan_gateway.guards.plain.format import build_format_detector
from capstan_gateway.guards.plain.keywords import build_keywords_detector
from capstan_gateway.guards.plain.regex import build_regex_detector
from capstan_gateway.guards.plain.topics import build_topics_detector
from capstan_gateway.guards.port import Detector
from capstan_gateway.guards.similar_topics import build_similar_topics

Build = Callable[[Any], Detector | None]
"""Makes the detector of a guard of its type; None when that needs none, because somebody is asked.

Raises ValueError, with words for whoever wrote the policy, when the guard cannot be enforced."""

BUILDERS: Final[Mapping[type[Guard], Build]] = {
    AttackGuard: build_attack_detector,
    FormatGuard: build_format_detector,
    KeywordsGuard: build_keywords_detector,
    PiiGuard: build_pii_detector,
    RegexGuard: build_regex_detector,
    TopicsGuard: partial(build_topics_detector, similar=build_similar_topics),
}
"""By the type of the guard. This is imported when the gateway is: builders import what is large themselves."""


def build_detector(guard: Guard, builders: Mapping[type[Guard], Build] = BUILDERS) -> Detector | None:
    """Give what looks for what the guard is about; None when nothing in the process does. ValueError as `Build`."""
    build = builders.get(type(guard))
    return None if build is None else build(guard)
