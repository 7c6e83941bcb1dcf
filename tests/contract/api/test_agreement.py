"""The API server and the parser judge any resource alike: specs made from the schema, with slips in them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capstan_operator.api.crd import root_schema
from capstan_operator.api.kinds import CACHEPOLICY, GUARDPOLICY, LLMMODEL, RATELIMITPOLICY, Kind
from capstan_operator.api.parse import parse_model, parse_resource
from capstan_operator.api.schema import matches
from support.crds import ModelApi, install_crds, kubectl

pytestmark = pytest.mark.apiserver

NAMESPACE = "contract-agreement"
WORDS = [
    *("a", "b", "x", "A", "a-b", "a.b", "a/b", "-a", "a\n", " a", "ä", "", "a" * 64, "a" * 129, "a" * 400),
    *("hf://org/name", "hf://gpt2", "hf://a/b/c", "pvc://claim/path", "pvc://claim", "pvc://Claim", "pvc://c/../d"),
    *("s3://bucket/path", "s3://b", "oci://r.example.com/i:1", "oci://r", "oci://r:5000/a/b@sha256:" + "0" * 64),
    *("4", "500m", "0", "0.5", "00.5", "1.5Ti", "32Gi", "32GB", "1e3", "0.15", "0.2", "+1", "-1", "1Mi\n"),
    *(
        "https://api.example.com/v1",
        "http://10.0.0.1:80",
        "https://u:p@h",
        "https://[::1]/v1",
        "ftp://h",
        "https://h?q=1",
    ),
    *("nvidia.com/gpu", "gpu", "example.com/a b", "2024-01-01T00:00:00Z", "main", "v1.0", "TRUE"),
    *(
        "minute",
        "day",
        "week",
        "30s",
        "0s",
        "90m",
        "1h30m",
        "8785h",
        "9999h",
        "1m1h",
        "Europe/Berlin",
        "UTC",
        "1000001",
    ),
    *("DE", "de", "DEU", "violence", "self-harm/intent", "b c", "1.0"),
]
NUMBERS = [-1, 0, 1, 2, 3, 4, 8, 64, 65, 100, 1000, 1001, 2**40, 2**63]
SLIPS = st.sampled_from([None, "1", 1, 1.5, True, [], {}, "text", ["a"], {"a": "b"}])


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values for a field: mostly of its kind, now and then something else."""
    usual = _usual(schema)
    return st.integers(0, 24).flatmap(lambda die: SLIPS if die == 24 else usual)


