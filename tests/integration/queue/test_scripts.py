"""The queue's scripts in a real Redis: what they refuse, what they promise tenants, and what becomes of answers."""

import time
from collections.abc import Iterator

import pytest
import redis

from capstan_contract.queue.calls import (
    LEAVING,
    Bounds,
    Kind,
    Outcome,
    Post,
    Posted,
    Queue,
    read_ids,
    read_placed,
    read_posted,
    read_state,
)
from capstan_contract.queue.names import (
    ALIVE_MS,
    BATCH_TURN_MS,
    LEASE_MS,
    MOST_BELLS,
    MOST_GAP_MS,
    MOST_MEAN_AGE_MS,
    MOST_OUT,
    MOST_TENANTS,
    PASSED_OVER,
    QUIET_MS,
    SILENT_MS,
    WINDOW_BYTES,
    PriorityClass,
    bell_key,
    out_key,
    queue_prefix,
    told_key,
)
from support.queue import WIDE, HeldQueue, failures
from support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of these tests' own."""
    with redis_server(tmp_path_factory.mktemp("queue")) as server:
        yield server


@pytest.fixture
def queue(server: RedisServer) -> HeldQueue:
    """A queue in which nothing is."""
    client = server.client()
    client.flushall()
    return HeldQueue(client)


def post(queue: HeldQueue, worker: str, *pieces: Post) -> list[Posted]:
    """Post pieces."""
    return read_posted(queue.run(queue.calls.post(worker, pieces)))


def test_an_entry_comes_back_as_it_was_put_in(queue: HeldQueue) -> None:
    """A worker gets the body, what is asked, how long it has waited, and how much of its time is left."""
    queue.ask("e", body=b"\x00body", ask=b"{ask}", ttl_ms=5_000, priority=PriorityClass.LOW)
    queue.now += 1_500
    (taken,) = queue.take("w")
    assert (taken.id, taken.attempt, taken.priority) == ("e", 1, PriorityClass.LOW)
    assert (taken.body, taken.ask, taken.left_ms, taken.waited_ms) == (b"\x00body", b"{ask}", 3_500, 1_500)


@pytest.mark.parametrize(
    ("bounds", "outcome"),
    [
        (WIDE._replace(entries=2), Outcome.LENGTH),
        (WIDE._replace(data=10), Outcome.BYTES),
    ],
)
def test_what_a_full_queue_refuses_leaves_nothing(queue: HeldQueue, bounds: Bounds, outcome: Outcome) -> None:
    """Too many entries, or too many bytes, are refused by name, and nothing of the refused one is kept."""
    for number in range(2):
        queue.ask(f"e{number}", bounds=bounds)
    before = queue.left()
    placed = read_placed(queue.ask("more", bounds=bounds))
    assert (placed.word, placed.accepted) == (outcome, False)
    assert placed.milliseconds >= 1
    assert queue.left() == before
    queue.take("w")
    assert read_placed(queue.ask("more", bounds=bounds)).accepted


def are_there(queue: HeldQueue, worker: str) -> None:
    """A worker and the gateway say that they are there."""
    queue.run(queue.calls.renew(worker, [], room=1))
    queue.run(queue.calls.beat("g"))


def drained(queue: HeldQueue, *, each_ms: int, entries: int) -> None:
    """Let a worker take one entry after the other in such intervals, with others behind them."""
    for number in range(entries):
        queue.ask(f"measured-{number}", ttl_ms=86_400_000)
    for _ in range(entries):
        are_there(queue, "measuring")
        queue.take("measuring")
        queue.now += each_ms


def test_the_expected_wait_is_what_was_measured(queue: HeldQueue) -> None:
    """Of five in front of it, each of which has taken 200 ms before, an entry expects a second."""
    drained(queue, each_ms=200, entries=30)
    for number in range(5):
        queue.ask(f"front-{number}")
    placed = read_placed(queue.ask("last"))
    assert (placed.place, placed.milliseconds) == (5, 1_000)


def waits(queue: HeldQueue, name: str) -> int:
    """Put two entries in; give the wait that the second one expects."""
    queue.ask(f"{name}-front")
    return read_placed(queue.ask(f"{name}-behind")).milliseconds


def test_time_in_which_nothing_waited_is_no_pace(queue: HeldQueue) -> None:
    """Where those that waited have gone before a worker came, the next take, an hour later, measures nothing."""
    queue.run(queue.calls.renew("w", [], room=1))
    for name in ("taken", "left", "gone"):
        queue.ask(name)
    queue.take("w")
    queue.run(queue.calls.cancel(["left", "gone"]))
    queue.now += 3_600_000
    queue.run(queue.calls.renew("w", [], room=1))
    queue.ask("next")
    queue.take("w")
    assert waits(queue, "one") == -1


def test_time_in_which_no_worker_was_there_is_no_pace(queue: HeldQueue) -> None:
    """What waits for an hour for a worker to come says nothing of how long an entry takes."""
    queue.run(queue.calls.renew("w", [], room=1))
    for name in ("taken", "one", "two", "three"):
        queue.ask(name, ttl_ms=7_200_000)
    queue.take("w")
    queue.now += 3_600_000
    queue.run(queue.calls.beat("g"))
    assert [one.id for one in queue.take("early")] == ["one"]
    queue.now += 20_000
    are_there(queue, "w")
    assert [one.id for one in queue.take("w")] == ["two"]
    assert read_state(queue.run(queue.calls.beat("g"))).mean_us == 0


