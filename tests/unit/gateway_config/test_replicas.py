"""What the gateway's replicas have said, and what it is worth."""

import pytest

from capstan_contract.config import ConfigReport
from capstan_operator.gateway_config.ledger import Ledger, Recorded
from capstan_operator.gateway_config.replicas import ABSENT_FOR, OLDER_FOR, Replica, Replicas
from capstan_operator.status.types import Acknowledgement, AckState

ONE, TWO = Replica("pod-1", ("10.0.0.1",)), Replica("pod-2", ("10.0.0.2",))
OLD, NEW, FOREIGN = (ConfigReport(hash=name) for name in ("old", "new", "of another operator"))
EMPTY = ConfigReport(hash=None)


def ledger() -> Ledger:
    """Give one with two configs: the second has generation 2 of the model, and no longer that which was taken out."""
    made = Ledger()
    made.record("old", {"team/a": Recorded("u", 1), "team/out": Recorded("u", 1)})
    made.record("new", {"team/a": Recorded("u", 2)})
    return made


def judge(*rounds: dict[Replica, ConfigReport | None], served: bool = True, name: str = "team/a") -> Acknowledgement:
    """Say what holds of generation 2 after these rounds of answers, a second apart."""
    known, replicas = ledger(), Replicas()
    for number, answers in enumerate(rounds):
        replicas.hear(answers, known, now=float(number))
    return replicas.view(known).judge(name, uid="u", generation=2, served=served)


@pytest.mark.parametrize(
    ("one", "two", "state", "done"),
    [
        (NEW, NEW, AckState.ACKNOWLEDGED, 2),
        (NEW, OLD, AckState.PENDING, 1),
        (NEW, EMPTY, AckState.PENDING, 1),
        (OLD, None, AckState.PENDING, 0),
        (OLD, FOREIGN, AckState.PENDING, 0),
        (NEW, None, AckState.UNKNOWN, 1),
        (NEW, FOREIGN, AckState.UNKNOWN, 1),
        (None, None, AckState.UNKNOWN, 0),
        (FOREIGN, None, AckState.UNKNOWN, 0),
    ],
)
def test_every_ready_replica_has_to_run_the_generation(
    one: ConfigReport | None, two: ConfigReport | None, state: AckState, done: int
) -> None:
    """A generation is acknowledged when every ready replica runs it or a newer one, and pending when one runs another
    config that is known; silence, and a config that is not known, are neither yes nor no."""
    assert judge({ONE: one, TWO: two}) == Acknowledgement(state, acknowledged=done, ready=2)


def test_no_replica_acknowledges_nothing() -> None:
    """Without a ready replica nobody serves."""
    assert judge({}).state is AckState.NO_GATEWAY


def test_a_model_that_is_not_served_is_acknowledged_by_its_absence() -> None:
    """A model that was left out is acknowledged when no replica has it any more."""
    assert judge({ONE: NEW}, served=False, name="team/out").state is AckState.ACKNOWLEDGED
    assert judge({ONE: OLD}, served=False, name="team/out").state is AckState.PENDING
    assert judge({ONE: EMPTY}, served=False, name="team/out").state is AckState.ACKNOWLEDGED


def test_a_replica_that_is_silent_keeps_what_it_said() -> None:
    """As long as it is in the EndpointSlice; when it left and came back, it has said nothing yet."""
    assert judge({ONE: NEW, TWO: NEW}, {ONE: NEW, TWO: None}).state is AckState.ACKNOWLEDGED
    assert judge({ONE: NEW, TWO: NEW}, {ONE: NEW}, {ONE: NEW, TWO: None}).state is AckState.UNKNOWN


def test_that_all_replicas_are_gone_is_not_believed_for_a_moment() -> None:
    """What they said counts until none has been ready for a while; then nobody serves. One that is back in between is
    asked as ever, and the while begins anew."""
    known, replicas = ledger(), Replicas()

    def state(answers: dict[Replica, ConfigReport | None], now: float) -> AckState:
        replicas.hear(answers, known, now=now)
        return replicas.view(known).judge("team/a", uid="u", generation=2, served=True).state

    assert state({ONE: NEW}, 0.0) is AckState.ACKNOWLEDGED
    assert state({}, 10.0) is AckState.ACKNOWLEDGED
    assert replicas.is_absent
    assert state({}, 10.0 + ABSENT_FOR - 1.0) is AckState.ACKNOWLEDGED
    assert state({ONE: None}, 10.0 + ABSENT_FOR) is AckState.ACKNOWLEDGED
    assert not replicas.is_absent
    assert state({}, 50.0) is AckState.ACKNOWLEDGED
    assert state({}, 50.0 + ABSENT_FOR) is AckState.NO_GATEWAY
    assert not replicas.is_absent


