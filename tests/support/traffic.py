"""A load of chat requests, streamed and not, that goes on while a test disturbs something.

Strict on purpose: nothing is retried, a stream must be complete, the same question must get the same answer, and
everything else is a failure that is kept with its cause. Half of the clients keep their connections, half make one for
each request.
"""

import asyncio
import json
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from support.wait import wait_until

BROKEN: Final = "error in the stream"
"""How the fault of a stream begins that had begun, and whose end says that there was an error."""


@dataclass
class Report:
    """What became of the requests."""

    answered: int = 0
    queued: int = 0
    """How many of those were answered by way of the queue."""
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def __str__(self) -> str:
        return f"{self.answered} answered, {self.queued} of them by the queue, slowest {self.slowest:.2f} s"


class Traffic:
    """`with Traffic(url, model) as traffic: ...` sends until the block ends; then `traffic.report` is complete.

    Each client asks the same again and again, of an engine that answers the same each time, as one release's simulator
    does.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        clients: int = 6,
        tokens: int = 24,
        key: str = "",
        keep: bool = True,
        alike: bool = True,
    ) -> None:
        """`keep` False: no client keeps its connection. `alike` False: the engine is replaced by one that may say
        something else."""
        self.report = Report()
        self._url = url
        self._model = model
        self._clients = clients
        self._tokens = tokens
        self._keep = keep
        self._alike = alike
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._said: dict[int, str] = {}
        self._stop = threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="traffic")

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.wait_for(self._clients)
        except BaseException:
            # Nobody else would end it.
            self._stop.set()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=150)
        assert not self._thread.is_alive(), "requests did not end"

    def wait_for(self, further: int, *, seconds: float = 180) -> None:
        """Wait until so many further requests are over."""
        goal = self.report.answered + len(self.report.failures) + further
        wait_until(
            lambda: self.report.answered + len(self.report.failures) >= goal,
            seconds=seconds, every=0.02, what=f"{further} further answers",
        )  # fmt: skip

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self._clients)))

    async def _client(self, number: int) -> None:
        connector = aiohttp.TCPConnector(force_close=number % 2 == 0 or not self._keep)
        timeout = aiohttp.ClientTimeout(total=120)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=self._headers) as session:
            streamed = number % 3 != 0
            while not self._stop.is_set():
                await self._request(session, number, streamed=streamed)

    async def _request(self, session: aiohttp.ClientSession, number: int, *, streamed: bool) -> None:
        began = time.monotonic()
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": f"count from {number}"}],
            "max_tokens": self._tokens,
            "stream": streamed,
        }
        queued = False
        try:
            async with session.post(f"{self._url}/v1/chat/completions", json=body) as response:
                text = await response.text()
            queued = "x-capstan-queue-place" in response.headers
            fault = fault_of(response.status, text, streamed=streamed)
            if self._alike and (not fault or fault.startswith(BROKEN)):
                fault += self._differs(number, text_of(text, streamed=streamed), whole=not fault)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            fault = f"{type(error).__name__}: {error}"
        took = time.monotonic() - began
        self.report.slowest = max(self.report.slowest, took)
        if fault:
            when = f"{began - self._began:.2f} s + {took:.2f} s"
            self.report.failures.append(f"{fault} (client {number}, {when})")
            # A client that fails at once must not fill the machine with failures.
            await asyncio.sleep(0.1)
        else:
            self.report.answered += 1
            self.report.queued += queued

    def _differs(self, number: int, said: str, *, whole: bool) -> str:
        """Say how an answer differs from what this client was answered first; "" when it does not."""
        first = self._said.setdefault(number, said) if whole else self._said.get(number, said)
        is_same = said == first if whole else first.startswith(said)
        return "" if is_same else f"another answer: {said!r} instead of {first!r}"


def fault_of(status: int, text: str, *, streamed: bool) -> str:
    """Say what is wrong with an answer; "" when it is whole."""
    if status != 200:
        return f"status {status}: {text[:300]}"
    if not streamed:
        choice = json.loads(text)["choices"][0]
        return "" if choice["finish_reason"] and choice["message"]["content"] else f"no end: {text[:300]}"
    events, chunks = _events(text)
    if any("error" in chunk for chunk in chunks):
        return f"{BROKEN}: {text[-300:]}"
    if not events or events[-1] != "[DONE]":
        return f"cut off after {len(events)} events: {text[-300:]}"
    ends = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    return "" if len(ends) == 1 else f"{len(ends)} finish reasons: {text[-300:]}"


def text_of(text: str, *, streamed: bool) -> str:
    """Give what an answer of status 200 says, as far as it came."""
    if not streamed:
        return str(json.loads(text)["choices"][0]["message"]["content"])
    choices = (choice for chunk in _events(text)[1] for choice in chunk.get("choices") or ())
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def _events(text: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Give the events of a stream, and what those say that came whole."""
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    chunks = []
    for event in events:
        try:
            chunks.append(json.loads(event))
        except ValueError:  # "[DONE]", and the last one of a stream that was cut off.
            continue
    return events, chunks
