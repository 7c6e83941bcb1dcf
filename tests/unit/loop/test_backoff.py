"""How long the operator waits before it tries again."""

from capstan_operator.backoff import Backoff


def test_back_off_grows_to_its_bound() -> None:
    """Waits double up to the bound, with jitter between half and all of it, whatever the count of failures."""
    backoff = Backoff(first=1.0, factor=2.0, most=10.0)
    assert [backoff.delay(n, random=lambda: 1.0) for n in (1, 2, 3, 4, 5, 5000)] == [1, 2, 4, 8, 10, 10]
    assert backoff.delay(1, random=lambda: 0.0) == 0.5
