"""What was said of answers in a real Redis: as the twin in memory keeps it, bounded, and counted once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Final

import pytest
from redis.asyncio import Redis

from capstan_contract.feedback import WHOLE, ArmName, Feedback, Source, label_of
from capstan_contract.tracks import Quantity
from capstan_gateway.feedback.given import Answered, Name
from capstan_gateway.feedback.memory import MemoryFeedback
from capstan_gateway.feedback.port import FeedbackStore, Put
from capstan_gateway.feedback.redis import RING, RedisFeedback, SharedGiven, ring
from capstan_gateway.stores.redis import RedisStore
from support.redis_server import redis_server

SECONDS: Final = 1000
ARM: Final = ArmName(key="n/r", epoch="e", member="n/a", bucket=7)


class Clock:
    """Milliseconds that a test sets."""

    ms = 1_760_000_000_000

    def __call__(self) -> int:
        """Give them."""
        return self.ms


class Stores:
    """Both twins, on one clock."""

    def __init__(self, redis: RedisStore) -> None:
        self.redis = redis
        self.clock = Clock()

    def both(self, *, most: int = 100) -> list[FeedbackStore]:
        """Make them."""
        return [
            MemoryFeedback(most=most, seconds=SECONDS, now_ms=self.clock),
            RedisFeedback(self.redis, most=most, seconds=SECONDS, now_ms=self.clock),
        ]

    def said(self, id: str, millis: int = 0, comment: str = "", *arms: ArmName) -> Feedback:
        """Make an opinion of now."""
        return Feedback(
            at=self.clock.ms, id=id, model="a", tenant="red", score=millis / WHOLE, label=label_of(millis),
            comment=comment, source=Source.USER, arms=arms,
        )  # fmt: skip


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    """A server of the test's own."""
    with redis_server(tmp_path) as server:
        redis = RedisStore(server.url, seconds=30.0, rng=Random(1))  # noqa: S311 - jitter
        yield Stores(redis)
        await redis.aclose()


async def test_the_same_twice_is_one_and_a_change_takes_its_place(stores: Stores) -> None:
    """Word for word the same changes nothing; another opinion of the same answer is the only one, and the newest."""
    for store in stores.both():
        one, other = Name("red", "1"), Name("red", "2")
        assert await store.put(one, stores.said("1", 0, 'quoted "text" / ü')) is Put.NEW
        assert await store.put(other, stores.said("2", 1000)) is Put.NEW
        assert await store.put(one, stores.said("1", 0, 'quoted "text" / ü')) is Put.SAME
        assert [said.id for said in (await store.page(0, 10)).data] == ["1", "2"]
        changed = stores.said("1", 333, "better")
        assert await store.put(one, changed) is Put.CHANGED
        page = await store.page(0, 10)
        assert [said.id for said in page.data] == ["2", "1"]
        assert page.data[1] == changed
        assert page.next is None


async def test_pages_go_on_where_the_last_one_ended(stores: Stores) -> None:
    """Every opinion is on one page, in the order in which they came, whatever the size of the pages."""
    for store in stores.both():
        for number in range(7):
            await store.put(Name("red", str(number)), stores.said(str(number)))
        found: list[str] = []
        after: int | None = 0
        while after is not None:
            page = await store.page(after, 3)
            found += [said.id for said in page.data]
            after = page.next
        assert found == [str(number) for number in range(7)]


async def test_what_is_kept_is_bounded(stores: Stores) -> None:
    """With more than there may be the oldest opinions go, and the newest stay."""
    for store in stores.both(most=3):
        for number in range(8):
            await store.put(Name("red", str(number)), stores.said(str(number)))
        assert [said.id for said in (await store.page(0, 10)).data] == ["5", "6", "7"]


async def test_what_was_said_too_long_ago_is_gone(stores: Stores) -> None:
    """An opinion is kept for so many seconds."""
    for store in stores.both():
        await store.put(Name("red", "old"), stores.said("old"))
        stores.clock.ms += SECONDS * 1000 - 1
        await store.put(Name("red", "new"), stores.said("new"))
        stores.clock.ms += 2
        assert [said.id for said in (await store.page(0, 10)).data] == ["new"]


async def test_an_arm_counts_each_answer_once(stores: Stores) -> None:
    """What is said of an answer is added up for the arm that gave it: once, with what was said last. Twins agree."""
    told = []
    for store in stores.both():
        await store.put(Name("red", "1"), stores.said("1", 1000, "", ARM))
        await store.put(Name("red", "1"), stores.said("1", 1000, "", ARM))
        await store.put(Name("red", "2"), stores.said("2", 500, "", ARM.model_copy(update={"bucket": 9})))
        await store.put(Name("red", "1"), stores.said("1", 250, "", ARM))
        await store.put(Name("red", "3"), stores.said("3", 0, "", ARM.model_copy(update={"member": "n/b"})))
        told.append(await store.arms("n/r", "e"))
        assert await store.arms("n/r", "other") == {}
    assert told[0] == told[1]
    measure = told[0]["n/a"].of(Quantity.FEEDBACK)
    assert (measure.count, measure.sum, measure.squares) == (2, 750, 250**2 + 500**2)
    assert measure.buckets == ((7, 1, 250), (9, 1, 500))


