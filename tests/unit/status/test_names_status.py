"""What a model says of names that it lost, of an edit that it is served without, and of a hold."""

from dataclasses import replace
from typing import Any

import pytest

from capstan_operator.api.kinds import Model
from capstan_operator.desired.compile import compile_gateway
from capstan_operator.desired.live import LiveConfig
from capstan_operator.desired.model import build_model
from capstan_operator.desired.types import Verdict
from capstan_operator.status.compute import compute_status
from capstan_operator.status.types import Acknowledgement, AckState, StatusResult
from support.plainmodels import NOW, SETTINGS, deployment_of, hash_of, make_model, make_pod, snapshot_of

RUNS = Acknowledgement(AckState.ACKNOWLEDGED, acknowledged=1, ready=1)
ACCEPTED = {"servedName": "llama", "conditions": [{"type": "Accepted", "status": "True"}]}


def _result(model: Model, verdict: Verdict, *, ready: Model | None = None) -> StatusResult:
    """Give the status while a pod of a model, or of what it was, is ready."""
    was = ready or model
    pods = (make_pod("p", hash_of(was), ready=True),) if was.spec and was.spec.has_engine else ()
    snapshot = snapshot_of(model, *((deployment_of(was),) if pods else ()), pods=pods)
    return compute_status(model, build_model(model, snapshot, SETTINGS), snapshot, verdict, RUNS, NOW)


def _told(result: StatusResult) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in result.status["conditions"]}


def _message(result: StatusResult, kind: str) -> str:
    return next(str(one["message"]) for one in result.status["conditions"] if one["type"] == kind)


def test_a_lost_alias_needs_a_person_and_nothing_else_changes() -> None:
    """The model is accepted and ready; Degraded names the winner."""
    model = make_model(created="2026-02-01T00:00:00Z", model={"aliases": ["x"]})
    other = make_model("other", namespace="b", model={"aliases": ["x"]})
    result = _result(model, compile_gateway([model, other]).verdicts[model.key])
    told = _told(result)
    assert (told["Accepted"], told["Ready"]) == (("True", "Accepted"), ("True", "Serving"))
    assert told["Degraded"] == ("True", "Conflicted")
    assert _message(result, "Degraded") == "the name 'x' belongs to the LLMModel 'b/other'"
    assert "belongs to the LLMModel 'b/other'" in _message(result, "Accepted")


def test_a_fallback_of_another_namespace_needs_a_person_and_one_that_is_missing_does_not() -> None:
    """What may still come is said by Accepted alone."""
    model = make_model(serving={"fallbacks": ["x", "nobody"]})
    models = [model, make_model("x", namespace="b")]
    told = _told(_result(model, compile_gateway(models).verdicts[model.key]))
    assert told["Degraded"] == ("True", "FallbackNotAllowed")
    result = _result(model, compile_gateway([model]).verdicts[model.key])
    assert _told(result)["Degraded"] == ("False", "AsExpected")
    assert "'nobody', which no LLMModel is served as" in _message(result, "Accepted")


@pytest.mark.parametrize("engine", ["vLLM", "SGLang"])
def test_a_file_that_capstan_cannot_read_is_not_passed_over(engine: str) -> None:
    """Options in a file may contradict what Capstan says, and nobody can judge them: Accepted says so, and no more."""
    model = make_model(engine={"type": engine, "args": ["--seed", "1", "--config", "/etc/engine.yaml"]})
    result = _result(model, compile_gateway([model]).verdicts[model.key])
    assert _told(result)["Accepted"] == ("True", "Accepted")
    assert "`spec.engine.args[2]` names a file that Capstan cannot read" in _message(result, "Accepted")
    assert "/etc" not in _message(result, "Accepted")
    model = make_model(engine={"type": engine, "args": ["--seed", "1"]})
    assert _message(_result(model, compile_gateway([model]).verdicts[model.key]), "Accepted") == "served as 'llama'"


def _kept(before: Model, **spec: Any) -> StatusResult:
    live = LiveConfig.of(compile_gateway([before]).config)
    faulty = replace(make_model(generation=2, status=ACCEPTED, **spec), uid=before.uid)
    return _result(faulty, compile_gateway([faulty], live=live).verdicts[faulty.key], ready=before)


def test_a_faulty_edit_of_a_running_model() -> None:
    """It is Invalid and Degraded, it is not Ready as it is written now, and it is Available as it was."""
    result = _kept(make_model(), replicas=-1)
    assert _told(result) == {
        "Accepted": ("False", "Invalid"),
        "WeightsReady": ("Unknown", "Invalid"),
        "Available": ("True", "ReplicasReady"),
        "Progressing": ("False", "Invalid"),
        "Degraded": ("True", "Invalid"),
        "Ready": ("False", "Invalid"),
    }
    assert _message(result, "Ready").endswith("; until then the gateway goes on with what was accepted last")
    assert result.status["servedName"] == "llama"


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ({"external": {"provider": "OpenAI", "url": "https://x.example/v1"}}, ("True", "External")),
        ({"router": {"members": [{"name": "m"}]}}, ("False", "Invalid")),
    ],
)
def test_a_faulty_edit_of_a_model_without_pods(before: dict[str, Any], expected: tuple[str, str]) -> None:
    """A hosted API answers as before; a router that was never live has nothing to go on with."""
    assert _told(_kept(make_model(**before), replicas=-1))["Available"] == expected


def test_pods_answer_although_the_gateway_does_not_offer_a_faulty_model() -> None:
    """Available speaks of replicas of any generation, whatever became of the newest one."""
    faulty = make_model(replicas=-1)
    result = _result(faulty, compile_gateway([faulty]).verdicts[faulty.key], ready=make_model())
    assert _told(result)["Available"] == ("True", "ReplicasReady")
    assert "goes on" not in _message(result, "Ready")


def test_a_model_that_is_held_is_ready_and_needs_a_person() -> None:
    """What is held is served as before: Ready does not move, Degraded says what to do."""
    model = make_model()
    verdict = Verdict(accepted=False, reason="NameNotAllowed", message="no", held="held: say yes")
    result = _result(model, verdict)
    told = _told(result)
    assert (told["Accepted"], told["Degraded"]) == (("False", "NameNotAllowed"), ("True", "ConfigHeld"))
    assert (told["Available"], told["Ready"]) == (("True", "ReplicasReady"), ("True", "Serving"))
    assert _message(result, "Degraded") == "held: say yes"
