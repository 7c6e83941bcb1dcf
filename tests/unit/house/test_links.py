"""Links lead somewhere: to files and headings that are there. Every page is found from README.md."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.grep import grep
from support.needs import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "examples/README.md", "bench/RESULTS.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]


def headings(page: str) -> set[str]:
    """Give the anchors of a page, as GitHub makes them of its headings."""
    found = list[str]()
    for line in _without_blocks(page).splitlines():
        if match := re.match(r"#+ +(.+)", line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match[1].strip())
            anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.append(anchor if anchor not in found else f"{anchor}-{found.count(anchor)}")
    return set(found)


def broken(path: Path, page: str) -> list[str]:
    """Give the relative links of a page that lead to no file, or to no heading of one."""
    return [target for target in _links(page) if not _leads(path, target)]


def _links(page: str) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"``.*?``|`[^`\n]*`(?!\])", "", _without_blocks(page))):
        if not re.match(r"[a-z]+:", target):
            yield target


def _leads(path: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    file = path.parent / name if name else path
    return file.exists() and (not anchor or file.suffix != ".md" or anchor in headings(file.read_text()))


def _without_blocks(page: str) -> str:
    return re.sub(r"^( *)```.*?^\1```", "", page, flags=re.MULTILINE | re.DOTALL)


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    """A file that is not there, and a heading that is not, of this page or of another one."""
    page = "# One\n## What a `x` is, and `y`\n[a](no.md) [b](#one) [c](#two)\n"
    page += "[d](page.md#what-a-x-is-and-y) [e](page.md#e)"
    path = tmp_path / "page.md"
    path.write_text(page)
    assert broken(path, page) == ["no.md", "#two", "page.md#e"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_of_pages(path: Path) -> None:
    """Each relative link of a page leads to a file that is there, and to a heading of it."""
    assert broken(path, path.read_text()) == []


def test_links_of_sources() -> None:
    """What messages, comments, values and manifests name as a page is one, with the heading that they name."""
    named = grep(r"\bdocs/[a-z-]+\.md(#[a-z-]+)?", ":!*.md")
    assert len(named) > 20
    assert {target for target in named if not _leads(ROOT / "README.md", target)} == set()


def test_every_page_is_found() -> None:
    """README.md leads to each page of docs/, and examples/README.md to each example."""
    read = {"README.md": ROOT / "README.md", "examples/README.md": ROOT / "examples" / "README.md"}
    linked = {name: {target.partition("#")[0] for target in _links(path.read_text())} for name, path in read.items()}
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert pages - linked["README.md"] == set()
    folder = ROOT / "examples"
    examples = {str(path.relative_to(folder)) for path in folder.rglob("*.yaml") if path.parent.name != "quickstart"}
    assert examples - linked["examples/README.md"] == set()
