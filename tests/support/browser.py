"""A headless Chromium, spoken to by its DevTools protocol: what a page looks like, and what it tried to load."""

import asyncio
import base64
import itertools
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from support.jobs import wait_for_job
from support.needs import need_binary
from support.wait import eventually

_SECONDS = 120.0
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
)  # fmt: skip


class Page:
    """One page of the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.requests: list[str] = []
        """URLs that it asked for."""
        self.blocked: list[str] = []
        """Those of them that its policy kept from being asked for."""
        self._urls: dict[str, str] = {}
        self.complaints: list[str] = []
        """What the browser has logged against it: errors of scripts, what its policy has blocked."""
        self._socket = socket
        self._numbers = itertools.count(1)

    async def show(self, path: Path, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Open a file in a window of this size, and wait until it is loaded."""
        for noted in (self.requests, self.blocked, self.complaints):
            noted.clear()
        for domain in ("Page", "Network", "Log", "Runtime"):
            await self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call("Page.navigate", url=path.as_uri())
        loaded = f"document.readyState === 'complete' && location.href === '{path.as_uri()}'"
        await eventually(lambda: self.value(loaded), seconds=_SECONDS, what=f"{path.name} to be loaded")

    async def value(self, expression: str) -> Any:
        """Give what an expression of JavaScript comes to, waiting for a promise."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    async def press(self, key: str) -> None:
        """Press and let go of a key, such as `Tab` or `Enter`."""
        codes = {"Tab": 9, "Enter": 13, " ": 32}
        about: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        text = {"Enter": "\r", " ": " "}.get(key)
        await self.call("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text else {}))
        await self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    async def type(self, text: str) -> None:
        """Type a text where the focus is."""
        await self.call("Input.insertText", text=text)

    async def screenshot(self) -> bytes:
        """Give what the window shows, as PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(_SECONDS):
            while True:
                message = await self._socket.receive_json()
                if message.get("id") == number:
                    assert "error" not in message, message["error"]
                    return dict(message["result"])
                self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        told = message.get("params", {})
        if message["method"] == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
            self._urls[told["requestId"]] = told["request"]["url"]
        elif message["method"] == "Network.loadingFailed" and told.get("blockedReason") == "csp":
            self.blocked.append(self._urls[told["requestId"]])
        elif message["method"] == "Log.entryAdded":
            self.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif message["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"]))


@asynccontextmanager
async def open_page(folder: Path) -> AsyncIterator[Page]:
    """Start a browser that keeps its things in a folder, and give an empty page of it."""
    wait_for_job("browser")
    program = need_binary("chromium", "chromium")
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220
            [program, *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"], stdout=log, stderr=log
        )
    try:
        told = folder / "profile" / "DevToolsActivePort"
        port = await eventually(lambda: _port(told, process), seconds=_SECONDS, what="chromium to listen")
        async with aiohttp.ClientSession() as session:
            url = await eventually(lambda: _first_page(session, port), seconds=_SECONDS, what="chromium's first page")
            async with session.ws_connect(url, max_msg_size=0) as socket:
                yield Page(socket)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


async def _first_page(session: aiohttp.ClientSession, port: int) -> str | None:
    """Give where the browser's page is spoken to, once it has one: it listens before that."""
    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
        targets = await answer.json()
    return next((str(target["webSocketDebuggerUrl"]) for target in targets if target["type"] == "page"), None)


def _port(file: Path, process: subprocess.Popen[bytes]) -> int | None:
    """Give the port that the browser has told, once it has."""
    assert process.poll() is None, "chromium has ended"
    lines = file.read_text().splitlines() if file.exists() else []
    return int(lines[0]) if len(lines) > 1 else None
