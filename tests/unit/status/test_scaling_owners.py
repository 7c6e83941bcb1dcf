"""What the status says where an HPA does not work, or the number of replicas has two owners."""

from typing import Any

from capstan_operator.status.scaling import ACTIVE, Scaled, scaling_findings
from support.plainmodels import make_model


def _says(**scaled: Any) -> tuple[str, str, str]:
    model = make_model(scaling={"max": 4})
    found = scaling_findings(model, Scaled(**{"known": True, "desired": 1, **scaled}))[ACTIVE]
    return found.status, found.reason, found.message


def test_another_owner_is_named() -> None:
    """Before anything else, and with what to do about it."""
    status, reason, message = _says(rivals=("mine", "other"), known=False, by_hpa=True)
    assert (status, reason) == ("False", "AnotherAutoscaler")
    assert "'mine', 'other'" in message
    assert "`strategy: External`" in message


def test_an_hpa_of_ours_that_does_not_work_is_told() -> None:
    """In its own words; that nothing is known of the demand explains it, and is said first."""
    problem = "AbleToScale is False, FailedGetScale: no"
    assert _says(by_hpa=True, hpa_problem=problem) == (
        "False", "HPANotWorking", f"the HorizontalPodAutoscaler does not work: {problem}",
    )  # fmt: skip
    assert _says(by_hpa=True, hpa_problem=problem, known=False)[1] == "DemandUnknown"
