"""Counting the connections to a port, for engines that do not say how much they have to do.

The containers of a pod share one network namespace, so the sidecar sees the engine's connections in /proc/net/tcp. A
connection that is kept open without a request counts too: it cannot be told apart from outside.
"""

from collections.abc import Iterable
from pathlib import Path

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED = "01"


def count_connections(table: str, port: int) -> int:
    """Count the established connections of a server on `port` in one table of the kernel."""
    count = 0
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 4:
            continue
        _, _, local_port = fields[1].rpartition(":")
        if int(local_port, 16) == port and fields[3] == _ESTABLISHED:
            count += 1
    return count


def connections_to(port: int, tables: Iterable[Path] = TABLES) -> int:
    """Count them in all tables; a table that is not there (no IPv6) has none."""
    count = 0
    for path in tables:
        try:
            count += count_connections(path.read_text(), port)
        except FileNotFoundError:
            continue
    return count
