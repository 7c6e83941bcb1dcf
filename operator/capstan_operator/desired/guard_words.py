"""Words and codes of a GuardPolicy that no gateway could look for, whatever the schema says of them."""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

from capstan_contract.codes import BRAILLE_BLANK, LANGUAGES, PHONE_REGIONS, UNSEEN
from capstan_operator.api.guardpolicy import GuardPolicySpec, GuardSpec, OutputGuardSpec
from capstan_operator.resources.resource import Fault

_MEANT: Final = {"UK": "GB", "EN": "GB or US", "EU": "each country by its own code"}


def find_word_faults(spec: GuardPolicySpec) -> Iterator[Fault]:
    """Say which words have nothing in them to look for, and which codes are of no country or language."""
    for stage, guards in (("input", spec.input), ("output", spec.output)):
        for index, guard in enumerate(guards):
            yield from _of_guard(f"spec.{stage}[{index}]", guard)


def _of_guard(path: str, guard: GuardSpec) -> Iterator[Fault]:
    yield from _blank(f"{path}.keywords", guard.keywords)
    for field, topics in (("deny", guard.deny), ("allow", guard.allow)):
        for number, topic in enumerate(topics):
            yield from _blank(f"{path}.{field}[{number}].phrases", topic.phrases)
            yield from _blank(f"{path}.{field}[{number}].examples", topic.examples)
    for number, region in enumerate(guard.regions):
        if region not in PHONE_REGIONS:
            hint = f"; {_MEANT[region]} is meant" if region in _MEANT else ""
            why = f"must be the ISO 3166 code of a country that has phone numbers of its own, such as US{hint}"
            yield Fault(f"{path}.regions[{number}]", why)
    for number, language in enumerate(guard.languages if isinstance(guard, OutputGuardSpec) else ()):
        if language not in LANGUAGES:
            why = "must be the ISO 639-1 code of a language that can be told from others, such as en"
            yield Fault(f"{path}.languages[{number}]", why)


def _blank(path: str, words: Sequence[str]) -> Iterator[Fault]:
    for number, word in enumerate(words):
        if says_nothing(word):
            yield Fault(f"{path}[{number}]", "must have a letter, a digit or a sign: blanks are found everywhere")


def says_nothing(word: str) -> bool:
    """Tell whether a word is made of blanks and of what nobody sees."""
    return all(
        character.isspace()
        or character == BRAILLE_BLANK
        or unicodedata.category(character) == "Cf"
        or ord(character) in UNSEEN
        for character in word
    )
