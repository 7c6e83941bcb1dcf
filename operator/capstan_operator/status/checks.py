"""The chains of checks, one per condition: the first check that has something to say decides.

Reasons are for programs and never change their meaning; messages are for people and are the same for the same cause.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from capstan_operator.desired.brought import find_unseen_variables
from capstan_operator.desired.compile import invalid
from capstan_operator.desired.members import MEMBERS_MISSING, describe
from capstan_operator.desired.naming import served_name
from capstan_operator.desired.pods import condition_of, template_hash
from capstan_operator.desired.profiled import ProfiledSpec, called
from capstan_operator.desired.types import Pending, RolloutMode
from capstan_operator.desired.volumes import has_image_volume, loads_weights, model_source, weights_claim
from capstan_operator.desired.wiring import find_unread_files
from capstan_operator.status.conditions import Finding, State, conditions_by_type
from capstan_operator.status.facts import Facts
from capstan_operator.status.rollouts import progress_of, trouble_of
from capstan_operator.status.standings import availability, degradation, pending
from capstan_operator.status.types import CONFIG_HELD, AckState

Check = Callable[[Facts], Finding | None]


def _ready_of(facts: Facts, count: int) -> str:
    return f"{min(count, facts.wanted)} of {facts.wanted} replicas ready"


KEPT: Final = "until then the gateway goes on with what was accepted last"


# --- what several conditions ask ------------------------------------------------------------------------------------


def _unusable(facts: Facts, status: State) -> Finding | None:
    if facts.spec is not None:
        return None
    message = invalid(facts.desired.faults).message
    return Finding(status, "Invalid", f"{message}; {KEPT}" if facts.verdict.kept else message)


def _invalid_is_false(facts: Facts) -> Finding | None:
    return _unusable(facts, "False")


def _invalid_is_true(facts: Facts) -> Finding | None:
    return _unusable(facts, "True")


def _invalid_is_unknown(facts: Facts) -> Finding | None:
    return _unusable(facts, "Unknown")


def _problem_is_false(facts: Facts) -> Finding | None:
    """The shell found a reference that leads nowhere, or an object that the API server refuses."""
    if not facts.problems:
        return None
    return Finding("False", facts.problems[0].reason, "; ".join(problem.message for problem in facts.problems))


def _whole_problem_is_false(facts: Facts) -> Finding | None:
    """Nothing of the model can answer for what the shell found."""
    return None if all(problem.partial for problem in facts.problems) else _problem_is_false(facts)


def _problem_is_true(facts: Facts) -> Finding | None:
    found = _problem_is_false(facts)
    return Finding("True", found.reason, found.message) if found else None


def _pod_problem_is_false(facts: Facts) -> Finding | None:
    return Finding("False", facts.pod_problem.reason, facts.pod_problem.message) if facts.pod_problem else None


def _hopeless_is_false(facts: Facts) -> Finding | None:
    return _pod_problem_is_false(facts) if facts.pod_problem and facts.pod_problem.needs_person else None


def _hopeless_is_true(facts: Facts) -> Finding | None:
    if facts.pod_problem and facts.pod_problem.needs_person:
        return Finding("True", facts.pod_problem.reason, facts.pod_problem.message)
    return None


def _podless(facts: Facts, status: State, hosted: str, virtual: str) -> Finding | None:
    """What there is to say about a model without pods."""
    if facts.external:
        return Finding(status, "External", hosted)
    return Finding(status, "Virtual", virtual) if facts.virtual else None


# --- Accepted -------------------------------------------------------------------------------------------------------


def _verdict(facts: Facts) -> Finding | None:
    if facts.verdict.accepted:
        return None
    return Finding("False", facts.verdict.reason, facts.verdict.message)


def _accepted(facts: Facts) -> Finding:
    said, without = f"served as '{served_name(facts.model)}'", facts.verdict.without
    if isinstance(facts.spec, ProfiledSpec):
        said += f", with {called(facts.spec.known)}"
    if without:
        said += f", with less than it names: {describe(without)}"
    unseen = () if facts.spec is None else find_unseen_variables(facts.model, facts.spec)
    if facts.spec and (unread := [*find_unread_files(facts.spec), *unseen]):
        said += f"; note: {describe(unread)}"
    return Finding("True", "Accepted", said)


# --- WeightsReady ---------------------------------------------------------------------------------------------------


def _weights_elsewhere(facts: Facts) -> Finding | None:
    return _podless(facts, "True", "a hosted API has them", "its members have them")


def _storage_class(facts: Facts) -> Finding | None:
    found = (problem for problem in facts.problems if problem.reason == "StorageClassNotFound")
    return next((Finding("False", problem.reason, problem.message) for problem in found), None)


def _dropped_image(facts: Facts) -> Finding | None:
    source, live = model_source(facts.spec) if facts.spec else None, facts.deployment
    if source is None or source.scheme != "oci" or live is None:
        return None
    if template_hash(live) != facts.desired.pod_hash or has_image_volume(live):
        return None
    needs = "oci:// needs image volumes: Kubernetes 1.35, or the feature gate ImageVolume"
    return Finding("False", "ImageVolumesMissing", needs)


def _dropped_claims(facts: Facts) -> Finding | None:
    """An API server without Dynamic Resource Allocation drops the claims of a pod and says nothing."""
    live, spec = facts.deployment, facts.spec
    if spec is None or not spec.resources.claims or live is None or template_hash(live) != facts.desired.pod_hash:
        return None
    if ((live["spec"].get("template") or {}).get("spec") or {}).get("resourceClaims"):
        return None
    needs = "`spec.resources.claims` needs Kubernetes 1.34, or the feature gate DynamicResourceAllocation"
    return Finding("False", "ResourceClaimsMissing", f"{needs}: without it the replicas have none of these devices")


def _dropped_claims_is_true(facts: Facts) -> Finding | None:
    found = _dropped_claims(facts)
    return Finding("True", found.reason, found.message) if found else None


def _missing_claim(facts: Facts) -> Finding | None:
    missing = (name for name, claim in facts.claims if claim is None)
    return next(
        (Finding("False", "ClaimNotFound", f"the PersistentVolumeClaim '{name}' does not exist") for name in missing),
        None,
    )


def _lost_claim(facts: Facts) -> Finding | None:
    for name, claim in (*facts.claims, *((facts.own_claim,) if facts.own_claim else ())):
        if claim and (claim.get("status") or {}).get("phase") == "Lost":
            return Finding("False", "ClaimLost", f"the PersistentVolumeClaim '{name}' has lost its volume")
    return None


def _pending_claim(facts: Facts) -> Finding | None:
    for name, claim in (*facts.claims, *((facts.own_claim,) if facts.own_claim else ())):
        if claim is None or (claim.get("status") or {}).get("phase") != "Bound":
            return Finding("False", "ClaimPending", f"the PersistentVolumeClaim '{name}' is not bound to a volume yet")
    return None


def _nothing_to_load(facts: Facts) -> Finding | None:
    if facts.spec and not loads_weights(facts.spec):
        return Finding("True", "NotNeeded", "the simulator has none")
    if facts.spec and facts.spec.model.source is None:
        return Finding("True", "InImage", "the engine's image brings them")
    return None


def _left_claim(facts: Facts) -> Finding | None:
    if facts.left_claim is None:
        return None
    message = (
        f"the PersistentVolumeClaim '{facts.left_claim}' of the former `cache` is left; delete it when it is not needed"
    )
    return Finding("True", "ClaimLeft", message)


def _bound_claim(facts: Facts) -> Finding | None:
    source = model_source(facts.spec) if facts.spec else None
    name = (source.claim if source else None) or weights_claim(facts.model)
    return Finding("True", "ClaimBound", f"they are kept in the PersistentVolumeClaim '{name}'") if name else None


def _on_demand(_: Facts) -> Finding:
    return Finding("True", "OnDemand", "every pod fetches them when it starts")


# --- Available ------------------------------------------------------------------------------------------------------


def _faulty(facts: Facts) -> Finding | None:
    """What was running goes on, and answers as long as the gateway goes on with it."""
    if facts.spec is not None:
        return None
    if facts.ready:
        return Finding("True", "ReplicasReady", "replicas of an earlier generation take requests")
    match facts.verdict.kept_backend:
        case "External":
            return Finding("True", "External", "a hosted API answers, as it did for an earlier generation")
        case "Router" | "Cascade":
            return Finding("Unknown", "Virtual", "the members of an earlier generation are asked")
        case _:
            return _invalid_is_false(facts)


def _answered_elsewhere(facts: Facts) -> Finding | None:
    if facts.virtual:
        return availability(facts.members)
    return Finding("True", "External", "a hosted API answers") if facts.external else None


def _no_member(facts: Facts) -> Finding | None:
    if facts.verdict.reason != MEMBERS_MISSING:
        return None
    return Finding("False", "NoMemberAvailable", facts.verdict.message)


def _idle(facts: Facts) -> Finding | None:
    return Finding("False", "Idle", "no replica is wanted") if facts.idle else None


def _some_ready(facts: Facts) -> Finding | None:
    return Finding("True", "ReplicasReady", _ready_of(facts, facts.ready)) if facts.ready else None


def _loading(facts: Facts) -> Finding | None:
    return Finding("False", "Loading", _ready_of(facts, facts.ready_new)) if facts.new else None


def _no_pods(_: Facts) -> Finding:
    return Finding("False", "NoReadyReplicas", "there is no pod yet")


# --- Progressing ----------------------------------------------------------------------------------------------------


def _nothing_to_roll_out(facts: Facts) -> Finding | None:
    return _podless(facts, "False", "there is nothing to roll out", "there is nothing to roll out")


def _deployment_behind(facts: Facts) -> Finding | None:
    """The Deployment is not written yet, or its controller has not seen it."""
    live = facts.deployment
    behind = live is None or template_hash(live) != facts.desired.pod_hash
    if live is not None and not behind:
        observed = int((live.get("status") or {}).get("observedGeneration") or 0)
        behind = observed < int(live["metadata"].get("generation") or 0)
    return _rolling(facts) if behind else None


def _old_pods(facts: Facts) -> Finding | None:
    return _rolling(facts) if facts.old else None


def _rolling(facts: Facts) -> Finding:
    done = f"{min(facts.ready_new, facts.wanted)} of {facts.wanted} replicas up to date"
    rollout = facts.desired.rollout
    if rollout and rollout.mode is RolloutMode.IN_PLACE and facts.old:
        return Finding("True", "RollingInPlace", f"{rollout.message}; {done}")
    return Finding("True", "RollingOut", done)


def _deadline(facts: Facts) -> Finding | None:
    condition = condition_of(facts.deployment, "Progressing") if facts.deployment else None
    if condition and condition.get("reason") == "ProgressDeadlineExceeded" and condition.get("status") == "False":
        return Finding("False", "RolloutDeadlineExceeded", "the rollout has made no progress for too long")
    return None


def _deadline_is_true(facts: Facts) -> Finding | None:
    found = _deadline(facts) if facts.ready_new < facts.wanted else None
    return Finding("True", found.reason, found.message) if found else None


def _scaling_down(facts: Facts) -> Finding | None:
    if len(facts.new) <= facts.wanted:
        return None
    return Finding("True", "ScalingDown", f"more than {facts.wanted} replicas are running")


def _coming_up(facts: Facts) -> Finding | None:
    if facts.ready_new >= facts.wanted:
        return None
    return _deadline(facts) or Finding("True", "Loading", _ready_of(facts, facts.ready_new))


def _canary(facts: Facts) -> Finding | None:
    return progress_of(facts.steps)


def _update_pending(facts: Facts) -> Finding | None:
    """What runs is what the spec asks for; only the operator would do it otherwise by now."""
    match facts.desired.pending:
        case Pending.ADOPTION:
            then = "it is taken up when its turn comes and one more replica has room"
        case Pending.NEXT_CHANGE:
            then = "it is taken up with the next change of the spec"
        case _:
            return None
    return Finding("False", "UpdatePending", f"there is a newer pod template for the same spec: {then}")


def _complete(facts: Facts) -> Finding:
    return Finding("False", "Complete", _ready_of(facts, facts.ready_new))


# --- Degraded -------------------------------------------------------------------------------------------------------


def _conflict_is_true(facts: Facts) -> Finding | None:
    if facts.verdict.accepted or facts.model.deleting:
        return None
    return Finding("True", facts.verdict.reason, facts.verdict.message)


def _held_is_true(facts: Facts) -> Finding | None:
    return Finding("True", CONFIG_HELD, facts.verdict.held) if facts.verdict.held else None


def _lost_names_is_true(facts: Facts) -> Finding | None:
    """It serves without some of its names: another model has them, or nobody in its namespace may have them."""
    lost = facts.verdict.lost_names
    return Finding("True", lost[0].reason, describe(lost)) if lost else None


def _lost_fallbacks_is_true(facts: Facts) -> Finding | None:
    """It serves without fallbacks that it may not use. One that nobody is served as may still come."""
    lost = [one for one in facts.verdict.lost_fallbacks if one.needs_person]
    return Finding("True", "FallbackNotAllowed", describe(lost)) if lost else None


def _weights_lost_is_true(facts: Facts) -> Finding | None:
    found = _dropped_image(facts) or _missing_claim(facts) or _lost_claim(facts)
    return Finding("True", found.reason, found.message) if found else None


def _left_out_is_true(facts: Facts) -> Finding | None:
    """A virtual model serves with less than it names."""
    left_out = facts.verdict.left_out
    return Finding("True", MEMBERS_MISSING, describe(left_out)) if left_out else None


def _members_need_help(facts: Facts) -> Finding | None:
    return degradation(facts.members) if facts.virtual else None


def _as_expected(_: Facts) -> Finding:
    return Finding("False", "AsExpected", "nothing needs a person")


# --- Ready ----------------------------------------------------------------------------------------------------------


def _not_served(facts: Facts) -> Finding | None:
    """What the brake holds is served all the same."""
    return None if facts.verdict.held else _verdict(facts)


def _generation_ready(facts: Facts) -> Finding | None:
    """Nothing to object when a pod of this generation is ready, or none is wanted, or others answer."""
    if facts.virtual:
        found = availability(facts.members)
        return None if found.status == "True" or found.reason == "Idle" else found
    if facts.external or facts.idle or facts.ready_new:
        return None
    if facts.pod_problem is None and facts.ready:
        return _not_rolled_out(facts)
    return _pod_problem_is_false(facts) or _loading(facts) or _no_pods(facts)


def _not_rolled_out(facts: Facts) -> Finding:
    rollout = facts.desired.rollout
    reason = "RollingInPlace" if rollout and rollout.mode is RolloutMode.IN_PLACE else "RollingOut"
    return Finding("False", reason, "no replica of this generation is ready yet")


def _gateway(facts: Facts) -> Finding | None:
    ack = facts.ack
    match ack.state:
        case AckState.NO_GATEWAY:
            return Finding("False", "NoGateway", "no gateway replica is ready")
        case AckState.UNKNOWN if _is_ready_already(facts):
            return None
        case AckState.UNKNOWN if not ack.acknowledged:
            return Finding("Unknown", "GatewayUnknown", "the gateway could not be asked")
        case AckState.PENDING | AckState.UNKNOWN:
            done = f"{ack.acknowledged} of {ack.ready} gateway replicas run this generation"
            return Finding("False", "GatewayPending", done)
        case _:
            return _gateway_cannot(facts, "False")


def _gateway_cannot(facts: Facts, status: State) -> Finding | None:
    """The gateway will not run this generation before somebody does something about it."""
    ack = facts.ack
    if ack.state is AckState.BLOCKED and ack.problem:
        return Finding(status, ack.problem.reason, ack.problem.message)
    if ack.state is AckState.REFUSED:
        needs = f"the gateway is of a release that does not know what this needs: {', '.join(ack.missing)}"
        return Finding(status, "GatewayRefused", needs)
    return None


def _gateway_cannot_is_true(facts: Facts) -> Finding | None:
    return _gateway_cannot(facts, "True")


def _is_ready_already(facts: Facts) -> bool:
    """Whether this very generation was found ready before."""
    present = conditions_by_type(facts.model.status).get("Ready", {})
    return present.get("status") == "True" and present.get("observedGeneration") == facts.model.generation


def _members_pending(facts: Facts) -> Finding | None:
    """Only on its way to Ready: what answers already goes on answering while the gateway takes up a member's change."""
    return None if _is_ready_already(facts) else pending(facts.members)


