"""The scorer of sampled answers in the chart: off, and with no more rights than it needs."""

import argparse
from dataclasses import fields
from typing import Any

import pytest

from capstan_contract.names import API_KEY_FIELD
from capstan_gateway.settings import ENV_PREFIX, Settings
from capstan_operator.settings import load_settings
from capstan_process.settings import read_settings
from capstan_worker.__main__ import parse_arguments
from capstan_worker.scoring.settings import ScoreSettings, checked_score
from capstan_worker.settings import PREFIX, WorkerSettings
from support.helm import one, pod_specs, render, try_render

ON: dict[str, Any] = {"scorer": {"enabled": True}}


def environ(container: dict[str, Any]) -> dict[str, str]:
    """Give the variables of a container; of those that come from Secrets something that could be there."""
    return {item["name"]: item.get("value", "redis://a-secret-of-the-cluster:6379") for item in container["env"]}


def container_of(values: dict[str, Any], name: str = "capstan-scorer") -> dict[str, Any]:
    """Give the container of a Deployment."""
    return dict(pod_specs(render(values))[name]["containers"][0])


def test_it_is_off_unless_somebody_asks_for_it() -> None:
    """No object, no right, no variable."""
    objects = render({})
    assert not [item for item in objects if "scorer" in item["metadata"]["name"]]
    assert "SCORER" not in str(objects)


@pytest.mark.parametrize(
    "values",
    [
        ON,
        {"scorer": {"enabled": True, "sealSecret": "seal", "redisSecret": "r", "judgeCallsPerHour": 0}},
        {**ON, "redis": {"enabled": False, "externalUrl": "rediss://redis.example.com:6379/0"}},
        {**ON, "redis": {"enabled": False, "externalUrlSecret": {"name": "managed"}}},
    ],
)
def test_the_worker_understands_its_environment(values: dict[str, Any]) -> None:
    """Command line and variables are settings that it can begin with, and it asks the release's gateway."""
    container = container_of(values)
    given = environ(container)
    options = parse_arguments(container["args"])
    assert options.command == "score"
    nothing = argparse.Namespace()
    settings = checked_score(read_settings(ScoreSettings, prefix=PREFIX, environ=given, flags=nothing))
    worker = read_settings(WorkerSettings, prefix=PREFIX, environ=given, flags=nothing)
    assert settings.gateway_url == "http://capstan-gateway.capstan-system.svc:80"
    assert (worker.host, worker.port) == ("0.0.0.0", container["ports"][0]["containerPort"])  # compared, not bound
    known = {field.name for of in (ScoreSettings, WorkerSettings) for field in fields(of)}
    assert {name.removeprefix(PREFIX).lower() for name in given} <= known


