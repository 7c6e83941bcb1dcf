"""The admin pages of the gateway's replicas, with the credential that they want."""

import logging
from typing import Protocol

import aiohttp

log = logging.getLogger(__name__)


class AdminKey(Protocol):
    """The credential of the gateway's admin pages."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Those that may be valid, the likeliest first; none where nobody has made one."""
        ...

    def doubt(self) -> None:
        """None of them was taken."""
        ...


async def read_page(
    session: aiohttp.ClientSession, address: str, *, port: int, path: str, key: AdminKey | None
) -> bytes | None:
    """Give what a replica says at an admin page; None when it does not say it. The session has the deadline."""
    host = f"[{address}]" if ":" in address else address
    url = f"http://{host}:{port}{path}"
    try:
        for one in (key and key.keys) or (None,):
            headers = {"Authorization": f"Bearer {one}"} if one else {}
            async with session.get(url, headers=headers) as response:
                if response.status == 401:
                    continue  # a gateway may have another one for a moment, when it has changed
                return await response.read() if response.status == 200 else None
        if key:
            key.doubt()
        log.debug("gateway replica refused the credential", extra={"address": address, "path": path})
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        log.debug(
            "gateway replica did not answer", extra={"address": address, "path": path, "error": type(error).__name__}
        )
    return None
