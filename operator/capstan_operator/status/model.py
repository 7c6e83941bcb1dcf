"""The status of one LLMModel."""

from collections.abc import Sequence
from datetime import datetime

from capstan_operator.desired.types import DesiredModel, Verdict
from capstan_operator.settings import BuildSettings
from capstan_operator.snapshot import Model, Snapshot
from capstan_operator.status.types import Acknowledgement, Problem, StatusResult


def compute_status(
    model: Model,
    desired: DesiredModel,
    snapshot: Snapshot,
    verdict: Verdict,
    ack: Acknowledgement,
    now: datetime,
    *,
    problems: Sequence[Problem] = (),
    settings: BuildSettings | None = None,
) -> StatusResult:
    """Give the complete status of a model, the transitions in it and when to look again."""
    raise NotImplementedError
