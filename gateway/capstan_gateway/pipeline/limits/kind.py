"""From the config to the layers of RateLimitPolicies."""

from collections.abc import Iterable
from typing import NamedTuple

from capstan_contract.config import GatewayConfig, ModelEntry, with_canaries
from capstan_contract.limits import RATE_LIMIT_KIND, LimitsReport, read_body
from capstan_gateway.pipeline.limits.counting import PolicyCells
from capstan_gateway.pipeline.limits.layer import RateLimitLayer
from capstan_gateway.pipeline.limits.needs import Shared
from capstan_gateway.pipeline.limits.rules import Policy, compile_policy
from capstan_gateway.pipeline.limits.view import usage_of
from capstan_gateway.telemetry.metrics import Metrics


class Around(NamedTuple):
    """A policy, and the model around which it acts."""

    policy: Policy
    model_id: str
    model_name: str


class RateLimits:
    """The kind; `policies.PolicyKind`. Each policy is compiled once, as long as its body stays what it is."""

    def __init__(self, shared: Shared, metrics: Metrics) -> None:
        self._shared = shared
        self._metrics = metrics
        self._config: GatewayConfig | None = None
        self._policies: dict[str, Policy] = {}
        self._cells: dict[str, tuple[Policy, PolicyCells]] = {}

    def in_force(self, config: GatewayConfig, entry: ModelEntry) -> Iterable[tuple[str, Around]]:
        """Give the policies on a model. There is a layer for each model: what it counts may depend on that."""
        if not entry.policies:
            return ()
        if config is not self._config:
            self._read(config)
        found = (self._policies.get(id) for id in entry.policies)
        return [
            (f"{policy.id}@{entry.id}", Around(policy, entry.id, entry.servedName))
            for policy in found
            if policy is not None
        ]

    def _read(self, config: GatewayConfig) -> None:
        before, self._policies = self._policies, {}
        for entry in config.policies:
            if entry.kind == RATE_LIMIT_KIND:
                known, body = before.get(entry.id), read_body(entry)
                same = known is not None and known.body == body
                self._policies[entry.id] = known if known is not None and same else compile_policy(entry.id, body)
        self._config = config

    def build(self, id: str, spec: Around) -> RateLimitLayer:  # noqa: ARG002 - the id is made of what `spec` says
        """Give the layer."""
        policy = spec.policy
        known = self._cells.get(policy.id)
        if known is None or known[0] is not policy:
            known = self._cells[policy.id] = policy, PolicyCells(self._metrics, policy)
        return RateLimitLayer(policy, known[1], self._shared, model_id=spec.model_id, model_name=spec.model_name)

    def retain(self, config: GatewayConfig) -> None:
        """Forget what is of no policy, and of no model, of the config that is in use now."""
        if config is not self._config:
            self._read(config)
        self._cells = {id: cells for id, cells in self._cells.items() if id in self._policies}
        self._metrics.retain_limits(policy.name for policy in self._policies.values())
        models = [entry.id for entry in with_canaries(config.models)]
        self._shared.means.retain(models)
        self._shared.ratios.retain(models)

    def report(self) -> LimitsReport:
        """Say how much of each policy is used, as far as this gateway has seen. From any thread; it takes a while."""
        now, plans = self._shared.now(), self._shared.plans.by_policy()
        used = {id: usage_of(policy, plans.get(policy, ()), now) for id, policy in sorted(self._policies.items())}
        return LimitsReport(shared=self._shared.counts_together, policies={id: one for id, one in used.items() if one})
