"""When which Secret is looked at."""

from hypothesis import given, settings
from hypothesis import strategies as st

from capstan_operator.gateway_config.secret_polls import Polling, SecretName, SecretPolls, Seen

POLLING = Polling(found=60, absent=10, failed=10, failed_most=80, per_second=20, at_once=2, first_at_once=3)


def names(count: int) -> list[SecretName]:
    """Give some Secrets."""
    return [("n", f"s{number:04}") for number in range(count)]


def polls() -> SecretPolls:
    """Give an empty schedule."""
    return SecretPolls(rng=lambda: 0.5, polling=POLLING)


def take_all(schedule: SecretPolls, now: float) -> list[SecretName]:
    """Take whatever there is at this moment, however close together."""
    found = []
    for step in range(100):
        if secret := schedule.take(now + step / 10):
            found.append(secret)
    return found


def test_what_a_model_waits_for_comes_first_and_so_many_at_once() -> None:
    """Others that are due have places of their own."""
    schedule = polls()
    schedule.want(names(10), names(5), 0)
    assert set(take_all(schedule, 0)) == set(names(3))
    schedule.done(names(1)[0], Seen.FOUND, 20)
    assert schedule.take(20) in names(5)
    taken = take_all(schedule, 40)
    assert len(taken) == 2
    assert not set(taken) & set(names(5))


def test_one_that_keeps_failing_is_looked_at_less_and_less_often() -> None:
    """10, 20, 40, 80 and again 80 seconds; one look that is answered, and it is as before."""
    schedule = polls()
    schedule.want(names(1), names(1), 0)
    (secret,) = names(1)
    now, waits = 0.0, []
    for _ in range(5):
        assert schedule.take(now) == secret
        schedule.done(secret, Seen.FAILED, now)
        waits.append((schedule.next_look(now) or 0) - now)
        now += waits[-1]
    assert waits == [10, 20, 40, 80, 80]
    assert schedule.take(now) == secret
    schedule.done(secret, Seen.FOUND, now)
    assert schedule.next_look(now) == now + 60


@settings(max_examples=20)
@given(count=st.integers(1, 2000))
def test_however_many_there_are_the_rate_has_a_bound(count: int) -> None:
    """Thousands are each looked at less often, and spread: no more than 20 in a second, and none is forgotten."""
    schedule = polls()
    schedule.want(names(count), (), 0)
    cycle = max(60, count / 20)
    seen: dict[SecretName, int] = {}
    for step in range(int(cycle * 2) * 4):
        now = step / 4
        per_quarter = 0
        for tick in range(5):
            while secret := schedule.take(now + tick / 20):
                schedule.done(secret, Seen.FOUND, now + tick / 20)
                seen[secret] = seen.get(secret, 0) + 1
                per_quarter += 1
        assert per_quarter <= 6
    assert len(seen) == count
    assert max(seen.values()) <= 4


def test_what_nobody_names_any_more_is_not_looked_at() -> None:
    """Also one whose look is under way just then."""
    schedule = polls()
    schedule.want(names(2), names(2), 0)
    first = schedule.take(0)
    assert first
    schedule.want((), (), 1)
    schedule.done(first, Seen.FOUND, 2)
    assert (schedule.take(1000), schedule.next_look(1000)) == (None, None)
