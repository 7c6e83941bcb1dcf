"""The status of one LLMModel."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from capstan_contract.evaluation import TrackScores
from capstan_contract.names import GATEWAY_PORT
from capstan_operator.api.kinds import Model
from capstan_operator.api.rollout import RolloutStatus
from capstan_operator.desired.naming import selector_labels, served_name
from capstan_operator.desired.policies import policy_key
from capstan_operator.desired.rollouts.memory import ROLLOUT, write_memory
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.desired.starting import START_FAILURE
from capstan_operator.desired.types import DesiredModel, Verdict
from capstan_operator.settings import BuildSettings
from capstan_operator.status.checks import CHAINS
from capstan_operator.status.conditions import Finding, conditions_by_type, merge_conditions, run_chain
from capstan_operator.status.evaluation import evaluation_findings, evaluation_news
from capstan_operator.status.facts import Facts, gather_facts
from capstan_operator.status.scaling import AT_MAX, LIMITED, Scaled, scaling_fields, scaling_findings
from capstan_operator.status.starting import Start, judge_start
from capstan_operator.status.types import Acknowledgement, Problem, StatusResult, Transition

_FIELDS: Final = (
    "observedGeneration",
    "replicas",
    "readyReplicas",
    "selector",
    "servedName",
    "endpoint",
    "priceSource",
    "policies",
    "scaling",
    START_FAILURE,
    ROLLOUT,
)
MOST_PRICE_SOURCE: Final = 320
_BEFORE: Final[Mapping[str, str]] = {
    "Accepted": "Unknown",
    "Progressing": "False",
    "Degraded": "False",
    "Ready": "False",
}
"""Conditions whose transitions become Events, and the status that counts as before the first visit."""
_BAD: Final[Mapping[str, str]] = {"Accepted": "False", "Degraded": "True", "Ready": "False"}
_REASON_COUNTS: Final = frozenset({("Accepted", "False"), ("Degraded", "True")})
"""Where another reason is news although the status is the same."""
_REASONS_THAT_COUNT: Final = frozenset({("Progressing", "RollingInPlace")})
"""Reasons that are news whatever the one before was: fewer replicas serve than are asked for."""


def compute_status(
    model: Model,
    desired: DesiredModel,
    snapshot: Snapshot,
    verdict: Verdict,
    ack: Acknowledgement,
    now: datetime,
    *,
    problems: Sequence[Problem] = (),
    settings: BuildSettings | None = None,
    scaled: Scaled | None = None,
    scores: Sequence[TrackScores] | None = None,
    steps: RolloutStatus | None = None,
) -> StatusResult:
    """Give the complete status of a model, the transitions in it and when to look again.

    Of a virtual model's members it looks at their status in `snapshot.models`.

    `now` must have a time zone. `problems` is what the shell found beyond the Snapshot: references that lead nowhere
    (SecretNotFound, SecretKeyNotFound, StorageClassNotFound, ...) and objects that the API server refused
    (ApplyRefused). `settings` says what `status.endpoint` is; without them it is left out. `scaled` is what the scaler
    says, `scores` what the scorer of sampled answers does; None: nobody asked it. `steps` is what is to be remembered
    of a rollout in steps.
    """
    facts = gather_facts(model, desired, snapshot, verdict, ack, now, problems, steps)
    findings = {kind: run_chain(chain, facts) for kind, chain in CHAINS.items()}
    findings |= scaling_findings(model, scaled, facts.deployment)
    present = conditions_by_type(model.status)
    findings |= evaluation_findings(model, scores, present)
    conditions = merge_conditions(present, findings, generation=model.generation, now=now)
    start = judge_start(facts, now, scaled)
    status = {**_plain_fields(facts, settings, scaled), **_start_fields(start), "conditions": conditions}
    if steps is not None:
        status[ROLLOUT] = write_memory(steps)
    return StatusResult(
        status=status,
        changed=_is_changed(model.status, status),
        transitions=(
            *_transitions(present, findings),
            *_limits(present, findings),
            *evaluation_news(present, findings),
            *_start_news(model.status, start),
        ),
        recheck_after=min((one for one in (facts.recheck_after, start.judge_after) if one is not None), default=None),
    )


def _plain_fields(facts: Facts, settings: BuildSettings | None, scaled: Scaled | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"observedGeneration": facts.model.generation}
    if not facts.podless:
        fields |= {
            "replicas": len(facts.new) + len(facts.old),
            "readyReplicas": facts.ready_new,
            "selector": facts.desired.selector or _present_selector(facts.model),
        }
    if facts.spec:
        fields["servedName"] = served_name(facts.model)
    elif facts.verdict.stays and (name := facts.model.status.get("servedName")):
        fields["servedName"] = name
    if facts.verdict.price_source:
        fields["priceSource"] = facts.verdict.price_source[:MOST_PRICE_SOURCE]
    if endpoint := gateway_endpoint(settings):
        fields["endpoint"] = endpoint
    if policies := facts.verdict.policies:
        fields["policies"] = [policy_key(id_)._asdict() for id_ in policies]
    if scaling := scaling_fields(scaled):
        fields["scaling"] = scaling
    return fields


def _start_fields(start: Start) -> dict[str, Any]:
    return {} if start.failure is None else {START_FAILURE: start.failure}


def _start_news(present: Mapping[str, Any], start: Start) -> Iterator[Transition]:
    """Give the news that requests do not wait any more for replicas that do not come up."""
    if start.failure is not None and not present.get(START_FAILURE):
        why = start.failure["reason"]
        yield Transition("Warning", "StartFailed", f"no replica comes up ({why}): requests get 503 until one may")


def _present_selector(model: Model) -> str:
    """Give the selector that a model without a usable spec has: what it selects goes on serving."""
    labels = sorted(selector_labels(model.key.name).items())
    return str(model.status.get("selector") or ",".join(f"{key}={value}" for key, value in labels))


def gateway_endpoint(settings: BuildSettings | None) -> str | None:
    """Give the base URL for clients; None when there is no gateway."""
    if settings is None or not (settings.gateway_url or settings.gateway_service):
        return None
    inside = f"http://{settings.gateway_service}.{settings.install_namespace}.svc:{GATEWAY_PORT}"
    return f"{(settings.gateway_url or inside).rstrip('/').removesuffix('/v1')}/v1"


def _is_changed(present: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    """Say whether what is ours in the status differs; conditions of others do not count."""
    if any(present.get(field) != status.get(field) for field in _FIELDS):
        return True
    found = conditions_by_type(present)
    return any(dict(found.get(new["type"], {})) != new for new in status["conditions"])


def _transitions(present: Mapping[str, Mapping[str, Any]], findings: Mapping[str, Finding]) -> list[Transition]:
    """Give what is news, each fact once: several conditions may tell the same one, and bad news is told as such."""
    news = [
        _transition(kind, findings[kind])
        for kind, before in _BEFORE.items()
        if _is_news(kind, present.get(kind) or {"status": before}, findings[kind])
    ]
    told = {(one.reason, one.message): one for one in sorted(news, key=lambda one: one.type == "Warning")}
    return list(dict.fromkeys(told[one.reason, one.message] for one in news))


def _limits(present: Mapping[str, Mapping[str, Any]], findings: Mapping[str, Finding]) -> Iterator[Transition]:
    """Give the news that a model is kept from what it is asked for; that `min` keeps replicas is none."""
    found = findings.get(LIMITED)
    if found is not None and found.reason == AT_MAX and present.get(LIMITED, {}).get("reason") != AT_MAX:
        yield Transition("Warning", "ScalingLimited", found.message)


def _is_news(kind: str, present: Mapping[str, Any], finding: Finding) -> bool:
    if present.get("status") != finding.status:
        return True
    counts = (kind, finding.status) in _REASON_COUNTS or (kind, finding.reason) in _REASONS_THAT_COUNT
    return counts and present.get("reason") != finding.reason


def _transition(kind: str, finding: Finding) -> Transition:
    if _BAD.get(kind) == finding.status or finding.status == "Unknown":
        return Transition("Warning", finding.reason, finding.message)
    return Transition("Normal", "Recovered" if kind == "Degraded" else finding.reason, finding.message)
