"""Answers by meaning, with vectors that a test makes up."""

import asyncio
import threading

import numpy
import pytest

from capstan_contract.caches import SemanticTier
from capstan_gateway.caches.port import Alike, CacheKey, Entry, Form, Tier
from capstan_gateway.caches.semantic.questions import StoredQuestion
from capstan_gateway.embed.files import EmbeddingsMissing
from capstan_gateway.embed.once import Once
from capstan_gateway.embed.sentences import Sentence
from capstan_gateway.life.threads import Threads
from capstan_gateway.pipeline.caches import alike as module
from capstan_gateway.pipeline.caches.alike import AlikeInProcess, Reads, Sentences

ASKED = "How do I reset my password?"
SAME = "How can I reset my password?"
KEY = CacheKey("p", "m", b"1")
ENTRY = Entry(Form.ANSWER, b"{}", b"application/json", 0, 1000)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes its time."""
    monkeypatch.setattr(module, "FIND_SECONDS", 60.0)
    monkeypatch.setattr(module, "PUT_SECONDS", 60.0)


class Same:
    """Finds all texts the same, and waits until it may."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()

    def read(self, text: str) -> Sentence | None:
        """Give one direction."""
        assert self.go.wait(30)
        row = numpy.zeros(384, numpy.float32)
        row[0] = 1
        return Sentence(row, row[None], (3000,)) if text.strip("? ") else None


class Others:
    """What replicas share; `questions.SharedQuestions`."""

    def __init__(self) -> None:
        self.put_: list[StoredQuestion] = []
        self.is_down = False
        self.closed = False

    async def put(self, question: StoredQuestion) -> None:
        """Note it."""
        self.put_.append(question)

    def close(self) -> None:
        """Note it."""
        self.closed = True


class Kept:
    """The entries that are there."""

    def __init__(self, others: Others | None = None, **tier: object) -> None:
        self.entries: dict[CacheKey, Entry] = {}
        self.now = 0
        self.counts: list[str] = []
        self.embedder: Reads = Same()
        self.alike = AlikeInProcess(
            SemanticTier(**tier), sentences=Sentences(Once(lambda: self.embedder)), threads=Threads("test", queued=1),
            entry_of=self.entry_of, now_ms=lambda: self.now, count=self.counts.append, shared=others,
        )  # fmt: skip

    async def entry_of(self, key: CacheKey) -> Entry | None:
        return self.entries.get(key)

    async def put(self, text: str = ASKED, partition: str = "a", key: CacheKey = KEY) -> None:
        self.entries[key] = ENTRY
        await self.alike.put(Alike(partition, text), key, ENTRY)


async def test_what_means_the_same_is_found_in_its_partition_alone() -> None:
    """With its similarity and the key of the entry."""
    kept = Kept()
    await kept.put()
    found = await kept.alike.find(Alike("a", SAME))
    assert found is not None
    assert (found.entry, found.tier, found.key, found.similarity) == (ENTRY, Tier.SEMANTIC, KEY, 1.0)
    assert await kept.alike.find(Alike("b", SAME)) is None


@pytest.mark.parametrize("text", ["How do I reset my 2 passwords?", "Wie kann ich mein Passwort zurücksetzen?", "?"])
async def test_what_a_rule_refuses_or_is_not_english_is_not_found(text: str) -> None:
    """However near the vectors are."""
    kept = Kept()
    await kept.put()
    assert await kept.alike.find(Alike("a", text)) is None


async def test_without_rules_the_score_decides() -> None:
    """`verify: false` leaves it to the vectors."""
    kept = Kept(verify=False, similarity=0.9)
    await kept.put()
    assert await kept.alike.find(Alike("a", "How do I reset my 2 passwords?")) is not None


async def test_what_is_gone_or_expired_or_purged_is_not_found() -> None:
    """The answers are elsewhere: who deletes them there deletes them here."""
    kept = Kept()
    await kept.put()
    del kept.entries[KEY]
    assert await kept.alike.find(Alike("a", SAME)) is None
    assert len(kept.alike) == 0
    await kept.put()
    kept.now = 1000
    assert await kept.alike.find(Alike("a", SAME)) is None
    kept.now = 0
    await kept.put()
    assert kept.alike.keys() == [KEY]
    assert kept.alike.drop(KEY)
    assert await kept.alike.find(Alike("a", SAME)) is None


