"""The chart, rendered by the real Helm."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.names import (
    ADMIN_KEY_FIELD,
    CONFIG_FILE,
    MAX_CONFIG_SHARDS,
    MAX_CREDENTIAL_SHARDS,
    PRIVACY_KEY,
    SHARD_SETS,
    credential_object,
    shard_file,
    shard_object,
)
from capstan_gateway.settings import ENV_PREFIX, Settings, parse_settings
from capstan_operator.names import RELEASE
from capstan_operator.settings import BuildSettings, load_settings
from capstan_operator.settings import Settings as OperatorSettings
from capstan_process.settings import SettingsError
from support.helm import CHART, NAMESPACE, PROMETHEUS, one, pod_specs, render, run_helm, try_render

OPEN: dict[str, Any] = {}
"""Nothing is asked of whoever installs."""


def with_values(**changes: Any) -> dict[str, Any]:
    """Give values that install, changed one level deep."""
    merged: dict[str, Any] = {}
    for key, value in changes.items():
        merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    return merged


EVERYTHING = with_values(
    crds={"enabled": True},
    commonLabels={"team": "ml"},
    imagePullSecrets=[{"name": "registry"}],
    operator={
        "extraEnv": [{"name": "A", "value": "b"}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
        "podAnnotations": {"a/b": "c"},
        "serviceAccount": {"annotations": {"a/b": "c"}},
    },
    gateway={
        "autoscaling": {"enabled": True},
        "service": {"type": "NodePort", "nodePort": 30080, "annotations": {"a/b": "c"}},
    },
    redis={"persistence": {"enabled": True, "storageClassName": "fast"}, "auth": {"existingSecret": "redis"}},
    networkPolicies={"enabled": True, "gatewayFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
    monitoring={"serviceMonitor": {"enabled": True, "labels": {"release": "x"}}, "prometheusRule": {"enabled": True}},
)


def credential_objects(name: str) -> list[str]:
    """Give the names of all Secrets that credentials can be in."""
    return [credential_object(name, shard) for shard in range(MAX_CREDENTIAL_SHARDS + 1)]


VARIANTS = {
    "default": OPEN,
    "everything": EVERYTHING,
    "several operators": with_values(operator={"replicas": 3, "className": "blue"}),
    "namespaced": with_values(operator={"watchNamespaces": ["team-a", "team-b"], "readNodes": False}),
    "sentinels": with_values(
        redis={
            "enabled": False,
            "externalUrl": "rediss+sentinel://s1:26379,s2/limits/0",
            "sentinelAuth": {"existingSecret": "sentinels"},
            "limitTimeoutSeconds": 0.02,
        },
        gateway={"limits": {"shares": False}},
    ),
    "redis cluster": with_values(redis={"enabled": False, "externalUrl": "redis+cluster://a:7000,b:7001"}),
    "external redis": with_values(redis={"enabled": False, "externalUrl": "rediss://redis.example.com:6379/0"}),
    "redis from a secret": with_values(
        redis={"enabled": False, "externalUrlSecret": {"name": "managed"}, "caSecret": {"name": "authority"}}
    ),
    "scorer": with_values(
        scorer={"enabled": True, "judges": ["judge", "other-*"], "sealSecret": "seal", "redisSecret": "scorer-redis"},
        networkPolicies={"enabled": True},
        monitoring={"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}},
    ),
    "small": with_values(gateway={"replicas": 1}, redis={"enabled": False}, crds={"enabled": False}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_lints_clean(variant: str) -> None:
    """`helm lint --strict` has nothing to say about the chart with any of the usual sets of values."""
    done = run_helm("lint", str(CHART), "--strict", "--kube-version", "1.34.0", values=_without_monitors(variant))
    assert done.returncode == 0, done.stdout + done.stderr


def _without_monitors(variant: str) -> dict[str, Any]:
    # helm lint cannot be told which APIs a cluster has.
    return {key: value for key, value in VARIANTS[variant].items() if key != "monitoring"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_renders_the_same_twice(variant: str) -> None:
    """There is nothing random or dated in any template."""
    assert render(VARIANTS[variant], apis=(PROMETHEUS,)) == render(VARIANTS[variant], apis=(PROMETHEUS,))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_pod_is_restricted(variant: str) -> None:
    """Every pod runs without root, privileges and a writable root file system, and has limits and requests."""
    for name, spec in pod_specs(render(VARIANTS[variant], apis=(PROMETHEUS,))).items():
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["enableServiceLinks"] is False, name
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["requests"]["memory"], name
            assert container["livenessProbe"], name
            assert container["readinessProbe"], name
            assert container["startupProbe"], name


def test_a_token_only_where_it_is_needed() -> None:
    """The operator and the gateway get a service account token, Redis gets none; no ServiceAccount gives one away."""
    objects = render(with_values(redis={"enabled": True}))
    tokens = {name: spec["automountServiceAccountToken"] for name, spec in pod_specs(objects).items()}
    assert tokens == {"capstan-operator": True, "capstan-gateway": True, "capstan-redis": False}
    accounts = [item for item in objects if item["kind"] == "ServiceAccount"]
    assert [account["automountServiceAccountToken"] for account in accounts] == [False, False]


@pytest.mark.parametrize("everybody", [False, True])
def test_the_gateway_asks_for_keys_unless_somebody_says_otherwise(everybody: bool) -> None:
    """An install without any value is one that lets nobody in without a key."""
    values = with_values(gateway={"insecureNoAuth": True}) if everybody else {}
    container = pod_specs(render(values))["capstan-gateway"]["containers"][0]
    settings = parse_settings([], {item["name"]: item["value"] for item in container["env"]})
    assert settings.insecure_no_auth is everybody


@pytest.mark.parametrize("everybody", [False, True])
def test_whoever_has_installed_is_told_how_to_make_a_first_key(everybody: bool, tmp_path: Path) -> None:
    """With the command, and without; or that none is needed."""
    notes = _notes(tmp_path, with_values(gateway={"insecureNoAuth": everybody}))
    assert ("everybody who reaches the gateway may use every model" in notes) is everybody
    assert (f"capstan keys create --namespace {NAMESPACE} --user me" in notes) is not everybody
    assert ('labels: {capstan.dev/api-key: "true"}' in notes) is not everybody


def _notes(tmp_path: Path, values: dict[str, Any]) -> str:
    """Give what Helm shows where it reaches a cluster."""
    chart = tmp_path / "capstan"
    shutil.copytree(CHART, chart)
    notes = (chart / "templates" / "NOTES.txt").read_text()
    text = "".join(f"  {line}\n" for line in notes.splitlines())
    (chart / "templates" / "notes.yaml").write_text(f"notes: |\n{text}")
    flags = ("--namespace", NAMESPACE, "--kube-version", "1.34.0", "--show-only", "templates/notes.yaml")
    done = run_helm("template", "capstan", str(chart), *flags, values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("given", "name"), [("", "capstan-gateway-admin"), ("own", "own")])
def test_the_credential_of_the_admin_pages_is_in_one_secret(given: str, name: str) -> None:
    """The operator makes and sends what the gateway asks for; only it may read the Secret through the API."""
    objects = render(with_values(gateway={"adminKeySecret": given}))
    gateway = pod_specs(objects)["capstan-gateway"]
    volume = next(volume for volume in gateway["volumes"] if volume["name"] == "admin")
    item = {"key": ADMIN_KEY_FIELD, "path": ADMIN_KEY_FIELD}
    assert volume["secret"] == {"secretName": name, "optional": True, "items": [item]}
    mount = next(mount for mount in gateway["containers"][0]["volumeMounts"] if mount["name"] == "admin")
    settings = parse_settings([], {item["name"]: item["value"] for item in gateway["containers"][0]["env"]})
    assert str(settings.admin_key_file) == f"{mount['mountPath']}/{ADMIN_KEY_FIELD}"
    container = pod_specs(objects)["capstan-operator"]["containers"][0]
    told = load_settings({item["name"]: item["value"] for item in container["env"] if "value" in item})
    assert told.gateway_admin_name == name
    rules = [rule for rule in one(objects, "Role", "capstan-operator")["rules"] if "secrets" in rule["resources"]]
    assert any(name in rule.get("resourceNames", ()) for rule in rules)
    own = [rule for rule in one(objects, "Role", "capstan-gateway")["rules"] if "secrets" in rule["resources"]]
    assert all(name not in rule["resourceNames"] for rule in own)


@pytest.mark.parametrize("asked", [False, True])
def test_prometheus_sends_the_credential_where_metrics_need_it(asked: bool) -> None:
    """To the gateway, and to nobody else."""
    values = with_values(gateway={"metricsNeedAdminKey": asked}, monitoring={"serviceMonitor": {"enabled": True}})
    objects = render(values, apis=(PROMETHEUS,))
    credentials = {"credentials": {"name": "capstan-gateway-admin", "key": ADMIN_KEY_FIELD}}
    for name in ("capstan-operator", "capstan-gateway-metrics"):
        (endpoint,) = one(objects, "ServiceMonitor", name)["spec"]["endpoints"]
        wanted = credentials if asked and name == "capstan-gateway-metrics" else None
        assert endpoint.get("authorization") == wanted
    container = pod_specs(objects)["capstan-gateway"]["containers"][0]
    settings = parse_settings([], {item["name"]: item["value"] for item in container["env"]})
    assert settings.metrics_need_admin_key is asked


CONTRADICTIONS = {
    "gateway.oidc.issuers needs gateway.oidc.audiences": {"gateway": {"oidc": {"issuers": ["https://id.example.com"]}}},
    "gateway.oidc.jwksUrl is for exactly one": {"gateway": {"oidc": {"jwksUrl": "https://id.example.com/keys"}}},
    "operator.replicas greater than 1 needs operator.leaderElection": {
        "operator": {"replicas": 2, "leaderElection": False}
    },
    "operator.className must not be 'default'": {"operator": {"className": "default"}},
    "redis.enabled and redis.externalUrl exclude each other": {
        "redis": {"enabled": True, "externalUrl": "redis://r:6379/0"}
    },
    "redis.externalUrlSecret has the whole URL": {"redis": {"enabled": True, "externalUrlSecret": {"name": "x"}}},
    "maxBytesPerTenant must be greater than or equal to": {
        "gateway": {"storedResponses": {"maxBytes": 2000, "maxBytesPerTenant": 1000}}
    },
    "gateway.storedResponses.enabled needs a Redis": {
        "gateway": {"storedResponses": {"enabled": True}},
        "redis": {"enabled": False},
    },
    "gateway.batches needs a Redis": {
        "gateway": {"batches": {"url": "s3://b"}},
        "redis": {"enabled": False},
    },
    "gateway.batches.existingClaim and gateway.batches.url exclude": {
        "gateway": {"batches": {"url": "s3://b", "existingClaim": "c"}},
    },
    "there is no Redis": {"redis": {"enabled": False, "auth": {"existingSecret": "x"}}},
    "queue.enabled needs a Redis": {"queue": {"enabled": True}, "redis": {"enabled": False}},
    "needs queue.workerUrl": {
        "queue": {"enabled": True},
        "redis": {"enabled": False, "externalUrlSecret": {"name": "x"}},
    },
    "queue.workerUrl is for an external Redis": {"queue": {"enabled": True, "workerUrl": "redis://r:6379"}},
    "needs queue.workerSecret": {"queue": {"enabled": True}, "redis": {"auth": {"existingSecret": "x"}}},
    "maxReplicas must be greater than or equal to": {
        "gateway": {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 2}}
    },
    "gateway.service.nodePort needs": {"gateway": {"service": {"nodePort": 30080}}},
    "gateway.service.loadBalancerSourceRanges needs": {
        "gateway": {"service": {"loadBalancerSourceRanges": ["1.2.3.4/32"]}}
    },
    "monitoring.serviceMonitor.enabled is true, but": {"monitoring": {"serviceMonitor": {"enabled": True}}},
    "monitoring.prometheusRule.enabled is true, but": {"monitoring": {"prometheusRule": {"enabled": True}}},
    "operator.serviceAccount.name is needed": {"operator": {"serviceAccount": {"create": False}}},
    "would have the operator's rights": {
        "operator": {"serviceAccount": {"name": "capstan"}},
        "gateway": {"serviceAccount": {"create": False, "name": "capstan"}},
    },
    "commonLabels must not contain 'app.kubernetes.io/name'": {"commonLabels": {"app.kubernetes.io/name": "llm"}},
}


@pytest.mark.parametrize("words", CONTRADICTIONS)
def test_refuses_contradictions(words: str) -> None:
    """Values that contradict each other are refused with a sentence that names them."""
    done = try_render(with_values(**CONTRADICTIONS[words]))
    assert done.returncode != 0
    assert words in done.stderr


WRONG_VALUES = {
    "/gateway/adminKeySecret": {"gateway": {"adminKeySecret": "Bad_Name"}},
    "/gateway/privacyKeySecret": {"gateway": {"privacyKeySecret": "Bad_Name"}},
    "at '/gateway/oidc/issuers/0'": {"gateway": {"oidc": {"issuers": ["http://id.example.com"], "audiences": ["x"]}}},
    "additional properties 'foo' not allowed": {"foo": 1},
    "at '/gateway/replicas'": {"gateway": {"replicas": "two"}},
    "at '/operator/className'": {"operator": {"className": "Blue_1"}},
    "at '/operator/replicas'": {"operator": {"replicas": 0}},
    "at '/operator/logLevel'": {"operator": {"logLevel": "LOUD"}},
    "at '/redis/externalUrl'": {"redis": {"enabled": False, "externalUrl": "redis://user:secret@r:6379"}},
    "at '/queue/workerUrl'": {"queue": {"workerUrl": "redis://user:secret@r:6379"}},
    "at '/redis/timeoutSeconds'": {"redis": {"timeoutSeconds": 0}},
    "at '/gateway/batches/url'": {"gateway": {"batches": {"url": "s3://user@bucket"}}},
    "at '/gateway/storedResponses/ttlSeconds'": {"gateway": {"storedResponses": {"ttlSeconds": 0}}},
    "at '/gateway/backgroundResponses/concurrency'": {"gateway": {"backgroundResponses": {"concurrency": 0}}},
    "at '/gateway/storedResponses/enabled'": {"gateway": {"storedResponses": {"enabled": "yes"}}},
    "at '/operator/watchNamespaces/0'": {"operator": {"watchNamespaces": ["Team_A"]}},
    "additional properties 'servicemonitor' not allowed": {"monitoring": {"servicemonitor": {}}},
}


@pytest.mark.parametrize("words", WRONG_VALUES)
def test_refuses_wrong_values(words: str) -> None:
    """The schema refuses unknown and wrong values and says where they are."""
    done = try_render(with_values(**WRONG_VALUES[words]))
    assert done.returncode != 0
    assert words in done.stderr


def test_an_autoscaler_owns_the_replicas() -> None:
    """With autoscaling the Deployment names no replicas, so that no upgrade sets them back."""
    objects = render(with_values(gateway={"autoscaling": {"enabled": True}}))
    assert "replicas" not in one(objects, "Deployment", "capstan-gateway")["spec"]
    target = one(objects, "HorizontalPodAutoscaler", "capstan-gateway")["spec"]["scaleTargetRef"]
    assert target["name"] == "capstan-gateway"


def test_one_replica_has_no_budget() -> None:
    """A single gateway pod gets no PodDisruptionBudget, which would only keep nodes from being drained."""
    kinds = [item["kind"] for item in render(with_values(gateway={"replicas": 1}))]
    assert "PodDisruptionBudget" not in kinds
    assert "PodDisruptionBudget" in [item["kind"] for item in render(OPEN)]


def test_one_operator_is_replaced_and_several_take_turns() -> None:
    """A single operator ends before the next one begins; of several, each new one is ready before an old one goes, they
    are spread, and a drain takes one at a time."""
    alone = one(render(OPEN), "Deployment", "capstan-operator")["spec"]
    assert (alone["replicas"], alone["strategy"]) == (1, {"type": "Recreate"})
    assert "topologySpreadConstraints" not in alone["template"]["spec"]
    names = [(item["kind"], item["metadata"]["name"]) for item in render(OPEN)]
    assert ("PodDisruptionBudget", "capstan-operator") not in names

    objects = render(with_values(operator={"replicas": 2}))
    several = one(objects, "Deployment", "capstan-operator")["spec"]
    assert several["replicas"] == 2
    assert several["strategy"]["type"] == "RollingUpdate"
    assert several["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    labels = several["selector"]["matchLabels"]
    spread = several["template"]["spec"]["topologySpreadConstraints"]
    assert [item["topologyKey"] for item in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    budget = one(objects, "PodDisruptionBudget", "capstan-operator")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"] == spread[0]["labelSelector"]["matchLabels"] == labels
    without = render(with_values(operator={"replicas": 2, "podDisruptionBudget": {"enabled": False}}))
    assert ("PodDisruptionBudget", "capstan-operator") not in [(i["kind"], i["metadata"]["name"]) for i in without]


def test_only_a_process_that_hangs_is_killed() -> None:
    """Liveness asks whether the operator's process works, and readiness whether it gets its work done."""
    container = pod_specs(render(OPEN))["capstan-operator"]["containers"][0]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize(("name", "claim"), [("", "capstan-class-default"), ("blue", "capstan-class-blue")])
