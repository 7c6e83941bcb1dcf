"""The gateway as a child process, and what it acknowledges."""

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
from pydantic import ValidationError

from capstan_contract.config import ConfigReport
from capstan_operator.local.errors import GatewayFailed
from capstan_operator.local.process import Child

READY_SECONDS = 60.0
ACKNOWLEDGE_SECONDS = 10.0
STOP_SECONDS = 8.0
GRACE_SECONDS = 5.0
"""How long streams may go on after Ctrl-C."""
REST_SECONDS = 1.0


class GatewayProcess:
    """`capstan-gateway` on one address, started again when it ends by itself."""

    def __init__(
        self,
        *,
        http: aiohttp.ClientSession,
        host: str,
        port: int,
        folder: Path,
        environment: dict[str, str],
        say: Callable[[str, str], None],
        admin_key: str,
        admin_file: Path,
        everybody: bool = False,
        tokenizers: Path | None = None,
    ) -> None:
        """`admin_key` is what is in `admin_file`; `everybody`: serve without API keys; `tokenizers`: a directory of
        them."""
        self._headers = {"Authorization": f"Bearer {admin_key}"}
        self._http = http
        self.address = f"http://{host}:{port}"
        self._log = folder / "logs" / "gateway.log"
        self._environment = environment
        self._say = say
        self._child: Child | None = None
        self._closing = False
        self._command = [
            *(sys.executable, "-m", "capstan_gateway", "--host", host, "--port", str(port)),
            *("--config-dir", str(folder / "config"), "--credentials-dir", str(folder / "credentials")),
            *("--drain-seconds", "0", "--grace-seconds", f"{GRACE_SECONDS:g}"),
            *("--admin-key-file", str(admin_file), "--log-format", "text", "--policy-loopback"),
            *(("--insecure-no-auth",) if everybody else ()),
            *(() if tokenizers is None else ("--tokenizers-dir", str(tokenizers))),
        ]

    async def start(self) -> None:
        """Start it and wait until it answers. Raises GatewayFailed."""
        self._child = await Child.start(self._command, log=self._log, environment=self._environment)
        deadline = time.monotonic() + READY_SECONDS
        while not await self._answers("/readyz"):
            if not self._child.running or time.monotonic() > deadline:
                tail = self._child.tail()
                await self._child.stop(grace=STOP_SECONDS)
                raise GatewayFailed(f"the gateway did not start; the end of {self._log}:\n{tail}")
            await asyncio.sleep(0.05)

    async def keep_running(self) -> None:
        """Start it again whenever it ends, until `close`."""
        while self._child is not None:
            code = await self._child.wait()
            if self._closing:
                return
            self._say("gateway", f"ended with exit code {code} (log: {self._log}); starting it again")
            await asyncio.sleep(REST_SECONDS)
            try:
                await self.start()
                self._say("gateway", "is back")
            except GatewayFailed as error:
                self._say("gateway", str(error))

    async def acknowledged(self, newest: Callable[[], str]) -> str | None:
        """Wait until it runs the config whose hash `newest` gives; give what is wrong when it does not.

        It is asked every time anew, because while one config is on its way the next one may be written.
        """
        deadline = time.monotonic() + ACKNOWLEDGE_SECONDS
        while True:
            report = await self._report()
            if report and report.hash == newest():
                return None
            if time.monotonic() > deadline or self._closing:
                return (report and report.error) or "the gateway does not answer"
            await asyncio.sleep(0.03)

    async def close(self) -> None:
        """End it; streams have a few seconds to finish."""
        self._closing = True
        if self._child is not None:
            await self._child.stop(grace=STOP_SECONDS)

    def kill(self) -> None:
        """End it at once."""
        if self._child is not None:
            self._child.kill()

    async def _report(self) -> ConfigReport | None:
        try:
            timeout = aiohttp.ClientTimeout(total=2)
            url = f"{self.address}/internal/config"
            async with self._http.get(url, timeout=timeout, headers=self._headers) as response:
                return ConfigReport.model_validate_json(await response.read(), extra="ignore")
        except (aiohttp.ClientError, TimeoutError, ValidationError):
            return None

    async def _answers(self, path: str) -> bool:
        try:
            async with self._http.get(f"{self.address}{path}", timeout=aiohttp.ClientTimeout(total=2)) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False
