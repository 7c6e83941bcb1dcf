"""What a worker has to say comes to a gateway whole and in order, whatever Redis takes, refuses or leaves unsaid."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from capstan_contract.queue.calls import Failure, Kind, Post, Posted
from capstan_contract.queue.names import WINDOW_BYTES
from capstan_contract.queue.wire import Packing
from capstan_worker.queue import outbox as outboxes
from capstan_worker.queue.outbox import Outbox

IDS = ("a", "b", "c")


class PostingMachine(RuleBasedStateMachine):
    """Engines give, readers read or do not, replies are lost; a small model of POST decides."""

    @initialize()
    def begin(self) -> None:
        """Three answers begin."""
        self.outbox = Outbox(Packing())
        self.given = dict.fromkeys(IDS, b"")
        self.last: dict[str, str] = {}
        self.taken: dict[str, list[Post]] = {one: [] for one in IDS}
        self.unread = dict.fromkeys(IDS, 0)
        self.gone: set[str] = set()
        self.closed: set[str] = set()
        self.now = 0.0
        for one in IDS:
            self.outbox.open(one, 1)
            self.outbox.head(one, b"head of " + one.encode())

    @rule(one=st.sampled_from(IDS), size=st.sampled_from([1, 50, 300_000, 700_000]))
    def give(self, one: str, size: int) -> None:
        """An engine gives a piece."""
        if one in self.outbox and one not in self.last:
            data = (b"%d," % len(self.given[one])) * size
            self.outbox.put(one, data[:size])
            self.given[one] += data[:size]

    @rule(one=st.sampled_from(IDS), failure=st.none() | st.sampled_from([Failure.ENGINE, Failure.EXPIRED]))
    def end(self, one: str, failure: Failure | None) -> None:
        """An engine is done, well or badly."""
        if one in self.outbox and one not in self.last:
            self.last[one] = "" if failure is None else failure.value
            self.outbox.end(one) if failure is None else self.outbox.fail(one, failure)

    @rule(heard=st.booleans(), answered=st.booleans())
    def post(self, heard: bool, answered: bool) -> None:
        """A post comes to Redis or not, and its reply to the worker or not."""
        posts = self.outbox.next()
        assert len(posts) <= outboxes.MOST_POST_PIECES
        words = [self._take(post) for post in posts] if heard else []
        if heard and answered:
            settled = self.outbox.settle(posts, words, self.now)
            self.closed |= set(settled.ended) | set(settled.gone)
        else:
            self.outbox.again(posts)

    @rule(one=st.sampled_from(IDS))
    def read(self, one: str) -> None:
        """A reader reads all, and the worker hears of it."""
        self.unread[one] = 0
        self.outbox.go_on(one)

    @rule(one=st.sampled_from(IDS))
    def cancel(self, one: str) -> None:
        """Nobody wants it any more."""
        self.gone.add(one)

    @rule(one=st.sampled_from(IDS))
    def give_up(self, one: str) -> None:
        """Its reader is too slow: the worker says so."""
        if one in self.outbox and one in self.outbox.slow(self.now, 0):
            self.last[one] = Failure.SLOW.value
            self.outbox.fail(one, Failure.SLOW)

    @invariant()
    def what_was_taken_is_what_was_given(self) -> None:
        """A reader has a beginning of what the engine gave, the head first, and nothing behind its end."""
        if not hasattr(self, "taken"):
            return
        for one, posts in self.taken.items():
            kinds = [post.kind for post in posts]
            assert all(kind not in (Kind.END, Kind.FAILURE) for kind in kinds[:-1])
            body = b"".join(Packing().unpack(one, "d", post.data) for post in posts if post.kind is Kind.DATA)
            assert self.given[one].startswith(body)
            assert Kind.HEAD not in kinds[1:]
            if kinds and kinds[-1] is Kind.END:
                assert kinds[0] is Kind.HEAD
                assert body == self.given[one]
            if Kind.DATA in kinds:
                assert kinds[0] is Kind.HEAD
        assert self.outbox.held == sum(answer.held for answer in self.outbox._answers.values())

    def teardown(self) -> None:
        """When readers read, all that was ended is said completely."""
        if not hasattr(self, "taken"):
            return
        for _ in range(300):
            for one in IDS:
                self.read(one)
            self.post(heard=True, answered=True)
        for one in set(self.last) - self.gone - self.closed:
            raise AssertionError(f"the end of {one} was never taken")
        for one, last in self.last.items():
            if one not in self.gone:
                final = self.taken[one][-1]
                assert (final.kind, final.data) == (
                    (Kind.FAILURE, last.encode()) if last else (Kind.END, b"")
                ) or final.kind is Kind.END
        assert self.outbox.held == 0 or set(self.outbox.ids) - set(self.last)

    def _take(self, post: Post) -> Posted:
        """Do as the script does."""
        taken = self.taken[post.id]
        over = bool(taken) and taken[-1].kind in (Kind.END, Kind.FAILURE)
        if over or post.id in self.gone:
            return Posted.GONE
        if post.number > len(taken):
            return Posted.FULL
        if post.number < len(taken):
            return Posted.OK
        unread = self.unread[post.id]
        if post.kind is Kind.DATA and unread > 0 and unread + len(post.data) > WINDOW_BYTES:
            return Posted.FULL
        taken.append(post)
        if post.kind is Kind.DATA:
            self.unread[post.id] += len(post.data)
        return Posted.OK


TestPosting = PostingMachine.TestCase
TestPosting.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


@given(st.lists(st.integers(1, 400_000), max_size=12))
@settings(deadline=None, max_examples=30)
def test_one_post_is_of_bounded_size(sizes: list[int]) -> None:
    """However much waits, one post takes about a mebibyte, and the rest goes with the next ones."""
    outbox = Outbox(Packing())
    for number, size in enumerate(sizes):
        outbox.open(str(number), 1)
        outbox.head(str(number), b"head")
        outbox.put(str(number), bytes(range(256)) * (size // 256 + 1))
    rounds = 0
    while posts := outbox.next():
        assert sum(len(post.data) for post in posts) <= outboxes.MOST_POST_BYTES + outboxes.MOST_PIECE_BYTES
        outbox.settle(posts, [Posted.OK] * len(posts), 0.0)
        rounds += 1
        assert rounds < 100
    assert outbox.held == 0
