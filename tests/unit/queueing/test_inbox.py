"""What pieces of an answer come to, whatever attempts they are of."""

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.queue.calls import Failure, Kind, Piece
from capstan_gateway.queueing.inbox import Fed, Inbox, failure_of


def piece(kind: Kind, data: bytes = b"", attempt: int = 1) -> Piece:
    """Give a piece."""
    return Piece("one", attempt, kind, data)


def test_an_answer() -> None:
    """Head, data and end are given in their order."""
    inbox = Inbox()
    for one in (piece(Kind.HEAD, b"head"), piece(Kind.DATA, b"a"), piece(Kind.DATA, b"b"), piece(Kind.END)):
        assert inbox.feed(one) is Fed.NEWS
    assert (inbox.head, inbox.held, inbox.take(), inbox.ended) == (b"head", 2, [b"a", b"b"], True)
    assert inbox.held == 0


def test_a_later_attempt_starts_over() -> None:
    """Before anything was given out a later attempt takes the place of the one before, whose pieces are nothing."""
    inbox = Inbox()
    inbox.feed(piece(Kind.HEAD, b"one"))
    inbox.feed(piece(Kind.DATA, b"a"))
    assert inbox.feed(piece(Kind.HEAD, b"two", attempt=2)) is Fed.NEWS
    assert inbox.feed(piece(Kind.DATA, b"b")) is Fed.NOTHING
    assert inbox.feed(piece(Kind.DATA, b"c", attempt=2)) is Fed.NEWS
    assert (inbox.head, inbox.take(), inbox.attempt) == (b"two", [b"c"], 2)


def test_behind_the_first_byte_there_is_no_other_attempt() -> None:
    """What the client has a part of is not begun anew; whoever tries is to be told to stop."""
    inbox = Inbox()
    inbox.feed(piece(Kind.HEAD, b"one"))
    inbox.committed = True
    assert inbox.feed(piece(Kind.HEAD, b"two", attempt=2)) is Fed.FOREIGN
    assert inbox.feed(piece(Kind.DATA, b"a")) is Fed.NEWS
    assert inbox.take() == [b"a"]


def numbered(kind: Kind, number: int, taken: int, data: bytes = b"") -> Piece:
    """Give a piece of the first attempt, of which two may have been taken."""
    return Piece("one", 1, kind, data, (taken, 0), number)


def test_a_piece_comes_once_and_none_is_left_out() -> None:
    """One that comes again is nothing, and behind one that is missing there is no answer any more."""
    inbox = Inbox()
    for one in (numbered(Kind.HEAD, 0, 7), numbered(Kind.DATA, 1, 7, b"a")):
        assert inbox.feed(one) is Fed.NEWS
        assert inbox.feed(one) is Fed.NOTHING
    assert inbox.feed(numbered(Kind.DATA, 3, 7, b"c")) is Fed.BROKEN
    assert inbox.feed(numbered(Kind.END, 3, 7)) is Fed.BROKEN
    assert inbox.feed(numbered(Kind.DATA, 2, 7, b"b")) is Fed.NEWS
    assert (inbox.take(), inbox.over) == ([b"a", b"b"], False)


def test_an_attempt_that_is_counted_anew_is_another_one() -> None:
    """Where Redis has lost what it knew of an attempt, the next one has its number, and is told by its taking."""
    inbox = Inbox()
    inbox.feed(numbered(Kind.HEAD, 0, 7, b"one"))
    inbox.feed(numbered(Kind.DATA, 1, 7, b"a"))
    assert inbox.feed(numbered(Kind.HEAD, 0, 9, b"two")) is Fed.NEWS
    assert inbox.feed(numbered(Kind.DATA, 1, 9, b"b")) is Fed.NEWS
    assert inbox.feed(numbered(Kind.DATA, 2, 7, b"c")) is Fed.NOTHING
    assert (inbox.head, inbox.take()) == (b"two", [b"b"])
    inbox.committed = True
    assert inbox.feed(numbered(Kind.HEAD, 0, 11)) is Fed.FOREIGN
    assert inbox.feed(Piece("one", 2, Kind.FAILURE, b"expired")) is Fed.NEWS


def test_data_without_a_head_is_nothing() -> None:
    """An answer whose beginning nobody has is no answer."""
    inbox = Inbox()
    assert inbox.feed(piece(Kind.DATA, b"a")) is Fed.NOTHING
    assert inbox.take() == []


def test_a_failure_comes_without_a_head() -> None:
    """Redis itself says that an entry was lost, or is too late, before any worker has said anything."""
    inbox = Inbox()
    assert inbox.feed(piece(Kind.FAILURE, b"expired", attempt=0)) is Fed.NEWS
    assert inbox.failure is Failure.EXPIRED
    assert inbox.over


def test_words_of_a_later_release() -> None:
    """A failure that is not known is the engine's."""
    assert failure_of(b"something") is failure_of(b"\xff") is Failure.ENGINE


pieces = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from(Kind), st.binary(min_size=1, max_size=3), st.booleans()), max_size=30
)


@given(pieces)
def test_a_reader_gets_pieces_of_one_attempt(come: list[tuple[int, Kind, bytes, bool]]) -> None:
    """In whatever order pieces come, what is read behind a head is of its attempt, in order, and nothing comes behind
    the end; once something was given out that attempt is never another one."""
    inbox = Inbox()
    read: list[tuple[int, bytes]] = []
    bound = 0
    for attempt, kind, data, commit in come:
        was_over = inbox.over
        before = inbox.attempt
        fed = inbox.feed(Piece("one", attempt, kind, b"engine" if kind is Kind.FAILURE else data))
        if inbox.attempt != before:
            assert kind is Kind.HEAD
            assert inbox.attempt > before
            read.clear()
        if fed is Fed.NEWS and kind is Kind.DATA:
            assert not was_over
            read.append((attempt, data))
        if commit and inbox.head is not None:
            inbox.committed = True
            bound = bound or inbox.attempt
        if bound:
            assert inbox.attempt == bound
        assert inbox.held == sum(map(len, inbox.pieces))
    assert [data for _, data in read] == inbox.take()
    assert {attempt for attempt, _ in read} <= {inbox.attempt}
