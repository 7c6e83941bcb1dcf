"""RateLimitPolicies on a real cluster: from `kubectl apply` to what both replicas of the gateway enforce."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

import support.enforced
from support.cluster import NAMESPACE, Cluster, Manifest, simulated
from support.enforced import MANY, PROGRAMMED
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

PROMPT = [{"role": "user", "content": "Hello"}]
LIMIT = "x-ratelimit-limit-requests"


def model(name: str) -> Manifest:
    """A simulated model that needs no GPU."""
    engine = {"type": "Simulator", "args": ["--ttft-ms", "1", "--tpot-ms", "1"]}
    return simulated(name, model={"servedName": name}, engine=engine, resources={"gpus": 0})


def policy(name: str, requests: int, *models: str, window: str = "hour", **spec: Any) -> Manifest:
    """So many requests in a window for each tenant; of those without a credential, all together."""
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "RateLimitPolicy",
        "metadata": {"name": name},
        "spec": {
            "targetRefs": [{"name": model} for model in models],
            "limits": [{"name": "requests", "per": "Tenant", "requests": requests, "window": window}],
            **spec,
        },
    }


def ask(gateway: str, name: str) -> tuple[int, str]:
    """Ask once, on a connection of its own; give the status, and the limit that the answer speaks of."""
    body = json.dumps({"model": name, "messages": PROMPT, "max_tokens": 1}).encode()
    request = urllib.request.Request(  # noqa: S310
        f"{gateway}/v1/chat/completions", body, {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            answer.read()
            return answer.status, answer.headers.get(LIMIT, "")
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.headers.get(LIMIT, "")


def enforced(gateway: str, name: str, limit: str) -> None:
    """Wait until answers speak of this limit, whichever replica gives them."""
    support.enforced.enforced(lambda: ask(gateway, name)[1], limit, what=f"the limit {limit or 'none'} on {name}")


def told(capstan: Cluster, name: str, namespace: str, **expected: tuple[str, str]) -> None:
    """Wait until the policy says this."""
    support.enforced.told(capstan, "ratelimitpolicy", name, namespace, **expected)


BEATEN = {"Accepted": ("False", "Conflicted"), "Programmed": ("False", "NotAccepted")}


def in_redis(capstan: Cluster, *words: str) -> str:
    """What Redis answers."""
    return capstan.kubectl("exec", "-n", NAMESPACE, "statefulset/capstan-redis", "--", "redis-cli", *words)


def keys_in_redis(capstan: Cluster) -> set[str]:
    """What the limiter has in Redis."""
    return set(in_redis(capstan, "--scan", "--pattern", "capstan:l*").split())


def in_force(capstan: Cluster, name: str, namespace: str) -> list[str]:
    """Give the names of the policies that a model's status lists."""
    return [policy["name"] for policy in capstan.status("llmmodel", name, namespace).get("policies") or ()]


def test_applied_changed_narrowed_conflicting_deleted(capstan: Cluster, namespace: str, gateway: str) -> None:
    """Each change of a policy is enforced by both replicas, and its status says so."""
    one, other = f"one-{namespace}", f"other-{namespace}"
    capstan.apply(namespace, model(one), model(other))
    for name in (one, other):
        capstan.wait_ready(name, namespace)
    assert ask(gateway, one) == (200, "")

    capstan.apply(namespace, policy("first", 1000, one, other))
    enforced(gateway, one, "1000")
    told(capstan, "first", namespace, **PROGRAMMED)
    assert "all 2 gateway replicas" in str(capstan.get("ratelimitpolicy", "first", namespace))
    wait_until(lambda: in_force(capstan, one, namespace) == ["first"], what="the model's own status")

    capstan.apply(namespace, policy("first", 900, one, other))
    enforced(gateway, one, "900")
    told(capstan, "first", namespace, **PROGRAMMED)

    capstan.apply(namespace, policy("first", 900, other))
    enforced(gateway, one, "")
    enforced(gateway, other, "900")
    told(capstan, "first", namespace, **PROGRAMMED)

    capstan.apply(namespace, policy("a-rival", 500, other))
    told(capstan, "a-rival", namespace, **BEATEN)
    assert ask(gateway, other)[1] == "900"

    capstan.kubectl("delete", "ratelimitpolicy", "first", "-n", namespace)
    enforced(gateway, other, "500")
    told(capstan, "a-rival", namespace, **PROGRAMMED)

    capstan.kubectl("delete", "ratelimitpolicy", "a-rival", "-n", namespace)
    enforced(gateway, other, "")

    def are_told() -> bool:
        shown = capstan.kubectl("get", "events", "-n", namespace, "-o", "jsonpath={.items[*].reason}").split()
        assert {"Conflicted", "Programmed"} <= set(shown), shown
        return True

    wait_until(are_told, what="the Events, which are written after the status")


def test_two_replicas_count_together(capstan: Cluster, namespace: str, gateway: str) -> None:
    """Of many requests to two replicas exactly as many are let in as there may be; every key in Redis has an end."""
    name = f"counted-{namespace}"
    capstan.apply(namespace, model(name), policy("few", 5, name))
    capstan.wait_ready(name, namespace)
    told(capstan, "few", namespace, **PROGRAMMED)
    answers = [ask(gateway, name)[0] for _ in range(3 * MANY)]
    assert sorted(answers) == [200] * 5 + [429] * (3 * MANY - 5)
    kept = {key: int(in_redis(capstan, "pttl", key)) for key in keys_in_redis(capstan)}
    assert kept
    assert not [key for key, millis in kept.items() if millis == -1], kept


def test_nothing_is_left_behind(capstan: Cluster, namespace: str, gateway: str) -> None:
    """When a policy has gone its keys in Redis go, too, once their time is over."""
    name = f"clean-{namespace}"
    capstan.apply(namespace, model(name), policy("short", 1000, name, window="10s"))
    capstan.wait_ready(name, namespace)
    told(capstan, "short", namespace, **PROGRAMMED)
    before = keys_in_redis(capstan)
    assert ask(gateway, name)[0] == 200
    made = wait_until(lambda: keys_in_redis(capstan) - before, what="keys of the policy in Redis")
    capstan.kubectl("delete", "ratelimitpolicy", "short", "-n", namespace)

    def is_clean() -> bool:
        left = made & keys_in_redis(capstan)
        assert not left, left
        return True

    wait_until(is_clean, seconds=240, every=2, what="the keys of the policy to go")
