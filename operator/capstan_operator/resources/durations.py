"""Durations as manifests write them: 30s, 10m, 1h30m."""

import re
from typing import Final

_PARTS: Final = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?", re.ASCII)


def seconds_of(text: str) -> int:
    """Give the seconds of a duration. Raises ValueError for what is none."""
    found = _PARTS.fullmatch(text)
    if found is None or not text:
        raise ValueError("is not a duration of hours, minutes and seconds")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds
