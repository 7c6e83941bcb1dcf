"""What holds of who gives way to whom, whatever models want and have."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from capstan_operator.resources.resource import ObjectKey
from capstan_operator.scaling.preemption import IDLE_SECONDS, PEACE_SECONDS, Contender, Preemption

KEYS = [ObjectKey("team", name) for name in ("a", "b", "c", "d")]


@st.composite
def contenders(draw: st.DrawFn) -> list[Contender]:
    """Some models, in any order."""
    keys = draw(st.permutations(KEYS))[: draw(st.integers(1, len(KEYS)))]
    found = []
    for key in keys:
        work = draw(st.booleans())
        found.append(
            Contender(
                key=key,
                priority=draw(st.integers(0, 2)),
                preemptible=draw(st.booleans()),
                resource=draw(st.sampled_from(["nvidia.com/gpu", "nvidia.com/gpu", "amd.com/gpu"])),
                gpus=draw(st.integers(0, 2)),
                place=draw(st.sampled_from(["", "", "zone"])),
                wanted=draw(st.integers(0, 4)),
                placed=draw(st.integers(0, 4)),
                starved=draw(st.integers(0, 3)),
                has_work=work,
                idle_seconds=None if work else draw(st.none() | st.sampled_from([0.0, IDLE_SECONDS, 1e6])),
            )
        )
    return found


rounds = st.lists(st.tuples(contenders(), st.floats(0, 100)), min_size=1, max_size=20)


@given(rounds)
def test_only_who_says_so_gives_way_and_only_to_a_higher_priority(told: list[tuple[list[Contender], float]]) -> None:
    """And what works, or of which nothing is known, keeps every replica that it has."""
    preemption, clock, held = Preemption(), 0.0, set[ObjectKey]()
    for models, seconds in told:
        clock += seconds
        known = {one.key: one for one in models}
        caps = preemption.decide(models, clock)
        for key, cap in caps.items():
            one, other = known[key], known[cap.by]
            assert one.preemptible
            assert one.priority < other.priority
            assert (one.resource, one.place) == (other.resource, other.place)
            assert one.gpus >= other.gpus > 0
            assert cap.most == one.placed or (cap.most == 0 and not one.has_work)
            if cap.most < one.placed and key not in held:
                assert one.idle_seconds is not None
                assert one.idle_seconds >= IDLE_SECONDS
                assert other.has_work
        held = {key for key, cap in caps.items() if cap.most == 0}


@given(rounds, st.randoms(use_true_random=False))
def test_the_order_in_which_models_come_changes_nothing(
    told: list[tuple[list[Contender], float]], random: object
) -> None:
    """The same models at the same moments give the same decisions."""
    one, other, clock = Preemption(), Preemption(), 0.0
    for models, seconds in told:
        clock += seconds
        shuffled = list(models)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        assert one.decide(models, clock) == other.decide(shuffled, clock)


@given(rounds)
def test_equal_priorities_do_not_touch_each_other(told: list[tuple[list[Contender], float]]) -> None:
    """However much one wants and the other idles."""
    preemption, clock = Preemption(), 0.0
    for models, seconds in told:
        clock += seconds
        assert not preemption.decide([replace(one, priority=1) for one in models], clock)


@given(rounds)
@settings(max_examples=200)
def test_nobody_is_pushed_out_in_turns(told: list[tuple[list[Contender], float]]) -> None:
    """A model that was given back what it had keeps it for a while, whoever comes meanwhile."""
    preemption, clock = Preemption(), 0.0
    had, given_back = set[ObjectKey](), dict[ObjectKey, float]()
    for models, seconds in told:
        clock += seconds
        known = {one.key: one for one in models}
        caps = preemption.decide(models, clock)
        pushed = {key for key, cap in caps.items() if cap.most < known[key].placed}
        for key in pushed - had:
            assert clock - given_back.get(key, float("-inf")) >= PEACE_SECONDS or key not in known
        stays = set(preemption._holds)
        given_back |= dict.fromkeys(had - stays, clock)
        given_back = {key: at for key, at in given_back.items() if key in known}
        had = stays


@given(contenders(), st.integers(1, 30))
def test_no_more_is_given_up_than_is_lacking(models: list[Contender], times: int) -> None:
    """While what was given up is on its way, a model that still lacks it gets nothing else: the last one that goes for
    it was needed."""
    preemption = Preemption()
    for second in range(times):
        preemption.decide(models, float(second))
    known = {one.key: one for one in models}
    for other in models:
        gone = [known[key].placed for key, hold in preemption._holds.items() if hold.by == other.key]
        assert not gone or sum(gone) - max(gone) < other.lacking
