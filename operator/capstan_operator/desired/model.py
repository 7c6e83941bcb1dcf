"""Everything that one LLMModel should own."""

from capstan_operator.desired.types import DesiredModel
from capstan_operator.settings import BuildSettings
from capstan_operator.snapshot import Model, Snapshot


def build_model(model: Model, snapshot: Snapshot, settings: BuildSettings) -> DesiredModel:
    """Give everything that a model should own. Never raises for what a user wrote."""
    raise NotImplementedError


def needs_capacity(model: Model, snapshot: Snapshot, settings: BuildSettings) -> bool:
    """Say whether `build_model` would look at `snapshot.nodes`: only when a rollout of GPU pods begins."""
    raise NotImplementedError
