"""The pods beside the stable ones, of a canary and of the Job of the suites, have what people say of a model's pods."""

from typing import Any

import pytest

from capstan_operator.api.rollout import RolloutStatus
from capstan_operator.desired.rollouts.machine import Wants
from capstan_operator.desired.rollouts.objects import Beside, wanted_beside
from capstan_operator.settings import BuildSettings
from support.plainmodels import make_model

SETTINGS = BuildSettings(
    image_pull_secrets=("registry",),
    model_pod_labels='{"fleet":"one","team":"all"}',
    model_pod_annotations='{"note":"x"}',
    model_pod_security='{"fsGroup":1,"runAsNonRoot":true,"runAsUser":null}',
    model_container_security='{"allowPrivilegeEscalation":false}',
    model_env='[{"name":"HTTPS_PROXY","value":"http://proxy"}]',
)
PODS = {"labels": {"team": "ml"}, "serviceAccountName": "models", "imagePullSecrets": [{"name": "own"}]}


def templates(settings: BuildSettings, **spec: Any) -> dict[str, dict[str, Any]]:
    """Give the pod templates of the Deployment and the Job beside a model whose rollout evaluates, by kind."""
    gate = {"suites": [{"configMap": "suite"}]}
    steps = {"steps": [{"weight": 10}], "gate": gate}
    model = make_model(rollout=steps, **spec)
    assert model.spec is not None
    memory = RolloutStatus(state="Evaluating", stable="a", candidate="b", began="2026-05-04T12:00:00Z")
    beside = Beside(model, model.spec, memory, Wants(canary=1, job=True), keeps=False)
    wanted = [one.manifest for one in wanted_beside(beside, settings, children=(), revisions=())]
    return {one["kind"]: one["spec"]["template"] for one in wanted if one["kind"] in ("Deployment", "Job")}


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_they_are_called_and_run_as_the_stable_pods(kind: str) -> None:
    """Labels, annotations, account, pull secrets and security contexts, of the install and of the model."""
    template = templates(SETTINGS, pods=PODS)[kind]
    labels, pod = template["metadata"]["labels"], template["spec"]
    assert (labels["fleet"], labels["team"], labels["capstan.dev/model"]) == ("one", "ml", "llama")
    assert template["metadata"]["annotations"]["note"] == "x"
    assert (pod["serviceAccountName"], pod["imagePullSecrets"]) == ("models", [{"name": "registry"}, {"name": "own"}])
    assert pod["securityContext"] == {"runAsNonRoot": True, **({"fsGroup": 1} if kind == "Deployment" else {})}
    assert pod["containers"][0]["securityContext"] == {"allowPrivilegeEscalation": False}


def test_only_engines_have_the_variables_of_the_install() -> None:
    """A Job asks pods of this cluster, and nobody through a proxy."""
    found = templates(SETTINGS)
    names = {kind: {one["name"] for one in found[kind]["spec"]["containers"][0].get("env", ())} for kind in found}
    assert "HTTPS_PROXY" in names["Deployment"]
    assert names["Job"] == set()


def test_without_any_of_it_a_job_is_as_before() -> None:
    """No key is there that nobody has asked for."""
    template = templates(BuildSettings())["Job"]
    assert template["metadata"].keys() == {"labels"}
    assert not {"imagePullSecrets", "serviceAccountName"} & template["spec"].keys()
    assert template["spec"]["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
