"""Commands that pages tell to run are there: `capstan` with these flags, targets of make, scripts, files."""

import argparse
import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from capstan_operator.cli.main import COMMANDS, parser_of
from support.needs import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / "helm").rglob("*.txt"),
]
SOURCES = [path for folder in ("gateway", "operator", "worker") for path in sorted((ROOT / folder).rglob("*.py"))]
IN_TEXT = re.compile(r"`([^`\n]+)`")


def commands(page: str) -> Iterator[list[str]]:
    """Give the words behind each `capstan` that a page tells to run, in blocks and in the text."""
    lines = re.sub(r"\\\n\s*", "", page).splitlines()
    for line in lines:
        for text in [line] if line.startswith("    ") else IN_TEXT.findall(line):
            for match in re.finditer(rf"(?:^|[\s(/])capstan ((?:{'|'.join(COMMANDS)})\b[^|>)#\n]*)", text):
                yield match[1].split()


def fault(words: list[str]) -> str:
    """Say what is wrong with a command: a subcommand or a flag that is not there; empty: nothing."""
    parser: argparse.ArgumentParser = parser_of(words)
    for word in words:
        name = word.partition("=")[0]
        choices = _subcommands(parser)
        if choices and not name.startswith("-"):
            if name not in choices:
                return "" if name in ("...", "COMMAND") else f"{parser.prog} has no {name}"
            parser = _declared(choices[name])
        elif re.fullmatch(r"--?[a-z][a-z-]*", name) and name not in _flags(parser):
            return f"{parser.prog} has no {name}"
    return ""


def _declared(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Give the parser with its arguments: those of `capstan eval` declare them when they are asked."""
    if name := getattr(parser, "subcommand", ""):
        module = importlib.import_module(f"capstan_operator.cli.eval_{name.replace('-', '_')}")
        module.add_arguments(parser)
    return parser


def _subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


def _flags(parser: argparse.ArgumentParser) -> set[str]:
    return {flag for action in parser._actions for flag in action.option_strings}


def test_a_command_that_is_not_there_is_found() -> None:
    """A subcommand that was renamed, a flag that never was, in a block over two lines and in the text."""
    page = "    KEY=$(capstan keys make --user me) && x\n"
    page += "    capstan eval run a.yaml \\\n      --target=m --judges b | capstan up -f x\n"
    page += "Say `capstan keys create --users me`, or `capstan usage --by team,model`."
    assert [fault(words) for words in commands(page)] == [
        "capstan keys has no make",
        "capstan eval run has no --judges",
        "",
        "capstan keys create has no --users",
        "",
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_of_pages(path: Path) -> None:
    """Each `capstan` that a page tells to run has the subcommand and the flags that it is given."""
    assert [found for found in map(fault, commands(path.read_text())) if found] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_targets_of_make(path: Path) -> None:
    """Each target of make that a page names is one of the Makefile."""
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:^ +|`|&& )(?:\w+=\S+ )*make ([a-z][\w-]+)", path.read_text(), re.MULTILINE)
    assert set(named) - targets == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_that_commands_name(path: Path) -> None:
    """Scripts, examples, tests and the chart that a page names are there; a script that is begun by its name can be."""
    page = path.read_text()
    named = set(re.findall(r"(?<![\w./-])((?:scripts|examples|tests|bench|helm|crds)/[\w./-]*\w)", page))
    named = {name for name in named if not name.endswith("node_modules")}
    assert {name for name in named if not (ROOT / name).exists() and not any(ROOT.glob(f"{name}*"))} == set()
    begun = set(re.findall(r"(?:^ {4}|`|&& )(scripts/[\w-]+\.(?:py|sh)) ", page, re.MULTILINE))
    assert {name for name in begun if not os.access(ROOT / name, os.X_OK)} == set()


def test_nothing_is_installed_from_somebody_else() -> None:
    """No page and no message has Capstan installed by its name, which on PyPI is another project's."""
    assert [path for path in [*PAGES, *SOURCES] if re.search(r"pip install '?capstan\b", path.read_text())] == []
