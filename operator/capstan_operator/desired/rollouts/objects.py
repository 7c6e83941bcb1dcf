"""What a model with steps owns beside its stable pods: the canary, the Job of the suites, and what is kept of both."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from capstan_contract.gates import GateOrder, GateTarget
from capstan_contract.names import CANARY, COMPONENT_LABEL, ENGINE_PORT, GROUP, MODEL_LABEL, TRACK_LABEL
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.api.rollout import SUITE_KEY, RolloutStatus, RolloutSuite
from capstan_operator.desired.naming import (
    COMPONENT,
    child_labels,
    prefixes_name,
    selector_labels,
    upstream_name,
    workload_name,
)
from capstan_operator.desired.objects import build_claim, build_deployment, build_prefixes, build_service
from capstan_operator.desired.pod import build_template
from capstan_operator.desired.pod_settings import (
    account_fields,
    container_security,
    pod_annotations,
    pod_labels,
    pod_security,
)
from capstan_operator.desired.pods import find_child
from capstan_operator.desired.rollouts.machine import Wants, has_run, try_of
from capstan_operator.desired.rollouts.memory import State, write_memory
from capstan_operator.desired.rollouts.revisions import SPEC_LABEL, build_spec_revision, keeps_spec, revision_of
from capstan_operator.desired.types import Action, RolloutMode, Wanted
from capstan_operator.resources.api_resource import CONFIG_MAPS, DEPLOYMENTS, JOBS, NETWORK_POLICIES, SERVICES
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import BuildSettings

TRY_ANNOTATION: Final = f"{GROUP}/rollout-try"
"""On the canary and the Job: which try of which revision they are of."""
EVALUATION: Final = "evaluation"
"""Component of the Job's pods: no selector of a model's pods matches them."""
SUITES_PATH: Final = "/suites"
REPORT_FILE: Final = "report.json"
MOST_HISTORY: Final = 50
JOB_TTL_SECONDS: Final = 3600
JOB_RETRIES: Final = 2
JOB_GRACE_SECONDS: Final = 30
"""For the Job to say what it has after its own deadline."""


@dataclass(frozen=True)
class Beside:
    """What the objects are built from."""

    model: Model
    """With the spec that its stable pods follow from."""
    newest: LLMModelSpec
    """What the LLMModel says."""
    memory: RolloutStatus | None
    """As it is written."""
    wants: Wants
    keeps: bool
    """Whether the newest spec is to be kept as a stable one: all pods are of it."""


def wanted_beside(
    beside: Beside,
    settings: BuildSettings,
    *,
    children: Iterable[Manifest],
    revisions: Iterable[Manifest],
) -> Iterator[Wanted]:
    """Give what is wanted of everything that belongs to a rollout; what is not named is surplus."""
    present = tuple(children)
    yield from _specs(beside, revisions)
    yield from _shared(beside, present)
    yield from _canary(beside, settings, present)
    yield from _job(beside, settings, present)
    if beside.memory is not None:
        yield Wanted(build_report(beside.model.key.name, beside.memory, present))


def job_name(name: str, tried: str) -> str:
    """Name of the Job of a try."""
    return f"{name}-gate-{hashlib.sha256(tried.encode()).hexdigest()[:5]}"


def report_name(name: str) -> str:
    """Name of the ConfigMap with the report of a model's rollout."""
    return f"{name}-rollout"


def build_report(name: str, memory: RolloutStatus, children: Iterable[Manifest]) -> Manifest:
    """Give the ConfigMap with everything that is known, and with what was decided when: the last of it."""
    live = find_child(tuple(children), CONFIG_MAPS.kind, report_name(name))
    report = {"rollout": write_memory(memory), "history": _history(memory, live)}
    return {
        "apiVersion": "v1",
        "kind": CONFIG_MAPS.kind,
        "metadata": {"name": report_name(name)},
        "data": {REPORT_FILE: json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False)},
    }


