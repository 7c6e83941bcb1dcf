"""What the health port answers."""

import aiohttp

from capstan_operator.health import HealthServer
from capstan_operator.metrics import Metrics
from support.ports import free_port


async def test_the_health_port_tells_the_problem() -> None:
    """/healthz fails with the reason while there is a problem, and /metrics answers always."""
    problem: list[str | None] = ["the last complete resync is old"]
    port = free_port()
    server = HealthServer(port=port, metrics=Metrics(), problem=lambda: problem[0])
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            async with session.get("/healthz") as response:
                assert (response.status, await response.text()) == (500, problem[0])
            problem[0] = None
            async with session.get("/healthz") as response:
                assert response.status == 200
            async with session.get("/metrics") as response:
                assert "capstan_operator_queue_depth" in await response.text()
    finally:
        await server.stop()
