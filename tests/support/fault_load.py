"""A steady load of chat requests whose answers can be checked, and what became of each of them.

Every request has an id of its own, with which its answer begins, and whose every token is known before: an answer that
lacks a piece, has one twice or is somebody else's is seen. What the client saw is held against what engines have
written down.
"""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any, Final

import aiohttp

from capstan_contract.queue.names import ALIVE_MS
from capstan_worker.simulator.requests import parse_chat
from capstan_worker.simulator.settings import SimulatorSettings
from support.fault_world import DIRECT, ENGINE, QUEUED, TENANTS, TOTAL_SECONDS, Gateway, Times
from support.keys import key_text

PATIENCE_SECONDS: Final = TOTAL_SECONDS + 15.0
"""A client that has heard nothing for so long counts as told nothing."""
LATE_SECONDS: Final = TOTAL_SECONDS + 3.0
"""An answer that ends behind this one came after its deadline."""
GONE_SECONDS: Final = ALIVE_MS / 1000 + 15.0
"""So long after a gateway was killed nobody begins any more with what it had asked for: it is taken for gone, and a
sweep has come by."""
SHARES: Final = {
    (QUEUED, True): 40, (QUEUED, False): 25, (DIRECT, True): 15, (DIRECT, False): 12, (f"{QUEUED} once", True): 8,
}  # fmt: skip
"""Of each model, streamed and not; `once` must not be sent twice."""


class End(StrEnum):
    """What a client saw in the end."""

    ANSWERED = "answered"
    """Every token, once, and the end."""
    RETRY = "told to retry"
    """429 or 503 with Retry-After, and nothing of an answer."""
    ERROR = "told an error"
    """Another status, in the form of the API, and nothing of an answer."""
    BROKEN = "broken"
    """An error frame behind the beginning of a stream."""
    CUT = "connection broken"
    """The gateway that it spoke with was killed."""
    LOST = "lost"
    """Nothing more was said, or the answer ended before its end as if it were whole, or it is not the right one."""


@dataclass
class Asked:
    """One request."""

    id: str
    model: str
    stream: bool
    once: bool
    sent_at: float
    expected: str
    end: End | None = None
    done_at: float = 0.0
    detail: str = ""
    twice: bool = False
    """Whether the client had more than one end of an answer."""
    killed_at: float = 0.0
    """When its gateway was."""
    queued: bool = False
    """Whether its answer came by the queue."""
    phase: str = ""
    """What was done to the world when it was sent."""


@dataclass
class Verdict:
    """What became of many requests."""

    ends: Counter[End] = field(default_factory=Counter)
    details: Counter[str] = field(default_factory=Counter)
    duplicated: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    ran_on: list[str] = field(default_factory=list)
    """Ids of a dead gateway with which an engine began, or went on to the end, when nobody could want it any more."""
    again: int = 0
    """Requests that engines brought to their end more than once, of which one was answered: nobody had the first one's
    answer yet when the second one began."""
    in_vain: int = 0
    """Requests that an engine has looked at when they were answered: one that stood still finds in its sockets what was
    sent to it, and that nobody waits for it any more."""
    slowest: float = 0.0
    queued: int = 0
    """Answers that came by the queue."""

    @property
    def asked(self) -> int:
        """How many there were."""
        return sum(self.ends.values())


def judge(requests: Iterable[Asked], engines: dict[str, Times]) -> Verdict:
    """Hold what clients saw against what engines did. All requests are over. Pure."""
    found = Verdict()
    for one in requests:
        end = one.end or End.LOST
        times = engines.get(one.id, Times())
        found.ends[end] += 1
        if end is not End.ANSWERED:
            found.details[f"{end.value}: {one.model}{' stream' if one.stream else ''}: {one.detail}"] += 1
        found.queued += one.queued
        if end is End.LOST:
            found.lost.append(f"{one.id} ({one.model}, {one.phase}): {one.detail}")
        if end is End.ANSWERED:
            found.slowest = max(found.slowest, one.done_at - one.sent_at)
            if one.done_at - one.sent_at > LATE_SECONDS:
                found.late.append(one.id)
            found.again += len(times.ended) > 1
            found.in_vain += _behind(one, end, times.begun)
        if why := _duplicated(one, end, times):
            found.duplicated.append(f"{one.id} ({one.model}, {one.phase}): {why}")
        if end is End.CUT and any(at > one.killed_at + GONE_SECONDS for at in (*times.begun, *times.ended)):
            found.ran_on.append(one.id)
    return found


def _duplicated(one: Asked, end: End, times: Times) -> str:
    if one.twice:
        return "two ends of an answer"
    if one.once and len(times.begun) > 1:
        return f"an engine began {len(times.begun)} times with what must not be sent twice"
    if _behind(one, end, times.begun) and _behind(one, end, times.ended):
        return "an engine worked on it to the end when it was answered"
    return ""


def _behind(one: Asked, end: End, times: Iterable[float]) -> bool:
    """Whether one of these times is behind an answer."""
    return end in (End.ANSWERED, End.BROKEN) and any(at > one.done_at for at in times)


