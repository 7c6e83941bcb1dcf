"""The gateway config of all LLMModels, and what became of each.

A name (served name, alias, adapter's name) has one owner in the whole cluster: the oldest LLMModel that claims it,
then the first by namespace and name. A model that loses one of its names is left out entirely and claims nothing, so
that taking it away changes nothing for anybody else. What becomes of virtual models is said in `members`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType

from pydantic import ValidationError

from capstan_contract.config import (
    Adapter,
    Backend,
    ExternalBackend,
    ExternalEndpoint,
    GatewayConfig,
    ModelEntry,
    Price,
    RouterBackend,
    ServiceBackend,
    Timeouts,
)
from capstan_contract.names import ENGINE_PORT_NAME
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import External, LLMModelSpec, PriceSpec
from capstan_operator.desired.faults import find_faults
from capstan_operator.desired.members import (
    describe,
    find_left_out,
    judge_members,
    virtual_backend,
    with_members_limits,
)
from capstan_operator.desired.naming import (
    adapter_served_name,
    credential_file,
    served_name,
    upstream_name,
    workload_name,
)
from capstan_operator.desired.types import CompiledGateway, Verdict
from capstan_operator.resources.resource import Fault, ObjectKey

INVALID = "Invalid"
ACCEPTED = Verdict(accepted=True, reason="Accepted", message="served by the gateway's config")
DEFAULT_ENDPOINT = "default"
"""Name of the one endpoint of a hosted model that has a `url` in place of `endpoints`."""
DELETING = Verdict(accepted=False, reason="Deleting", message="the LLMModel is being deleted")


def compile_gateway(
    models: Iterable[Model], *, backend_of: Callable[[Model], Backend] | None = None
) -> CompiledGateway:
    """Compile the gateway config, with a verdict for each model. The order of `models` does not matter.

    `backend_of` says where a model that is not virtual is answered; by default its Service, or the hosted API that it
    names.
    """
    known = {model.key: model for model in models}
    verdicts: dict[ObjectKey, Verdict] = {}
    owners: dict[str, ObjectKey] = {}
    for model in sorted(known.values(), key=_seniority):
        verdict = verdicts[model.key] = _judge(model, owners)
        if verdict.accepted:
            owners.update(dict.fromkeys(_claimed_names(model), model.key))
    entries: dict[str, ModelEntry] = {}
    credentials: dict[str, tuple[str, str, str]] = {}
    for model in sorted(known.values(), key=_dependence):
        if not verdicts[model.key].accepted or model.spec is None:
            continue
        if model.spec.is_virtual:
            verdicts[model.key] = _add_virtual(model, model.spec, known, verdicts, entries)
        else:
            try:
                entry = _entry(model, model.spec, (backend_of or default_backend)(model))
            except ValidationError as fault:
                # What the contract refuses must cost this model only, whatever the rules of its manifest let through.
                verdicts[model.key] = invalid([_refusal(fault)])
                continue
            entries[entry.id] = entry
            credentials.update(_credentials(model.key, model.spec.external))
    return CompiledGateway(
        config=GatewayConfig.build(tuple(entries.values())),
        verdicts=MappingProxyType(dict(sorted(verdicts.items()))),
        credentials=MappingProxyType(dict(sorted(credentials.items()))),
    )


def _refusal(fault: ValidationError) -> Fault:
    first = fault.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return Fault("spec", f"cannot be served by a gateway: {where}: {first['msg']}")


def _dependence(model: Model) -> int:
    """Order models so that the members of each come before it: a router may have cascades, neither has routers."""
    spec = model.spec
    return 2 if spec and spec.router else 1 if spec and spec.cascade else 0


def _add_virtual(
    model: Model,
    spec: LLMModelSpec,
    known: Mapping[ObjectKey, Model],
    verdicts: Mapping[ObjectKey, Verdict],
    entries: dict[str, ModelEntry],
) -> Verdict:
    """Add the entry of a virtual model with the members that can be used; give the verdict on it."""
    left_out = find_left_out(model, known, verdicts)
    if missing := judge_members(model, left_out):
        return missing
    backend = virtual_backend(model, left_out)
    ids = [member.model for member in backend.members] if isinstance(backend, RouterBackend) else backend.members
    entry = _entry(model, spec, backend)
    entries[entry.id] = with_members_limits(entry, tuple(entries[member] for member in ids))
    if not left_out:
        return ACCEPTED
    message = f"{ACCEPTED.message}, with less than it names: {describe(left_out)}"
    return replace(ACCEPTED, message=message, left_out=left_out)


def default_backend(model: Model) -> Backend:
    """Give where a model that is not virtual is answered in a cluster: its Service, or the hosted API that it names."""
    external = model.spec.external if model.spec else None
    if external is None:
        return ServiceBackend(
            namespace=model.key.namespace, service=workload_name(model.key.name), portName=ENGINE_PORT_NAME
        )
    return ExternalBackend(provider=external.provider, endpoints=tuple(_endpoints(model.key, external)))


def _endpoints(key: ObjectKey, external: External) -> Iterator[ExternalEndpoint]:
    if external.url:
        file = credential_file(key) if external.secretRef else None
        yield ExternalEndpoint(name=DEFAULT_ENDPOINT, url=external.url, credentialFile=file)
    for endpoint in sorted(external.endpoints, key=lambda endpoint: (endpoint.priority, endpoint.name)):
        yield ExternalEndpoint(
            name=endpoint.name,
            url=endpoint.url,
            region=endpoint.region or "",
            priority=endpoint.priority,
            weight=endpoint.weight,
            credentialFile=credential_file(key, endpoint.name) if endpoint.secretRef else None,
        )


def _credentials(key: ObjectKey, external: External | None) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Give the credential files of a hosted model, and where each comes from."""
    if external is None:
        return
    if secret := external.secretRef:
        yield credential_file(key), (key.namespace, secret.name, secret.key)
    for endpoint in external.endpoints:
        if secret := endpoint.secretRef:
            yield credential_file(key, endpoint.name), (key.namespace, secret.name, secret.key)


def invalid(faults: Iterable[Fault]) -> Verdict:
    """Give the verdict on a faulty model: every fault, so that one look is enough to put them all right."""
    return Verdict(accepted=False, reason=INVALID, message="; ".join(str(fault) for fault in faults))


def _seniority(model: Model) -> tuple[str, ObjectKey]:
    return model.created, model.key


def _judge(model: Model, owners: Mapping[str, ObjectKey]) -> Verdict:
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
