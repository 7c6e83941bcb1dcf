"""Whether HPAs can read what the operator serves."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Standing:
    """Whether they can."""

    usable: bool | None
    """None: not known yet."""
    problem: str = ""
    """Why not."""


UNKNOWN: Final = Standing(None)
USABLE: Final = Standing(True)
NO_METRICS_API: Final = Standing(False, "this install serves no metrics for HPAs")
