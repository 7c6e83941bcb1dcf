"""A namespace and an operator process for each test, on the session's API server."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from capstan_operator.kube.client import KubeClient
from support.admission import bound_account
from support.apiserver import need_own
from support.operator_process import NAMESPACES, OperatorProcess, connect, install_crds, make_namespace

StartOperator = Callable[..., OperatorProcess]


@pytest.fixture
async def kube(kube_api: Path) -> AsyncIterator[KubeClient]:
    """A client of the API server, with the CRD installed."""
    need_own(kube_api)
    async with connect(kube_api) as client:
        await install_crds(client)
        yield client


@pytest.fixture
async def namespace(kube: KubeClient) -> AsyncIterator[str]:
    """A namespace of the test's own, deleted in the end."""
    name = await make_namespace(kube)
    yield name
    await kube.delete(NAMESPACES, name)


@pytest.fixture
async def bound(kube: KubeClient, kube_api: Path, namespace: str, tmp_path: Path) -> AsyncIterator[Path]:
    """The kubeconfig of an account that may do all that the chart's admission policy does not keep operators from."""
    async with bound_account(kube, kube_api, namespace, tmp_path) as path:
        yield path


@pytest.fixture
def start_operator(bound: Path, namespace: str, tmp_path: Path) -> Iterator[StartOperator]:
    """Starts operators in the test's namespace, with the chart's admission policy in force; whatever still runs in the
    end is killed."""
    started: list[OperatorProcess] = []

    def start(*, kubeconfig: Path = bound, **environ: str) -> OperatorProcess:
        process = OperatorProcess(kubeconfig, namespace, tmp_path / f"operator-{len(started)}.log", **environ)
        started.append(process.start())
        return process

    yield start
    for process in started:
        process.kill()
