"""From `kubectl apply` to an answer, on a real cluster."""

import json
import time
import urllib.request

import pytest

from support.cluster import NAMESPACE, Cluster, client_pod, simulated
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
INSIDE = f"http://capstan-gateway.{NAMESPACE}.svc/v1"
CHAT = """
import openai
client = openai.OpenAI(base_url={url!r}, api_key="unused", timeout=30, max_retries=0)
stream = client.chat.completions.create(
    model={model!r}, messages=[dict(role="user", content="Hello")], max_tokens=20, stream=True)
chunks = [chunk for chunk in stream]
text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
assert len(chunks) > 5 and text, chunks
assert chunks[-1].choices[0].finish_reason, chunks[-1]
whole = client.chat.completions.create(model={model!r}, messages=[dict(role="user", content="Hello")], max_tokens=20)
assert whole.model == {model!r} and whole.usage.completion_tokens == 20, whole
try:
    client.chat.completions.create(model="nobody", messages=[dict(role="user", content="Hello")])
except openai.NotFoundError as error:
    print("unknown model:", error.status_code)
print("models:", [model.id for model in client.models.list()])
print("answer:", text)
"""


def _models(gateway: str) -> set[str]:
    with urllib.request.urlopen(f"{gateway}/v1/models", timeout=30) as answer:  # noqa: S310
        return {entry["id"] for entry in json.load(answer)["data"]}


def _live(gateway: str, name: str) -> bool:
    """Ask often enough, with a connection each, to reach every replica of the gateway."""
    return all(name in _models(gateway) for _ in range(8))


def test_answers_from_inside_the_cluster(capstan: Cluster, namespace: str) -> None:
    """An applied model gets a pod with GPUs, becomes Ready, and answers the official client inside the cluster."""
    name = f"chat-{namespace}"
    capstan.apply(namespace, simulated("chat", model={"servedName": name}, resources={"gpus": 2}))
    capstan.wait_ready("chat", namespace)
    (pod,) = capstan.list("pods", namespace, "capstan.dev/model=chat")
    assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    printed = capstan.run_client(namespace, CHAT.format(url=INSIDE, model=name))
    assert "unknown model: 404" in printed
    assert "answer: " in printed
    shown = capstan.kubectl("get", "llmmodels", "-n", namespace)
    assert shown.splitlines()[1].split()[:5] == ["chat", "True", "1", "Serving", name]


def test_served_name_changes_live(capstan: Cluster, namespace: str, gateway: str) -> None:
    """A new served name is live in every gateway replica soon after the apply, and restarts nothing."""
    capstan.apply(namespace, simulated("renamed", model={"servedName": f"before-{namespace}"}))
    capstan.wait_ready("renamed", namespace)
    pods = [pod["metadata"]["uid"] for pod in capstan.list("pods", namespace)]
    times = []
    for name in (f"{number}-{namespace}" for number in range(3)):
        capstan.apply(namespace, simulated("renamed", model={"servedName": name}))
        applied = time.monotonic()
        wait_until(lambda name=name: _live(gateway, name), every=0.02, what="the new name")
        times.append(time.monotonic() - applied)
    print("live after", *(f"{took:.2f} s" for took in times))
    capstan.wait_ready("renamed", namespace)
    assert {name for name in _models(gateway) if namespace in name} == {f"2-{namespace}"}
    assert [pod["metadata"]["uid"] for pod in capstan.list("pods", namespace)] == pods


def test_scales(capstan: Cluster, namespace: str) -> None:
    """`kubectl scale` works on an LLMModel, up and down to zero, and a model at zero is Ready because it is idle."""
    capstan.apply(namespace, simulated("scaled"))
    capstan.wait_ready("scaled", namespace)
    capstan.kubectl("scale", "llmmodel/scaled", "-n", namespace, "--replicas=3")
    capstan.wait_settled("scaled", namespace)
    assert (capstan.get("llmmodels", "scaled", namespace) or {})["status"]["readyReplicas"] == 3
    assert capstan.get("poddisruptionbudgets", "scaled-model", namespace)
    capstan.kubectl("scale", "llmmodel/scaled", "-n", namespace, "--replicas=0")
    capstan.wait_ready("scaled", namespace, reason="Idle")
    wait_until(lambda: not capstan.list("pods", namespace, "capstan.dev/model=scaled"), what="no pods")


