"""Workers of the queue when Redis, another worker, or a connection goes away."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.queue import scripts
from capstan_contract.queue.calls import Call
from capstan_contract.queue.names import GROUP, LEASE_MS
from capstan_worker.errors import QueueAway
from capstan_worker.queue.link import RedisLink
from support.queue_gateway import QueueGateway
from support.queue_worker import ScriptedEngine, consumer
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

pytestmark = pytest.mark.redis


class DeafLink(RedisLink):
    """Redis hears every post, and every second reply is lost on the way back."""

    calls = 0

    async def run(self, call: Call) -> Any:
        reply = await super().run(call)
        if call.script == scripts.POST:
            self.calls += 1
            if self.calls % 2:
                raise QueueAway("the reply was lost")
        return reply


class DeafToTakes(RedisLink):
    """Redis hears every TAKE, and the first replies with entries are lost."""

    lost = 0

    async def run(self, call: Call) -> Any:
        reply = await super().run(call)
        if call.script == scripts.TAKE and reply and self.lost < 3:
            self.lost += 1
            raise QueueAway("the reply was lost")
        return reply


class MuteLink(RedisLink):
    """No post comes to Redis when it is said first."""

    lost = 0

    async def run(self, call: Call) -> Any:
        if call.script == scripts.POST and call.arguments != self._last:
            self._last = call.arguments
            self.lost += 1
            raise QueueAway("it was lost on its way")
        return await super().run(call)

    _last: object = None


def _lose(gateway: QueueGateway, worker: str) -> None:
    """Let a worker's leases be over: streams know no other clock than Redis' own."""
    key = f"{gateway.calls.prefix}work:1"
    for one in gateway.client.xpending_range(key, GROUP, "-", "+", 1000, worker):
        gateway.client.xclaim(key, GROUP, worker, 0, [one["message_id"]], idle=LEASE_MS + 1, justid=True)
    gateway.run(gateway.calls.sweep())


async def test_no_piece_is_given_twice_when_replies_are_lost(server: RedisServer, gateway: QueueGateway) -> None:
    """A worker that does not know what became of a post says it again, and the answer is whole all the same."""
    engine = ScriptedEngine()
    link = DeafLink(server.url, seconds=2.0)
    async with consumer(server.url, engine, link=link):
        one = gateway.ask()
        await eventually(lambda: engine.has(one), every=0.01)
        for number in range(10):
            part = b"%d," % number
            engine.give(one, part)
            await eventually(lambda part=part: gateway.read() or part in gateway.answers[one].body, every=0.01)
        engine.give(one, None)
        (answer,) = await gateway.done(one)
    assert (answer.body, answer.ends) == (b"0,1,2,3,4,5,6,7,8,9,", ["end"])
    assert link.calls >= 10


async def test_what_a_lost_reply_has_brought_waits_again(server: RedisServer, gateway: QueueGateway) -> None:
    """It counts no loss, however often that happens, and nobody waits until a lease is over."""
    engine = ScriptedEngine(at_once=b"x")
    link = DeafToTakes(server.url, seconds=2.0)
    async with consumer(server.url, engine, link=link):
        (answer,) = await gateway.done(gateway.ask(), seconds=8)
    assert (answer.ends, answer.attempts, link.lost) == (["end"], {4}, 3)


async def test_what_was_not_heard_is_said_again(server: RedisServer, gateway: QueueGateway) -> None:
    """Also the end, behind which nothing comes that would take it along."""
    engine = ScriptedEngine()
    link = MuteLink(server.url, seconds=2.0)
    async with consumer(server.url, engine, link=link):
        one = gateway.ask()
        await eventually(lambda: engine.has(one), every=0.01)
        engine.give(one, b"x")
        await gateway.begun(one)
        engine.give(one, None)
        (answer,) = await gateway.done(one)
    assert (answer.body, answer.ends) == (b"x", ["end"])
    assert link.lost >= 2


async def test_a_reader_that_goes_on_is_noticed_although_nobody_hears_of_it(
    server: RedisServer, gateway: QueueGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What tells the worker so may be lost with a connection: it tries now and then by itself."""
    monkeypatch.setattr("capstan_worker.queue.consumer.RENEW_SECONDS", 0.05)
    engine = ScriptedEngine()
    async with consumer(server.url, engine):
        one = gateway.ask()
        await eventually(lambda: engine.has(one), every=0.01)
        engine.give(one, *[os.urandom(200_000) for _ in range(20)], None)
        entry = f"{gateway.calls.prefix}entry:{one}"

        def goes_on_in_silence() -> bool:
            gateway.read(acknowledge=False)
            if gateway.client.hdel(entry, "z"):
                gateway.client.hset(entry, "u", 0)  # as ACK does, and what it tells is lost
            return gateway.answers[one].done

        await eventually(goes_on_in_silence, every=0.02)
    assert gateway.answers[one].ends == ["end"]


