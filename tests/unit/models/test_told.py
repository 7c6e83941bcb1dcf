"""What dependents were told: only news is told, and nothing is remembered of models that are no more."""

from capstan_contract.names import API_VERSION
from capstan_operator.composition import Runtime
from capstan_operator.metrics import Metrics
from capstan_operator.models.told import ToldStandings
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.settings import Settings
from capstan_operator.status.standings import standing_of
from capstan_operator.watch.watches import Echoes
from fakes.apply_kube import ApplyKube

A, B = ObjectKey("ns", "a"), ObjectKey("ns", "b")
READY = standing_of({"conditions": [{"type": "Available", "status": "True"}]})
NOTHING = standing_of({})


def test_the_same_again_is_no_news() -> None:
    """A standing is news the first time, when it changed, and after it was forgotten."""
    told = ToldStandings()
    assert [told.is_news(A, one) for one in (NOTHING, NOTHING, READY, READY)] == [True, False, True, False]
    told.forget(A)
    told.forget(A)
    assert told.is_news(A, READY)


async def test_a_model_whose_end_was_missed_is_forgotten_by_the_resync() -> None:
    """A watch that misses a deletion leaves nothing in memory; models that are there keep what was told."""
    kube = ApplyKube()
    runtime = Runtime(kube, Settings(), metrics=Metrics(), echoes=Echoes(), identity="op")
    kube.put(
        {
            "apiVersion": API_VERSION,
            "kind": "LLMModel",
            "metadata": {"name": "a", "namespace": "ns"},
            "spec": {"model": {"source": "hf://a/b"}},
        }
    )
    for key in (A, B):
        runtime.reconciler.told.is_news(key, READY)
    await runtime._list_keys()
    assert len(runtime.reconciler.told) == 1
    assert not runtime.reconciler.told.is_news(A, READY)
