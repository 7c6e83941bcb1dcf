"""When the chart runs a Redis, who knows its password, and what it says to whoever has none, or keeps one."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from capstan_operator.gateway_config.made_secrets import REDIS, build_secret
from capstan_operator.settings import load_settings
from support.helm import CHART, NAMESPACE, Values, one, pod_specs, render, run_helm
from support.yamls import load

NAME = "capstan-redis"
NEEDS: dict[str, Values] = {
    "stored responses": {"gateway": {"storedResponses": {"enabled": True}}},
    "batches in a claim": {"gateway": {"batches": {"existingClaim": "files"}}},
    "batches in a bucket": {"gateway": {"batches": {"url": "s3://files/batches"}}},
    "a queue": {"queue": {"enabled": True, "workerSecret": "worker"}},
    "a scorer": {"scorer": {"enabled": True}},
    "a password": {"redis": {"auth": {"existingSecret": "mine"}}},
    "a claim": {"redis": {"persistence": {"enabled": True}}},
}
OWN = ("mine", "key-of-mine")


def has_redis(values: Values) -> bool:
    """Say whether a Redis is made, and hold that all of it is made, or none."""
    made = {item["kind"] for item in render(values) if item["metadata"]["name"] == NAME}
    assert made in (set(), {"StatefulSet", "Service", "NetworkPolicy"}), made
    return bool(made)


def variables(objects: list[Values], pod: str) -> dict[str, Any]:
    """Give the variables of the only container of a pod, by name."""
    (container,) = pod_specs(objects)[pod]["containers"]
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


def password(secret: str, key: str) -> Values:
    """Give how a variable comes from a Secret."""
    return {"secretKeyRef": {"name": secret, "key": key}}


def test_there_is_none_until_something_needs_it() -> None:
    """A plain install has no Redis: its gateways are told of none, and the operator makes no password."""
    assert not has_redis({})
    assert not has_redis({"redis": {"enabled": None}})
    gateway = variables(render(), "capstan-gateway")
    assert not {"CAPSTAN_GATEWAY_REDIS_URL", "CAPSTAN_GATEWAY_REDIS_PASSWORD"} & gateway.keys()
    assert "CAPSTAN_REDIS_SECRET" not in variables(render(), "capstan-operator")


@pytest.mark.parametrize("need", NEEDS)
def test_there_is_one_where_something_needs_it(need: str) -> None:
    """Whatever is on that keeps something in Redis, or says how Redis is to be run, brings it; a Redis of somebody
    else takes its place."""
    assert has_redis(NEEDS[need])
    redis = {key: value for key, value in NEEDS[need].get("redis", {}).items() if key == "auth"}
    queue = {**NEEDS[need], "redis": {**redis, "externalUrl": "rediss://redis.example.com:6379/0"}}
    assert not has_redis(queue)


@pytest.mark.parametrize("wanted", [True, False])
def test_whoever_says_so_has_one_or_none(wanted: bool) -> None:
    """What is said is done, whatever is needed."""
    assert has_redis({"redis": {"enabled": wanted}}) is wanted


@pytest.mark.parametrize(
    ("auth", "secret", "key"), [({}, NAME, "password"), ({"existingSecret": OWN[0], "key": OWN[1]}, *OWN)]
)
def test_all_ends_have_the_password_of_one_secret(auth: Values, secret: str, key: str) -> None:
    """Redis, the gateway and the scorer have it from the Secret that is named, or from the operator's own; Redis lets
    in nobody without it, and the operator makes it where none is named, and there alone."""
    objects = render({"scorer": {"enabled": True}, "redis": {"auth": auth}})
    assert variables(objects, NAME)["REDISCLI_AUTH"] == password(secret, key)
    assert variables(objects, "capstan-gateway")["CAPSTAN_GATEWAY_REDIS_PASSWORD"] == password(secret, key)
    assert variables(objects, "capstan-scorer")["CAPSTAN_WORKER_REDIS_PASSWORD"] == password(secret, key)
    (redis,) = pod_specs(objects)[NAME]["containers"]
    assert redis["args"][redis["args"].index("--requirepass") + 1] == "$(REDISCLI_AUTH)"
    assert "--protected-mode" not in redis["args"]
    assert not [item for item in objects if item["kind"] == "Secret"]
    told = variables(objects, "capstan-operator")
    settings = load_settings({name: value for name, value in told.items() if isinstance(value, str)})
    assert settings.redis_secret_name == ("" if auth else NAME)
    rules = one(objects, "Role", "capstan-operator")["rules"]
    (named,) = [rule["resourceNames"] for rule in rules if rule["resources"] == ["secrets"] and "resourceNames" in rule]
    assert (NAME in named) is not bool(auth)
    assert secret == NAME or secret not in named, "nobody writes a password that is given"


def test_the_operator_writes_what_the_pods_read() -> None:
    """The Secret that the operator makes has the key that the pods ask for."""
    assert build_secret(REDIS, NAME, NAMESPACE, "dmFsdWU=")["data"] == {"password": "dmFsdWU="}


def test_a_password_of_another_redis_is_not_made() -> None:
    """Nobody knows what the password of somebody else's Redis is: it has none unless a Secret is named."""
    objects = render({"redis": {"externalUrl": "rediss://redis.example.com:6379/0"}})
    assert "CAPSTAN_GATEWAY_REDIS_PASSWORD" not in variables(objects, "capstan-gateway")
    assert "CAPSTAN_REDIS_SECRET" not in variables(objects, "capstan-operator")


def notes(folder: Path, values: Values) -> str:
    """Give what Helm prints after an install: the notes, rendered as a template of a copy of the chart."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart)
    text = (chart / "templates" / "NOTES.txt").read_text()
    (chart / "templates" / "notes.yaml").write_text(
        '{{- define "said" }}\n' + text + '\n{{- end }}\nsaid: {{ include "said" . | toJson }}\n'
    )
    done = run_helm(
        "template", "capstan", str(chart), "--namespace", NAMESPACE, "--kube-version", "1.34.0",
        "--show-only", "templates/notes.yaml", values=values,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return str(load(done.stdout)["said"])


@pytest.mark.parametrize(
    ("values", "alone"),
    [
        ({}, True),
        ({"gateway": {"replicas": 1}}, False),
        ({"gateway": {"replicas": 1, "autoscaling": {"enabled": True}}}, True),
        ({"redis": {"enabled": True}}, False),
        ({"redis": {"externalUrl": "redis://r:6379/0"}}, False),
        ({"redis": {"externalUrlSecret": {"name": "r"}}}, False),
    ],
)
def test_several_gateways_without_one_are_told_what_that_does_to_limits(
    tmp_path: Path, values: Values, alone: bool
) -> None:
    """Where pods count each for itself, the notes say that a limit is let through so many times; nobody else reads
    it."""
    assert ("There is no Redis" in notes(tmp_path, values)) is alone


def test_the_notes_say_where_the_password_is(tmp_path: Path) -> None:
    """Whoever needs the password that the operator has made finds the Secret's name there."""
    assert f"Secret {NAME}" in notes(tmp_path / "made", {"redis": {"enabled": True}})
    assert "has a password" not in notes(tmp_path / "given", {"redis": {"auth": {"existingSecret": "mine"}}})
