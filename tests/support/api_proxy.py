"""A plain-HTTP proxy in front of an API server, through which a test can break watches."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from kubernetes.aio import client as api
from kubernetes.aio import config as loader
from kubernetes.aio.client.rest import RESTClientObject

from support.ports import free_port

DROPPED = {"host", "content-length", "transfer-encoding", "connection", "content-encoding"}


class ApiProxy:
    """Passes everything on, except for watches while they are broken."""

    def __init__(self, host: str, session: aiohttp.ClientSession) -> None:
        self._host = host
        self._session = session
        self._open: set[asyncio.Task[Any]] = set()
        self._mended = asyncio.Event()
        self._mended.set()
        self.expire_next: set[str] = set()
        """Paths whose next watch is answered with 410 Expired."""
        self.expired: set[str] = set()
        """Paths that were answered so."""
        self.stuck: set[str] = set()
        """Namespaces in which no write is answered, as with an admission webhook that hangs."""
        self.refused: dict[str, int] = {}
        """Paths whose watches are refused, with which status."""
        self.forbidden: set[str] = set()
        """Namespaces in which nothing is allowed."""
        self.hanging = 0
        """Writes that hang at this moment."""
        self.watched: set[str] = set()
        self._failing: dict[str, int] = {}

    def fail(self, path: str, status: int | None) -> None:
        """Answer requests of this path, or below it, that are no watches with a status; None: pass them on again."""
        if status is None:
            self._failing.pop(path, None)
        else:
            self._failing[path] = status

    def break_watches(self) -> None:
        """End every watch, and let new ones hang."""
        self._mended.clear()
        for task in self._open:
            task.cancel()

    def mend_watches(self, *, expired: bool) -> None:
        """Let watches through again; with `expired`, each watch first hears that its resourceVersion is too old."""
        self.expire_next = set(self.watched) if expired else set()
        self._mended.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        namespace = request.match_info["path"].partition("namespaces/")[2].split("/")[0]
        if namespace in self.forbidden:
            return _refusal(403, f"may not {request.method} in '{namespace}'")
        if request.method != "GET" and namespace in self.stuck:
            await self._hang()
        if "watch" not in request.query:
            if status := next((code for path, code in self._failing.items() if request.path.startswith(path)), None):
                body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "broken", "code": status}
                return web.json_response(body, status=status)
            return await self._pass_on(request)
        self.watched.add(request.path)
        if request.path in self.refused:
            return _refusal(self.refused[request.path], "may not watch")
        await self._mended.wait()
        if request.path in self.expire_next:
            self.expire_next.discard(request.path)
            self.expired.add(request.path)
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410}
            return web.Response(text=json.dumps({"type": "ERROR", "object": status}) + "\n")
        task = asyncio.ensure_future(self._pass_on(request))
        self._open.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if request.transport is not None:
                request.transport.abort()
            raise
        finally:
            self._open.discard(task)

    async def _hang(self) -> None:
        self.hanging += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.hanging -= 1

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        headers = {key: value for key, value in request.headers.items() if key.lower() not in DROPPED}
        url = f"{self._host}{request.path_qs}"
        body = await request.read() or None
        async with self._session.request(request.method, url, headers=headers, data=body) as upstream:
            kept = {key: value for key, value in upstream.headers.items() if key.lower() not in DROPPED}
            response = web.StreamResponse(status=upstream.status, headers=kept)
            await response.prepare(request)
            async for chunk in upstream.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response


def _refusal(code: int, message: str) -> web.Response:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
    return web.json_response({**status, "reason": "Forbidden" if code == 403 else ""}, status=code)


@asynccontextmanager
async def api_proxy(kubeconfig: Path, folder: Path) -> AsyncIterator[tuple[ApiProxy, Path]]:
    """Run a proxy; give it, and a kubeconfig that leads through it."""
    configuration = api.Configuration()
    await loader.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    connector = aiohttp.TCPConnector(ssl=RESTClientObject(configuration).ssl_context, limit=0)
    port = free_port()
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        proxy = ApiProxy(configuration.host, session)
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield proxy, _write_kubeconfig(folder / "through-proxy", f"http://127.0.0.1:{port}", {})
        finally:
            proxy.break_watches()
            await runner.cleanup()


def _write_kubeconfig(path: Path, server: str, user: dict[str, Any], cluster: dict[str, Any] | None = None) -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(content))
    return path


def token_kubeconfig(kubeconfig: Path, path: Path, token_file: Path) -> Path:
    """Write a kubeconfig for the same API server that takes its token from a file."""
    cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
    server = cluster.pop("server")
    return _write_kubeconfig(path, server, {"tokenFile": str(token_file)}, cluster)
