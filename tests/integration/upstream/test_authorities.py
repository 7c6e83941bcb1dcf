"""Which authorities the clients of all processes believe: those of SSL_CERT_FILE, where it says some."""

import asyncio
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from capstan_operator.metrics_api.authority import issue, make_authority
from support.needs import ROOT

PROGRAM = """
import asyncio, json, sys
from pathlib import Path
import aiohttp
from capstan_contract.redis_address import read_address
from capstan_gateway.stores.dial import rules_for
from capstan_gateway.upstream.port import Endpoint
from capstan_gateway.upstream.tls import TlsContexts
from capstan_worker.queue.link import _clients

port = int(sys.argv[1])

async def by_context(context):
    _, writer = await asyncio.open_connection("localhost", port, ssl=context)
    writer.close()

async def gateway():
    await by_context(TlsContexts().get(Endpoint(id="e", scheme="https", host="localhost", port=port)))

async def gateway_redis():
    await by_context(rules_for(read_address(f"rediss://localhost:{port}"), seconds=30).tls)

async def worker_redis():
    client, _ = _clients(
        read_address(f"rediss://localhost:{port}"), password=None, sentinel_password=None, ca_file=None, seconds=30
    )
    connection = client.connection_pool.make_connection()
    await connection._connect()

async def aiohttp_client():
    async with aiohttp.ClientSession() as session, session.get(f"https://localhost:{port}/") as answer:
        assert answer.status == 200

async def main():
    said = {}
    for ask in (gateway, gateway_redis, worker_redis, aiohttp_client):
        try:
            await ask()
            said[ask.__name__] = "believed"
        except Exception as error:
            cause = error.__cause__ or error
            said[ask.__name__] = "refused" if "CERTIFICATE_VERIFY_FAILED" in f"{error}{cause}" else repr(error)
    print(json.dumps(said))

asyncio.run(main())
"""
CLIENTS = ("gateway", "gateway_redis", "worker_redis", "aiohttp_client")


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if await reader.read(1):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    writer.close()


@contextmanager
def tls_server(folder: Path) -> Iterator[tuple[int, Path]]:
    """Run a server with a certificate of an authority that nobody knows; give its port and that authority."""
    authority = make_authority(datetime.now(UTC))
    certificate, key = issue(authority, "localhost", datetime.now(UTC))
    (folder / "tls.crt").write_bytes(certificate)
    (folder / "tls.key").write_bytes(key)
    (folder / "company.pem").write_bytes(authority.certificates)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(_answer, "127.0.0.1", 0, ssl=context))
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1], folder / "company.pem"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        server.close()
        loop.close()


def ask_all(port: int, **environment: str) -> dict[str, Any]:
    """Let the client of each process ask the server, in a process with these variables."""
    given = {key: value for key, value in os.environ.items() if key not in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(port)],
        cwd=ROOT,
        env={**given, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("is_said", [True, False])
def test_every_client_believes_the_authorities_of_the_install_alone_if_there_are_some(
    tmp_path: Path, is_said: bool
) -> None:
    """What the chart's `caBundle` mounts, and names in SSL_CERT_FILE, is what all of them go by."""
    with tls_server(tmp_path) as (port, company):
        said = ask_all(port, **({"SSL_CERT_FILE": str(company)} if is_said else {}))
    assert said == dict.fromkeys(CLIENTS, "believed" if is_said else "refused")
