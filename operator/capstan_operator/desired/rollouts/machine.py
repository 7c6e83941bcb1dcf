"""The decision of a rollout: what follows from what is remembered and from what is seen now. Pure.

    Complete ──a change──► Starting ──ready──► Evaluating ──Pass──► Step 1 ─► ... ─► Step n ──► Promoting ──► Complete
                               │                   │                  │
                               └────────Fail───────┴───────Fail───────┴──► RolledBack, or Paused (`onFail`)

The canary gets traffic in steps only, and while all pods are replaced. Whatever cannot be told, because a suite is
missing, say, pauses: nothing is promoted unseen. Another change of the spec begins anew, and a spec that is again what
serves ends it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any, Final, Literal

from capstan_contract.evaluation import TrackScores
from capstan_contract.gates import GateSummary, Outcome
from capstan_contract.tracks import Counters
from capstan_operator.api.rollout import (
    GateEvidence,
    OnFail,
    OnInconclusive,
    RejectedRevision,
    RolloutAction,
    RolloutSpec,
    RolloutStatus,
    RolloutStrategy,
)
from capstan_operator.desired.rollouts.evidence import evidence_of, in_words, is_live, with_evidence
from capstan_operator.desired.rollouts.gates import judge_live, outcome_of
from capstan_operator.desired.rollouts.memory import (
    MOST_REJECTED,
    Asked,
    State,
    find_rejected,
    is_of,
    is_of_profile,
    moment,
    seconds_from,
    unix_seconds,
)

LOOK_SECONDS: Final = 10.0
"""Between two looks at the numbers of a step, unless something happens."""
ACKNOWLEDGED_LOOK_SECONDS: Final = 1.0
"""The same while gateways take up a weight."""
REST_SECONDS: Final = 30.0
WRITE_SECONDS: Final = 30.0
"""Numbers alone are written so often."""
DRAIN_SECONDS: Final = 60.0
"""For how long a canary that is to go stays for gateways that do not say whether they still send to it; one that has
failed, also for those that say they do: without it, the stable pods answer."""
MOST_MESSAGE: Final = 1024
PROMOTE: Final = "promote"
ABORT: Final = "abort"
RETRY: Final = "retry"
VERBS: Final = (PROMOTE, ABORT, RETRY)


@dataclass(frozen=True)
class SeenCanary:
    """The canary's Deployment and its pods."""

    candidate: str
    """The try that it is of, as `try_of` says."""
    wanted: int = 0
    ready: int = 0
    trouble: str = ""
    """A CamelCase word: what keeps its pods from becoming ready, and needs a person."""
    message: str = ""
    lacks_room: bool = False
    """Whether no node has the GPUs, or a quota, for it."""
    lacks_room_since: datetime | None = None
    late: bool = False
    """Whether it has made no progress for `progressDeadlineSeconds`."""


@dataclass(frozen=True)
class SeenJob:
    """The Job of the suites."""

    ended: bool = False
    summary: GateSummary | None = None
    """What it has left; None of one that has ended: nothing."""
    message: str = ""


@dataclass(frozen=True)
class Split:
    """How the gateways split requests: of all that are ready the same."""

    id: str = ""
    """Of the canary in their config; empty: they have none."""
    weight: float = 0.0


@dataclass(frozen=True)
class Action:
    """What a person asks for by an annotation."""

    text: str
    verb: str
    revision: str
    by: str = ""


