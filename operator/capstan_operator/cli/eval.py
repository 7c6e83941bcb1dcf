"""`capstan eval`: finds the subcommand, loads it and no other, and runs it."""

import argparse
import importlib
import importlib.util
from typing import Any, Final, cast

from capstan_operator.cli.main import Command

SUBCOMMANDS: Final = {
    "baseline": "name a run that others are compared with, and list those that have a name",
    "compare": "say whether one run is as good as another",
    "gate": "run the suites of a rollout against its candidate, as its Job does",
    "judge-check": "compare a judge with what people said of pairs of answers",
    "promote": "make cases of a suite of answers that clients found bad",
    "run": "ask a model the cases of a suite, score the answers, and compare them with a baseline's",
    "validate": "say all that is wrong with suites, before a model is asked",
}
"""Each is a module `eval_NAME` of this package (`-` is written `_`), a `Command`."""
NEEDED: Final = ("aiohttp", "jsonschema", "numpy", "scipy")


class _Subcommand(argparse.ArgumentParser):
    """The parser of one subcommand, which is loaded when it is the one that was asked for."""

    subcommand = ""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Declare the arguments, and parse."""
        if self.subcommand:
            if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
                self.error(f"it needs {', '.join(missing)}: pip install '.[evaluation]' in a clone")
            _module(self.subcommand).add_arguments(self)
            self.subcommand = ""
        return super().parse_known_args(args, namespace)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    commands = parser.add_subparsers(dest="subcommand", metavar="COMMAND", required=True, parser_class=_Subcommand)
    for name, text in SUBCOMMANDS.items():
        commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.").subcommand = name


def run(arguments: argparse.Namespace) -> int:
    """Do it, and give the exit code."""
    return _module(arguments.subcommand).run(arguments)


def _module(name: str) -> Command:
    return cast(Command, importlib.import_module(f"capstan_operator.cli.eval_{name.replace('-', '_')}"))
