"""CachePolicies on a real cluster: from `kubectl apply` to what both replicas of the gateway give again."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest

from support.cluster import Cluster, Manifest, simulated
from support.enforced import MANY
from support.needs import ROOT
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

QUESTION = "what is 17 + 25?"
HITS = {"hit-memory", "hit-redis"}
ABSENT = "absent"


def model(name: str, **model: Any) -> Manifest:
    """A simulated model that needs no GPU."""
    engine = {"type": "Simulator", "args": ["--ttft-ms", "1", "--tpot-ms", "1"]}
    return simulated(name, model={"servedName": name, **model}, engine=engine, resources={"gpus": 0})


def policy(kind: str, name: str, model: str, **spec: Any) -> Manifest:
    """A policy for a model."""
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"targetRefs": [{"name": model}], **spec},
    }


def ask(gateway: str, name: str, **headers: str) -> str:
    """Ask once, on a connection of its own; give what the cache had to do with it, or that nothing is there."""
    body = json.dumps({"model": name, "messages": [{"role": "user", "content": QUESTION}]}).encode()
    request = urllib.request.Request(  # noqa: S310
        f"{gateway}/v1/chat/completions", body, {"content-type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            answer.read()
            return str(answer.headers["x-cache"])
    except urllib.error.HTTPError as refusal:
        code = str(json.loads(refusal.read())["error"]["code"])
        return ABSENT if code == "cache_miss" else code


def there(gateway: str, name: str) -> set[str]:
    """Give what the replicas have, without a model being asked."""
    return {ask(gateway, name, **{"cache-control": "only-if-cached"}) for _ in range(MANY)}


def is_gone(gateway: str, name: str, *, what: str) -> None:
    """Wait until no replica has an answer, and see that it comes anew."""
    wait_until(lambda: there(gateway, name) == {ABSENT}, every=0.2, what=what)
    wait_until(lambda: ask(gateway, name) == "miss", every=0.2, what=f"a miss after {what}")
    # NB: what one replica makes right behind a purge may be none to the other one, which then makes it for itself.
    again = lambda: {ask(gateway, name) for _ in range(MANY)} <= HITS  # noqa: E731
    wait_until(again, every=0.2, what=f"hits after {what}")


def says(capstan: Cluster, kind: str, name: str, namespace: str, **expected: str) -> None:
    """Wait until conditions of a policy have these reasons."""

    def said() -> bool:
        status = capstan.status(kind, name, namespace)
        found = {one["type"]: one["reason"] for one in status.get("conditions") or ()}
        assert expected.items() <= found.items(), status
        return True

    wait_until(said, seconds=90, every=0.5, what=f"{expected} of {name}")


def purge(capstan: Cluster, *words: str) -> str:
    """Run `capstan cache purge`; give what it printed."""
    command = [sys.executable, "-m", "capstan_operator.cli.main", "cache", "purge", *words]
    path = os.pathsep.join(str(ROOT / part) for part in ("operator", "gateway"))
    environment = {**os.environ, "KUBECONFIG": str(capstan.kubeconfig), "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_kept_is_of_the_model_and_the_guards_as_they_are(
    capstan: Cluster, namespace: str, gateway: str
) -> None:
    """An answer is given again by both replicas, one by way of Redis; after another revision of the model, another
    word in a guard, and a purge, neither of them has it. The status counts what was there."""
    name = f"cached-{namespace}"
    capstan.apply(namespace, model(name), policy("CachePolicy", "answers", name))
    capstan.wait_ready(name, namespace)
    says(capstan, "cachepolicy", "answers", namespace, Accepted="Accepted", Programmed="Programmed")
    assert ask(gateway, name) == "miss"
    # NB: it is in Redis a moment behind the answer; who asks for what is kept alone has no model asked meanwhile.
    words: set[str] = set()

    def both_have_it() -> bool:
        found = there(gateway, name)
        words.update(found)
        return found <= HITS

    wait_until(both_have_it, every=0.2, what="the answer at both replicas")
    assert words >= HITS, words
    assert {ask(gateway, name) for _ in range(MANY)} <= HITS

    capstan.apply(namespace, model(name, revision="next"))
    capstan.wait_settled(name, namespace)
    is_gone(gateway, name, what="another revision")

    keywords = {"type": "Keywords", "keywords": ["bluebird"]}
    capstan.apply(namespace, policy("GuardPolicy", "words", name, input=[keywords]))
    says(capstan, "guardpolicy", "words", namespace, Programmed="Programmed")
    is_gone(gateway, name, what="a guard")
    capstan.apply(namespace, policy("GuardPolicy", "words", name, input=[{**keywords, "keywords": ["falcon"]}]))
    is_gone(gateway, name, what="another word in a guard")

    assert "every gateway replica" in purge(capstan, "--model", name)
    is_gone(gateway, name, what="a purge")

    def is_counted() -> bool:
        cached = capstan.status("cachepolicy", "answers", namespace).get("cached") or {}
        assert cached.get("hits", 0) > MANY, cached
        assert cached.get("redisHits", 0) > 0, cached
        assert cached.get("savedTokens", 0) > 0, cached
        return True

    wait_until(is_counted, seconds=90, every=1, what="the counts of the policy")
    says(capstan, "cachepolicy", "answers", namespace, Shared="Shared")
