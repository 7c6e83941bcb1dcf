"""Where the bytes of files are: a directory, or a bucket. Only this module knows the library that speaks to both.

Every object is small (`PART_BYTES`) and written at once: so nothing is ever half there, an upload that breaks off
leaves no multipart upload behind, and no more than one part is in memory.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from obstore.store import ObjectStore

PART_BYTES: Final = 4 * 1024 * 1024
SECONDS: Final = 30.0
"""How long one operation may take."""
T = TypeVar("T")


class FilesDown(Exception):
    """The objects cannot be had now: it did not answer in time, refused, or has lost one."""


class ObjectGone(FilesDown):
    """There is no such object."""


class Objects:
    """The objects at one place. Calls raise FilesDown."""

    def __init__(self, url: str, *, seconds: float = SECONDS) -> None:
        self._url = url
        self._seconds = seconds
        self._made: ObjectStore | None = None

    async def put(self, path: str, data: bytes) -> None:
        """Write an object, in place of the one that is there."""
        import obstore

        await self._within(lambda: obstore.put_async(self._store(), path, data, use_multipart=False))

    async def get(self, path: str) -> bytes:
        """Give an object."""
        import obstore

        async def read() -> bytes:
            found = await obstore.get_async(self._store(), path)
            return bytes(await found.bytes_async())

        return await self._within(read)

    async def delete(self, folder: str) -> None:
        """Delete all objects in a folder, whatever has left them there."""
        import obstore

        async def clear() -> None:
            async for page in obstore.list(self._store(), prefix=folder):
                paths = [one["path"] for one in page]
                if paths:
                    await obstore.delete_async(self._store(), paths)

        with suppress(ObjectGone):
            await self._within(clear)

    def _store(self) -> "ObjectStore":
        if self._made is None:
            self._made = _open(self._url, self._seconds)
        return self._made

    async def _within(self, work: Callable[[], Awaitable[T]]) -> T:
        from obstore.exceptions import BaseError

        try:
            async with asyncio.timeout(self._seconds):
                return await work()
        except FileNotFoundError as error:
            raise ObjectGone("there is no such object") from error
        except (BaseError, OSError, ValueError) as error:  # NB: TimeoutError is an OSError.
            raise FilesDown(type(error).__name__) from error


def _open(url: str, seconds: float) -> "ObjectStore":
    from obstore.store import LocalStore, S3Store

    parts = urlsplit(url)
    if parts.scheme == "file":
        return LocalStore(Path(unquote(parts.path)), automatic_cleanup=True, mkdir=True)
    limit = timedelta(seconds=seconds)
    # NB: options of the client replace those of the environment.
    plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
    return S3Store(
        parts.netloc, prefix=parts.path.strip("/") or None,
        client_options={"timeout": limit, "connect_timeout": timedelta(seconds=min(5.0, seconds)), "allow_http": plain},
        retry_config={"max_retries": 3, "retry_timeout": limit},
    )  # fmt: skip