class Load:
    """`async with Load(gateways, rate=8) as load:` asks until the block ends, and then waits for all answers."""

    def __init__(self, gateways: Sequence[Gateway], *, rate: float, seed: int = 1, own_names: bool = False) -> None:
        """`own_names`: engines know the models by their own names, as those that the operator starts do."""
        self.requests: list[Asked] = []
        self._gateways = gateways
        self._rate = rate
        self._rng = Random(seed)  # noqa: S311  # no secret
        self._own_names = own_names
        self._numbers = itertools.count(1)
        self._settings = SimulatorSettings(model=ENGINE, aliases=(QUEUED, DIRECT))
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[None] | None = None
        self._turn = 0
        self.phase = ""
        """What is done to the world now."""

    async def __aenter__(self) -> "Load":
        timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0), timeout=timeout)
        self._asking = asyncio.create_task(self._ask_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._asking is not None
        self._asking.cancel()
        await asyncio.gather(self._asking, return_exceptions=True)
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._http.close()

    async def _ask_on(self) -> None:
        while True:
            task = asyncio.create_task(self._ask())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(self._rng.expovariate(self._rate))

    async def _ask(self) -> None:
        rng = self._rng
        ((model, stream),) = rng.choices(tuple(SHARES), tuple(SHARES.values()))
        served, _, once = model.partition(" ")
        request_id = f"q{next(self._numbers)}x{rng.randrange(10**6)}"
        tokens = rng.randrange(16, 48)
        body: dict[str, Any] = {
            "model": served, "stream": stream, "max_tokens": tokens, "min_tokens": tokens,
            "messages": [{"role": "user", "content": f"Number {rng.random()}: <<answer: {request_id}>>"}],
        }  # fmt: skip
        if once:
            body["store"] = True
        asked = Asked(
            request_id,
            model,
            stream,
            bool(once),
            time.monotonic(),
            self._expected(body if self._own_names else {**body, "model": ENGINE}),
        )
        asked.phase = self.phase
        self.requests.append(asked)
        try:
            await self._send(asked, body, rng.choice(TENANTS))
        finally:
            asked.done_at = time.monotonic()

    def _expected(self, body: dict[str, Any]) -> str:
        return "".join(parse_chat(body, self._settings, self._settings.dials).answers()[0].tokens)

    async def _send(self, asked: Asked, body: dict[str, Any], tenant: str) -> None:
        """Ask one gateway after the other until one listens, as a Service's endpoints are tried."""
        headers = {"authorization": f"Bearer {key_text(tenant)}"}
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            gateway = self._gateways[self._turn % len(self._gateways)]
            self._turn += 1
            kills = gateway.kills
            heard: list[bytes] = []
            try:
                url = f"{gateway.url}/v1/chat/completions"
                async with self._http.post(url, json=body, headers=headers) as response:
                    async for piece in response.content.iter_any():
                        heard.append(piece)
                asked.queued = "x-capstan-queue-place" in response.headers
                _read(asked, response.status, response.headers, b"".join(heard))
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.05)  # It is not there: nothing was sent.
                continue
            except (aiohttp.ClientError, OSError) as error:  # NB: TimeoutError is an OSError.
                asked.detail = type(error).__name__
                if gateway.kills > kills or not gateway.part.up:
                    asked.end, asked.killed_at = End.CUT, time.monotonic()
                else:
                    asked.end = End.LOST
            return
        asked.end, asked.detail = End.LOST, "no gateway listens"


def _read(asked: Asked, status: int, headers: Any, body: bytes) -> None:
    """Say what an answer is that came to its end."""
    if status != 200:
        code = _code(body)
        retry = status in (429, 503) and "retry-after" in headers
        asked.end = End.LOST if code is None else End.RETRY if retry else End.ERROR
        asked.detail = f"{status} {code}" if code else f"{status}: {body[:200]!r}"
        return
    if not asked.stream:
        choice = json.loads(body)["choices"][0]
        _compare(asked, choice["message"]["content"], whole=bool(choice["finish_reason"]))
        return
    events = [line.removeprefix(b"data: ") for line in body.splitlines() if line.startswith(b"data: ")]
    chunks = [json.loads(event) for event in events if event != b"[DONE]"]
    dones = len(events) - len(chunks)
    if any("error" in chunk for chunk in chunks):
        asked.end, asked.detail = End.BROKEN, str(chunks[-1]["error"].get("message"))
        text = _text(chunks)
        if not asked.expected.startswith(text):
            asked.end, asked.detail = End.LOST, f"what came before its error is not of its answer: {text[:80]!r}"
        return
    finished = sum(1 for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"])
    asked.twice = dones > 1 or finished > 1
    _compare(asked, _text(chunks), whole=bool(dones and finished))


def _text(chunks: Sequence[Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))


def _compare(asked: Asked, text: str, *, whole: bool) -> None:
    if whole and text == asked.expected:
        asked.end = End.ANSWERED
        return
    what = "another answer" if whole else "it ended as if it were whole"
    asked.end, asked.detail = End.LOST, f"{what}: {text[:80]!r}"


def _code(body: bytes) -> str | None:
    """Give the code of an error in the form of the API; None where it is none."""
    try:
        error = json.loads(body)["error"]
        return str(error["code"] or error["type"])
    except (ValueError, KeyError, TypeError):
        return None
