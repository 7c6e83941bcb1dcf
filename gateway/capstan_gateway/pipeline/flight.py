"""Work on an ask that is nobody's own: several wait for one answer, or the gateway goes on for its own sake.

    client A ──► ask A ─┐
    client B ──► ask B ─┼─ hold ─► the flight's ask ──► a task of its own ──► the model
    a job    ───────────┘

Each that joins holds the flight's ask until its own ends; when the last has left, or its deadline has passed, the task
is cancelled and the upstream with it. That A's client goes takes nothing from B.
"""

import asyncio
from typing import Final

from capstan_gateway.errors import OUT_OF_TIME, ShuttingDown, UpstreamTimeout
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.background import Background
from capstan_gateway.pipeline.layers import AnswerFunction
from capstan_gateway.pipeline.reply import Reply
from capstan_gateway.pipeline.watch import OVERTIME_SECONDS


class Flight:
    """One answer in the making, for whoever joins."""

    def __init__(self, ask: Ask, answer: AnswerFunction, background: Background) -> None:
        """Begin. `ask` is the flight's own, as `Ask.fork` gives it: its joiners hold it, nobody else need."""
        self.ask: Final = ask
        self._reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        ask.on_end(self._let_go)
        # NB: it begins in the next turn of the loop, when those have joined for whom it was made.
        ask.task = background.start(self._run(answer))
        ask.task.add_done_callback(self._over)

    @property
    def joinable(self) -> bool:
        """Whether one more may join: not when everybody has left."""
        task = self.ask.task
        return not self.ask.ended and (task is None or not task.cancelling())

    async def join(self, ask: Ask) -> Reply:
        """Wait for the reply on behalf of another ask, which holds this one until it ends itself.

        Every joiner gets the same reply, or the same error. What it does with a stream is the layer's business.
        """
        self.ask.hold()
        ask.on_end(self.ask.leave)
        # Who stops waiting cancels its own wait only.
        return await asyncio.shield(self._reply)

    def _let_go(self) -> None:
        """Nobody joins any more. A failure's traceback holds the frames of those who waited, and they this flight."""
        if self._reply.done():
            self._reply = asyncio.get_running_loop().create_future()

    async def _run(self, answer: AnswerFunction) -> None:
        deadline = asyncio.timeout_at(self.ask.expires_at + OVERTIME_SECONDS)
        try:
            async with deadline:
                reply = await answer(self.ask)
        except TimeoutError as error:
            late = UpstreamTimeout(OUT_OF_TIME)
            self._reply.set_exception(late if deadline.expired() else error)
        except Exception as error:  # noqa: BLE001 - it is raised where somebody waits
            self._reply.set_exception(error)
        else:
            self._reply.set_result(reply)

    def _over(self, _: asyncio.Task[None]) -> None:
        """Take note that the work is done, or was cancelled: perhaps before it began."""
        if not self._reply.done():
            self._reply.set_exception(ShuttingDown())
        self._reply.exception()  # Whoever has left need not hear of it.
        self.ask.task = None
        if self.ask.holders <= 0:
            self.ask.end()