def _ready_idle(facts: Facts) -> Finding | None:
    found = _answered_elsewhere(facts) or _idle(facts)
    return Finding("True", "Idle", found.message) if found and found.reason == "Idle" else None


def _serving(facts: Facts) -> Finding:
    others = _answered_elsewhere(facts)
    return Finding("True", "Serving", others.message if others else _ready_of(facts, facts.ready_new))


CHAINS: Final[Mapping[str, tuple[Check, ...]]] = MappingProxyType(
    {
        "Accepted": (_invalid_is_false, _verdict, _accepted),
        "WeightsReady": (
            _invalid_is_unknown,
            _weights_elsewhere,
            _storage_class,
            _dropped_image,
            _missing_claim,
            _lost_claim,
            _pending_claim,
            _left_claim,
            _nothing_to_load,
            _bound_claim,
            _on_demand,
        ),
        "Available": (
            _faulty,
            lambda facts: _whole_problem_is_false(facts) if facts.podless else None,
            _no_member,
            _answered_elsewhere,
            _idle,
            _some_ready,
            _problem_is_false,
            _pod_problem_is_false,
            _loading,
            _no_pods,
        ),
        "Progressing": (
            _invalid_is_false,
            _nothing_to_roll_out,
            _problem_is_false,
            _hopeless_is_false,
            _deployment_behind,
            _old_pods,
            _scaling_down,
            _idle,
            _coming_up,
            _canary,
            _update_pending,
            _complete,
        ),
        "Degraded": (
            _invalid_is_true,
            _held_is_true,
            _conflict_is_true,
            _problem_is_true,
            _gateway_cannot_is_true,
            _left_out_is_true,
            _lost_names_is_true,
            _lost_fallbacks_is_true,
            _members_need_help,
            _weights_lost_is_true,
            _dropped_claims_is_true,
            _hopeless_is_true,
            _deadline_is_true,
            lambda facts: trouble_of(facts.steps),
            _as_expected,
        ),
        "Ready": (
            _invalid_is_false,
            _not_served,
            _whole_problem_is_false,
            _generation_ready,
            _gateway,
            _members_pending,
            _ready_idle,
            _serving,
        ),
    }
)
