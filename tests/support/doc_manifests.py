"""The manifests of our own kinds that stand in docs, whole ones and guards of a policy without the rest."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from capstan_contract.names import GROUP, VERSION
from capstan_operator.api.guardpolicy import OutputType
from capstan_operator.api.kinds import GUARDPOLICY
from support.needs import ROOT
from support.yamls import load_all

PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BEGINNINGS: Final = (f"apiVersion: {GROUP}/", "- type: ", "input:", "output:", "spec:")
"""What a block begins with that is of our kinds."""
_OF_OUTPUT: Final = frozenset({OutputType.FORMAT, OutputType.GROUNDING, OutputType.CONFIDENCE})


@dataclass(frozen=True)
class Fragment:
    """A block of a page."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def manifests(self) -> Iterator[dict[str, Any]]:
        """Give what it stands for, up to the first command behind it; raises YAMLError where it is none."""
        text, _, _ = self.text.partition("\n$ ")
        for content in load_all(text):
            yield whole(content)


def whole(content: Any) -> dict[str, Any]:
    """Give a manifest of a part of one: of a list of guards, of a spec, or of what is in one."""
    if isinstance(content, list):
        content = {_stage(content): content}
    if "spec" not in content:
        content = {"spec": content}
    head = {"apiVersion": f"{GROUP}/{VERSION}", "kind": GUARDPOLICY.name, "metadata": {"name": "fragment"}}
    return {**head, **content}


def _stage(guards: Sequence[Mapping[str, Any]]) -> str:
    return "output" if any(guard.get("type") in _OF_OUTPUT for guard in guards) else "input"


def fragments(text: str, page: str) -> list[Fragment]:
    """Give the blocks of a page, fenced and indented ones, that begin as manifests of ours do."""
    found = []
    for line, block in _blocks(text):
        if block.lstrip("\n").startswith(_BEGINNINGS):
            found.append(Fragment(page, line, block))
    return found


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    fence, begin, block = "", 0, list[str]()
    for number, line in enumerate([*text.split("\n"), "."], 1):
        if fence:
            if line.strip() != fence:
                block.append(line)
                continue
            fence = ""
        elif line.startswith("    ") or (block and not line.strip()):
            begin = begin if block else number
            block.append(line[4:])
            continue
        elif line.startswith("```"):
            if block:
                yield begin, "\n".join(block)
            fence, begin, block = "```", number + 1, []
            continue
        if block:
            yield begin, "\n".join(block)
        block = []


FRAGMENTS: Final = [one for page in PAGES for one in fragments(page.read_text(encoding="utf-8"), page.name)]