def test_one_release_serves_all_namespaces_for_a_class(name: str, claim: str) -> None:
    """Each release that works in the whole cluster makes an object that there can be one of, so that helm refuses the
    second release of a class; it grants nothing, and releases that share no namespace have none."""
    objects = render(with_values(operator={"className": name}))
    assert one(objects, "ClusterRole", claim)["rules"] == []
    assert load_settings(_environment(objects)).class_name == name
    fewer = render(with_values(operator={"className": name, "watchNamespaces": ["team-a"]}))
    assert claim not in [item["metadata"]["name"] for item in fewer]


def test_grace_is_longer_than_the_longest_stream() -> None:
    """The pod of the gateway may live as long as draining, the running answers and something to spare take."""
    values = with_values(gateway={"drainSeconds": 7, "graceSeconds": 1200})
    spec = pod_specs(render(values))["capstan-gateway"]
    assert spec["terminationGracePeriodSeconds"] > 7 + 1200


def test_namespaced_has_no_cluster_role() -> None:
    """With `operator.watchNamespaces` there are Roles in these and in the install namespace, and no ClusterRole."""
    objects = render(VARIANTS["namespaced"])
    assert not [item for item in objects if item["kind"].startswith("ClusterRole")]
    assert {item["metadata"]["namespace"] for item in objects if item["kind"] == "Role"} == {
        NAMESPACE,
        "team-a",
        "team-b",
    }
    gateway = one(objects, "Deployment", "capstan-gateway")["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "CAPSTAN_GATEWAY_DISCOVERY_NAMESPACES", "value": f"team-a,team-b,{NAMESPACE}"} in gateway["env"]
    readers = [item for item in objects if item["metadata"]["name"] == "capstan-gateway-endpoints"]
    assert {item["metadata"]["namespace"] for item in readers if item["kind"] == "Role"} == {
        NAMESPACE,
        "team-a",
        "team-b",
    }
    assert {item["metadata"]["namespace"] for item in readers if item["kind"] == "RoleBinding"} == {
        NAMESPACE,
        "team-a",
        "team-b",
    }


def test_models_beside_the_operator_are_scraped() -> None:
    """The PodMonitor covers every namespace whose models are served, the install namespace among them."""
    values = with_values(operator={"watchNamespaces": ["team-a"]}, monitoring={"serviceMonitor": {"enabled": True}})
    monitor = one(render(values, apis=(PROMETHEUS,)), "PodMonitor", "capstan-models")
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["team-a", NAMESPACE]}


