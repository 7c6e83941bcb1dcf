"""A model's queue on Redis, where the installation has one: what its pods and the gateway are told of it."""

from dataclasses import dataclass
from typing import Any, Final

from capstan_contract.config import Dispatch, ModelQueue, Task
from capstan_contract.names import CANARY, STABLE, canary_id
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import EngineType, LLMModelSpec
from capstan_operator.desired.naming import queue_key_file
from capstan_operator.desired.quantity import parse_quantity
from capstan_operator.settings import BuildSettings

PASSWORD_KEY: Final = "password"  # noqa: S105  # a key's name
SEAL_KEY: Final = "seal-key"
FEW_PLACES: Final = 8
"""Of an engine that tells nobody how much it has to do: what a worker gives it at a time."""


@dataclass(frozen=True)
class InstalledQueue:
    """The queue of an installation, as far as the gateway's config says something of it."""

    seal_secret: str = ""
    """Secret in the namespaces of models with what seals entries; empty: nothing is sealed."""


def installed_queue(settings: BuildSettings) -> InstalledQueue | None:
    """Give the queue of an installation; None when it has none."""
    return InstalledQueue(settings.queue_seal_secret) if settings.queue_redis_url else None


def has_queue(spec: LLMModelSpec) -> bool:
    """Whether requests for a model may wait in a queue, where there is one: of one that has pods, unless it says no.

    Sound is never put there: it is too large for what Redis keeps in memory.
    """
    return spec.has_engine and spec.dispatch is not Dispatch.DIRECT and spec.model.task is not Task.TRANSCRIBE


def build_queue(model: Model, spec: LLMModelSpec, installed: InstalledQueue | None) -> ModelQueue | None:
    """Give what the gateway is told of a model's queue."""
    if installed is None or not has_queue(spec):
        return None
    wanted = {} if spec.queue is None else spec.queue.model_dump(exclude_none=True, exclude={"batch"})
    if (size := parse_quantity(wanted.pop("maxBytes", None))) is not None:
        wanted["maxBytes"] = max(int(size), 1)
    if spec.engine.type is EngineType.OPENAI_COMPATIBLE:
        batch = None if spec.queue is None else spec.queue.batch
        wanted.setdefault("places", max(FEW_PLACES, 2 * batch.size) if batch else FEW_PLACES)
    return ModelQueue(
        dispatch=spec.dispatch or Dispatch.AUTO, secretFile=_secret_file(model, installed) or None, **wanted
    )


def queue_credential(
    model: Model, spec: LLMModelSpec, installed: InstalledQueue | None
) -> dict[str, tuple[str, str, str]]:
    """Give the credential file that seals a model's entries, and where it comes from; nothing where none is."""
    if installed is None or not has_queue(spec) or not (file := _secret_file(model, installed)):
        return {}
    return {file: (model.key.namespace, installed.seal_secret, SEAL_KEY)}


def _secret_file(model: Model, installed: InstalledQueue) -> str:
    if not installed.seal_secret:
        return ""
    return queue_key_file(model.key, uid=model.uid, secret=installed.seal_secret, secret_key=SEAL_KEY)


def queue_variables(
    model: Model, spec: LLMModelSpec, settings: BuildSettings, track: str = STABLE
) -> list[dict[str, Any]]:
    """Give the variables by which a pod's worker takes queued work; none where there is no queue. That of a canary has
    a queue of its own.

    What is in Secrets is optional: a pod starts without it, serves what comes directly, and takes nothing.
    """
    if not settings.queue_redis_url or not has_queue(spec):
        return []
    queue = canary_id(str(model.key)) if track == CANARY else str(model.key)
    variables = [_value("REDIS_URL", settings.queue_redis_url), _value("QUEUE_MODEL", queue)]
    if spec.queue is not None and spec.queue.places:
        variables.append(_value("QUEUE_PLACES", str(spec.queue.places)))
    if spec.queue is not None and (batch := spec.queue.batch):
        variables.append(_value("QUEUE_BATCH_SIZE", str(batch.size)))
        if batch.milliseconds is not None:
            variables.append(_value("QUEUE_BATCH_MILLISECONDS", str(batch.milliseconds)))
    if settings.queue_worker_secret:
        variables.append(_reference("REDIS_PASSWORD", settings.queue_worker_secret, PASSWORD_KEY))
    if settings.queue_seal_secret:
        variables.append(_value("QUEUE_SEALED", "true"))
        variables.append(_reference("QUEUE_SECRET", settings.queue_seal_secret, SEAL_KEY))
    return sorted(variables, key=lambda variable: str(variable["name"]))


def _value(name: str, value: str) -> dict[str, Any]:
    return {"name": f"CAPSTAN_WORKER_{name}", "value": value}


def _reference(name: str, secret: str, key: str) -> dict[str, Any]:
    reference = {"name": secret, "key": key, "optional": True}
    return {"name": f"CAPSTAN_WORKER_{name}", "valueFrom": {"secretKeyRef": reference}}
