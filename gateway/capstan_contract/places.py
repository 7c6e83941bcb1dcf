"""Places in documents, and names in them that nobody knows, as people are told of them."""

import difflib
from collections.abc import Iterable


def field_path(location: Iterable[str | int]) -> str:
    """Write a location as people write it: spec.engine.env[0].value."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def unknown_field(name: str, known: Iterable[str]) -> str:
    """Say that a name is none of the known fields, and which one was meant or which ones there are."""
    allowed = sorted(known)
    near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.75)
    return f"is not a field; did you mean {near[0]}?" if near else f"is not a field; allowed are {', '.join(allowed)}"
