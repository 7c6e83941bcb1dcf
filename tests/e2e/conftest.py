"""The one-node cluster with Capstan in it, once for all tests; a namespace for each."""

import os
import uuid
from collections.abc import Iterator

import pytest

from support.cluster import NAMESPACE, NODE_PORT, Cluster, build_images, install_chart, make_namespace, running_cluster

GATEWAY = f"http://127.0.0.1:{NODE_PORT}"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster with all images."""
    with running_cluster() as cluster:
        if os.environ.get("CAPSTAN_E2E_IMAGES") != "keep":
            build_images(cluster)
        yield cluster


@pytest.fixture(scope="session")
def capstan(cluster: Cluster) -> Cluster:
    """The cluster with the chart installed."""
    install_chart(cluster)
    if os.environ.get("CAPSTAN_E2E_KEEP") == "1":
        # The images have the same tag as those of the last run.
        for workload in ("operator", "gateway"):
            cluster.kubectl("rollout", "restart", f"deployment/capstan-{workload}", "-n", NAMESPACE)
            cluster.kubectl("rollout", "status", f"deployment/capstan-{workload}", "-n", NAMESPACE, "--timeout=90s")
    return cluster


@pytest.fixture
def gateway() -> str:
    """Base URL of the gateway's NodePort."""
    return GATEWAY


@pytest.fixture
def namespace(capstan: Cluster) -> Iterator[str]:
    """A namespace that enforces the restricted Pod Security level; its models end with it."""
    name = f"e2e-{uuid.uuid4().hex[:6]}"
    make_namespace(capstan, name)
    yield name
    capstan.kubectl("delete", "namespace", name, "--wait=false")
    capstan.kubectl("delete", "pods", "--all", "-n", name, "--grace-period=1", "--wait=false")
