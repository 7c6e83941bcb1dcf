"""What of a status is news: a condition's time, and the Events that follow from a change."""

import time
from dataclasses import replace
from datetime import timedelta, timezone

import pytest

from capstan_operator.api.kinds import Model
from capstan_operator.desired.compile import compile_gateway
from capstan_operator.desired.model import build_model
from capstan_operator.desired.types import Verdict
from capstan_operator.settings import BuildSettings
from capstan_operator.status.compute import compute_status, gateway_endpoint
from capstan_operator.status.conditions import Finding, merge_conditions, run_chain
from capstan_operator.status.types import Acknowledgement, AckState, StatusResult
from support.plainmodels import NOW, SETTINGS, deployment_of, hash_of, make_model, make_pod, snapshot_of

RUNS = Acknowledgement(AckState.ACKNOWLEDGED, acknowledged=2, ready=2)
SILENT = Acknowledgement(AckState.UNKNOWN, ready=2)


def look(
    model: Model, *, ack: Acknowledgement = RUNS, verdict: Verdict | None = None, ready: bool = True
) -> StatusResult:
    """Look at a model with one pod."""
    snapshot = snapshot_of(model, deployment_of(model), pods=(make_pod("p", hash_of(model), ready=ready),))
    verdict = verdict or compile_gateway([model]).verdicts[model.key]
    return compute_status(model, build_model(model, snapshot, SETTINGS), snapshot, verdict, ack, NOW)


def after(model: Model, result: StatusResult) -> Model:
    """Give the model with the status that was written."""
    return replace(model, status=result.status)


def reasons(result: StatusResult) -> list[str]:
    """Give type and reason of each Event."""
    return [f"{one.type} {one.reason}" for one in result.transitions]


def refused(reason: str) -> Verdict:
    """Give a verdict against a model."""
    return Verdict(accepted=False, reason=reason, message=f"because of {reason}")


def test_bad_news_is_told_once_and_again_when_its_reason_is_another() -> None:
    """The same refusal a second time is no news; another one is, although the status is the same."""
    model = make_model()
    first = look(model, verdict=refused("Conflicted"))
    assert reasons(first) == ["Warning Conflicted"]
    second = look(after(model, first), verdict=refused("Conflicted"))
    assert reasons(second) == []
    third = look(after(model, second), verdict=refused("NameReserved"))
    assert reasons(third) == ["Warning NameReserved"]


def test_a_way_to_be_not_ready_is_no_news() -> None:
    """A model that is on its way says so once, whatever it waits for in turn."""
    model = make_model()
    first = look(model, ready=False)
    second = look(after(model, first), ack=Acknowledgement(AckState.PENDING, ready=2))
    assert "Ready" not in " ".join(reasons(second))
    assert reasons(second) == ["Normal Complete"]


def test_not_to_know_is_bad_news() -> None:
    """That the gateway cannot be asked is a Warning, and that it can again is none."""
    model = make_model()
    first = look(model, ack=SILENT)
    assert "Warning GatewayUnknown" in reasons(first)
    assert reasons(look(after(model, first))) == ["Normal Serving"]


def test_one_fact_of_two_conditions_is_told_as_the_worse() -> None:
    """A refusal that Accepted, Degraded and Ready tell is one Event, and a Warning."""
    model = make_model()
    well = look(model)
    assert reasons(look(after(model, well), verdict=refused("Conflicted"))) == ["Warning Conflicted"]


def test_one_fact_is_a_warning_although_a_condition_that_tells_it_later_calls_it_none() -> None:
    """Accepted calls it bad, and Progressing only says why nothing goes on; Degraded and Ready say it already."""
    conditions = [
        {"type": "Accepted", "status": "True", "reason": "Accepted"},
        {"type": "Progressing", "status": "True", "reason": "RollingOut"},
        {"type": "Degraded", "status": "True", "reason": "Invalid"},
        {"type": "Ready", "status": "False", "reason": "Invalid"},
    ]
    model = make_model(replicas=-1, status={"conditions": conditions})
    snapshot = snapshot_of(model)
    verdict = compile_gateway([model]).verdicts[model.key]
    result = compute_status(model, build_model(model, snapshot, SETTINGS), snapshot, verdict, RUNS, NOW)
    assert reasons(result) == ["Warning Invalid"]


