"""What Anthropic's clients read beside messages: the list of models, in pages, and who is such a client."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import Request

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import InvalidRequest

PATH: Final = "/v1/messages"
VERSION_HEADER: Final = "anthropic-version"
DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 1000


def speaks_anthropic(request: Request) -> bool:
    """Whether a request is of Anthropic's API: by its path, or on a path of both by the version that it names."""
    path = request.url.path
    return path == PATH or path.startswith(f"{PATH}/") or (path.startswith("/v1/models") and _names_version(request))


def _names_version(request: Request) -> bool:
    return bool(request.headers.get(VERSION_HEADER))


def anthropic_card(name: str, model: ServedModel) -> dict[str, object]:
    """Describe one model as `GET /v1/models/{id}` of Anthropic's does."""
    created = datetime.fromtimestamp(model.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": "model", "id": name, "display_name": name, "created_at": created, "lifecycle": "active",
        "max_input_tokens": model.context_window, "max_tokens": model.max_output_tokens,
    }  # fmt: skip


def list_page(
    models: Sequence[tuple[str, ServedModel]], *, limit: str | None, after: str | None, before: str | None
) -> dict[str, Any]:
    """Give one page of the models: `limit` of them, behind the name `after` or up to the name `before`.

    InvalidRequest for a limit that is not from 1 to 1000. A name that is not in the list is at its end.
    """
    most = (
        DEFAULT_LIMIT if limit is None else int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 5 else 0
    )
    if not 1 <= most <= MAX_LIMIT:
        raise InvalidRequest(
            f"`limit` must be a whole number from 1 to {MAX_LIMIT}", code="invalid_value", param="limit"
        )
    names = [name for name, _ in models]
    begin = 0 if after is None else names.index(after) + 1 if after in names else len(names)
    end = len(names) if before is None or before not in names else names.index(before)
    page = models[max(begin, end - most) : end] if before is not None else models[begin : begin + most]
    cards = [anthropic_card(name, model) for name, model in page]
    more = begin < end - most if before is not None else begin + most < end
    first, last = (page[0][0], page[-1][0]) if page else (None, None)
    return {"data": cards, "first_id": first, "last_id": last, "has_more": more}
