"""One line for each request, written in batches: a call of `logging` per request costs more than the routing."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from capstan_gateway.life.outbox import Outbox
from capstan_gateway.life.threads import Threads
from capstan_process.logs import one_line

FLUSH_SECONDS: Final = 0.25
MAX_BUFFERED: Final = 4096
MAX_LINE_BYTES: Final = 8192
"""A line that would be longer has its values cut."""
_OPTIONS: Final = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
_HEAD: Final = b'{"level":"info","logger":"request","message":"served request",'


class RequestLog:
    """Collects lines and writes them together. When nobody reads the pipe, lines are dropped and counted, not kept.

    It is a `life.lifecycle.Part`.
    """

    name = "request-log"
    head = _HEAD
    """How a line of JSON begins."""

    def __init__(
        self,
        descriptor: int = 2,
        *,
        enabled: bool = True,
        as_json: bool = True,
        on_dropped: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._descriptor = descriptor
        self.enabled = enabled
        self._as_json = as_json
        self._threads = Threads(self.name, queued=1)
        self._outbox: Outbox[bytes] = Outbox(
            self.name, self._write, capacity=MAX_BUFFERED, batch=MAX_BUFFERED, every_seconds=FLUSH_SECONDS,
            attempts=1, on_dropped=on_dropped,
        )  # fmt: skip

    @property
    def dropped(self) -> int:
        """How many lines were not written."""
        return self._outbox.dropped

    def write(self, fields: dict[str, Any]) -> None:
        """Take one line."""
        if self.enabled:
            self._outbox.put(self._encode(fields))

    async def run(self) -> None:
        """Write what has come together, for ever."""
        await self._outbox.run()

    def not_ready(self) -> str | None:
        """Keep no request away."""
        return None

    async def aclose(self) -> None:
        """Write what is left."""
        await self._outbox.aclose()
        self._threads.close()

    def flush(self) -> None:
        """Write all lines at once; OSError when nobody reads them."""
        self._write_now(self._outbox.take_all())

    async def _write(self, lines: list[bytes]) -> None:
        # NB: what fails is not tried again: whoever closed the pipe does not come back.
        await self._threads.run(self._write_now, lines)

    def _write_now(self, lines: list[bytes]) -> None:
        data = memoryview(b"".join(lines))
        while data:
            data = data[os.write(self._descriptor, data) :]

    def _encode(self, fields: dict[str, Any]) -> bytes:
        now = datetime.now(UTC)
        if self._as_json:
            fields["time"] = now
            try:
                line = orjson.dumps(fields, option=_OPTIONS)
            except TypeError:
                line = b""  # A value that UTF-8 cannot hold.
            if not 0 < len(line) <= MAX_LINE_BYTES:
                tame = {key: one_line(value) if isinstance(value, str) else value for key, value in fields.items()}
                line = orjson.dumps(tame, default=str, option=_OPTIONS)
            return self.head + line[1:]
        shown = "".join(f" {key}={one_line(str(value))}" for key, value in fields.items())
        return f"{now:%Y-%m-%d %H:%M:%S} INFO    request: served request{shown}\n".encode()
