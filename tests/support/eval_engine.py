"""An engine for runs of evaluation: right and wrong by rule, a judge and an embedder as well, and it counts what it is
asked.

A prompt "What is 3 + 4?" is answered by its sum, unless the case is one that this engine gets wrong. A judge says yes
to what it is asked. Each prompt with "harm" in it is refused.
"""

import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from aiohttp import web

from support.forks import Forked, fork
from support.needs import ROOT

PATHS = os.pathsep.join(str(ROOT / name) for name in ("gateway", "operator", "worker"))
MAIN = "capstan_operator.cli.main"
LOADS = tuple(f"capstan_operator.cli.eval_{name}" for name in ("baseline", "compare", "gate", "run"))
SUM = re.compile(r"What is (\d+) \+ (\d+)\?")


class EvalEngine:
    """What is asked, and what is answered."""

    def __init__(self, wrong: Callable[[int], bool] = lambda _: False) -> None:
        self.wrong = wrong
        """Whether the sum with this first number is answered wrongly."""
        self.asked: Counter[str] = Counter()
        """By the last message."""
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        """What stood in the header `authorization`."""
        self.waits = 0.0
        """Seconds before each answer."""
        self.fails = 0
        """So many asks are answered with 500."""
        self.refuses: Callable[[str], bool] = lambda text: "harm" in text
        self.on_ask: Callable[[int], None] = lambda _: None
        """Called with the number of the ask, before it is answered."""
        self.url = ""

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer as a stream."""
        body = await request.json()
        text = body["messages"][-1]["content"]
        self.asked[text] += 1
        self.bodies.append(body)
        self.keys.add(request.headers.get("authorization"))
        self.on_ask(len(self.bodies))
        if self.waits:
            await asyncio.sleep(self.waits)
        if self.fails > 0:
            self.fails -= 1
            return web.json_response({"error": {"message": "secret", "code": "engine_failed"}}, status=500)
        said = self._answer(body, text)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for document in (
            {"choices": [{"index": 0, "delta": {"content": said}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 2}},
        ):
            await response.write(f"data: {json.dumps(document)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    def _answer(self, body: dict[str, Any], text: str) -> str:
        if body["model"] == "judge":
            return '{"reason": "it is", "verdict": "yes"}'
        if self.refuses(text):
            return "I'm sorry, but I can't help with that."
        found = SUM.search(text)
        if not found:
            return "hello"
        first, second = map(int, found.groups())
        return str(first + second + (1 if self.wrong(first) else 0))


@asynccontextmanager
async def eval_engine(**options: Any) -> AsyncIterator[EvalEngine]:
    """Run one."""
    engine = EvalEngine(**options)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", engine.chat)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    engine.url = runner.addresses[0] and f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield engine
    finally:
        await runner.cleanup()


class EvalProcess:
    """`capstan eval` as a process."""

    def __init__(self, process: Forked, out: IO[bytes], err: IO[bytes]) -> None:
        self._process = process
        self._out = out
        self._err = err

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        self._process.send_signal(number)

    async def communicate(self) -> tuple[bytes, bytes]:
        """Wait until it has ended; give its output and its complaints."""
        while self._process.poll() is None:  # noqa: ASYNC110 - no loop hears of the end of another process' child
            await asyncio.sleep(0.01)
        with self._out, self._err:
            for file in (self._out, self._err):
                file.seek(0)
            return self._out.read(), self._err.read()


async def start(*arguments: str, folder: Path, **environment: str) -> EvalProcess:
    """Start `capstan eval`."""
    out, err = TemporaryFile(), TemporaryFile()  # noqa: SIM115 - closed when they are read
    environ = {**os.environ, "PYTHONPATH": PATHS, "COLUMNS": "100", **environment}

    def begin() -> Forked:
        words = ("eval", *arguments)
        return fork(MAIN, words, loads=LOADS, environ=environ, stdout=out, stderr=err, folder=folder)

    return EvalProcess(await asyncio.to_thread(begin), out, err)


async def run(*arguments: str, folder: Path, **environment: str) -> tuple[int, str, str]:
    """Run `capstan eval` to its end: exit code, output, complaints."""
    process = await start(*arguments, folder=folder, **environment)
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()