async def test_what_a_lost_lease_has_given_away_is_not_answered_twice(
    server: RedisServer, gateway: QueueGateway
) -> None:
    """A worker whose lease was over hears that the entry is another one's, and its engine stops; one answer comes."""
    first, second = ScriptedEngine(places=1), ScriptedEngine(at_once=b"second")
    async with consumer(server.url, first, name="w1"):
        one = gateway.ask()
        await eventually(lambda: first.has(one), every=0.01)
        first.others = 1  # and it has no room for it any more
        _lose(gateway, "w1")
        async with consumer(server.url, second, name="w2"):
            first.give(one, b"first")
            (answer,) = await gateway.done(one)
            await eventually(lambda: not first.running, every=0.01, what="the first engine's stop")
    assert (answer.body, answer.ends, answer.attempts) == (b"second", ["end"], {2})


async def test_what_comes_back_to_the_worker_that_lost_it_begins_anew(
    server: RedisServer, gateway: QueueGateway
) -> None:
    """Its first attempt is stopped, and nothing of it is in the answer of the second one."""
    engine = ScriptedEngine()
    async with consumer(server.url, engine):
        one = gateway.ask()
        await eventually(lambda: engine.has(one), every=0.01)
        _lose(gateway, "w1")
        await eventually(lambda: [request.id for request in engine.asked] == [f"{one}.1", f"{one}.2"], every=0.01)
        await eventually(lambda: len(engine.running) == 1, every=0.01)
        engine.give(one, b"anew", None)
        (answer,) = await gateway.done(one)
    assert (answer.body, answer.ends) == (b"anew", ["end"])


async def test_an_answer_outlives_a_redis_that_is_away(tmp_path: Path) -> None:
    """While Redis stands still the engine goes on, what it gives is held, and all of it comes when Redis goes on."""
    with redis_server(tmp_path) as server, server.client() as client:
        gateway = QueueGateway(client)
        engine = ScriptedEngine()
        async with consumer(server.url, engine, link=RedisLink(server.url, seconds=0.2)) as worker:
            one = gateway.ask()
            await eventually(lambda: engine.has(one), every=0.01)
            engine.give(one, b"a")
            await gateway.begun(one)
            server.pause()
            engine.give(one, b"b", b"c")
            await eventually(lambda: worker._link.failure is not None, every=0.01, what="Redis missed")  # type: ignore[attr-defined]
            engine.give(one, b"d", None)
            await eventually(lambda: not engine.running, every=0.01)
            server.go_on()
            (answer,) = await gateway.done(one)
    assert (answer.body, answer.ends) == (b"abcd", ["end"])


