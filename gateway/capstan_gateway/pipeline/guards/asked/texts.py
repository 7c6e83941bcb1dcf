"""What of a request somebody who judges its answer is shown. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from capstan_contract.guards import Source
from capstan_gateway.pipeline.guards.pieces import pieces_of

INLINE_CHARS: Final = 8 * 1024
"""Texts that are cut into windows on the loop: about a millisecond."""
LEAST_CONTEXT_CHARS: Final = 400
"""Of system and user together, where there is no document and no tool result: less is a question, and no context."""
_GIVEN: Final = frozenset((Source.DOCUMENTS, Source.TOOL_RESULTS))
_SAID: Final = frozenset((Source.SYSTEM, Source.USER))


def last_question(document: Mapping[str, Any]) -> str:
    """Give what the user has said last; "" when that is nothing."""
    said = [
        piece.text
        for piece in pieces_of(document).texts
        if piece.source is Source.USER and not (piece.aside or piece.is_part)
    ]
    return said[-1] if said else ""


def context_of(document: Mapping[str, Any]) -> list[str]:
    """Give the texts that an answer may rely on; empty where the request has none.

    Documents and results of tools are such texts, and what system and user say with them. Without any, what these say
    is context where it is long enough to be one.
    """
    texts = [piece for piece in pieces_of(document).texts if not (piece.aside or piece.is_part) and piece.text.strip()]
    given = any(piece.source in _GIVEN for piece in texts)
    context = [piece.text for piece in texts if piece.source in _GIVEN | _SAID]
    return context if given or sum(map(len, context)) >= LEAST_CONTEXT_CHARS else []
