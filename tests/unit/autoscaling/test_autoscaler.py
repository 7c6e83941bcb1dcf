"""Decisions for many models, and what is told of them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from capstan_operator.api.kinds import Model
from capstan_operator.autoscaling.autoscaler import Autoscaler
from capstan_operator.autoscaling.hpas import HpaSight
from capstan_operator.autoscaling.standing import NO_EXTERNAL_SCALER, UNKNOWN, USABLE, Standing
from capstan_operator.desired.autoscaler import NOTHING_SAID, ScalerEndpoint, ScalerSays, Use
from capstan_operator.desired.scaled_object import ScaledObjectState
from capstan_operator.resources.resource import Manifest, ObjectKey
from capstan_operator.scaling.decision import Limit
from capstan_operator.scaling.demand import Demand
from capstan_operator.status.scaling import Scaled, scaling_fields
from support.plainmodels import make_model

KEY = ObjectKey("team", "llama")


@dataclass
class World:
    """An autoscaler, a clock, and what gateways say."""

    demand: Demand | None = None
    time: datetime = datetime(2026, 5, 4, 12, tzinfo=UTC)
    woken: list[ObjectKey] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)
    standing: Standing = USABLE
    keda: Standing = NO_EXTERNAL_SCALER

    def __post_init__(self) -> None:
        self.autoscaler = self.process()

    def process(self) -> Autoscaler:
        """Give the part of a new process."""
        return Autoscaler(
            lambda _: self.demand,
            standing=lambda: self.standing,
            keda=lambda: self.keda,
            wake=self.woken.append,
            record=lambda _, __, reason, note: self.events.append((reason, note)),
            now=lambda: self.time,
            clock=lambda: self.time.timestamp(),
        )

    def step(self, times: int = 1, seconds: float = 1.0) -> list[ObjectKey]:
        """Decide so many times; give who was woken."""
        self.woken.clear()
        for _ in range(times):
            self.autoscaler.step()
            self.time += timedelta(seconds=seconds)
        return list(self.woken)


BEFORE = {"capstan.dev/replicas-from": "Autoscaler"}
OURS: dict[str, Any] = {"strategy": "Capstan"}


def scaled(**scaling: Any) -> Model:
    """A model with `scaling`."""
    return make_model(scaling={"max": 5, **OURS, **scaling})


def deployment(replicas: int, ready: int | None = None) -> Manifest:
    """What there is."""
    return {
        "metadata": {},
        "spec": {"replicas": replicas},
        "status": {"readyReplicas": replicas if ready is None else ready},
    }


def test_a_model_is_woken_when_another_number_is_decided() -> None:
    """Once, and an Event tells of it when it is written."""
    world = World(Demand(in_flight=100))
    world.autoscaler.tell(scaled(), deployment(1))
    assert world.autoscaler.says(KEY).replicas is None
    assert world.step(3) == [KEY]
    assert world.autoscaler.says(KEY).replicas == 4
    assert world.events == []
    world.autoscaler.tell(scaled(), deployment(4))
    world.autoscaler.tell(scaled(), deployment(4))
    assert world.events == [("Scaled", "4 replicas: more is asked for")]
    assert world.step(3) == []


def test_what_needs_no_write_wakes_nobody() -> None:
    """A demand that wavers below the target, a second each way at a bound, and short pauses are no news."""
    world = World(Demand(in_flight=10))
    world.autoscaler.tell(scaled(max=1), deployment(1))
    assert world.step() == [KEY]  # what is asked of it is known from now on
    for number in range(60):
        world.demand = Demand(in_flight=(10, 50, 0)[number % 3])
        assert world.step() == []


def test_a_pause_that_takes_nothing_to_zero_is_no_news() -> None:
    """One request now and then, with a `min` of 1, or of 0 as long as half the idle time has not passed."""
    for least in (0, 1):
        world = World(Demand())
        world.autoscaler.tell(scaled(min=least, max=1), deployment(1))
        world.step(20)  # that its minimum is more than enough is told once
        for _ in range(20):
            world.demand = Demand(came=True)
            assert world.step() == []
            world.demand = Demand()
            assert world.step(200) == []
    world = World(Demand())
    world.autoscaler.tell(scaled(min=1), deployment(1))
    world.step(20)
    assert world.step(2000) == []


def test_a_limit_that_lasts_is_told() -> None:
    """More than `max` for ten seconds."""
    world = World(Demand(in_flight=500))
    world.autoscaler.tell(scaled(max=1), deployment(1))
    world.step()
    assert world.step(15) == [KEY]
    found = world.autoscaler.scaled(KEY)
    assert found
    assert found.limited_by is Limit.MAX


def test_silence_is_told_after_a_while() -> None:
    """Not yet known is not unknown; what was known and is not any more is told after 15 s."""
    world = World()
    world.autoscaler.tell(scaled(), deployment(2))
    world.step(10)
    assert world.autoscaler.scaled(KEY) == Scaled(known=None, desired=2)
    world.demand = Demand(in_flight=40)
    assert world.step() == [KEY]
    world.demand = None
    assert world.step(15) == []
    assert world.step(2) == [KEY]
    assert world.autoscaler.scaled(KEY) == Scaled(known=False, desired=2)


def test_while_nothing_is_known_the_number_is_anybodys() -> None:
    """But for what a schedule asks for; as soon as something is known it is ours."""
    world = World(time=datetime(2026, 5, 4, 7, 59, 58, tzinfo=UTC))
    model = scaled(schedules=[{"cron": "0 8 * * *", "min": 3}, {"cron": "0 18 * * *", "min": 1}])
    world.autoscaler.tell(model, deployment(2))
    world.step()
    assert world.autoscaler.says(KEY).replicas is None
    world.autoscaler.tell(model, deployment(1))
    assert world.autoscaler.says(KEY).replicas is None
    assert KEY in world.step(3)
    assert world.autoscaler.says(KEY).replicas == 3
    world.demand = Demand(in_flight=140)
    world.autoscaler.tell(model, deployment(3))
    world.step()
    assert world.autoscaler.says(KEY).replicas == 5


def test_a_new_process_goes_on_from_the_status() -> None:
    """Since when nothing was asked, and when and why the number was changed last."""
    world = World(Demand())
    resting = {"min": 0, "idleSeconds": 300, "scaleDownStabilizationSeconds": 60}
    world.autoscaler.tell(scaled(**resting), deployment(1))
    world.step(200)
    found = world.autoscaler.scaled(KEY)
    status = {"scaling": scaling_fields(found)}
    assert status["scaling"]["idleSince"] == "2026-05-04T12:00:00Z"

    world.autoscaler = world.process()
    again = make_model(scaling={"max": 5, **OURS, **resting}, status=status)
    world.autoscaler.tell(again, deployment(1))
    world.step(99)
    assert world.autoscaler.says(KEY).replicas == 1
    world.step(3)
    assert world.autoscaler.says(KEY).replicas == 0
    found = world.autoscaler.scaled(KEY)
    assert found
    assert found.reason == "Idle"


def test_a_status_that_cannot_be_read_is_as_none() -> None:
    """Somebody may have written anything into it."""
    world = World(Demand())
    told = make_model(
        scaling={"max": 5, **OURS}, status={"scaling": {"idleSince": "yesterday", "lastScaleTime": "2026-01-01"}}
    )
    world.autoscaler.tell(told, deployment(1))
    assert world.autoscaler.scaled(KEY) == Scaled(known=None)


def test_who_is_not_scaled_here_is_forgotten() -> None:
    """No `scaling`, somebody else's or left to others by a release before, no engine, no Deployment, gone, unlisted."""
    world = World(Demand(in_flight=100))
    others = (
        (make_model(), deployment(1)),
        (scaled(strategy="External"), deployment(1)),
        (make_model(external={"url": "https://api.example.com/v1"}), None),
        (scaled(), None),
        (scaled(strategy=None), {**deployment(1), "metadata": {"annotations": BEFORE}}),
    )
    for model, live in others:
        world.autoscaler.tell(scaled(), deployment(1))
        assert len(world.autoscaler) == 1
        world.autoscaler.tell(model, live)
        assert len(world.autoscaler) == 0
    world.autoscaler.tell(scaled(), deployment(1))
    world.autoscaler.keep_only([KEY])
    assert world.step() == [KEY]
    world.autoscaler.keep_only([])
    assert world.step() == []
    assert world.autoscaler.says(KEY).replicas is None


