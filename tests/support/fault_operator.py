"""A world whose models are LLMModels of a real API server; its gateways have what the operator compiles of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import ENDPOINT_SLICES
from support.apiserver import api_server, stop_api_server
from support.fault_load import Load
from support.fault_rounds import Outcome, settle, well
from support.fault_world import DIRECT, QUEUED, TOTAL_SECONDS, World, world
from support.kube_gateway import account, source_flags, trust
from support.llmmodels import read_config, simulated
from support.operator_process import OperatorProcess, connect, install_crds, make_namespace
from support.ports import own_address
from support.wait import eventually
from support.worker import get

REDIS: Final = "redis://redis.example:6379/0"
"""What models' pods would be told. The workers of this world have been told already."""


@dataclass
class Governed:
    """A world, and who governs it."""

    world: World
    kube: KubeClient
    namespace: str
    kubeconfig: Path
    operator: OperatorProcess
    changes: int = 0

    async def change(self) -> None:
        """Change a model as its user does."""
        self.changes += 1
        await self.kube.apply(self.model(QUEUED), manager="user")

    async def changed(self) -> None:
        """Wait until every gateway works by the latest change."""
        wanted = TOTAL_SECONDS + self.changes

        async def is_so() -> bool:
            if self.operator.exit_code is not None:
                self.operator.start()  # It has lost its lease, and ended; Kubernetes starts it again.
            config = await read_config(self.kube, self.namespace)
            if config is None:
                return False
            entries = {one.servedName: one for one in config.models}
            if QUEUED not in entries or entries[QUEUED].timeouts.totalSeconds != wanted:
                return False
            pages = [await asyncio.to_thread(get, f"{one.url}/internal/config") for one in self.world.gateways]
            return all(config.hash in page for _, page in pages)

        await eventually(is_so, every=0.3, seconds=120, what="the change in all gateways")

    def model(self, name: str) -> dict[str, Any]:
        """Give an LLMModel as it is now."""
        total = int(TOTAL_SECONDS) + self.changes
        serving = {"timeouts": {"firstTokenSeconds": 12, "idleSeconds": 12, "totalSeconds": total}}
        dispatch = {QUEUED: "Queue", DIRECT: "Direct"}[name]
        return simulated(name, self.namespace, serving=serving, dispatch=dispatch)


async def _operator_killed(governed: Governed) -> None:
    governed.operator.kill()
    await governed.change()
    await asyncio.sleep(2)
    governed.operator.start()
    await governed.changed()


async def _api_away(governed: Governed) -> None:
    start_again = await asyncio.to_thread(stop_api_server, governed.kubeconfig)
    await asyncio.sleep(6)
    await asyncio.to_thread(start_again)

    async def answers() -> bool:
        try:
            await governed.change()
        except Exception:  # noqa: BLE001  # whatever it says while it begins
            governed.changes -= 1
            return False
        return True

    await eventually(answers, every=0.5, seconds=120, what="the API server")
    await governed.changed()


STRIKES: Final[dict[str, tuple[str, Callable[[Governed], Awaitable[None]]]]] = {
    "operator-killed": ("`kill -9` of the operator, while a model changes", _operator_killed),
    "api-away": ("API server away for 6 s and more", _api_away),
}


async def run_governed(name: str, folder: Path, *, times: int, rate: float, port: int) -> Outcome:
    """Strike so many times; give what became of all requests together."""
    _, strike = STRIKES[name]
    with api_server(port=port) as kubeconfig:
        async with governed_world(folder, kubeconfig) as governed:
            async with Load(governed.world.gateways, rate=rate, own_names=True) as load:
                await well(load)
                for _ in range(times):
                    await strike(governed)
                    await well(load)
            return await settle(governed.world, load)


@asynccontextmanager
async def governed_world(folder: Path, kubeconfig: Path) -> AsyncIterator[Governed]:
    """Run it until the block ends."""
    async with connect(kubeconfig) as kube:
        await install_crds(kube)
        namespace = await make_namespace(kube)
        url = trust(kubeconfig, folder / "account")
        (folder / "account" / "token").write_text(await account(kube, namespace))
        operator = OperatorProcess(kubeconfig, namespace, folder / "operator.log", CAPSTAN_QUEUE_REDIS_URL=REDIS)
        flags = [*source_flags(url, folder / "account", namespace), "--insecure-no-auth"]
        ports: list[int] = []
        try:
            async with world(
                folder, source=partial(_noted, ports, flags), model=f"{namespace}/{QUEUED}", host="0.0.0.0",
                ready=False,
            ) as made:  # fmt: skip
                governed = Governed(made, kube, namespace, kubeconfig, operator.start())
                for name in (QUEUED, DIRECT):
                    await kube.apply(governed.model(name), manager="user")
                await governed.changed()
                config = await read_config(kube, namespace)
                assert config is not None
                for entry in config.models:
                    for port in ports:
                        await kube.apply(_slice(namespace, str(getattr(entry.backend, "service", "")), port))
                await asyncio.gather(*(one.part.is_ready() for one in made.gateways))
                yield governed
        finally:
            operator.kill()


def _noted(ports: list[int], flags: Sequence[str], engines: Sequence[int]) -> Sequence[str]:
    ports += engines
    return flags


def _slice(namespace: str, service: str, port: int) -> dict[str, Any]:
    """Say that an engine is ready, as Kubernetes does of a pod."""
    labels = {"kubernetes.io/service-name": service, "app.kubernetes.io/managed-by": "capstan"}
    return {
        "apiVersion": ENDPOINT_SLICES.api_version,
        "kind": ENDPOINT_SLICES.kind,
        "metadata": {"name": f"{service}-{port}", "namespace": namespace, "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [own_address()], "conditions": {"ready": True}}],
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    }
