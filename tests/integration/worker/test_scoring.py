"""The scorer on a real Redis: every sample is judged once, whoever dies, and what is known survives."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.evaluation import Criterion, read_scores
from capstan_contract.queue.calls import Call
from capstan_contract.queue.wire import Packing
from capstan_contract.samples import (
    DEAD,
    GROUP,
    PREFIX,
    Plan,
    Sample,
    Turn,
    put_call,
    samples_key,
    scores_key,
    write_sample,
)
from capstan_evaluation.online.metrics import render
from capstan_evaluation.online.scorer import Scorer, ScorerSettings, StoreAway
from capstan_evaluation.records import Score, ScoreState
from capstan_worker.queue.link import RedisLink
from capstan_worker.scoring.process import LinkedStore
from support.needs import ROOT
from support.redis_server import RedisServer, redis_server
from support.samples import CRITERIA, MODEL_ID, evaluation
from support.wait import eventually

pytestmark = pytest.mark.redis

TWO = (Criterion(name="brief", text="It is brief."), *CRITERIA)


class ScriptedJudge:
    """Says of an answer what it is told to: its text is the score, or `?`, or `!` for no answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.held: asyncio.Event | None = None
        self.fails = False

    async def by_criterion(
        self, conversation: str, answer: str, *, name: str, criterion: str, expected: str | None = None
    ) -> Score:  # fmt: skip
        self.asked.append((name, conversation, answer))
        if self.held is not None:
            await self.held.wait()
        if self.fails or answer == f"!{name}":
            return Score(scorer=name, state=ScoreState.FAILED)
        if answer == "?":
            return Score(scorer=name, state=ScoreState.COULD_NOT_TELL)
        return Score(scorer=name, value=float(answer) if answer[0].isdigit() else 1.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis."""
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[LinkedStore]:
    """A connection to it."""
    link = RedisLink(server.url, seconds=10.0)
    yield LinkedStore(link)
    await link.aclose()


def plan(**fields: Any) -> Plan:
    """Give a plan of the one model."""
    return Plan(evaluation=evaluation(**fields), model="m", judge="judge")


async def put(store: LinkedStore, *answers: str, wanted: Plan, model_id: str = MODEL_ID, secret: bytes = b"") -> None:
    """Put samples as a gateway does."""
    for number, answer in enumerate(answers):
        sample = Sample(
            id=f"r{number}", model=model_id, prompt=(Turn(role="user", text="secret-word"),), answer=answer, at=1e9,
        )  # fmt: skip
        data = write_sample(sample, Packing(secret))
        await store.run(put_call(model_id, wanted.model_dump_json(), data, wanted.evaluation, most=1000))


def scorer(store: LinkedStore, judge: ScriptedJudge, *, name: str = "one", **rules: Any) -> Scorer:
    """Make a scorer whose time is that of the samples."""
    options = {"idle_seconds": 3600.0, "poll_seconds": 0.01, "plans_seconds": 0.0, **rules}
    return Scorer(store, lambda _: judge, ScorerSettings(name=name, **options), packing=Packing(), now=lambda: 1e9 + 1)


@asynccontextmanager
async def running(one: Scorer) -> AsyncIterator[Scorer]:
    """Let it work meanwhile."""
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(check: Callable[[], bool], what: str) -> None:
    """Wait for it."""
    await eventually(check, what=what, seconds=60)


def counted(one: Scorer, criterion: str = "polite") -> int:
    """Give how many answers count by this criterion."""
    return sum(found.count for found in one.standing().get(MODEL_ID, ()) if found.criterion == criterion)


async def test_samples_become_scores_and_their_texts_are_gone(server: RedisServer, store: LinkedStore) -> None:
    """Each is judged once by each criterion; its text is deleted with that, and nothing else holds it."""
    wanted, judge = plan(criteria=TWO), ScriptedJudge()
    await put(store, "1", "0.5", "?", wanted=wanted)
    async with running(scorer(store, judge)) as one:
        await until(lambda: counted(one) == 2 and one.waiting()[MODEL_ID] == (0, 0), "three scored samples")
        assert sorted(judge.asked) == sorted(
            (name, "secret-word", answer) for name in ("brief", "polite") for answer in ("1", "0.5", "?")
        )
        (brief, polite) = one.standing()[MODEL_ID]
        assert (brief.criterion, polite.criterion) == ("brief", "polite")
        assert (polite.mean, polite.couldNotTell, polite.failed) == (0.75, 1, 0)
        page = one.report().model_dump_json()
        assert read_scores(page).models[MODEL_ID] == (brief, polite)
        text = render(one)
        assert 'llm_eval_score{model="m",eval_type="polite",track="",revision=""} 0.75' in text
        assert 'capstan_scorer_judged_total{model="m"} 3' in text
        assert "secret-word" not in page + text
    redis: Any = server.client()
    assert redis.xlen(samples_key(MODEL_ID)) == 0
    assert redis.xlen(scores_key(MODEL_ID)) == 6
    assert b"secret-word" not in b"".join(fields[b"s"] for _, fields in redis.xrange(scores_key(MODEL_ID)))
    assert 0 < redis.ttl(scores_key(MODEL_ID)) <= 86400


async def test_who_starts_anew_says_the_same(store: LinkedStore) -> None:
    """Windows are on Redis: a restart, and a second scorer, lose nothing and judge nothing twice."""
    wanted, judge = plan(), ScriptedJudge()
    await put(store, *("1", "0") * 20, wanted=wanted)
    async with running(scorer(store, judge)) as one:
        await until(lambda: counted(one) == 40, "all scores")
        before = one.report()
    async with running(scorer(store, judge, name="two")) as two:
        await until(lambda: counted(two) == 40, "all scores again")
        assert two.report() == before
    assert len(judge.asked) == 40


async def test_two_scorers_share_the_work(store: LinkedStore) -> None:
    """Each sample goes to one of them, and both know all scores."""
    wanted, judge = plan(), ScriptedJudge()
    async with running(scorer(store, judge)) as one, running(scorer(store, judge, name="two")) as two:
        await put(store, *["1"] * 60, wanted=wanted)
        await until(lambda: counted(one) == 60 and counted(two) == 60, "all scores at both")
    assert len(judge.asked) == 60
    assert sum(each.counts.judged.get(MODEL_ID, 0) for each in (one, two)) == 60


async def test_what_a_scorer_had_that_is_gone_is_taken_over(store: LinkedStore) -> None:
    """Its samples are judged by another one, and count once."""
    wanted, judge = plan(), ScriptedJudge()
    await put(store, *["1"] * 3, wanted=wanted)
    judge.held = asyncio.Event()
    async with running(scorer(store, judge)):
        await until(lambda: len(judge.asked) == 3, "three samples in hand")
    judge.held.set()
    async with running(scorer(store, judge, name="two", idle_seconds=0.01)) as two:
        await until(lambda: counted(two) == 3, "three scores")
    assert len(judge.asked) >= 6


async def test_who_works_on_a_sample_for_long_keeps_it(server: RedisServer, store: LinkedStore) -> None:
    """As long as it says so no other one takes it, and it is no other try."""
    wanted, judge, other = plan(), ScriptedJudge(), ScriptedJudge()
    await put(store, "1", wanted=wanted)
    judge.held = asyncio.Event()
    redis: Any = server.client()
    one, two = scorer(store, judge), scorer(store, other, name="two")
    await one.step()
    await until(lambda: len(judge.asked) == 1, "a sample in hand")
    ((entry, _),) = redis.xrange(samples_key(MODEL_ID))
    for _ in range(3):
        redis.xclaim(samples_key(MODEL_ID), GROUP, "one", 0, [entry], idle=7200_000, justid=True)
        await one.step()
        await two.step()
    (pending,) = redis.xpending_range(samples_key(MODEL_ID), GROUP, "-", "+", 10)
    assert (pending["consumer"], pending["times_delivered"]) == (b"one", 1)
    judge.held.set()
    await until(lambda: one.counts.judged.get(MODEL_ID) == 1, "the score")
    assert other.asked == []


async def test_a_sample_whose_judge_fails_is_tried_a_few_times(store: LinkedStore) -> None:
    """Then it counts as one that nobody judged; what was told of it already is kept, and not asked again."""
    wanted, judge = plan(criteria=TWO), ScriptedJudge()
    await put(store, "!polite", wanted=wanted)
    async with running(scorer(store, judge, idle_seconds=0.01, tries=3)) as one:
        await until(lambda: one.counts.judged.get(MODEL_ID) == 1, "the end of it")
        await until(lambda: len(one.standing()[MODEL_ID]) == 2, "both criteria")
        (brief, polite) = one.standing()[MODEL_ID]
    assert (brief.count, brief.failed, polite.count, polite.failed) == (1, 0, 0, 1)
    assert [name for name, *_ in judge.asked].count("polite") == 3
    assert [name for name, *_ in judge.asked].count("brief") == 1


async def test_a_sample_that_scorers_die_of_is_given_up(server: RedisServer, store: LinkedStore) -> None:
    """It is counted, and its text is gone."""
    wanted, judge = plan(), ScriptedJudge()
    await put(store, "1", wanted=wanted)
    judge.held = asyncio.Event()
    for number in range(3):
        async with running(scorer(store, judge, name=f"s{number}", idle_seconds=0.01, tries=3)):
            await until(lambda number=number: len(judge.asked) == number + 1, "a sample in hand")  # type: ignore[misc]
    async with running(scorer(store, judge, name="last", idle_seconds=0.01, tries=3)) as last:
        await until(lambda: last.waiting().get(MODEL_ID) == (0, 1), "it to be given up")
    redis: Any = server.client()
    assert redis.hget(DEAD, MODEL_ID) == b"1"
    assert len(judge.asked) == 3


async def test_judges_are_called_no_more_often_than_they_may(server: RedisServer, store: LinkedStore) -> None:
    """Of all scorers together, by the clock hour; what is not judged waits, and expires."""
    wanted, judge = plan(criteria=TWO), ScriptedJudge()
    await put(store, *["1"] * 10, wanted=wanted)
    async with running(scorer(store, judge, calls_per_hour=7)) as one:
        await until(lambda: counted(one) >= 3, "three samples of two calls each")
        for _ in range(20):
            await one.step()
        (hour, *later) = sorted(server.client().keys(f"{PREFIX}judged:*"))  # type: ignore[type-var]
        assert later or len(judge.asked) == 6, hour


async def test_who_has_another_key_judges_nothing(store: LinkedStore) -> None:
    """What cannot be read is dropped and counted."""
    wanted, judge = plan(), ScriptedJudge()
    await put(store, "1", wanted=wanted, secret=b"a secret of thirty-two characters")
    async with running(scorer(store, judge)) as one:
        await until(lambda: one.counts.unreadable == 1, "it to be dropped")
        await until(lambda: one.waiting().get(MODEL_ID) == (0, 0), "an empty stream")
    assert judge.asked == []


async def test_a_model_that_is_evaluated_no_more_is_forgotten(server: RedisServer, store: LinkedStore) -> None:
    """When no gateway has said its plan for an hour: its scores are not shown any more."""
    await put(store, "1", wanted=plan())
    one = scorer(store, ScriptedJudge())
    await one.step()
    assert MODEL_ID in one.standing()
    redis: Any = server.client()
    ((key, said),) = redis.hgetall(f"{PREFIX}plans").items()
    seconds, text = said.split(b" ", 1)
    redis.hset(f"{PREFIX}plans", key, b"%d %b" % (int(seconds) - 3601, text))
    await one.step()
    assert one.standing() == {}
    assert redis.hgetall(f"{PREFIX}plans") == {}


async def test_redis_may_be_away(server: RedisServer, store: LinkedStore) -> None:
    """Nothing ends by it; the page is not given out meanwhile, and all goes on afterwards."""
    wanted, judge = plan(), ScriptedJudge()
    async with running(scorer(store, judge)) as one:
        await until(lambda: one.synced, "the first reading")
        server.kill()
        await until(lambda: not one.synced, "it to be noticed")
        with pytest.raises(StoreAway):
            await one.step()
        server.start()
        await put(store, "1", wanted=wanted)
        await until(lambda: counted(one) == 1, "a score")
    assert json.loads(one.report().model_dump_json())["version"] == 1


async def test_a_user_of_redis_with_the_documented_rights_is_enough(server: RedisServer, store: LinkedStore) -> None:
    """Those that docs/worker.md names, and the chart gives; it reads nothing else."""
    text = (ROOT / "docs" / "worker.md").read_text()
    (rights,) = re.findall(r"ACL SETUSER capstan-scorer on (.+)", text)
    server.client().execute_command(
        "ACL", "SETUSER", "capstan-scorer", "on", *rights.replace(">PASSWORD", ">pw").split()
    )
    link = RedisLink(server.url.replace("redis://", "redis://capstan-scorer:pw@"), seconds=10.0)
    try:
        await put(store, "1", wanted=plan())
        async with running(scorer(LinkedStore(link), ScriptedJudge())) as one:
            await until(lambda: counted(one) == 1, "a score")
        with pytest.raises(StoreAway):
            await LinkedStore(link).run(Call("return redis.call('GET', KEYS[1])", ("capstan:responses:{x}:y",), ()))
    finally:
        await link.aclose()


async def test_a_sample_that_two_have_judged_counts_once(store: LinkedStore) -> None:
    """A scorer that was taken for dead, and comes back when another one has scored what it had."""
    wanted, slow, quick = plan(), ScriptedJudge(), ScriptedJudge()
    await put(store, "1", wanted=wanted)
    slow.held = asyncio.Event()
    one = scorer(store, slow)
    await one.step()
    await until(lambda: len(slow.asked) == 1, "a sample in hand")
    async with running(scorer(store, quick, name="two", idle_seconds=0.01)) as two:
        await until(lambda: counted(two) == 1, "the other one's score")
        slow.held.set()
        await until(lambda: not one._working, "the end of the first one's work")
        await one.step()
        assert (counted(one), one.counts.judged) == (1, {})


async def test_what_is_pushed_out_while_it_is_judged_counts(server: RedisServer, store: LinkedStore) -> None:
    """When more comes than is judged, the oldest ones are in work, and go from the stream: they are paid for."""
    wanted, judge = plan(), ScriptedJudge()
    await put(store, "1", wanted=wanted)
    judge.held = asyncio.Event()
    one = scorer(store, judge)
    await one.step()
    await until(lambda: len(judge.asked) == 1, "a sample in hand")
    redis: Any = server.client()
    assert redis.xtrim(samples_key(MODEL_ID), maxlen=0, approximate=False) == 1
    await one.step()
    judge.held.set()
    await until(lambda: not one._working, "the end of its work")
    await one.step()
    assert (counted(one), one.counts.judged) == (1, {MODEL_ID: 1})
    assert redis.xpending(samples_key(MODEL_ID), GROUP)["pending"] == 0


async def test_the_names_of_scorers_that_are_gone_are_forgotten(server: RedisServer, store: LinkedStore) -> None:
    """Each start has another one; one that still holds a sample is known until another one has it."""
    wanted, judge = plan(), ScriptedJudge()
    await put(store, "1", wanted=wanted)
    redis: Any = server.client()
    key = samples_key(MODEL_ID)
    redis.xgroup_create(key, GROUP, "0")
    redis.xgroup_createconsumer(key, GROUP, "gone")
    redis.xreadgroup(GROUP, "holds", {key: ">"}, count=1)
    one = scorer(store, judge, idle_seconds=0.001, tries=100)

    def names() -> set[bytes]:
        return {found["name"] for found in redis.xinfo_consumers(key, GROUP)}

    assert names() == {b"gone", b"holds"}
    async with running(one):
        await until(lambda: counted(one) == 1, "a score")
        await put(store, "1", wanted=wanted)
        await until(lambda: names() == {b"one"}, "one name")


async def test_a_verdict_is_not_paid_for_twice_because_redis_was_away(store: LinkedStore) -> None:
    """The scores of a sample that could not be written are those that are written later."""

    class Away:
        """Takes no scores the first time."""

        refused = 0

        async def run(self, call: Call) -> Any:
            if scores_key(MODEL_ID) in call.keys and samples_key(MODEL_ID) == call.keys[0] and not self.refused:
                self.refused += 1
                raise StoreAway("away")
            return await store.run(call)

    judge, away = ScriptedJudge(), Away()
    await put(store, "1", wanted=plan())
    options = ScorerSettings(name="one", idle_seconds=0.01, poll_seconds=0.01, plans_seconds=0.0, tries=100)
    one = Scorer(away, lambda _: judge, options, packing=Packing(), now=lambda: 1e9 + 1)
    async with running(one):
        await until(lambda: counted(one) == 1, "a score")
    assert (away.refused, len(judge.asked), one.counts.calls) == (1, 1, 1)


async def test_each_model_has_its_turn(store: LinkedStore) -> None:
    """However many wait of another one, and however often the plans are read."""
    wanted, asked = plan(), set()
    models = [f"test/m{number}" for number in range(4)]
    for model_id in models:
        await put(store, *["1"] * 8, wanted=wanted, model_id=model_id)
    one = scorer(store, ScriptedJudge(), concurrency=1)
    for _ in models:
        await one.step()
        asked |= {model_id for model_id, _ in one._working}
        await until(lambda: not one._working, "the end of its work")
    assert asked == set(models)