def _usual(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from([*schema["enum"] * 8, "Other"])
    match schema["type"]:
        case "integer":
            fitting = [
                number for number in NUMBERS if schema.get("minimum", 0) <= number <= schema.get("maximum", 2**53)
            ]
            return st.sampled_from([*fitting * 4, *NUMBERS])
        case "string":
            fitting = [word for word in WORDS if _fits(schema, word)]
            return st.sampled_from([*fitting * 8, *WORDS])
        case "array":
            return st.lists(values(schema["items"]), max_size=3)
        case _:
            return _object(schema)


def _fits(schema: dict[str, Any], word: str) -> bool:
    return schema.get("minLength", 0) <= len(word) <= schema.get("maxLength", 999) and matches(
        schema.get("pattern", r"(?s).*"), word
    )


def _object(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "additionalProperties" in schema:
        return st.dictionaries(
            st.sampled_from(["a", "example.com/a", "a b", ""]), values(schema["additionalProperties"])
        )
    properties = schema.get("properties", {})
    if not properties:
        return st.sampled_from([{}, {"anything": [1, None, {"a": 1.5}]}])
    required = {name: values(properties[name]) for name in schema.get("required", [])}
    optional = [name for name in properties if name not in required]
    chosen = st.lists(st.sampled_from(optional), max_size=3, unique=True) if optional else st.just([])
    return chosen.flatmap(
        lambda names: st.fixed_dictionaries(required | {name: values(properties[name]) for name in names})
    )


SPEC = root_schema(LLMMODEL)["properties"]["spec"]
BASES: list[dict[str, Any]] = [
    *[{"model": {"source": "hf://org/name"}}] * 4,
    {"external": {"url": "https://api.example.com/v1"}},
    {"router": {"members": [{"name": "a"}]}},
    {"cascade": {"members": [{"name": "a"}, {"name": "b"}]}},
]
SPECS = values(SPEC).flatmap(
    # Most specs say what answers, so that most of them are not refused for that alone.
    lambda spec: st.sampled_from([spec, *(base | spec for base in BASES)] if isinstance(spec, dict) else [spec])
)


@pytest.fixture(scope="module")
def models(kube_api: Path) -> Iterator[ModelApi]:
    """LLMModels in a namespace of this module."""
    install_crds(kube_api)
    kubectl(kube_api, "create", "namespace", NAMESPACE)
    api = ModelApi(kube_api, NAMESPACE)
    yield api
    api.close()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spec=SPECS, name=st.sampled_from(["x", "x", "x", "a"]))
def test_server_and_parser_agree(models: ModelApi, spec: Any, name: str) -> None:
    """Whatever the spec, the API server accepts it exactly when the parser finds no fault."""
    content = {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "LLMModel",
        "metadata": {"name": name},
        "spec": spec,
    }
    refusal = models.create(content, dry_run=True)
    faults = parse_model(content).faults
    assert (refusal is None) == (faults == ()), f"server: {refusal}; parser: {[str(fault) for fault in faults]}"


POLICY = root_schema(RATELIMITPOLICY)["properties"]["spec"]
LIMITS: list[dict[str, Any]] = [
    *[{"limits": [{"name": "a", "per": "Tenant", "tokens": 5}]}] * 2,
    {"limits": [{"name": "a", "per": "Key", "requests": 5, "concurrency": 1}], "targetSelector": {}},
    {"budgets": [{"name": "a", "per": "Team", "dollars": "5", "period": "month"}], "targetRefs": [{"name": "a"}]},
]


def _spread(limits: str) -> st.SearchStrategy[Any]:
    """Limits or budgets that are nearly right: from the schema, over one that is."""
    schema = POLICY["properties"][limits]["items"]
    bases = [base[limits][0] for base in LIMITS if limits in base]
    return values(schema).flatmap(
        lambda drawn: st.sampled_from([base | drawn if isinstance(drawn, dict) else drawn for base in bases])
    )


POLICIES = values(POLICY).flatmap(
    lambda spec: st.sampled_from([spec, *(base | spec for base in LIMITS)] if isinstance(spec, dict) else [spec])
) | st.sampled_from(["limits", "budgets"]).flatmap(lambda field: _spread(field).map(lambda one: {field: [one]}))


@pytest.fixture(scope="module")
def policies(models: ModelApi, kube_api: Path) -> Iterator[ModelApi]:
    """RateLimitPolicies in the namespace of this module."""
    api = ModelApi(kube_api, NAMESPACE, plural=RATELIMITPOLICY.plural)
    yield api
    api.close()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spec=POLICIES)
def test_server_and_parser_agree_on_policies(policies: ModelApi, spec: Any) -> None:
    """Whatever the spec of a policy, the API server accepts it exactly when the parser finds no fault."""
    _agree(policies, RATELIMITPOLICY, spec)


GUARDS = root_schema(GUARDPOLICY)["properties"]["spec"]
TOPICS = [{"name": "a", "phrases": ["b"]}]
GUARD_BASES: dict[str, list[dict[str, Any]]] = {
    "input": [
        {"type": "PII"},
        {"type": "PII", "restore": True, "engine": "Presidio", "entities": [{"type": "Person"}]},
        {"type": "Jailbreak", "classifier": {"modelRef": {"name": "a"}}},
        {"type": "Topics", "allow": TOPICS},
    ],
    "output": [
        {"type": "Regex", "patterns": [{"name": "a", "pattern": "b"}]},
        {"type": "Keywords", "keywords": ["a"]},
        {"type": "Format", "maxCharacters": 5},
        {"type": "Grounding", "modelRef": {"name": "a"}},
        {"type": "Moderation", "endpoint": {"url": "https://example.com/v1/moderations"}},
        {"type": "Webhook", "url": "https://example.com/"},
    ],
}