def test_that_there_are_none_from_the_first_is_not_believed_for_a_moment_either() -> None:
    """A process that has only begun does not know who was there before; once it is believed, it stays so."""
    replicas = Replicas()
    for now in (0.0, ABSENT_FOR - 1.0):
        assert not replicas.hear({}, ledger(), now=now)
        assert replicas.is_absent
    for now in (ABSENT_FOR, ABSENT_FOR + 1.0):
        replicas.hear({}, ledger(), now=now)
        assert not replicas.is_absent


def test_another_pod_at_the_address_has_said_nothing() -> None:
    """What a pod said is not what its successor at the same address runs."""
    other = Replica("pod-3", ONE.addresses)
    assert judge({ONE: NEW}, {other: None}) == Acknowledgement(AckState.UNKNOWN, acknowledged=0, ready=1)


@pytest.mark.parametrize("older", [OLD, EMPTY])
def test_a_replica_does_not_go_back_for_a_moment(older: ConfigReport) -> None:
    """A container that starts anew runs an older config until the API has answered; it is believed when it stays so,
    and the time counts from the last time that it ran the newest."""
    known, replicas = ledger(), Replicas()

    def state(report: ConfigReport | None, at: float) -> AckState:
        replicas.hear({ONE: report}, known, now=at)
        return replicas.view(known).judge("team/a", uid="u", generation=2, served=True).state

    assert state(NEW, 0) is AckState.ACKNOWLEDGED
    assert state(older, 1) is AckState.ACKNOWLEDGED
    assert state(None, 2) is AckState.ACKNOWLEDGED
    assert state(NEW, 3) is AckState.ACKNOWLEDGED
    assert state(older, 4) is AckState.ACKNOWLEDGED
    assert state(older, 4 + OLDER_FOR - 1) is AckState.ACKNOWLEDGED
    assert state(older, 4 + OLDER_FOR) is AckState.PENDING
    assert state(None, 5 + OLDER_FOR) is AckState.PENDING
    assert state(NEW, 6 + OLDER_FOR) is AckState.ACKNOWLEDGED


def test_an_entry_that_a_replica_refuses_is_not_acknowledged() -> None:
    """It says what the replica does not know; a refusal of an older config is none of this generation."""
    refusing = ConfigReport(hash="new", refused={"team/a": ("guard/v2",)})
    assert judge({ONE: NEW, TWO: refusing}) == Acknowledgement(
        AckState.REFUSED, acknowledged=1, ready=2, missing=("guard/v2",)
    )
    before = ConfigReport(hash="old", refused={"team/a": ("guard/v2",)})
    assert judge({ONE: NEW, TWO: before}).state is AckState.PENDING


def test_whether_anything_is_new_is_told() -> None:
    """The same answers again, and silence, are nothing new."""
    known, replicas = ledger(), Replicas()
    assert replicas.hear({ONE: NEW}, known, now=0)
    assert not replicas.hear({ONE: NEW}, known, now=1)
    assert not replicas.hear({ONE: None}, known, now=2)
    assert replicas.hear({ONE: NEW, TWO: None}, known, now=3)
    assert replicas.hear({ONE: NEW, TWO: NEW}, known, now=4)


def test_a_generation_that_keeps_the_hash_is_acknowledged_at_once() -> None:
    """A scale changes nothing in the config: who runs it has acknowledged it as soon as the ledger knows."""
    known, replicas = ledger(), Replicas()
    replicas.hear({ONE: NEW}, known, now=0)
    known.record("new", {"team/a": Recorded("u", 3)})
    assert replicas.view(known).judge("team/a", uid="u", generation=3, served=True).state is AckState.ACKNOWLEDGED
