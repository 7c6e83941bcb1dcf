"""What the health port answers."""

import aiohttp

from capstan_operator.health import HealthServer
from capstan_operator.metrics import Metrics
from support.ports import free_port


async def test_the_health_port_tells_what_is_wrong() -> None:
    """/healthz fails when the process is not well, /readyz besides when it does not get on, /metrics never."""
    alive: list[str | None] = [None]
    ready: list[str | None] = ["the last complete resync is old"]
    port = free_port()
    server = HealthServer(
        port=port, metrics=Metrics(), alive=lambda: alive[0], ready=lambda: ready[0], notes=lambda: ["a note"]
    )
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

            async def ask(path: str) -> tuple[int, str]:
                async with session.get(path) as response:
                    return response.status, await response.text()

            assert await ask("/healthz") == (200, "ok")
            assert await ask("/readyz") == (500, "the last complete resync is old\na note")
            ready[0] = None
            assert await ask("/readyz") == (200, "ok\na note")
            alive[0] = "a part failed"
            assert await ask("/healthz") == (500, "a part failed")
            assert await ask("/readyz") == (500, "a part failed\na note")
            status, text = await ask("/metrics")
            assert status == 200
            assert "capstan_operator_queue_depth" in text
    finally:
        await server.stop()