@dataclass(frozen=True)
class Seen:
    """What is so now."""

    now: datetime
    asked: Asked
    """What is asked for: the spec's revision."""
    rollout: RolloutSpec
    replicas: int
    """How many stable pods are wanted."""
    rolled_out: bool
    """Whether all pods of the stable Deployment are of the spec's revision, and ready."""
    kept: bool
    """Whether the spec is kept as that of the stable revision, so that it can be gone back to."""
    can_split: bool = True
    """False: the stable pods have no track of their own, as those of a first release."""
    patience: float = 300.0
    surge_lacks_room_since: datetime | None = None
    """Since when a new pod of the stable Deployment finds no room."""
    canary: SeenCanary | None = None
    job: SeenJob | None = None
    split: Split | None = None
    """None: not all gateways say the same, or one says nothing."""
    stable_counts: Counters | None = None
    """What gateways have counted since the canary got its first request; None: nobody says."""
    canary_counts: Counters | None = None
    scores: tuple[TrackScores, ...] = ()
    """What the scorer says of sampled answers."""
    action: Action | None = None
    is_its_turn: bool = True
    """False: a change of the profile alone does not begin yet, because others are being tried."""

    @property
    def revision(self) -> str:
        """Of the spec."""
        return self.asked.revision

    @property
    def generation(self) -> int:
        """Of the LLMModel."""
        return self.asked.generation


