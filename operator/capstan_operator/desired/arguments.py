"""Command lines that a user may add to and overrule."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

_OPTION: Final = re.compile(r"--?[A-Za-z][^\s=]*")
"""The beginning of a word that names an option: `--max-model-len`, `-tp`; a negative number is a value."""
_VARIABLE: Final = re.compile(r"\$\$|\$\(([^)]*)\)")
HOLE: Final = "\0"
"""Stands for the value of a variable that a manifest does not say; nothing that a process is given can hold it."""

Environment = Sequence[tuple[str, str | None]]
"""Names and values in their order; None: the value is not known, as that of a Secret."""


@dataclass(frozen=True)
class Option:
    """One option that we would write. It is left out when the user writes it, in any of its spellings."""

    values: tuple[str, ...]
    """As on the command line: ("--port", "8000"), or one positional argument. Empty: what is said is what the program
    does by itself."""
    spellings: tuple[str, ...]


@dataclass(frozen=True)
class GivenOption:
    """One option that a user gives, with the words up to the next one."""

    index: int
    """Which item of the list it is."""
    flag: str
    """As it would be written with dashes: `--max-model-len`, `--no-enable-lora`, `-tp`."""
    values: tuple[str, ...]
    inline: bool = False
    """Whether the value is in the same word: `--x=y`."""
    key: str = ""
    """The part of a value in JSON that it says alone: `method` of `--speculative-config.method`."""


@dataclass(frozen=True)
class CommandLine:
    """What a user adds to a command line, taken apart as an argument parser would."""

    options: tuple[GivenOption, ...]
    leading: tuple[str, ...]
    """Words before the first option."""


def option(flag: str, *values: str, also: Sequence[str] = ()) -> Option:
    """Make an option; `also` are further spellings that mean the same."""
    return Option((flag, *values), (flag, *also))


def silent(flag: str) -> Option:
    """Make an option that must not be given for what is said to be so."""
    return Option((), (flag,))


def positional(value: str, *, flag: str) -> Option:
    """Make a positional argument that may also be given as `flag`."""
    return Option((value,), (flag,))


def merge_arguments(ours: Sequence[Option], users: Sequence[str]) -> list[str]:
    """Give our options, without those that the user gives, and then the user's arguments as they are."""
    given = {normalized(argument) for argument in users if argument.startswith("-")}
    kept = (option for option in ours if not given.intersection(map(normalized, option.spellings)))
    return [*(value for option in kept for value in option.values), *users]


def is_given(flag: str, users: Sequence[str]) -> bool:
    """Say whether the user gives an option."""
    return any(argument.startswith("-") and normalized(argument) == flag for argument in users)


def gives(given: GivenOption, spellings: Sequence[str]) -> bool:
    """Say whether the user gives one of these options, or its contrary."""
    return normalized(given.flag) in map(normalized, spellings)


def without_options(flags: Sequence[str], users: Sequence[str]) -> list[str]:
    """Give the user's arguments without some options and their values."""
    left_out: set[int] = set()
    for given in read_command_line(users).options:
        if given.flag in flags:
            left_out |= {given.index, *(given.index + 1 + at for at in range(0 if given.inline else len(given.values)))}
    return [word for index, word in enumerate(users) if index not in left_out]


def read_command_line(words: Sequence[str]) -> CommandLine:
    """Take a user's arguments apart."""
    options: list[GivenOption] = []
    leading: list[str] = []
    for index, word in enumerate(words):
        if is_option(word):
            flag, equals, value = word.partition("=")
            name, _, key = flag.partition(".")
            options.append(GivenOption(index, _dashed(name), (value,) if equals else (), bool(equals), key))
        elif options:
            last = options[-1]
            options[-1] = replace(last, values=(*last.values, word))
        else:
            leading.append(word)
    return CommandLine(tuple(options), tuple(leading))


def is_option(word: str) -> bool:
    """Say whether a word names an option, and is not a value."""
    return _OPTION.match(word) is not None


def expand_variables(words: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """Put in what the kubelet puts in for `$(NAME)`: the value, or HOLE when it is not known; `$$` is a dollar."""

    def known(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else variables.get(found[1], HOLE)

    return [_VARIABLE.sub(known, word) for word in words]


def resolve_environment(environment: Environment) -> dict[str, str]:
    """Give the values as a process gets them: each may name those before it. What is not known is left out."""
    known: dict[str, str] = {}
    for name, value in environment:
        if value is None:
            known.pop(name, None)
        else:
            known[name] = expand_variables([value], known)[0]
    return known


def spellings_of(flag: str) -> Iterator[str]:
    """Give an option and, of `--no-x`, what it negates."""
    yield flag
    if flag.startswith("--no-"):
        yield f"--{flag[5:]}"


def _dashed(flag: str) -> str:
    return flag.replace("_", "-")


def normalized(argument: str) -> str:
    """Give one spelling for all: `--max_model_len=5` and `--max-model-len` are one option, as are `--x`, `--no-x` and
    `--x.key`."""
    return [*spellings_of(_dashed(argument.partition("=")[0].partition(".")[0]))][-1]
