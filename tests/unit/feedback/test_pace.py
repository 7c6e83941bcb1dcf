"""How often a tenant may say something."""

from capstan_gateway.feedback import pace
from capstan_gateway.feedback.pace import Pace


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_tenant_waits_when_it_says_too_much() -> None:
    """So many may be said at once, and then one in each step; another tenant does not wait for this one."""
    clock = _Clock()
    bound = Pace(clock=clock, per_second=2.0, at_once=3.0)
    assert [bound.wait("red") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bound.wait("blue") == 0.0
    clock.now += 0.5
    assert [bound.wait("red"), bound.wait("red")] == [0.0, 0.5]


def test_tenants_are_bounded() -> None:
    """Whoever asked longest ago is forgotten, and may say as much as a new one."""
    bound = Pace(clock=_Clock(), per_second=1.0, at_once=1.0)
    assert bound.wait("red") == 0.0
    for other in range(pace.MOST_TENANTS):
        bound.wait(str(other))
    assert bound.wait("red") == 0.0
