"""Responses in the background as the official client asks for them, and an engine that waits until it is told."""

import asyncio
from typing import Any

import openai

from fakes.openai_upstream import Received, Wire, completion
from support.wait import PATIENCE

OVER = ("completed", "incomplete", "failed", "cancelled")


class Engine:
    """An upstream that repeats what it is told, while its gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.asked: list[str] = []
        self.requests: list[Received] = []
        self.fails: list[tuple[int, str]] = []
        """Statuses, each with a line of the head, that are answered before anything else."""
        self.finish = "stop"

    async def respond(self, request: Received, wire: Wire) -> None:
        """Answer one request."""
        text = request.document["messages"][-1]["content"]
        self.asked.append(text)
        self.requests.append(request)
        if self.fails:
            status, line = self.fails.pop(0)
            await wire.json({"error": {"message": "no", "type": "server_error"}}, status, line)
            return
        await self.gate.wait()
        choice = {"index": 0, "message": {"role": "assistant", "content": f"<{text}>"}, "finish_reason": self.finish}
        await wire.json(completion("m", choices=[choice]))


async def over(client: openai.AsyncOpenAI, response_id: str, *, seconds: float = PATIENCE) -> Any:
    """Wait until a response is over, as OpenAI's documentation has it."""
    async with asyncio.timeout(seconds):
        while True:
            response = await client.responses.retrieve(response_id)
            if response.status in OVER:
                return response
            await asyncio.sleep(0.05)
