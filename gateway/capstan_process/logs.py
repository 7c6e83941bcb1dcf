"""One form of log lines for operator, gateway and worker: a constant message, and what varies in fields.

As JSON in clusters, as text for people. What a line holds may come from an engine, a client or an API server: nothing
in it can begin another line, move a terminal's cursor, or fill the disk by itself.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final

import orjson

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("json", "text")
QUIET: Final = ("aiohttp", "asyncio", "kopf", "watchfiles")
"""Loggers that are heard from WARNING on: kopf alone would log each event of each object."""
MAX_TEXT: Final = 4096
"""Characters of a message, or of one field. What is cut off is counted in its place."""
MAX_TRACEBACK: Final = 32_768

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_OF_KOPF: Final = frozenset({"k8s_ref", "k8s_skip", "settings"})
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, what ends a line, what turns the direction of writing, and halves of characters."""


def configure_logging(*, level: str, form: str) -> None:
    """Send all that the process logs to standard error. `level` is one of LEVELS, `form` one of FORMATS."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if form == "text" else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def extra_fields(record: logging.LogRecord) -> dict[str, Any]:
    """What was passed as `extra`, without what logging itself and kopf put there."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD and key not in _OF_KOPF}


def bounded(text: str, limit: int = MAX_TEXT) -> str:
    """Cut a text to `limit` characters, and say how many are missing."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text) - limit} more characters)"


def one_line(text: str) -> str:
    """Bound a text, with an escape (as Python writes it) for each character that could do more than be read."""
    return _UNPRINTABLE.sub(_escape, bounded(text))


class JsonFormatter(logging.Formatter):
    """One line of JSON per record: `time` (RFC 3339, UTC), `level`, `logger`, `message`, the fields, `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": bounded(record.getMessage()),
            **{key: bounded(value) if isinstance(value, str) else value for key, value in extra_fields(record).items()},
        }
        if record.exc_info:
            line["exception"] = bounded(self.formatException(record.exc_info), MAX_TRACEBACK)
        return _dump(line)


class TextFormatter(logging.Formatter):
    """One line for people, fields at its end; a traceback below it, each of its lines marked as one of it."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        fields = "".join(f" {key}={one_line(str(value))}" for key, value in extra_fields(record).items())
        line = f"{self.formatTime(record)} {record.levelname:7} {record.name}: {one_line(record.getMessage())}{fields}"
        if not record.exc_info:
            return line
        traceback = bounded(self.formatException(record.exc_info), MAX_TRACEBACK)
        return "\n".join((line, *(f"  | {one_line(part)}" for part in traceback.splitlines())))


def _dump(line: dict[str, Any]) -> str:
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # Half a character, or a number of more than 64 bits: the slower writer takes both.
        return json.dumps({**line, "time": line["time"].isoformat()}, default=str)


def _escape(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]
