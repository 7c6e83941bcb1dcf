"""What goes in the order in which it came is kept in what can give up its first one at once."""

import ast
from collections.abc import Iterator
from pathlib import Path

from support.needs import ROOT

FEW = {"debts.py", "endpoints.py", "flights.py", "linked.py", "redis.py"}
"""Files in which all are walked through anyway, nobody takes the first one out, or there is a handful."""


def firsts_of_plain_dictionaries(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Give the attributes that are dictionaries and whose first key, value or item somebody asks for."""
    for outer in [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]:
        plain = {
            ast.unparse(node.target)
            for node in ast.walk(outer)
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).startswith("dict[")
        }
        for node in ast.walk(outer):
            said = ast.unparse(node) if isinstance(node, ast.Call) else ""
            if said.startswith("next(iter("):
                asked = said.removeprefix("next(iter(").split(")", 1)[0].split(".values(")[0].split(".items(")[0]
                if asked in plain:
                    yield asked, node.lineno


def test_the_first_of_a_plain_dictionary_is_not_asked_for() -> None:
    """`next(iter(...))` of a dictionary passes all entries that were deleted in front: with many of them a pass over
    the oldest ones takes the square of their number. An OrderedDict has no such memory."""
    found = {
        f"{path.relative_to(ROOT)}:{line} {name}"
        for package in ("gateway", "operator", "worker")
        for path in Path(ROOT / package).rglob("*.py")
        if path.name not in FEW
        for name, line in firsts_of_plain_dictionaries(ast.parse(path.read_text()))
    }
    assert found == set()


def test_it_would_be_found() -> None:
    """A dictionary that is emptied from its front is seen, whatever of it is looked at; an OrderedDict is let be."""
    text = """
class Kept:
    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._other: OrderedDict[str, int] = OrderedDict()

    def drop(self) -> None:
        del self._known[next(iter(self._known))]
        next(iter(self._known.items()))
        next(iter(self._other))
"""
    assert sorted(line for _, line in firsts_of_plain_dictionaries(ast.parse(text))) == [8, 9]
