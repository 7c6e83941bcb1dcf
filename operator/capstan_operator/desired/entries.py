"""The entry of one LLMModel in the gateway config, and the credential files that it needs."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from capstan_contract.config import (
    Backend,
    Compatibility,
    ExternalBackend,
    ExternalEndpoint,
    LoraAdapter,
    ModelEntry,
    Price,
    PriceTier,
    ServiceBackend,
    Task,
    Timeouts,
)
from capstan_contract.names import ENGINE_PORT_NAME
from capstan_contract.requirements import TENANT_SALT, TRANSCRIPTIONS
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import CompatibilitySpec, EngineType, External, LLMModelSpec, PriceSpec
from capstan_operator.api.parts import SecretKeyRef
from capstan_operator.desired.evaluation import build_evaluation
from capstan_operator.desired.naming import (
    adapter_served_name,
    credential_file,
    origin_of,
    served_name,
    upstream_name,
    workload_name,
)
from capstan_operator.desired.prefixes import named_prefixes
from capstan_operator.desired.queueing import InstalledQueue, build_queue

DEFAULT_ENDPOINT: Final = "default"
"""Name of the one endpoint of a hosted model that has a `url` in place of `endpoints`."""


def build_entry(
    model: Model, spec: LLMModelSpec, backend: Backend, *, queue: InstalledQueue | None = None
) -> ModelEntry:
    """Build the entry with every name and every fallback that the spec has. Raises ValidationError.

    `queue` is that of the installation.
    """
    serving = spec.serving
    return ModelEntry(
        id=str(model.key),
        uid=model.uid,
        servedName=served_name(model),
        aliases=_aliases(model, spec),
        upstreamName=upstream_name(model),
        revision=spec.model.revision or "",
        task=spec.model.task,
        created=unix_seconds(model.created),
        backend=backend,
        adapters=tuple(
            sorted(
                (
                    LoraAdapter(servedName=adapter_served_name(model, adapter), upstreamName=adapter.name)
                    for adapter in spec.adapters
                ),
                key=lambda adapter: adapter.servedName,
            )
        ),
        capabilities=tuple(sorted(serving.capabilities)),
        contextWindow=serving.contextWindow,
        maxOutputTokens=serving.maxOutputTokens,
        compatibility=_compatibility(spec.compatibility),
        tokenizer=serving.tokenizer or "",
        prefixes=named_prefixes(spec),
        tenantSalt=spec.engine.isolates,
        requires=_requires(spec),
        continuousUsage=spec.has_engine and spec.engine.type is EngineType.VLLM and not _transcribes(spec),
        kvEvents=spec.has_engine and spec.engine.tells_blocks,
        price=_price(serving.price),
        weight=serving.weight,
        queue=build_queue(model, spec, queue),
        evaluation=build_evaluation(model, spec),
        fallbacks=serving.fallbacks,
        timeouts=Timeouts(
            firstTokenSeconds=serving.timeouts.firstTokenSeconds,
            idleSeconds=serving.timeouts.idleSeconds,
            totalSeconds=serving.timeouts.totalSeconds,
        ),
    )


def _requires(spec: LLMModelSpec) -> tuple[str, ...]:
    needs = {TENANT_SALT: spec.engine.isolates, TRANSCRIPTIONS: _transcribes(spec)}
    return tuple(name for name, needed in needs.items() if needed)


def _transcribes(spec: LLMModelSpec) -> bool:
    return spec.model.task is Task.TRANSCRIBE


def default_backend(model: Model) -> Backend:
    """Give where a model that is not virtual is answered in a cluster: its Service, or the hosted API that it names."""
    external = model.spec.external if model.spec else None
    if external is None:
        return ServiceBackend(
            namespace=model.key.namespace, service=workload_name(model.key.name), portName=ENGINE_PORT_NAME
        )
    return ExternalBackend(provider=external.provider, endpoints=tuple(_endpoints(model, external)))


def _endpoints(model: Model, external: External) -> Iterator[ExternalEndpoint]:
    if external.url:
        file = _credential_file(model, external.secretRef, external.url)
        yield ExternalEndpoint(name=DEFAULT_ENDPOINT, url=external.url, credentialFile=file)
    for endpoint in sorted(external.endpoints, key=lambda endpoint: (endpoint.priority, endpoint.name)):
        yield ExternalEndpoint(
            name=endpoint.name,
            url=endpoint.url,
            region=endpoint.region or "",
            priority=endpoint.priority,
            weight=endpoint.weight,
            credentialFile=_credential_file(model, endpoint.secretRef, endpoint.url, endpoint.name),
        )


def _credential_file(
    model: Model, secret: SecretKeyRef | None, url: str | None, endpoint: str | None = None
) -> str | None:
    if secret is None:
        return None
    return credential_file(model.key, endpoint, uid=model.uid, secret=secret.name, secret_key=secret.key, url=url or "")


def credentials_of(model: Model, external: External | None) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Give the credential files of a hosted model, and where each comes from."""
    if external is None:
        return
    references = [
        (external.secretRef, external.url, None),
        *((one.secretRef, one.url, one.name) for one in external.endpoints),
    ]
    for secret, url, endpoint in references:
        if secret is not None and (file := _credential_file(model, secret, url, endpoint)):
            yield file, (model.key.namespace, secret.name, secret.key)


def credential_files(entry: ModelEntry) -> frozenset[str]:
    """Give the credential files that an entry names."""
    if not isinstance(entry.backend, ExternalBackend):
        return frozenset({entry.queue.secretFile} if entry.queue and entry.queue.secretFile else ())
    return frozenset(endpoint.credentialFile for endpoint in entry.backend.endpoints if endpoint.credentialFile)


def credential_origins(entry: ModelEntry) -> dict[str, str]:
    """Give where each credential of an entry is sent, by file name: scheme, host and port."""
    if not isinstance(entry.backend, ExternalBackend):
        return {}
    return {one.credentialFile: origin_of(one.url) for one in entry.backend.endpoints if one.credentialFile}


def _aliases(model: Model, spec: LLMModelSpec) -> tuple[str, ...]:
    return tuple(sorted(set(spec.model.aliases) - {served_name(model)}))


def _price(price: PriceSpec | None) -> Price | None:
    if price is None:
        return None
    said = price.model_dump(exclude_none=True)
    tiers = sorted(said.pop("tiers"), key=lambda tier: int(tier["aboveInputTokens"]))
    return Price(**_dollars(said), tiers=tuple(PriceTier(**_dollars(tier)) for tier in tiers))


def _dollars(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: float(Decimal(value)) if isinstance(value, str) else value for name, value in said.items()}


def _compatibility(wanted: CompatibilitySpec | None) -> Compatibility | None:
    said = {} if wanted is None else wanted.model_dump(exclude_none=True)
    return Compatibility(**said) if said else None


def unix_seconds(created: str) -> int:
    """Give a creation timestamp as an entry has it; 0 for none."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return 0  # a manifest from a file: no API server has seen it
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
