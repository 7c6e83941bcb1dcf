"""Who waits for a scan may stop waiting: detectors ask at each step of their work whether they are to go on.

    with patience(lambda: nobody_waits):      in the thread that works
        detector.scan(...)                    GaveUp, soon after nobody waits any more

A step is what takes well below a millisecond, or one call of a library. Where nobody has set a patience, it never ends.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class GaveUp(Exception):
    """The work was left amid of it, because nobody waits for what comes of it."""


class _Here(threading.local):
    is_over: Callable[[], bool] | None = None


_HERE = _Here()


@contextmanager
def patience(is_over: Callable[[], bool]) -> Iterator[None]:
    """Have `go_on` raise GaveUp in this thread once that tells True. One that is within another takes its place."""
    before = _HERE.is_over
    _HERE.is_over = is_over
    try:
        yield
    finally:
        _HERE.is_over = before


def go_on() -> None:
    """Raise GaveUp if nobody waits any more for what this thread works at."""
    is_over = _HERE.is_over
    if is_over is not None and is_over():
        raise GaveUp
