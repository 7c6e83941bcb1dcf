"""The command line `capstan`: finds the command, loads it and no other, and runs it."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Protocol, cast

COMMANDS = {
    "validate": "check manifests without a cluster",
    "render": "print the Kubernetes objects and the gateway config that manifests become",
    "images": "print every image that an install and its models run",
    "cache": "purge what gateways keep of answers, and tell what they have",
    "eval": "ask a model the cases of a suite, and compare what it answers with a baseline",
    "experiment": "compare the members of a weighted router, as its requests went",
    "feedback": "print what clients said of answers",
    "guard": "try a GuardPolicy on labelled prompts",
    "keys": "make, replace, list and revoke API keys of the gateway's clients",
    "up": "serve a folder of manifests on this machine, without a cluster",
    "rollout": "say where a model's rollout in steps is, and go on with it, give it up, or try it again",
    "prices": "import what hosted models cost",
    "usage": "tell who has used how much of which model",
    "version": "print the version",
}
"""Each is a module of this package, a `Command`; `version` needs none."""


class Command(Protocol):
    """What the module of a command has."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it, and give the exit code."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code: 0 fine, 1 faults were found, 2 a wrong command line, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser_of(words).parse_args(words)
    if options.command == "version":
        print(version("capstan"))
        return 0
    try:
        return int(_module(options.command).run(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader (head, a pager) has seen enough
        sys.stderr.close()
        return 0


def parser_of(words: Sequence[str]) -> argparse.ArgumentParser:
    """Build the parser; only the command that was asked for is loaded and declares its arguments."""
    parser = argparse.ArgumentParser(prog="capstan", description="LLM infrastructure for Kubernetes.")
    parser.add_argument("--version", action="version", version=version("capstan"))
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    asked = next((word for word in words if not word.startswith("-")), None)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == asked and name != "version":
            _module(name).add_arguments(command)
    return parser


def _module(command: str) -> Command:
    return cast(Command, importlib.import_module(f"capstan_operator.cli.{command}"))


if __name__ == "__main__":
    sys.exit(main())