@dataclass(frozen=True)
class News:
    """An Event."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Decision:
    """What is to be remembered, and what follows from it."""

    memory: RolloutStatus | None
    news: tuple[News, ...] = ()
    after: float | None = None
    """Seconds until the next look although nothing happens."""


@dataclass(frozen=True)
class Wants:
    """What there is to be beside the stable pods, by the memory that is written."""

    canary: int | None = None
    """Replicas of the canary; None: it goes."""
    keeps: bool = False
    """Whether the canary stays just as it is, until no gateway sends to it."""
    job: bool = False
    replaces_one: bool = False


def decide(before: RolloutStatus | None, seen: Seen) -> Decision:
    """Decide what follows. Whoever asks again with what was decided and the same sight gets the same in the end."""
    memory = _decide(before, seen)
    if memory is None:
        waits = bool(seen.rollout.steps) and seen.rolled_out and not seen.kept
        return Decision(None, after=ACKNOWLEDGED_LOOK_SECONDS if waits else None)
    memory = _seldom(before, memory, seen.now)
    return Decision(memory, tuple(_news(before, memory)), _after(memory, seen))


def wants_of(memory: RolloutStatus | None, seen: Seen) -> Wants:
    """Give what there is to be, by a memory that is written."""
    if memory is None or seen.replicas == 0:
        return Wants()
    wanted = _canary_of(memory, seen)
    other = seen.canary is not None and (wanted is None or seen.canary.candidate != try_of(memory))
    job = memory.state == State.EVALUATING and not other and not has_run(memory)
    replaces = bool(memory.replacesOne) and seen.replicas > 1
    if other:
        return Wants(keeps=not _is_drained(memory, seen), replaces_one=replaces)
    return Wants(canary=wanted, job=job, replaces_one=replaces)


def waits_for_turn(memory: RolloutStatus, asked: Asked) -> bool:
    """Whether what is asked for is a change of the profile alone, of a model of which nothing is being tried: it begins
    when its turn comes, as many models may have the profile."""
    return memory.state in (State.COMPLETE, State.ROLLED_BACK) and is_of_profile(memory, asked)


def is_trying_profile(memory: RolloutStatus) -> bool:
    """Whether a change of the profile alone is being tried, or waits for a person to say how to go on."""
    return bool(memory.ofProfile) and memory.state not in (State.COMPLETE, State.ROLLED_BACK)


def try_of(memory: RolloutStatus) -> str:
    """Name a try of a revision: it is the id of its canary, and what its objects are labelled with."""
    return f"{memory.candidate}-{unix_seconds(memory.began)}"


def has_run(memory: RolloutStatus) -> bool:
    """Whether the suites of this try have said something."""
    return any(not is_live(one) for one in memory.gates)


def canary_replicas(replicas: int, weight: int) -> int:
    """Give how many pods bear a share of the requests that `replicas` bear."""
    return max(1, ceil(replicas * weight / 100))


def read_action(annotations: Mapping[str, Any], name: str, by: str) -> Action | None:
    """Read `promote=REVISION`, `abort=REVISION` or `retry=REVISION` (and `/ANYTHING`: another wish of the same)."""
    text = annotations.get(name)
    if not isinstance(text, str) or len(text) > 128:
        return None
    verb, _, rest = text.strip().partition("=")
    revision = rest.partition("/")[0]
    who = annotations.get(by)
    if verb not in VERBS or not revision:
        return None
    return Action(text.strip(), verb, revision, who[:256] if isinstance(who, str) else "")


# --- the states -----------------------------------------------------------------------------------------------------


def _decide(before: RolloutStatus | None, seen: Seen) -> RolloutStatus | None:
    if not seen.rollout.steps:
        return None
    if before is None:
        settled = seen.rolled_out and seen.kept and seen.replicas > 0
        return _complete(RolloutStatus(state=State.COMPLETE), seen) if settled else None
    memory = _acted(_of_spec(before, seen), seen)
    match memory.state:
        case State.COMPLETE | State.ROLLED_BACK:
            return memory
        case State.PROMOTING:
            return _promoting(memory, seen)
        case State.PAUSED:
            return _watched(memory, seen)
        case State.STARTING:
            return _starting(memory, seen)
        case State.EVALUATING:
            return _evaluating(memory, seen)
        case _:
            return _step(memory, seen)


def _of_spec(memory: RolloutStatus, seen: Seen) -> RolloutStatus:
    """Begin anew where the spec asks for something else than what is remembered."""
    if is_of(memory, seen.asked):
        return memory.model_copy(update={"generation": seen.generation, "profile": seen.asked.profile or None})
    if seen.revision == memory.stable:
        done = _complete(memory, seen)
        return done.model_copy(update={"reason": "Back", "message": "the spec is again what serves"})
    if waits_for_turn(memory, seen.asked) and not seen.is_its_turn:
        return memory
    fresh = RolloutStatus(
        state=State.STARTING,
        stable=memory.stable,
        candidate=seen.revision,
        generation=seen.generation,
        profile=seen.asked.profile or None,
        ofProfile=is_of_profile(memory, seen.asked) or None,
        attempt=1,
        step=0,
        weight=0,
        began=moment(seen.now),
        since=moment(seen.now),
        rejected=memory.rejected,
        action=memory.action,
    )
    if rejected := find_rejected(memory, seen.asked):
        why = f"this revision was rejected at {rejected.at} ({rejected.reason}), and is not tried again by itself"
        return _into(fresh, State.ROLLED_BACK, seen, reason="Rejected", message=why)
    if seen.replicas == 0:
        why = "there is no stable pod to protect: the pods are replaced at once"
        return _into(fresh, State.PROMOTING, seen, reason="NoStablePods", message=why)
    if not seen.can_split:
        why = "the present pods are of a release without tracks, and cannot be told from a canary: replaced at once"
        return _into(fresh, State.PROMOTING, seen, reason="NoTracks", message=why)
    return fresh


def _acted(memory: RolloutStatus, seen: Seen) -> RolloutStatus:
    """Do what a person asks for, once."""
    action = seen.action
    if action is None or (memory.action and memory.action.action == action.text):
        return memory
    said = RolloutAction(action=action.text, at=moment(seen.now), by=action.by or None)
    memory = memory.model_copy(update={"action": said})
    if memory.state == State.COMPLETE or action.revision != memory.candidate:
        # NB: the annotation stays: when that revision is tried some day, nobody wants this any more.
        return memory
    by_hand = f"by hand{f' ({action.by})' if action.by else ''}"
    if action.verb == PROMOTE:
        memory = memory.model_copy(update={"rejected": _without(memory)})
        return _into(memory, State.PROMOTING, seen, reason="PromotedByHand", message=f"promoted {by_hand}")
    if action.verb == ABORT:
        return _rejected(memory, seen, "Aborted", f"given up {by_hand}")
    update = {"rejected": _without(memory), "attempt": (memory.attempt or 1) + 1, "weight": 0, "step": 0}
    update |= {"gates": (), "requests": None, "began": moment(seen.now), "lookedAt": None}
    memory = memory.model_copy(update=update)
    return _into(memory, State.STARTING, seen, reason="RetriedByHand", message=f"tried again {by_hand}")


def _starting(memory: RolloutStatus, seen: Seen) -> RolloutStatus:
    canary = _own(memory, seen)
    if canary is None:
        return memory
    if canary.ready >= 1:
        if seen.rollout.gates.is_run:
            return _into(memory, State.EVALUATING, seen, message="the suites run against the canary")
        return _next_step(memory, seen)
    if canary.lacks_room:
        return _without_room(memory, canary, seen)
    if broken := _broken(memory, canary, seen):
        return broken
    return memory.model_copy(update={"reason": None, "message": _with_why("the canary comes up", canary)})


def _without_room(memory: RolloutStatus, canary: SeenCanary, seen: Seen) -> RolloutStatus:
    lasted = (seen.now - canary.lacks_room_since).total_seconds() if canary.lacks_room_since else 0.0
    may = seen.rollout.gives_one and seen.replicas > 1
    if memory.replacesOne or (may and lasted >= seen.patience):
        why = f"there was no room for the canary: a stable replica makes room for it; {canary.message}"
        return memory.model_copy(update={"replacesOne": True, "reason": "ReplacingOne", "message": why[:MOST_MESSAGE]})
    then = "then a stable replica makes room for it" if may else "it waits"
    if seen.rollout.gives_one and not may:
        then = "the only stable replica does not make room for it, and it waits"
    why = f"there is no room for the canary; {then}: {canary.message}"
    return memory.model_copy(update={"reason": "NoRoom", "message": why[:MOST_MESSAGE]})


def _evaluating(memory: RolloutStatus, seen: Seen) -> RolloutStatus:
    if has_run(memory):
        return memory  # inconclusive, and a person has not said yet how to go on
    job = seen.job
    if job is None or not job.ended:
        broken = _broken(memory, canary, seen) if (canary := _own(memory, seen)) else None
        return broken or memory
    summary = job.summary
    if summary is None or summary.outcome is None:
        reason = (summary and summary.reason) or "EvaluationFailed"
        why = (summary and summary.error) or job.message or "the Job of the suites ended without a word"
        return _paused(memory, seen, reason, f"the suites could not be run: {why}")
    evidence = evidence_of(summary)
    memory = memory.model_copy(update={"gates": with_evidence(memory.gates, evidence)})
    match summary.outcome:
        case Outcome.PASS:
            return _next_step(memory, seen)
        case Outcome.FAIL:
            return _failed(memory, seen, "SuiteFailed", f"a suite fails: {in_words(evidence, Outcome.FAIL)}")
    return _in_doubt(memory, seen, f"the suites cannot tell: {in_words(evidence, Outcome.INCONCLUSIVE)}")


def _step(memory: RolloutStatus, seen: Seen) -> RolloutStatus:
    canary = _own(memory, seen)
    if canary is not None and (broken := _broken(memory, canary, seen)):
        return broken
    memory = _watched(memory, seen)
    if memory.state != State.STEP:
        return memory
    number = _number(memory, seen)
    step = seen.rollout.steps[number - 1]
    memory = memory.model_copy(update={"step": number})
    if memory.weight != step.weight:
        if canary is None or canary.ready < canary_replicas(seen.replicas, step.weight):
            if canary is not None and canary.lacks_room:
                return _without_room(memory, canary, seen)
            return memory.model_copy(update={"reason": "Scaling", "message": "replicas of the canary come up"})
        told = {"weight": step.weight, "splitSince": None, "reason": "Splitting"}
        return memory.model_copy(update={**told, "message": "gateways take up the weight"})
    if memory.splitSince is None:
        if seen.split != Split(try_of(memory), step.weight):
            return memory
        memory = memory.model_copy(update={"splitSince": moment(seen.now)})
    left = step.lasts - seconds_from(memory.splitSince, seen.now)
    if left > 0:
        return _told(memory, "Serving", f"{step.weight} % of the requests; the step lasts {step.lasts} s")
    if (memory.requests or 0) < step.needs:
        why = f"{step.weight} % of the requests; the canary has to answer {step.needs} before the step ends"
        return _told(memory, "TooFewRequests", why)
    live = tuple(one for one in memory.gates if is_live(one))
    # NB: a step of no seconds ends at the very look that begins it, before anybody has judged anything.
    missing = _has_live(seen.rollout) and (seen.canary_counts is None or not live)
    outcome = Outcome.INCONCLUSIVE if missing else outcome_of(live)
    if outcome is Outcome.PASS:
        return _next_step(memory, seen)
    why = "the gateways do not say" if missing else in_words(live, Outcome.INCONCLUSIVE)
    return _in_doubt(memory, seen, f"the step cannot be judged yet: {why}")


def _watched(memory: RolloutStatus, seen: Seen) -> RolloutStatus:
    """Look at the live gates while the canary gets requests."""
    if not memory.weight or seen.canary_counts is None or seen.stable_counts is None:
        return memory
    if memory.state == State.STEP and memory.splitSince is None and not memory.requests:
        return memory.model_copy(update={"requests": seen.canary_counts.requests})
    live = judge_live(
        seen.rollout.gates,
        seen.stable_counts,
        seen.canary_counts,
        step=memory.step or 1,
        scores=seen.scores,
        revision=memory.candidate or "",
    )
    kept = tuple(one for one in memory.gates if not is_live(one) or one.name in {two.name for two in live})
    update = {"gates": with_evidence(kept, live), "requests": seen.canary_counts.requests}
    memory = memory.model_copy(update=update)
    if outcome_of(live) is Outcome.FAIL:
        return _failed(memory, seen, "GateFailed", f"a live gate fails: {in_words(live, Outcome.FAIL)}")
    return memory


def _promoting(memory: RolloutStatus, seen: Seen) -> RolloutStatus:
    if seen.rolled_out and seen.kept:
        return _complete(memory, seen)
    since, said = seen.surge_lacks_room_since, seen.rollout
    alone = seen.replicas == 1 or said.strategy is RolloutStrategy.SURGE
    if memory.weight and since is not None and alone and (seen.now - since).total_seconds() >= seen.patience:
        # NB: nothing else would end this: old pods go when new ones are ready, and the canary when all are new.
        why = "there is no room for new pods beside the old ones and the canary: the canary goes, and makes room"
        return _into(memory.model_copy(update={"weight": 0}), State.PROMOTING, seen, reason="NoRoom", message=why)
    return memory


# --- what follows ---------------------------------------------------------------------------------------------------


def _next_step(memory: RolloutStatus, seen: Seen) -> RolloutStatus:
    number = (memory.step or 0) + 1
    if number > len(seen.rollout.steps):
        why = "every gate has passed: the stable pods are replaced, and the canary serves on until they are"
        return _into(memory, State.PROMOTING, seen, reason="Passed", message=why)
    memory = memory.model_copy(update={"step": number, "splitSince": None})
    weight = seen.rollout.steps[number - 1].weight
    return _into(memory, State.STEP, seen, reason="Scaling", message=f"step {number}: {weight} % of the requests")


def _in_doubt(memory: RolloutStatus, seen: Seen, why: str) -> RolloutStatus:
    match seen.rollout.doubts_to:
        case OnInconclusive.PROMOTE:
            return _next_step(memory, seen)
        case OnInconclusive.PAUSE:
            return _paused(memory, seen, "Inconclusive", why)
    return _told(memory, "Inconclusive", why)


def _failed(memory: RolloutStatus, seen: Seen, reason: str, why: str) -> RolloutStatus:
    if seen.rollout.fails_to is OnFail.PAUSE:
        if memory.state == State.PAUSED:
            return memory.model_copy(update={"weight": 0, "reason": reason, "message": why[:MOST_MESSAGE]})
        return _paused(memory.model_copy(update={"weight": 0}), seen, reason, why)
    return _rejected(memory, seen, reason, why)


def _rejected(memory: RolloutStatus, seen: Seen, reason: str, why: str) -> RolloutStatus:
    note = RejectedRevision(
        revision=memory.candidate or "",
        generation=seen.generation,
        profile=memory.profile,
        reason=reason,
        at=moment(seen.now),
    )
    rejected = (*_without(memory), note)[-MOST_REJECTED:]
    memory = memory.model_copy(update={"rejected": rejected, "weight": 0, "replacesOne": None})
    return _into(memory, State.ROLLED_BACK, seen, reason=reason, message=why)


def _paused(memory: RolloutStatus, seen: Seen, reason: str, why: str) -> RolloutStatus:
    memory = memory.model_copy(update={"pausedFrom": memory.state})
    return _into(memory, State.PAUSED, seen, reason=reason, message=why)


def _broken(memory: RolloutStatus, canary: SeenCanary, seen: Seen) -> RolloutStatus | None:
    if canary.lacks_room and not canary.ready:
        return None
    if canary.trouble:
        return _failed(memory, seen, canary.trouble, f"the canary does not run: {canary.message}")
    if canary.late and not canary.ready:
        why = f"the canary was not ready within {seen.rollout.progressDeadlineSeconds} s"
        return _failed(memory, seen, "CanaryNotReady", _with_why(why, canary))
    return None


def _with_why(said: str, canary: SeenCanary) -> str:
    """Say with it what keeps the canary's pods from becoming ready, where that is known."""
    return f"{said}: {canary.message}"[:MOST_MESSAGE] if canary.message else said