def test_the_gateway_reads_only_its_config() -> None:
    """The gateway may read its ConfigMap, all shards and its Secret by name, and EndpointSlices, and nothing else."""
    objects = render(OPEN)
    rules = one(objects, "Role", "capstan-gateway")["rules"]
    rules += one(objects, "ClusterRole", f"{NAMESPACE}-capstan-gateway")["rules"]
    name = "capstan-gateway-config"
    numbers = range(1, MAX_CONFIG_SHARDS + 1)
    olds = [shard_object(name, f"shard-{number}.json") for number in numbers]
    shards = [shard_object(name, shard_file(shard_set, number)) for shard_set in SHARD_SETS for number in numbers]
    assert rules == [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "verbs": ["get", "list", "watch"],
            "resourceNames": [name, *olds, *shards],
        },
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "verbs": ["get", "list", "watch"],
            "resourceNames": credential_objects("capstan-gateway-credentials"),
        },
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]


@pytest.mark.parametrize("variant", ["default", "namespaced"])
def test_no_wildcard_in_any_role(variant: str) -> None:
    """No rule has a wildcard, and Secrets are never listed but by name, or in the release's namespace: API keys."""
    for item in render(VARIANTS[variant]):
        lists_keys = (item["kind"], item["metadata"]["name"]) == ("Role", "capstan-operator")
        for rule in item.get("rules") or []:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            if "secrets" in rule["resources"] and "resourceNames" not in rule:
                assert not {"delete", *([] if lists_keys else ["list", "watch"])} & set(rule["verbs"])


