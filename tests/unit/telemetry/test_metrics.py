"""Cells, families and what Prometheus reads."""

import math

import pytest

from capstan_gateway.telemetry.cells import HistogramFamily, NumberFamily
from capstan_gateway.telemetry.metrics import Metrics, ModelMetrics

KNOWN_NAMES = {"llm_requests_total", "llm_request_latency_seconds", "llm_tokens_total", "llm_cost_dollars"}


def test_names_that_dashboards_know_are_there_from_the_start() -> None:
    """The families are exposed before anything was counted."""
    text = Metrics().render().decode()
    assert {line.split(" ")[2] for line in text.splitlines() if line.startswith("# HELP ")} >= KNOWN_NAMES


def test_histogram_counts_as_prometheus_does() -> None:
    """A value on a bound belongs to its bucket; buckets are cumulated; the sum is kept."""
    family = HistogramFamily("x", "X.", (), (1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        family.at().observe(value)
    samples = {(s.name, s.labels.get("le")): s.value for s in family.collect().samples}
    assert samples[("x_bucket", "1.0")] == 2
    assert samples[("x_bucket", "2.0")] == 4
    assert samples[("x_bucket", "+Inf")] == samples[("x_count", None)] == 5
    assert math.isclose(samples[("x_sum", None)], 14.0)


def test_models_that_are_gone_are_forgotten() -> None:
    """The set of series is bounded by the config, whatever was configured before."""
    metrics = Metrics()
    for name in ("old", "new"):
        ModelMetrics(metrics, name).count(200)
    metrics.requests.at("unknown", "404").value += 1
    metrics.retain_models(["new"])
    assert set(metrics.requests.cells) == {("new", "200"), ("unknown", "404")}
    assert '"old"' not in metrics.render().decode()


def test_wrong_number_of_labels_is_a_bug() -> None:
    """A cell cannot be made under labels that the family does not have."""
    with pytest.raises(ValueError, match="labels"):
        NumberFamily("counter", "x_total", "X.", ("a",)).at("1", "2")
