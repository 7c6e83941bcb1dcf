"""capstan-operator: settings from the environment, the health port, the lease, then the loop.

Exit codes: 0 after SIGTERM or SIGINT; 1 when the lease was lost, or a part of the operator ended by itself; 2 for a
setting that cannot be used, or no way to reach an API server.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import uuid
from collections.abc import Coroutine
from typing import Any, Final

from capstan_operator.api.kinds import KNOWN_RESOURCES, LLM_MODELS
from capstan_operator.composition import Runtime, Tasks
from capstan_operator.errors import LeaseLost
from capstan_operator.health import HealthServer
from capstan_operator.kube.auth import load_configuration
from capstan_operator.kube.client import KubeClient, Limits
from capstan_operator.kube.errors import Forbidden, KubeError, Unauthorized, UnknownResource
from capstan_operator.kube.fence import ProcessFence
from capstan_operator.kube.leader import Leader, lease_name
from capstan_operator.kube.port import KubePort
from capstan_operator.loop.shares import Limits as Shares
from capstan_operator.metrics import Metrics
from capstan_operator.settings import Settings, check_images, load_settings
from capstan_operator.upkeep import prepare_process
from capstan_operator.watch.kopf_wiring import watched_namespaces
from capstan_operator.watch.watches import Echoes
from capstan_process.events import first_of
from capstan_process.logs import configure_logging
from capstan_process.settings import SettingsError, describe

log = logging.getLogger("capstan_operator")

SPARE_CONNECTIONS: Final = 24
"""For lists, the config lane, the lease and Events, beside the writes."""


def main() -> None:
    """Run the operator until it is told to stop."""
    try:
        settings = load_settings()
        check_images()
    except SettingsError as error:
        sys.exit(_refuse(str(error)))
    configure_logging(level=settings.log_level, form=settings.log_format)
    log.info("starting", extra={"configuration": describe(settings)})
    prepare_process()
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
    runtime, tasks = Runtime(kube, settings, metrics=metrics, echoes=echoes, identity=identity), Tasks()
    health = HealthServer(
        port=settings.health_port,
        metrics=metrics,
        alive=lambda: tasks.problem() or runtime.heartbeat.problem(),
        ready=runtime.resync.problem,
        notes=runtime.notes,
    )
    name = lease_name(settings.class_name)
    leader = Leader(
        kube, namespace=settings.build.install_namespace, identity=identity, name=name, fence=ProcessFence()
    )
    ending = asyncio.create_task(first_of(stop, tasks.ended), name="end")
    try:
        await health.start()
        tasks.start(runtime.replica_tasks())
        if await _unless(ending, _wait_for_resource(kube, settings)) and await _unless(ending, _lead(leader, settings)):
            metrics.leader.set(1)
            tasks.start(runtime.leader_tasks())
            if settings.leader_election:
                tasks.start({"leader lease": leader.keep()})
            await ending
        return _exit_code(tasks.failure)
    finally:
        # NB: when the lease was lost, the fence stays armed: nothing in an orderly end may keep this process alive.
        await tasks.stop()
        await leader.release()
        ending.cancel()
        await health.stop()
        await kube.close()


def _exit_code(failure: BaseException | None) -> int:
    match failure:
        case None:
            log.info("stopped")
            return 0
        case LeaseLost():
            log.error("the leader lease is lost", extra={"error": str(failure)})
        case _:
            log.error("ended because a part failed", extra={"error": str(failure)}, exc_info=failure)
    return 1


async def _lead(leader: Leader, settings: Settings) -> None:
    if settings.leader_election:
        await leader.acquire()


async def _wait_for_resource(kube: KubePort, settings: Settings) -> None:
    """Wait until the API server serves LLMModels, as far as it can be asked: nothing can be done before.

    What is forbidden in one namespace is no reason to wait: others may be well, and it is told where it is met.
    """
    namespace = next(iter(watched_namespaces(settings)), None)
    said = ""
    while True:
        try:
            await kube.list(LLM_MODELS, namespace=namespace, field_selector="metadata.name=none")
            return
        except Forbidden:
            return
        except UnknownResource:
            problem = "the CRD is not installed: kubectl apply -f crds/"
        except KubeError as error:
            problem = str(error)
        if problem != said:
            log.warning("waiting until LLMModels can be listed", extra={"error": problem})
            said = problem
        await asyncio.sleep(1.0)


async def _unless(ending: asyncio.Task[None], work: Coroutine[Any, Any, None]) -> bool:
    """Await `work`; False when the process is to end before it is done."""
    working = asyncio.create_task(work)
    try:
        await asyncio.wait((working, ending), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
            return True
        return False
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


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
