"""Events that only say what the operator itself has written."""

from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.kube.versions import Versions
from capstan_operator.metrics import Metrics
from capstan_operator.resources.api_resource import DEPLOYMENTS
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.watch.watches import Echoes, Watches


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


class Woken:
    """Watches, and what they have woken."""

    def __init__(self) -> None:
        self.models: list[ObjectKey] = []
        self.echoes = Echoes()
        self.watches = Watches(
            wake_model=self.models.append,
            wake_config=lambda: None,
            is_compiled=lambda *_: True,
            rouse_acknowledger=lambda: None,
            echoes=self.echoes,
            versions=Versions(),
            metrics=Metrics(),
        )


def test_an_object_of_a_list_is_never_taken_for_an_echo() -> None:
    """After an outage of the watch an object may be as we wrote it last, and what was missed before is still news; the
    event that brings the write itself is recognised afterwards."""
    metadata = {"name": "m", "namespace": "ns", "uid": "u", "resourceVersion": "7", "generation": 1}
    written, woken = {"metadata": metadata}, Woken()
    woken.echoes.note(LLM_MODELS, written)
    woken.watches.model(LLM_MODELS, {"type": None, "object": written})
    assert woken.models == [ObjectKey("ns", "m")]
    woken.watches.model(LLM_MODELS, {"type": "MODIFIED", "object": written})
    assert woken.models == [ObjectKey("ns", "m")]
    woken.watches.model(LLM_MODELS, {"type": "MODIFIED", "object": written})
    assert woken.models == [ObjectKey("ns", "m")] * 2


def test_a_deletion_is_never_taken_for_an_echo() -> None:
    """The last state of an object that went may be our own last write."""
    metadata = {"name": "m", "namespace": "ns", "uid": "u", "resourceVersion": "7", "generation": 1}
    woken = Woken()
    woken.echoes.note(LLM_MODELS, {"metadata": metadata})
    woken.watches.model(LLM_MODELS, {"type": "DELETED", "object": {"metadata": metadata}})
    assert woken.models == [ObjectKey("ns", "m")]