async def test_an_engine_waits_while_too_much_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Redis away a worker holds a bounded part of an answer, and reads no more of it."""
    monkeypatch.setattr("capstan_worker.queue.outbox.HELD_BYTES", 1000)
    with redis_server(tmp_path) as server, server.client() as client:
        gateway = QueueGateway(client)
        engine = ScriptedEngine()
        async with consumer(server.url, engine, link=RedisLink(server.url, seconds=0.2)) as worker:
            one = gateway.ask()
            await eventually(lambda: engine.has(one), every=0.01)
            server.pause()
            parts = [os.urandom(400) for _ in range(50)]
            engine.give(one, *parts, None)
            await eventually(lambda: worker._outbox.held > 1000, every=0.01)
            await eventually(lambda: worker._link.failure is not None, every=0.01)  # type: ignore[attr-defined]
            assert worker._outbox.held < 2000
            server.go_on()
            (answer,) = await gateway.done(one)
    assert answer.body == b"".join(parts)


async def test_a_redis_that_has_lost_everything(tmp_path: Path) -> None:
    """What Redis knows nothing of any more is stopped at the engine; what is asked afterwards is answered."""
    with redis_server(tmp_path) as server:
        engine = ScriptedEngine()
        with server.client() as client:
            gateway = QueueGateway(client)
            async with consumer(server.url, engine, link=RedisLink(server.url, seconds=0.5)) as worker:
                one = gateway.ask()
                await eventually(lambda: engine.has(one), every=0.01)
                server.kill()
                engine.give(one, b"held")
                server.start()
                await eventually(lambda: not engine.running and worker.unfinished == 0, every=0.01, what="the stop")
                engine.at_once = b"new"
                (answer,) = await gateway.done(gateway.ask(entry_id="new"))
    assert answer.ends == ["end"]


async def test_a_bell_that_nobody_heard_delays_an_entry_and_no_more(
    server: RedisServer, gateway: QueueGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker looks now and then although nothing has rung."""
    monkeypatch.setattr("capstan_worker.queue.intake.SAFETY_SECONDS", 0.3)
    engine = ScriptedEngine(at_once=b"x")
    async with consumer(server.url, engine):
        await gateway.done(gateway.ask())
        (answer,) = await gateway.done(_ask_silently(gateway, monkeypatch))
    assert answer.ends == ["end"]


def _ask_silently(gateway: QueueGateway, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put an entry in without a bell."""
    silent = scripts.ENQUEUE.replace("\nring(id)\n", "\n")
    assert silent != scripts.ENQUEUE
    with monkeypatch.context() as patch:
        patch.setattr(scripts, "ENQUEUE", silent)
        return gateway.ask(entry_id="silent")


async def test_a_worker_without_room_lets_others_hear_the_bell(
    server: RedisServer, gateway: QueueGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one worker has heard and cannot take another one takes, long before it would have looked by itself."""
    monkeypatch.setattr("capstan_worker.queue.intake.SAFETY_SECONDS", 3600.0)
    full, free = ScriptedEngine(places=1), ScriptedEngine(places=1, at_once=b"x")
    async with consumer(server.url, full, name="w1") as first:
        await eventually(lambda: first._intake._open.is_set(), every=0.01, what="listening")
        full.others = 1  # a direct request takes the place, unseen
        async with consumer(server.url, free, name="w2", places=1) as second:
            await eventually(lambda: second._intake._open.is_set(), every=0.01, what="listening")
            for _ in range(3):
                (answer,) = await gateway.done(gateway.ask())
                assert answer.ends == ["end"]
    assert not full.asked


async def test_an_engine_that_tells_nothing_of_itself_costs_no_lease(
    server: RedisServer, gateway: QueueGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an engine hangs, and does not even answer how it is, its worker goes on saying that it is there."""
    monkeypatch.setattr("capstan_worker.queue.consumer.RENEW_SECONDS", 0.02)
    asked = asyncio.Event()
    engine = ScriptedEngine()

    async def metrics() -> bytes:
        asked.set()
        await asyncio.Event().wait()
        return b""

    monkeypatch.setattr(engine, "metrics", metrics)
    workers = f"{gateway.calls.prefix}workers"
    async with consumer(server.url, engine, hung_seconds=0.1):
        gateway.ask()
        await asyncio.wait_for(asked.wait(), 60)
        before = gateway.client.zscore(workers, "w1")
        await eventually(
            lambda: (gateway.client.zscore(workers, "w1") or 0) > (before or 0), every=0.02, what="renewal"
        )
