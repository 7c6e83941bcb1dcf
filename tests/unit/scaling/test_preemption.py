"""Who gives way to whom, one moment after the other."""

from dataclasses import replace

from capstan_operator.resources.resource import ObjectKey
from capstan_operator.scaling.preemption import GRANTED_SECONDS, Contender, Preemption


def _model(name: str, **fields: object) -> Contender:
    given = {
        "key": ObjectKey("team", name), "priority": 0, "preemptible": True, "resource": "nvidia.com/gpu", "gpus": 1,
        "place": "", "wanted": 1, "placed": 1, "starved": 0, "has_work": False, "idle_seconds": 600.0,
    }  # fmt: skip
    return Contender(**{**given, **fields})  # type: ignore[arg-type]


BUSY = _model("busy", priority=5, placed=0, starved=1, has_work=True, idle_seconds=None)


def _gone(preemption: Preemption, clock: float, *models: Contender) -> list[str]:
    return sorted(key.name for key in preemption.decide(models, clock))


def test_what_is_given_up_is_waited_for() -> None:
    """A replica that is leaving takes its time: the next model goes only when that was in vain."""
    preemption, models = Preemption(), (_model("a"), _model("b"), BUSY)
    assert _gone(preemption, 0.0, *models) == ["a"]
    assert _gone(preemption, GRANTED_SECONDS - 1, *models) == ["a"]
    assert _gone(preemption, GRANTED_SECONDS, *models) == ["a", "b"]


def test_less_and_less_is_given_up_in_vain() -> None:
    """What the model lacks may be something else than GPUs; a replica that it gets shows that it was not."""
    preemption, idle = Preemption(), [_model(name) for name in "abcdef"]
    gone = {float(at): len(_gone(preemption, float(at), *idle, BUSY)) for at in range(0, 1000, 10)}
    assert [at for at in gone if gone[at] > gone.get(at - 10, 0)] == [0, 120, 360, 840]
    preemption = Preemption()
    assert len(_gone(preemption, 0.0, *idle, replace(BUSY, wanted=9))) == 1
    assert len(_gone(preemption, 120.0, *idle, replace(BUSY, wanted=9, placed=1))) == 2
    assert len(_gone(preemption, 240.0, *idle, replace(BUSY, wanted=9, placed=2))) == 3


def test_who_has_least_of_what_it_wants_is_served_first() -> None:
    """Of equal priorities, by share; then by name."""
    preemption = Preemption()
    more = replace(BUSY, key=ObjectKey("team", "aaa"), wanted=2, placed=1)
    caps = preemption.decide((_model("idle"), more, BUSY), 0.0)
    assert [cap.by.name for cap in caps.values()] == ["busy"]


def test_of_equal_priorities_who_has_most_goes_first() -> None:
    """Fewer models are put to zero so."""
    assert _gone(Preemption(), 0.0, _model("a"), _model("b", placed=3), replace(BUSY, wanted=2, starved=2)) == ["b"]


def test_a_rollout_pushes_nobody_out() -> None:
    """The pod that it makes besides finds no GPU; the model has what it wants."""
    assert _gone(Preemption(), 0.0, _model("a"), replace(BUSY, placed=1)) == []


def test_smaller_replicas_are_no_help() -> None:
    """Two GPUs of two nodes are not two of one."""
    assert _gone(Preemption(), 0.0, _model("a"), _model("b"), replace(BUSY, gpus=2)) == []


class _Counted(Contender):
    """One that counts how often it is compared with another one."""

    compared = 0

    def yields_to(self, other: Contender) -> bool:
        """Compare, and count it."""
        type(self).compared += 1
        return super().yields_to(other)


def test_not_each_is_compared_with_each() -> None:
    """A round with a thousand models that lack GPUs, and a thousand that give way, is a look at each of them."""
    many = [
        _Counted(**vars(_model(f"{kind}-{number}", **fields)))
        for number in range(1000)
        for kind, fields in (
            ("busy", {"priority": number % 7, "placed": 0, "starved": 1, "has_work": True, "idle_seconds": None}),
            ("idle", {"priority": -(number % 5), "wanted": 3}),
        )
    ]
    caps = Preemption().decide(many, 0.0)
    assert len(caps) > 1000
    assert _Counted.compared < 20_000


def test_who_can_use_most_of_what_is_given_back_is_found_among_all_sizes() -> None:
    """One that asks for more than a replica gives back does not stand in the way of the next one that can use it."""
    large = replace(BUSY, key=ObjectKey("team", "large"), priority=9, gpus=8)
    caps = Preemption().decide((_model("small"), large, BUSY), 0.0)
    assert {key.name: cap.by.name for key, cap in caps.items()} == {"small": "busy"}
