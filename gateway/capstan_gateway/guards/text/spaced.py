"""Words whose letters stand apart, and words that are written with digits."""

import re
from collections.abc import Iterator
from typing import Final

from capstan_gateway.guards.text.views import Piece

_EMOJI: Final = r"\u2190-\u21ff\u2600-\u27bf\ufe0f\U0001f000-\U0001faff"
_APART: Final = re.compile(
    rf"(?<![^\W_])[^\W_](?:[ \t\r\n.\-_*|/\\,~+:;\u00b7{_EMOJI}]{{1,4}}+[^\W_](?![^\W_])){{6,}}+"
    r"|(?<![^\W_])[^\W\d_]{1,4}(?:[\-_*.|~+][^\W\d_]{1,4}(?![^\W_])){4,}+"
)
_SEPARATORS: Final = re.compile(r"[^\w]+|_+")
LEET: Final[dict[int, str]] = {
    ord(sign): letter for sign, letter in zip("013456789@$!|+(", "oieasgtbgasiitc", strict=True)
}
"""What a digit or a sign is taken for. One letter each: places stay what they are."""


def runs_apart(text: str) -> Iterator[Piece]:
    """Letters with something between each two of them, as words.

    Words are told apart where a run has longer and shorter gaps; else they stand without any between them.
    """
    for run in _APART.finditer(text):
        gaps = {len(gap) for gap in _SEPARATORS.findall(run[0])}
        wide = min(gaps) + 1 if len(gaps) > 1 else None
        said = _SEPARATORS.sub(lambda gap: " " if wide and len(gap[0]) >= wide else "", run[0])  # noqa: B023
        yield Piece(run.start(), run.end(), said)
