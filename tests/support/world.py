"""A gateway with engines and hosted models of every kind before one scripted upstream, for requests by the thousand."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import uvloop

from capstan_contract.config import Capability, ExternalBackend, ExternalEndpoint, Provider, Task
from fakes.openai_upstream import FakeUpstream, Respond
from support.gateway import RunningGateway, entry, running_gateway

ENGINE, HOSTED, CLAUDE, OPENAI, VECTORS = "engine", "hosted", "claude", "openai", "vectors"
TALKERS: Final = (ENGINE, HOSTED, CLAUDE, OPENAI)
_HEAD: Final = (
    "POST %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
)


class World:
    """The gateway, on a loop that runs while something is asked."""

    def __init__(self, runner: asyncio.Runner, gateway: RunningGateway, upstream: FakeUpstream) -> None:
        self._runner = runner
        self._gateway = gateway
        self.upstream = upstream

    def ask(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Send a request; give the status and the body of the answer."""
        return self._runner.run(self._ask(path, body))

    async def _ask(self, path: str, body: bytes) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._gateway.port)
        writer.write((_HEAD % (path, len(body))).encode() + body)
        said = await reader.read(-1)
        writer.close()
        runtime = self._gateway.gateway.current()
        for state in (
            () if runtime is None else [one for model in runtime.models.values() for one in model.endpoints.states]
        ):
            # A breaker that bad answers have opened is closed again for the next example.
            state.breaker.__init__()  # type: ignore[misc]
        head, _, rest = said.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), _unchunked(rest) if b"transfer-encoding: chunked" in head else rest


def _unchunked(data: bytes) -> bytes:
    whole = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        whole, data = whole + data[:length], data[length + 2 :]
    return whole


@contextmanager
def world_of(folder: Path, respond: Respond) -> Iterator[World]:
    """Start it in front of an upstream that answers so."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()

        async def enter() -> World:
            upstream = await stack.enter_async_context(FakeUpstream(respond))
            endpoint = ExternalEndpoint(name="a", url=upstream.url + "/v1", credentialFile="key")

            def hosted(provider: Provider) -> Any:
                return ExternalBackend(provider=provider, endpoints=(endpoint,))

            able = {"capabilities": tuple(Capability)}
            models = (
                entry(ENGINE, upstream.url, upstreamName="up", contextWindow=100_000, maxOutputTokens=500, **able),
                entry(HOSTED, backend=hosted(Provider.OPENAI_COMPATIBLE), **able),
                entry(CLAUDE, backend=hosted(Provider.ANTHROPIC), **able),
                entry(OPENAI, backend=hosted(Provider.OPENAI), **able),
                entry(VECTORS, upstream.url, task=Task.EMBED),
            )
            running = running_gateway(folder, *models, credentials={"key": "sk"}, log_level="error")
            return World(runner, await stack.enter_async_context(running), upstream)

        try:
            yield runner.run(enter())
        finally:
            runner.run(stack.aclose())


def envelope_fault(path: str, body: bytes, *, names_field: bool) -> str | None:
    """Say what is wrong with an error answer; None when it is in the route's own form, and names a field if it must."""
    told = json.loads(body)
    if path.startswith("/v1/messages"):
        right = told.get("type") == "error" and set(told["error"]) == {"type", "message"} and told["request_id"]
    else:
        right = set(told["error"]) == {"type", "message", "param", "code"}
    if not right:
        return f"the envelope of another route: {told}"
    message = told["error"]["message"]
    if not names_field:
        return None
    named = "`" in message or "the body" in message or "no model can answer" in message or told["error"].get("param")
    return None if named else f"no field is named: {told}"