def test_a_model_made_anew_begins_anew() -> None:
    """Another uid under the same name has nothing of the former one."""
    world = World(Demand(in_flight=100))
    world.autoscaler.tell(scaled(), deployment(1))
    world.step()
    again = scaled()
    object.__setattr__(again, "uid", "another")
    world.autoscaler.tell(again, deployment(1))
    assert world.autoscaler.says(KEY).replicas is None


HPA: dict[str, Any] = {"strategy": "HPA"}


def test_an_hpa_says_how_many_there_are_above_zero() -> None:
    """To zero and from zero it is the operator, to the minimum at most."""
    world = World(Demand(in_flight=100))
    model = scaled(min=0, idleSeconds=20, coldStartSeconds=5, **HPA)
    world.autoscaler.tell(model, deployment(2))
    assert world.autoscaler.says(KEY) == NOTHING_SAID
    assert world.step() == [KEY]
    assert world.autoscaler.says(KEY) == ScalerSays(None, Use.APPLY, 0)
    world.demand = Demand()
    world.step(25)
    assert world.autoscaler.says(KEY).replicas == 0
    world.autoscaler.tell(model, deployment(0))
    assert world.events == [("Scaled", "0 replicas: nothing was asked for")]
    assert world.step(5) == []
    world.demand = Demand(waiting=100)
    assert world.step() == [KEY]
    assert world.autoscaler.says(KEY).replicas == 1
    world.autoscaler.tell(model, deployment(1, ready=0))
    assert world.autoscaler.says(KEY).replicas is None
    assert world.step(5) == []


