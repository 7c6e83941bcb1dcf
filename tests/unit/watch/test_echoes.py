"""Events that only say what the operator itself has written."""

from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.resources.api_resource import DEPLOYMENTS
from capstan_operator.watch.watches import Echoes


def test_an_echo_is_recognised_once() -> None:
    """An event with the resourceVersion of our own write is no news; any other one is."""
    now = [0.0]
    echoes = Echoes(clock=lambda: now[0])
    written = {"metadata": {"uid": "u", "resourceVersion": "7"}}
    echoes.note(DEPLOYMENTS, written)
    now[0] = 0.25
    assert echoes.lag(LLM_MODELS, written) is None
    assert echoes.lag(DEPLOYMENTS, {"metadata": {"uid": "u", "resourceVersion": "8"}}) is None
    assert echoes.lag(DEPLOYMENTS, written) == 0.25
    assert echoes.lag(DEPLOYMENTS, written) is None


def test_echoes_are_bounded() -> None:
    """The oldest write is forgotten first, which costs one needless comparison and no more."""
    echoes = Echoes(most=2)
    versions = [{"metadata": {"uid": "u", "resourceVersion": str(n)}} for n in range(3)]
    for written in versions:
        echoes.note(DEPLOYMENTS, written)
    assert echoes.lag(DEPLOYMENTS, versions[0]) is None
    assert echoes.lag(DEPLOYMENTS, versions[2]) is not None
