"""The texts of a request and what has become of them: on the loop where that is a moment's work, else beside it.

How much work it is tell the texts and values, not the bytes: a list of letters is worse than a long text.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from capstan_gateway.life.threads import Threads
from capstan_gateway.pipeline.beside import LARGE_BYTES, beside
from capstan_gateway.pipeline.guards.pieces import Piece, Pieces, TooManyTexts, changes, pieces_of, with_texts

INLINE_VALUES: Final = 512
"""Of a document, that are gone through on the loop: about a millisecond."""
INLINE_BYTES: Final = 4 * 1024
"""Of a document all of whose texts are found on the loop, however many they are."""
Document = dict[str, Any]


async def read_pieces(document: Document, size: int, executor: Threads) -> Pieces:
    """Give the texts of a request of so many bytes. Raises TooManyTexts, and Overloaded."""
    if size <= LARGE_BYTES:
        with suppress(TooManyTexts):
            return pieces_of(document, most=INLINE_VALUES)
    return await beside(executor, partial(pieces_of, document))


async def with_pieces(
    document: Document, new: Sequence[Piece], old: Sequence[Piece], size: int, executor: Threads
) -> Document | None:
    """Give the document with the new texts in the places of the old ones; None where they are the same."""
    if new is old:
        return None
    write = partial(_written, document, new, old)
    few = size <= LARGE_BYTES and len(old) <= INLINE_VALUES
    return write() if few else await beside(executor, write)


def _written(document: Document, new: Sequence[Piece], old: Sequence[Piece]) -> Document | None:
    changed = changes(new, old)
    return with_texts(document, changed) if changed else None
