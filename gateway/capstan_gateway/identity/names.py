"""Which names a list of patterns allows. Pure.

`*` stands for any run of characters, also for none; every other character for itself.
"""

from collections.abc import Collection, Iterator

ANY = "*"


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern allows a name; takes time in proportion to both of them together."""
    first, *rest = pattern.split(ANY)
    if not rest:
        return pattern == name
    last = rest.pop()
    if len(first) + len(last) > len(name) or not (name.startswith(first) and name.endswith(last)):
        return False
    at, end = len(first), len(name) - len(last)
    for part in rest:
        # The leftmost place of each part leaves the most room to those behind it.
        at = name.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def allowed(patterns: Collection[str], names: Collection[str]) -> Iterator[str]:
    """Give those of the names that one of the patterns allows; `names` is best a mapping or a set."""
    globs = []
    for pattern in patterns:
        if ANY in pattern:
            globs.append(pattern)
        elif pattern in names:
            yield pattern
    if globs:
        yield from (name for name in names if any(matches(glob, name) for glob in globs))
