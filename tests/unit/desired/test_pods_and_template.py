"""What `spec.pods` and `engine` say of a pod, beside a patch of its template."""

from typing import Any

from capstan_operator.api.parse import parse_model
from capstan_operator.desired.faults import judge_faults


def faults(template: dict[str, Any], **spec: Any) -> list[str]:
    """Give where a model with this patch has faults."""
    manifest = {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "LLMModel",
        "metadata": {"name": "m", "namespace": "ns"},
        "spec": {"model": {"source": "hf://org/name"}, "template": template, **spec},
    }
    model = parse_model(manifest)
    assert model.faults == ()
    return [fault.field for fault in judge_faults(model)]


def test_a_template_may_say_another_value_of_a_label_of_the_model() -> None:
    """It is applied last; only Capstan's own labels are none of its business."""
    assert faults({"metadata": {"labels": {"team": "b"}}}, pods={"labels": {"team": "a"}}) == []
    own = faults({"metadata": {"labels": {"capstan.dev/model": "b"}}}, pods={"labels": {"team": "a"}})
    assert own == ["spec.template.metadata.labels"]


def test_sources_of_variables_of_the_model_are_no_fault_of_a_template() -> None:
    """Of a source that the template adds nobody says what must not be in it, so it needs a prefix."""
    sources = {"envFrom": [{"secretRef": {"name": "s"}}]}
    patch = {"spec": {"containers": [{"name": "engine", "workingDir": "/"}]}}
    assert faults(patch, engine=sources) == []
    added = {"spec": {"containers": [{"name": "engine", "envFrom": [{"secretRef": {"name": "t"}}]}]}}
    assert faults(added, engine=sources) == ["spec.template.spec.containers[0].envFrom"]
