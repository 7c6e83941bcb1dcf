"""Which language a text is in, where that can be told: by py3langid, which knows 139 of them.

It is loaded when a policy first asks: some 100 MB of memory for a moment, and a second or two. It looks at sequences of
bytes (naive Bayes); of a short text, of code, of tables, its probabilities are low for all languages, and then nothing
is said.
"""

from collections.abc import Sequence
from functools import cache
from itertools import islice
from typing import Any, Final, Protocol

LEAST_LETTERS: Final = 24
"""Of a shorter text nothing is said: names and loan words are in every language. One letter of Chinese, Japanese or
Korean counts for three."""
ENOUGH: Final = 0.7
"""Least probability of the language that a text is taken to be in."""
LITTLE: Final = 0.15
"""Most that the languages which it may be in have together when it is in none of them."""
MOST_LOOKED_AT: Final = 4096
"""Characters: of a longer text the beginning, the middle and the end."""
_NONE: Final = ("zxx", "und")
_CLOSE: Final = {
    "zh": ("zh", "wuu", "yue"),
    "no": ("no", "nb", "nn"),
    "nb": ("no", "nb", "nn"),
    "sr": ("sr", "hr", "bs"),
}
"""Codes that stand for a language as well: written variants that are not told apart reliably."""


class Identifier(Protocol):
    """Gives languages and how probable they are."""

    def rank(self, text: str) -> Sequence[tuple[str, float]]:
        """Give all of them, the most probable first."""
        ...


@cache
def identifier() -> Identifier:
    """Load it, once. Raises ValueError where it is not installed."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]
    except ImportError as error:
        raise ValueError("`languages` needs py3langid: Capstan's extra `gateway` brings it") from error
    made: Any = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return made  # type: ignore[no-any-return]


def known_languages() -> frozenset[str]:
    """Give the codes that can be asked for."""
    labels: Sequence[str] = identifier().labels  # type: ignore[attr-defined]
    return frozenset(labels) - set(_NONE)


def foreign(text: str, allowed: Sequence[str]) -> str | None:
    """Give the language of a text that is in none of those that are allowed; None also where it cannot be told."""
    sample = _sample(text)
    if _letters(sample) < LEAST_LETTERS:
        return None
    ranked = identifier().rank(sample)
    language, probability = ranked[0]
    codes = {code for one in allowed for code in (one, *_CLOSE.get(one, ()))}
    theirs = sum(share for code, share in ranked if code in codes)
    if language in _NONE or language in codes or probability < ENOUGH or theirs > LITTLE:
        return None
    return language


def _sample(text: str) -> str:
    if len(text) <= MOST_LOOKED_AT:
        return text
    part, middle = MOST_LOOKED_AT // 3, len(text) // 2
    return "\n".join((text[:part], text[middle : middle + part], text[-part:]))


def _letters(text: str) -> int:
    counted = (3 if "\u3040" <= letter <= "\ud7ff" else 1 for letter in text if letter.isalpha())
    return sum(islice(counted, LEAST_LETTERS))
