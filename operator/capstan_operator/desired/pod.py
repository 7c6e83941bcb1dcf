"""The pod template of a model. Everything in it restarts the model when it changes: nothing that may change lightly
(served name, price, replicas, labels of the LLMModel) gets in."""

import math
from typing import Any, Final

from capstan_contract.names import (
    ENGINE_PORT,
    ENGINE_PORT_NAME,
    GROUP,
    POD_HASH_LABEL,
    STABLE,
    WORKER_PORT,
    WORKER_PORT_NAME,
)
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import LLMModelSpec, Toleration
from capstan_operator.desired.buckets import bucket_annotations, bucket_environment, bucket_mounts, bucket_volumes
from capstan_operator.desired.diff import digest
from capstan_operator.desired.engine import (
    WORKER_COMMAND,
    EngineContainer,
    build_engine,
    grace_seconds,
    sidecar_arguments,
)
from capstan_operator.desired.naming import child_labels, selector_labels
from capstan_operator.desired.patch import strategic_merge
from capstan_operator.desired.pod_settings import (
    account_fields,
    container_security,
    fleet_variables,
    pod_annotations,
    pod_labels,
    pod_security,
)
from capstan_operator.desired.queueing import queue_variables
from capstan_operator.desired.reserved import Facts
from capstan_operator.desired.snapshot import PodHash
from capstan_operator.desired.volumes import (
    authority_environment,
    authority_mounts,
    cache_environment,
    engine_mounts,
    pod_volumes,
    prefixes_json,
    worker_mounts,
)
from capstan_operator.desired.wiring import why_reserved
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import BuildSettings

ENGINE_CONTAINER: Final = "engine"
WORKER_CONTAINER: Final = "worker"
STARTUP_PERIOD: Final = 2
"""Seconds between two looks at a pod that starts."""
# TODO(2026-11): remove when no worker of the first release can be pinned (`models.workerImage`) any more. It has no
# /drain without this variable, and drains for whoever repeats it; a later worker's /drain only waits, for anybody.
FIRST_WORKERS_VARIABLE: Final = "CAPSTAN_DRAIN_TOKEN"
FIRST_WORKERS_WORD: Final = "drain"
PREFIXES_ANNOTATION: Final = f"{GROUP}/prefixes-hash"


def build_template(
    model: Model, spec: LLMModelSpec, settings: BuildSettings, track: str = STABLE
) -> tuple[Manifest, PodHash]:
    """Give the pod template with the user's patch merged in, and the hash of it that its pods are labelled with."""
    template = build_plain_template(model, spec, settings, track)
    for part in ("metadata", "spec"):
        template[part] = strategic_merge(template[part], (spec.template or {}).get(part) or {})
    # Without its own labels a pod would be nobody's.
    template["metadata"]["labels"] = {
        **template["metadata"].get("labels", {}),
        **child_labels(model.key.name, track),
    }
    if not template["metadata"].get("annotations"):
        template["metadata"].pop("annotations", None)
    pod_hash = PodHash(digest(template))
    template["metadata"]["labels"][POD_HASH_LABEL] = pod_hash
    return template, pod_hash


def build_plain_template(model: Model, spec: LLMModelSpec, settings: BuildSettings, track: str = STABLE) -> Manifest:
    """Give the pod template as Capstan makes it, without the user's patch."""
    engine = build_engine(model, spec, settings)
    prefixes = {PREFIXES_ANNOTATION: digest(prefixes_json(spec))} if spec.prefixes else {}
    labels = {**pod_labels(spec, settings), **child_labels(model.key.name, track)}
    return {
        "metadata": {
            "labels": labels,
            "annotations": {**pod_annotations(spec, settings), **bucket_annotations(spec), **prefixes},
        },
        "spec": _pod_spec(model, spec, engine, settings, queue_variables(model, spec, settings, track)),
    }


def _pod_spec(
    model: Model, spec: LLMModelSpec, engine: EngineContainer, settings: BuildSettings, queue: list[dict[str, Any]]
) -> dict[str, Any]:
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds(spec),
        "securityContext": pod_security(settings),
        "containers": [_engine_container(model, spec, engine, settings, queue)],
        "volumes": [*pod_volumes(model, spec, settings), *bucket_volumes(spec)],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector_labels(model.key.name)},
            }
        ],
    }
    if not engine.in_process:
        pod["initContainers"] = [_sidecar(model, spec, settings, queue)]
    return pod | account_fields(spec, settings) | _placement(spec)


def _placement(spec: LLMModelSpec) -> dict[str, Any]:
    """Say where the pods may run."""
    resources = spec.resources
    tolerations = [_toleration(toleration) for toleration in resources.tolerations]
    if resources.gpus or resources.claims:
        tolerations.append({"key": resources.gpuResource, "operator": "Exists"})
    found = {
        "nodeSelector": dict(sorted(resources.nodeSelector.items())),
        "tolerations": tolerations,
        "affinity": resources.affinity,
        "runtimeClassName": resources.runtimeClassName,
        "priorityClassName": resources.priorityClassName,
        "resourceClaims": [claim.model_dump(exclude_none=True, exclude={"request"}) for claim in resources.claims],
    }
    return {key: value for key, value in found.items() if value}


def _toleration(toleration: Toleration) -> dict[str, Any]:
    return toleration.model_dump(exclude_none=True)


