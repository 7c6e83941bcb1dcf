import pytest

from capstan_contract.config import ConfigReport
from capstan_operator.status.types import AckState, judge_acknowledgement


def _report(**generations: int) -> ConfigReport:
    return ConfigReport(hash="h", generations={f"team/{name}": number for name, number in generations.items()})


@pytest.mark.parametrize(
    ("reports", "state", "done"),
    [
        ([], AckState.NO_GATEWAY, 0),
        ([None, None], AckState.UNKNOWN, 0),
        ([_report(a=2), _report(a=1)], AckState.PENDING, 1),
        ([_report(a=2), _report()], AckState.PENDING, 1),
        ([_report(a=2), None], AckState.PENDING, 1),
        ([_report(a=2), _report(a=3)], AckState.ACKNOWLEDGED, 2),
    ],
)
def test_every_ready_replica_has_to_run_the_generation(
    reports: list[ConfigReport | None], state: AckState, done: int
) -> None:
    """A generation is acknowledged when every ready replica runs it or a newer one; silence is no consent."""
    found = judge_acknowledgement("team/a", generation=2, served=True, reports=reports)
    assert (found.state, found.acknowledged, found.ready) == (state, done, len(reports))


def test_model_that_is_not_served_is_acknowledged_by_its_absence() -> None:
    """A model that was left out is acknowledged when no replica has it any more."""
    for reports, state in (([_report(b=1)], AckState.ACKNOWLEDGED), ([_report(a=1)], AckState.PENDING)):
        assert judge_acknowledgement("team/a", generation=2, served=False, reports=reports).state is state