def test_the_operator_understands_its_environment() -> None:
    """The variables that the chart sets are settings of the operator, and point at the objects of the chart."""
    objects = render(with_values(networkPolicies={"enabled": True}, imagePullSecrets=[{"name": "a"}, {"name": "b"}]))
    container = one(objects, "Deployment", "capstan-operator")["spec"]["template"]["spec"]["containers"][0]
    settings = load_settings({item["name"]: item["value"] for item in container["env"] if "value" in item})
    assert settings.build.install_namespace == NAMESPACE
    assert settings.build.worker_image == f"registry.example.com/capstan/worker:{RELEASE}"
    assert settings.build.network_policies is True
    assert settings.build.image_pull_secrets == ("a", "b")
    assert settings.build.gateway_url == f"http://capstan-gateway.{NAMESPACE}.svc/v1"
    assert one(objects, "Service", settings.build.gateway_service)
    gateway = pod_specs(objects)["capstan-gateway"]
    mounted = [source["configMap"]["name"] for source in gateway["volumes"][0]["projected"]["sources"]]
    assert settings.gateway_config_name == mounted[0]
    mounted = [source["secret"]["name"] for source in gateway["volumes"][1]["projected"]["sources"]]
    assert mounted == credential_objects(settings.gateway_credentials_name)
    admin = {port["name"]: port["containerPort"] for port in gateway["containers"][0]["ports"]}["admin"]
    assert settings.gateway_admin_port == admin


