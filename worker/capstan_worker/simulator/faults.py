"""Faults to inject: what kinds there are, how they are written, and which request gets one.

A fault is written `NAME[;param=value]...`: `500`, `429;retry-after=2;first=3`, `die;after=5;probability=0.1`.

| name | what happens |
| --- | --- |
| `reset` | the connection is reset before anything was answered |
| `stall` | nothing is sent any more: `after=N` chunks (default: nothing at all) |
| `die` | the connection is reset after `after=N` chunks (default 3); a whole answer is cut in the middle |
| `eof` | the connection is closed after `after=N` chunks, in the middle of the HTTP body |
| `truncate` | the HTTP body ends properly after `after=N` chunks, with the answer incomplete and no `[DONE]` |
| `nodone` | a complete stream without `[DONE]` |
| `badjson` | the chunk after `after=N` chunks (default 0), or the whole answer, is not JSON |
| `errorevent` | after `after=N` chunks an error event comes, as vLLM sends when generation fails, then `[DONE]` |
| `slow` | this request takes `ttft-ms` and `tpot-ms` instead of what is set |
| `429` `500` `502` `503` `504` | that status, with `retry-after=SECONDS` if given (429: 1 by default) |
| `content-filter` | 400 with code `content_filter` |
| `context-length` | 400 as if the prompt were too long |

Which requests: all, or `first=N` of them, after `skip=N`, each with `probability=P` (drawn from the simulator's seed).
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from capstan_worker.errors import UsageError

STATUSES = ("429", "500", "502", "503", "504")
_PARAMS: Mapping[str, frozenset[str]] = {
    "reset": frozenset(),
    "stall": frozenset({"after"}),
    "die": frozenset({"after"}),
    "eof": frozenset({"after"}),
    "truncate": frozenset({"after"}),
    "nodone": frozenset(),
    "badjson": frozenset({"after"}),
    "errorevent": frozenset({"after"}),
    "slow": frozenset({"ttft-ms", "tpot-ms"}),
    "content-filter": frozenset(),
    "context-length": frozenset(),
    **{status: frozenset({"retry-after"}) for status in STATUSES},
}
_WHICH = frozenset({"first", "skip", "probability"})
_AFTER = {"die": 3, "eof": 3, "truncate": 3, "badjson": 0, "errorevent": 3}


@dataclass(frozen=True)
class Fault:
    """One fault and which requests get it."""

    text: str
    """As it was written."""
    name: str
    params: Mapping[str, float]
    first: int | None = None
    skip: int = 0
    probability: float = 1.0

    def number(self, name: str, default: float) -> float:
        """Give a parameter."""
        return self.params.get(name, default)

    @property
    def after(self) -> int | None:
        """After how many chunks it strikes; None for a stall before anything was answered."""
        given = self.params.get("after")
        return int(given) if given is not None else _AFTER.get(self.name)


def parse_fault(text: str) -> Fault:
    """Read one fault. Raises UsageError that says what is allowed."""
    name, *rest = (part.strip() for part in text.split(";"))
    if name not in _PARAMS:
        raise UsageError(f"fault '{name}' is not known; known are {', '.join(_PARAMS)}")
    values: dict[str, float] = {}
    for part in rest:
        key, _, value = part.partition("=")
        if key not in _PARAMS[name] | _WHICH:
            raise UsageError(f"fault '{name}' has no '{key}'; it has {', '.join(sorted(_PARAMS[name] | _WHICH))}")
        try:
            values[key] = float(value)
        except ValueError:
            raise UsageError(f"fault '{name}': '{key}' must be a number, not '{value}'") from None
        if not 0 <= values[key] < 1e9 or (key == "probability" and values[key] > 1):
            raise UsageError(
                f"fault '{name}': '{key}' must be {'from 0 to 1' if key == 'probability' else '0 or more'}"
            )
    first = values.pop("first", None)
    return Fault(
        text=text,
        name=name,
        first=None if first is None else int(first),
        skip=int(values.pop("skip", 0)),
        probability=values.pop("probability", 1.0),
        params=values,
    )


class FaultBook:
    """The faults that are set, and how many requests each has seen."""

    def __init__(self, faults: Iterable[Fault] = (), *, seed: int = 0) -> None:
        self.faults = tuple(faults)
        self._seen = [0] * len(self.faults)
        self._rng = random.Random(seed)  # noqa: S311  # reproducible on purpose

    def choose(self) -> Fault | None:
        """Give the first fault that strikes this request, and count the request for all of them."""
        chosen: Fault | None = None
        for index, fault in enumerate(self.faults):
            number = self._seen[index]
            self._seen[index] += 1
            if number < fault.skip or (fault.first is not None and number >= fault.skip + fault.first):
                continue
            struck = fault.probability >= 1 or self._rng.random() < fault.probability
            if struck and chosen is None:
                chosen = fault
        return chosen
