"""A worker of the queue, a real Redis, and an engine that does what a test says."""

import asyncio
import os

import pytest

from capstan_contract.queue.calls import Failure
from capstan_contract.queue.names import PriorityClass, told_key
from capstan_contract.queue.wire import AnswerHead, Packing
from capstan_worker.errors import EngineError, EngineUnreachable
from capstan_worker.queue import consumer as consumers
from capstan_worker.queue import work as works
from support.queue_gateway import QueueGateway
from support.queue_worker import ScriptedEngine, consumer
from support.redis_server import RedisServer
from support.wait import eventually

pytestmark = pytest.mark.redis


async def test_an_entry_is_answered(server: RedisServer, gateway: QueueGateway) -> None:
    """What is asked comes to the engine as it is, and its answer to the gateway, head first, once."""
    engine = ScriptedEngine()
    async with consumer(server.url, engine, host="pod-1", address="10.0.0.1:8000"):
        one = gateway.ask(
            {"n": 1},
            path="/v1/completions",
            headers=[("x-request-id", "r1"), ("Host", "gateway"), ("accept-encoding", "gzip")],
        )
        await eventually(lambda: engine.has(one), every=0.01)
        (request,) = engine.asked
        assert (request.path, request.body, request.headers) == (
            "/v1/completions", b'{"n": 1}', (("x-request-id", "r1"),),
        )  # fmt: skip
        gateway.read()
        assert gateway.answers[one].pieces == 0  # nothing is said before the engine has given something
        engine.give(one, b"data: a\n\n", b"data: b\n\n")
        assert (await gateway.begun(one)).head is not None
        engine.give(one, b"data: c\n\n", None)
        (answer,) = await gateway.done(one)
    assert answer.ends == ["end"]
    assert answer.body == b"data: a\n\ndata: b\n\ndata: c\n\n"
    assert answer.head is not None
    assert answer.head == AnswerHead(200, "text/event-stream", "pod-1", "10.0.0.1:8000")
    assert gateway.left() == 0


async def test_what_is_sealed_stays_sealed(server: RedisServer, gateway: QueueGateway) -> None:
    """With a key neither the prompt nor the answer can be read in Redis, and an entry that is not sealed is refused."""
    packing = Packing(b"k" * 16)
    sealed = QueueGateway(gateway.client, name="sealed", packing=packing)
    engine = ScriptedEngine(at_once=b"the answer")
    async with consumer(server.url, engine, packing=packing):
        one, plain = sealed.ask(body=b"the prompt"), gateway.ask(entry_id="plain")
        (answer,) = await sealed.done(one)
        (refused,) = await gateway.done(plain)
    assert answer.body == b"the answer"
    assert engine.asked[0].body == b"the prompt"
    assert refused.ends == ["unreadable"]
    stored = b"".join(
        data for _, fields in gateway.client.xrange(f"{gateway.calls.prefix}out:sealed") for data in fields.values()
    )
    assert b"answer" not in stored


@pytest.mark.parametrize(
    "wrong",
    [{"ask": b"nonsense"}, {"path": "/v1/load_lora_adapter"}, {"path": "/metrics"}],
)
async def test_what_cannot_be_asked_is_not_asked(server: RedisServer, gateway: QueueGateway, wrong: dict) -> None:
    """An ask that is none, or for a path that is no model's, never comes to the engine."""
    engine = ScriptedEngine(at_once=b"x")
    async with consumer(server.url, engine):
        (answer,) = await gateway.done(gateway.ask(**wrong))
    assert answer.ends == ["unreadable"]
    assert not engine.asked


async def test_a_large_body_comes_whole(server: RedisServer, gateway: QueueGateway) -> None:
    """Also one that is unpacked apart from the loop."""
    engine = ScriptedEngine(at_once=b"x")
    body = os.urandom(400_000)
    async with consumer(server.url, engine):
        await gateway.done(gateway.ask(body=body))
    assert engine.asked[0].body == body


async def test_no_more_is_taken_than_there_is_room(server: RedisServer, gateway: QueueGateway) -> None:
    """Direct requests take places too; each end lets one more in, and all are answered."""
    engine = ScriptedEngine(places=3, others=1)
    async with consumer(server.url, engine):
        ids = [gateway.ask() for _ in range(7)]
        for most in (2, 2, 2, 2, 2, 2, 1):
            await eventually(lambda most=most: len(engine.running) == most, every=0.01, what="room used")
            one = next(iter(engine.running)).rpartition(".")[0]
            engine.give(one, b"x", None)
            await eventually(lambda one=one: not engine.has(one), every=0.01)
        answers = await gateway.done(*ids)
    assert engine.most == 2
    assert all(answer.ends == ["end"] for answer in answers)