def _engine_container(
    model: Model, spec: LLMModelSpec, engine: EngineContainer, settings: BuildSettings, queue: list[dict[str, Any]]
) -> dict[str, Any]:
    ports = [{"name": ENGINE_PORT_NAME, "containerPort": ENGINE_PORT, "protocol": "TCP"}]
    env = {**cache_environment(), **authority_environment(settings), **bucket_environment(spec), **engine.env}
    mounts = [*engine_mounts(spec, settings), *bucket_mounts(spec)]
    if engine.in_process:
        ports.append(_worker_port())
        mounts += worker_mounts(spec)
    container: dict[str, Any] = {
        "name": ENGINE_CONTAINER,
        "image": engine.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": list(engine.args),
        "env": _environment(env, spec, queue if engine.in_process else [], _of_the_fleet(model, spec, settings)),
        "ports": ports,
        "resources": _resources(spec),
        "volumeMounts": mounts,
        "securityContext": container_security(settings),
        "startupProbe": _probe(_get("/readyz"), period=STARTUP_PERIOD, failures=_startup_failures(spec)),
        "readinessProbe": _probe(_get("/readyz"), period=5, failures=2),
        "livenessProbe": _probe(_liveness(engine), period=10, failures=6),
        "lifecycle": {"preStop": _get(_drain_path(engine))},
    }
    if engine.command:
        container["command"] = list(engine.command)
    if spec.engine.envFrom:
        container["envFrom"] = [source.model_dump(exclude_none=True) for source in spec.engine.envFrom]
    return container


def _startup_failures(spec: LLMModelSpec) -> int:
    return math.ceil(spec.rollouts.startupSeconds / STARTUP_PERIOD)


def _sidecar(model: Model, spec: LLMModelSpec, settings: BuildSettings, queue: list[dict[str, Any]]) -> dict[str, Any]:
    """Give the worker beside an engine: it starts before the engine and ends after it.

    NB: no startup or readiness probe here. The kubelet starts the engine only after a sidecar's startup probe has
    succeeded, and the worker is ready only when the engine is.
    """
    return {
        "name": WORKER_CONTAINER,
        "restartPolicy": "Always",
        "image": settings.worker_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": [WORKER_COMMAND],
        "args": list(sidecar_arguments(model, spec)),
        "env": [
            {"name": FIRST_WORKERS_VARIABLE, "value": FIRST_WORKERS_WORD},
            *queue,
            *({"name": name, "value": value} for name, value in authority_environment(settings).items()),
        ],
        "ports": [_worker_port()],
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            *worker_mounts(spec),
            *authority_mounts(settings),
        ],
        "securityContext": container_security(settings),
        "livenessProbe": _probe(_get("/healthz"), period=10, failures=6),
    }


def _drain_path(engine: EngineContainer) -> str:
    """Give what the preStop hook asks for. A worker in the engine's process drains on SIGTERM too, in every release."""
    return "/drain" if engine.in_process else f"/drain?token={FIRST_WORKERS_WORD}"


def _environment(
    ours: dict[str, str], spec: LLMModelSpec, queue: list[dict[str, Any]], fleet: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Give our variables by name, those of the queue, those of the install, and then the user's in their order: each
    wins over those before."""
    theirs = [variable.model_dump(exclude_none=True) for variable in spec.engine.env]
    overruled = {variable["name"] for variable in theirs}
    others = [variable for variable in fleet if variable["name"] not in overruled]
    overruled |= {variable["name"] for variable in others}
    named = [{"name": name, "value": value} for name, value in sorted(ours.items())]
    return [*(one for one in (*named, *queue) if one["name"] not in overruled), *others, *theirs]


def _of_the_fleet(model: Model, spec: LLMModelSpec, settings: BuildSettings) -> list[dict[str, Any]]:
    """Give the variables of the install but for those that this engine must not have."""
    facts = Facts(model.key.name, spec)
    found = fleet_variables(settings)
    return [one for one in found if why_reserved(one["name"], one.get("value"), facts) is None]


def _resources(spec: LLMModelSpec) -> dict[str, Any]:
    resources = spec.resources
    gpus = {resources.gpuResource: str(resources.gpus)} if resources.gpus else {}
    memory = {"memory": resources.memory} if resources.memory else {}
    requests = {**({"cpu": resources.cpu} if resources.cpu else {}), **memory, **gpus}
    limits = {**memory, **gpus}
    claims = [claim.model_dump(exclude_none=True, include={"name", "request"}) for claim in resources.claims]
    return {key: value for key, value in (("limits", limits), ("requests", requests), ("claims", claims)) if value}


def _worker_port() -> dict[str, Any]:
    return {"name": WORKER_PORT_NAME, "containerPort": WORKER_PORT, "protocol": "TCP"}


def _get(path: str, port: int = WORKER_PORT) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": port}}


def _liveness(engine: EngineContainer) -> dict[str, Any]:
    if engine.in_process:
        return _get("/healthz")
    if engine.health_path is None:
        return {"tcpSocket": {"port": ENGINE_PORT}}
    return _get(engine.health_path, ENGINE_PORT)


def _probe(check: dict[str, Any], *, period: int, failures: int) -> dict[str, Any]:
    return {**check, "periodSeconds": period, "failureThreshold": failures, "timeoutSeconds": 5}