def test_where_an_hpa_cannot_be_used_the_operator_scales() -> None:
    """Where somebody else serves the API, or HPAs may not be listed; and that is told."""
    for standing, may in ((Standing(False, "it is served by somebody else"), True), (USABLE, False)):
        world = World(Demand(in_flight=100), standing=standing)
        world.autoscaler.tell(scaled(**HPA), deployment(1), may_have_hpa=may)
        world.step()
        assert world.autoscaler.says(KEY) == ScalerSays(4, Use.NONE, 1)
        found = world.autoscaler.scaled(KEY)
        assert found
        assert found.without_hpa


def test_as_long_as_it_is_not_known_what_is_there_stays() -> None:
    """A process that has begun takes no HPA away, and one that finds out that it can be used says so."""
    world = World(Demand(in_flight=100), standing=UNKNOWN)
    world.autoscaler.tell(scaled(**HPA), deployment(1))
    world.step()
    assert world.autoscaler.says(KEY) == ScalerSays(None, Use.HOLD, 1)
    assert world.step() == []
    world.standing = USABLE
    assert world.step() == [KEY]
    assert world.autoscaler.says(KEY).hpa is Use.APPLY


def test_a_schedule_is_for_the_hpa_too() -> None:
    """Its minimum follows when one begins."""
    world = World(Demand(in_flight=1), time=datetime(2026, 5, 4, 7, 59, 58, tzinfo=UTC))
    schedules = [{"cron": "0 8 * * *", "min": 3}, {"cron": "0 18 * * *", "min": 1}]
    world.autoscaler.tell(scaled(schedules=schedules, **HPA), deployment(1))
    assert world.step() == [KEY]
    assert world.autoscaler.says(KEY).least == 1
    assert world.step(3) == [KEY]
    assert world.autoscaler.says(KEY) == ScalerSays(None, Use.APPLY, 3)


def test_only_models_of_the_strategy_want_hpas() -> None:
    """Where there is none, nobody registers an API."""
    world = World()
    world.autoscaler.tell(scaled(), deployment(1))
    assert not world.autoscaler.wants_hpas
    world.autoscaler.tell(scaled(**HPA), deployment(1))
    assert world.autoscaler.wants_hpas


ENDPOINT = ScalerEndpoint("scaler.capstan-system.svc:6444", "pem")
KEDA_THERE = Standing(True, endpoint=ENDPOINT)


def by_keda(**scaling: Any) -> Model:
    """A model that asks for KEDA."""
    return scaled(strategy="KEDA", **scaling)


def test_what_keda_scales_the_operator_never_writes() -> None:
    """Neither from zero nor to zero, neither above the bounds nor below; KEDA is told the least of the moment."""
    world = World(Demand(waiting=100), keda=KEDA_THERE)
    model = by_keda(min=1, schedules=[{"cron": "0 8 * * *", "min": 2}])
    for replicas in (0, 1, 2, 9):
        world.autoscaler.tell(model, deployment(replicas), scaled_object=ScaledObjectState())
        world.step()
        assert world.autoscaler.says(KEY) == ScalerSays(None, Use.NONE, 2, keda=Use.APPLY, endpoint=ENDPOINT)
    world.demand = Demand()
    world.step(5000)
    assert world.autoscaler.says(KEY).replicas is None
    world.demand = None
    world.step(60)
    assert world.autoscaler.says(KEY).replicas is None
    assert world.autoscaler.wants_keda
    assert not world.autoscaler.wants_hpas


def test_without_keda_the_operator_scales_and_says_why() -> None:
    """Until it comes; it is told once, and the number is KEDA's from then on."""
    world = World(Demand(waiting=100), keda=Standing(False, "it is not there"))
    world.autoscaler.tell(by_keda(), deployment(1))
    assert world.step() == [KEY]
    assert world.autoscaler.says(KEY) == ScalerSays(4, Use.NONE, 1)
    found = world.autoscaler.scaled(KEY)
    assert found
    assert (found.without_keda, found.by_keda) == ("it is not there", False)
    world.keda = KEDA_THERE
    assert world.step(3) == [KEY]
    assert world.autoscaler.says(KEY) == ScalerSays(None, Use.NONE, 1, keda=Use.APPLY, endpoint=ENDPOINT)


