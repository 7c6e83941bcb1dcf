"""The CRD in a real API server: it is accepted, and it and pydantic judge every manifest alike."""

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from capstan_operator.api.generate import stale_files
from capstan_operator.api.kinds import KINDS, LLMMODEL, POLICY_KINDS, RATELIMITPOLICY, Kind
from capstan_operator.api.parse import parse_model, parse_resource
from capstan_operator.manifests.collect import load_manifests
from support.crds import CRDS, ModelApi, install_crds, kubectl
from support.doc_manifests import FRAGMENTS, Fragment
from support.needs import ROOT
from support.yamls import load

pytestmark = pytest.mark.apiserver

WRONG = sorted((ROOT / "tests" / "contract" / "wrong").glob("*.yaml"))
EXAMPLES = load_manifests([ROOT / "examples"])


NAMESPACE = "contract-crd"
HERE = ("--namespace", NAMESPACE)


@dataclass(frozen=True)
class Api:
    """An API server that has the CRDs."""

    kubeconfig: Path
    warnings: str
    models: ModelApi
    of_policies: dict[str, ModelApi]

    @property
    def policies(self) -> ModelApi:
        """The RateLimitPolicies."""
        return self.of_policies[RATELIMITPOLICY.name]

    def of(self, kind: str) -> ModelApi:
        """The objects of one kind."""
        return {LLMMODEL.name: self.models, **self.of_policies}[kind]


def kind_of(content: dict[str, Any]) -> Kind[Any]:
    """The kind of a manifest."""
    return next(kind for kind in KINDS if kind.name == content["kind"])


@pytest.fixture(scope="module")
def api(kube_api: Path) -> Iterator[Api]:
    """An API server that has the CRDs, and a namespace of this module."""
    warnings = install_crds(kube_api)
    kubectl(kube_api, "create", "namespace", NAMESPACE)
    models = ModelApi(kube_api, NAMESPACE)
    policies = {kind.name: ModelApi(kube_api, NAMESPACE, plural=kind.plural) for kind in POLICY_KINDS}
    yield Api(kube_api, warnings, models, policies)
    for one in (models, *policies.values()):
        one.close()


def manifest(**spec: Any) -> dict[str, Any]:
    """A sound LLMModel called x, with these fields of the spec."""
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "LLMModel",
        "metadata": {"name": "x"},
        "spec": {"model": {"source": "hf://org/name"}, **spec},
    }


def test_crds_are_accepted_without_warnings(api: Api) -> None:
    """The API server takes crds/ and warns of nothing."""
    assert api.warnings == ""


def test_generated_files_are_fresh() -> None:
    """crds/ and docs/ are what the models say."""
    assert stale_files(ROOT) == []


def test_crds_fit_into_an_annotation() -> None:
    """A client-side apply stores the whole CRD in an annotation, which holds 262144 bytes."""
    assert all(file.stat().st_size < 262_144 for file in CRDS.glob("*.yaml"))


@pytest.mark.parametrize("address", EXAMPLES.resources, ids=lambda address: f"{address.kind}/{address.key}")
def test_example_is_accepted(api: Api, address: Any) -> None:
    """Every example is accepted by the API server and by the parser."""
    whole = copy.deepcopy(EXAMPLES.origins[address].manifest)
    whole["metadata"]["namespace"] = NAMESPACE
    assert api.of(address.kind).create(whole, dry_run=True) is None
    assert EXAMPLES.resources[address].faults == ()


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=str)
def test_what_docs_tell_to_write_is_accepted(api: Api, fragment: Fragment) -> None:
    """Every manifest in the docs is accepted by the API server as it stands there."""
    for content in fragment.manifests():
        content["metadata"] = {**content["metadata"], "namespace": NAMESPACE}
        assert api.of(content["kind"]).create(content, dry_run=True) is None


@pytest.mark.parametrize("file", WRONG, ids=lambda file: file.stem)
def test_wrong_manifest_is_refused_by_both(api: Api, file: Path) -> None:
    """The API server names the fault of a wrong manifest, and the parser names its field."""
    text = file.read_text()
    expected = dict(re.findall(r"^# (field|refused): (.+)$", text, re.MULTILINE))
    content = load(text)
    refusal = api.of(content["kind"]).create(content, dry_run=True)
    assert refusal is not None
    assert expected["refused"] in refusal
    assert expected["field"] in [fault.field for fault in parse_resource(kind_of(content), content).faults]


