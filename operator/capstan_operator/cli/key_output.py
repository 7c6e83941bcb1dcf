"""What `capstan keys` prints. Pure."""

import json
from collections.abc import Sequence

from capstan_operator.desired.issued import Issued, time_text

HEADINGS = ("NAME", "USER", "TEAM", "TENANT", "TIER", "MODELS", "CREATED", "EXPIRES", "STATE")


def table_of(issued: Sequence[Issued], now: float) -> str:
    """Draw the keys as a table; what is wrong with a faulty one is below it."""
    if not issued:
        return "There are no API keys; `capstan keys create --user NAME` makes one."
    rows = [HEADINGS, *(_cells(one, now) for one in issued)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *(f"{one.name}: {one.fault}" for one in issued if one.fault)])


def _cells(one: Issued, now: float) -> tuple[str, ...]:
    terms = one.terms
    said = (terms.user, terms.team, terms.tenant, terms.tier, terms.models or "*")
    created = time_text(one.created) if one.created else ""
    expires = time_text(terms.expires) if terms.expires else ""
    return (one.name, *(text or "-" for text in (*said, created, expires)), one.state(now))


def document_of(one: Issued, now: float, *, key: str | None = None, replaces: tuple[str, int] | None = None) -> str:
    """Write one key as JSON; `key` is the key itself, when it was made just now."""
    document = _document(one, now)
    if key is not None:
        document["key"] = key
    if replaces is not None:
        document["replaces"] = {"name": replaces[0], "expires": time_text(replaces[1])}
    return json.dumps(document, indent=2, ensure_ascii=False)


def documents_of(issued: Sequence[Issued], now: float) -> str:
    """Write the keys as a JSON list."""
    return json.dumps([_document(one, now) for one in issued], indent=2, ensure_ascii=False)


def _document(one: Issued, now: float) -> dict[str, object]:
    terms = one.terms
    return {
        "name": one.name,
        "user": terms.user,
        "team": terms.team,
        "tenant": terms.tenant,
        "tier": terms.tier,
        "models": [part.strip() for part in terms.models.split(",") if part.strip()],
        "created": time_text(one.created) if one.created else None,
        "expires": time_text(terms.expires) if terms.expires else None,
        "state": one.state(now),
        **({"fault": one.fault} if one.fault else {}),
    }


def created_text(one: Issued, replaces: tuple[str, int] | None) -> str:
    """Say what was made."""
    end = f", valid until {time_text(one.terms.expires)}" if one.terms.expires else ""
    text = f"Made the API key '{one.name}'{end}. It is shown this once, and kept nowhere as it is:"
    if replaces is None:
        return text
    return f"The API key '{replaces[0]}' is valid until {time_text(replaces[1])}.\n{text}"
