"""Templates that are remembered: of what the spec is now, however its generation is called."""

from capstan_contract.names import API_VERSION
from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.composition import Runtime
from capstan_operator.metrics import Metrics
from capstan_operator.models.templates import Templates
from capstan_operator.settings import Settings
from capstan_operator.watch.watches import Echoes
from fakes.apply_kube import ApplyKube
from support.plainmodels import SETTINGS, make_model


def test_a_generation_with_another_spec_is_built_anew() -> None:
    """The template of a spec is built once; a store that was restored may use its generation again for another one."""
    templates = Templates()
    before, after = make_model(engine={"args": ["--seed", "1"]}), make_model(engine={"args": ["--seed", "2"]})
    assert (before.uid, before.generation) == (after.uid, after.generation)
    assert before.spec is not None
    assert after.spec is not None
    first = templates(before, before.spec, SETTINGS)
    assert templates(before, before.spec, SETTINGS) is first
    assert templates(after, after.spec, SETTINGS)[1] != first[1]


async def test_an_operator_reads_models_anew_when_the_store_was_restored() -> None:
    """What it remembers of the history that is lost counts no longer."""
    kube = ApplyKube()
    runtime = Runtime(kube, Settings(), metrics=Metrics(), echoes=Echoes(), identity="op")
    metadata = {"name": "a", "namespace": "ns"}
    source = {"model": {"source": "hf://a/b"}}
    kube.put({"apiVersion": API_VERSION, "kind": "LLMModel", "metadata": metadata, "spec": source})

    async def spec(version: int) -> object:
        kube.versions.saw(LLM_MODELS, {"metadata": {**metadata, "resourceVersion": str(version)}})
        return (await runtime._loader.all_models()).models[0].spec

    before = await spec(10**6)
    assert await spec(10**6 + 1) is before
    kube.versions.histories += 1
    assert await spec(10**6 + 2) is not before
