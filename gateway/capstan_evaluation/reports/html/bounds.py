"""How much a page holds: so much that it opens at once, however many cases there are and whatever they say."""

from typing import Final

MOST_CASES: Final = 500
"""Cases with their answers. What needs a reader comes first; where not all cases fit, those that pass are left out."""
MOST_BYTES: Final = 6 * 2**20
"""Of markup of cases."""
MOST_TEXT: Final = 12_000
"""Characters of one prompt, expectation or answer; the middle is left out."""
MOST_NAME: Final = 200
"""Characters of the name of a case, a tag, a scorer or a model."""
MOST_TAGS: Final = 40
"""Tags in the table and in the filter; of one case, that are named."""
MOST_SCORERS: Final = 50
MOST_REASON: Final = 600
"""Characters of what a scorer says."""
MOST_PLOTS: Final = 12
"""Scorers with a plot of paired differences, and with a table by tag."""
MOST_FLAKY: Final = 20
"""Flaky cases that are named at the top."""
MOST_REPEATS: Final = 50
"""Repeats of one case whose outcome is shown."""


def shorten(text: str, most: int = MOST_TEXT) -> str:
    """Give a text of at most about `most` characters: its beginning, its end, and between them how much is left out."""
    if len(text) <= most:
        return text
    head, tail = most * 3 // 4, most // 4
    return f"{text[:head]}\n[\u2026 {len(text) - head - tail:,} characters are left out here \u2026]\n{text[-tail:]}"


def short_name(text: str) -> str:
    """Give a name of at most so many characters."""
    return text if len(text) <= MOST_NAME else text[: MOST_NAME - 1] + "\u2026"