def test_a_pace_is_measured_by_two_minutes_at_most(queue: HeldQueue) -> None:
    """A worker that is there and takes nothing for an hour makes nobody expect an hour."""
    drained(queue, each_ms=100, entries=30)
    for name in ("one", "two", "three"):
        queue.ask(name, ttl_ms=7_200_000)
    queue.take("w")
    for _ in range(300):
        queue.now += 12_000
        are_there(queue, "w")
    assert queue.take("w")
    assert read_placed(queue.ask("next")).milliseconds <= MOST_GAP_MS


def test_a_pace_that_keeps_all_away_is_forgotten(queue: HeldQueue) -> None:
    """With workers that take at once, a long expected wait of former times sinks with each take; and it is not
    believed for longer than ten minutes, when nothing is taken."""
    drained(queue, each_ms=12_000, entries=30)
    before = waits(queue, "before")
    assert before == 12_000
    assert len(queue.take("measuring", 2)) == 2
    for number in range(60):
        are_there(queue, "measuring")
        queue.ask(f"idle-{number}")
        assert queue.take("measuring")
        queue.now += 1
    assert 0 < waits(queue, "after") < 1_000
    queue.now += MOST_MEAN_AGE_MS + 1
    assert read_placed(queue.ask("late")).milliseconds == -1
    assert read_state(queue.run(queue.calls.beat("g"))).mean_us == 0


def test_a_pace_of_times_to_come_is_not_believed(queue: HeldQueue) -> None:
    """Where the clock of Redis has gone back an hour, a pace that was measured before refuses nobody for that hour."""
    drained(queue, each_ms=12_000, entries=5)
    assert read_state(queue.run(queue.calls.beat("g"))).mean_us > 0
    queue.now -= 3_600_000
    assert read_state(queue.run(queue.calls.beat("g"))).mean_us == 0


def test_an_idle_queue_says_nothing_of_how_fast_it_is(queue: HeldQueue) -> None:
    """Takes of entries that came one by one tell how fast they came, and are no reason to refuse a burst."""
    for number in range(30):
        queue.ask(f"slow-{number}")
        queue.take("w")
        queue.now += 10_000
    for number in range(20):
        assert read_placed(queue.ask(f"burst-{number}", bounds=WIDE._replace(wait_ms=1_000))).accepted


def test_more_than_the_wait_that_is_allowed_is_refused(queue: HeldQueue) -> None:
    """Who would wait longer than the model's queue allows, or than there is time, hears when to come again."""
    drained(queue, each_ms=200, entries=30)
    for number in range(10):
        queue.ask(f"front-{number}")
    bound = read_placed(queue.ask("a", bounds=WIDE._replace(wait_ms=1_500)))
    late = read_placed(queue.ask("b", ttl_ms=1_900))
    assert (bound.word, bound.milliseconds) == (Outcome.WAIT, 500)
    assert (late.word, late.milliseconds) == (Outcome.DEADLINE, 101)


def test_a_flood_costs_others_one_turn(queue: HeldQueue) -> None:
    """Of a tenant that asks for a hundred and one that asks for one, the second one is next but one."""
    for number in range(100):
        queue.ask(f"flood-{number:03}", tenant="loud")
    queue.take("w", 10)
    queue.ask("quiet", tenant="quiet")
    assert "quiet" in [one.id for one in queue.take("w", 2)]


def test_who_cancels_pays_nothing(queue: HeldQueue) -> None:
    """A tenant whose clients give up while they wait, and try again, is as far in front as one that has asked once."""
    queue.ask("first", tenant="other")
    queue.ask("patient", tenant="patient", tokens=1_000)
    for number in range(100):
        queue.ask(f"tried-{number}", tenant="hasty", tokens=1_000)
    queue.run(queue.calls.cancel([f"tried-{number}" for number in range(100)]))
    for number in range(50):
        queue.ask(f"other-{number:02}", tenant="other", tokens=1_000)
    assert read_placed(queue.ask("again", tenant="hasty", tokens=1_000)).place == 0
    queue.take("w", 3)
    queue.run(queue.calls.cancel(["again", "other-00"]))
    assert [one.id for one in queue.take("w")] == ["other-01"]


def test_an_entry_that_redis_has_given_up_can_be_cancelled(queue: HeldQueue) -> None:
    """Of one whose key is gone nothing is left that counts as waiting."""
    queue.ask("e")
    queue.client.delete(f"{queue.calls.prefix}entry:e")
    assert queue.run(queue.calls.cancel(["e"])) == 0
    assert read_state(queue.run(queue.calls.beat("g"))).waiting == (0, 0, 0, 0)


def test_who_was_away_has_saved_nothing(queue: HeldQueue) -> None:
    """A tenant that comes late shares from then on: what others have had before gives it no turns of its own."""
    for number in range(100):
        queue.ask(f"early-{number:03}", tenant="early")
    queue.take("w", 50)
    for number in range(20):
        queue.ask(f"late-{number:02}", tenant="late")
    next_ones = [one.id.partition("-")[0] for one in queue.take("w", 20)]
    assert abs(next_ones.count("late") - 10) <= 1


def test_weights_are_shares(queue: HeldQueue) -> None:
    """A tenant of weight 3 gets three times the tokens of one of weight 1, whatever their requests are."""
    for number in range(60):
        queue.ask(f"small-{number:02}", tenant="light", weight=1.0, tokens=10)
        queue.ask(f"large-{number:02}", tenant="heavy", weight=3.0, tokens=30)
    taken = [one.id.partition("-")[0] for one in queue.take("w", 40)]
    assert abs(taken.count("small") - 20) <= 1


