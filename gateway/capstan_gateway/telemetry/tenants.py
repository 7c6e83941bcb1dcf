"""What the metrics tell of tenants: of so many at most by their names, of all further ones together."""

from typing import Final

from capstan_gateway.telemetry.metrics import Metrics

OTHER: Final = "other"
"""All tenants together that have no series of their own. Where a tenant itself is called so it is among them."""


class TenantMetrics:
    """Counts requests, tokens and cost of tenants."""

    def __init__(self, metrics: Metrics, most: int) -> None:
        """Name the first `most` tenants that are seen, for as long as the process lasts."""
        self._metrics = metrics
        self._most = most
        self._named: set[str] = set()

    def count(
        self, tenant: str, status: int, *, input_tokens: int = 0, output_tokens: int = 0, nano_dollars: int = 0
    ) -> None:
        """Count one request with everything on its bill."""
        label, metrics = self._label(tenant), self._metrics
        metrics.tenant_requests.at(label, str(status)).value += 1
        if input_tokens or output_tokens:
            metrics.tenant_tokens.at(label, "input").value += input_tokens
            metrics.tenant_tokens.at(label, "output").value += output_tokens
        if nano_dollars:
            metrics.tenant_cost.at(label).value += nano_dollars

    def _label(self, tenant: str) -> str:
        if tenant in self._named:
            return tenant
        if len(self._named) >= self._most or tenant == OTHER:
            return OTHER
        self._named.add(tenant)
        return tenant