def _complete(memory: RolloutStatus, seen: Seen) -> RolloutStatus:
    update = {
        "stable": seen.revision,
        "generation": seen.generation,
        "profile": seen.asked.profile or None,
        "ofProfile": None,
        "weight": 0,
        "replacesOne": None,
        "splitSince": None,
        "pausedFrom": None,
        "rejected": tuple(one for one in memory.rejected if one.revision != seen.revision),
    }
    done = memory.model_copy(update=update)
    return _into(done, State.COMPLETE, seen, message="all pods are of this revision")


def _into(memory: RolloutStatus, state: State, seen: Seen, *, message: str, reason: str | None = None) -> RolloutStatus:
    update: dict[str, Any] = {"state": str(state), "reason": reason, "message": message[:MOST_MESSAGE]}
    if state is not State.PAUSED:
        update["pausedFrom"] = None
    return memory.model_copy(update={**update, "since": moment(seen.now)})


def _told(memory: RolloutStatus, reason: str, message: str) -> RolloutStatus:
    return memory.model_copy(update={"reason": reason, "message": message[:MOST_MESSAGE]})


def _without(memory: RolloutStatus) -> tuple[RejectedRevision, ...]:
    """Give the rejected revisions but for this one."""
    return tuple(one for one in memory.rejected if one.revision != memory.candidate)


