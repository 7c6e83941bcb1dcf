"""How the pods are replaced when their template changes: at once, or in steps of traffic with gates before each."""

from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import Field, StringConstraints

from capstan_operator.api.parts import DataKey
from capstan_operator.api.patterns import POSITIVE_DECIMAL, SHARE
from capstan_operator.api.rules import rollout
from capstan_operator.api.schema import ObjectName, Part, Rule, SubdomainName, bounded_list, listed_by

SUITE_KEY: Final = "suite.yaml"
STEP_SECONDS: Final = 300
STEP_REQUESTS: Final = 100
GATE_SECONDS: Final = 3600

Ratio = Annotated[str, StringConstraints(min_length=1, max_length=16, pattern=POSITIVE_DECIMAL)]
Share = Annotated[str, StringConstraints(min_length=1, max_length=8, pattern=SHARE)]
Text = Annotated[str, StringConstraints(max_length=1024)]
Word = Annotated[str, StringConstraints(max_length=64)]


class RolloutStrategy(StrEnum):
    """How pods of an older template are replaced."""

    AUTO = "Auto"
    SURGE = "Surge"
    IN_PLACE = "InPlace"


class OnFail(StrEnum):
    """What follows when a gate fails."""

    ROLLBACK = "Rollback"
    PAUSE = "Pause"


class OnInconclusive(StrEnum):
    """What follows when nobody can tell at the end of a step, or of the suites."""

    WAIT = "Wait"
    PAUSE = "Pause"
    PROMOTE = "Promote"


class WhenNoRoom(StrEnum):
    """What follows when there is no GPU for the canary."""

    WAIT = "Wait"
    REPLACE_ONE = "ReplaceOne"


class RolloutStep(Part):
    """A share of the requests that the canary answers, and for how long."""

    weight: int = Field(ge=1, le=100)
    """Of a hundred users (or requests that name none) so many are answered by the canary: always the same ones."""
    seconds: int | None = Field(default=None, ge=0, le=604_800)
    """How long the step lasts at least, from when every gateway splits so. Default: 300."""
    minimumRequests: int | None = Field(default=None, ge=0, le=100_000_000)
    """How many requests the canary must have answered, since it was given any, before the step can end. Default:
    100."""

    @property
    def lasts(self) -> int:
        """`seconds`, with the default."""
        return STEP_SECONDS if self.seconds is None else self.seconds

    @property
    def needs(self) -> int:
        """`minimumRequests`, with the default."""
        return STEP_REQUESTS if self.minimumRequests is None else self.minimumRequests


class RolloutSuite(Part):
    """A suite in a ConfigMap of the namespace (docs/evaluation-suites.md)."""

    configMap: SubdomainName
    """Name of the ConfigMap."""
    key: DataKey | None = None
    """Key in its data. Data files of the suite are further keys of it. Default: suite.yaml."""

    @property
    def file(self) -> str:
        """`key`, with the default."""
        return self.key or SUITE_KEY


class RolloutJudge(Part):
    """Who judges answers where a suite asks for it."""

    name: ObjectName
    """Name of an LLMModel of the namespace that runs on an engine. It is asked directly, without the gateway."""


class LatencyGate(Part):
    """How much slower the canary may be than the stable pods in the same hours, as ratios in quotes ("1.2")."""

    ttftP95: Ratio | None = None
    """The time to the first token that 95 of 100 streams keep to."""
    interTokenP95: Ratio | None = None
    """The time between two tokens that 95 of 100 keep to."""


