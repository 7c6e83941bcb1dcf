"""The chart with a queue whose Redis keeps what waits, batches, and sealed entries: what tests of it install."""

import base64
import copy

from support.cluster import NAMESPACE, VALUES, Cluster, Manifest, install_chart, make_namespace
from support.needs import ROOT

REDIS = "capstan-redis"
REDIS_PASSWORD = "of-the-gateway"
WORKER_PASSWORD = "of-the-workers"
FLAGS = ("--namespace", NAMESPACE, "--wait", "--timeout", "240s")


def queued_values() -> Manifest:
    """Values of the chart with a queue."""
    values = copy.deepcopy(VALUES)
    values["gateway"]["batches"] = {"existingClaim": "batches"}
    values["queue"] = {"enabled": True, "workerSecret": "queue-worker", "sealSecret": "queue-seal"}
    values["redis"] = {"auth": {"existingSecret": "redis"}, "persistence": {"enabled": True, "size": "1Gi"}}
    return values


def install_queue(cluster: Cluster, values: Manifest, *, models: str) -> None:
    """Install the chart with a queue for a namespace, or upgrade to it, as docs/install.md says."""
    make_namespace(cluster, models)
    cluster.apply(
        NAMESPACE,
        _secret("redis", {"password": REDIS_PASSWORD}),
        _secret("queue-worker", {"password": WORKER_PASSWORD}),
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "batches"},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
        },
    )
    cluster.apply(
        models,
        _secret("queue-worker", {"password": WORKER_PASSWORD}),
        _secret("queue-seal", {"seal-key": "0123456789abcdef"}, {"capstan.dev/credential": "true"}),
    )
    _without_redis(cluster)
    upgrade(cluster, values)


def upgrade(cluster: Cluster, values: Manifest) -> None:
    """Upgrade the chart to these values, and wait until it runs."""
    cluster.helm("upgrade", "--install", "capstan", str(ROOT / "helm" / "capstan"), *FLAGS, values=values)


def remove_queue(cluster: Cluster, *, models: str) -> None:
    """Delete the namespace's models and the namespace, and install the chart as other tests want it."""
    cluster.kubectl("delete", "llmmodels", "--all", "-n", models)
    cluster.kubectl("delete", "pods", "--all", "-n", models, "--grace-period=1", "--wait=false")
    _without_redis(cluster)
    install_chart(cluster)
    cluster.kubectl("delete", "namespace", models, "--wait=false")
    cluster.kubectl("delete", "pvc", "batches", f"data-{REDIS}-0", "-n", NAMESPACE, "--wait=false")


def _without_redis(cluster: Cluster) -> None:
    """A StatefulSet gets no claim, and loses none, while it is there."""
    cluster.kubectl("delete", "statefulset", REDIS, "-n", NAMESPACE, "--ignore-not-found")


def _secret(name: str, texts: dict[str, str], labels: dict[str, str] | None = None) -> Manifest:
    data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels or {}}, "data": data}
