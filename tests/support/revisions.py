"""A load that asks a model which of its revisions answers, while one replaces the other.

Each revision knows its own answer to the question. Requests name no user, so that each is split by itself. Nothing is
retried, a stream must be complete, and everything else is a failure that is kept with its cause.
"""

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import aiohttp

from support.traffic import fault_of, text_of
from support.wait import wait_until

QUESTION: Final = "Which revision are you?"


@dataclass(frozen=True)
class Answered:
    """One request that was answered."""

    began: float
    """On the monotonic clock."""
    revision: str


@dataclass
class Asked:
    """What became of the requests."""

    answered: list[Answered] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def between(self, begin: float, end: float) -> Counter[str]:
        """Count by revision those that began within a time."""
        return Counter(one.revision for one in self.answered if begin <= one.began <= end)

    def by(self, revision: str) -> int:
        """How many this revision has answered."""
        return sum(one.revision == revision for one in self.answered)


class Asking:
    """`with Asking(url, model) as asking: ...` asks until the block ends; `asking.asked` has what came of it."""

    def __init__(self, url: str, model: str, *, clients: int = 4, pause: float = 0.02) -> None:
        """Each client waits for `pause` seconds behind an answer."""
        self.asked = Asked()
        self._url = f"{url}/v1/chat/completions"
        self._body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "stream": True}
        self._clients = clients
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name=f"asking {model}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=150)
        assert not self._thread.is_alive(), "requests did not end"

    def wait_for(self, further: int, *, seconds: float = 180) -> None:
        """Wait until so many further requests are answered."""
        goal = len(self.asked.answered) + further
        wait_until(lambda: len(self.asked.answered) >= goal, seconds=seconds, what=f"{further} further answers")

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self._clients)))

    async def _client(self, number: int) -> None:
        connector = aiohttp.TCPConnector(force_close=number % 2 == 0)
        timeout = aiohttp.ClientTimeout(total=120)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while not self._stop.is_set():
                await self._request(session)
                await asyncio.sleep(self._pause)

    async def _request(self, session: aiohttp.ClientSession) -> None:
        began = time.monotonic()
        try:
            async with session.post(self._url, json=self._body) as response:
                text = await response.text()
            fault = fault_of(response.status, text, streamed=True)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            fault = f"{type(error).__name__}: {error}"
        if fault:
            self.asked.failures.append(fault)
            # Who fails at once must not fill the machine with failures.
            await asyncio.sleep(0.1)
        else:
            self.asked.answered.append(Answered(began, text_of(text, streamed=True)))
