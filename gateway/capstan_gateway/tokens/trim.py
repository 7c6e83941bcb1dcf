"""A conversation cut to a number of tokens: from its middle outwards, so that its beginning and end are kept longest.

    system and developer messages    are kept, wherever they stand
    the last turn                    its texts are kept, and its newest call of tools with the results
    the turns before                 go one by one, the middle one first: of each the calls of tools with all of their
                                     results, then the rest of it

A turn is what begins with a message of the user and ends before the next one. Whole turns go, so that user and
assistant still take turns, which many chat templates demand; a call and its results are one thing, which nothing parts:
engines and hosted APIs refuse one without the other. What stays keeps its order, and every message stays as it is.

Takes the messages of chat completions and those of Anthropic's API, where results of tools are in messages of the user.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

_SYSTEM: Final = frozenset(("system", "developer"))
_RESULTS: Final = frozenset(("tool", "function"))


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What is left, and what went."""

    messages: list[Any]
    """Those that stay; the very list that was given when all of them do."""
    dropped: int = 0
    """How many messages went."""
    tokens: int = 0
    """How many tokens they had."""


class TooMuch(Exception):
    """What is never dropped has more tokens than there may be."""

    def __init__(self, least: int) -> None:
        super().__init__(least)
        self.least: Final = least
        """How many tokens that has."""


@dataclass
class _Turn:
    """Positions of the messages of a turn: calls with their results, and all others."""

    calls: list[list[int]] = field(default_factory=list)
    others: list[int] = field(default_factory=list)


def trim(messages: list[Any], *, most: int, count: Callable[[Any], int]) -> Trimmed:
    """Give the messages that fit into `most` tokens, as `count` counts each; raises TooMuch where that cannot be."""
    sizes = [count(message) for message in messages]
    left = sum(sizes)
    if left <= most:
        return Trimmed(messages)
    turns = _turns(messages)
    gone: set[int] = set()
    for group in _order(turns):
        gone.update(group)
        left -= sum(sizes[place] for place in group)
        if left <= most:
            kept = [message for place, message in enumerate(messages) if place not in gone]
            return Trimmed(kept, len(gone), sum(sizes[place] for place in gone))
    raise TooMuch(left)


class _Groups:
    """Calls with their results, while it is found out what belongs together: sets that are joined (union-find).

    A conversation of any length takes time in proportion to it, however its calls and results are entangled.
    """

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._turns: list[int] = []
        self._members: list[tuple[int, int]] = []
        self.in_turn = [0]
        """How many groups each turn has."""

    def begin(self, place: int) -> int:
        """Give a new group of the newest turn, with one message."""
        group = len(self._parents)
        self._parents.append(group)
        self._turns.append(len(self.in_turn) - 1)
        self.in_turn[-1] += 1
        self._members.append((place, group))
        return group

    def add(self, place: int, groups: Sequence[int]) -> int:
        """Add a message to the first one of these groups, which all become one, where the first one is."""
        first = self._root(groups[0])
        for group in groups[1:]:
            other = self._root(group)
            if other != first:
                self._parents[other] = first
                self.in_turn[self._turns[other]] -= 1
        self._members.append((place, first))
        return first

    def _root(self, group: int) -> int:
        parents = self._parents
        while parents[group] != group:
            parents[group] = group = parents[parents[group]]
        return group

    def put_into(self, turns: Sequence[_Turn]) -> None:
        """Write the groups into their turns, in the order in which they began."""
        found: list[list[int]] = [[] for _ in self._parents]
        for place, group in self._members:
            found[self._root(group)].append(place)
        for group, places in enumerate(found):
            if places:
                turns[self._turns[group]].calls.append(places)


def _turns(messages: Sequence[Any]) -> list[_Turn]:
    """Sort the messages that may go into turns, and calls with their results into groups."""
    turns, groups = [_Turn()], _Groups()
    owners: dict[str, int] = {}
    newest: int | None = None
    """The group of calls that results without a known call belong to: they come right behind it."""
    for place, message in enumerate(messages):
        role = message.get("role")
        if role in _SYSTEM:
            continue
        results = _results_of(message)
        if results is not None:
            whose = [owners[name] for name in results if name in owners] or ([] if newest is None else [newest])
            newest = groups.add(place, whose) if whose else groups.begin(place)
            continue
        if role == "user":
            if groups.in_turn[-1] or turns[-1].others:
                turns.append(_Turn())
                groups.in_turn.append(0)
            newest = None
        calls = _calls_of(message)
        if calls is None:
            turns[-1].others.append(place)
            continue
        newest = groups.begin(place)
        owners |= dict.fromkeys(calls, newest)
    groups.put_into(turns)
    return turns


def _order(turns: list[_Turn]) -> list[list[int]]:
    """Give the groups of messages that may go, in the order in which they go."""
    *before, last = turns
    groups: list[list[int]] = []
    for turn in _from_the_middle(before):
        groups += _from_the_middle(turn.calls)
        groups.append(turn.others)
    newest = max(last.calls, key=max, default=None)
    groups += _from_the_middle([group for group in last.calls if group is not newest])
    # NB: results may come a turn later than their calls. What the conversation ends with stays all the same.
    ends = max((max(group) for turn in turns for group in (*turn.calls, turn.others) if group), default=0)
    return [group for group in groups if group and ends not in group]


def _from_the_middle(items: list[Any]) -> list[Any]:
    """Give the items, the middle one first; of two that are as far from it the older one."""
    places = sorted(range(len(items)), key=lambda place: (abs(2 * place - len(items) + 1), place))
    return [items[place] for place in places]


def _calls_of(message: Mapping[str, Any]) -> list[str] | None:
    """Give the ids of the calls in a message; None when there are no calls."""
    calls = message.get("tool_calls")
    found = list(calls) if isinstance(calls, list) else []
    found += [part for part in _parts(message) if part.get("type") == "tool_use"]
    if not found and not message.get("function_call"):
        return None
    return [call["id"] for call in found if isinstance(call, dict) and isinstance(call.get("id"), str)]


def _results_of(message: Mapping[str, Any]) -> list[str] | None:
    """Give the ids of the calls that a message has results of; None when it has no results."""
    if message.get("role") in _RESULTS:
        name = message.get("tool_call_id")
        return [name] if isinstance(name, str) else []
    parts = [part for part in _parts(message) if part.get("type") == "tool_result"]
    return [part["tool_use_id"] for part in parts if isinstance(part.get("tool_use_id"), str)] if parts else None


def _parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
