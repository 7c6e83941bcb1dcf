"""What a kubelet does for the controllers of a test API server: pods become ready, each with an address of its own."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

from capstan_contract.names import POD_HASH_LABEL
from capstan_operator.kube.client import KubeClient, _Request
from capstan_operator.kube.errors import Conflict, NotFound, Unavailable
from capstan_operator.resources.api_resource import NODES, PODS
from capstan_operator.resources.resource import Manifest

BEAT_SECONDS: Final = 5.0
"""How often a node says that it lives: after 40 s of silence its pods count as lost."""


async def beat(kube: KubeClient, node: str) -> None:
    """Say that a node lives: after 40 s of silence its pods count as lost."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = {"type": "Ready", "status": "True", "reason": "Test", "lastHeartbeatTime": now}
    said = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "status": {"conditions": [ready]}}
    await kube.apply_status(said, manager="kubelet")


class Kubelet:
    """`async with Kubelet(kube, namespace):` has every pod ready that `accepts` says yes to."""

    def __init__(self, kube: KubeClient, namespace: str) -> None:
        self.accepts: Callable[[Manifest], bool] = lambda _: True
        self.says: Callable[[Manifest], str | None] = lambda _: None
        """What a pod that ends has left as its termination message; None of one that goes on."""
        self._kube = kube
        self._namespace = namespace
        self._node = ""
        self._addresses: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._node = f"node-{self._namespace}"
        await self._kube.apply(
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._node}}, manager="kubelet"
        )
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._task
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._kube.delete(NODES, self._node)

    async def pods(self) -> list[Manifest]:
        """Give the pods that are not being deleted."""
        found = await self._kube.list(PODS, namespace=self._namespace)
        return [pod for pod in found.items if "deletionTimestamp" not in pod["metadata"]]

    async def hashes(self) -> set[str]:
        """Give the templates that there are pods of."""
        return {pod["metadata"]["labels"][POD_HASH_LABEL] for pod in await self.pods()}

    async def _run(self) -> None:
        beaten = -BEAT_SECONDS
        while True:
            # An API server that is busy keeps it waiting, and does not end it.
            with suppress(Unavailable):
                if time.monotonic() - beaten >= BEAT_SECONDS:
                    await beat(self._kube, self._node)
                    beaten = time.monotonic()
                await self._look()
            await asyncio.sleep(0.1)

    async def _look(self) -> None:
        for pod in (await self._kube.list(PODS, namespace=self._namespace)).items:
            with suppress(NotFound, Conflict):
                if "deletionTimestamp" in pod["metadata"]:
                    await self._end(pod)
                elif pod["metadata"]["uid"] not in self._addresses and self.accepts(pod):
                    await self._make_ready(pod)

    async def _end(self, pod: Manifest) -> None:
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        path = PODS.path(self._namespace, pod["metadata"]["name"])
        await self._kube._call(_Request("delete", PODS, "DELETE", path, body=body))

    async def _make_ready(self, pod: Manifest) -> None:
        metadata = pod["metadata"]
        address = f"10.9.0.{len(self._addresses) + 1}"
        # One whose answer came too late has been carried out, and is refused a second time.
        if not pod["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": self._node}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": metadata["name"]}, "target": target}
            path = PODS.path(self._namespace, metadata["name"], "binding")
            await self._kube._call(_Request("create", PODS, "POST", path, body=binding))
        status: Manifest = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Ready")],
        }
        if (message := self.says(pod)) is not None:
            status = _ended(pod, message)
        named = {"name": metadata["name"], "namespace": self._namespace, "uid": metadata["uid"]}
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": named, "status": status}
        await self._kube.apply_status(manifest, manager="kubelet")
        self._addresses[metadata["uid"]] = address


def _ended(pod: Manifest, message: str) -> Manifest:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    end = {"exitCode": 0, "reason": "Completed", "message": message, "startedAt": now, "finishedAt": now}
    statuses = [
        {
            "name": one["name"],
            "image": one["image"],
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": {"terminated": end},
        }
        for one in pod["spec"]["containers"]
    ]
    return {"phase": "Succeeded", "containerStatuses": statuses}
