"""`auto`, routers and cascades, from `kubectl apply` to an answer on a real cluster."""

import json
import urllib.request
from collections import Counter
from typing import Any

import pytest

from support.cluster import Cluster, Manifest, simulated
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def virtual(name: str, **spec: Any) -> Manifest:
    """Give an LLMModel without pods."""
    return {"apiVersion": "capstan.dev/v1alpha1", "kind": "LLMModel", "metadata": {"name": name}, "spec": spec}


def chat(name: str, price: str, *args: str, capabilities: list[str] | None = None) -> Manifest:
    """Give a simulated model with a price, that needs no GPU."""
    serving = {"price": {"inputPerMillion": price, "outputPerMillion": price}, "capabilities": capabilities or []}
    engine = {"type": "Simulator", "args": ["--ttft-ms", "5", "--tpot-ms", "2", *args]}
    return simulated(name, model={"servedName": name}, engine=engine, serving=serving, resources={"gpus": 0})


def ask(gateway: str, model: str, **fields: Any) -> tuple[str, str]:
    """Ask once; give the model that answered and how it was chosen."""
    document = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, **fields}
    request = urllib.request.Request(  # noqa: S310
        f"{gateway}/v1/chat/completions", json.dumps(document).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        assert b"finish_reason" in answer.read()
        return answer.headers["x-capstan-model"], answer.headers["x-capstan-route"]


def test_auto_takes_the_cheapest_that_can(capstan: Cluster, namespace: str, gateway: str) -> None:
    """`auto` finds the cheapest model with what the request needs, and the next one while that is away."""
    names = {word: f"{word}-{namespace}" for word in ("plain", "cheap", "dear")}
    # No other model of this cluster can do audio.
    capstan.apply(
        namespace,
        chat(names["plain"], "0.01"),
        chat(names["cheap"], "0.10", capabilities=["Audio"]),
        chat(names["dear"], "5", capabilities=["Audio"]),
    )
    for name in names.values():
        capstan.wait_ready(name, namespace)
    heard = {"modalities": ["text", "audio"]}
    wait_until(lambda: ask(gateway, "auto", **heard) == (names["cheap"], "cheapest"), what="the cheapest model")
    capstan.kubectl("scale", f"llmmodel/{names['cheap']}", "-n", namespace, "--replicas=0")
    wait_until(lambda: ask(gateway, "auto", **heard)[0] == names["dear"], what="the other model")


def test_a_canary_and_a_cascade(capstan: Cluster, namespace: str, gateway: str) -> None:
    """A weighted router shares its users out and keeps them; a cascade escalates past a member that fails."""
    old, new, broken = (f"{word}-{namespace}" for word in ("old", "new", "broken"))
    front, steps = f"front-{namespace}", f"steps-{namespace}"
    members = [{"name": old, "weight": 60}, {"name": new, "weight": 40}]
    capstan.apply(
        namespace,
        chat(old, "1"),
        chat(new, "2"),
        chat(broken, "0.1", "--fault", "500"),
        virtual(front, router={"strategy": "Weighted", "members": members}),
        virtual(steps, cascade={"members": [{"name": broken}, {"name": old}, {"name": new}]}),
    )
    for name in (old, new, broken, front, steps):
        capstan.wait_ready(name, namespace)
    users = {user: ask(gateway, front, user=user) for user in map(str, range(30))}
    assert {how for _, how in users.values()} == {"weighted"}
    counted = Counter(model for model, _ in users.values())
    assert set(counted) == {old, new}
    assert {user: ask(gateway, front, user=user) for user in users} == users
    assert ask(gateway, steps) == (old, "cascade; accepted=2; score=1.00")
    shown = capstan.kubectl("get", "llmmodels", "-n", namespace)
    assert front in shown
