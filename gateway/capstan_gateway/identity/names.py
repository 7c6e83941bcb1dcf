"""Which names a list of patterns allows. Pure.

`*` stands for any run of characters, also for none; every other character for itself.
"""

from collections.abc import Collection, Iterator

ANY = "*"


class Patterns:
    """What a list of patterns allows; made once, and then asked about names."""

    __slots__ = ("_exact", "_globs")

    def __init__(self, patterns: Collection[str]) -> None:
        self._exact = frozenset(pattern for pattern in patterns if ANY not in pattern)
        self._globs = tuple(tuple(pattern.split(ANY)) for pattern in patterns if ANY in pattern)

    def allows(self, name: str) -> bool:
        """Whether one of them allows a name; the time that takes is in proportion to the number of those with `*`."""
        return name in self._exact or any(_fits(parts, name) for parts in self._globs)

    def of(self, names: Collection[str]) -> Iterator[str]:
        """Give those of the names that one of them allows; `names` is best a mapping or a set."""
        yield from (name for name in self._exact if name in names)
        if self._globs:
            yield from (name for name in names if any(_fits(parts, name) for parts in self._globs))


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern allows a name; takes time in proportion to both of them together."""
    return _fits(tuple(pattern.split(ANY)), name) if ANY in pattern else pattern == name


def _fits(parts: tuple[str, ...], name: str) -> bool:
    first, last = parts[0], parts[-1]
    if not name.startswith(first) or not name.endswith(last) or len(first) + len(last) > len(name):
        return False
    at, end = len(first), len(name) - len(last)
    for part in parts[1:-1]:
        # The leftmost place of each part leaves the most room to those behind it.
        at = name.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def allowed(patterns: Collection[str], names: Collection[str]) -> Iterator[str]:
    """Give those of the names that one of the patterns allows; `names` is best a mapping or a set."""
    return Patterns(patterns).of(names)
