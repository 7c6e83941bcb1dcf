"""Arguments and variables of the user that contradict what Capstan says to an engine, or that no parser understands.

Nothing here repeats what a user wrote: it may be a key in the wrong place. Messages name the options of `reserved`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.desired.arguments import (
    HOLE,
    Environment,
    GivenOption,
    expand_variables,
    is_option,
    read_command_line,
    resolve_environment,
    spellings_of,
)
from capstan_operator.desired.engine import tensor_parallel_size
from capstan_operator.desired.engine_tables import SPREADS, TABLES
from capstan_operator.desired.reserved import Facts, Reserved, Table
from capstan_operator.resources.resource import Fault

ARGS: Final = "spec.engine.args"
ENV: Final = "spec.engine.env"
_TWO_WORDS: Final = re.compile(r"(--[A-Za-z][^\s=]*|-[A-Za-z]{1,3})\s+\S")
_BOOLEANS: Final = ("true", "false", "1", "0")
_LEAST_ABBREVIATION: Final = 3
_PORT_OPTION: Final = re.compile(r"--([a-z-]*-)?port$")


def find_wiring_faults(model: Model, spec: LLMModelSpec, *, environment: Environment | None = None) -> Iterator[Fault]:
    """Give what is wrong with the arguments and variables of a model's engine.

    `environment` is what the engine's container has when a patch of the template has changed it.
    """
    if not spec.has_engine:
        return
    facts, table = Facts(model.key.name, spec), TABLES[spec.engine.type]
    variables = resolve_environment(_environment_of(spec) if environment is None else environment)
    words = expand_variables(spec.engine.args, variables)
    yield from _misspelled(words, table)
    options = read_command_line(words).options
    for given in options:
        entry = _reserved_by(given, table, facts)
        if entry is not None and not entry.says_the_same(facts, given.values):
            yield Fault(f"{ARGS}[{given.index}]", f"must not set {entry.flags[0]}: {entry.why}")
        elif given.flag in table.one_value and len(given.values) != 1:
            yield Fault(f"{ARGS}[{given.index}]", f"must have one value ({given.flag})")
        elif entry is None and _takes_our_port(given):
            yield Fault(f"{ARGS}[{given.index}]", "must be another port than 8000 and 8001, which Capstan uses")
    yield from _too_many_gpus(options, spec)
    values = resolve_environment(_environment_of(spec))
    for index, variable in enumerate(spec.engine.env):
        if why := why_reserved(variable.name, values.get(variable.name), facts):
            yield Fault(f"{ENV}[{index}].name", f"must not be {variable.name}: {why}")


def _environment_of(spec: LLMModelSpec) -> Environment:
    return [(variable.name, variable.value) for variable in spec.engine.env]


def why_reserved(name: str, value: str | None, facts: Facts) -> str | None:
    """Say why an environment variable must not have a value; None when it may. `value` None: it is not known."""
    for entry in TABLES[facts.spec.engine.type].entries:
        if name in entry.variables and entry.applies(facts):
            same = value is not None and HOLE not in value and entry.says_the_same(facts, (value,))
            return None if same else entry.why
    return None


def reserved_variables(facts: Facts) -> frozenset[str]:
    """Give the variables that a user must not set freely."""
    entries = TABLES[facts.spec.engine.type].entries
    return frozenset(name for entry in entries if entry.applies(facts) for name in entry.variables)


def find_wiring_doubts(model: Model, spec: LLMModelSpec) -> Iterator[Fault]:
    """Give what works and is still hardly meant: said twice, said again, or hidden from Capstan in a file."""
    if not spec.has_engine:
        return
    facts, table = Facts(model.key.name, spec), TABLES[spec.engine.type]
    seen: set[tuple[str, str]] = set()
    for given in read_command_line(spec.engine.args).options:
        path = f"{ARGS}[{given.index}]"
        entry = _reserved_by(given, table, facts)
        if entry is not None and table.is_parsed and entry.says_the_same(facts, given.values):
            yield Fault(path, f"says what Capstan says anyway ({entry.flags[0]}): it can be left out")
        elif given.flag in _ADAPTERS:
            yield Fault(path, "names adapters that the gateway does not offer: use `spec.adapters`")
        elif table.is_parsed and (given.flag, given.key) in seen and given.flag not in _REPEATABLE:
            yield Fault(path, "repeats an earlier option: the last one counts")
        seen.add((given.flag, given.key))
    yield from find_unread_files(spec)
    yield from _window_doubts(spec)


def find_unread_files(spec: LLMModelSpec) -> Iterator[Fault]:
    """Give the files with further options that an engine is told to read: what is in them nobody can judge."""
    table = TABLES[spec.engine.type]
    if not spec.has_engine or not table.is_parsed:
        return
    words = expand_variables(spec.engine.args, resolve_environment(_environment_of(spec)))
    for given in read_command_line(words).options:
        if _means(given.flag, "--config", table):
            message = "names a file that Capstan cannot read: host, port, names and keys must not be in it"
            yield Fault(f"{ARGS}[{given.index}]", message)


_WINDOWS: Final = ("--max-model-len", "--context-length", "--max-total-tokens", "--context-window")
_ADAPTERS: Final = ("--lora-modules", "--lora-adapters", "--lora-paths")
_REPEATABLE: Final = frozenset({"--alias", "--label", "--fault", "--middleware", "--cors-allow-origin"})


def _window_doubts(spec: LLMModelSpec) -> Iterator[Fault]:
    window = spec.serving.contextWindow or 0
    for given in read_command_line(spec.engine.args).options:
        length = _whole(given) if given.flag in _WINDOWS else None
        if length is not None and length < window:
            message = "is less than `spec.serving.contextWindow`, which the gateway counts on"
            yield Fault(f"{ARGS}[{given.index}]", message)


def _misspelled(words: Sequence[str], table: Table) -> Iterator[Fault]:
    """Find words that are not what they look like."""
    for index, word in enumerate(words):
        before = words[index - 1] if index else None
        if problem := _problem_of(word):
            yield Fault(f"{ARGS}[{index}]", problem)
        elif not table.is_parsed:
            continue
        elif HOLE in word and (problem := _problem_of_unknown(word, before)):
            yield Fault(f"{ARGS}[{index}]", problem)
        elif word == "--":
            yield Fault(f"{ARGS}[{index}]", "must be an option or its value, and not `--`")
        elif not is_option(word) and _has_no_option(word, before, table):
            yield Fault(
                f"{ARGS}[{index}]", "is a value without its option: write `--option` before it, or `--option=value`"
            )


def _problem_of(word: str) -> str | None:
    if word != word.strip() and is_option(word.strip()):
        return "must not begin or end with white space"
    if _TWO_WORDS.match(word):
        return "holds an option and its value in one string: write two items, or `--option=value`"
    return None


def _problem_of_unknown(word: str, before: str | None) -> str | None:
    """Say what is wrong with a word of which a part is not known: it must not be able to name an option."""
    if word.startswith("-"):
        named = HOLE in word.partition("=")[0]
        return "must not take the name of an option from a variable that the manifest does not say" if named else None
    if word.startswith(HOLE) and (before is None or not is_option(before)):
        return (
            "may be any option, because the manifest does not say the variable's value:"
            " write `--option=$(NAME)`, or put it right after its option"
        )
    return None


def _has_no_option(word: str, before: str | None, table: Table) -> bool:
    """Whether a value stands where no option can want it."""
    if before is None or (word == "" and not is_option(before)):
        return True
    if not is_option(before):
        return False
    if "=" in before:
        return True
    return table.switches.match(before.replace("_", "-")) is not None and word.lower() not in _BOOLEANS


def _reserved_by(given: GivenOption, table: Table, facts: Facts) -> Reserved | None:
    """Find the entry that an option falls under, in any spelling that a parser would take for it."""
    for entry in table.entries:
        if entry.applies(facts) and any(_means(given.flag, flag, table) for flag in entry.flags):
            return entry
    return None


def _means(flag: str, reserved: str, table: Table) -> bool:
    if reserved.endswith("*"):
        family = reserved[:-1]
        return any(_is_long(spelling, family, table) or spelling.startswith(family) for spelling in spellings_of(flag))
    if reserved.startswith("--"):
        return any(_is_long(spelling, reserved, table) for spelling in spellings_of(flag))
    if len(reserved) == 2 and table.is_parsed:  # -p8000 is -p 8000
        return flag == reserved or (flag.startswith(reserved) and flag[2:].isdigit())
    return flag == reserved


def _is_long(spelling: str, reserved: str, table: Table) -> bool:
    if spelling == reserved:
        return True
    return table.abbreviates and len(spelling) >= _LEAST_ABBREVIATION and reserved.startswith(spelling)


def _takes_our_port(given: GivenOption) -> bool:
    return _PORT_OPTION.match(given.flag) is not None and any(value in ("8000", "8001") for value in given.values)


def _too_many_gpus(options: Sequence[GivenOption], spec: LLMModelSpec) -> Iterator[Fault]:
    """A replica cannot be spread over more GPUs than it has."""
    spread, table, gpus = SPREADS.get(spec.engine.type), TABLES[spec.engine.type], spec.resources.gpus
    if spread is None or not gpus:
        return
    ours = (tensor_parallel_size(spec), spec.parallelism.pipeline, 1)
    product, last = 1, None
    for number, (spellings, factor) in enumerate(zip(spread.factors, ours, strict=True)):
        given = [one for one in options if any(_means(one.flag, flag, table) for flag in spellings)]
        if number == 2 and any(one.flag == spread.data_shares for one in options):
            given = []
        sizes = [size for one in given if (size := _whole(one)) is not None]
        product *= sizes[-1] if sizes else factor
        last = max((last, *(one.index for one in given)), key=lambda at: -1 if at is None else at)
    if last is not None and product > gpus:
        what = "tensor times pipeline times data parallel size; by default the tensor parallel size is all of them"
        yield Fault(f"{ARGS}[{last}]", f"must not need more GPUs than `spec.resources.gpus`, which is {gpus}: {what}")


def _whole(given: GivenOption) -> int | None:
    text = given.values[0] if len(given.values) == 1 else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
