"""One at a time, across the processes of a test run."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Hold a lock of this machine while the block runs; the end of the process releases it too."""
    with (Path(tempfile.gettempdir()) / f"capstan-test-{name}-{os.getuid()}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