def test_there_are_enough_wrong_manifests() -> None:
    """The collection does not shrink unnoticed."""
    assert len(WRONG) >= 60


CACHE = {"size": "10Gi", "storageClassName": "fast"}
EXTERNAL = {"max": 3, "strategy": "External"}
ROUTER = {"router": {"members": [{"name": "a"}]}}
CHANGES = [
    ({}, {"model": {"source": "hf://org/name", "task": "embed"}}, "spec.model.task"),
    ({}, {"model": {}, "external": {"url": "https://api.example.com/v1"}}, "spec.external"),
    ({}, {"model": {}, "router": {"members": [{"name": "a"}]}}, "spec.router"),
    ({}, {"model": {}, "cascade": {"members": [{"name": "a"}, {"name": "b"}]}}, "spec.cascade"),
    ({"model": {}, **ROUTER}, {"model": {}, "router": {"strategy": "Weighted", "members": [{"name": "b"}]}}, None),
    ({"cache": CACHE}, {"cache": {**CACHE, "size": "9Gi"}}, "spec.cache.size"),
    ({"cache": CACHE}, {"cache": {**CACHE, "size": "9999Mi"}}, "spec.cache.size"),
    ({"cache": CACHE}, {"cache": {**CACHE, "storageClassName": "slow"}}, "spec.cache.storageClassName"),
    ({"cache": CACHE}, {"cache": {"size": "10Gi"}}, "spec.cache.storageClassName"),
    ({"cache": CACHE}, {"cache": {**CACHE, "accessMode": "ReadWriteMany"}}, "spec.cache.accessMode"),
    ({"cache": CACHE}, {"cache": {**CACHE, "size": "10240Mi"}}, None),
    ({"cache": CACHE}, {"cache": {**CACHE, "size": "0.5Ti"}}, None),
    ({"cache": CACHE}, {}, None),
    ({"cache": CACHE}, {"cache": {**CACHE, "retain": True}}, None),
    ({"scaling": {"max": 3}}, {"scaling": {"max": 3}, "replicas": 2}, None),
    ({"scaling": EXTERNAL}, {"scaling": EXTERNAL, "replicas": 2}, None),
    ({"scaling": EXTERNAL, "replicas": 2}, {"scaling": {"max": 3}, "replicas": 2}, None),
    ({"scaling": {"max": 3}}, {"replicas": 2}, None),
    ({"replicas": 2}, {"replicas": 2, "scaling": {"max": 3}}, None),
    ({"replicas": 2}, {"scaling": {"max": 3}}, None),
    ({"cache": CACHE}, {"cache": {"claimName": "mine"}}, None),
    ({}, {"model": {"source": "hf://org/other", "servedName": "y"}, "replicas": 3, "engine": {"type": "SGLang"}}, None),
]


@pytest.mark.parametrize(("before", "after", "refused"), CHANGES)
def test_changes(api: Api, before: dict[str, Any], after: dict[str, Any], refused: str | None) -> None:
    """What cannot change in place is refused with its field; everything else can change."""
    assert api.models.create(manifest(**before)) is None
    try:
        answer = api.models.replace(manifest(**after))
    finally:
        api.models.delete("x")
    if refused is None:
        assert answer is None
    else:
        assert answer is not None
        assert f"{refused}: Invalid value" in answer


