"""The queue's scripts in a real Redis do what a model in plain Python does, whatever is asked in whatever order."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from capstan_contract.queue.calls import Kind, Post, Posted, read_ids, read_posted, read_state
from capstan_contract.queue.names import BATCH_TURN_MS, MOST_CRASHES, SILENT_MS, PriorityClass, slot_key
from support.queue import HeldQueue, ModelQueue, failures
from support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.redis

WORKERS, GATEWAYS = ("w1", "w2"), ("g1", "g2")
PUT = st.tuples(
    st.sampled_from(PriorityClass), st.sampled_from("abc"), st.sampled_from([0.5, 1.0, 4.0]),
    st.sampled_from([0, 1, 7, 100]), st.sampled_from([60_000, 60_000, 1_000]), st.sampled_from(GATEWAYS),
)  # fmt: skip
WHICH = st.integers(0, 99)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of these tests' own."""
    with redis_server(tmp_path_factory.mktemp("queue")) as server:
        yield server


class QueueMachine(RuleBasedStateMachine):
    """Gateways put in, cancel and go; workers take, post, give back and go."""

    client: Any

    @initialize()
    def begin(self) -> None:
        """Begin with nothing."""
        self.client.flushall()
        self.queue = HeldQueue(self.client)
        self.model = ModelQueue()
        self.number = 0

    def entry(self, which: int) -> str:
        """Give the id of an entry that is there; where there is none, one that never was."""
        known = sorted(self.model.entries)
        return known[which % len(known)] if known else "never"

    @rule(puts=st.lists(PUT, min_size=1, max_size=14))
    def put(self, puts: list[tuple[PriorityClass, str, float, int, int, str]]) -> None:
        """Entries come."""
        # What was measured of the pace would refuse some: that is not looked at here.
        self.client.hdel(slot_key(self.queue.calls.prefix), "mean")
        for priority, tenant, weight, tokens, ttl, gateway in puts:
            self.number += 1
            entry = f"e{self.number:04}"
            word, place, _ = self.queue.ask(
                entry, priority=priority, tenant=tenant, weight=weight, tokens=tokens, ttl_ms=ttl, gateway=gateway,
                body=entry.encode() * tokens,
            )  # fmt: skip
            if word == b"deadline":
                # What was measured says that it would be too late: there are some in front of it, then.
                assert place > 0
                continue
            assert word == b"ok"
            self.model.put(
                entry, priority, tenant, weight, tokens, gateway=gateway, deadline=self.queue.now + ttl,
                size=len(entry) * tokens, now=self.queue.now,
            )  # fmt: skip

    @precondition(lambda self: self.model.entries)
    @rule(which=WHICH)
    def put_again(self, which: int) -> None:
        """One that is there comes once more, since nobody knew whether it had come: nothing changes."""
        word, _, _ = self.queue.ask(self.entry(which), tokens=1000)
        assert word == b"known"
        self.model.gateways.add("g")

    @rule(worker=st.sampled_from(WORKERS), most=st.sampled_from([1, 2, 12]), spare=st.sampled_from([0, 0, 1, 12]))
    def take(self, worker: str, most: int, spare: int) -> None:
        """A worker gets what the model says, in its order; gateways of what is too late are told."""
        expected, late = self.model.take(worker, most, spare, self.queue.now)
        taken = self.queue.take(worker, most, spare=spare)
        assert [(one.id, one.attempt) for one in taken] == [(one.id, one.attempts) for one in expected]
        assert all(len(one.body) == self.model.entries[one.id].size for one in taken)
        told = [piece for gateway in GATEWAYS for piece in self.queue.pieces(gateway)]
        assert failures(told) == sorted((one.id, b"expired") for one in late)

    @rule(worker=st.sampled_from(WORKERS), which=WHICH, kind=st.sampled_from([*Kind, Kind.DATA, Kind.DATA]))
    def post(self, worker: str, which: int, kind: Kind) -> None:
        """What is posted comes to the gateway that asked, once, if it is the worker's entry, and only then."""
        entry = self.entry(which)
        known = self.model.entries.get(entry)
        mine = known is not None and known.worker == worker
        wanted = mine and known is not None and not known.unwanted
        attempt, number = (known.attempts, known.posted) if known else (1, 0)
        (word,) = read_posted(
            self.queue.run(self.queue.calls.post(worker, [Post(entry, attempt, number, kind, b"data")]))
        )
        assert word is (Posted.OK if wanted else Posted.GONE)
        told = {gateway: self.queue.pieces(gateway) for gateway in GATEWAYS}
        assert sum(map(len, told.values())) == int(wanted)
        if known is None or not mine:
            return
        if wanted:
            (piece,) = told[known.gateway]
            assert (piece.id, piece.attempt, piece.kind, piece.data) == (entry, known.attempts, kind, b"data")
            known.posted += 1
        if kind in (Kind.END, Kind.FAILURE) or not wanted:
            del self.model.entries[entry]

    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        """Nobody wants it: one that waits is gone, and the worker of one that runs is told."""
        entry = self.entry(which)
        known = self.model.entries.get(entry)
        assert self.queue.run(self.queue.calls.cancel([entry])) == int(known is not None)
        if known is None:
            return
        if known.worker:
            known.unwanted = True
            told = self.client.rpop(f"{self.queue.calls.prefix}told:{known.worker}")
            assert told == b"x" + entry.encode()
        else:
            self.model.drop(known)

    @rule(worker=st.sampled_from(WORKERS), crashed=st.booleans(), which=WHICH)
    def give_back(self, worker: str, crashed: bool, which: int) -> None:
        """What nothing was posted of waits again, in front of what came later; of a crash it counts as lost."""
        entry = self.entry(which)
        known = self.model.entries.get(entry)
        self.queue.run(self.queue.calls.give_back(worker, [entry], crashed=crashed))
        told = [piece for gateway in GATEWAYS for piece in self.queue.pieces(gateway)]
        if known is None or known.worker != worker:
            assert not told
        elif known.unwanted:
            assert not told
            del self.model.entries[entry]
        elif crashed or known.posted:
            assert failures(told) == self.model.lose([entry], self.queue.now, MOST_CRASHES)
        else:
            assert not told
            self.model.wait_again(known)

    @rule(worker=st.sampled_from(WORKERS))
    def worker_is_lost(self, worker: str) -> None:
        """What a silent worker has had is somebody else's, or is answered with an error."""
        lost = [one.id for one in self.model.running(worker)]
        self.queue.age(worker)
        self.queue.run(self.queue.calls.sweep())
        told = [piece for gateway in GATEWAYS for piece in self.queue.pieces(gateway)]
        assert failures(told) == sorted(self.model.lose(lost, self.queue.now, MOST_CRASHES))

    @rule(gateway=st.sampled_from(GATEWAYS))
    def gateway_is_lost(self, gateway: str) -> None:
        """What a gateway has asked for is dropped when it is gone: what waits at once, what runs by its worker."""
        if gateway not in self.model.gateways:
            return
        self.queue.forget_gateway(gateway)
        self.queue.run(self.queue.calls.sweep())
        self.model.gateways.discard(gateway)
        for entry in list(self.model.entries.values()):
            if entry.gateway == gateway and entry.worker:
                entry.unwanted = True
            elif entry.gateway == gateway:
                self.model.drop(entry)

    @rule(worker=st.sampled_from(WORKERS), which=st.lists(WHICH, max_size=4))
    def renew(self, worker: str, which: list[int]) -> None:
        """A worker hears which of the entries that it works on nobody wants from it."""
        ids = sorted({self.entry(one) for one in which})
        gone = read_ids(self.queue.run(self.queue.calls.renew(worker, ids, room=3)))
        mine = {one.id for one in self.model.running(worker) if not one.unwanted}
        assert gone == [one for one in ids if one not in mine]

    @rule(milliseconds=st.sampled_from([1, 500, 2_000, BATCH_TURN_MS]))
    def wait(self, milliseconds: int) -> None:
        """Time passes, in which gateways say that they are there."""
        end = self.queue.now + milliseconds
        while self.queue.now < end:
            self.queue.now = min(self.queue.now + SILENT_MS // 2, end)
            for gateway in (*self.model.gateways, "watcher"):
                self.queue.run(self.queue.calls.beat(gateway))

    @precondition(lambda self: hasattr(self, "queue"))
    @invariant()
    def counts_are_true(self) -> None:
        """What a gateway is told of the queue is what is in it."""
        # NB: the look itself says that somebody is there; it is nobody who asks for anything.
        state = read_state(self.queue.run(self.queue.calls.beat("watcher")))
        waiting = [self.model.waiting(priority) for priority in PriorityClass]
        assert state.waiting == tuple(map(len, waiting))
        if any(waiting):
            assert state.data == sum(one.size for entries in waiting for one in entries)
        assert state.running == sum(1 for one in self.model.entries.values() if one.worker)

    def teardown(self) -> None:
        """When all has been seen to, nothing is left of any entry."""
        if not hasattr(self, "queue"):
            return
        for worker in WORKERS:
            for entry in list(self.model.running(worker)):
                end = Post(entry.id, entry.attempts, entry.posted, Kind.END, b"")
                self.queue.run(self.queue.calls.post(worker, [end]))
        self.queue.run(self.queue.calls.cancel(list(self.model.entries)))
        while self.queue.take("last", 100):
            pass
        left = {name for name in self.queue.left() if not name.startswith("finish:")}
        assert not left


def test_scripts_do_what_the_model_does(server: RedisServer) -> None:
    """Every reply, and everything that gateways are told, is the model's; nothing is left behind."""
    QueueMachine.client = server.client()
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(
            max_examples=150, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
