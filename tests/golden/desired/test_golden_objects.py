"""What the operator writes for representative LLMModels, object by object.

Write the expected files again, and look at the difference, with: UPDATE_GOLDEN=1 pytest tests/golden/desired
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from capstan_operator.api.parse import parse_model
from capstan_operator.desired.diff import needs_apply, with_applied_hash
from capstan_operator.desired.model import build_model
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.desired.volumes import has_image_volume
from capstan_operator.settings import BuildSettings
from support.kubernetes import program
from support.wait import wait_until

HERE = Path(__file__).parent
CASES = sorted(path.stem for path in (HERE / "cases").glob("*.yaml"))
SETTINGS = BuildSettings(network_policies=True, image_pull_secrets=("registry",))
NAMESPACE = "golden"
EXTRAS = """
{apiVersion: v1, kind: Namespace, metadata: {name: golden, labels: {
  pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted}}}
---
{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: serving}, value: 1000}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: models, namespace: golden}}
---
{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: accelerated}, handler: accelerated}
"""


def _build(case: str, *, uid: str = "00000000-0000-4000-8000-000000000001") -> tuple[dict[str, Any], ...]:
    manifest = yaml.safe_load((HERE / "cases" / f"{case}.yaml").read_text())
    manifest["metadata"] |= {"namespace": NAMESPACE, "uid": uid, "generation": 1}
    model = parse_model(manifest)
    assert model.faults == ()
    return build_model(model, Snapshot(models={model.key: model}), SETTINGS).objects


@pytest.mark.parametrize("case", CASES)
def test_objects_are_the_reviewed_ones(case: str) -> None:
    """A model's objects are byte for byte the ones that were reviewed."""
    expected = HERE / "expected" / f"{case}.yaml"
    written = yaml.safe_dump_all(_build(case), sort_keys=True, allow_unicode=True, width=120)
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(written)
    assert written == expected.read_text()


@pytest.fixture(scope="module")
def restricted(kube_api: Path) -> Iterator[Path]:
    """The kubeconfig of an API server with a namespace that enforces the `restricted` level."""
    _apply(kube_api, EXTRAS, dry_run=False)
    wait_until(lambda: _kubectl(kube_api, "get", "serviceaccount", "default", "-n", NAMESPACE).returncode == 0)
    yield kube_api
    for kind, name in (("namespace", NAMESPACE), ("priorityclass", "serving"), ("runtimeclass", "accelerated")):
        _kubectl(kube_api, "delete", kind, name, "--wait=false")


@pytest.mark.apiserver
@pytest.mark.parametrize("case", CASES)
def test_api_server_takes_objects_and_pods_in_a_restricted_namespace(case: str, restricted: Path) -> None:
    """A real API server takes every object, and a pod of the template, in a `restricted` namespace, without warning."""
    objects = _build(case)
    deployment = next(manifest for manifest in objects if manifest["kind"] == "Deployment")
    template = deployment["spec"]["template"]
    metadata = {**template["metadata"], "name": "pod", "namespace": NAMESPACE}
    pod = {**template, "apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    done = _apply(restricted, "\n---\n".join(map(json.dumps, (*objects, pod))), dry_run=True)
    assert "Warning" not in done.stderr
    assert len(done.stdout.splitlines()) == len(objects) + 1


@pytest.mark.apiserver
@pytest.mark.parametrize("case", CASES)
def test_nothing_is_written_twice(case: str, restricted: Path) -> None:
    """What a real API server made of an object, with its defaults and its spelling, needs no second write."""
    objects = _build(case, uid="")  # an owner that does not exist would have them collected as garbage
    _apply(restricted, "\n---\n".join(map(json.dumps, objects)), dry_run=False)
    for manifest in objects:
        got = _kubectl(restricted, "get", manifest["kind"], manifest["metadata"]["name"], "-n", NAMESPACE, "-o", "json")
        live = json.loads(got.stdout)
        # An API server without image volumes drops them; the model's status says so.
        dropped = case == "compatible" and manifest["kind"] == "Deployment" and not has_image_volume(live)
        assert needs_apply(manifest, live) == dropped
        assert needs_apply(with_applied_hash({**manifest, "data": {"new": "field"}}), live)


def _apply(kubeconfig: Path, manifests: str, *, dry_run: bool) -> "subprocess.CompletedProcess[str]":
    options = ("--dry-run=server",) if dry_run else ()
    done = _kubectl(kubeconfig, "apply", "--server-side", "--validate=strict", *options, "-f", "-", stdin=manifests)
    assert done.returncode == 0, done.stderr
    return done


def _kubectl(kubeconfig: Path, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [program("kubectl"), "--kubeconfig", str(kubeconfig), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
