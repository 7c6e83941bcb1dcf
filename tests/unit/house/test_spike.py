"""What the table of a spike is made of."""

from support.spike import DIRECT, FAILED, QUEUED, REFUSED, Phase, Sample, quantile, schedule, table


def test_requests_come_evenly_and_classes_in_turn() -> None:
    """Each phase has its rate from its first moment to its end, and the next one begins there."""
    phases = (Phase("calm", 2, 1), Phase("spike", 1, 4), Phase("calm again", 1, 1))
    sent = schedule(phases, ("default", "flex"))
    assert [at for at, _, _ in sent] == [0, 1, 2, 2.25, 2.5, 2.75, 3]
    assert [name for _, name, _ in sent] == ["calm"] * 2 + ["spike"] * 4 + ["calm again"]
    assert [tier for _, _, tier in sent] == ["default", "flex"] * 3 + ["default"]


def test_quantile_is_one_of_the_values() -> None:
    """It is the smallest value that so large a share does not exceed; the whole share is the largest one."""
    values = [float(one) for one in range(20, 0, -1)]
    assert [quantile(values, share) for share in (0.5, 0.95, 1.0)] == [10, 19, 20]
    assert quantile([3.0], 0.5) == 3


def test_each_row_says_what_became_of_all_its_requests() -> None:
    """Whatever became of a request, it is counted once, in the row of its key; rows without an answer have no times."""
    samples = [
        Sample("spike", "flex", 2, REFUSED, None),
        Sample("calm", "default", 0, DIRECT, 0.1),
        Sample("spike", "default", 3, QUEUED, 4.0),
        Sample("spike", "flex", 4, FAILED, 1.0),
    ]
    rows = table(samples, lambda sample: (sample.phase, sample.tier), ["when", "tier"]).splitlines()[2:]
    assert rows == [
        "| calm | default | 1 | 1 | 0 | 0 | 0 | 0.10 s | 0.10 s | 0.10 s |",
        "| spike | flex | 2 | 0 | 0 | 1 | 1 | 1.00 s | 1.00 s | 1.00 s |",
        "| spike | default | 1 | 0 | 1 | 0 | 0 | 4.00 s | 4.00 s | 4.00 s |",
    ]
