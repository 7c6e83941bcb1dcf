"""What the status says of a model that KEDA is to scale."""

from typing import Any

import pytest

from capstan_operator.desired.scaled_object import ScaledObjectState
from capstan_operator.status.scaling import ACTIVE, Scaled, scaling_findings
from support.plainmodels import make_model

READY = {"ready": "True", "active": "True", "fallback": "False"}


def _says(**scaled: Any) -> tuple[str, str, str]:
    strategy = scaled.pop("strategy", "KEDA")
    model = make_model(scaling={"max": 4, "strategy": strategy})
    found = scaling_findings(model, Scaled(**{"known": True, "desired": 1, **scaled}))[ACTIVE]
    return found.status, found.reason, found.message


@pytest.mark.parametrize(
    ("state", "status", "reason", "said"),
    [
        (None, "Unknown", "KEDAPending", "there is no ScaledObject yet"),
        ({}, "Unknown", "KEDAPending", "KEDA has not looked at the ScaledObject yet"),
        (READY, "True", "DemandKnown", "by KEDA (ScaledObject: Ready=True, Active=True, Fallback=False)"),
        ({**READY, "active": "False"}, "True", "DemandKnown", "Active=False"),
        ({**READY, "fallback": "True"}, "False", "KEDAFallback", "Fallback=True"),
        ({**READY, "paused": "True"}, "False", "KEDAPaused", "is paused"),
        (
            {"ready": "False", "reason": "ScaledObjectCheckFailed", "message": "no such target"},
            "False",
            "KEDANotReady",
            "ScaledObjectCheckFailed: no such target",
        ),
        ({"ready": "False"}, "False", "KEDANotReady", "it does not say why"),
    ],
)
def test_what_keda_says_is_on_the_model(state: Any, status: str, reason: str, said: str) -> None:
    """Its conditions are in the message, and what keeps it from scaling is what ScalingActive says."""
    scaled_object = None if state is None else ScaledObjectState(**state)
    found = _says(by_keda=True, scaled_object=scaled_object)
    assert found[:2] == (status, reason)
    assert said in found[2]


def test_without_keda_it_is_said_who_scales() -> None:
    """As where no HPA can be used: replicas follow what is asked for, by the operator, and the message says why."""
    status, reason, message = _says(without_keda="KEDA is not installed")
    assert (status, reason) == ("True", "WithoutKEDA")
    assert message == (
        "KEDA does not scale the model, because KEDA is not installed; the operator scales the model itself"
    )


@pytest.mark.parametrize("strategy", ["HPA", "Capstan", "KEDA"])
def test_it_is_told_that_keda_has_not_let_go(strategy: str) -> None:
    """Of a ScaledObject that is to go, whatever the model asks for now."""
    found = _says(strategy=strategy, scaled_object=ScaledObjectState(is_going=True))
    assert found[:2] == ("False", "KEDAHolds")


def test_silence_of_gateways_is_told_first() -> None:
    """What KEDA cannot know is not KEDA's fault."""
    assert _says(known=False, by_keda=True, scaled_object=ScaledObjectState(**READY))[1] == "DemandUnknown"
