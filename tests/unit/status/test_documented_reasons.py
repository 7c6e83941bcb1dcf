import ast
from pathlib import Path

import capstan_operator.status as package

DOCS = Path(__file__).resolve().parents[3] / "docs" / "conditions.md"


def _reasons() -> set[str]:
    """Give every reason that is written out in a call of Finding(status, reason, ...) or Problem(reason, ...)."""
    found = set()
    for path in package.__path__:
        for module in Path(path).glob("*.py"):
            for node in ast.walk(ast.parse(module.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    place = {"Finding": 1, "Problem": 0}.get(node.func.id)
                    if place is not None and len(node.args) > place and isinstance(node.args[place], ast.Constant):
                        found.add(str(ast.literal_eval(node.args[place])))
    return found


def test_every_reason_is_explained() -> None:
    """A reason that an operator sees is one that the documentation explains."""
    reasons = _reasons()
    assert len(reasons) > 25
    text = DOCS.read_text()
    assert {reason for reason in reasons if f"| {reason} |" not in text and f"reason {reason}" not in text} == set()