def _guards(stage: str) -> st.SearchStrategy[Any]:
    """Guards that are nearly right: from the schema, over ones that are."""
    bases = GUARD_BASES[stage]
    one = values(GUARDS["properties"][stage]["items"]).flatmap(
        lambda drawn: st.sampled_from([base | drawn if isinstance(drawn, dict) else drawn for base in bases])
    )
    kept = one.flatmap(lambda drawn: st.sampled_from([drawn, *bases]))
    return st.lists(one | kept, min_size=1, max_size=2).map(lambda guards: {stage: guards})


GUARD_SPECS = values(GUARDS).flatmap(
    lambda spec: st.sampled_from(
        [spec, {"input": GUARD_BASES["input"][:1]} | spec] if isinstance(spec, dict) else [spec]
    )
) | st.sampled_from(["input", "output"]).flatmap(_guards)


@pytest.fixture(scope="module")
def guards(models: ModelApi, kube_api: Path) -> Iterator[ModelApi]:
    """GuardPolicies in the namespace of this module."""
    api = ModelApi(kube_api, NAMESPACE, plural=GUARDPOLICY.plural)
    yield api
    api.close()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spec=GUARD_SPECS)
def test_server_and_parser_agree_on_guards(guards: ModelApi, spec: Any) -> None:
    """Whatever the spec of a GuardPolicy, the API server accepts it exactly when the parser finds no fault."""
    _agree(guards, GUARDPOLICY, spec)


CACHES = root_schema(CACHEPOLICY)["properties"]["spec"]
CACHE_BASES: list[dict[str, Any]] = [
    {"targetSelector": {}, "ttlSeconds": 60, "scope": "User"},
    {"redis": {"enabled": True, "encryptionKeyRef": {"name": "a", "key": "b"}}},
    {"redis": {"enabled": False}},
    {"semantic": {"enabled": True, "errorBudget": "0.05", "judgeRef": {"name": "a"}}},
    {"semantic": {"enabled": True, "similarity": "0.9", "verify": False, "sampleRate": "1"}},
    {"bypass": {"temperatureAbove": "0.5", "headers": [{"name": "x-a", "values": ["b"]}]}},
]


def _tier(field: str) -> st.SearchStrategy[Any]:
    """One part of the spec that is nearly right: from the schema, over one that is."""
    bases = [base[field] for base in CACHE_BASES if field in base]
    return values(CACHES["properties"][field]).flatmap(
        lambda drawn: st.sampled_from([base | drawn if isinstance(drawn, dict) else drawn for base in bases])
    )


CACHE_SPECS = values(CACHES).flatmap(
    lambda spec: st.sampled_from([spec, *(base | spec for base in CACHE_BASES)] if isinstance(spec, dict) else [spec])
) | st.sampled_from(["redis", "semantic", "bypass"]).flatmap(lambda field: _tier(field).map(lambda one: {field: one}))


@pytest.fixture(scope="module")
def caches(models: ModelApi, kube_api: Path) -> Iterator[ModelApi]:
    """CachePolicies in the namespace of this module."""
    api = ModelApi(kube_api, NAMESPACE, plural=CACHEPOLICY.plural)
    yield api
    api.close()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spec=CACHE_SPECS)
def test_server_and_parser_agree_on_caches(caches: ModelApi, spec: Any) -> None:
    """Whatever the spec of a CachePolicy, the API server accepts it exactly when the parser finds no fault."""
    _agree(caches, CACHEPOLICY, spec)


def _agree(api: ModelApi, kind: Kind[Any], spec: Any) -> None:
    content = {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": kind.api_resource.kind,
        "metadata": {"name": "x"},
        "spec": spec,
    }
    refusal = api.create(content, dry_run=True)
    faults = parse_resource(kind, content).faults
    assert (refusal is None) == (faults == ()), f"server: {refusal}; parser: {[str(fault) for fault in faults]}"
