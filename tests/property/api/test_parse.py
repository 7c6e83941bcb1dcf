"""parse_model on anything at all."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.api.parse import parse_model

SECRET = "s3cr3t-value"
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
NAMES = st.sampled_from(["apiVersion", "kind", "metadata", "spec", "status", "name", "namespace", "generation"])
FIELDS = st.sampled_from(sorted(LLMModelSpec.model_fields))


@given(
    st.dictionaries(NAMES | st.text(max_size=4), JSON | st.dictionaries(NAMES | FIELDS, JSON, max_size=4), max_size=6)
)
def test_never_raises(content: dict[str, Any]) -> None:
    """Whatever JSON object comes, the answer is a Model: with a spec, or with errors, never both or neither."""
    model = parse_model(content)
    assert (model.spec is None) == bool(model.faults)


def leaves(value: Any) -> Any:
    """Every path to a leaf of a document."""
    if isinstance(value, dict):
        return [(key, *rest) for key, item in value.items() for rest in leaves(item)]
    if isinstance(value, list):
        return [(index, *rest) for index, item in enumerate(value) for rest in leaves(item)]
    return [()]


WHOLE: dict[str, Any] = {
    "apiVersion": "capstan.dev/v1alpha1",
    "kind": "LLMModel",
    "metadata": {"name": "x"},
    "spec": {
        "model": {"source": "hf://a/b", "servedName": "a", "aliases": ["b"], "revision": "main", "task": "chat"},
        "engine": {
            "type": "vLLM",
            "version": "v1",
            "args": ["--a"],
            "env": [
                {"name": "A", "value": "b"},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            ],
        },
        "external": {"provider": "OpenAI", "url": "https://h/v1", "secretRef": {"name": "s", "key": "k"}},
        "resources": {"gpus": 1, "cpu": "1", "nodeSelector": {"a": "b"}, "tolerations": [{"key": "a", "value": "b"}]},
        "scaling": {"min": 1, "max": 2},
        "serving": {"capabilities": ["Tools"], "price": {"inputPerMillion": "1"}, "timeouts": {"idleSeconds": 1}},
        "cache": {"size": "1Gi"},
        "adapters": [{"name": "a", "source": "hf://a/b"}],
        "prefixes": [{"name": "p", "system": "s"}],
        "template": {"spec": {}},
    },
}
SLIPS: list[Any] = [SECRET, f" {SECRET}", {SECRET: SECRET}, [SECRET], SECRET * 500]


@given(st.sampled_from(leaves(WHOLE)), st.sampled_from(SLIPS), st.sampled_from([SECRET, 5]))
def test_messages_never_repeat_a_value(path: tuple[str | int, ...], slip: Any, beside: Any) -> None:
    """A secret that ended up in the wrong field is in no message."""
    content = json.loads(json.dumps(WHOLE))
    place = content
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = slip
    content["spec"]["engine"]["env"][0]["value"] = beside
    model = parse_model(content)
    assert model.faults
    assert all(SECRET not in error.message for error in model.faults)
