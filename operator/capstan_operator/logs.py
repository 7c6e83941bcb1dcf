"""Logging: one JSON object per line in clusters, plain text for people. Constant messages, variable fields."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_KOPF: Final = frozenset({"k8s_ref", "k8s_skip", "settings"})


def extra_fields(record: logging.LogRecord) -> dict[str, Any]:
    """Give what was passed as `extra`, without what logging itself and kopf put there."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD and key not in _KOPF}


class JsonFormatter(logging.Formatter):
    """One line of JSON per record."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **extra_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """The same for a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        fields = " ".join(f"{key}={value}" for key, value in extra_fields(record).items())
        return f"{super().format(record)} {fields}".rstrip()


def configure_logging(*, level: str, format_: str) -> None:
    """Send everything to stderr. kopf is only heard from WARNING on: it would log each event of each object."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if format_ == "text" else JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
