"""What the chart tells the operator of the pods of all models."""

import json
from typing import Any

import pytest

from capstan_operator.settings import BuildSettings, Settings, load_settings
from support.helm import CHART, pod_specs, render, run_helm, try_render
from support.yamls import load_all

IDS = {"runAsUser", "runAsGroup", "fsGroup"}


def told(values: dict[str, Any] | None = None) -> Settings:
    """Give what the operator reads from the environment that the chart gives it."""
    return _read(render(values))


def _read(objects: list[dict[str, Any]]) -> Settings:
    container = pod_specs(objects)["capstan-operator"]["containers"][0]
    return load_settings({entry["name"]: entry.get("value", "x") for entry in container["env"]})


def test_the_chart_says_by_default_what_the_operator_has_by_default() -> None:
    """An install of the chart and an operator without settings make the same pods."""
    ours, theirs = BuildSettings(), told().build
    fields = ("env", "pod_labels", "pod_annotations", "pod_security", "container_security")
    for field in (*(f"model_{one}" for one in fields), "ca_config_map", "ca_secret", "ca_key"):
        assert getattr(theirs, field) == getattr(ours, field), field


def test_a_null_in_a_file_of_values_leaves_a_field_out() -> None:
    """As OpenShift wants it, which chooses users and groups itself; the other fields stay."""
    values = {"models": {"podSecurityContext": dict.fromkeys(IDS), "containerSecurityContext": {"capabilities": None}}}
    build = told(values).build
    found = {key: value for key, value in json.loads(build.model_pod_security).items() if value is not None}
    assert found == {
        "runAsNonRoot": True,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert not json.loads(build.model_container_security).get("capabilities")


def test_a_null_on_the_command_line_leaves_a_field_out() -> None:
    """As Argo CD passes parameters."""
    null = "models.podSecurityContext.runAsUser=null"
    done = run_helm("template", "capstan", str(CHART), "--kube-version", "1.34.0", "--set", null)
    assert done.returncode == 0, done.stderr
    found = [document for document in _documents(done.stdout) if document["kind"] == "Deployment"]
    security = json.loads(_read(found).build.model_pod_security)
    assert security.get("runAsUser") is None
    assert security["runAsGroup"] == 10001


def _documents(text: str) -> list[dict[str, Any]]:
    return [document for document in load_all(text) if document]


def test_what_is_said_of_all_pods_reaches_the_operator() -> None:
    """Variables, labels, annotations and authorities, whatever signs are in them."""
    variables = [
        {"name": "HF_ENDPOINT", "value": 'https://hf.example.com/?a="b"&c=$(D)'},
        {"name": "HTTPS_PROXY", "valueFrom": {"secretKeyRef": {"name": "proxy", "key": "url"}}},
    ]
    build = told(
        {
            "models": {"env": variables, "podLabels": {"team": "ml"}, "podAnnotations": {"example.com/note": "a: 'b'"}},
            "caBundle": {"configMap": "company", "key": "bundle.pem"},
        }
    ).build
    assert json.loads(build.model_env) == variables
    assert json.loads(build.model_pod_labels) == {"team": "ml"}
    assert json.loads(build.model_pod_annotations) == {"example.com/note": "a: 'b'"}
    assert (build.ca_config_map, build.ca_secret, build.ca_key) == ("company", "", "bundle.pem")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"caBundle": {"configMap": "a", "secret": "b"}}, "caBundle.configMap and caBundle.secret exclude each other"),
        ({"models": {"env": [{"name": "with space", "value": "x"}]}}, "with space"),
        ({"models": {"env": [{"name": "A", "value": 1}]}}, "value"),
        ({"models": {"podLabels": {"a": 1}}}, "podLabels"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(values: dict[str, Any], says: str) -> None:
    """By Helm, before anything is installed."""
    done = try_render(values)
    assert done.returncode != 0
    assert says in done.stderr


@pytest.mark.parametrize("kind", ["configMap", "secret"])
def test_authorities_are_those_of_every_component(kind: str) -> None:
    """The operator, the gateway and the scorer mount them and are told where, whatever else they have."""
    values = {"caBundle": {kind: "company", "key": "bundle.pem"}, "scorer": {"enabled": True}}
    source = {"name": "company"} if kind == "configMap" else {"secretName": "company"}
    specs = pod_specs(render(values))
    for name in ("capstan-operator", "capstan-gateway", "capstan-scorer"):
        (container,) = specs[name]["containers"]
        assert {"name": "SSL_CERT_FILE", "value": "/etc/capstan/ca/ca.crt"} in container["env"]
        assert {"name": "capstan-ca", "mountPath": "/etc/capstan/ca", "readOnly": True} in container["volumeMounts"]
        mounted = {"name": "capstan-ca", kind: {**source, "items": [{"key": "bundle.pem", "path": "ca.crt"}]}}
        assert mounted in specs[name]["volumes"]


def test_without_authorities_of_its_own_nothing_is_mounted() -> None:
    """The images' own ones are believed."""
    assert "capstan-ca" not in str(render({"scorer": {"enabled": True}}))
