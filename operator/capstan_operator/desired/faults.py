"""What is wrong with a model beyond its schema. Whoever reads `model.spec` asks here first."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import EngineType, LLMModelSpec
from capstan_operator.desired.buckets import ENDPOINT, find_bucket_faults
from capstan_operator.desired.kvcache import find_kv_faults
from capstan_operator.desired.naming import adapter_served_name, served_name
from capstan_operator.desired.patch import PatchError, check_patch, strategic_merge
from capstan_operator.desired.pod import build_plain_template
from capstan_operator.desired.prefixes import find_prefix_doubts
from capstan_operator.desired.profiled import ProfiledSpec, fault_of, own_spec
from capstan_operator.desired.replicas import find_replicas_doubts
from capstan_operator.desired.reserved import Facts
from capstan_operator.desired.template_wiring import engine_of, environment_of, find_template_faults, may_bring
from capstan_operator.desired.tuning import find_tuning_doubts, find_tuning_faults
from capstan_operator.desired.volumes import exclusive_claim
from capstan_operator.desired.wiring import find_wiring_doubts, find_wiring_faults
from capstan_operator.resources.resource import Fault, Manifest
from capstan_operator.scaling.schedules import find_schedule_faults
from capstan_operator.settings import BuildSettings

_ADAPTER_ENGINES = (EngineType.VLLM, EngineType.TGI, EngineType.SGLANG, EngineType.SIMULATOR)


def find_faults(model: Model) -> tuple[Fault, ...]:
    """Give everything that keeps a model from being built; nothing means that `model.spec` can be used."""
    return judge_faults(model) if model.judged is None else model.judged


def judge_faults(model: Model) -> tuple[Fault, ...]:
    """Look for the faults of a model, whatever was found before. Those of the manifest are of its own fields; what only
    a profile makes wrong is the profile's, and what a profile makes good is none."""
    spec, found = model.spec, _judge(model)
    if not found or not isinstance(spec, ProfiledSpec):
        return found
    # NB: by what is said of it, because a profile's arguments move the indices of the manifest's.
    messages = {one.message for one in found}
    own = tuple(one for one in _judge(replace(model, spec=spec.own)) if one.message in messages)
    return own or tuple(fault_of(spec.known, one) for one in found)


def _judge(model: Model) -> tuple[Fault, ...]:
    spec = model.spec
    if spec is None:
        return model.faults or (Fault("spec", "is missing"),)
    unusable = tuple(_patch_faults(spec))
    patched = None if unusable or spec.template is None or not spec.has_engine else _patch(model, spec, spec.template)
    return (
        *model.faults,
        *unusable,
        *(find_template_faults(*patched, Facts(model.key.name, spec)) if patched else ()),
        *_source_faults(spec, patched[1] if patched else None),
        *_name_faults(model),
        *(find_schedule_faults(spec.scaling) if spec.scaling else ()),
        *find_kv_faults(spec),
        *find_tuning_faults(spec.engine),
        *find_wiring_faults(model, spec, environment=environment_of(engine_of(patched[1])) if patched else None),
    )


def find_doubts(model: Model) -> tuple[Fault, ...]:
    """Give what can be built and is hardly meant: `capstan validate` warns of it."""
    if model.spec is None:
        return ()
    spec = own_spec(model.spec)
    doubts = (*find_wiring_doubts(model, spec), *find_tuning_doubts(spec.engine))
    return (*doubts, *find_prefix_doubts(spec), *find_replicas_doubts(spec))


def find_hindrances(model: Model) -> tuple[Fault, ...]:
    """Give what an ordinary cluster cannot run as it is meant: an error for `capstan validate`.

    It is no fault of a model in a cluster, which may be one that can, or may run it since long.
    """
    spec = model.spec
    return () if spec is None else tuple(_claim_hindrances(model, spec))


def _claim_hindrances(model: Model, spec: LLMModelSpec) -> Iterator[Fault]:
    most = spec.scaling.max if spec.scaling else spec.replicas
    if most <= 1 or exclusive_claim(model, {}) is None:
        return
    field = "scaling.max" if spec.scaling else "replicas"
    message = (
        f"must be ReadWriteMany when `{field}` is greater than 1: one node at a time can attach a ReadWriteOnce claim"
    )
    yield Fault("spec.cache.accessMode", message)


def _patch(model: Model, spec: LLMModelSpec, patch: Mapping[str, Any]) -> tuple[Manifest, Manifest, Mapping[str, Any]]:
    """Give the template before and after a patch that has a meaning, and the patch."""
    before = build_plain_template(model, spec, BuildSettings())
    return before, {"spec": strategic_merge(before["spec"], patch.get("spec") or {})}, patch


def _patch_faults(spec: LLMModelSpec) -> Iterator[Fault]:
    if spec.template is None:
        return
    for part in ("metadata", "spec"):
        try:
            check_patch(spec.template.get(part) or {}, path=f"spec.template.{part}")
        except PatchError as error:
            yield Fault(error.path, error.message)
    metadata = spec.template.get("metadata")
    for field in ("labels", "annotations"):
        found = metadata.get(field) if isinstance(metadata, Mapping) else None
        if found is not None and not _are_texts(found):
            yield Fault(f"spec.template.metadata.{field}", "must be a map of strings")


def _are_texts(found: object) -> bool:
    return isinstance(found, Mapping) and all(value is None or isinstance(value, str) for value in found.values())


def _source_faults(spec: LLMModelSpec, patched: Manifest | None) -> Iterator[Fault]:
    if not spec.has_engine:
        return
    engine = spec.engine.type
    if spec.adapters and engine not in _ADAPTER_ENGINES:
        yield Fault("spec.adapters", f"must be empty with engine {engine}: give them in `engine.args`")
    container = engine_of(patched) if patched else spec.engine.model_dump(mode="json", include={"env", "envFrom"})
    yield from find_bucket_faults(spec, environment_of(container), unseen=may_bring(container, ENDPOINT))


def _name_faults(model: Model) -> Iterator[Fault]:
    spec = model.spec
    if spec is None:
        return
    seen = {served_name(model): "spec.model.servedName", **dict.fromkeys(spec.model.aliases, "spec.model.aliases")}
    for index, adapter in enumerate(spec.adapters):
        name, field = adapter_served_name(model, adapter), f"spec.adapters[{index}].servedName"
        if name in seen:
            yield Fault(field, f"must differ from `{seen[name]}`, which has '{name}' too")
        seen[name] = field