@pytest.mark.parametrize("change", [{"bucket": 9}, {"member": "n/b"}, {"epoch": "f"}], ids=["user", "member", "epoch"])
async def test_an_answer_that_was_given_again_stays_counted_where_it_is(
    stores: Stores, change: dict[str, object]
) -> None:
    """A cache gives an answer to others of the tenant, by the same id: what they say of it takes the place of what was
    said, in the arm that this was counted in. So sums are those of the values that were counted. Twins agree."""
    other = ARM.model_copy(update=change)
    told = []
    for store in stores.both():
        await store.put(Name("red", "1"), stores.said("1", 1000, "", ARM))
        await store.put(Name("red", "2"), stores.said("2", 0, "", other))
        for millis in (0, 1000, 250):
            await store.put(Name("red", "1"), stores.said("1", millis, "", other))
        told.append([await store.arms("n/r", epoch) for epoch in ("e", "f")])
    assert told[0] == told[1]
    counted = {
        (epoch, member, bucket): (count, total)
        for epoch, arms in zip(("e", "f"), told[0], strict=True)
        for member, counters in arms.items()
        for bucket, count, total in counters.of(Quantity.FEEDBACK).buckets
    }
    assert counted == {("e", "n/a", 7): (1, 250), (other.epoch, other.member, other.bucket): (1, 0)}


async def test_two_at_once_are_one(stores: Stores) -> None:
    """Two replicas that are told the same at the same time keep it once."""
    _, store = stores.both()
    outcomes = await asyncio.gather(*(store.put(Name("red", "1"), stores.said("1", 0, "", ARM)) for _ in range(8)))
    assert sorted(outcome.value for outcome in outcomes) == ["new"] + ["same"] * 7
    assert (await store.arms("n/r", "e"))["n/a"].of(Quantity.FEEDBACK).count == 1


async def test_everything_expires(stores: Stores) -> None:
    """No key stays for ever."""
    _, store = stores.both()
    await store.put(Name("red", "1"), stores.said("1", 0, "", ARM))
    given = SharedGiven(stores.redis, most=10, seconds=60)
    await given.write([(Name("red", "1"), Answered(1, "a", "a", "r"))])
    client: Redis = stores.redis._client
    keys = await client.keys("*")
    assert len(keys) == 5
    for key in keys:
        assert await client.ttl(key) > 0


async def test_answers_are_known_to_all_and_bounded(stores: Stores) -> None:
    """Whoever looks finds an answer that another replica gave, by its tenant alone; with more than there may be the
    oldest ones are forgotten, and never many of the newest."""
    given = SharedGiven(stores.redis, most=80, seconds=60)
    for number in range(50):
        batch = [
            (Name("red", f"{number}-{place}"), Answered(number, "a", "ab", "r", (("k", "e", "m", 3),)))
            for place in range(4)
        ]
        await given.write(batch)
    newest = Name("red", "49-3")
    assert await given.find(newest) == Answered(49, "a", "ab", "r", (("k", "e", "m", 3),))
    assert await given.find(Name("blue", "49-3")) is None
    assert await given.find(Name("red", "0-0")) is None
    known = [await stores.redis.read_all(key) for key in ring()]
    assert 60 <= sum(map(len, known)) <= 80 + 4 * RING


async def test_a_user_with_few_rights_is_enough(stores: Stores) -> None:
    """The rights that the documentation gives the gateway's user suffice for all that is kept."""
    client: Redis = stores.redis._client
    rights = "~capstan:* +@hash +@sortedset +unlink +pexpire +time +eval +evalsha +script|load +ping +client|setname"
    await client.execute_command("ACL", "SETUSER", "few", "on", ">pw", *rights.split(), "+select")
    port = client.connection_pool.connection_kwargs["port"]
    few = RedisStore(f"redis://few:pw@127.0.0.1:{port}/0", seconds=30.0, rng=Random(1))  # noqa: S311 - jitter
    try:
        store = RedisFeedback(few, most=2, seconds=SECONDS, now_ms=stores.clock)
        for number in range(4):
            await store.put(Name("red", str(number)), stores.said(str(number), 0, "", ARM))
        await store.put(Name("red", "3"), stores.said("3", 1000, "", ARM))
        assert len((await store.page(0, 10)).data) == 2
        assert (await store.arms("n/r", "e"))["n/a"].of(Quantity.FEEDBACK).count == 4
        given = SharedGiven(few, most=8, seconds=60)
        for number in range(4):
            await given.write([(Name("red", str(number)), Answered(number, "a", "a", "r"))])
        assert await given.find(Name("red", "3")) is not None
    finally:
        await few.aclose()
