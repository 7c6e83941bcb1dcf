"""Prompts in ConfigMaps, in files: `capstan validate` and `capstan render` look where the cluster would."""

import pytest

from capstan_operator.manifests.collect import Manifests, collect
from capstan_operator.manifests.documents import Severity
from capstan_operator.manifests.prompts import with_prompts
from capstan_operator.manifests.reading import parse_text
from capstan_operator.resources.resource import ObjectKey

MODEL = """\
apiVersion: capstan.dev/v1alpha1
kind: LLMModel
metadata: {name: a}
spec:
  model: {source: hf://org/name}
  prefixes:
    - name: house
      systemFrom: {configMapKeyRef: {name: prompts, key: rules}}
---
"""


def config_map(data: str, namespace: str = "default", name: str = "prompts") -> str:
    """A ConfigMap with this data, which may be anything."""
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata: {data}\n---\n"


def read(text: str) -> Manifests:
    """Judge one file."""
    documents, _ = parse_text(text, file="m.yaml")
    return with_prompts(collect(documents))


def prompts(found: Manifests) -> dict[str, str]:
    """The prompts of the model."""
    spec = found.models[ObjectKey("default", "a")].spec
    assert spec is not None
    return spec.prompts


def test_a_prompt_is_taken_from_the_files() -> None:
    """Nothing is said of a ConfigMap that is used; of another one, and of its like, that nobody looks at it."""
    found = read(MODEL + config_map("{rules: Be kind.}") + config_map("{rules: no}") + config_map("{}", name="other"))
    assert prompts(found) == {"house": "Be kind."}
    assert [(one.severity, one.document, one.resource) for one in found.diagnostics] == [
        (Severity.NOTICE, 3, "ConfigMap default/prompts"),
        (Severity.NOTICE, 4, "ConfigMap default/other"),
    ]


@pytest.mark.parametrize(
    ("other", "severity", "said"),
    [
        ("", Severity.WARNING, "names a ConfigMap that is in none of these manifests"),
        (config_map("{rules: no}", "elsewhere"), Severity.WARNING, "names a ConfigMap that is in none"),
        (config_map("{more: x}"), Severity.ERROR, "names the key 'rules', which the ConfigMap 'prompts' does not have"),
        (config_map("[rules]"), Severity.ERROR, "names the key 'rules', which the ConfigMap 'prompts' does not have"),
        (config_map("{rules: [x]}"), Severity.ERROR, "which is not UTF-8"),
    ],
)
def test_what_is_wrong_has_the_line_of_the_reference(other: str, severity: Severity, said: str) -> None:
    """A ConfigMap that is not there may be in the cluster; one that is there has to have the text."""
    [found] = [one for one in read(MODEL + other).diagnostics if one.severity is not Severity.NOTICE]
    assert (found.severity, found.line, found.field) == (severity, 8, "spec.prefixes[0].systemFrom")
    assert said in found.message
    assert prompts(read(MODEL + other)) == {}