def test_nothing_is_left_of_a_deleted_model(capstan: Cluster, namespace: str, gateway: str) -> None:
    """Deleting a model removes every object that was made for it, and its name from the gateway."""
    kinds = "deployments,replicasets,pods,services,endpointslices,configmaps,poddisruptionbudgets,networkpolicies,pvc"
    model = simulated("gone", replicas=2, prefixes=[{"name": "house", "system": "Be brief."}], cache={"size": "1Gi"})
    model["spec"]["model"]["servedName"] = f"gone-{namespace}"
    capstan.apply(namespace, model)
    capstan.wait_settled("gone", namespace)
    made = {item["kind"] for item in capstan.list(kinds, namespace, "capstan.dev/model=gone")}
    assert made >= {"Deployment", "Service", "ConfigMap", "PodDisruptionBudget", "PersistentVolumeClaim"}
    capstan.kubectl("delete", "llmmodel", "gone", "-n", namespace)
    wait_until(lambda: not capstan.list(kinds, namespace, "capstan.dev/model=gone"), seconds=120, what="no object left")
    wait_until(lambda: f"gone-{namespace}" not in _models(gateway), what="the name's end")


HOSTED = """
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        right = self.headers["authorization"] == "Bearer first-key"
        message = dict(role="assistant", content=self.headers["authorization"].split("-")[0] + " " + asked["model"])
        answer = dict(id="x", object="chat.completion", created=1, model=asked["model"],
            choices=[dict(index=0, finish_reason="stop", message=message)],
            usage=dict(prompt_tokens=1, completion_tokens=1, total_tokens=2))
        body = json.dumps(answer if right else dict(error=dict(message="wrong key"))).encode()
        self.send_response(200 if right else 401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 9000), Handler).serve_forever()
"""


def test_external_model_with_a_secret(capstan: Cluster, namespace: str, gateway: str) -> None:
    """A hosted API is a model too, with a key from a Secret. A missing Secret is named; once Ready, it answers."""
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "hosted"},
        "spec": {"selector": {"app": "hosted"}, "ports": [{"port": 80, "targetPort": 9000}]},
    }  # fmt: skip
    name = f"hosted-{namespace}"
    external = {
        "provider": "OpenAICompatible",
        "url": f"http://hosted.{namespace}.svc/v1",
        "model": "theirs",
        "secretRef": {"name": "hosted-key", "key": "api-key"},
    }
    model = {
        "apiVersion": "capstan.dev/v1alpha1", "kind": "LLMModel", "metadata": {"name": "hosted"},
        "spec": {"model": {"servedName": name}, "external": external},
    }  # fmt: skip
    capstan.apply(namespace, client_pod("hosted", HOSTED), service, model)
    wait_until(
        lambda: "hosted-key" in capstan.condition("hosted", namespace, "Ready")["message"],
        what="the missing Secret's name",
    )
    capstan.kubectl("wait", "pod/hosted", "-n", namespace, "--for=condition=Ready", "--timeout=100s")
    capstan.apply(namespace, _secret("first-key"))
    capstan.wait_ready("hosted", namespace)
    assert _content(gateway, name) == "Bearer first theirs"


def _secret(key: str) -> dict[str, object]:
    metadata = {"name": "hosted-key", "labels": {"capstan.dev/credential": "true"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"api-key": key}}


def _content(gateway: str, model: str) -> str:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "?"}]}).encode()
    request = urllib.request.Request(  # noqa: S310
        f"{gateway}/v1/chat/completions", data=body, headers={"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return str(json.load(answer)["choices"][0]["message"]["content"])
    except urllib.error.HTTPError as error:
        return f"status {error.code}"


FAULTS = {
    "Conflicted": ("Accepted", simulated("wrong", model={"servedName": "taken"})),
    "ClaimNotFound": ("Degraded", simulated("wrong", cache={"claimName": "no-such-claim"})),
    "ImagePullFailed": ("Degraded", simulated("wrong", engine={"type": "Simulator", "image": "nowhere.invalid/x:1"})),
}


@pytest.mark.parametrize("reason", FAULTS)
def test_a_condition_names_the_fault(capstan: Cluster, namespace: str, reason: str) -> None:
    """What only shows in the cluster is named by a condition of the model, with a reason and a message."""
    kind, model = FAULTS[reason]
    if reason == "Conflicted":
        capstan.apply(namespace, simulated("older", model={"servedName": "taken"}))
        wait_until(lambda: capstan.condition("older", namespace, "Accepted")["status"] == "True", what="the older one")
    capstan.apply(namespace, model)
    found = wait_until(
        lambda: (state := capstan.condition("wrong", namespace, kind))["reason"] == reason and state,
        seconds=120, what=f"{kind} {reason}",
    )  # fmt: skip
    assert found
    assert found["status"] == ("False" if kind == "Accepted" else "True")
    assert found["message"]
    assert capstan.condition("wrong", namespace, "Ready")["status"] == "False"
