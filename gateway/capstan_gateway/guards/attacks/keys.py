"""What a text has at least in which an expression matches: a few literals, one of which must be there.

An expression is read once, when it is compiled, and the part of it that is rarest in ordinary text is taken. So
hundreds of expressions cost one search for literals (Aho-Corasick), and each is only tried where it could match.
"""

import re._constants as constants  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Iterable
from typing import Any, Final

_OTHERS_TO_BLANKS: Final = bytes(
    code if chr(code).isalnum() or code > 127 or code == ord("_") else ord(" ") for code in range(256)
)
_USUAL: Final = """
    a i the of and to in is it you that he was for on are with as his they be at one have this from or had by hot
    but some what there we can out other were all your when up use how said an each she which do their time if will
    way about many then them would write like so these her long make thing see him two has look more day could go
    come did my no most who over know than call first may down side been now find any new work part take get place
    made where after back little only round man year came show every good me give our under name very through just
    form much great think say help low line before turn cause same mean differ move right boy old too does tell
    sentence set three want air well also play small end put home read hand port large spell add even land here must
    big high such follow act why ask men change not never always should must user users text data code out print
    return write message content answer list don t can be being no s ing ed es e start using based given without
"""
_FREQUENT: Final = """
    base command current function http image inform information input mode need output pass please provide rate
    security stan system test type
"""
_COMMON: Final = """
    access agent alle anda book context default detail different display document explain following generate
    include into limit meth model movie open order password point process request response state step string
    sudo token tool update version
"""
_KNOWN: Final = """
    able action actual address against analy apply assistant attacker authori because befehl both character chat
    color complet complete configuration convert cookie correct customer debug define delete describ describe
    developer echo email enable encode entity environment execute fetch filter free full history human implement
    initial inst intern keep language link liste load machine mail named next normal note original parameter
    perform polic possible post previ private prompt query real recommend refer remove report required rest
    review role root rule secret send share stop strict sure task those toda true understand values view while
    word
"""
_HITS: Final = {
    word: hits
    for hits, words in ((10.0, _USUAL), (2.0, _FREQUENT), (1.0, _COMMON), (0.5, _KNOWN))
    for word in words.split()
}
"""How often words are met on a page of 8 KB, roughly: counted in public prompts and documents."""
_SHORT: Final = {1: 20.0, 2: 8.0, 3: 1.0, 4: 0.4}
"""The same of others, by their length."""
_LONG: Final = 0.1
_MOST_MET: Final = 12.0


def spaced(text: bytes) -> bytes:
    """Give a text with a blank for all that is no letter, digit or underscore, at the same places."""
    return text.translate(_OTHERS_TO_BLANKS)


def required(expression: bytes) -> list[frozenset[bytes]]:
    """Give sets of literals, of a spaced text: wherever the expression matches, there is one of each. The rarest first.

    A blank in front means that the literal begins a word.
    """
    return sorted(_choices(parser.parse(expression.decode("latin-1")), begins=False), key=_commonness)


def telling(choices: Iterable[frozenset[bytes]]) -> list[frozenset[bytes]]:
    """Give those that are not met everywhere: asking for them saves more than it costs."""
    return [keys for keys in choices if _commonness(keys) <= _MOST_MET]


def _required(parsed: Iterable[Any], *, begins: bool) -> frozenset[bytes]:
    return min(_choices(parsed, begins=begins), key=_commonness, default=frozenset())


def _choices(parsed: Iterable[Any], *, begins: bool) -> list[frozenset[bytes]]:
    """Give one set for each part of a sequence; `begins`: what it is to match begins a word."""
    choices: list[frozenset[bytes]] = []
    run = ""
    for operation, argument in parsed:
        if operation is constants.LITERAL:
            run = (" " if begins and not run else "") + run + chr(argument)
            begins = False
            continue
        choices, run = _add(choices, run), ""
        if operation is constants.AT:
            begins = begins or argument in (constants.AT_BOUNDARY, constants.AT_BEGINNING)
            continue
        if inner := _inside(operation, argument, begins):
            choices.append(inner)
        begins = _ends_with_gap(operation, argument) or (begins and _may_be_missing(operation, argument))
    return _add(choices, run)


def _add(choices: list[frozenset[bytes]], run: str) -> list[frozenset[bytes]]:
    # NB: what is not made of letters is blank in a spaced text, and says nothing.
    key = spaced(run.encode("latin-1"))
    return [*choices, frozenset((key,))] if key.strip() else choices


def _inside(operation: Any, argument: Any, begins: bool) -> frozenset[bytes]:
    if operation is constants.SUBPATTERN:
        return _required(argument[-1], begins=begins)
    if operation is constants.BRANCH:
        parts = [_required(part, begins=begins) for part in argument[1]]
        return frozenset[bytes]().union(*parts) if all(parts) else frozenset()
    if operation in _REPEATS and argument[0] > 0:
        return _required(argument[2], begins=False)
    return frozenset()


_REPEATS: Final = (constants.MAX_REPEAT, constants.MIN_REPEAT)


def _ends_with_gap(operation: Any, argument: Any) -> bool:
    """Say whether what is behind it begins a word: it is, or ends with, `\\W+`."""
    if operation is constants.SUBPATTERN:
        return bool(argument[-1]) and _ends_with_gap(*argument[-1][-1])
    if operation is constants.BRANCH:
        return all(bool(part) and _ends_with_gap(*part[-1]) for part in argument[1])
    if operation not in _REPEATS or argument[0] == 0 or len(argument[2]) != 1:
        return False
    kind, members = argument[2][0]
    if kind is constants.IN:
        return list(members) == [(constants.CATEGORY, constants.CATEGORY_NOT_WORD)]
    return _ends_with_gap(kind, members)


def _may_be_missing(operation: Any, argument: Any) -> bool:
    """Say whether it may match nothing, and ends with a gap where it matches something."""
    if operation not in _REPEATS or argument[0] > 0 or not argument[2]:
        return False
    return _ends_with_gap(*argument[2][-1])


def _commonness(keys: frozenset[bytes]) -> float:
    """Estimate how often one of the literals is met in ordinary text."""
    return sum(_one(key) for key in keys)


def _one(key: bytes) -> float:
    word = key.decode(errors="ignore").strip()
    return _HITS.get(word, _SHORT.get(len(key.strip()), _LONG)) * (1.0 if key.startswith(b" ") else 1.5)
