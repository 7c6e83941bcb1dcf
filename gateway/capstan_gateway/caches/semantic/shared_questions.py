"""Questions that replicas share, in Redis: each lies beside its answer, and a stream of each policy says what is new.

    put   ─► capstan:cache:1:{<partition>}:<policy>:<model>:<digest>:asked     the question, as long as its answer
          ─► capstan:cache:1:{questions:<policy>}                              a stream: the key, until when
    take  ◄─ what the stream has behind the place where this replica is ◄─ those that it does not know ─► its index

A question is in the slot of its tenant's partition, and goes with the answer: by its time, by a purge's sweep, by
whoever deletes the answer. The stream has nothing of a question but the key of the answer, which says nothing to who
does not know the request, and is bounded: what is cut off is older than what an index holds. What is found in the index
has an answer or is forgotten, so nothing here can bring back what was purged.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from time import sleep
from typing import Any, Final, NamedTuple

from capstan_gateway.caches.box import Unreadable
from capstan_gateway.caches.port import CacheKey
from capstan_gateway.caches.purges import SLACK_MS, read_key
from capstan_gateway.caches.semantic.index import Asked, Neighbours
from capstan_gateway.caches.semantic.questions import MOST_BYTES, QuestionCodec, StoredQuestion
from capstan_gateway.caches.shared import PREFIX, Purged, policy_of, question_place_of
from capstan_gateway.life.threads import Busy, Threads
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.scripted import Links, Script, run_script
from capstan_gateway.stores.wire import Refused, Reply, pack

log = logging.getLogger(__name__)

PAGE: Final = 64
"""Questions that are read at once: some 80 KB."""
SLICE: Final = 16
"""Questions that are put into the index without a pause: a millisecond each where it is a large one."""
PAUSE_SECONDS: Final = 0.002
OVERLAP_MS: Final = 10_000
"""How far back is read when Redis was away: one that took over may have another clock."""
_TELL: Final = Script("""
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'k', ARGV[3], 'x', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
""")
"""KEYS: the stream. ARGV: how long it is, how many milliseconds it lives, the key of an answer, until when."""
_ID: Final = re.compile(rb"(\d{1,20})-(\d{1,20})")
"""Two numbers of 64 bits. NB: Redis goes on from the last one, so it may be one that somebody has made up."""


class Told(NamedTuple):
    """What the stream says of one question."""

    key: CacheKey
    expires_ms: int


class RedisQuestions:
    """Implements `questions.SharedQuestions`: those of one policy. Whoever owns it calls `take` again and again."""

    def __init__(
        self,
        links: Links,
        *,
        policy: str,
        index: Neighbours,
        codec: Callable[[], QuestionCodec | None],
        most: int,
        ttl_ms: int,
        now_ms: Callable[[], int],
        threads: Threads,
        warm: Callable[[], object] = lambda: None,
        large: Links | None = None,
        purged: Purged = lambda key, created_ms: False,  # noqa: ARG005 - of the protocol
        learn: Callable[[], Awaitable[bool]],
        count: Callable[[str], None] = lambda _: None,
        closed: Callable[["RedisQuestions"], object] = lambda _: None,
    ) -> None:
        """Make it, for an index of `most` questions. `codec`, `purged`, `learn`, `large` and `count` are as of
        `RedisEntries`; `threads` is where questions are read and put into the index, after `warm`: who asks next has
        less time than what it loads takes. `closed` hears of the end."""
        self._links: Final = links
        self._large: Final = large or links
        self._policy: Final = policy_of(policy)
        self._stream: Final = stream_of(policy)
        self._index: Final = index
        self._codec: Final = codec
        self._most: Final = most
        self._ttl_ms: Final = ttl_ms
        self._now_ms: Final = now_ms
        self._threads: Final = threads
        self._warm: Final = warm
        self._purged: Final = purged
        self._learn: Final = learn
        self._count: Final = count
        self._closed: Final = closed
        self._at: tuple[int, int] | None = None
        self._was_away = False
        self._is_warm = False
        self._told: set[str] = set()
        self._is_closed = False

    @property
    def is_down(self) -> bool:
        """Whether Redis does not answer, as far as is known."""
        return self._links.failure is not None

    def close(self) -> None:
        """Take nothing in any more: the policy is gone, or is another one now."""
        self._is_closed = True
        self._closed(self)

    async def put(self, question: StoredQuestion) -> None:
        """Write a question, and tell of it."""
        codec, left = self._codec(), question.expires_ms - self._now_ms()
        if codec is None or left <= 0 or self._purged(question.key, question.created_ms):
            return
        at = question_place_of(self._policy, question.key)
        about = (self._most, self._ttl_ms, question.key.text, question.expires_ms)
        try:
            await self._counted(self._links.call(at, pack(("SET", at, codec.write(question), "PX", left))))
            await self._counted(run_script(self._links, _TELL, (self._stream,), about))
        except StoreDown:
            return  # It is counted; who asks there asks the model.

    # --- what others have put -----------------------------------------------------------------------------------------

    async def take(self) -> bool:
        """Take in the next page of what others have put; whether there may be more. Nothing is raised where Redis is
        away: it is read from a little before there when it is back."""
        codec = self._codec()
        if codec is None or self._is_closed:
            return False
        if not await self._learn():
            self._was_away = True
            return False
        try:
            return await self._taken(codec)
        except StoreDown:
            self._was_away = True
        except Busy:
            pass  # What was read is read again.
        return False

    async def _taken(self, codec: QuestionCodec) -> bool:
        words = ("XREAD", "COUNT", PAGE, "STREAMS", self._stream, self._behind())
        said = _entries(await self._counted(self._large.call(self._stream, pack(words))))
        if not said:
            self._was_away = False
            return False
        wanted = await self._threads.run(self._unknown, self._told_by(said))
        places = [question_place_of(self._policy, key) for key in wanted]
        # NB: in one write, and never more than a question is, whatever lies there.
        found = await asyncio.gather(*map(self._lying_at, places))
        for start in range(0, len(wanted), SLICE):
            part = slice(start, start + SLICE)
            await self._put_in(codec, wanted[part], found[part])
            await asyncio.sleep(PAUSE_SECONDS)
        self._at, self._was_away = said[-1][0], False
        return len(said) == PAGE

    async def _lying_at(self, at: str) -> Reply:
        try:
            return await self._counted(self._large.call(at, pack(("GETRANGE", at, 0, MOST_BYTES))))
        except Refused:
            return None  # Somebody has put something of another kind there.

    def _behind(self) -> str:
        """Give the id behind which is read on."""
        if self._at is None:
            # NB: what is older than any entry lives is not there any more.
            return f"{max(self._now_ms() - self._ttl_ms - OVERLAP_MS, 0)}-0"
        milliseconds, number = self._at
        return f"{max(milliseconds - OVERLAP_MS, 0)}-0" if self._was_away else f"{milliseconds}-{number}"

    def _told_by(self, said: Sequence[tuple[tuple[int, int], Any]]) -> Sequence[Told]:
        told: dict[CacheKey, Told] = {}
        for _, fields in said:
            one = _read(fields)
            if one is None:
                self._unreadable("what the stream says does not read")
            else:
                told[one.key] = one
        return tuple(told.values())

    async def _put_in(self, codec: QuestionCodec, keys: Sequence[CacheKey], found: Sequence[Reply]) -> None:
        pairs = [(key, data) for key, data in zip(keys, found, strict=True) if isinstance(data, bytes) and data]
        read, reasons = await self._threads.run(self._read_in, codec, pairs)
        for reason in reasons:
            self._unreadable(reason)
        for question in read:
            # NB: the purge may have come while it was put in; and its time is of another gateway's clock.
            if self._purged(question.key, question.created_ms - SLACK_MS):
                self._index.drop(question.key)

    def _unknown(self, told: Sequence[Told]) -> list[CacheKey]:
        now = self._now_ms()
        return [one.key for one in told if one.expires_ms > max(now, self._index.until(one.key))]

    def _read_in(
        self, codec: QuestionCodec, pairs: Sequence[tuple[CacheKey, bytes]]
    ) -> tuple[list[StoredQuestion], list[str]]:
        put, reasons, now = [], [], self._now_ms()
        if pairs and not self._is_warm:
            self._is_warm = True
            self._warm()
        for key, data in pairs:
            try:
                question = codec.read(key, data)
                # NB: it was written when the policy may have let answers live longer than it does now.
                expires = min(question.expires_ms, question.created_ms + self._ttl_ms)
                if expires > now and not self._is_closed:
                    self._index.put(question.partition, Asked(key, question.text, expires), question.vector)
                    put.append(question)
            except Unreadable as error:
                reasons.append(str(error))
            except Exception as error:  # noqa: BLE001 - one that breaks a library is passed over as well
                reasons.append(type(error).__name__)
            sleep(0)  # Who waits for the index has its turn.
        return put, reasons

    async def _counted(self, call: Awaitable[Any]) -> Reply:
        try:
            reply = await call
        except Refused:
            self._count("refused")
            raise
        except StoreDown:
            self._count("failed")
            raise
        self._count("answered")
        return reply

    def _unreadable(self, reason: str) -> None:
        """Count one that is passed over. It is not deleted: another replica may have another key for a while."""
        self._count("unreadable")
        if reason not in self._told:
            self._told.add(reason)
            log.warning("a question of another replica does not read", extra={"reason": reason})


def stream_of(policy: str) -> str:
    """Give the key of the stream of a policy, by its id."""
    # NB: partitions are hexadecimal, and what sweeps them (`purging.patterns_of`) leaves this alone.
    return f"{PREFIX}:{{questions:{policy_of(policy)}}}"


def _entries(reply: Reply) -> list[tuple[tuple[int, int], Any]]:
    """Read a reply of XREAD on one stream: the ids of what is there, as numbers, and its fields."""
    try:
        ((_, entries),) = reply or ((b"", ()),)
        found = []
        for id, fields in entries:
            match = _ID.fullmatch(id)
            if match is not None:
                found.append(((int(match[1]), int(match[2])), fields))
    except (TypeError, ValueError):
        return []
    return found


def _read(fields: Any) -> Told | None:
    """Read what the stream says of a question; None where that is nothing."""
    try:
        said = dict(zip(fields[::2], fields[1::2], strict=True))
        key, expires = read_key(said[b"k"].decode("ascii")), int(said[b"x"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return None if key is None else Told(key, expires)
