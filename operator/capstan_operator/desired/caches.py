"""A CachePolicy, compiled for the gateway, and what is wrong with one beyond its schema."""

from collections.abc import Iterator, Mapping

from capstan_contract.caches import (
    Bypass,
    CacheBody,
    HeaderMatch,
    MemoryTier,
    RedisTier,
    SemanticTier,
    cache_entry,
    read_cache_body,
)
from capstan_contract.config import Task
from capstan_contract.entries import PolicyEntry
from capstan_operator.api.cachepolicy import CachePolicySpec, CacheSemanticSpec
from capstan_operator.api.kinds import Policy
from capstan_operator.api.parts import SecretKeyRef
from capstan_operator.desired.naming import SEALING, policy_credential_file
from capstan_operator.desired.policy_entries import MISSING, judge, targets_of
from capstan_operator.resources.resource import Fault, PolicyKey


def find_cache_faults(policy: Policy) -> tuple[Fault, ...]:
    """Look for what is wrong with a CachePolicy, whatever was found before."""
    spec = policy.spec
    if not isinstance(spec, CachePolicySpec):
        return policy.faults or MISSING
    return judge(policy, (), lambda: build_cache_entry(policy, spec))


def build_cache_entry(policy: Policy, spec: CachePolicySpec) -> PolicyEntry:
    """Build the entry of a CachePolicy. Raises ValidationError."""
    return cache_entry(
        policy.key.namespace,
        policy.key.name,
        build_body(policy, spec),
        uid=policy.uid,
        targets=targets_of(spec),
    )


def build_body(policy: Policy, spec: CachePolicySpec) -> CacheBody:
    """Compile a spec. Raises ValidationError."""
    redis = spec.redis
    shared = RedisTier(maxEntryBytes=redis.maxEntryBytes, compression=redis.compression) if redis.enabled else None
    bypass = spec.bypass
    return CacheBody(
        mode=spec.mode,
        scope=spec.scope,
        ttlSeconds=spec.ttlSeconds,
        memory=MemoryTier(maxBytes=spec.memory.maxBytes, maxEntries=spec.memory.maxEntries),
        redis=shared,
        semantic=_semantic(spec.semantic, policy.key.namespace) if spec.semantic.enabled else None,
        bypass=Bypass(
            temperatureAbove=None if bypass.temperatureAbove is None else float(bypass.temperatureAbove),
            tools=bypass.tools,
            headers=tuple(HeaderMatch(name=one.name, values=one.values) for one in bypass.headers),
        ),
        honourCacheControl=spec.honourCacheControl,
        encryptionFile=None if redis.encryptionKeyRef is None else _file(policy, redis.encryptionKeyRef),
    )


def _semantic(spec: CacheSemanticSpec, namespace: str) -> SemanticTier:
    numbers = {"errorBudget": spec.errorBudget, "similarity": spec.similarity, "sampleRate": spec.sampleRate}
    return SemanticTier(
        judge=None if spec.judgeRef is None else f"{namespace}/{spec.judgeRef.name}",
        embedding=None if spec.embedding is None else f"{namespace}/{spec.embedding.modelRef.name}",
        verify=spec.verify,
        topK=spec.topK,
        maxEntries=spec.maxEntries,
        **{name: float(value) for name, value in numbers.items() if value is not None},
    )


def models_of_cache(spec: CachePolicySpec) -> Iterator[tuple[str, str, Task]]:
    """Give the models that a policy asks: the field that names each, its name, and the task that it must be of."""
    semantic = spec.semantic
    if semantic.enabled and semantic.judgeRef is not None:
        yield "spec.semantic.judgeRef.name", semantic.judgeRef.name, Task.CHAT
    if semantic.enabled and semantic.embedding is not None:
        yield "spec.semantic.embedding.modelRef.name", semantic.embedding.modelRef.name, Task.EMBED


def secrets_of_cache(policy: Policy) -> Mapping[str, tuple[str, str, str]]:
    """Give the credential file that a policy needs, and where it comes from: (namespace, Secret, key)."""
    spec = policy.spec
    reference = spec.redis.encryptionKeyRef if isinstance(spec, CachePolicySpec) else None
    if reference is None:
        return {}
    return {_file(policy, reference): (policy.key.namespace, reference.name, reference.key)}


def _file(policy: Policy, reference: SecretKeyRef) -> str:
    key = PolicyKey(policy.kind, *policy.key)
    return policy_credential_file(key, SEALING, uid=policy.uid, secret=reference.name, secret_key=reference.key)


def files_of_cache(entry: PolicyEntry) -> Iterator[str]:
    """Give the credential files that an entry names."""
    file = read_cache_body(entry).encryptionFile
    if file is not None:
        yield file
