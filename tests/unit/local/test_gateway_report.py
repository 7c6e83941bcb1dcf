"""What local mode reads off the gateway that it started."""

from pathlib import Path

import aiohttp
from aiohttp import web

from capstan_contract.config import ConfigReport
from capstan_operator.local.gateway_process import GatewayProcess
from support.ports import free_port


async def test_a_report_of_a_newer_release_is_understood(tmp_path: Path) -> None:
    """A field that this release does not know is no reason not to see that the config is in use."""

    async def answer(request: web.Request) -> web.Response:
        if request.headers.get("authorization") != "Bearer admin":
            return web.Response(status=401)
        return web.json_response({**ConfigReport(hash="h", generations={}).model_dump(), "ofANewerRelease": 1})

    app, port = web.Application(), free_port()
    app.add_routes([web.get("/internal/config", answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with aiohttp.ClientSession() as http:
            gateway = GatewayProcess(
                http=http,
                host="127.0.0.1",
                port=port,
                folder=tmp_path,
                environment={},
                say=lambda *_: None,
                admin_key="admin",
                admin_file=tmp_path / "admin-key",
            )
            report = await gateway._report()
    finally:
        await runner.cleanup()
    assert report == ConfigReport(hash="h", generations={})
