"""Tables for a terminal. Pure."""

from collections.abc import Iterable, Sequence


def printable(name: str) -> str:
    """Give a name without what a terminal would do something with, and without ends of lines."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in name)


def as_table(rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Write rows in columns, the first `left` of them aligned to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(f"{'  '.join(_cells(row, widths, left)).rstrip()}\n" for row in rows)


def _cells(row: Sequence[str], widths: Sequence[int], left: int) -> Iterable[str]:
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if place < left else cell.rjust(width)
