"""What an install, and `spec.pods`, say of the pods of a model and of the Jobs of its rollouts."""

import json
from typing import Any

import pytest

from capstan_contract.names import CANARY
from capstan_operator.api.parse import parse_model
from capstan_operator.desired.pod import build_template
from capstan_operator.settings import BuildSettings, load_settings
from capstan_process.settings import SettingsError


def template(settings: BuildSettings | None = None, track: str = "stable", **spec: Any) -> dict[str, Any]:
    """Give the pod template of a model with these fields of the spec."""
    manifest = {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "LLMModel",
        "metadata": {"name": "m", "namespace": "ns", "uid": "u", "generation": 1},
        "spec": {"model": {"source": "hf://org/name"}, **spec},
    }
    model = parse_model(manifest)
    assert model.faults == ()
    assert model.spec is not None
    return build_template(model, model.spec, settings or BuildSettings(), track)[0]


def settings(**environ: Any) -> BuildSettings:
    """Give the settings of an operator with these variables."""
    given = {f"CAPSTAN_{key}": value if isinstance(value, str) else json.dumps(value) for key, value in environ.items()}
    return load_settings(given).build


def engine(found: dict[str, Any]) -> dict[str, Any]:
    """Give the engine's container."""
    return dict(found["spec"]["containers"][0])


def variables(found: dict[str, Any]) -> dict[str, Any]:
    """Give the variables of the engine by name."""
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in engine(found)["env"]}


@pytest.mark.parametrize("track", ["stable", CANARY])
def test_a_model_s_labels_win_over_the_install_s_and_lose_to_capstan_s(track: str) -> None:
    """On the pods of every track; Capstan's own labels are there whatever is said."""
    said = settings(MODEL_POD_LABELS={"team": "all", "zone": "a"}, MODEL_POD_ANNOTATIONS={"n": "all"})
    found = template(said, track, pods={"labels": {"team": "ml"}, "annotations": {"n": "own", "o": "x"}})["metadata"]
    assert found["labels"]["team"] == "ml"
    assert found["labels"]["zone"] == "a"
    assert found["labels"]["capstan.dev/model"] == "m"
    assert found["labels"]["capstan.dev/track"] == track
    assert found["annotations"] == {"n": "own", "o": "x"}


def test_pods_run_as_the_account_and_pull_with_all_secrets() -> None:
    """Those of the install come first, and none twice."""
    said = BuildSettings(image_pull_secrets=("registry", "both"))
    own = {"serviceAccountName": "models", "imagePullSecrets": [{"name": "both"}, {"name": "own"}]}
    found = template(said, pods=own)["spec"]
    assert found["serviceAccountName"] == "models"
    assert found["imagePullSecrets"] == [{"name": "registry"}, {"name": "both"}, {"name": "own"}]
    assert found["automountServiceAccountToken"] is False


