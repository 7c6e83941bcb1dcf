"""What happens while something is away that the operator needs: it goes on as the same process, and is well again."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.kube.client import KubeClient
from capstan_operator.kube.errors import KubeError
from capstan_operator.resources.api_resource import EVENTS, SERVICES
from support.api_proxy import api_proxy
from support.apiserver import api_server, stop_api_server
from support.llmmodels import is_settled, served_names, simulated
from support.operator_process import NAMESPACES, OperatorProcess, connect, find, install_crds, make_namespace
from support.wait import eventually

pytestmark = pytest.mark.apiserver


async def settled(kube: KubeClient, name: str, namespace: str) -> bool:
    """Whether a model has settled."""
    return is_settled(await find(kube, LLM_MODELS, name, namespace))


async def reasons(kube: KubeClient, namespace: str) -> set[str]:
    """The reasons of the Events in a namespace."""
    return {item["reason"] for item in (await kube.list(EVENTS, namespace=namespace)).items}


async def test_a_watch_error_ends_no_process(
    kube: KubeClient, kube_api: Path, namespace: str, start_operator: Any, tmp_path: Path
) -> None:
    """A watch that is answered with an error that kopf takes for fatal, again and again, is begun again; the process,
    its lease and everybody else's watch go on, and changes are seen by the watch when it works again."""
    async with api_proxy(kube_api, tmp_path) as (proxy, through_proxy):
        operator = start_operator(kubeconfig=through_proxy, CAPSTAN_RESYNC_SECONDS="3600")
        await kube.apply(simulated("one", namespace), manager="user")
        await eventually(lambda: settled(kube, "one", namespace), what="the first model")
        path = LLM_MODELS.path(namespace)
        proxy.refused[path] = 403
        proxy.break_watches()
        proxy.mend_watches(expired=False)
        await eventually(lambda: operator.metric("capstan_operator_watch_failures_total") >= 2, what="two failures")
        assert operator.exit_code is None
        assert operator.read("/healthz") == "ok"
        assert "is not watched" in operator.read("/readyz")
        assert operator.metric("capstan_operator_namespaces_unwatched") == 1
        assert operator.metric("capstan_operator_leader") == 1
        await kube.delete(SERVICES, "one-model", namespace=namespace)
        del proxy.refused[path]

        async def mended() -> bool:
            return await find(kube, SERVICES, "one-model", namespace) is not None

        await eventually(mended, what="what was missed to be found")
        await kube.apply(simulated("two", namespace), manager="user")
        await eventually(lambda: settled(kube, "two", namespace), what="a model that the new watch has seen")
        await eventually(
            lambda: operator.metric("capstan_operator_namespaces_unwatched") == 0, what="trust in the watch"
        )
        assert operator.exit_code is None
        assert "kopf ended" not in operator.log

        async def told() -> bool:
            return await reasons(kube, namespace) >= {"WatchFailed", "WatchRestored"}

        await eventually(told, what="the Events of both")
        assert operator.stop() == 0


async def test_a_watched_namespace_may_go_and_come_back(
    kube: KubeClient, kube_api: Path, namespace: str, start_operator: Any, tmp_path: Path
) -> None:
    """The watch of a namespace in which nothing is allowed any more is left out, also by an operator that starts then;
    the others are watched all the time; when it is allowed again, it is watched again."""
    other = await make_namespace(kube)
    async with api_proxy(kube_api, tmp_path) as (proxy, through_proxy):
        environ = {"CAPSTAN_WATCH_NAMESPACES": f"{namespace},{other}", "CAPSTAN_RESYNC_SECONDS": "3600"}
        operator = start_operator(kubeconfig=through_proxy, **environ)
        await kube.apply(simulated("there", other), manager="user")
        await kube.apply(simulated("here", namespace), manager="user")
        await eventually(lambda: settled(kube, "there", other), what="the model in the other namespace")
        await eventually(lambda: settled(kube, "here", namespace), what="the model here")

        proxy.forbidden.add(other)
        proxy.break_watches()
        proxy.mend_watches(expired=False)
        await eventually(lambda: operator.metric("capstan_operator_namespaces_unwatched") == 1, what="the loss")
        await kube.apply(simulated("here2", namespace), manager="user")
        await eventually(lambda: settled(kube, "here2", namespace), what="a model here meanwhile")
        assert await served_names(kube, namespace) == {"here", "here2", "there"}
        assert operator.exit_code is None
        assert operator.stop() == 0

        again = start_operator(kubeconfig=through_proxy, **environ)
        await eventually(lambda: again.metric("capstan_operator_namespaces_unwatched") == 1, what="the new one's loss")
        await kube.apply(simulated("here", namespace, replicas=2), manager="user")
        await eventually(lambda: settled(kube, "here", namespace), what="a model of the restarted operator")
        assert again.exit_code is None
        assert await served_names(kube, namespace) == {"here", "here2", "there"}

        proxy.forbidden.clear()
        await eventually(
            lambda: again.metric("capstan_operator_namespaces_unwatched") == 0, seconds=180, what="its return"
        )
        await kube.apply(simulated("there2", other), manager="user")
        await eventually(lambda: settled(kube, "there2", other), what="a new model in the namespace that is back")
        assert again.exit_code is None
    await kube.delete(NAMESPACES, other)


async def test_an_api_server_that_is_away_for_long_restarts_nobody(tmp_path: Path) -> None:
    """Without an API server a process that need not fear a second one stays alive and healthy, for longer than any
    deadline of its watches and lists; when the API server is back, the same process works on."""
    # Beyond those of the processes of a run (conftest.py), however many there are, or come in place of one that ended.
    port = int(os.environ.get("CAPSTAN_TEST_API_PORT", "7443")) + 60
    with api_server(port=port, controllers=False) as kubeconfig:
        async with connect(kubeconfig) as kube:
            await install_crds(kube)
            namespace = await make_namespace(kube)
            operator = OperatorProcess(
                kubeconfig,
                namespace,
                tmp_path / "operator.log",
                CAPSTAN_LEADER_ELECTION="false",
                CAPSTAN_RESYNC_SECONDS="2",
            ).start()
            try:
                await kube.apply(simulated("one", namespace), manager="user")
                await eventually(lambda: settled(kube, "one", namespace), what="the model")
                start_again = stop_api_server(kubeconfig)
                try:
                    age = "capstan_operator_resync_age_seconds"
                    # NB: older than three intervals, and than a call with all its attempts (30 s).
                    await eventually(lambda: operator.metric(age) > 35, seconds=120, every=1.0, what="an old resync")
                    assert operator.exit_code is None
                    assert operator.read("/healthz") == "ok"
                    with pytest.raises(OSError, match="500"):
                        operator.read("/readyz")
                finally:
                    start_again()

                async def made() -> bool:
                    try:
                        await kube.apply(simulated("two", namespace), manager="user")
                    except KubeError:
                        await asyncio.sleep(0.5)
                        return False
                    return True

                await eventually(made, what="the API server")
                await eventually(lambda: settled(kube, "two", namespace), seconds=180, what="a model after the outage")
                await eventually(lambda: operator.metric(age) < 6, seconds=60, what="a resync")
                await eventually(operator.is_ready, what="a process that says that it is ready")
                assert operator.exit_code is None
                assert operator.stop() == 0
            finally:
                operator.kill()