def test_what_is_over_is_called_so() -> None:
    """Degraded that ends is Recovered, with what is true now."""
    model = make_model()
    bad = look(model, verdict=refused("Conflicted"))
    good = look(after(model, bad))
    assert "Normal Recovered" in reasons(good)


def test_times_are_those_of_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever zone the clock gives, and that of the machine."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        elsewhere = NOW.astimezone(timezone(timedelta(hours=-7)))
        findings = {"Ready": Finding("True", "Serving", "")}
        (condition,) = merge_conditions({}, findings, generation=1, now=elsewhere)
        assert condition["lastTransitionTime"] == "2026-05-04T12:00:00Z"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_time_that_is_missing_begins_now() -> None:
    """Somebody wrote a condition without one: it gets the present time although its status stays."""
    present = {"Ready": {"type": "Ready", "status": "True"}}
    findings = {"Ready": Finding("True", "Serving", "")}
    (condition,) = merge_conditions(present, findings, generation=1, now=NOW)
    assert condition["lastTransitionTime"] == "2026-05-04T12:00:00Z"


def test_a_chain_that_says_nothing_is_a_bug() -> None:
    """It raises, instead of leaving a condition out."""
    with pytest.raises(AssertionError, match=r"^the last check of a chain"):
        run_chain([lambda _: None], None)


def test_conditions_of_others_are_neither_kept_nor_a_change() -> None:
    """They have a field manager of their own; our status is complete without them."""
    model = make_model()
    first = look(model)
    foreign = {"type": "Foreign", "status": "True"}
    status = {**first.status, "conditions": [*first.status["conditions"], foreign]}
    assert not look(replace(model, status=status)).changed


def test_a_condition_that_somebody_took_away_is_written_again() -> None:
    """A status that lacks one of ours is not the one that we want."""
    model = make_model()
    first = look(model)
    status = {**first.status, "conditions": first.status["conditions"][1:]}
    assert look(replace(model, status=status)).changed


@pytest.mark.parametrize(
    ("url", "service", "endpoint"),
    [
        ("", "", None),
        ("", "gateway", "http://gateway.capstan.svc:8080/v1"),
        ("https://llm.example.com", "gateway", "https://llm.example.com/v1"),
        ("https://llm.example.com/", "gateway", "https://llm.example.com/v1"),
        ("https://llm.example.com/v1", "", "https://llm.example.com/v1"),
        ("https://llm.example.com/v1/", "", "https://llm.example.com/v1"),
        ("https://llm.example.com/X/", "", "https://llm.example.com/X/v1"),
    ],
)
def test_the_endpoint_is_where_clients_point_their_sdk(url: str, service: str, endpoint: str | None) -> None:
    """The public URL if there is one, else the Service; with one /v1, whether or not the setting has it."""
    settings = BuildSettings(gateway_url=url, gateway_service=service, install_namespace="capstan")
    assert gateway_endpoint(settings) == endpoint
    assert gateway_endpoint(None) is None


def test_the_selector_of_a_model_that_became_faulty_stays() -> None:
    """An autoscaler that reads it goes on counting the pods that serve; another gets that of its name."""
    faulty = make_model(replicas=-1)
    had = replace(faulty, status={"selector": "capstan.dev/model=llama,capstan.dev/track=former"})
    assert look_at_faulty(had).status["selector"] == "capstan.dev/model=llama,capstan.dev/track=former"
    never = look_at_faulty(faulty).status["selector"]
    assert never == "app.kubernetes.io/component=engine,capstan.dev/model=llama"
    well = replace(make_model(), status={"selector": "former"})
    assert look(well).status["selector"] != "former"


def look_at_faulty(model: Model) -> StatusResult:
    """Look at a model whose spec cannot be used."""
    snapshot = snapshot_of(model)
    return compute_status(model, build_model(model, snapshot, SETTINGS), snapshot, refused("Invalid"), RUNS, NOW)