def test_fields_of_a_security_context_that_are_null_are_left_out() -> None:
    """Of the pod, of the engine's container and of the worker's."""
    said = settings(
        MODEL_POD_SECURITY={"runAsNonRoot": True, "runAsUser": None, "seccompProfile": {"type": "X", "y": None}},
        MODEL_CONTAINER_SECURITY={"privileged": None, "allowPrivilegeEscalation": False},
    )
    found = template(said, engine={"version": "v1"})["spec"]
    assert found["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "X"}}
    for container in (*found["containers"], *found["initContainers"]):
        assert container["securityContext"] == {"allowPrivilegeEscalation": False}


def test_variables_of_the_install_come_before_those_of_the_model() -> None:
    """A model's own win, and so do those of the install over what Capstan only proposes."""
    fleet = [{"name": "HF_ENDPOINT", "value": "https://a"}, {"name": "HTTPS_PROXY", "value": "p"}]
    found = template(
        settings(MODEL_ENV=[*fleet, {"name": "XDG_CACHE_HOME", "value": "/x"}]),
        engine={"env": [{"name": "HTTPS_PROXY", "value": "own"}]},
    )
    names = [one["name"] for one in engine(found)["env"]]
    assert len(names) == len(set(names))
    seen = variables(found)
    assert (seen["HF_ENDPOINT"], seen["HTTPS_PROXY"], seen["XDG_CACHE_HOME"]) == ("https://a", "own", "/x")


@pytest.mark.parametrize("name", ["VLLM_API_KEY", "HF_HOME"])
def test_variables_that_capstan_relies_on_are_left_out(name: str) -> None:
    """An install breaks no model by a variable that its engine must not have."""
    found = template(settings(MODEL_ENV=[{"name": name, "value": "/elsewhere"}]), cache={"size": "10Gi"})
    assert variables(found).get(name) != "/elsewhere"


def test_authorities_of_the_install_are_where_engines_look() -> None:
    """Python and OpenSSL, requests, curl and the clients of S3 believe the same file; a model may say another one."""
    found = template(
        settings(CA_CONFIG_MAP="company", CA_KEY="bundle.pem"),
        engine={"env": [{"name": "AWS_CA_BUNDLE", "value": "/other"}]},
    )
    seen = variables(found)
    assert {seen[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")} == {
        "/etc/capstan/ca/ca.crt"
    }
    assert seen["AWS_CA_BUNDLE"] == "/other"
    volume = {"configMap": {"name": "company", "items": [{"key": "bundle.pem", "path": "ca.crt"}]}}
    assert {"name": "capstan-ca", **volume} in found["spec"]["volumes"]
    assert {"name": "capstan-ca", "mountPath": "/etc/capstan/ca", "readOnly": True} in engine(found)["volumeMounts"]


def test_a_worker_beside_an_engine_believes_the_same_authorities() -> None:
    """It has the mount and the variables too: it is a process of its own, with clients of its own."""
    found = template(settings(CA_CONFIG_MAP="company"), engine={"type": "TGI"})["spec"]
    worker = next(one for one in found["initContainers"] if one["name"] == "worker")
    mounted = next(one["mountPath"] for one in worker["volumeMounts"] if one["name"] == "capstan-ca")
    assert {one["name"]: one.get("value") for one in worker["env"]}["SSL_CERT_FILE"] == f"{mounted}/ca.crt"


def test_authorities_may_be_in_a_secret() -> None:
    """They are mounted from there alike."""
    volumes = template(settings(CA_SECRET="company"))["spec"]["volumes"]
    assert {
        "name": "capstan-ca",
        "secret": {"secretName": "company", "items": [{"key": "ca.crt", "path": "ca.crt"}]},
    } in volumes


def test_files_are_mounted_one_by_one() -> None:
    """So that what the image has beside them stays, and each from its own source."""
    files = [
        {"path": "/templates/a.jinja", "configMapKeyRef": {"name": "templates", "key": "a"}},
        {"path": "/etc/other", "secretKeyRef": {"name": "hidden", "key": "b"}},
    ]
    found = template(engine={"files": files, "envFrom": [{"prefix": "A_", "secretRef": {"name": "s"}}]})
    (volume,) = [one for one in found["spec"]["volumes"] if one["name"] == "engine-files"]
    assert volume["projected"]["sources"] == [
        {"configMap": {"name": "templates", "items": [{"key": "a", "path": "0"}]}},
        {"secret": {"name": "hidden", "items": [{"key": "b", "path": "1"}]}},
    ]
    mounts = [one for one in engine(found)["volumeMounts"] if one["name"] == "engine-files"]
    assert [(one["mountPath"], one["subPath"]) for one in mounts] == [("/templates/a.jinja", "0"), ("/etc/other", "1")]
    assert engine(found)["envFrom"] == [{"prefix": "A_", "secretRef": {"name": "s"}}]


def test_claims_are_the_engine_s() -> None:
    """The pod names them, the engine has them, and a replica over several devices has the shared memory for it."""
    claims = [
        {"name": "gpus", "resourceClaimTemplateName": "pair", "request": "gpu"},
        {"name": "net", "resourceClaimName": "nic"},
    ]
    found = template(resources={"claims": claims}, parallelism={"tensor": 2})
    assert found["spec"]["resourceClaims"] == [
        {"name": "gpus", "resourceClaimTemplateName": "pair"},
        {"name": "net", "resourceClaimName": "nic"},
    ]
    assert engine(found)["resources"] == {"claims": [{"name": "gpus", "request": "gpu"}, {"name": "net"}]}
    assert {"key": "nvidia.com/gpu", "operator": "Exists"} in found["spec"]["tolerations"]
    (memory,) = [one["emptyDir"] for one in found["spec"]["volumes"] if one["name"] == "shm"]
    assert memory["sizeLimit"] == "2Gi"
    args = engine(found)["args"]
    assert args[args.index("--tensor-parallel-size") + 1] == "2"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MODEL_ENV", "{", "must be JSON"),
        ("MODEL_ENV", {}, "must be a JSON list"),
        ("MODEL_ENV", [{"name": "A B", "value": ""}], "must have variables with a `name`"),
        ("MODEL_ENV", [{"name": "CAPSTAN_WORKER_PORT", "value": "1"}], "must not have CAPSTAN_WORKER_PORT"),
        ("MODEL_ENV", [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}], "must name each variable once"),
        ("MODEL_ENV", [{"name": "A"}], "must have a `value` or a `valueFrom` of A"),
        ("MODEL_ENV", [{"name": "A", "value": 1}], "must have a string"),
        ("MODEL_POD_LABELS", {"a": 1}, "must be a JSON object of strings"),
        ("MODEL_POD_LABELS", {"a b": "1"}, "must have keys such as"),
        ("MODEL_POD_LABELS", {"a": "x y"}, "must have the value of a label for a"),
        ("MODEL_POD_LABELS", {"capstan.dev/model": "x"}, "must not have capstan.dev/model"),
        ("MODEL_POD_LABELS", {"job-name": "x"}, "must not have job-name"),
        ("MODEL_POD_ANNOTATIONS", {"capstan.dev/x": "x"}, "must not have capstan.dev/x"),
        ("MODEL_POD_SECURITY", [], "must be a JSON object"),
    ],
)
def test_settings_that_cannot_be_used_end_the_operator(name: str, value: Any, says: str) -> None:
    """With a message that names the variable and says what is allowed."""
    with pytest.raises(SettingsError, match=f"CAPSTAN_{name}.*{says}"):
        settings(**{name: value})
