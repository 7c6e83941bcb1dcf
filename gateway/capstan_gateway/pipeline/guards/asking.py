"""Which guards ask somebody, and how."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from capstan_contract.guards import Guard
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.guards.port import AskingGuard

Build = Callable[[Any, Deps], AskingGuard | None]
"""Makes what asks for a guard of its type; None when this one asks nobody.

Raises ValueError, with words for whoever wrote the policy, when it cannot be enforced."""

ASKING: Final[Mapping[type[Guard], Build]] = {}
"""By the type of the guard."""