def test_no_class_waits_for_ever(queue: HeldQueue) -> None:
    """As long as more urgent entries keep coming, the least urgent class gets one in so many."""
    for number in range(40):
        queue.ask(f"high-{number:02}", priority=PriorityClass.HIGH)
    queue.ask("batch", priority=PriorityClass.BATCH)
    order = [one.id for one in queue.take("w", 40)]
    assert order.index("batch") == PASSED_OVER


def test_each_turn_of_a_class_is_waited_for_anew(queue: HeldQueue) -> None:
    """When a class that waits has had one its count begins again: it does not go first from then on."""
    for number in range(40):
        queue.ask(f"high-{number:02}", priority=PriorityClass.HIGH)
    for number in range(2):
        queue.ask(f"low-{number}", priority=PriorityClass.LOW)
    order = [one.id for one in queue.take("w", 40)]
    assert [order.index("low-0"), order.index("low-1")] == [PASSED_OVER, 2 * PASSED_OVER + 1]


def test_what_was_had_before_the_queue_was_empty_counts_no_more(queue: HeldQueue) -> None:
    """When nobody waits a new period begins: who has had much before shares alike from then on."""
    for number in range(10):
        queue.ask(f"before-{number}", tenant="early")
    queue.take("w", 10)
    for tenant in ("early", "late"):
        for number in range(2):
            queue.ask(f"{tenant}-{number}", tenant=tenant)
    assert [one.id.partition("-")[0] for one in queue.take("w", 4)] == ["early", "late", "early", "late"]


def test_batches_wait_for_who_takes_them(queue: HeldQueue) -> None:
    """A worker takes of class batch no more than is to spare beside what it takes of others."""
    for number in range(4):
        queue.ask(f"batch-{number}", priority=PriorityClass.BATCH)
    assert queue.take("w", 4, spare=0) == []
    assert [one.id for one in queue.take("w", 4, spare=1)] == ["batch-0"]
    queue.ask("low", priority=PriorityClass.LOW)
    assert [one.id for one in queue.take("w", 4, spare=2)] == ["low", "batch-1"]


def test_class_batch_moves_without_spare_room(queue: HeldQueue) -> None:
    """With a queue of others before it that never ends, and workers that are always full, one of it goes in each turn
    of thirty seconds, and no more."""
    for number in range(4):
        queue.ask(f"batch-{number}", priority=PriorityClass.BATCH, ttl_ms=86_400_000)
    taken = []
    for second in range(100):
        for number in range(2):
            queue.ask(f"high-{second:03}-{number}", priority=PriorityClass.HIGH)
        taken += [(second, one.id) for one in queue.take("w", spare=0) if one.id.startswith("batch")]
        queue.now += 1_000
    assert taken == [(30, "batch-0"), (60, "batch-1"), (90, "batch-2")]


def test_class_batch_moves_where_nothing_else_is_queued(queue: HeldQueue) -> None:
    """Beside direct requests that leave a worker some room, and none to spare, it has its turns as well; a turn begins
    when the class begins to wait, not before."""
    queue.now += 10 * BATCH_TURN_MS
    for number in range(2):
        queue.ask(f"batch-{number}", priority=PriorityClass.BATCH, ttl_ms=86_400_000)
    queue.now += BATCH_TURN_MS - 1
    are_there(queue, "w")
    assert queue.take("w", spare=0) == []
    queue.now += 1
    assert [one.id for one in queue.take("w", 8, spare=0)] == ["batch-0"]
    queue.run(queue.calls.cancel(["batch-1"]))
    queue.now += 10 * BATCH_TURN_MS
    queue.ask("later", priority=PriorityClass.BATCH, ttl_ms=86_400_000)
    assert queue.take("w", spare=0) == []


def test_what_was_taken_rings_for_nobody_else(queue: HeldQueue) -> None:
    """When nothing waits any more the bell is silent; as long as something does it is not."""
    for number in range(3):
        queue.ask(f"e{number}")
    bell = bell_key(queue.calls.prefix)
    queue.take("w", 2)
    assert queue.client.exists(bell)
    queue.take("w", 2)
    assert not queue.client.exists(bell)
    queue.ask("gone")
    queue.run(queue.calls.cancel(["gone"]))
    assert queue.take("w", 2) == []
    assert not queue.client.exists(bell)


def test_tenants_of_whom_nothing_waits_are_forgotten(queue: HeldQueue) -> None:
    """While a class is never empty its tenants do not pile up, and those that wait keep their turns."""
    for number in range(10):
        queue.ask(f"steady-{number}", tenant="steady")
    for number in range(2 * MOST_TENANTS):
        queue.ask(f"again-{number}", tenant="steady")
        queue.ask(f"once-{number}", tenant=f"tenant-{number}")
        assert len(queue.take("w", 2)) == 2
    known = queue.client.hlen(f"{queue.calls.prefix}finish:{int(PriorityClass.DEFAULT)}")
    assert known <= MOST_TENANTS + 40
    queue.ask("last", tenant="steady")
    queue.ask("new", tenant="another")
    assert "new" in [one.id for one in queue.take("w", 2)]
    assert "last" in [one.id for one in queue.take("w", 100)][-1:]