def _own(memory: RolloutStatus, seen: Seen) -> SeenCanary | None:
    """Give the canary if it is of this try: one of another is on its way out."""
    return seen.canary if seen.canary is not None and seen.canary.candidate == try_of(memory) else None


def _has_live(rollout: RolloutSpec) -> bool:
    gate = rollout.gates
    latency = gate.latency is not None and (gate.latency.ttftP95 or gate.latency.interTokenP95)
    return bool(latency or gate.errorRate or gate.costPerRequest or gate.score)


def _number(memory: RolloutStatus, seen: Seen) -> int:
    """Give the number of the step that is under way, from 1: steps may have been taken out of the spec meanwhile."""
    return min(max(memory.step or 1, 1), len(seen.rollout.steps))


def _canary_of(memory: RolloutStatus, seen: Seen) -> int | None:
    """Give how many replicas the canary is to have; None: there is to be none."""
    match memory.state:
        case State.COMPLETE | State.ROLLED_BACK:
            return None
        case State.STEP:
            return canary_replicas(seen.replicas, seen.rollout.steps[_number(memory, seen) - 1].weight)
        case State.PROMOTING if not memory.weight:
            return None
        case _:
            return canary_replicas(seen.replicas, memory.weight or 0)


def _is_drained(memory: RolloutStatus, seen: Seen) -> bool:
    """Whether no gateway sends anything to the canary that is there, as far as anybody can tell."""
    if seen.split is None or (memory.state == State.ROLLED_BACK and seen.split.weight):
        return seconds_from(memory.since, seen.now) >= DRAIN_SECONDS
    return seen.canary is None or not seen.split.weight or seen.split.id != seen.canary.candidate


