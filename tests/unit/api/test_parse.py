"""parse_model: faults are data, with a path and what is allowed."""

from typing import Any

import pytest

from capstan_operator.api.parse import parse_model
from capstan_operator.resources.resource import ObjectKey


def manifest(spec: Any, **metadata: Any) -> dict[str, Any]:
    """An LLMModel with this spec."""
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "LLMModel",
        "metadata": {"name": "llama", **metadata},
        "spec": spec,
    }


def faults(spec: Any) -> list[str]:
    """What is wrong with a spec, as people read it."""
    return [str(fault) for fault in parse_model(manifest(spec)).faults]


SOURCE = {"source": "hf://org/name"}


def test_minimal_manifest_is_enough() -> None:
    """A source and a GPU count make a model; everything else has a default."""
    model = parse_model(manifest({"model": SOURCE, "resources": {"gpus": 1}}))
    assert model.faults == ()
    assert model.key == ObjectKey("default", "llama")
    assert model.spec is not None
    assert model.spec.engine.type == "vLLM"
    assert model.spec.serving.timeouts.totalSeconds == 600


def test_metadata_and_status_are_taken_over() -> None:
    """What the API server adds to an object is in the Model."""
    content = manifest(
        {"model": SOURCE},
        namespace="team",
        uid="u-1",
        generation=7,
        creationTimestamp="2025-01-01T00:00:00Z",
        deletionTimestamp="2025-01-02T00:00:00Z",
        managedFields=[{"manager": "kubectl"}],
    ) | {"status": {"replicas": 2}}
    model = parse_model(content)
    assert (model.key, model.uid, model.generation) == (ObjectKey("team", "llama"), "u-1", 7)
    assert model.created == "2025-01-01T00:00:00Z"
    assert model.deleting
    assert model.status == {"replicas": 2}
    assert model.faults == ()


@pytest.mark.parametrize(
    "namespace", ["../../evil", "a/b", "Team", "a.b", "-a", "a-", "a\n", "..", " ", "x" * 64, 5, ["a"]]
)
def test_a_namespace_is_a_dns_label(namespace: object) -> None:
    """What no API server would take as a namespace is a fault of the field, and the model is not served."""
    model = parse_model(manifest({"model": SOURCE}, namespace=namespace))
    assert model.spec is None
    assert [fault.field for fault in model.faults] == ["metadata.namespace"]
    assert "evil" not in model.faults[0].message


@pytest.mark.parametrize("namespace", [None, "", "a", "team-1", "1", "x" * 63])
def test_usual_namespaces_are_taken(namespace: str | None) -> None:
    """No namespace means `default`; every name that a cluster allows is allowed."""
    model = parse_model(manifest({"model": SOURCE}, namespace=namespace))
    assert model.faults == ()
    assert model.key.namespace == (namespace or "default")