def test_as_long_as_it_is_not_known_whether_keda_is_there_nobody_writes() -> None:
    """A new process takes nothing over before it has looked."""
    world = World(Demand(waiting=100), keda=UNKNOWN)
    world.autoscaler.tell(by_keda(), deployment(0))
    world.step(3)
    assert world.autoscaler.says(KEY) == ScalerSays(None, Use.NONE, 1, keda=Use.HOLD)


def test_another_endpoint_is_news() -> None:
    """As when the authority of the external scaler gets a successor."""
    world = World(Demand(in_flight=1), keda=KEDA_THERE)
    world.autoscaler.tell(by_keda(), deployment(1))
    world.step(3)
    other = ScalerEndpoint(ENDPOINT.address, "another pem")
    world.keda = Standing(True, endpoint=other)
    assert world.step(3) == [KEY]
    assert world.autoscaler.says(KEY).endpoint == other


@pytest.mark.parametrize("strategy", ["Capstan", "HPA", "KEDA"])
def test_nobody_else_scales_before_keda_has_let_go(strategy: str) -> None:
    """A ScaledObject that was deleted is there until KEDA has taken its finalizer away; with it goes KEDA's HPA."""
    world = World(Demand(waiting=100), keda=Standing(False, "switched off"))
    going = ScaledObjectState(is_going=True)
    world.autoscaler.tell(scaled(strategy=strategy), deployment(1), scaled_object=going)
    world.step()
    assert world.autoscaler.with_scaled_objects == {KEY}
    says = world.autoscaler.says(KEY)
    assert (says.replicas, says.hpa is Use.APPLY) == (None, False)
    world.autoscaler.tell(scaled(strategy=strategy), deployment(1))
    world.step()
    assert world.autoscaler.with_scaled_objects == frozenset()
    says = world.autoscaler.says(KEY)
    assert (says.replicas, says.hpa) == ((None, Use.APPLY) if strategy == "HPA" else (4, Use.NONE))


def test_the_bounds_hold_while_nothing_is_known_without_keda() -> None:
    """As with the operator's own scaler: a number above the maximum is brought down to it."""
    world = World(keda=Standing(False, "it is not there"))
    world.autoscaler.tell(by_keda(max=3), deployment(7))
    world.step()
    assert world.autoscaler.says(KEY).replicas == 3


def test_a_faulty_edit_is_scaled_as_before() -> None:
    """What serves is what was there before the edit: a model at zero wakes, and is counted as it stands; a new process
    goes by what it can read."""
    world = World(Demand(waiting=1))
    world.autoscaler.tell(scaled(min=0), deployment(0))
    world.autoscaler.look(make_model(scaling={"max": -1}), deployment(0))
    world.step(3)
    assert world.autoscaler.says(KEY).replicas == 1
    world.autoscaler.look(make_model(scaling={"max": -1}), deployment(1))
    assert world.events == [("Scaled", "1 replica: a request waits")]
    world.autoscaler = world.process()
    world.autoscaler.look(make_model(scaling={"max": -1}), deployment(0))
    assert len(world.autoscaler) == 0
    readable = scaled(min=0)
    world.autoscaler.look(readable, deployment(0))
    world.step(3)
    assert world.autoscaler.says(KEY).replicas == 1


def test_what_is_seen_of_hpas_is_told() -> None:
    """Others' for any model that is scaled here; why ours does not work only where there is to be one; what KEDA has of
    a model that it was to scale, while the operator does."""
    world, sight = World(Demand()), HpaSight(("mine",), "AbleToScale is False", ("keda-hpa-llama-model",))
    world.autoscaler = Autoscaler(
        lambda _: world.demand,
        standing=lambda: world.standing,
        hpas=lambda _: sight,
        wake=world.woken.append,
        record=lambda *_: None,
        now=lambda: world.time,
        clock=lambda: world.time.timestamp(),
    )
    for strategy, problem in (("HPA", "AbleToScale is False"), ("Capstan", "")):
        world.autoscaler.tell(scaled(strategy=strategy), deployment(1))
        assert world.step() == [KEY]
        told = world.autoscaler.scaled(KEY)
        assert told is not None
        assert (told.rivals, told.hpa_problem) == (("mine",), problem)
    world.autoscaler.tell(scaled(strategy="KEDA"), deployment(1))
    world.step()
    told = world.autoscaler.scaled(KEY)
    assert told is not None
    assert told.rivals == ("mine", "keda-hpa-llama-model")