def read_report(config_map: Manifest | None) -> dict[str, Any]:
    """Read a report; nothing where there is none that can be read."""
    try:
        found = json.loads(((config_map or {}).get("data") or {}).get(REPORT_FILE) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _history(memory: RolloutStatus, live: Manifest | None) -> list[dict[str, Any]]:
    before = read_report(live).get("history")
    known = [one for one in before if isinstance(one, dict)] if isinstance(before, list) else []
    told = ("state", "reason", "message", "candidate", "attempt", "step", "weight", "since")
    entry = {key: value for key, value in write_memory(memory).items() if key in told}
    entry["gates"] = [f"{one.name}: {one.outcome}" for one in memory.gates]
    what = ("state", "reason", "candidate", "attempt", "step", "weight", "gates")
    if known and all(known[-1].get(key) == entry.get(key) for key in what):
        return known[-MOST_HISTORY:]
    return [*known, entry][-MOST_HISTORY:]


def _specs(beside: Beside, revisions: Iterable[Manifest]) -> Iterator[Wanted]:
    revision = revision_of(beside.newest)
    present = {
        str(item["metadata"]["labels"][SPEC_LABEL]): item for item in revisions if keeps_spec(item)
    }  # fmt: skip
    needed = {revision, beside.memory.stable if beside.memory else None}
    for known, item in sorted(present.items()):
        yield Wanted(item, Action.HOLD if known in needed else Action.PRUNE)
    if beside.keeps and revision not in present:
        yield Wanted(build_spec_revision(beside.model.key.name, beside.newest, revision))


def _shared(beside: Beside, children: tuple[Manifest, ...]) -> Iterator[Wanted]:
    """Give what the canary mounts and the stable pods do not."""
    name, stable = beside.model.key.name, beside.model.spec
    if beside.wants.canary is None or stable is None:
        return
    if beside.newest.prefixes and not stable.prefixes:
        yield Wanted(build_prefixes(name, beside.newest))
    cache, of_stable = beside.newest.cache, stable.cache
    if cache and cache.size and not cache.claimName and not (of_stable and of_stable.size and not of_stable.claimName):
        yield Wanted(build_claim(name, cache, children))


def _canary(beside: Beside, settings: BuildSettings, children: tuple[Manifest, ...]) -> Iterator[Wanted]:
    name, memory = beside.model.key.name, beside.memory
    if beside.wants.keeps:
        own = {(DEPLOYMENTS.kind, workload_name(name, CANARY)), (SERVICES.kind, workload_name(name, CANARY))}
        for item in children:
            mounted = (CONFIG_MAPS.kind, prefixes_name(name))
            if (item["kind"], item["metadata"]["name"]) in own | {mounted}:
                yield Wanted(item, Action.HOLD)
        return
    if beside.wants.canary is None or memory is None:
        return
    selector = selector_labels(name, CANARY)
    template, _ = build_template(beside.model, beside.newest, settings, CANARY)
    deployment = build_deployment(
        name,
        template,
        selector=selector,
        replicas=beside.wants.canary,
        mode=RolloutMode.SURGE,
        deadline=beside.newest.rollouts.progressDeadlineSeconds,
        annotations={TRY_ANNOTATION: try_of(memory)},
        track=CANARY,
    )
    yield Wanted(_of_canary(build_service(name, selector, CANARY)))
    yield Wanted(_of_canary(deployment))


def _of_canary(manifest: Manifest) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "labels": {TRACK_LABEL: CANARY}}}


def _job(beside: Beside, settings: BuildSettings, children: tuple[Manifest, ...]) -> Iterator[Wanted]:
    memory, name = beside.memory, beside.model.key.name
    if memory is None or memory.state == State.COMPLETE:
        return
    own = job_name(name, try_of(memory))
    if beside.wants.job and settings.network_policies:
        yield Wanted(_way_in(beside))
    if found := find_child(children, JOBS.kind, own):
        # NB: its pods cannot change; and people may want to read what it has said. It goes by itself after a while.
        # One that nobody waits for any more goes at once: it would ask on for an hour.
        if memory.state in (State.EVALUATING, State.PAUSED) or has_run(memory):
            yield Wanted(found, Action.HOLD)
    elif beside.wants.job:
        yield Wanted(_build_job(beside, settings, own, try_of(memory)))


