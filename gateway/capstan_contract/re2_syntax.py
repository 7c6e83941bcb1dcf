"""Expressions of RE2 as trees, for what RE2 itself does not tell: how long a match can be, and what may become one.

The parser reads what RE2 has accepted (https://github.com/google/re2/wiki/Syntax); it refuses by name what guards have
no use for. Flags that matter (`i`, `s`) are kept with each character, because they hold from where they stand to the
end of their group, over `|` as well.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MOST_DEPTH: Final = 64
MOST_PATTERN: Final = 4096
"""Most characters of an expression."""
MOST_PREFIX: Final = 64 * 1024
"""Most characters of an expression that is made of one, for all beginnings of its matches."""
_ANCHORS: Final = frozenset("AzbBG")
_HELD: Final = frozenset("is")
"""Flags that change which characters match."""


class Unreadable(ValueError):
    """What guards do not take, in words for whoever has written it."""


@dataclass(frozen=True, slots=True)
class Atom:
    """One character, or one of a class."""

    text: str
    flags: str = ""

    @property
    def source(self) -> str:
        """As RE2 reads it."""
        return f"(?{self.flags}:{self.text})" if self.flags else self.text


@dataclass(frozen=True, slots=True)
class Anchor:
    """A place: the beginning or end of a word, a line, the text."""

    text: str


@dataclass(frozen=True, slots=True)
class Sequel:
    """One after the other."""

    parts: Sequence["Node"]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several."""

    ways: Sequence["Node"]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The same, so many times."""

    part: "Node"
    least: int
    most: int | None


Node = Atom | Anchor | Sequel | Choice | Repeat


def read_pattern(pattern: str) -> Node:
    """Give the tree of an expression that RE2 compiles. Raises Unreadable."""
    if len(pattern) > MOST_PATTERN:
        raise Unreadable(f"it is longer than {MOST_PATTERN} characters")
    return _Reader(pattern).read()


def longest(node: Node) -> int | None:
    """Give how many characters a match can have; None when there is no end to it."""
    if isinstance(node, Atom | Anchor):
        return 1 if isinstance(node, Atom) else 0
    if isinstance(node, Repeat):
        part = longest(node.part)
        if part == 0 or node.most == 0:
            return 0
        return None if part is None or node.most is None else part * node.most
    parts = [longest(part) for part in (node.parts if isinstance(node, Sequel) else node.ways)]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return sum(known) if isinstance(node, Sequel) else max(known, default=0)


def can_be_empty(node: Node) -> bool:
    """Say whether a match can have no character, at some place."""
    if isinstance(node, Atom | Anchor):
        return isinstance(node, Anchor)
    if isinstance(node, Repeat):
        return node.least == 0 or can_be_empty(node.part)
    if isinstance(node, Choice):
        return any(can_be_empty(way) for way in node.ways)
    return all(can_be_empty(part) for part in node.parts)


def anchors(node: Node) -> Iterator[str]:
    """Give the places that it names."""
    if isinstance(node, Anchor):
        yield node.text
    elif isinstance(node, Repeat):
        yield from anchors(node.part)
    elif not isinstance(node, Atom):
        for part in node.parts if isinstance(node, Sequel) else node.ways:
            yield from anchors(part)


def beginnings(node: Node) -> str | None:
    """Give an expression for all beginnings of what a tree matches, the empty and the whole one too; or for more.

    Places are left out of it: they depend on what is around. None when it would be too long.
    """
    found = _beginnings(node)
    return None if len(found) > MOST_PREFIX else found


def _whole(node: Node) -> str:
    """The tree as an expression again, without places."""
    if isinstance(node, Atom):
        return node.source
    if isinstance(node, Anchor):
        return "(?:)"
    if isinstance(node, Repeat):
        return f"(?:{_whole(node.part)}){_times(node.least, node.most)}"
    if isinstance(node, Choice):
        return _either([_whole(way) for way in node.ways])
    return _bounded("".join(_whole(part) for part in node.parts))


def _beginnings(node: Node) -> str:
    if isinstance(node, Atom):
        return f"(?:{node.source})?"
    if isinstance(node, Anchor):
        return "(?:)"
    if isinstance(node, Choice):
        return _either([_beginnings(way) for way in node.ways])
    if isinstance(node, Repeat):
        if node.most == 0:
            return "(?:)"
        before = None if node.most is None else node.most - 1
        return _bounded(f"(?:{_whole(node.part)}){_times(0, before)}{_beginnings(node.part)}")
    made = ""
    for part in reversed(node.parts):
        if isinstance(part, Anchor):
            continue
        if isinstance(part, Atom):
            made = f"(?:{part.source}{made})?"
        else:
            made = _either([f"{_whole(part)}{made}", _beginnings(part)]) if made else _beginnings(part)
        made = _bounded(made)
    return made or "(?:)"


def _either(ways: Sequence[str]) -> str:
    return _bounded("(?:" + "|".join(ways) + ")")


def _bounded(made: str) -> str:
    # NB: what is cut is no expression, and is too long to be asked for.
    return made[: MOST_PREFIX + 1]


def _times(least: int, most: int | None) -> str:
    if most is None:
        return "*" if least == 0 else f"{{{least},}}"
    return f"{{{least},{most}}}"


class _Reader:
    """Reads an expression once, from left to right."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.depth = 0

    def read(self) -> Node:
        node = self._choice("")
        if self.at < len(self.pattern):
            raise Unreadable(f"`)` at character {self.at} closes nothing")
        return node

    def _choice(self, flags: str) -> Node:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise Unreadable(f"its groups are nested more than {MOST_DEPTH} deep")
        ways: list[Node] = []
        parts: list[Node] = []
        while self.at < len(self.pattern) and self.pattern[self.at] != ")":
            if self._took("|"):
                ways.append(Sequel(tuple(parts)))
                parts = []
            elif (changed := self._own_flags(flags)) is not None:
                flags = changed
            else:
                parts.extend(self._repeated(self._pieces(flags)))
        self.depth -= 1
        ways.append(Sequel(tuple(parts)))
        return ways[0] if len(ways) == 1 else Choice(tuple(ways))

    def _took(self, text: str) -> bool:
        if not self.pattern.startswith(text, self.at):
            return False
        self.at += len(text)
        return True

    def _until(self, text: str) -> str:
        end = self.pattern.find(text, self.at)
        end = len(self.pattern) if end < 0 else end
        found = self.pattern[self.at : end]
        self.at = end + len(text)
        return found

    def _own_flags(self, flags: str) -> str | None:
        """Read `(?i)`, which holds for the rest of its group."""
        if not self.pattern.startswith("(?", self.at):
            return None
        end = self.at + 2
        while end < len(self.pattern) and self.pattern[end] in "imsU-":
            end += 1
        if self.pattern[end : end + 1] != ")":
            return None
        said = self.pattern[self.at + 2 : end]
        self.at = end + 1
        return _changed(flags, said)

    def _pieces(self, flags: str) -> list[Node]:
        """Read what a repetition can stand behind; several only where the text is quoted."""
        sign = self.pattern[self.at]
        if sign == "(":
            return [self._group(flags)]
        if sign == "[":
            return [Atom(self._class(), flags)]
        if sign == "\\":
            return self._escaped(flags)
        self.at += 1
        if sign in "^$":
            return [Anchor(sign)]
        return [Atom("\\{" if sign == "{" else sign, flags)]

    def _group(self, flags: str) -> Node:
        self.at += 1
        if self._took("?P<") or self._took("?<"):
            self._until(">")
        elif self._took("?"):
            flags = _changed(flags, self._until(":"))
        node = self._choice(flags)
        self.at += 1
        return node

    def _class(self) -> str:
        start = self.at
        self.at += 1
        self._took("^")
        self._took("]")
        while self.at < len(self.pattern) and self.pattern[self.at] != "]":
            if self._took("[:"):
                self._until(":]")
            elif self.pattern[self.at] == "\\":
                self._escape()
            else:
                self.at += 1
        self.at += 1
        return self.pattern[start : self.at]

    def _escaped(self, flags: str) -> list[Node]:
        if self._took("\\Q"):
            return [Atom(_quoted(sign), flags) for sign in self._until("\\E")]
        escape = self._escape()
        if escape == "\\C":
            raise Unreadable("`\\C` matches a part of a character")
        return [Anchor(escape) if escape[1:] in _ANCHORS else Atom(escape, flags)]

    def _escape(self) -> str:
        start = self.at
        sign = self.pattern[self.at + 1 : self.at + 2]
        self.at += 2
        if sign in ("p", "P", "x") and self._took("{"):
            self._until("}")
        elif sign in ("p", "P"):
            self.at += 1
        elif sign == "x":
            self.at += 2
        elif sign.isdigit():
            while self.at < start + 4 and self.pattern[self.at : self.at + 1] in tuple("01234567"):
                self.at += 1
        return self.pattern[start : self.at]

    def _repeated(self, pieces: list[Node]) -> list[Node]:
        while pieces and (times := self._repetition()) is not None:
            pieces = [*pieces[:-1], Repeat(pieces[-1], *times)]
        return pieces

    def _repetition(self) -> tuple[int, int | None] | None:
        for sign, times in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._took(sign):
                self._took("?")
                return times
        return self._counted()

    def _counted(self) -> tuple[int, int | None] | None:
        """Read `{2}`, `{2,}` or `{2,5}`; anything else in braces is text."""
        end = self.pattern.find("}", self.at)
        if not self.pattern.startswith("{", self.at) or end < 0:
            return None
        least, comma, most = self.pattern[self.at + 1 : end].partition(",")
        if not _number(least) or (most and not _number(most)):
            return None
        self.at = end + 1
        self._took("?")
        if not comma:
            return int(least), int(least)
        return int(least), int(most) if most else None


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _changed(flags: str, said: str) -> str:
    on, _, off = said.partition("-")
    return "".join(sorted(((set(flags) | set(on)) - set(off)) & _HELD))


def _quoted(sign: str) -> str:
    return sign if sign.isalnum() or sign > "\x7f" else "\\" + sign