def test_all_faults_are_found_at_once() -> None:
    """One look is enough to put a manifest right: all faults are there, in the order of the fields."""
    assert faults(
        {
            "model": {**SOURCE, "revision": ""},
            "engine": {"type": "vLLM", "image": "x", "version": "y"},
            "resources": {"gpus": "1"},
            "replicas": 1001,
        }
    ) == [
        "`spec.model.revision` must not be empty",
        "`spec.engine.version` must not be set together with `image`, which has a tag of its own",
        "`spec.resources.gpus` must be a whole number without quotes",
        "`spec.replicas` must be at most 1000",
    ]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (None, "`spec` is required"),
        ([], "`spec` must be an object"),
        (
            {},
            "`spec.model.source` is required unless `external`, `router` or `cascade` is set or `engine.type` is "
            "OpenAICompatible",
        ),
        ({"model": "x"}, "`spec.model` must be an object"),
        ({"model": SOURCE, "resource": {}}, "`spec.resource` is not a field; did you mean resources?"),
        ({"model": SOURCE, "cache": {"zzz": 1}}, "`spec.cache.zzz` is not a field; allowed are accessMode, claimName"),
        (
            {"model": SOURCE, "engine": {"type": "vllm"}},
            "`spec.engine.type` must be vLLM, TGI, SGLang, OpenAICompatible",
        ),
        ({"model": SOURCE, "engine": {"args": "--x"}}, "`spec.engine.args` must be a list"),
        ({"model": SOURCE, "engine": {"args": [1]}}, "`spec.engine.args[0]` must be a string; put it in quotes"),
        ({"model": SOURCE, "engine": {"args": ["x"] * 65}}, "`spec.engine.args` must have at most 64 items"),
        ({"model": SOURCE, "resources": {"cpu": 4}}, "`spec.resources.cpu` must be a string; put it in quotes"),
        ({"model": SOURCE, "resources": {"memory": "32GB"}}, "`spec.resources.memory` must be a size greater than 0"),
        ({"model": SOURCE, "resources": {"gpus": True}}, "`spec.resources.gpus` must be a whole number"),
        ({"model": SOURCE, "resources": {"gpus": 1.5}}, "`spec.resources.gpus` must be a whole number"),
        (
            {"model": SOURCE, "resources": {"nodeSelector": {"a": 1}}},
            "`spec.resources.nodeSelector.a` must be a string",
        ),
        ({"model": SOURCE, "scaling": {}}, "`spec.scaling.max` is required"),
        ({"model": SOURCE, "template": {"spec": 1}}, "`spec.template.spec` must be an object"),
        ({"model": SOURCE, "template": {"containers": []}}, "`spec.template.containers` is not a field; allowed are"),
        ({"model": SOURCE, "prefixes": [{"name": "p", "system": ""}]}, "`spec.prefixes[0].system` must not be empty"),
        (
            {"model": SOURCE, "adapters": [{"name": "a", "source": "hf://a/b"}] * 2},
            "`spec.adapters[1]` repeats the `name` of an earlier item",
        ),
        ({"model": {**SOURCE, "aliases": ["a", "a"]}}, "`spec.model.aliases[1]` repeats an earlier item"),
    ],
)
def test_sentence(spec: Any, sentence: str) -> None:
    """The message names the field and says what is allowed."""
    assert any(fault.startswith(sentence) for fault in faults(spec)), faults(spec)


def test_null_is_absent() -> None:
    """null in a manifest means that the field is not there, as in the API server."""
    spec = {"model": {**SOURCE, "revision": None}, "engine": None, "resources": {"gpus": None}}
    assert faults(spec) == []


def test_null_inside_the_template_stays() -> None:
    """In a strategic merge patch null deletes, so it must not get lost."""
    template = {"spec": {"securityContext": None}}
    model = parse_model(manifest({"model": SOURCE, "template": template}))
    assert model.spec is not None
    assert model.spec.template == template


def test_what_a_release_before_accepted_of_scaling_is_accepted() -> None:
    """Bounds beside the number to begin with: an upgrade must not stop a model."""
    assert faults({"model": SOURCE, "replicas": 3, "scaling": {"min": 1, "max": 5}}) == []
    assert faults({"model": SOURCE, "replicas": 0, "scaling": {"min": 0, "max": 5}}) == []


def test_many_faults_are_counted() -> None:
    """A manifest with a thousand faults does not make a status that the API server refuses."""
    found = faults({"model": SOURCE, **{f"field{number}": 1 for number in range(1000)}})
    assert len(found) == 21
    assert found[-1] == "has 980 more faults"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a" * 53, "must have at most 52 characters"),
        ("llama-3.1", "must be lower case letters, digits and '-', and begin with a letter"),
        ("7b", "must be lower case letters, digits and '-', and begin with a letter"),
        ("", "must not be empty"),
        (7, "must be a string"),
        (None, "is required"),
    ],
)
def test_name(name: Any, sentence: str) -> None:
    """The name must leave room for what children append, and be one that a Service can have."""
    model = parse_model(manifest({"model": SOURCE}, name=name))
    assert [fault.field for fault in model.faults] == ["metadata.name"]
    assert model.faults[0].message.startswith(sentence)
    assert model.spec is None


def test_other_kind_is_a_fault() -> None:
    """An object that says it is something else is not parsed as an LLMModel."""
    content = manifest({"model": SOURCE}) | {"kind": "Pod", "apiVersion": "v1"}
    fields = [fault.field for fault in parse_model(content).faults]
    assert fields == ["apiVersion", "kind"]
