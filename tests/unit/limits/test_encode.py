"""What the scripts are asked, and how their answers are read."""

from struct import unpack

import pytest

from capstan_gateway.limits.encode import (
    extend_call,
    prefix_of,
    renew_call,
    reserve_call,
    settle_call,
    verdict_of,
)
from capstan_gateway.limits.port import Outcome, Quota, Rate, Slots, Standing, Verdict
from capstan_gateway.limits.script import HOLD, RENEW, SETTLE
from support.limits import charge

PREFIX = prefix_of("policy")


def numbers(arguments: tuple[bytes, ...]) -> list[float]:
    """Read a script's argument."""
    (packed,) = arguments
    return list(unpack(f">{len(packed) // 8}d", packed))


def test_a_reservation_is_asked_for_with_the_terms_of_its_buckets() -> None:
    """Keys are the leases, the reservation and the buckets; numbers are the options and then each bucket's."""
    charges = [charge(Rate(60, 60_000, 90), 2), charge(Quota(5, (1, 2, 3)), 4, key="b"), charge(Slots(7), key="c")]
    call = reserve_call("id", charges, lease_ms=9, keeps=True, force=False)
    assert (call.script, call.keys) == (HOLD, tuple(PREFIX + end for end in ("l", "i:id", "0:a", "1:b", "2:c")))
    head, rate, quota, slots = [0, 9, 1, 0], [0, 2, 0, 4, 1, 1000, 1, 90_000], [1, 4, 0, 4, 5, 1, 2, 3], [2, 1, 0, 1, 7]
    assert numbers(call.arguments) == head + rate + quota + slots


def test_an_extension_says_what_was_used() -> None:
    """What is not said was not used, and what is said of no bucket is left out."""
    charges = [charge(Slots(7), 2, key="c"), charge(Slots(8), 3, key="d")]
    assert numbers(extend_call("id", charges, (4,)).arguments) == [1, 0, 0, 0, 2, 2, 4, 1, 7, 2, 3, 0, 1, 8]
    assert numbers(extend_call("id", charges[:1], (4, 5)).arguments) == [1, 0, 0, 0, 2, 2, 4, 1, 7]


def test_the_end_and_the_renewals() -> None:
    """A settlement names a reservation, a renewal several, each once: what was said of it last counts."""
    settled = settle_call("policy", "id", (1, 2**60))
    assert (settled.script, settled.keys) == (SETTLE, (PREFIX + "l", PREFIX + "i:id"))
    assert numbers(settled.arguments) == [1, 2**51]
    renewed = renew_call("policy", [("a", (1, 2)), ("b", ()), ("a", (3,))], 7)
    assert (renewed.script, renewed.keys) == (RENEW, (PREFIX + "l", PREFIX + "i:a", PREFIX + "i:b"))
    assert numbers(renewed.arguments) == [7, 1, 3, 0]


def test_verdicts_are_read() -> None:
    """An answer is outcome, position, wait, and two numbers for each bucket."""
    read = verdict_of([2, 1, 50, -3, 4, 5, 6])
    assert read == Verdict(Outcome.SPENT, (Standing(-3, 4), Standing(5, 6)), 1, 50)
    assert [verdict_of([code, -1, 0]).outcome.name for code in range(5)] == [
        "ADMITTED",
        "WAIT",
        "SPENT",
        "NEVER",
        "LOST",
    ]


@pytest.mark.parametrize("lease_ms", [0, -1, 600_001])
def test_leases_have_bounds(lease_ms: int) -> None:
    """A lease that never ends, or ends at once, is refused."""
    with pytest.raises(ValueError, match="above 0 and at most 600000 ms"):
        reserve_call("id", [charge(Slots(1))], lease_ms=lease_ms, keeps=False, force=False)
    with pytest.raises(ValueError, match="above 0 and at most 600000 ms"):
        renew_call("policy", [("a", ())], lease_ms)
