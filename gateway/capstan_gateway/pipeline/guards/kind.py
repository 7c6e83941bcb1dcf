"""From the config to the layers of GuardPolicies."""

from collections.abc import Iterable
from typing import NamedTuple

from capstan_contract.config import GatewayConfig, ModelEntry
from capstan_contract.guards import GUARD_KIND, GuardsReport
from capstan_gateway.pipeline.guards.compiled import CompiledPolicy, Compiler
from capstan_gateway.pipeline.guards.counting import PolicyCounts
from capstan_gateway.pipeline.guards.layer import GuardLayer
from capstan_gateway.pipeline.guards.needs import Shared


class Named(NamedTuple):
    """A policy, and whether it is in force everywhere."""

    id: str
    policy: CompiledPolicy
    is_floor: bool


class Guards:
    """The kind; `policies.PolicyKind`. Each policy has one layer, however many models it is in force on."""

    def __init__(self, compiler: Compiler, shared: Shared) -> None:
        self._compiler = compiler
        self._shared = shared
        self._since = int(shared.now())
        self._config: GatewayConfig | None = None
        self._policies: dict[str, Named] = {}
        self._counts: dict[str, PolicyCounts] = {}

    def in_force(self, config: GatewayConfig, entry: ModelEntry) -> Iterable[tuple[str, Named]]:
        """Give the policies on a model: those of the installation outside of its own, first to see what is asked, and
        last to see what is answered. At either place those that only look on are outside of those that act."""
        if not entry.policies:
            return ()
        if config is not self._config:
            self._policies, self._config = self._read(config), config
        found = [one for one in map(self._policies.get, entry.policies) if one is not None]
        # NB: who looks on may ask somebody outside: one of a namespace sees what the installation lets pass.
        return [(one.id, one) for one in sorted(found, key=lambda one: (not one.is_floor, one.policy.enforces))]

    def _read(self, config: GatewayConfig) -> dict[str, Named]:
        return {
            entry.id: Named(
                entry.id, self._compiler.check(entry.body), entry.targets is not None and entry.targets.everywhere
            )
            for entry in config.policies
            if entry.kind == GUARD_KIND
        }

    def build(self, id: str, spec: Named) -> GuardLayer:
        """Give the layer."""
        counts = self._counts.get(id)
        if counts is None:
            counts = self._counts[id] = PolicyCounts(self._shared.deps.metrics, id)
        return GuardLayer(spec.policy, counts, self._shared, everywhere=spec.is_floor)

    def retain(self, config: GatewayConfig) -> None:
        """Forget what is of no policy of the config that is in use now."""
        if config is not self._config:
            self._policies, self._config = self._read(config), config
        self._counts = {id: counts for id, counts in self._counts.items() if id in self._policies}
        for id, counts in self._counts.items():
            counts.retain(self._policies[id].policy)
        self._shared.deps.metrics.retain_guards(counts.policy for counts in self._counts.values())
        self._compiler.retain(frozenset(one.policy for one in self._policies.values()))

    def report(self) -> GuardsReport:
        """Say what each guard has decided, as far as this gateway has seen."""
        policies = {
            id: tuple(counts.of(self._policies[id].policy))
            for id, counts in sorted(self._counts.items())
            if id in self._policies
        }
        return GuardsReport(since=self._since, policies=policies)
