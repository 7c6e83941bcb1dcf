"""What the API server sends is parsed once per generation, and never refused for what a newer release knows."""

from dataclasses import replace
from typing import Any

from capstan_operator.api.kinds import LLMMODEL
from capstan_operator.api.parse import parse_model
from capstan_operator.desired.faults import find_faults
from capstan_operator.loaders.parser import ModelParser, ResourceParser


def _sent(*, generation: int = 1, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "a", "namespace": "team", "uid": "u", "generation": generation}
    if labels is not None:
        metadata["labels"] = labels
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "LLMModel",
        "metadata": metadata,
        "spec": {"model": {"source": "hf://a/b"}, **spec},
    }


def test_fields_of_a_newer_release_are_ignored_in_a_cluster_and_refused_in_a_file() -> None:
    """A default that a newer CRD fills in, at whatever depth, makes no model Invalid; `validate` still refuses it."""
    sent = _sent(mirror={"strategy": "Canary"}, serving={"weight": 3, "hedge": {"after": 1}})
    model = ModelParser().parse(sent)
    assert not find_faults(model)
    assert model.spec is not None
    assert model.spec.serving.weight == 3
    assert {fault.field for fault in parse_model(sent).faults} == {"spec.mirror", "spec.serving.hedge"}


def test_an_unknown_value_of_a_known_field_is_a_fault() -> None:
    """What cannot be understood is never guessed."""
    assert [fault.field for fault in ModelParser().parse(_sent(engine={"type": "Newer"})).faults] == [
        "spec.engine.type"
    ]


def test_a_generation_is_parsed_and_judged_once() -> None:
    """The spec of a generation is one object, and its faults are looked for once, however often it is sent."""
    judged: list[int] = []
    parser = ResourceParser(LLMMODEL, judge=lambda model: (judged.append(model.generation), ())[1])
    first, again = parser.parse(_sent()), parser.parse({**_sent(), "status": {"observedGeneration": 1}})
    assert first.spec is again.spec
    assert again.status == {"observedGeneration": 1}
    assert first.status == {}
    parser.parse(_sent(generation=2))
    assert judged == [1, 2]


def test_faults_that_were_found_are_not_looked_for_again() -> None:
    """Whoever asks for the faults of a parsed model gets those that the parser has found."""
    model = ModelParser().parse(_sent(adapters=[{"name": "x", "source": "s3://b/x"}]))
    (fault,) = find_faults(model)
    assert fault.field == "spec.adapters[0].source"
    assert find_faults(replace(model, judged=())) == ()


def test_labels_change_without_a_generation() -> None:
    """A label that comes, changes or goes is seen although the generation stays, and costs no parsing."""
    parser = ModelParser()
    models = [parser.parse(_sent(labels=labels)) for labels in (None, {"a": "1"}, {"a": "2"}, None)]
    assert [dict(model.labels) for model in models] == [{}, {"a": "1"}, {"a": "2"}, {}]
    assert len({id(model.spec) for model in models}) == 1


def test_what_is_gone_is_forgotten() -> None:
    """Only what a complete listing has is remembered."""
    parser = ModelParser()
    before = parser.parse(_sent()).spec
    parser.keep_only([])
    assert parser.parse(_sent()).spec is not before


def test_a_generation_of_a_lost_history_is_parsed_anew() -> None:
    """After a restore from a backup the same uid and generation may be another spec: that one counts."""
    history = 0
    parser = ModelParser(history=lambda: history)
    before = parser.parse(_sent(replicas=2))
    assert parser.parse(_sent(replicas=3)).spec is before.spec, "a generation is parsed once"
    history = 1
    after = parser.parse(_sent(replicas=3))
    assert after.spec is not None
    assert after.spec.replicas == 3
    assert parser.parse(_sent(replicas=3)).spec is after.spec


def test_a_version_that_is_known_is_not_parsed_again() -> None:
    """The same resourceVersion is the same object, status included; any other one must be parsed."""
    parser = ModelParser()
    sent = _sent()
    sent["metadata"]["resourceVersion"] = "7"
    model = parser.parse({**sent, "status": {"replicas": 2}})
    assert parser.known("u", "7") is model
    assert parser.known("u", "8") is None
    assert parser.known("v", "7") is None
    parser.keep_only(())
    assert parser.known("u", "7") is None


def test_a_status_that_changes_is_a_version_of_its_own() -> None:
    """What is known of a version is what was parsed of it last, not what the generation said first."""
    parser = ModelParser()
    for version, replicas in (("7", 1), ("8", 2)):
        sent = _sent()
        sent["metadata"]["resourceVersion"] = version
        parser.parse({**sent, "status": {"replicas": replicas}})
    found = parser.known("u", "8")
    assert found is not None
    assert found.status == {"replicas": 2}
    assert parser.known("u", "7") is None


def test_equal_parts_of_two_models_are_one_object() -> None:
    """What thousands of models say alike is kept once: parts of the spec, and conditions."""
    parser = ModelParser()
    status = {"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 1}]}
    models = []
    for name in ("a", "b"):
        sent = _sent(resources={"gpus": 1, "cpu": "4"})
        sent["metadata"] |= {"name": name, "uid": name}
        models.append(parser.parse({**sent, "status": {"conditions": [dict(one) for one in status["conditions"]]}}))
    first, second = models
    assert first.spec is not None
    assert second.spec is not None
    assert first.spec.resources is second.spec.resources
    assert first.status["conditions"][0] is second.status["conditions"][0]
    assert first.status == second.status == status
