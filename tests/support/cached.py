"""Gateways with caches: on a Redis of the test's own, with the admin's key where a test wants it, and a client each."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from capstan_contract.config import ModelEntry
from capstan_contract.entries import PolicyEntry
from support.gateway import RunningGateway, running_gateway
from support.redis_server import RedisServer

ADMIN_KEY = "the-key-of-the-admin-which-is-long"
ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
REDIS_SECONDS = 10.0
"""A machine that is busy may take longer than a request would wait."""


def admin_key_file(folder: Path) -> Path:
    """Write the admin's key into a file."""
    file = folder / "admin-key"
    file.write_text(ADMIN_KEY)
    return file


@asynccontextmanager
async def cached_gateway(
    folder: Path,
    *models: ModelEntry,
    policies: Iterable[PolicyEntry],
    redis: RedisServer | None = None,
    admin: bool = False,
    headers: dict[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[RunningGateway, httpx2.AsyncClient]]:
    """Start a gateway in this folder and a client of it, which is the admin's where there is one and nothing else is
    said by its headers."""
    settings = {**_settings(folder, redis, admin=admin), **settings}
    said = headers if headers is not None else ADMIN if admin else {}
    async with (
        running_gateway(folder, *models, policies=policies, **settings) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, headers=said, timeout=60) as client,
    ):
        yield gateway, client


def _settings(folder: Path, redis: RedisServer | None, *, admin: bool) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    found: dict[str, Any] = {"admin_key_file": admin_key_file(folder)} if admin else {}
    if redis is not None:
        found |= {"redis_url": redis.url, "redis_limit_seconds": REDIS_SECONDS}
    return found