def test_it_has_a_key_that_the_operator_makes_and_nothing_of_kubernetes() -> None:
    """The operator is told its name, may write that Secret and no other, and knows where the scorer answers."""
    objects = render({"scorer": {"enabled": True, "judges": ["judge", "other-*"]}})
    spec = pod_specs(objects)["capstan-scorer"]
    assert spec["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in spec
    (volume,) = spec["volumes"]
    assert volume["secret"] == {"secretName": "capstan-scorer-key", "optional": True}
    (mount,) = spec["containers"][0]["volumeMounts"]
    assert environ(spec["containers"][0])["CAPSTAN_WORKER_GATEWAY_KEY_FILE"] == f"{mount['mountPath']}/{API_KEY_FIELD}"
    operator = load_settings(environ(pod_specs(objects)["capstan-operator"]["containers"][0]))
    assert (operator.scorer_key_name, operator.scorer_judges) == ("capstan-scorer-key", "judge,other-*")
    service = one(objects, "Service", "capstan-scorer")
    assert operator.scorer_url == f"http://capstan-scorer.capstan-system.svc:{service['spec']['ports'][0]['port']}"
    role = one(objects, "Role", "capstan-operator")
    written = [rule for rule in role["rules"] if rule["resources"] == ["secrets"] and "patch" in rule["verbs"]]
    assert "capstan-scorer-key" in written[0]["resourceNames"]


def test_a_key_of_ones_own_is_made_by_nobody() -> None:
    """Whoever names a Secret sees to it."""
    objects = render({"scorer": {"enabled": True, "keySecret": "mine"}})
    assert pod_specs(objects)["capstan-scorer"]["volumes"][0]["secret"]["secretName"] == "mine"
    operator = load_settings(environ(pod_specs(objects)["capstan-operator"]["containers"][0]))
    assert operator.scorer_key_name == ""
    assert "capstan-scorer-key" not in str(objects)


def test_gateway_and_scorer_seal_by_the_same_key() -> None:
    """Of the same Secret."""
    values = {"scorer": {"enabled": True, "sealSecret": "seal"}}
    sources = [
        item["valueFrom"]["secretKeyRef"]
        for name in ("capstan-gateway", "capstan-scorer")
        for item in container_of(values, name)["env"]
        if item["name"].endswith("_EVALUATION_SECRET")
    ]
    assert sources == [{"name": "seal", "key": "seal-key"}] * 2


def test_bounds_of_samples_are_values() -> None:
    """Each is a setting of the gateway."""
    given = environ(container_of({"gateway": {"samples": {"maxEntries": 7, "maxBytes": 4096}}}, "capstan-gateway"))
    settings = read_settings(Settings, prefix=ENV_PREFIX, environ=given, flags=argparse.Namespace())
    assert (settings.evaluation_samples, settings.evaluation_sample_bytes) == (7, 4096)


def test_in_the_redis_of_the_release_it_has_a_user_of_its_own() -> None:
    """Which may do nothing but what it needs."""
    objects = render({"scorer": {"enabled": True, "redisSecret": "scorer-redis"}})
    (redis,) = pod_specs(objects)["capstan-redis"]["containers"]
    at = redis["args"].index("capstan-scorer")
    rights = redis["args"][at : at + 9]
    assert rights[2:4] == [">$(CAPSTAN_SCORER_PASSWORD)", "~capstan:{evaluation}:*"]
    assert environ(container_of({"scorer": {"enabled": True, "redisSecret": "x"}}))[
        "CAPSTAN_WORKER_REDIS_URL"
    ].startswith("redis://capstan-scorer@capstan-redis.")
    assert {"name": "scorer-redis", "key": "password"} in [
        item.get("valueFrom", {}).get("secretKeyRef") for item in redis["env"]
    ]


def test_only_the_operator_and_prometheus_reach_it() -> None:
    """And it reaches Redis."""
    objects = render({**ON, "networkPolicies": {"enabled": True, "metricsFrom": [{"podSelector": {}}]}})
    (rule,) = one(objects, "NetworkPolicy", "capstan-scorer")["spec"]["ingress"]
    assert rule["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "operator"
    (to_redis,) = one(objects, "NetworkPolicy", "capstan-redis")["spec"]["ingress"]
    assert "scorer" in [
        peer["podSelector"]["matchLabels"].get("app.kubernetes.io/component") for peer in to_redis["from"]
    ]


def test_it_reaches_the_gateway_whoever_else_may() -> None:
    """A list of who may ask the gateway is of clients; the scorer is the release's own."""
    clients = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    policies = {"networkPolicies": {"enabled": True, "gatewayFrom": clients}}
    (http, _) = one(render({**ON, **policies}), "NetworkPolicy", "capstan-gateway")["spec"]["ingress"]
    assert http["from"][0] == clients[0]
    assert http["from"][1]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "scorer"
    (http, _) = one(render(policies), "NetworkPolicy", "capstan-gateway")["spec"]["ingress"]
    assert http["from"] == clients


def test_bounds_of_feedback_are_values() -> None:
    """Each is a setting of the gateway."""
    bounds = {"answers": 1, "sharedAnswers": 2, "answerSeconds": 300, "maxEntries": 4, "retentionSeconds": 500}
    given = environ(container_of({"gateway": {"feedback": bounds}}, "capstan-gateway"))
    settings = read_settings(Settings, prefix=ENV_PREFIX, environ=given, flags=argparse.Namespace())
    assert (settings.feedback_answers, settings.feedback_shared_answers) == (1, 2)
    assert (settings.feedback_answer_seconds, settings.feedback_entries, settings.feedback_seconds) == (300, 4, 500)


def test_without_a_redis_it_is_refused() -> None:
    """There would be no samples."""
    done = try_render({**ON, "redis": {"enabled": False}})
    assert done.returncode != 0
    assert "scorer.enabled needs a Redis" in done.stderr
