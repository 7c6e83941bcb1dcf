"""Ids of answers: known to their tenant, for a time, in a bounded number."""

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.caches.answered import KEPT_MS, MOST_LENGTH, Answered, Name, Of, Told, name_of, read_told
from capstan_gateway.caches.port import CacheKey
from support.virtualtime import run_virtually

TENANTS = st.sampled_from(["0" * 32, "1" * 32])
IDS = st.sampled_from(["req_1", "req_2", "2", "é" * MOST_LENGTH, "x" * (MOST_LENGTH + 1), ""])
KEYS = st.builds(
    CacheKey,
    st.sampled_from(["0" * 32, f"{'1' * 32}-{'2' * 32}"]),
    st.sampled_from(["a" * 16, "b" * 16]),
    st.binary(min_size=32, max_size=32),
)
TOLD = st.builds(Told, KEYS, st.one_of(st.none(), st.floats(0, 1)))
STEPS = st.lists(st.tuples(IDS, TENANTS, TOLD, st.integers(0, KEPT_MS)), max_size=20)


def _found(answered: Answered, of: Of, id: str, tenant: str) -> Told | None:
    found = run_virtually(answered.find(of, id, [tenant], shares=True))
    return None if found is None else found[1]


@given(STEPS, st.integers(1, 5))
def test_an_id_is_found_by_its_tenant_while_it_is_young(steps: list[tuple[str, str, Told, int]], most: int) -> None:
    """After any steps what is found is what was noted last for this very tenant and kind, less than `KEPT_MS` ago; no
    more than `most` are kept, and the newest is among them."""
    now = [0]
    answered = Answered(now_ms=lambda: now[0], most=most)
    noted: dict[tuple[str, str], tuple[int, Told]] = {}
    for id, tenant, told, pause in steps:
        now[0] += pause
        answered.note(Of.REQUEST, id, tenant, told, shares=True)
        assert len(answered) <= most
        is_one = 0 < len(id) <= MOST_LENGTH
        if is_one:
            noted[id, tenant] = now[0], told
        assert _found(answered, Of.REQUEST, id, tenant) == (told if is_one else None)
        for (name, whose), (at, latest) in noted.items():
            assert _found(answered, Of.REQUEST, name, whose) in ([latest, None] if now[0] - at < KEPT_MS else [None])
            assert _found(answered, Of.ANSWER, name, whose) is None


def test_an_id_of_an_answer_is_the_same_in_each_dialect_and_told_once() -> None:
    """Prefixes aside; that of a request is what it is. While an answer is given again and again others are told of its
    id now and then, and of each request's."""
    assert len({name_of(Of.ANSWER, f"{prefix}7", "t") for prefix in ("", "chatcmpl-", "msg_", "resp_")}) == 1
    assert len({name_of(Of.REQUEST, f"{prefix}7", "t") for prefix in ("", "chatcmpl-", "msg_", "resp_")}) == 4
    told: list[Name] = []

    class Others:
        def write(self, name: Name, _: Told) -> None:
            told.append(name)

        async def read(self, name: Name) -> Told | None:
            raise NotImplementedError

    now = [0]
    answered = Answered(now_ms=lambda: now[0], shared=Others())
    key = CacheKey("0" * 32, "a" * 16, bytes(32))
    for number in range(3):
        answered.note(Of.ANSWER, "msg_7", key.partition, Told(key), shares=True)
        answered.note(Of.REQUEST, f"req_{number}", key.partition, Told(key), shares=True)
        answered.note(Of.REQUEST, "own", key.partition, Told(key), shares=False)
    assert len(told) == 4
    now[0] = KEPT_MS // 2
    answered.note(Of.ANSWER, "msg_7", key.partition, Told(key), shares=True)
    assert told[-1] == told[0]


@given(TOLD, st.booleans())
def test_what_replicas_tell_is_read_as_it_was_written(told: Told, reported: bool) -> None:
    """The key, whether it was reported, and how alike it was."""
    read = read_told(told._replace(reported=reported).write())
    assert read is not None
    assert (read.key, read.reported) == (told.key, reported)
    assert (read.similarity is None) == (told.similarity is None)
    assert abs((read.similarity or 0) - (told.similarity or 0)) < 1e-6


@given(st.one_of(st.binary(), st.text().map(str.encode), TOLD.map(lambda one: b"7" + one.write()[1:])))
def test_what_is_none_of_these_bytes_is_nothing(data: bytes) -> None:
    """Whoever has put it there."""
    assert read_told(data) is None


def test_an_answer_that_was_reported_stays_so() -> None:
    """By the id that it was reported by; another id of the same answer is not."""
    answered = Answered(now_ms=lambda: 0)
    key = CacheKey("0" * 32, "a" * 16, bytes(32))
    for id in ("one", "other"):
        answered.note(Of.REQUEST, id, key.partition, Told(key), shares=False)
    found = run_virtually(answered.find(Of.REQUEST, "one", [key.partition], shares=False))
    assert found is not None
    answered.reported(*found, everywhere=True)
    states = [_found(answered, Of.REQUEST, id, key.partition) for id in ("one", "other")]
    assert [one.reported for one in states if one is not None] == [True, False]
