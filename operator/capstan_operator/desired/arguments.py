"""Command lines that a user may add to and overrule."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """One option that we would write. It is left out when the user writes it, in any of its spellings."""

    values: tuple[str, ...]
    """As on the command line: ("--port", "8000"), or one positional argument."""
    spellings: tuple[str, ...]


def option(flag: str, *values: str, also: Sequence[str] = ()) -> Option:
    """Make an option; `also` are further spellings that mean the same."""
    return Option((flag, *values), (flag, *also))


def positional(value: str, *, flag: str) -> Option:
    """Make a positional argument that may also be given as `flag`."""
    return Option((value,), (flag,))


def merge_arguments(ours: Sequence[Option], users: Sequence[str]) -> list[str]:
    """Give our options, without those that the user gives, and then the user's arguments as they are."""
    given = {_normalized(argument) for argument in users if argument.startswith("-")}
    kept = (option for option in ours if not given.intersection(map(_normalized, option.spellings)))
    return [*(value for option in kept for value in option.values), *users]


def is_given(flag: str, users: Sequence[str]) -> bool:
    """Say whether the user gives an option."""
    return any(argument.startswith("-") and _normalized(argument) == flag for argument in users)


def _normalized(argument: str) -> str:
    """`--max_model_len=5` and `--max-model-len` are one option, and so are `--x` and `--no-x`."""
    flag = argument.split("=", 1)[0].replace("_", "-")
    return f"--{flag[5:]}" if flag.startswith("--no-") else flag