def test_the_operator_is_told_its_pods_name() -> None:
    """The operator is in the lease by its pod's name, so a container that restarts need not wait for its own lease."""
    container = pod_specs(render(OPEN))["capstan-operator"]["containers"][0]
    name = {"name": "CAPSTAN_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    assert name in container["env"]


def test_the_gateway_understands_its_environment() -> None:
    """The variables that the chart sets start a gateway that watches the operator's config."""
    container = pod_specs(render(OPEN))["capstan-gateway"]["containers"][0]
    settings = parse_settings([], {item["name"]: item["value"] for item in container["env"]})
    assert settings.host == "0.0.0.0"
    assert settings.kube_config_map == "capstan-gateway-config"
    assert settings.kube_namespace == NAMESPACE
    assert settings.admin_port == 9090
    assert settings.max_body_bytes == 32 * 1024 * 1024
    assert settings.discovery_namespaces == ()
    assert str(settings.config_dir) == container["volumeMounts"][0]["mountPath"]
    assert all(item["name"].startswith(ENV_PREFIX) for item in container["env"])


GATEWAY_VALUES = {
    "drainSeconds": ("drain_seconds", 7.0),
    "graceSeconds": ("grace_seconds", 90.0),
    "clientKeepAliveSeconds": ("client_keep_alive_seconds", 120.0),
    "upstreamKeepAliveSeconds": ("upstream_keep_alive_seconds", 2.5),
    "endpointWaitSeconds": ("endpoint_wait_seconds", 3.0),
    "region": ("region", "eu-west"),
    "autoStrategy": ("auto_strategy", "Fastest"),
    "maxConcurrency": ("max_concurrency", 999_999),
    "maxConnections": ("max_connections", 1_000_000),
    "maxBodyBytes": ("max_body_bytes", 1_073_741_824),
    "logLevel": ("log_level", "debug"),
    "logFormat": ("log_format", "text"),
}


def test_values_reach_the_gateway() -> None:
    """A value of the gateway is the setting that it is named after, with the same default."""
    changed = _gateway_settings({value: wanted for value, (_, wanted) in GATEWAY_VALUES.items()})
    default = _gateway_settings({})
    for value, (setting, wanted) in GATEWAY_VALUES.items():
        assert getattr(changed, setting) == wanted, value
        assert getattr(default, setting) == getattr(Settings(), setting), value


def test_images_by_url_are_values_of_the_chart() -> None:
    """With hosts the gateway fetches images within the bounds of the values; without it is told nothing of them."""
    images = {"hosts": ["img.example.com", "*.cdn.example.com:8443"], "maxBytes": 20_000_000, "timeoutSeconds": 2.5}
    told = _gateway_settings({"images": {**images, "plainHttp": True}})
    assert told.image_hosts == ("img.example.com", "*.cdn.example.com:8443")
    assert (told.image_bytes, told.image_seconds, told.image_http) == (20_000_000, 2.5, True)
    assert (_gateway_settings({"images": images}).image_http, _gateway_settings({}).image_hosts) == (False, ())
    default = _gateway_settings({"images": {"hosts": ["img.example.com"]}})
    for name in ("image_bytes", "image_seconds", "image_http"):
        assert getattr(default, name) == getattr(Settings(), name), name


def test_hosts_of_policies_are_a_value_of_the_chart() -> None:
    """They reach the gateway as they are listed; without any it is told of none, and this machine is never one."""
    told = _gateway_settings({"policyHosts": ["guard.example.com", "*.team-a.svc:8080"]})
    assert told.policy_hosts == ("guard.example.com", "*.team-a.svc:8080")
    assert (_gateway_settings({}).policy_hosts, told.policy_loopback) == ((), False)


def test_tokenizers_come_from_a_config_map_or_a_claim() -> None:
    """They are mounted where the gateway is told to look, read-only; one that is not there yet stops no pod."""

    def told(**tokenizers: str) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        pod = pod_specs(render(with_values(gateway={"tokenizers": tokenizers})))["capstan-gateway"]
        container = pod["containers"][0]
        settings = parse_settings([], {item["name"]: item["value"] for item in container["env"]})
        mounts = [mount for mount in container["volumeMounts"] if mount["name"] == "tokenizers"]
        volumes = [volume for volume in pod["volumes"] if volume["name"] == "tokenizers"]
        return settings.tokenizers_dir, *mounts, *volumes

    folder = Path("/etc/capstan/tokenizers")
    mount = {"name": "tokenizers", "mountPath": str(folder), "readOnly": True}
    assert told() == (None,)
    assert told(configMap="t") == (
        folder, mount, {"name": "tokenizers", "configMap": {"name": "t", "optional": True}},
    )  # fmt: skip
    claim = {"name": "tokenizers", "persistentVolumeClaim": {"claimName": "t", "readOnly": True}}
    assert told(existingClaim="t", subPath="a/b") == (folder, {**mount, "subPath": "a/b"}, claim)
    both = try_render(with_values(gateway={"tokenizers": {"configMap": "a", "existingClaim": "b"}}))
    assert "exclude each other" in both.stderr


def test_files_of_batches_have_a_place() -> None:
    """A claim is mounted where the gateway is told to put files, writable; a bucket is told as it is; else there is
    neither."""

    def told(**batches: Any) -> tuple[Any, ...]:
        pod = pod_specs(render(with_values(gateway={"batches": batches})))["capstan-gateway"]
        container = pod["containers"][0]
        variables = {item["name"]: item.get("value") for item in container["env"]}
        mounts = [mount for mount in container["volumeMounts"] if mount["name"] == "files"]
        volumes = [volume for volume in pod["volumes"] if volume["name"] == "files"]
        names = "CAPSTAN_GATEWAY_FILES_URL", "CAPSTAN_GATEWAY_BATCH_CONCURRENCY"
        return *(variables.get(name) for name in names), *mounts, *volumes

    assert told() == (None, None)
    assert told(url="s3://bucket/a", concurrency=4) == ("s3://bucket/a", "4")
    assert told(existingClaim="c") == (
        "file:///var/lib/capstan/files", "16", {"name": "files", "mountPath": "/var/lib/capstan/files"},
        {"name": "files", "persistentVolumeClaim": {"claimName": "c"}},
    )  # fmt: skip


def test_issuers_of_tokens_are_values_of_the_chart(tmp_path: Path) -> None:
    """With issuers the gateway is told all of that; without it is told nothing, and has its own defaults."""
    oidc = {
        "issuers": ["https://id.example.com/realms/x"], "audiences": ["capstan", "other"],
        "jwksUrl": "https://id.example.com/keys",
        "claims": {"team": "groups", "tenant": "org", "tier": "t", "models": "m"},
        "leewaySeconds": 5, "staleSeconds": 60,
    }  # fmt: skip
    told = _gateway_settings({"oidc": oidc, "tenantMetrics": 50})
    assert (told.oidc_issuers, told.oidc_audiences) == (("https://id.example.com/realms/x",), ("capstan", "other"))
    assert told.oidc_jwks_url == "https://id.example.com/keys"
    claims = (told.oidc_user_claim, told.oidc_team_claim, told.oidc_tenant_claim, told.oidc_tier_claim)
    assert (*claims, told.oidc_models_claim) == ("sub", "groups", "org", "t", "m")
    assert (told.oidc_leeway_seconds, told.oidc_stale_seconds, told.tenant_metrics) == (5, 60, 50)
    default = _gateway_settings({"oidc": {"issuers": ["https://id.example.com"], "audiences": ["capstan"]}})
    for name in (
        "oidc_leeway_seconds",
        "oidc_refresh_seconds",
        "oidc_stale_seconds",
        "oidc_user_claim",
        "oidc_jwks_url",
    ):
        assert getattr(default, name) == getattr(Settings(), name), name
    assert _gateway_settings({}).oidc_issuers == ()
    pod = pod_specs(render(with_values(gateway={"oidc": {**oidc, "caConfigMap": {"name": "roots"}}})))[
        "capstan-gateway"
    ]
    environment = {item["name"]: item["value"] for item in pod["containers"][0]["env"]}
    assert environment["CAPSTAN_GATEWAY_OIDC_CA_FILE"] == "/etc/capstan/oidc/ca.crt"
    assert {"name": "oidc-ca", "mountPath": "/etc/capstan/oidc", "readOnly": True} in pod["containers"][0][
        "volumeMounts"
    ]
    assert any(volume["name"] == "oidc-ca" for volume in pod["volumes"])


@pytest.mark.parametrize("host", ["https://img.example.com", "img.example.com/a", "a,b", "*", "img.example.com:0", ""])
def test_a_host_of_images_is_a_name(host: str) -> None:
    """What is no host is refused when the chart is installed, and not by a gateway that does not start."""
    done = try_render(with_values(gateway={"images": {"hosts": [host]}}))
    assert done.returncode != 0
    assert "images" in done.stderr


def _gateway_settings(values: dict[str, Any]) -> Settings:
    container = pod_specs(render(with_values(gateway=values)))["capstan-gateway"]["containers"][0]
    return parse_settings([], {item["name"]: item["value"] for item in container["env"]})


def test_every_setting_of_the_operator_can_be_reached() -> None:
    """A release name, a namespace and a full name of one's own reach every name that the operator is told."""
    objects = render(with_values(fullnameOverride="llm"), release="other")
    names = {item["metadata"]["name"] for item in objects if item["kind"] != "CustomResourceDefinition"}
    names.discard("capstan-class-default")  # one for all releases of a class
    assert all(name.removeprefix(f"{NAMESPACE}-").startswith("llm-") for name in names), names
    container = pod_specs(objects)["llm-operator"]["containers"][0]
    settings = load_settings({item["name"]: item["value"] for item in container["env"] if "value" in item})
    assert settings.build.gateway_service == "llm-gateway"


def test_an_upgrade_of_the_chart_restarts_nothing() -> None:
    """No pod template holds the chart's version, a checksum or anything else that would restart pods for nothing."""
    for item in render(OPEN):
        if item["kind"] in ("Deployment", "StatefulSet"):
            metadata = item["spec"]["template"]["metadata"]
            assert set(metadata["labels"]) == {
                f"app.kubernetes.io/{key}" for key in ("name", "instance", "component", "part-of")
            }
            assert "annotations" not in metadata


def test_the_image_of_running_models_can_be_pinned() -> None:
    """`models.workerImage.tag` keeps the image that models run while the rest moves on, as docs/install.md says."""
    values = with_values(image={"tag": "0.2.0"}, models={"workerImage": {"tag": "0.1.0"}})
    pods = pod_specs(render(values))
    told = {"name": "CAPSTAN_WORKER_IMAGE", "value": "registry.example.com/capstan/worker:0.1.0"}
    assert told in pods["capstan-operator"]["containers"][0]["env"]
    assert pods["capstan-operator"]["containers"][0]["image"] == "registry.example.com/capstan/operator:0.2.0"
    upgrade = (CHART.parents[1] / "docs" / "install.md").read_text().split("## Upgrade")[1].split("\n## ")[0]
    assert "What only the operator's code does otherwise restarts nothing" in upgrade
    assert "--set models.workerImage.tag=" in upgrade


def test_crds_stay_on_uninstall() -> None:
    """The CRDs are kept by Helm and by Argo CD, and `crds.enabled=false` leaves them out."""
    crds = [item for item in render(OPEN) if item["kind"] == "CustomResourceDefinition"]
    assert crds
    assert all(crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for crd in crds)
    kinds = {item["kind"] for item in render(with_values(crds={"enabled": False}))}
    assert "CustomResourceDefinition" not in kinds


QUEUE = with_values(
    queue={"enabled": True, "workerSecret": "queue-worker", "sealSecret": "queue-seal"},
    redis={"auth": {"existingSecret": "redis"}},
    networkPolicies={"enabled": True},
)


def test_a_queue_is_told_to_the_operator() -> None:
    """The operator hears where the models' workers find the queue, and of Secrets only their names; without a queue it
    hears nothing, and Redis is as it was."""
    operator = load_settings(_environment(render(QUEUE))).build
    assert operator.queue_redis_url == f"redis://capstan-worker@capstan-redis.{NAMESPACE}.svc:6379/0"
    assert (operator.queue_worker_secret, operator.queue_seal_secret) == ("queue-worker", "queue-seal")
    off = render(with_values(redis={"enabled": True}))
    assert load_settings(_environment(off)).build.queue_redis_url == ""
    (redis,) = pod_specs(off)["capstan-redis"]["containers"]
    assert "--user" not in redis["args"]
    assert "--appendfsync" not in redis["args"]


def test_whoever_turns_the_queue_on_is_told_what_it_does_not_keep(tmp_path: Path) -> None:
    """That what waits goes with Redis' pod, and that it can be read there; or nothing, where neither is so."""
    lost, readable = "are lost with Redis' pod", "can be read in Redis"
    plain = _notes(tmp_path / "plain", {**QUEUE, "queue": {"enabled": True, "workerSecret": "queue-worker"}})
    kept = {"persistence": {"enabled": True}, "auth": {"existingSecret": "redis"}}
    careful = _notes(tmp_path / "careful", {**QUEUE, "redis": kept})
    assert (lost in plain, readable in plain) == (True, True)
    assert (lost in careful, readable in careful) == (False, False)
    assert lost not in _notes(tmp_path / "off", OPEN)


def test_workers_of_a_queue_have_a_user_of_their_own() -> None:
    """The chart's Redis keeps what waits, lets the models' pods in, and gives them the rights that the docs say."""
    objects = render(QUEUE)
    (redis,) = pod_specs(objects)["capstan-redis"]["containers"]
    line = next(
        line for line in (CHART.parent.parent / "docs" / "worker.md").read_text().splitlines() if "ACL SETUSER" in line
    )
    documented = line.split("capstan-worker ")[1].replace("PASSWORD", "$(CAPSTAN_WORKER_PASSWORD)").split()
    at = redis["args"].index("--user")
    assert redis["args"][at + 1 : at + 2 + len(documented)] == ["capstan-worker", *documented]
    assert redis["args"][redis["args"].index("--appendfsync") + 1] == "everysec"
    reference = {"secretKeyRef": {"name": "queue-worker", "key": "password"}}
    assert {"name": "CAPSTAN_WORKER_PASSWORD", "valueFrom": reference} in redis["env"]
    policy = one(objects, "NetworkPolicy", "capstan-redis")
    peers = policy["spec"]["ingress"][0]["from"]
    labels = {"app.kubernetes.io/name": "llmmodel", "app.kubernetes.io/managed-by": "capstan"}
    assert {"namespaceSelector": {}, "podSelector": {"matchLabels": labels}} in peers
    assert (
        len(
            one(render({**QUEUE, "queue": {"enabled": False}}), "NetworkPolicy", "capstan-redis")["spec"]["ingress"][0][
                "from"
            ]
        )
        == 1
    )


def test_redis_password_is_no_value() -> None:
    """The password comes from a Secret into both ends, and no rendered object holds one."""
    objects = render(with_values(redis={"auth": {"existingSecret": "redis-auth", "key": "pw"}}))
    reference = {"secretKeyRef": {"name": "redis-auth", "key": "pw"}}
    pods = pod_specs(objects)
    assert {"name": "REDISCLI_AUTH", "valueFrom": reference} in pods["capstan-redis"]["containers"][0]["env"]
    gateway = pods["capstan-gateway"]["containers"][0]["env"]
    assert {"name": "CAPSTAN_GATEWAY_REDIS_PASSWORD", "valueFrom": reference} in gateway
    assert not [item for item in objects if item["kind"] == "Secret"]


def test_limits_in_a_redis_of_sentinels() -> None:
    """The gateway is told how long limits may wait for Redis, the Sentinels' password, how many gateways there are, and
    whether shares are taken."""
    gateway = pod_specs(render(VARIANTS["sentinels"]))["capstan-gateway"]["containers"][0]
    variables = {item["name"]: item for item in gateway["env"]}
    assert variables["CAPSTAN_GATEWAY_REDIS_URL"]["value"] == "rediss+sentinel://s1:26379,s2/limits/0"
    assert variables["CAPSTAN_GATEWAY_REDIS_LIMIT_SECONDS"]["value"] == "0.02"
    assert variables["CAPSTAN_GATEWAY_GATEWAYS"]["value"] == "2"
    assert variables["CAPSTAN_GATEWAY_LIMITS_ONE_BY_ONE"]["value"] == "true"
    secret = {"secretKeyRef": {"name": "sentinels", "key": "password"}}
    assert variables["CAPSTAN_GATEWAY_REDIS_SENTINEL_PASSWORD"]["valueFrom"] == secret


def test_redis_url_from_a_secret() -> None:
    """A URL with user and password is never a value: the Secret is named, and the authority is mounted as a file."""
    objects = render(VARIANTS["redis from a secret"])
    pod = pod_specs(objects)["capstan-gateway"]
    variables = {item["name"]: item for item in pod["containers"][0]["env"]}
    reference = {"secretKeyRef": {"name": "managed", "key": "url"}}
    assert variables["CAPSTAN_GATEWAY_REDIS_URL"]["valueFrom"] == reference
    assert variables["CAPSTAN_GATEWAY_REDIS_CA_FILE"]["value"] == "/etc/capstan/redis/ca.crt"
    assert "CAPSTAN_GATEWAY_REDIS_PASSWORD" not in variables
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["redis-ca"] == "/etc/capstan/redis"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    items = [{"key": "ca.crt", "path": "ca.crt"}]
    assert volumes["redis-ca"]["secret"] == {"secretName": "authority", "items": items}


def test_how_much_usage_is_kept_is_a_value() -> None:
    """What the chart says of counts of usage is what the gateway reads, with a Redis and without one."""
    pod = pod_specs(render(with_values(gateway={"usage": {"days": 7, "maxRows": 10}})))["capstan-gateway"]
    variables = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    assert (variables["CAPSTAN_GATEWAY_USAGE_DAYS"], variables["CAPSTAN_GATEWAY_USAGE_ROWS"]) == ("7", "10")


def test_how_much_is_stored_is_a_value() -> None:
    """What the chart says of stored responses is what the gateway reads, in its own words."""
    stored = {"enabled": True, "ttlSeconds": 60, "maxBytes": 1000, "maxPerTenant": 7, "maxBytesPerTenant": 100000000}
    values = with_values(gateway={"storedResponses": stored}, redis={"timeoutSeconds": 0.5})
    pod = pod_specs(render(values))["capstan-gateway"]
    variables = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    said = {key.removeprefix("CAPSTAN_GATEWAY_"): value for key, value in variables.items()}
    assert said["STORED_RESPONSE_SECONDS"] == "60"
    assert (said["STORED_RESPONSE_BYTES"], said["STORED_RESPONSES"]) == ("1000", "7")
    assert (said["STORED_RESPONSES_BYTES"], said["REDIS_SECONDS"]) == ("100000000", "0.5")


def test_how_much_is_in_the_background_is_a_value() -> None:
    """What the chart says of responses in the background is what the gateway reads, in its own words."""
    said = {"maxSeconds": 60, "maxPerTenant": 7, "concurrency": 5}
    pod = pod_specs(render(with_values(gateway={"backgroundResponses": said})))["capstan-gateway"]
    variables = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    names = ("SECONDS", "RESPONSES", "CONCURRENCY")
    assert [variables[f"CAPSTAN_GATEWAY_BACKGROUND_{name}"] for name in names] == ["60", "7", "5"]


def stored_seconds(**stored: Any) -> str | None:
    """Give how long the gateway of a chart with these values keeps responses."""
    pod = pod_specs(render(with_values(gateway={"storedResponses": stored})))["capstan-gateway"]
    variables = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    return variables["CAPSTAN_GATEWAY_STORED_RESPONSE_SECONDS"]  # type: ignore[no-any-return]


def test_nothing_is_stored_unless_that_is_asked_for() -> None:
    """Prompts and answers land in no Redis by default, not even with a time for them; asked for, they do for a day."""
    assert stored_seconds() == stored_seconds(ttlSeconds=60) == stored_seconds(enabled=False) == "0"
    assert stored_seconds(enabled=True) == "86400"


def test_config_is_not_of_the_chart() -> None:
    """The gateway config and the credentials belong to the operator: the chart only mounts them, if they are there."""
    objects = render(OPEN)
    assert not [item for item in objects if item["kind"] in ("ConfigMap", "Secret")]
    config, credentials, admin, privacy, _ = pod_specs(objects)["capstan-gateway"]["volumes"]
    assert privacy["secret"]["optional"] is True
    assert admin["secret"]["optional"] is True
    assert all(source["configMap"]["optional"] for source in config["projected"]["sources"])
    assert all(source["secret"]["optional"] is True for source in credentials["projected"]["sources"])
    assert CONFIG_FILE not in os.listdir(CHART)


@pytest.mark.parametrize(("given", "name", "made"), [("", "capstan-gateway-privacy", True), ("own", "own", False)])
def test_the_key_of_users_hashes_is_in_one_secret(given: str, name: str, made: bool) -> None:
    """The gateway reads what the operator makes; of one that is given the operator hears nothing, and has no right."""
    objects = render(with_values(gateway={"privacyKeySecret": given}))
    gateway = pod_specs(objects)["capstan-gateway"]
    volume = next(volume for volume in gateway["volumes"] if volume["name"] == "privacy")
    assert volume["secret"] == {"secretName": name, "optional": True}
    mount = next(mount for mount in gateway["containers"][0]["volumeMounts"] if mount["name"] == "privacy")
    settings = parse_settings([], {item["name"]: item["value"] for item in gateway["containers"][0]["env"]})
    assert str(settings.privacy_key_file) == f"{mount['mountPath']}/{PRIVACY_KEY}"
    container = pod_specs(objects)["capstan-operator"]["containers"][0]
    told = load_settings({item["name"]: item["value"] for item in container["env"] if "value" in item})
    assert told.gateway_privacy_name == (name if made else "")
    rules = [rule for rule in one(objects, "Role", "capstan-operator")["rules"] if "secrets" in rule["resources"]]
    assert any(name in rule.get("resourceNames", ()) for rule in rules) is made


def test_admin_port_is_not_on_the_public_service() -> None:
    """Metrics and the config are on a Service of their own, which is never a NodePort or a load balancer."""
    objects = render(with_values(gateway={"service": {"type": "LoadBalancer"}}))
    public = one(objects, "Service", "capstan-gateway")["spec"]
    assert [port["targetPort"] for port in public["ports"]] == ["http"]
    assert one(objects, "Service", "capstan-gateway-metrics")["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize("image", [{"tag": "v2"}, {"repository": "r/x"}, {"digest": "sha256:" + "a" * 64}])
def test_images_can_be_chosen(image: dict[str, str]) -> None:
    """Registry and tag are set once for all images, and repository, tag and digest for each."""
    values = with_values(image={"registry": "reg", "tag": "v1"}, operator={"image": image})
    pods = pod_specs(render(values))
    repository = image.get("repository", "reg/operator")
    version = f"@{image['digest']}" if "digest" in image else f":{image.get('tag', 'v1')}"
    assert pods["capstan-operator"]["containers"][0]["image"] == repository + version
    assert pods["capstan-gateway"]["containers"][0]["image"] == "reg/gateway:v1"


def _documented(table: str) -> set[tuple[str, str, str]]:
    rows = re.findall(r"^\| (\S+) \| `(\S+)` \| ([a-z, ]+) \|", table, re.MULTILINE)
    return {
        ("" if group == "(core)" else group.strip("`"), resource, verb)
        for group, resource, verbs in rows
        for verb in verbs.split(", ")
    }


def _granted(role: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_operator_may_do_what_is_documented() -> None:
    """The roles of the operator grant what docs/operator.md lists, no more and no less."""
    text = (CHART.parents[1] / "docs" / "operator.md").read_text().split("## Permissions")[1].split("\n## ")[0]
    everywhere, at_home = text.split("In its own namespace besides:")
    objects = render(OPEN)
    assert _granted(one(objects, "ClusterRole", f"{NAMESPACE}-capstan-operator")) == _documented(everywhere)
    assert _granted(one(objects, "Role", "capstan-operator")) == _documented(at_home)
    assert _granted(one(objects, "ClusterRole", f"{NAMESPACE}-capstan-operator-nodes")) == {("", "nodes", "list")}
    fewer = render(with_values(operator={"watchNamespaces": ["team-a", "team-b"]}))
    capacity = one(fewer, "ClusterRole", f"{NAMESPACE}-capstan-operator-nodes")
    assert _granted(capacity) == {("", "nodes", "list"), ("", "pods", "list")}
    assert "with `CAPSTAN_WATCH_NAMESPACES` `pods`: list as well" in text
    roles = [item for item in fewer if item["metadata"]["name"] == "capstan-operator-models"]
    assert len(roles) == 6
    assert all(_granted(role) == _documented(everywhere) for role in roles if role["kind"] == "Role")


def test_namespaces_are_read_by_name_only_where_it_is_asked_for() -> None:
    """`operator.readNamespaces` lets the operator get the namespaces that it works in, and no other one."""
    values = {"watchNamespaces": ["team-a"], "readNodes": False}
    objects = render(with_values(operator={**values, "readNamespaces": True}))
    (role,) = (item for item in objects if item["kind"] == "ClusterRole")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"], "resourceNames": ["team-a", NAMESPACE]}
    ]
    assert not [item for item in render(with_values(operator=values)) if item["kind"] == "ClusterRole"]
    assert not [
        item
        for item in render(with_values(operator={"readNamespaces": True}))
        if item["metadata"]["name"].endswith("-namespaces")
    ], "a ClusterRole for all namespaces needs no list of names"


def test_the_crd_is_read_by_name() -> None:
    """The operator may get its own CRD where it works in the whole cluster, and where it is asked for."""
    name, namespaced = f"{NAMESPACE}-capstan-operator-crds", {"watchNamespaces": ["team-a"], "readNodes": False}
    for operator in ({}, {**namespaced, "readCrds": True}):
        assert one(render(with_values(operator=operator)), "ClusterRole", name)["rules"] == [
            {
                "apiGroups": ["apiextensions.k8s.io"],
                "resources": ["customresourcedefinitions"],
                "verbs": ["get"],
                "resourceNames": [
                    "llmmodels.capstan.dev",
                    "cachepolicies.capstan.dev",
                    "guardpolicies.capstan.dev",
                    "ratelimitpolicies.capstan.dev",
                ],
            }
        ]
    assert not [item for item in render(with_values(operator=namespaced)) if item["metadata"]["name"] == name]


def _environment(objects: list[dict[str, Any]]) -> dict[str, str]:
    container = one(objects, "Deployment", "capstan-operator")["spec"]["template"]["spec"]["containers"][0]
    return {item["name"]: item["value"] for item in container["env"] if "value" in item}


def test_names_are_bound_by_values() -> None:
    """What the values say about names and the brake is what the operator reads."""
    names = {"team-a": ["team-a-*"], "*": []}
    values = {"allowedNames": names, "fallbacksAcrossNamespaces": True, "autoNamespaces": ["system", "team-*"]}
    settings = load_settings(_environment(render(with_values(models=values, operator={"maxDroppedPercent": 5}))))
    assert settings.allowed_names == (("*", ()), ("team-a", ("team-a-*",)))
    assert settings.fallbacks_across_namespaces
    assert settings.auto_namespaces == ("system", "team-*")
    assert settings.max_dropped_percent == 5
    plain = load_settings(_environment(render(OPEN)))
    assert (plain.allowed_names, plain.fallbacks_across_namespaces, plain.max_dropped_percent) == ((), False, 20)
    assert plain.auto_namespaces == ()


def test_secrets_can_be_left_out() -> None:
    """`operator.readSecrets=false` takes away the right to get Secrets, but for the gateway's own."""
    objects = render(with_values(operator={"readSecrets": False}))
    cluster_wide = _granted(one(objects, "ClusterRole", f"{NAMESPACE}-capstan-operator"))
    assert not [grant for grant in cluster_wide if grant[1] == "secrets"]


def test_the_gateway_starts_from_every_shard_that_may_be_read() -> None:
    """What is mounted, for the start without an API server, is exactly what may be read through the API."""
    objects = render(OPEN)
    named = one(objects, "Role", "capstan-gateway")["rules"][0]["resourceNames"]
    volumes = one(objects, "Deployment", "capstan-gateway")["spec"]["template"]["spec"]["volumes"]
    sources = next(volume for volume in volumes if volume["name"] == "config")["projected"]["sources"]
    assert [source["configMap"]["name"] for source in sources] == named
    assert all(source["configMap"]["optional"] for source in sources)


def test_how_models_roll_is_told_to_the_operator() -> None:
    """The values about rollouts are the operator's settings, and the defaults of both are the same."""
    container = pod_specs(render(with_values()))["capstan-operator"]["containers"][0]
    told = load_settings({item["name"]: item["value"] for item in container["env"] if "value" in item})
    assert told.max_concurrent_rollouts == OperatorSettings().max_concurrent_rollouts
    assert told.build.rollout_patience_seconds == BuildSettings().rollout_patience_seconds
    assert told.build.adopt_template_changes == BuildSettings().adopt_template_changes
    values = with_values(
        operator={"maxConcurrentRollouts": 5, "rolloutPatienceSeconds": 60},
        models={"adoptTemplateChanges": "OnSpecChange"},
    )
    container = pod_specs(render(values))["capstan-operator"]["containers"][0]
    told = load_settings({item["name"]: item["value"] for item in container["env"] if "value" in item})
    assert (told.max_concurrent_rollouts, told.build.rollout_patience_seconds) == (5, 60.0)
    assert told.build.adopt_template_changes == "OnSpecChange"
    with pytest.raises(SettingsError, match="must be one of Gradually, OnSpecChange, not 'never'"):
        load_settings({"CAPSTAN_ADOPT_TEMPLATE_CHANGES": "never"})


def test_the_gateway_with_presidio_is_another_image() -> None:
    """The variant is named by the end of the tag, whatever that is."""

    def image(**gateway: Any) -> str:
        rendered = render(with_values(gateway=gateway, image={"tag": "1.2.3"}))
        (deployment,) = (
            found
            for found in rendered
            if found["kind"] == "Deployment" and found["metadata"]["name"].endswith("gateway")
        )
        return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])

    assert image() == "registry.example.com/capstan/gateway:1.2.3"
    assert image(presidio=True) == "registry.example.com/capstan/gateway:1.2.3-presidio"
    digest = "sha256:" + "0" * 64
    assert image(presidio=True, image={"digest": digest}) == f"registry.example.com/capstan/gateway@{digest}"
