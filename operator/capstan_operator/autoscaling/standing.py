"""Whether HPAs can read what the operator serves, and whether KEDA can ask it."""

from dataclasses import dataclass
from typing import Final

from capstan_operator.desired.autoscaler import ScalerEndpoint


@dataclass(frozen=True)
class Standing:
    """Whether they can."""

    usable: bool | None
    """None: not known yet."""
    problem: str = ""
    """Why not."""
    endpoint: ScalerEndpoint | None = None
    """What KEDA is to ask, where it can."""


UNKNOWN: Final = Standing(None)
USABLE: Final = Standing(True)
NO_METRICS_API: Final = Standing(False, "this install serves no metrics for HPAs")
NO_EXTERNAL_SCALER: Final = Standing(False, "this install does not serve KEDA (`operator.keda.enabled` of the chart)")