def _seldom(before: RolloutStatus | None, memory: RolloutStatus, now: datetime) -> RolloutStatus:
    """Keep the numbers of before where nothing but numbers has changed, and not for long: each look would write."""
    if before is None or before.lookedAt is None or seconds_from(before.lookedAt, now) >= WRITE_SECONDS:
        same = before is not None and (before.gates, before.requests) == (memory.gates, memory.requests)
        return memory if same or memory.requests is None else memory.model_copy(update={"lookedAt": moment(now)})
    numbers = {
        "gates": before.gates,
        "requests": before.requests,
        "lookedAt": before.lookedAt,
        "message": before.message,
    }
    if _outcomes(before.gates) == _outcomes(memory.gates) and memory.model_copy(update=numbers) == before:
        return before
    return memory.model_copy(update={"lookedAt": moment(now)})


def _outcomes(gates: tuple[GateEvidence, ...]) -> dict[str, str]:
    return {one.name: one.outcome for one in gates}


def _news(before: RolloutStatus | None, memory: RolloutStatus) -> list[News]:
    """Say what a person may want to hear: another state, another step, a reason to worry."""
    if before is None:
        return []
    is_same = (before.state, before.step, before.candidate, before.attempt) == (
        memory.state,
        memory.step,
        memory.candidate,
        memory.attempt,
    )
    told = memory.message or ""
    match memory.state:
        case State.COMPLETE:
            back = memory.reason == "Back"
            return [] if is_same else [News("Normal", "RolloutEnded" if back else "Promoted", told)]
        case State.ROLLED_BACK:
            return [] if is_same else [News("Warning", "RolledBack", told)]
        case State.PAUSED:
            again = is_same and before.reason == memory.reason
            return [] if again else [News("Warning", "RolloutPaused", told)]
        case _ if not is_same:
            return [News("Normal", f"Rollout{memory.state}", told)]
        case _ if memory.reason != before.reason and memory.reason in ("NoRoom", "ReplacingOne", "Inconclusive"):
            return [News("Warning", f"Rollout{memory.reason}", told)]
    return []


def _after(memory: RolloutStatus, seen: Seen) -> float | None:
    match memory.state:
        case State.COMPLETE | State.ROLLED_BACK:
            return ACKNOWLEDGED_LOOK_SECONDS if seen.canary is not None else None
        case State.STEP if memory.splitSince is None and memory.reason == "Splitting":
            return ACKNOWLEDGED_LOOK_SECONDS
        case State.PROMOTING if seen.rolled_out and not seen.kept:
            return ACKNOWLEDGED_LOOK_SECONDS
        case State.STEP:
            return LOOK_SECONDS
        case State.PAUSED if memory.weight:
            return LOOK_SECONDS
    return REST_SECONDS
