"""How many replicas a model has when a scaler says so: bounds, targets, times."""

from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import Field, StringConstraints

from capstan_operator.api.patterns import CRON, POSITIVE_DECIMAL, TIME_ZONE
from capstan_operator.api.rules import scaling
from capstan_operator.api.schema import Part, Rule, bounded_list

IN_FLIGHT: Final = 32
SCALE_UP_SECONDS: Final = 0
SCALE_DOWN_SECONDS: Final = 300
IDLE_SECONDS: Final = 600
COLD_START_SECONDS: Final = scaling.COLD_START_SECONDS
PREEMPT_AFTER_SECONDS: Final = scaling.PREEMPT_AFTER_SECONDS


class ScalingStrategy(StrEnum):
    """Who says how many replicas there are, above zero."""

    HPA = "HPA"
    CAPSTAN = "Capstan"
    KEDA = "KEDA"
    EXTERNAL = "External"


class ScalingTargets(Part):
    """What a replica is meant to bear. Of several targets the one counts that asks for most replicas."""

    inFlightPerReplica: int | None = Field(default=None, ge=1, le=100_000)
    """Requests of one replica: those that it works on, and its share of those that wait. Default: 32, unless
    `tokensPerSecond` is set."""
    tokensPerSecond: int | None = Field(default=None, ge=1, le=100_000_000)
    """Tokens of one replica per second, prompt and output together."""
    queueWaitSeconds: int | None = Field(default=None, ge=1, le=3600)
    """How long the oldest request that waits may have waited. It adds replicas, and keeps those that there are while
    it is nearly reached; it takes none away."""
    timeToFirstTokenSeconds: (
        Annotated[str, StringConstraints(min_length=1, max_length=16, pattern=POSITIVE_DECIMAL)] | None
    ) = None
    """How long 95 of 100 streams may take to their first token, as a decimal number in quotes ("1.5"). As
    `queueWaitSeconds`, it takes no replica away."""
    kvCacheUtilization: int | None = Field(default=None, ge=1, le=100)
    """How full the KV caches of the ready replicas may be on average, in percent, as the engines tell: vLLM, SGLang and
    the simulator. `inFlightPerReplica` counts beside it."""


class ScalingSchedule(Part):
    """From when on there are so many replicas at least."""

    cron: Annotated[str, StringConstraints(min_length=9, max_length=128, pattern=CRON)]
    """When it begins to hold, until the next one begins: minute, hour, day of the month, month, day of the week."""
    timeZone: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=TIME_ZONE)] | None = None
    """Time zone of `cron`: a name of the IANA database. Default: UTC."""
    min: int = Field(ge=0, le=1000)
    """Fewest replicas meanwhile, in place of `scaling.min`."""


class Scaling(Part):
    """Leave the number of replicas to a scaler, within bounds. `{min: 0, max: 3}` is enough."""

    min: int = Field(default=1, ge=0, le=1000)
    """Fewest replicas; 0 lets the model go idle, and the first request wakes it."""
    max: int = Field(ge=1, le=1000)
    """Most replicas."""
    strategy: Annotated[ScalingStrategy, Field(strict=False)] | None = None
    """Who says how many replicas there are above zero, by what is asked of the model at all gateways. HPA: a
    HorizontalPodAutoscaler that the operator makes and serves the metric of; where another adapter serves
    external.metrics.k8s.io, as Capstan. Capstan: the operator itself. To zero and from zero it is the operator with
    both. KEDA: KEDA, by a ScaledObject that the operator makes and answers the questions of, also to zero and from
    zero; where KEDA is not installed, as Capstan. External: somebody else, by the scale subresource of the LLMModel or
    of its Deployment; the operator never writes it on its own account. Default: HPA."""
    targets: ScalingTargets | None = None
    """What a replica is meant to bear."""
    scaleUpStabilizationSeconds: int | None = Field(default=None, ge=0, le=3600)
    """For how long more replicas have to be asked for before there are more. Twice what there is, or a model at zero,
    does not wait. Default: 0."""
    scaleDownStabilizationSeconds: int | None = Field(default=None, ge=0, le=86400)
    """For how long fewer replicas have to be enough before there are fewer; an HPA takes an hour at most for more.
    Default: 300."""
    idleSeconds: int | None = Field(default=None, ge=1, le=604800)
    """How long nothing has to be asked of the model before it goes to zero replicas, where `min` is 0. It must be
    longer than `coldStartSeconds`. Default: 600, or twice `coldStartSeconds` where that is more."""
    coldStartSeconds: int | None = Field(default=None, ge=1, le=3600)
    """About how long a replica takes to become ready: what goes to zero sooner than it comes back helps nobody.
    Default: 120."""
    schedules: tuple[ScalingSchedule, ...] = bounded_list(16)
    """Other values of `min` at certain times: that of the schedule counts that has begun last."""

    priority: int | None = Field(default=None, ge=-1000, le=1000)
    """Who goes first when GPUs are few: the model with the higher number, before those that are `preemptible`. Equal
    ones do not give way to each other. Default: 0."""
    preemptible: bool | None = None
    """Whether it gives way to models of a higher `priority` that have work and no GPU: it goes to zero replicas for
    them when it is idle, whatever `min` says, and waits with further ones. Default: false."""

    preemptAfterSeconds: int | None = Field(default=None, ge=1, le=3600)
    """For how long no node must have taken a replica, for want of GPUs, before `preemptible` models give way to this
    one. Where nodes are made on demand: a little longer than that takes. Default: 15."""

    rules: ClassVar[tuple[Rule, ...]] = scaling.SCALING

    @property
    def rank(self) -> int:
        """`priority`, with the default."""
        return self.priority or 0

    @property
    def preempt_after(self) -> int:
        """`preemptAfterSeconds`, with the default."""
        return PREEMPT_AFTER_SECONDS if self.preemptAfterSeconds is None else self.preemptAfterSeconds

    @property
    def gives_way(self) -> bool:
        """`preemptible`, with the default."""
        return bool(self.preemptible)

    @property
    def follows(self) -> ScalingStrategy:
        """Who says how many replicas there are, also where nothing is said.

        NB: what has a default is optional, and has it here: an API server would write it into every LLMModel, and an
        operator of a release that does not know the field would then find each of them faulty.
        """
        return self.strategy or ScalingStrategy.HPA

    @property
    def is_external(self) -> bool:
        """Whether the operator leaves the number to somebody else."""
        return self.follows is ScalingStrategy.EXTERNAL

    @property
    def aims(self) -> ScalingTargets:
        """What a replica is meant to bear, with the default."""
        said = self.targets or ScalingTargets()
        if said.inFlightPerReplica is None and said.tokensPerSecond is None:
            return said.model_copy(update={"inFlightPerReplica": IN_FLIGHT})
        return said

    @property
    def up_seconds(self) -> int:
        """`scaleUpStabilizationSeconds`, with the default."""
        return SCALE_UP_SECONDS if self.scaleUpStabilizationSeconds is None else self.scaleUpStabilizationSeconds

    @property
    def down_seconds(self) -> int:
        """`scaleDownStabilizationSeconds`, with the default."""
        return SCALE_DOWN_SECONDS if self.scaleDownStabilizationSeconds is None else self.scaleDownStabilizationSeconds

    @property
    def cold_start(self) -> int:
        """`coldStartSeconds`, with the default."""
        return self.coldStartSeconds or COLD_START_SECONDS

    @property
    def idle_for(self) -> int:
        """`idleSeconds`, with the default."""
        return self.idleSeconds or max(IDLE_SECONDS, 2 * self.cold_start)
