"""Which guards ask somebody, and how."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from capstan_contract.guards import (
    AttackGuard,
    ConfidenceGuard,
    GroundingGuard,
    Guard,
    ModerationGuard,
    TopicsGuard,
    WebhookGuard,
)
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.guards.asked.attack import ask_about_attacks
from capstan_gateway.pipeline.guards.asked.confidence import Confidence
from capstan_gateway.pipeline.guards.asked.grounding import Grounding
from capstan_gateway.pipeline.guards.asked.moderation import Moderator
from capstan_gateway.pipeline.guards.asked.topics import ask_about_topics
from capstan_gateway.pipeline.guards.asked.webhook import Webhook
from capstan_gateway.pipeline.guards.port import AskingGuard

Build = Callable[[Any, Deps], AskingGuard | None]
"""Makes what asks for a guard of its type; None when this one asks nobody.

Raises ValueError, with words for whoever wrote the policy, when it cannot be enforced."""

ASKING: Final[Mapping[type[Guard], Build]] = {
    AttackGuard: ask_about_attacks,
    ConfidenceGuard: Confidence,
    GroundingGuard: Grounding,
    ModerationGuard: Moderator,
    TopicsGuard: ask_about_topics,
    WebhookGuard: Webhook,
}
"""By the type of the guard."""
