"""capstan-operator: settings from the environment, the health port, the lease, then the loop.

Exit codes: 0 after SIGTERM or SIGINT; 1 when the lease was lost, or a part of the operator ended by itself; 2 for a
setting that cannot be used, or no way to reach an API server.
"""

import asyncio
import dataclasses
import logging
import os
import signal
import socket
import sys
import uuid
from collections.abc import Coroutine
from typing import Any, Final

import kopf

from capstan_operator.api.kinds import KNOWN_RESOURCES, LLM_MODELS
from capstan_operator.composition import Runtime, Tasks
from capstan_operator.errors import LeaseLost
from capstan_operator.health import HealthServer
from capstan_operator.kube.auth import load_configuration
from capstan_operator.kube.client import KubeClient, Limits
from capstan_operator.kube.errors import KubeError, Unauthorized, UnknownResource
from capstan_operator.kube.leader import Leader
from capstan_operator.kube.port import KubePort
from capstan_operator.logs import configure_logging
from capstan_operator.loop.shares import Limits as Shares
from capstan_operator.metrics import Metrics
from capstan_operator.settings import Settings, SettingsError, load_settings
from capstan_operator.watch.kopf_wiring import build_kopf_settings, build_registry, watched_namespaces
from capstan_operator.watch.watches import Echoes

log = logging.getLogger("capstan_operator")

SPARE_CONNECTIONS: Final = 24
"""For lists, the config lane, the lease and Events, beside the writes."""
LAST_SECONDS: Final = 3.0
"""How long a process that lost its lease may take to end: less than others wait for it."""


def main() -> None:
    """Run the operator until it is told to stop."""
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.exit(_refuse(str(error)))
    configure_logging(level=settings.log_level, format_=settings.log_format)
    log.info("starting", extra={"configuration": dataclasses.asdict(settings)})
    try:
        sys.exit(asyncio.run(run(settings)))
    except Unauthorized as error:
        sys.exit(_refuse(str(error)))


async def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT, or until a part fails; give the exit code."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    metrics, echoes = Metrics(), Echoes()
    kube = KubeClient(
        await load_configuration(),
        resources=KNOWN_RESOURCES,
        observe=metrics.observe_call,
        on_write=echoes.note,
        limits=Limits(connections=Shares(workers=settings.workers).most + SPARE_CONNECTIONS),
    )
    identity = make_identity()
    runtime = Runtime(kube, settings, metrics=metrics, echoes=echoes, identity=identity)
    health = HealthServer(port=settings.health_port, metrics=metrics, problem=runtime.resync.problem)
    leader = Leader(kube, namespace=settings.build.install_namespace, identity=identity)
    try:
        await health.start()
        if not await _unless(stop, _wait_for_resource(kube, settings)):
            return 0
        if settings.leader_election and not await _unless(stop, leader.acquire()):
            return 0
        metrics.leader.set(1)
        return await _work(settings, runtime, leader if settings.leader_election else None, stop)
    finally:
        await leader.release()
        await health.stop()
        await kube.close()


async def _work(settings: Settings, runtime: Runtime, leader: Leader | None, stop: asyncio.Event) -> int:
    """Run kopf with our tasks inside it: started by its startup, ended by its clean-up, so that it cancels none."""
    tasks = Tasks()

    async def start() -> None:
        coroutines = runtime.tasks()
        if leader is not None:
            coroutines["leader lease"] = leader.keep()
        tasks.start(coroutines)

    async def end() -> None:
        stop.set()  # else kopf, when it was stopped by a signal, waits 5 s for its own task that waits for the flag
        await tasks.stop()

    registry = build_registry(settings, runtime.watches, on_startup=start, on_cleanup=end)
    namespaces = watched_namespaces(settings)
    watcher = asyncio.create_task(_stop_on_failure(tasks, stop), name="failure watcher")
    try:
        await kopf.operator(
            registry=registry,
            settings=build_kopf_settings(settings),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
            stop_flag=stop,
        )
    except Exception:
        # A watch that broke for good, say: to begin anew is the cure, and the lease and the gateway outlive it.
        log.exception("kopf ended")
        return 1
    finally:
        watcher.cancel()
        await tasks.stop()
    if tasks.failure is not None:
        log.error("ended because a part failed", extra={"error": str(tasks.failure)}, exc_info=tasks.failure)
        return 1
    log.info("stopped")
    return 0


async def _stop_on_failure(tasks: Tasks, stop: asyncio.Event) -> None:
    await tasks.ended.wait()
    if isinstance(tasks.failure, LeaseLost):
        log.error("the leader lease is lost", extra={"error": str(tasks.failure)})
        # NB: fencing: nothing in an orderly end may keep this process alive until somebody else has begun.
        asyncio.get_running_loop().call_later(LAST_SECONDS, os._exit, 1)
    stop.set()


async def _wait_for_resource(kube: KubePort, settings: Settings) -> None:
    """Wait until the API server serves LLMModels: kopf would not notice a CRD that comes later."""
    namespace = next(iter(watched_namespaces(settings)), None)
    said = ""
    while True:
        try:
            await kube.list(LLM_MODELS, namespace=namespace, field_selector="metadata.name=none")
            return
        except UnknownResource:
            problem = "the CRD is not installed: kubectl apply -f crds/"
        except KubeError as error:
            problem = str(error)
        if problem != said:
            log.warning("waiting until LLMModels can be listed", extra={"error": problem})
            said = problem
        await asyncio.sleep(1.0)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Await `work`; False when the process is told to stop before it is done."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
            return True
        return False
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


def make_identity() -> str:
    """Give who this process is in the lease.

    A pod's name (CAPSTAN_POD_NAME) stays when its container restarts, so the lease need not run out then. Elsewhere two
    processes of one machine must differ.
    """
    return os.environ.get("CAPSTAN_POD_NAME") or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"


def _refuse(message: str) -> int:
    sys.stderr.write(f"capstan-operator: {message}\n")
    return 2


if __name__ == "__main__":
    main()
