"""The alerts are about metrics that exist."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from capstan_evaluation.online import metrics as online
from capstan_gateway.telemetry.metrics import Metrics as GatewayMetrics
from capstan_operator.metrics import Metrics as OperatorMetrics
from support.helm import PROMETHEUS, render
from support.needs import need_binary


def rules() -> dict[str, Any]:
    """Give the rules of a chart with everything that has alerts."""
    values = {"monitoring": {"prometheusRule": {"enabled": True}}, "scorer": {"enabled": True}}
    (rule,) = [item for item in render(values, apis=(PROMETHEUS,)) if item["kind"] == "PrometheusRule"]
    return dict(rule["spec"])


def scored() -> set[str]:
    """Give the metrics of the scorer, as its page names them."""
    source = Path(online.__file__).read_text()
    return set(re.findall(r'"((?:llm_eval|capstan_scorer)_[a-z_]+)"', source))


def test_every_alert_asks_for_metrics_that_are_measured() -> None:
    """A metric that is renamed takes its alert along, which would be silent for ever otherwise."""
    alerts = {one["alert"]: one["expr"] for group in rules()["groups"] for one in group["rules"]}
    assert {"CapstanGatewayConfigNotWritten", "CapstanGatewayRefusesEntries"} <= alerts.keys()
    families = list(OperatorMetrics().registry.collect())
    operator = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    measured = {family.name for family in GatewayMetrics().families} | operator | scored()
    for alert, expr in alerts.items():
        asked = set(re.findall(r"\b(?:capstan_operator|capstan_scorer|gateway|llm)_[a-z_]+", expr))
        assert asked, alert
        assert asked <= measured, alert


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    """Give what one scorer says of a criterion over time."""
    said = {"model": "m", "eval_type": "polite", "track": "", "revision": "v1", "pod": "scorer-0", **labels}
    return {"series": name + "{" + ",".join(f'{key}="{value}"' for key, value in said.items()) + "}", "values": values}


def standing(*, high: str, scored: str = "100x60", newest: str = "10x60", **labels: str) -> list[dict[str, str]]:
    """Give all of it: a model whose mean should be 0.8, of 50 answers at least."""
    return [
        series("llm_eval_score_high", high, **labels), series("llm_eval_alert_below", "0.8x60", **labels),
        series("llm_eval_scored", scored, **labels), series("llm_eval_minimum", "50x60", **labels),
        series("llm_eval_newest_timestamp_seconds", newest, **labels),
    ]  # fmt: skip


BELOW = {"severity": "warning", "model": "m", "eval_type": "polite", "revision": "v1", "pod": "scorer-0"}  # fmt: skip
CASES: dict[str, tuple[list[dict[str, str]], bool]] = {
    "the whole interval below": (standing(high="0.7x60"), True),
    "an interval that holds the threshold": (standing(high="0.85x60"), False),
    "one bad answer, and few": (standing(high="0.1x60", scored="1x60"), False),
    "below for a moment": (standing(high="0.7x2 0.85x58"), False),
    "a canary's": (standing(high="0.7x60", track="canary"), False),
    "those of a revision that serves no more": (
        [*standing(high="0.7x60", newest="10x60"), *standing(high="0.9x60", newest="20x60", revision="v2")], False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_answers_are_told_of_when_the_whole_interval_is_below(tmp_path: Path, case: str) -> None:
    """By Prometheus' own tool: never by few answers, and only of the revision that serves."""
    promtool = need_binary("promtool", "prometheus")
    given, fires = CASES[case]
    (tmp_path / "rules.yaml").write_text(json.dumps(rules()))
    expected = [{"exp_labels": BELOW, "exp_annotations": {"summary": SUMMARY}}] if fires else []
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": given,
                "alert_rule_test": [
                    {"eval_time": "3m", "alertname": "CapstanAnswersBelowThreshold", "exp_alerts": []},
                    {"eval_time": "30m", "alertname": "CapstanAnswersBelowThreshold", "exp_alerts": expected},
                ],
            }
        ],
    }
    (tmp_path / "test.yaml").write_text(json.dumps(test))
    done = subprocess.run(
        [promtool, "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


SUMMARY = "Answers of model m are worse than they may be by the criterion polite."


def test_prometheus_can_read_all_rules(tmp_path: Path) -> None:
    """`promtool check rules` finds no fault in any alert of the chart."""
    promtool = need_binary("promtool", "prometheus")
    (tmp_path / "rules.yaml").write_text(json.dumps(rules()))
    done = subprocess.run(
        [promtool, "check", "rules", "rules.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