def _way_in(beside: Beside) -> Manifest:
    """Give the NetworkPolicy that lets the Job ask the pods that it has to ask, beside those of these models."""
    judge = beside.newest.rollouts.gates.judge
    names = [beside.model.key.name, *([judge.name] if judge else [])]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": NETWORK_POLICIES.kind,
        "metadata": {"name": f"{beside.model.key.name}-gate"},
        "spec": {
            "podSelector": {
                "matchLabels": {COMPONENT_LABEL: COMPONENT},
                "matchExpressions": [{"key": MODEL_LABEL, "operator": "In", "values": names}],
            },
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"podSelector": {"matchLabels": _job_labels(beside.model.key.name)}}],
                    "ports": [{"port": ENGINE_PORT, "protocol": "TCP"}],
                }
            ],
        },
    }


def _job_labels(name: str) -> dict[str, str]:
    return {**child_labels(name), COMPONENT_LABEL: EVALUATION}


def _build_job(beside: Beside, settings: BuildSettings, own: str, tried: str) -> Manifest:
    name, gate = beside.model.key.name, beside.newest.rollouts.gates
    suites = [*(("suite", one) for one in gate.suites), *(("safety", one) for one in gate.safety)]
    volumes = [
        {"name": f"suite-{index}", "configMap": {"name": suite.configMap, "optional": True}}
        for index, (_, suite) in enumerate(suites)
    ]
    labels = _job_labels(name)
    metadata: dict[str, Any] = {"labels": {**pod_labels(beside.newest, settings), **labels}}
    if annotations := pod_annotations(beside.newest, settings):
        metadata["annotations"] = annotations
    container: dict[str, Any] = {
        "name": "gate",
        "image": settings.evaluation_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["capstan"],
        "args": _order(beside, suites).arguments(),
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": container_security(settings),
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            *(
                {"name": f"suite-{index}", "mountPath": f"{SUITES_PATH}/{index}", "readOnly": True}
                for index in range(len(suites))
            ),
        ],
    }
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        # It has no volume but empty ones and ConfigMaps, so that nothing is to be given to a group.
        "securityContext": {
            key: value for key, value in pod_security(settings).items() if not key.startswith("fsGroup")
        },
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}, *volumes],
        **account_fields(beside.newest, settings),
    }
    return {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.kind,
        "metadata": {"name": own, "labels": labels, "annotations": {TRY_ANNOTATION: tried}},
        "spec": {
            "backoffLimit": JOB_RETRIES,
            # A pod that a node has thrown out is no failure; one that says why it can say nothing would say it again.
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": "gate", "operator": "In", "values": [1, 2]},
                    },
                ]
            },
            "activeDeadlineSeconds": gate.deadline + JOB_GRACE_SECONDS,
            "ttlSecondsAfterFinished": JOB_TTL_SECONDS,
            "template": {"metadata": metadata, "spec": pod},
        },
    }


def _order(beside: Beside, suites: Iterable[tuple[str, RolloutSuite]]) -> GateOrder:
    model, gate = beside.model, beside.newest.rollouts.gates
    namespace, name = model.key.namespace, model.key.name
    tried = Model(key=model.key, uid=model.uid, generation=0, created="", spec=beside.newest)
    files: dict[str, dict[str, str]] = {"suite": {}, "safety": {}}
    for index, (kind, suite) in enumerate(suites):
        label = suite.configMap if suite.file == SUITE_KEY else f"{suite.configMap}/{suite.file}"
        files[kind][label] = f"{SUITES_PATH}/{index}/{suite.file}"
    judge = gate.judge and GateTarget(model=gate.judge.name, url=_url(workload_name(gate.judge.name), namespace))
    return GateOrder(
        candidate=GateTarget(model=upstream_name(tried), url=_url(workload_name(name, CANARY), namespace)),
        stable=GateTarget(model=upstream_name(model), url=_url(workload_name(name), namespace)),
        judge=judge,
        suites=files["suite"],
        safety=files["safety"],
        seconds=gate.deadline,
    )


def _url(service: str, namespace: str) -> str:
    return f"http://{service}.{namespace}.svc:{ENGINE_PORT}"
