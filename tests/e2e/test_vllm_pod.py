"""Real vLLM as the model's pod, started by exactly the arguments that the operator writes. Opt-in: `make e2e-vllm`.

The images are large (3.5 GB) and take minutes. The pod asks for a GPU like any other; vLLM's build for the CPU does not
mind that there is none.
"""

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from support.cluster import NAMESPACE, PYTHON_BASE, TAG, VALUES, Cluster, Manifest, install_chart
from support.kubernetes import HOME, need_test_cluster
from support.needs import ROOT
from support.vllm import need_vllm, tiny_chat_model

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.vllm,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(os.environ.get("CAPSTAN_E2E_VLLM") != "1", reason="opt-in: make e2e-vllm"),
]
VLLM_BASE = f"docker.io/capstan/vllm-cpu:{TAG}"
WORKER = "docker.io/capstan/worker-vllm"
VOLUME = "local-19"


@pytest.fixture
def vllm_worker(capstan: Cluster) -> Iterator[None]:
    """The worker's image on a base that brings vLLM, chosen by the chart."""
    dockerfile = str(ROOT / "tests" / "e2e" / "vllm-cpu" / "Dockerfile")
    arguments = ["-t", VLLM_BASE, "-f", dockerfile, "--build-arg", f"BASE={PYTHON_BASE}"]
    base = [str(need_test_cluster()), "build", "--no-load", *arguments, str(ROOT)]
    subprocess.run(base, check=True, capture_output=True, timeout=1800)
    capstan.build(f"{WORKER}:{TAG}", "worker/Dockerfile", BASE=VLLM_BASE)
    chart = str(ROOT / "helm" / "capstan")
    values = {**VALUES, "models": {"workerImage": {"repository": WORKER}}}
    capstan.helm("upgrade", "capstan", chart, "--namespace", NAMESPACE, "--wait", values=values)
    yield
    install_chart(capstan)


def _weights(capstan: Cluster, namespace: str) -> None:
    """Put the tiny model onto a volume, and bind a claim to it."""
    folder = HOME / "volumes" / VOLUME.replace("local-", "v")
    shutil.copytree(tiny_chat_model(need_vllm()), folder / "tiny", dirs_exist_ok=True)
    for path in (folder / "tiny").iterdir():
        # The pod runs as a user of its own.
        path.chmod(0o644)
    # A claim of an earlier run may still be named on it.
    free = '[{"op": "remove", "path": "/spec/claimRef"}]'
    capstan.kubectl("patch", "pv", VOLUME, "--type=json", "--patch", free, check=False)
    claim: Manifest = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "weights"},
        "spec": {
            "volumeName": VOLUME,
            "storageClassName": "standard",
            "accessModes": ["ReadOnlyMany"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    capstan.apply(namespace, claim)


@pytest.mark.usefixtures("vllm_worker")
def test_real_vllm_answers(capstan: Cluster, namespace: str, gateway: str) -> None:
    """An ordinary LLMModel with weights on a claim runs vLLM in its pod, which answers through the gateway."""
    _weights(capstan, namespace)
    name = f"tiny-{namespace}"
    spec = {
        "model": {"source": "pvc://weights/tiny", "servedName": name},
        "engine": {
            "args": ["--enforce-eager", "--max-num-seqs", "4"],
            "env": [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "1"}],
        },
        "resources": {"gpus": 1},
        "serving": {"contextWindow": 1024},
    }
    model = {"apiVersion": "capstan.dev/v1alpha1", "kind": "LLMModel", "metadata": {"name": "tiny"}, "spec": spec}
    capstan.apply(namespace, model)
    capstan.wait_ready("tiny", namespace, seconds=600)
    (pod,) = capstan.list("pods", namespace, "capstan.dev/model=tiny")
    print(pod["spec"]["containers"][0]["args"])
    body = {"model": name, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "stream": True}
    request = urllib.request.Request(  # noqa: S310
        f"{gateway}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
        lines = [line.decode() for line in answer if line.startswith(b"data: ")]
    assert lines[-1].strip() == "data: [DONE]"
    assert all(json.loads(line.removeprefix("data: "))["model"] == name for line in lines[:-1])