async def test_what_is_stored_is_told_to_other_replicas_and_kept_while_redis_is_away() -> None:
    """With all that they need of it; a question that is not compared is not told. While nobody can say whether an
    answer is still there, its question stays; when the policy is gone, nothing is heard of others any more."""
    others = Others()
    kept = Kept(others)
    await kept.put()
    await kept.put("Wie kann ich mein Passwort zurücksetzen?", key=KEY._replace(digest=b"2"))
    (told,) = others.put_
    assert told[:-1] == (KEY, "a", ASKED, ENTRY.created_ms, ENTRY.expires_ms)
    assert told.vector[0] == 1
    del kept.entries[KEY]
    for others.is_down, left in ((True, 1), (False, 0)):
        assert await kept.alike.find(Alike("a", SAME)) is None
        assert len(kept.alike) == left
    kept.alike.close()
    assert others.closed


async def test_nobody_waits_longer_than_the_deadline_or_behind_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be compared in time is a miss, and what is behind too much work at once."""
    kept = Kept()
    await kept.put()
    monkeypatch.setattr(module, "FIND_SECONDS", 0.01)
    assert isinstance(kept.embedder, Same)
    kept.embedder.go.clear()
    asking = [kept.alike.find(Alike("a", f"{SAME} {'please ' * number}")) for number in range(5)]
    assert await asyncio.gather(*asking) == [None] * 5
    assert (len(kept.counts), set(kept.counts)) == (5, {"late", "busy"})
    kept.embedder.go.set()


async def test_without_weights_all_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, and no request fails."""

    class Missing:
        def read(self, text: str) -> Sentence | None:
            raise EmbeddingsMissing("not installed: x")

    kept = Kept()
    kept.embedder = Missing()
    for _ in range(2):
        await kept.put()
    assert [record.reason for record in caplog.records if hasattr(record, "reason")] == ["not installed: x"]
    assert kept.counts == ["missing"] * 2


async def test_whatever_goes_wrong_nothing_is_found_and_no_text_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A failure of a library or of a rule is counted, and told once by its kind and its place; the model is asked."""

    class Breaks(Same):
        broken = False

        def read(self, text: str) -> Sentence | None:
            if self.broken:
                raise RuntimeError(f"bad input: {text}")
            return super().read(text)

    kept = Kept()
    kept.embedder = breaks = Breaks()
    await kept.put()
    breaks.broken = True
    for _ in range(2):
        assert await kept.alike.find(Alike("a", SAME)) is None
        await kept.put("How do I change my name?")
    assert kept.counts == ["failed"] * 4
    (told,) = [record.reason for record in caplog.records if hasattr(record, "reason")]
    assert told.startswith("RuntimeError in read, ")
    assert "password" not in caplog.text


async def test_who_is_cancelled_is_not_told_that_nothing_is_there() -> None:
    """Who leaves has left."""
    kept = Kept()
    await kept.put()
    assert isinstance(kept.embedder, Same)
    kept.embedder.go.clear()
    finding = asyncio.create_task(kept.alike.find(Alike("a", f"{SAME} please")))
    await asyncio.sleep(0)
    finding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finding
    kept.embedder.go.set()


async def test_the_time_that_it_takes_says_nothing_of_what_another_tenant_has_asked() -> None:
    """Vectors are kept for each tenant apart: what one has asked is no sooner compared for another."""
    kept, texts = Kept(), list[str]()

    class Watched(Same):
        def read(self, text: str) -> Sentence | None:
            texts.append(text)
            return super().read(text)

    kept.embedder = Watched()
    for whose in ("one.m.1", "one.m.2", "two.m.1"):
        await kept.put(partition=whose, key=KEY._replace(digest=whose.encode()))
    assert texts == [ASKED, ASKED]
