"""The alerts are about metrics that exist."""

import re

from capstan_gateway.telemetry.metrics import Metrics as GatewayMetrics
from capstan_operator.metrics import Metrics as OperatorMetrics
from support.helm import PROMETHEUS, render


def test_every_alert_asks_for_metrics_that_are_measured() -> None:
    """A metric that is renamed takes its alert along, which would be silent for ever otherwise."""
    values = {"monitoring": {"prometheusRule": {"enabled": True}}}
    (rule,) = [item for item in render(values, apis=(PROMETHEUS,)) if item["kind"] == "PrometheusRule"]
    alerts = {one["alert"]: one["expr"] for group in rule["spec"]["groups"] for one in group["rules"]}
    assert {"CapstanGatewayConfigNotWritten", "CapstanGatewayRefusesEntries"} <= alerts.keys()
    families = list(OperatorMetrics().registry.collect())
    operator = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    measured = {family.name for family in GatewayMetrics().families} | operator
    for alert, expr in alerts.items():
        asked = set(re.findall(r"\b(?:capstan_operator|gateway|llm)_[a-z_]+", expr))
        assert asked, alert
        assert asked <= measured, alert