def test_defaults_are_those_of_the_parser(api: Api) -> None:
    """The API server fills in exactly what the parser would."""
    assert api.models.create(manifest()) is None
    try:
        stored = api.models.get("x")
    finally:
        api.models.delete("x")
    bare, filled = parse_model(manifest()), parse_model(stored)
    assert bare.spec == filled.spec
    assert stored["spec"]["engine"] == {"type": "vLLM"}
    assert stored["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    "spec",
    [
        ROUTER,
        {"cascade": {"members": [{"name": "b"}, {"name": "a"}]}},
        {
            "cascade": {
                "members": [{"name": "a"}, {"name": "b"}],
                "estimator": {"type": "Judge", "judge": {"name": "c"}},
            }
        },
        {"external": {"endpoints": [{"name": "eu", "url": "https://eu.api.example.com/v1"}]}},
    ],
)
def test_defaults_of_models_without_an_engine(api: Api, spec: dict[str, Any]) -> None:
    """What answers in place of an engine has the same defaults in the API server and in the parser."""
    content = {**manifest(), "spec": spec}
    assert api.models.create(content) is None
    try:
        stored = api.models.get("x")
    finally:
        api.models.delete("x")
    assert parse_model(content).faults == ()
    assert parse_model(content).spec == parse_model(stored).spec


def test_kubectl_scales(api: Api) -> None:
    """kubectl scale works through the scale subresource, and the category and the short name find the model."""
    assert api.models.create(manifest()) is None
    try:
        scaled = kubectl(api.kubeconfig, "scale", *HERE, "llmmodel/x", "--replicas=2")
        listed = [kubectl(api.kubeconfig, "get", *HERE, by, "-o", "name").stdout.strip() for by in ("capstan", "cllm")]
        table = kubectl(api.kubeconfig, "get", *HERE, "llmmodels", "-o", "wide")
        replicas = api.models.get("x")["spec"]["replicas"]
    finally:
        api.models.delete("x")
    assert scaled.returncode == 0, scaled.stderr
    assert replicas == 2
    assert listed == ["llmmodel.capstan.dev/x"] * 2
    columns = [
        "NAME",
        "READY",
        "REPLICAS",
        "REASON",
        "SERVED",
        "NAME",
        "AGE",
        "SOURCE",
        "ENGINE",
        "PROFILE",
        "ENDPOINT",
        "MESSAGE",
    ]
    assert table.stdout.splitlines()[0].split() == columns


def test_kubectl_explains(api: Api) -> None:
    """kubectl explain prints the description of a field."""
    explained = kubectl(api.kubeconfig, "explain", "llmmodel.spec.resources.gpus")
    assert "GPUs of one replica" in explained.stdout


POLICY = {"limits": [{"name": "a", "per": "Tenant", "requests": 1}, {"name": "b", "per": "Key", "concurrency": 2}]}


def policy(**spec: Any) -> dict[str, Any]:
    """A sound RateLimitPolicy called x, with these fields of the spec."""
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "RateLimitPolicy",
        "metadata": {"name": "x"},
        "spec": {**POLICY, **spec},
    }


BUDGET = {"name": "a", "per": "Team", "dollars": "1.5", "period": "month"}


@pytest.mark.parametrize(
    "spec",
    [{}, {"targetRefs": [{"name": "a"}]}, {"targetSelector": {}}, {"budgets": [BUDGET]}],
)
def test_defaults_of_policies_are_those_of_the_parser(api: Api, spec: dict[str, Any]) -> None:
    """The API server fills in exactly what the parser would, and writes nothing that the author has left open."""
    content = policy(**spec)
    assert api.policies.create(content) is None
    try:
        stored = api.policies.get("x")
    finally:
        api.policies.delete("x")
    bare, filled = parse_resource(RATELIMITPOLICY, content), parse_resource(RATELIMITPOLICY, stored)
    assert bare.faults == ()
    assert bare.spec == filled.spec
    assert stored["spec"]["limits"] == POLICY["limits"]


def test_kubectl_says_what_is_asked_first_of_a_policy(api: Api) -> None:
    """The columns of a policy, and the short name and the category by which it is found."""
    assert api.policies.create(policy()) is None
    try:
        listed = [kubectl(api.kubeconfig, "get", *HERE, by, "-o", "name").stdout.strip() for by in ("capstan", "crlp")]
        table = kubectl(api.kubeconfig, "get", *HERE, "crlp")
    finally:
        api.policies.delete("x")
    assert listed == ["ratelimitpolicy.capstan.dev/x"] * 2
    columns = ["NAME", "ACCEPTED", "PROGRAMMED", "MODE", "MODELS", "USED", "AGE"]
    assert table.stdout.splitlines()[0].split() == columns
