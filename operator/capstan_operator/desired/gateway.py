"""The gateway config of all LLMModels, and what became of each.

A name (served name, alias, adapter's name) has one owner in the whole cluster: the oldest LLMModel that claims it,
then the first by namespace and name. A model that loses one of its names is left out entirely and claims nothing, so
that taking it away changes nothing for anybody else.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType

from capstan_contract.config import (
    Adapter,
    Backend,
    ExternalBackend,
    ExternalEndpoint,
    GatewayConfig,
    ModelEntry,
    Price,
    ServiceBackend,
    Timeouts,
)
from capstan_contract.names import ENGINE_PORT_NAME
from capstan_operator.api.llmmodel import LLMModelSpec, PriceSpec
from capstan_operator.desired.faults import find_faults
from capstan_operator.desired.naming import (
    adapter_served_name,
    credential_file,
    served_name,
    upstream_name,
    workload_name,
)
from capstan_operator.desired.types import CompiledGateway, Verdict
from capstan_operator.snapshot import Model, ModelKey, SpecError

ACCEPTED = Verdict(accepted=True, reason="Accepted", message="served by the gateway's config")
DELETING = Verdict(accepted=False, reason="Deleting", message="the LLMModel is being deleted")


def compile_gateway(
    models: Iterable[Model], *, backend_of: Callable[[Model], Backend] | None = None
) -> CompiledGateway:
    """Compile the gateway config, with a verdict for each model. The order of `models` does not matter.

    `backend_of` says where a model is answered; by default its Service, or the hosted API that it names.
    """
    verdicts: dict[ModelKey, Verdict] = {}
    owners: dict[str, ModelKey] = {}
    entries: list[ModelEntry] = []
    credentials: dict[str, tuple[str, str, str]] = {}
    for model in sorted(models, key=_seniority):
        verdict = verdicts[model.key] = _judge(model, owners)
        if not verdict.accepted or model.spec is None:
            continue
        owners.update(dict.fromkeys(_claimed_names(model), model.key))
        entries.append(_entry(model, model.spec, (backend_of or default_backend)(model)))
        if model.spec.external and (secret := model.spec.external.secretRef):
            credentials[credential_file(model.key)] = (model.key.namespace, secret.name, secret.key)
    return CompiledGateway(
        config=GatewayConfig.build(tuple(entries)),
        verdicts=MappingProxyType(dict(sorted(verdicts.items()))),
        credentials=MappingProxyType(dict(sorted(credentials.items()))),
    )


def default_backend(model: Model) -> Backend:
    """Give where a model is answered in a cluster: its Service, or the hosted API that it names."""
    external = model.spec.external if model.spec else None
    if external is None:
        return ServiceBackend(
            namespace=model.key.namespace, service=workload_name(model.key.name), portName=ENGINE_PORT_NAME
        )
    return ExternalBackend(
        provider=external.provider,
        endpoints=(
            ExternalEndpoint(
                name="default",
                url=external.url,
                credentialFile=credential_file(model.key) if external.secretRef else None,
            ),
        ),
    )


def invalid(faults: Iterable[SpecError]) -> Verdict:
    """Give the verdict on a faulty model: every fault, so that one look is enough to put them all right."""
    return Verdict(accepted=False, reason="Invalid", message="; ".join(str(fault) for fault in faults))


def _seniority(model: Model) -> tuple[str, ModelKey]:
    return model.created, model.key


def _judge(model: Model, owners: Mapping[str, ModelKey]) -> Verdict:
    """Say whether a model gets into the config, given the names that older models own. The first objection counts."""
    if model.deleting:
        return DELETING
    if faults := find_faults(model):
        return invalid(faults)
    for name in _claimed_names(model):
        if name in owners:
            message = f"the name '{name}' belongs to the LLMModel '{owners[name]}', which is older"
            return Verdict(accepted=False, reason="Conflicted", message=message)
    return ACCEPTED


def _claimed_names(model: Model) -> tuple[str, ...]:
    if model.spec is None:
        return ()
    adapters = (adapter_served_name(model, adapter) for adapter in model.spec.adapters)
    return (served_name(model), *_aliases(model, model.spec), *adapters)


def _aliases(model: Model, spec: LLMModelSpec) -> tuple[str, ...]:
    return tuple(sorted(set(spec.model.aliases) - {served_name(model)}))


def _entry(model: Model, spec: LLMModelSpec, backend: Backend) -> ModelEntry:
    serving = spec.serving
    return ModelEntry(
        id=str(model.key),
        generation=model.generation,
        servedName=served_name(model),
        aliases=_aliases(model, spec),
        upstreamName=upstream_name(model),
        revision=spec.model.revision or "",
        task=spec.model.task,
        created=_unix_seconds(model.created),
        backend=backend,
        adapters=tuple(
            sorted(
                (
                    Adapter(servedName=adapter_served_name(model, adapter), upstreamName=adapter.name)
                    for adapter in spec.adapters
                ),
                key=lambda adapter: adapter.servedName,
            )
        ),
        capabilities=tuple(sorted(serving.capabilities)),
        contextWindow=serving.contextWindow,
        maxOutputTokens=serving.maxOutputTokens,
        price=_price(serving.price),
        weight=serving.weight,
        fallbacks=serving.fallbacks,
        timeouts=Timeouts(
            firstTokenSeconds=serving.timeouts.firstTokenSeconds,
            idleSeconds=serving.timeouts.idleSeconds,
            totalSeconds=serving.timeouts.totalSeconds,
        ),
    )


def _price(price: PriceSpec | None) -> Price | None:
    if price is None:
        return None
    cached = price.cachedInputPerMillion
    return Price(
        inputPerMillion=float(Decimal(price.inputPerMillion)),
        cachedInputPerMillion=None if cached is None else float(Decimal(cached)),
        outputPerMillion=float(Decimal(price.outputPerMillion)),
    )


def _unix_seconds(created: str) -> int:
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return 0  # a manifest from a file: no API server has seen it
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