def test_tenants_that_all_wait_are_bounded_too(queue: HeldQueue) -> None:
    """However many tenants are ahead of their turns, not more than ten times as many are remembered."""
    finish = f"{queue.calls.prefix}finish:{int(PriorityClass.DEFAULT)}"
    queue.client.hset(finish, mapping={f"tenant-{number}": 1e9 for number in range(10 * MOST_TENANTS)})
    for number in range(20):
        queue.ask(f"e{number}", tenant=f"new-{number}")
    assert queue.client.hlen(finish) <= 10 * MOST_TENANTS


@pytest.mark.parametrize("crashed", [False, True])
def test_what_is_given_back_goes_before_what_came_later(queue: HeldQueue, crashed: bool) -> None:
    """Also where nobody has waited meanwhile, so that tenants' turns have begun anew: it is the next one."""
    for number in range(20):
        queue.ask(f"early-{number:02}", tokens=10_000)
    early = queue.take("w", 20)
    for number in range(5):
        queue.ask(f"later-{number}", tokens=10, tenant="b")
    queue.take("v")
    queue.run(queue.calls.give_back("w", [early[-1].id, early[3].id], crashed=crashed))
    assert {one.id for one in queue.take("v", 2)} == {"early-19", "early-03"}
    assert [one.id for one in queue.take("v", 2)] == ["later-1", "later-2"]


def test_what_is_given_back_twice_is_given_back_once(queue: HeldQueue) -> None:
    """A worker that says it again, as it has not heard the reply, neither loses nor counts its next attempt."""
    queue.ask("e")
    again = queue.calls.give_back("w", ["e"], crashed=True, attempts={"e": 1})
    queue.take("w")
    queue.run(again)
    assert [(one.id, one.attempt) for one in queue.take("w")] == [("e", 2)]
    queue.run(again)
    assert (queue.take("v"), queue.pieces("g")) == ([], [])
    assert post(queue, "w", Post("e", 2, 0, Kind.HEAD, b"h")) == [Posted.OK]


def test_what_is_given_back_takes_no_turns_from_who_waits(queue: HeldQueue) -> None:
    """After an old entry has gone first, a tenant that comes then still starts behind what was taken before."""
    for number in range(10):
        queue.ask(f"a-{number}", tokens=10)
    queue.take("w", 5)
    queue.run(queue.calls.give_back("w", ["a-0"], crashed=False))
    assert [one.id for one in queue.take("w")] == ["a-0"]
    for number in range(3):
        queue.ask(f"late-{number}", tenant="late")
    assert [one.id for one in queue.take("w", 3)] == ["late-0", "a-5", "late-1"]


def test_one_piece_posted_twice_comes_once(queue: HeldQueue) -> None:
    """A worker that does not know whether it was heard says it again, and nobody reads it twice."""
    queue.ask("e")
    queue.take("w")
    pieces = (Post("e", 1, 0, Kind.HEAD, b"h"), Post("e", 1, 1, Kind.DATA, b"d"))
    assert post(queue, "w", *pieces) == [Posted.OK, Posted.OK]
    assert post(queue, "w", *pieces) == [Posted.OK, Posted.OK]
    assert [piece.data for piece in queue.pieces("g")] == [b"h", b"d"]


def test_after_its_first_piece_an_entry_is_nobody_elses(queue: HeldQueue) -> None:
    """Of a worker that is lost in the middle of an answer the gateway hears, and no other worker begins anew."""
    queue.ask("e")
    queue.take("w")
    post(queue, "w", Post("e", 1, 0, Kind.HEAD, b"h"))
    queue.age("w")
    queue.run(queue.calls.sweep())
    assert failures(queue.pieces("g")) == [("e", b"lost")]
    assert queue.take("v") == []


def test_what_must_not_be_sent_twice_is_nobody_elses(queue: HeldQueue) -> None:
    """Of a worker that is lost the gateway hears, though nothing was posted; what it gives back in order is taken."""
    queue.ask("e", once=True)
    queue.take("w")
    queue.run(queue.calls.give_back("w", ["e"], crashed=False))
    assert [one.id for one in queue.take("w")] == ["e"]
    queue.age("w")
    queue.run(queue.calls.sweep())
    assert failures(queue.pieces("g")) == [("e", b"lost")]
    assert queue.take("v") == []


def test_a_worker_that_was_thought_lost_is_refused(queue: HeldQueue) -> None:
    """Its entry is another worker's by then: nothing that it says reaches the gateway, under the same name too."""
    queue.ask("e")
    queue.take("w")
    queue.age("w")
    queue.run(queue.calls.sweep())
    (again,) = queue.take("w")
    assert again.attempt == 2
    assert post(queue, "w", Post("e", 1, 0, Kind.HEAD, b"old")) == [Posted.GONE]
    assert post(queue, "v", Post("e", 2, 0, Kind.HEAD, b"other")) == [Posted.GONE]
    assert queue.pieces("g") == []
    assert post(queue, "w", Post("e", 2, 0, Kind.HEAD, b"new")) == [Posted.OK]


def test_a_renewed_entry_is_not_lost(queue: HeldQueue) -> None:
    """Who says in time that it works on an entry keeps it, and hears of those that nobody wants any more."""
    queue.ask("kept")
    queue.ask("unwanted")
    queue.take("w", 2)
    queue.run(queue.calls.cancel(["unwanted"]))
    queue.age("w")
    assert read_ids(queue.run(queue.calls.renew("w", ["kept", "unwanted", "never"], room=1))) == ["unwanted", "never"]
    queue.run(queue.calls.sweep())
    assert queue.take("v") == []
    assert post(queue, "w", Post("kept", 1, 0, Kind.HEAD, b"h")) == [Posted.OK]