@pytest.mark.parametrize("bound", ["MOST_BODIES", "MOST_HELD"])
async def test_no_more_is_taken_than_there_is_memory_for(
    server: RedisServer, gateway: QueueGateway, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """While bodies, or answers that Redis has not taken, are more than a worker may hold, it takes nothing more."""
    monkeypatch.setattr(consumers, bound, 100 if bound == "MOST_BODIES" else -1)
    engine = ScriptedEngine()
    async with consumer(server.url, engine):
        ids = [gateway.ask(body=os.urandom(200))]
        if bound == "MOST_HELD":
            await asyncio.sleep(0.5)  # So that it would have been taken.
            assert not engine.asked
            monkeypatch.setattr(consumers, bound, 0)
        await eventually(lambda: engine.has(ids[0]), every=0.01, what="the first")
        if bound == "MOST_BODIES":
            ids.append(gateway.ask(body=os.urandom(200)))
            await asyncio.sleep(0.5)
        engine.give(ids[0], b"x", None)
        if bound == "MOST_BODIES":
            await eventually(lambda: engine.has(ids[1]), every=0.01, what="the second")
            engine.give(ids[1], b"x", None)
        await gateway.done(*ids)
    assert engine.most == 1


async def test_a_cancel_reaches_the_engine(server: RedisServer, gateway: QueueGateway) -> None:
    """What nobody wants any more stops at the engine at once, before the first piece or behind it."""
    engine = ScriptedEngine()
    async with consumer(server.url, engine) as worker:
        waiting, begun = gateway.ask(), gateway.ask()
        await eventually(lambda: engine.has(waiting) and engine.has(begun), every=0.01)
        engine.give(begun, b"x")
        await gateway.begun(begun)
        gateway.cancel(waiting, begun)
        await eventually(lambda: not engine.running and worker.unfinished == 0, every=0.01, what="the engine's stop")
        await eventually(lambda: gateway.left() == 0, every=0.01, what="entries forgotten")
    assert len(engine.aborted) == 2
    gateway.read()
    assert not gateway.answers[waiting].ends
    assert not gateway.answers[begun].ends


async def test_a_deadline_stops_the_engine(server: RedisServer, gateway: QueueGateway) -> None:
    """An entry whose deadline passes while the engine works on it is answered with `expired`."""
    engine = ScriptedEngine()
    async with consumer(server.url, engine):
        one = gateway.ask(ttl_ms=300)
        (answer,) = await gateway.done(one)
        await eventually(lambda: not engine.running, every=0.01)
    assert answer.ends == ["expired"]


async def test_an_engine_that_dies_of_an_entry_twice_gets_it_no_more(
    server: RedisServer, gateway: QueueGateway
) -> None:
    """An engine that breaks off before its first piece may have died of the entry: the second time is the last."""
    engine = ScriptedEngine(head_error=EngineError("broke off"))
    async with consumer(server.url, engine):
        (answer,) = await gateway.done(gateway.ask())
    assert answer.ends == ["poison"]
    assert len(engine.asked) == 2


async def test_an_engine_that_breaks_off_in_the_middle(server: RedisServer, gateway: QueueGateway) -> None:
    """What it has given is passed on, and then the client is told; nobody begins anew behind the first piece."""
    engine = ScriptedEngine()
    async with consumer(server.url, engine):
        one = gateway.ask()
        await eventually(lambda: engine.has(one), every=0.01)
        engine.give(one, b"half", EngineError("broke off"))
        (answer,) = await gateway.done(one)
    assert (answer.ends, answer.body) == (["engine"], b"half")


async def test_an_engine_that_is_not_there_costs_no_entry(server: RedisServer, gateway: QueueGateway) -> None:
    """Entries are not lost, and count no loss, while nothing listens; they are answered when the engine is back."""
    engine = ScriptedEngine(at_once=b"x", head_error=EngineUnreachable("gone"))

    def dies(_: object) -> None:
        engine.up = False

    engine.on_asked = dies
    async with consumer(server.url, engine):
        ids = [gateway.ask() for _ in range(3)]
        await eventually(lambda: engine.asked and gateway.state().waiting[1] == 3, every=0.01, what="given back")
        engine.head_error, engine.on_asked, engine.up = None, lambda _: None, True
        answers = await gateway.done(*ids)
    assert all(answer.ends == ["end"] for answer in answers)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_full_engine_is_asked_again_later(server: RedisServer, gateway: QueueGateway, status: int) -> None:
    """That it has no room is no answer: the entry waits again, and the next attempt is answered."""
    engine = ScriptedEngine(status=status, at_once=b"full")
    async with consumer(server.url, engine) as worker:
        one = gateway.ask()
        await eventually(lambda: engine.asked, every=0.01)
        engine.status, engine.at_once = 200, b"answer"
        (answer,) = await gateway.done(one)
        assert worker.metrics.given_back["full"]._value.get() >= 1
    assert (answer.ends, answer.body) == (["end"], b"answer")
    assert min(answer.attempts) > 1


async def test_an_engine_that_is_always_full_has_said_so(
    server: RedisServer, gateway: QueueGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many attempts what the engine answers is the answer, and the entry goes round no more."""
    monkeypatch.setattr(works, "MOST_REFUSALS", 3)
    engine = ScriptedEngine(status=429, at_once=b"full")
    async with consumer(server.url, engine):
        (answer,) = await gateway.done(gateway.ask())
    assert answer.head is not None
    assert (answer.head.status, answer.body, len(engine.asked)) == (429, b"full", 3)
    assert gateway.left() == 0


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_other_errors_of_the_engine_are_its_answer(
    server: RedisServer, gateway: QueueGateway, status: int
) -> None:
    """A request that the engine does not want is not asked again."""
    engine = ScriptedEngine(status=status, at_once=b'{"error":1}')
    async with consumer(server.url, engine):
        (answer,) = await gateway.done(gateway.ask())
    assert answer.head is not None
    assert (answer.ends, answer.head.status, len(engine.asked)) == (["end"], status, 1)


async def test_the_least_urgent_takes_no_place_that_others_may_need(server: RedisServer, gateway: QueueGateway) -> None:
    """Entries of class batch leave a quarter of the places free, and come behind all that is more urgent."""
    engine = ScriptedEngine(places=8)
    async with consumer(server.url, engine):
        batch = [gateway.ask(priority=PriorityClass.BATCH) for _ in range(8)]
        await eventually(lambda: len(engine.running) == 6, every=0.01, what="six of eight places")
        urgent = [gateway.ask(priority=PriorityClass.LOW) for _ in range(2)]
        await eventually(lambda: all(engine.has(one) for one in urgent), every=0.01, what="the urgent ones")
        assert gateway.state().waiting[PriorityClass.BATCH] == 2
        engine.at_once = b"x"
        for one in (*batch, *urgent):
            if engine.has(one):
                engine.give(one, b"x", None)
        await gateway.done(*batch, *urgent)


async def test_a_slow_reader_holds_only_its_own_answer_up(server: RedisServer, gateway: QueueGateway) -> None:
    """A worker is no more than a window ahead of a reader, goes on when that does, and loses nothing; others go on."""
    engine = ScriptedEngine()
    async with consumer(server.url, engine) as worker:
        slow, quick = gateway.ask(), gateway.ask()
        await eventually(lambda: engine.has(slow) and engine.has(quick), every=0.01)
        large = [os.urandom(200_000) for _ in range(20)]  # not to be compressed
        engine.give(slow, *large, None)
        engine.give(quick, b"x", None)

        def quick_is_done() -> bool:
            gateway.read(acknowledge=False)
            return gateway.answers[quick].done

        await eventually(quick_is_done, every=0.01)
        await eventually(lambda: worker._outbox.held > 0, every=0.01)
        gateway.read(acknowledge=False)
        assert len(gateway.answers[slow].body) < 1_500_000
        assert not gateway.answers[slow].done
        gateway.run(gateway.calls.acknowledge([(slow, len(gateway.answers[slow].body) + 100)]))
        (answer,) = await gateway.done(slow)
    assert answer.body == b"".join(large)
    assert answer.ends == ["end"]


async def test_a_reader_that_takes_nothing_gets_an_error(
    server: RedisServer, gateway: QueueGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a bounded time the engine is stopped, what was held is dropped, and the failure is let through."""
    monkeypatch.setattr("capstan_worker.queue.consumer.SLOW_SECONDS", 0.2)
    monkeypatch.setattr("capstan_worker.queue.consumer.RENEW_SECONDS", 0.05)
    engine = ScriptedEngine()
    async with consumer(server.url, engine) as worker:
        one = gateway.ask()
        await eventually(lambda: engine.has(one), every=0.01)
        engine.give(one, *[os.urandom(200_000) for _ in range(30)])

        def failed() -> bool:
            gateway.read(acknowledge=False)
            return gateway.answers[one].done

        await eventually(failed, every=0.01)
        await eventually(lambda: not engine.running and worker._outbox.held == 0, every=0.01)
    assert gateway.answers[one].ends == ["slow"]


async def test_a_hanging_engine_is_noticed(
    server: RedisServer, gateway: QueueGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that works and gives nothing, and whose counts stand still, is stopped; what nothing was said of waits
    for another worker, and this one says that it hangs. One whose counts grow writes something long."""
    monkeypatch.setattr("capstan_worker.queue.consumer.RENEW_SECONDS", 0.02)
    engine = ScriptedEngine(computed=1)
    async with consumer(server.url, engine, hung_seconds=1.5) as worker:
        one, begun = gateway.ask(), gateway.ask()
        await eventually(lambda: engine.has(one) and engine.has(begun), every=0.01)
        engine.give(begun, b"x")
        looks = 0

        def grows() -> bool:
            nonlocal looks
            looks += 1
            engine.computed = looks
            return looks > 120

        await eventually(grows, every=0.02)
        assert not worker.hung
        engine.up = False
        await eventually(lambda: worker.hung, every=0.01, what="a hanging engine")
        await eventually(lambda: gateway.state().waiting[1] == 1, every=0.01, what="given back")
        (answer,) = await gateway.done(begun)
        assert answer.ends == ["engine"]
        gateway.cancel(one)
        # It is asked one thing at a time, until it gives something again.
        rest = [gateway.ask() for _ in range(3)]
        engine.most, engine.up = 0, True
        await eventually(lambda: gateway.state() and engine.running, every=0.01, what="one that is tried")
        await asyncio.sleep(0.5)
        assert (engine.most, worker.hung) == (1, True)
        engine.at_once = b"x"
        engine.give(next(iter(engine.running)).rpartition(".")[0], b"x", None)
        await gateway.done(*rest)


async def test_a_worker_that_ends_gives_back_what_it_has(
    server: RedisServer, gateway: QueueGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order: it takes nothing more, what it has answered nothing of waits again at once and counts no loss, and of
    what it had begun the client is told."""
    monkeypatch.setattr("capstan_worker.queue.consumer.RENEW_SECONDS", 9.5)
    first, second = ScriptedEngine(), ScriptedEngine(at_once=b"second")
    async with consumer(server.url, first, name="w1") as worker:
        ids = [gateway.ask() for _ in range(3)]
        await eventually(lambda: len(first.running) == 3, every=0.01)
        first.give(ids[0], b"x")
        await gateway.begun(ids[0])
        worker.leave()
        await eventually(lambda: gateway.state().workers == 0, seconds=9, every=0.01, what="leaving, said at once")
        later = gateway.ask()
    assert gateway.state().waiting[1] == 3
    assert gateway.state().workers == 0
    monkeypatch.undo()
    async with consumer(server.url, second, name="w2"):
        lost, *others = await gateway.done(*ids, later)
    assert lost.ends == ["lost"]
    assert [answer.body for answer in others] == [b"second"] * 3
    assert len(first.asked) == 3


async def test_a_worker_that_ends_sends_nothing_twice(server: RedisServer, gateway: QueueGateway) -> None:
    """What must not be sent twice, and has come to the engine, fails where a worker ends in order; another one may have
    what has not."""
    first, second = ScriptedEngine(places=1), ScriptedEngine(at_once=b"second")
    async with consumer(server.url, first, name="w1"):
        had = gateway.ask(once=True)
        await eventually(lambda: first.has(had), every=0.01)
        waits = gateway.ask(once=True)
    async with consumer(server.url, second, name="w2"):
        failed, answered = await gateway.done(had, waits)
    assert failed.ends == ["lost"]
    assert (answered.ends, answered.body) == (["end"], b"second")
    assert [len(engine.asked) for engine in (first, second)] == [1, 1]


async def test_a_worker_with_another_secret_leaves_all_to_others(server: RedisServer, gateway: QueueGateway) -> None:
    """It takes one entry at a time, gives back what it cannot read, and the one that can answers every one."""
    packing = Packing(b"k" * 16)
    sealed = QueueGateway(gateway.client, name="sealed", packing=packing)
    blind, engine = ScriptedEngine(), ScriptedEngine(at_once=b"the answer")
    async with consumer(server.url, blind, name="w1", packing=Packing(b"another one's secret")) as worker:
        ids = [sealed.ask() for _ in range(20)]
        back = worker.metrics.given_back["unreadable"]
        await eventually(lambda: back._value.get() >= 1, every=0.01, what="what cannot be read")
        worker._intake.rest(0.0)
        assert await worker._intake._free() == 1
        async with consumer(server.url, engine, name="w2", packing=packing):
            answers = await sealed.done(*ids)
        assert worker.metrics.failures[Failure.UNREADABLE]._value.get() == 0
    assert all(answer.ends == ["end"] for answer in answers)
    assert not blind.asked


async def test_what_is_told_before_the_worker_listens_is_heard(server: RedisServer, gateway: QueueGateway) -> None:
    """A cancel that was said while nobody listened is found when the worker renews its leases."""
    engine = ScriptedEngine()
    async with consumer(server.url, engine):
        one = gateway.ask()
        await eventually(lambda: engine.has(one), every=0.01)
        gateway.client.hset(f"{gateway.calls.prefix}entry:{one}", "x", 1)  # as CANCEL does, and what it tells is lost
        gateway.client.delete(told_key(gateway.calls.prefix, "w1"))
        await eventually(lambda: not engine.running, every=0.01, what="the engine's stop")
