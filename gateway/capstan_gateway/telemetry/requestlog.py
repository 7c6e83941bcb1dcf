"""One line for each request, written in batches: a call of `logging` per request costs more than the routing."""

import asyncio
import os
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from capstan_process.logs import one_line

FLUSH_SECONDS: Final = 0.25
MAX_BUFFERED: Final = 4096
MAX_LINE_BYTES: Final = 8192
"""A line that would be longer has its values cut."""
_OPTIONS: Final = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
_HEAD: Final = b'{"level":"info","logger":"request","message":"served request",'


class RequestLog:
    """Collects lines and writes them together. When nobody reads the pipe, lines are dropped and counted, not kept."""

    def __init__(self, descriptor: int = 2, *, enabled: bool = True, as_json: bool = True) -> None:
        self._descriptor = descriptor
        self.enabled = enabled
        self._as_json = as_json
        self._lines: list[bytes] = []
        self.dropped = 0

    def write(self, fields: dict[str, Any]) -> None:
        """Take one line."""
        if not self.enabled:
            return
        if len(self._lines) >= MAX_BUFFERED:
            self.dropped += 1
            return
        self._lines.append(self._encode(fields))

    async def run(self) -> None:
        """Write what has come together, for ever; what is left is written at the end."""
        try:
            while True:
                await asyncio.sleep(FLUSH_SECONDS)
                if self._lines:
                    await asyncio.to_thread(self.flush)
        finally:
            self.flush()

    def flush(self) -> None:
        """Write all lines."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        data = memoryview(b"".join(lines))
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            # Nobody reads the log any more; serving goes on.
            self.dropped += len(lines)

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
            return _HEAD + line[1:]
        shown = "".join(f" {key}={one_line(str(value))}" for key, value in fields.items())
        return f"{now:%Y-%m-%d %H:%M:%S} INFO    request: served request{shown}\n".encode()