def test_a_slow_reader_stops_its_answer_and_no_other(queue: HeldQueue) -> None:
    """Beyond the window a piece is refused until the gateway has passed on half of it; others go on."""
    queue.ask("slow")
    queue.ask("quick")
    queue.take("w", 2)
    half = b"x" * (WINDOW_BYTES // 2)
    said = post(
        queue, "w", Post("slow", 1, 0, Kind.DATA, half), Post("slow", 1, 1, Kind.DATA, half),
        Post("slow", 1, 2, Kind.DATA, b"more"), Post("slow", 1, 3, Kind.END, b""), Post("quick", 1, 0, Kind.DATA, half),
    )  # fmt: skip
    assert said == [Posted.OK, Posted.OK, Posted.FULL, Posted.FULL, Posted.OK]
    queue.run(queue.calls.acknowledge([("slow", 10), ("quick", len(half))]))
    assert queue.client.lrange(told_key(queue.calls.prefix, "w"), 0, -1) == []
    queue.run(queue.calls.acknowledge([("slow", len(half))]))
    assert queue.client.lrange(told_key(queue.calls.prefix, "w"), 0, -1) == [b"gslow"]
    assert post(queue, "w", Post("slow", 1, 2, Kind.DATA, b"more")) == [Posted.OK]


def test_a_gateway_that_reads_nothing_loses_nothing(queue: HeldQueue) -> None:
    """When so much waits for it that more would push something out, workers wait; what ends an answer still comes."""
    queue.ask("e")
    queue.take("w")
    with queue.client.pipeline() as pipe:
        for _ in range(MOST_OUT - 1):
            pipe.xadd(out_key(queue.calls.prefix, "g"), {"i": "x", "a": 1, "k": "d", "d": b"", "p": "", "n": ""})
        pipe.execute()
    said = post(queue, "w", Post("e", 1, 0, Kind.HEAD, b"h"), Post("e", 1, 1, Kind.DATA, b"d"))
    assert said == [Posted.OK, Posted.FULL]
    queue.client.xtrim(out_key(queue.calls.prefix, "g"), maxlen=1, approximate=False)
    assert post(queue, "w", Post("e", 1, 1, Kind.DATA, b"d")) == [Posted.OK]
    pieces = [piece for piece in queue.pieces("g") if piece.id == "e"]
    assert [(piece.kind, piece.number) for piece in pieces] == [(Kind.HEAD, 0), (Kind.DATA, 1)]
    assert pieces[0].place == pieces[1].place > (0, 0)


def test_a_large_piece_fits_into_an_empty_window(queue: HeldQueue) -> None:
    """An answer in one piece that is larger than the window comes through: otherwise it never would."""
    queue.ask("e")
    queue.take("w")
    assert post(queue, "w", Post("e", 1, 0, Kind.DATA, b"x" * (2 * WINDOW_BYTES))) == [Posted.OK]


def test_a_gateway_that_leaves_leaves_nothing(queue: HeldQueue) -> None:
    """What it has asked for is dropped, the worker is told, and its answers are deleted; others' entries stay."""
    queue.ask("waits", gateway="gone")
    queue.ask("runs", gateway="gone", priority=PriorityClass.HIGH)
    queue.ask("other", gateway="stays")
    queue.take("w")
    queue.run(queue.calls.leave(gateway="gone"))
    assert queue.run(queue.calls.sweep()) == 2
    assert queue.client.lrange(told_key(queue.calls.prefix, "w"), 0, -1) == [b"xruns"]
    assert [one.id for one in queue.take("v", 5)] == ["other"]


@pytest.mark.parametrize("swept", [False, True])
def test_a_gateway_hears_that_it_was_taken_for_dead(queue: HeldQueue, swept: bool) -> None:
    """Whoever drops what a silent gateway has asked for says so, once, with that gateway's next beat."""
    queue.ask("e")
    queue.forget_gateway("g")
    if swept:
        queue.run(queue.calls.sweep())
    else:
        assert queue.take("w") == []
    queue.ask("next")
    assert [read_state(queue.run(queue.calls.beat("g"))).dropped for _ in range(2)] == [1, 0]
    assert read_state(queue.run(queue.calls.beat("other"))).dropped == 0


def test_a_worker_is_forgotten_when_it_has_nothing(queue: HeldQueue) -> None:
    """Consumers of workers that are gone do not pile up, and those that still have entries are kept till they end."""
    queue.ask("e")
    queue.take("w")
    queue.run(queue.calls.renew("w", ["e"], room=0))
    queue.run(queue.calls.leave(worker="w"))
    queue.run(queue.calls.sweep())
    group = f"{queue.calls.prefix}work:{int(PriorityClass.DEFAULT)}"
    assert [one["name"] for one in queue.client.xinfo_consumers(group, "workers")] == [b"w"]
    post(queue, "w", Post("e", 1, 0, Kind.END, b""))
    queue.run(queue.calls.sweep())
    assert queue.client.xinfo_consumers(group, "workers") == []


def test_workers_and_room_are_counted(queue: HeldQueue) -> None:
    """A gateway hears how many workers there are, how many gateways, and how much more would be taken."""
    queue.run(queue.calls.renew("w", [], room=3))
    queue.run(queue.calls.renew("v", [], room=4))
    state = read_state(queue.run(queue.calls.beat("g")))
    assert (state.workers, state.room, state.gateways) == (2, 7, 1)
    for _ in range(4):
        queue.now += QUIET_MS
        state = read_state(queue.run(queue.calls.beat("h")))
    assert (state.workers, state.room, state.gateways) == (0, 0, 1)


def test_what_redis_has_forgotten_is_said(queue: HeldQueue) -> None:
    """A gateway whose Redis has lost its memory hears which of its entries it has to put in again."""
    queue.ask("kept")
    assert read_ids(queue.run(queue.calls.known(["kept", "lost"]))) == ["lost"]


def test_models_share_nothing(queue: HeldQueue) -> None:
    """Two models have no key in common, and all keys of one are in one slot."""
    queue.ask("e")
    other = Queue(queue_prefix("other/chat"))
    assert other.prefix != queue.calls.prefix
    assert HeldQueue(queue.client, "other/chat").take("w") == []
    keys = [key.decode() for key in queue.client.keys("capstan:*")]
    assert {key[: len(queue.calls.prefix)] for key in keys} == {queue.calls.prefix}


def test_a_redis_without_room_refuses_as_a_whole(queue: HeldQueue) -> None:
    """An entry that Redis has no memory for is not there at all."""
    call = queue.calls.enqueue(
        "e", priority=PriorityClass.DEFAULT, tenant="a", weight=1.0, tokens=1, ttl_ms=60_000, gateway="g", ask=b"{}",
        body=b"body", bounds=WIDE,
    )  # fmt: skip
    queue.client.config_set("maxmemory", "1")
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            queue.client.eval(call.script, len(call.keys), *call.keys, *call.arguments)
    finally:
        queue.client.config_set("maxmemory", "0")
    assert queue.left() == set()
    assert queue.take("w") == []


def test_a_redis_without_room_lets_go_on_what_is_there(queue: HeldQueue) -> None:
    """Answers are posted, read and ended, workers and gateways say that they are there, and entries are cancelled: by
    that a full Redis gets room again, and nobody is thought lost meanwhile."""
    queue.now = int(time.time() * 1000)  # The calls below know Redis' own clock.
    for name in ("answered", "unwanted", "back", "waits"):
        queue.ask(name)
    queue.take("w", 3)
    calls = queue.calls
    order = [
        calls.renew("w", ["answered"], room=1),
        calls.beat("g"),
        calls.post("w", [Post("answered", 1, 0, Kind.HEAD, b"h"), Post("answered", 1, 1, Kind.DATA, b"data")]),
        calls.acknowledge([("answered", 4)]),
        calls.cancel(["unwanted"]),
        calls.withdraw(["answered"]),
        calls.give_back("w", ["back"], crashed=False),
        calls.take("v", most=1, spare=1),
        calls.post("w", [Post("answered", 1, 2, Kind.END, b"")]),
        calls.sweep(),
        calls.pass_on(),
        calls.leave(worker="w"),
        calls.leave(gateway="g"),
    ]
    queue.client.config_set("maxmemory", "1")
    try:
        for call in order:
            queue.client.eval(call.script, len(call.keys), *call.keys, *call.arguments)
    finally:
        queue.client.config_set("maxmemory", "0")
    assert [piece.data for piece in queue.pieces("g")] == [b"h", b"data", b""]


def test_nobody_is_gone_who_could_not_say_that_it_is_there(queue: HeldQueue) -> None:
    """After a Redis that was away, no worker has lost its entries and no gateway is dropped before they have had the
    time of a lease; behind it silence counts again."""
    queue.run(queue.calls.beat("g"))
    queue.ask("runs")
    queue.ask("waits")
    queue.take("w")
    post(queue, "w", Post("runs", 1, 0, Kind.HEAD, b"h"))
    queue.now += 20_000
    queue.age("w")
    assert queue.run(queue.calls.sweep()) == 0
    assert queue.take("v") == []
    assert read_ids(queue.run(queue.calls.renew("w", ["runs"], room=1))) == []
    assert read_state(queue.run(queue.calls.beat("g"))).dropped == 0
    assert [one.id for one in queue.take("v")] == ["waits"]
    for _ in range(4):
        queue.now += QUIET_MS
        queue.run(queue.calls.beat("g"))
    queue.age("w")
    assert queue.run(queue.calls.sweep()) == 1
    assert failures(queue.pieces("g")) == [("runs", b"lost")]
    queue.ask("of the dead", gateway="dead")
    for _ in range(4):
        queue.now += QUIET_MS
        queue.run(queue.calls.beat("g"))
    assert queue.take("w") == []


def test_workers_and_gateways_are_counted_on_after_an_outage(queue: HeldQueue) -> None:
    """After a Redis that was away for longer than anybody counts as there, those that were there count until everybody
    has had the time to say so: a worker that has an entry is not none. One that had said that it ends does not."""
    queue.run(queue.calls.beat("other"))
    for name in ("w", "dead"):
        queue.run(queue.calls.renew(name, [], room=2))
    queue.run(queue.calls.renew("ends", [], room=LEAVING))
    queue.now += 20_000
    state = read_state(queue.run(queue.calls.beat("g")))
    assert (state.workers, state.room, state.gateways) == (2, 4, 2)
    for _ in range(4):
        queue.now += QUIET_MS
        queue.run(queue.calls.beat("g"))
        queue.run(queue.calls.renew("w", [], room=1))
    state = read_state(queue.run(queue.calls.beat("g")))
    assert (state.workers, state.room, state.gateways) == (1, 1, 1)


def test_a_clock_that_is_put_back_keeps_nobody_alive(queue: HeldQueue) -> None:
    """Who has said that it is there before the clock of Redis went back an hour is gone when it says so no more, and
    its entries are another worker's."""
    queue.run(queue.calls.renew("dead", [], room=5))
    queue.ask("lost", gateway="g")
    queue.ask("dropped", gateway="dead")
    queue.take("dead")
    queue.age("dead")
    queue.now -= 3_600_000
    assert read_state(queue.run(queue.calls.beat("g"))).workers == 1
    (pending,) = queue.client.xpending_range(f"{queue.calls.prefix}work:1", "workers", "-", "+", 10)
    assert pending["time_since_delivered"] < LEASE_MS
    for _ in range(4):
        queue.now += QUIET_MS
        queue.run(queue.calls.beat("g"))
    queue.age("dead")
    assert read_state(queue.run(queue.calls.beat("g"))).workers == 0
    queue.run(queue.calls.sweep())
    assert [one.id for one in queue.take("w", 5)] == ["lost"]


@pytest.mark.parametrize("taken", [False, True])
def test_what_redis_has_given_up_is_looked_for(queue: HeldQueue, taken: bool) -> None:
    """Who finds that an entry is gone, as it would be taken or answered, lets every gateway look for its own."""
    queue.ask("e", gateway="g")
    queue.run(queue.calls.beat("other"))
    if taken:
        queue.take("w")
    queue.client.delete(f"{queue.calls.prefix}entry:e")
    if taken:
        piece = Post("e", 1, 0, Kind.HEAD, b"h")
        assert post(queue, "w", piece) == [Posted.GONE]
    else:
        assert queue.take("w") == []
    assert [read_state(queue.run(queue.calls.beat(name))).dropped for name in ("g", "other", "g")] == [1, 1, 0]


def test_an_answer_that_has_ended_is_looked_for_by_nobody(queue: HeldQueue) -> None:
    """What a worker says behind the end, or behind a cancel, in the same breath, is refused and no more."""
    queue.ask("ended")
    queue.ask("unwanted")
    queue.take("w", 2)
    queue.run(queue.calls.cancel(["unwanted"]))
    pieces = [Post(name, 1, number, Kind.END, b"") for name in ("ended", "unwanted") for number in (0, 1)]
    assert post(queue, "w", *pieces) == [Posted.OK, Posted.GONE, Posted.GONE, Posted.GONE]
    assert read_state(queue.run(queue.calls.beat("g"))).dropped == 0


def test_what_an_engine_may_have_had_is_not_sent_twice(queue: HeldQueue) -> None:
    """Of what a worker gives back at its end, which its engine has begun with, that fails which must not be sent twice;
    the rest is another worker's, and it is no loss."""
    queue.ask("once", once=True)
    queue.ask("any")
    queue.take("w", 2)
    queue.run(queue.calls.give_back("w", ["once", "any"], crashed=False, had=True))
    assert failures(queue.pieces("g")) == [("once", b"lost")]
    assert [(one.id, one.attempt) for one in queue.take("v", 2)] == [("any", 2)]


def test_what_a_silent_gateway_waits_for_is_begun_by_nobody(queue: HeldQueue) -> None:
    """It may have been sent elsewhere meanwhile: it waits, in front, until its gateway says that it is there, and what
    that gives up before is gone."""
    for name in ("given up", "wanted"):
        queue.ask(name)
    queue.now += SILENT_MS
    queue.ask("another's", gateway="h")
    assert [one.id for one in queue.take("w", 5)] == ["another's"]
    queue.ask("later", gateway="h")
    assert queue.run(queue.calls.cancel(["given up"])) == 1
    assert sum(read_state(queue.run(queue.calls.beat("g"))).waiting) == 2
    assert [one.id for one in queue.take("w", 5)] == ["wanted", "later"]
    post(queue, "w", Post("wanted", 1, 0, Kind.END, b""), Post("later", 1, 0, Kind.END, b""))
    post(queue, "w", Post("another's", 1, 0, Kind.END, b""))
    assert not {name for name in queue.left() if not name.startswith("finish:")}
    assert read_state(queue.run(queue.calls.beat("g"))).data == 0


def test_what_a_silent_gateway_has_put_in_again_waits_once(queue: HeldQueue) -> None:
    """What was passed by, was given up and has come again under the same id is counted, and taken, as it has come."""
    queue.ask("e", body=b"body")
    queue.now += SILENT_MS
    assert queue.take("w") == []
    queue.run(queue.calls.cancel(["e"]))
    queue.ask("e", body=b"another")
    assert read_state(queue.run(queue.calls.beat("g"))).data == len(b"another")
    assert [one.body for one in queue.take("w", 2)] == [b"another"]


def test_what_a_gateway_of_before_waits_for_is_not_forgotten(queue: HeldQueue) -> None:
    """What was passed by of a gateway whose release does not ask for it waits again as soon as somebody sweeps who sees
    that the gateway is there, and not before."""
    queue.ask("e", gateway="old")
    queue.now += SILENT_MS
    assert queue.take("w") == []
    queue.run(queue.calls.sweep())
    assert queue.take("w") == []
    queue.client.zadd(f"{queue.calls.prefix}alive", {"old": queue.now + ALIVE_MS})
    queue.run(queue.calls.sweep())
    assert [one.id for one in queue.take("w")] == ["e"]


def test_what_comes_when_nobody_waits_for_it_is_not_put_in(queue: HeldQueue) -> None:
    """A Redis that stood still takes what was sent to it only until its gateway has asked somebody else."""
    assert read_placed(queue.ask("late", not_after_ms=queue.now - 1)).word is Outcome.LATE
    assert queue.left() == set()
    assert read_placed(queue.ask("in time", not_after_ms=queue.now)).accepted


@pytest.mark.parametrize("room", [1, 5])
def test_the_turn_of_class_batch_comes_before_what_is_more_urgent(queue: HeldQueue, room: int) -> None:
    """When class batch has waited for its time one of it goes first, though others wait and nothing is to spare."""
    for number in range(6):
        queue.ask(f"urgent-{number}", priority=PriorityClass.HIGH, ttl_ms=600_000)
    for number in range(2):
        queue.ask(f"batch-{number}", priority=PriorityClass.BATCH, ttl_ms=600_000)
    queue.now += BATCH_TURN_MS
    are_there(queue, "w")
    expected = ["batch-0", *(f"urgent-{number}" for number in range(5))]
    assert [one.id for one in queue.take("w", room, spare=0)] == expected[:room]


def test_a_clock_that_is_put_back_keeps_no_class_waiting(queue: HeldQueue) -> None:
    """Where the clock of Redis has gone back an hour, class batch waits for its time from then on, and no hour more."""
    queue.ask("batch", priority=PriorityClass.BATCH, ttl_ms=86_400_000)
    are_there(queue, "w")
    queue.now -= 3_600_000
    are_there(queue, "w")
    assert queue.take("w", spare=0) == []
    queue.now += BATCH_TURN_MS
    are_there(queue, "w")
    assert [one.id for one in queue.take("w", spare=0)] == ["batch"]


@pytest.mark.parametrize("why", ["dead", "late"])
def test_what_is_dropped_costs_its_tenant_nothing(queue: HeldQueue, why: str) -> None:
    """Who has asked for much of which nothing was taken, as its gateway died or its time was over, stands where it
    would without that."""
    queue.ask("a", tenant="a", tokens=1000, gateway="dead", ttl_ms=1_000)
    for number in range(3):
        queue.ask(f"b{number}", tenant="b", gateway="g")
    if why == "dead":
        queue.forget_gateway("dead")
    else:
        queue.now += 1_000
    assert [one.id for one in queue.take("w")] == ["b0"]
    queue.ask("again", tenant="a", tokens=1000, gateway="g")
    assert [one.id for one in queue.take("w")] == ["again"]


def test_what_redis_has_given_up_is_nobodys_when_it_is_cancelled(queue: HeldQueue) -> None:
    """An entry that is cancelled after Redis has given it up is in nobody's list any more."""
    queue.ask("e")
    queue.client.delete(f"{queue.calls.prefix}entry:e")
    queue.run(queue.calls.cancel(["e"]))
    assert queue.left() <= {"finish:1"}


def test_the_dead_are_noticed_when_the_time_of_a_lease_is_over(queue: HeldQueue) -> None:
    """After an outage the silence of others says nothing for the time of a lease, and no longer."""
    queue.run(queue.calls.beat("g"))
    queue.ask("runs", gateway="g")
    queue.take("w")
    queue.now += 20_000
    queue.age("w")
    for _ in range(LEASE_MS // QUIET_MS):
        assert queue.run(queue.calls.sweep()) == 0
        queue.now += QUIET_MS
        queue.run(queue.calls.beat("g"))
    queue.now -= 1
    assert queue.run(queue.calls.sweep()) == 0
    queue.now += 1
    assert queue.run(queue.calls.sweep()) == 1


def test_of_a_dead_gateway_that_was_passed_by_nothing_stays(queue: HeldQueue) -> None:
    """What a gateway waits for that does not come back is dropped, and so is the note of what was passed by."""
    for name in ("e", "given up by Redis"):
        queue.ask(name, gateway="dead")
    for _ in range(3):
        queue.now += QUIET_MS
        queue.run(queue.calls.beat("g"))
        assert queue.take("w") == []
    queue.client.delete(f"{queue.calls.prefix}entry:given up by Redis")
    queue.run(queue.calls.sweep())
    left = {key.decode().removeprefix(queue.calls.prefix) for key in queue.client.scan_iter("capstan:*")}
    assert not {name for name in left if name.startswith(("silent:", "entry:", "own:"))}


def test_bells_are_bounded(queue: HeldQueue) -> None:
    """However much waits, so many bells at most do."""
    for number in range(MOST_BELLS + 5):
        queue.ask(f"e{number}")
    assert queue.client.llen(bell_key(queue.calls.prefix)) == MOST_BELLS


def test_only_what_nobody_has_is_withdrawn(queue: HeldQueue) -> None:
    """What waits, or was passed by, is gone when it is withdrawn; what a worker has goes on, and is not given."""
    for name in ("taken", "passed by", "waits"):
        queue.ask(name, gateway="h" if name == "passed by" else "g", tenant=name)
    queue.run(queue.calls.beat("g"))
    queue.client.zadd(f"{queue.calls.prefix}alive", {"h": queue.now + ALIVE_MS - SILENT_MS})
    assert [one.id for one in queue.take("w")] == ["taken"]
    asked = queue.calls.withdraw(["taken", "passed by", "waits", "never"])
    assert read_ids(queue.run(asked)) == ["passed by", "waits"]
    assert read_ids(queue.run(asked)) == []
    queue.run(queue.calls.beat("h"))
    assert queue.take("w", 5) == []
    assert post(queue, "w", Post("taken", 1, 0, Kind.END, b"")) == [Posted.OK]
    assert queue.left() <= {"finish:1"}
