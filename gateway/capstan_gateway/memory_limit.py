"""How much memory this process may use: what its container says, by either version of cgroups."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

CGROUP_FILES: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
UNLIMITED_BUDGET: Final = 512 * 1024 * 1024
"""What requests may hold where there is no limit."""
UNLIMITED: Final = 1 << 60
"""How version 1 says that there is none: a number that no machine has."""


def memory_limit(files: Sequence[Path] = CGROUP_FILES) -> int | None:
    """The limit in bytes; None when there is none, or none that can be read."""
    for file in files:
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < UNLIMITED:
            return int(text)
    return None


def default_budget(files: Sequence[Path] = CGROUP_FILES) -> int:
    """Half of the limit: the other half is for the process itself, its connections, and what the allocator wastes."""
    limit = memory_limit(files)
    return UNLIMITED_BUDGET if limit is None else limit // 2