class RolloutGate(Part):
    """What a canary has to pass. What is not named is not asked."""

    suites: tuple[RolloutSuite, ...] = bounded_list(8)
    """Suites that are run against the canary and the stable pods before the canary gets any traffic; the canary must
    not be worse by more than the margin that each suite says."""
    safety: tuple[RolloutSuite, ...] = bounded_list(8)
    """Suites of prompts that must be refused, and of benign ones that must not: they have bars of their own, and the
    stable pods are not asked."""
    judge: RolloutJudge | None = None
    """Who judges answers where a suite asks for it."""
    deadlineSeconds: int | None = Field(default=None, ge=10, le=86_400)
    """How long the suites may take altogether; then they have not been run. Default: 3600."""
    latency: LatencyGate | None = None
    """Live, at each step: how much slower the canary may be."""
    errorRate: Share | None = None
    """Live: by how much the share of failed requests may be larger than at the stable pods, as a difference ("0.01" is
    one request of a hundred)."""
    costPerRequest: Ratio | None = None
    """Live: how much more a request may cost on average than at the stable pods, as a ratio ("1.1")."""
    score: Share | None = None
    """Live: by how much the mean of the scores of sampled answers (`spec.evaluation`) may be lower than at the stable
    pods, as a difference."""

    rules: ClassVar[tuple[Rule, ...]] = rollout.GATE

    @property
    def deadline(self) -> int:
        """`deadlineSeconds`, with the default."""
        return self.deadlineSeconds or GATE_SECONDS

    @property
    def is_run(self) -> bool:
        """Whether there is a suite to run before any traffic."""
        return bool(self.suites or self.safety)


class RolloutSpec(Part):
    """How the pods are replaced when their template changes."""

    strategy: RolloutStrategy = Field(default=RolloutStrategy.AUTO, strict=False)
    """Surge: a new pod first, and an old one goes only when it is ready. InPlace: an old pod first, which needs no
    spare GPU and takes a replica away until the new one is ready. Auto: Surge, and InPlace for several replicas when no
    node or quota has the GPUs of one more for longer than `patienceSeconds`."""
    patienceSeconds: int | None = Field(default=None, ge=0, le=86400)
    """How long a new pod may wait for GPUs that old ones hold, before Auto goes on in place or a person is called.
    Default: the operator's setting, 5 minutes."""
    startupSeconds: int = Field(default=3600, ge=10, le=86400)
    """How long a pod may take to load before its container is started again. A change makes new pods."""
    progressDeadlineSeconds: int = Field(default=3600, ge=10, le=86400)
    """How long a rollout may make no progress before a person is called; a canary that is not ready by then fails."""
    steps: tuple[RolloutStep, ...] = bounded_list(16, json_schema_extra=listed_by("weight"))
    """Try a change of the pods on a canary first, with a share of the requests that grows with each step. What comes
    after the last one is promoted: the pods are replaced as without steps, while the canary serves on. The weights must
    rise; the last one may be less than 100. Without steps pods are replaced at once. See docs/rollouts.md."""
    gate: RolloutGate | None = None
    """What the canary has to pass. Only with `steps`."""
    onFail: Annotated[OnFail, Field(strict=False)] | None = None
    """What follows when a gate fails. In both cases the canary gets no more requests, at once, and the pods that were
    there serve on. Rollback: it goes, and this revision is not tried again until the spec changes. Pause: it stays for
    people to look at, until one says how to go on. Default: Rollback."""
    onInconclusive: Annotated[OnInconclusive, Field(strict=False)] | None = None
    """What follows when nobody can tell at the end of a step, or of the suites. Wait: the step goes on until it can be
    told; suites are not run again by themselves. Pause: the canary keeps its share until a person says how to go on.
    Promote: on to the next step. Default: Wait."""
    whenNoRoom: Annotated[WhenNoRoom, Field(strict=False)] | None = None
    """What follows when there is no GPU for the canary for longer than `patienceSeconds`. Wait: it waits. ReplaceOne:
    one of the stable replicas makes room for it, never the last. Default: Wait."""

    rules: ClassVar[tuple[Rule, ...]] = rollout.ROLLOUT

    @property
    def gates(self) -> RolloutGate:
        """`gate`, with the default."""
        return self.gate or RolloutGate()

    @property
    def fails_to(self) -> OnFail:
        """`onFail`, with the default."""
        return self.onFail or OnFail.ROLLBACK

    @property
    def doubts_to(self) -> OnInconclusive:
        """`onInconclusive`, with the default."""
        return self.onInconclusive or OnInconclusive.WAIT

    @property
    def gives_one(self) -> bool:
        """Whether a stable replica makes room for a canary that finds none."""
        return self.whenNoRoom is WhenNoRoom.REPLACE_ONE


class GateEvidence(Part):
    """What one gate has said last. Numbers are decimal numbers in strings."""

    name: Annotated[str, StringConstraints(max_length=128)]
    """suite/NAME, the same with a scorer or bar of it, or latency.ttftP95, errorRate, ..."""
    outcome: Word
    """Pass, Fail or Inconclusive; Informs of what may not decide."""
    step: int | None = Field(default=None, ge=0)
    """Of a live gate: at which step, counted from 1."""
    hash: Word | None = None
    """Of a suite: the beginning of its SHA-256."""
    limit: Word | None = None
    """What it is held against."""
    stable: Word | None = None
    """The stable pods' number."""
    candidate: Word | None = None
    """The canary's."""
    difference: Word | None = None
    """Canary minus stable, or the ratio of the two where the limit is one."""
    low: Word | None = None
    """Lower end of its interval."""
    high: Word | None = None
    """Upper end."""
    count: int | None = Field(default=None, ge=0)
    """Cases, or requests of the canary, that it is of."""


class RejectedRevision(Part):
    """A revision that is not tried again until the spec changes, or a person says so."""

    revision: Word
    """Its revision."""
    generation: int = Field(ge=0)
    """The generation of the LLMModel that had it."""
    profile: Word | None = None
    """A hash of what its profile gave to it."""
    reason: Word
    """Why."""
    at: Word
    """When."""


class RolloutAction(Part):
    """The last annotation `capstan.dev/rollout-action` that was seen, and followed when it was of what was tried."""

    action: Annotated[str, StringConstraints(max_length=128)]
    """What it said."""
    at: Word
    """When."""
    by: Annotated[str, StringConstraints(max_length=256)] | None = None
    """Who wrote it, as far as the API server tells: the field manager."""


class RolloutStatus(Part):
    """A rollout with `steps`: what is decided, and why. The operator goes on from here after any interruption."""

    state: Word
    """Complete, Starting (the canary comes up), Evaluating (the suites run), Step, Promoting (all pods are replaced),
    Paused or RolledBack."""
    reason: Word | None = None
    """Why, for programs."""
    message: Text | None = None
    """Why, for people."""
    stable: Word | None = None
    """Revision of the pods that serve."""
    candidate: Word | None = None
    """Revision that is tried."""
    generation: int | None = Field(default=None, ge=0)
    """The newest generation of the LLMModel that has this candidate."""
    profile: Word | None = None
    """A hash of what the model's profile gives to this candidate; with another one it is another revision."""
    ofProfile: bool | None = None
    """Whether it was the profile alone that changed: such rollouts are few at a time."""
    attempt: int | None = Field(default=None, ge=1)
    """How often it was begun."""
    step: int | None = Field(default=None, ge=0)
    """The present step, counted from 1; 0: none yet."""
    weight: int | None = Field(default=None, ge=0, le=100)
    """Share of the requests that the canary is to have, in percent."""
    began: Word | None = None
    """When the rollout began."""
    since: Word | None = None
    """When the present state, or step, began."""
    splitSince: Word | None = None
    """Since when every gateway splits by `weight`."""
    requests: int | None = Field(default=None, ge=0)
    """Requests that the canary has answered."""
    lookedAt: Word | None = None
    """When that, and the numbers of live gates, were written last."""
    pausedFrom: Word | None = None
    """The state that was paused."""
    replacesOne: bool | None = None
    """Whether a stable replica has made room for the canary."""
    gates: tuple[GateEvidence, ...] = bounded_list(64, json_schema_extra=listed_by("name"))
    """What each gate has said last."""
    rejected: tuple[RejectedRevision, ...] = bounded_list(10, json_schema_extra=listed_by("revision"))
    """Revisions that are not tried again, the newest last."""
    action: RolloutAction | None = None
    """What a person has asked for last."""
