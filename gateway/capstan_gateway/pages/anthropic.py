"""What Anthropic's clients read beside messages: the list of models, in pages, and who is such a client."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import Request

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.dialects.clients.spoken import MESSAGES
from capstan_gateway.errors import InvalidRequest
from capstan_gateway.headers import Header, find_header
from capstan_gateway.serving.refusals import ErrorWriter
from capstan_gateway.serving.service import path_of

PATH: Final = "/v1/messages"
MODELS_PATH: Final = "/v1/models"
_OF_BOTH: Final = (MODELS_PATH, "/v1/feedback")
"""Paths that clients of either API ask."""
VERSION_HEADER: Final = "anthropic-version"
DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 1000


def speaks_anthropic(request: Request) -> bool:
    """Whether a request is of Anthropic's API: by its path, or on a path of both by the version that it names."""
    return _is_anthropics(request.url.path, names_version=bool(request.headers.get(VERSION_HEADER)))


def error_writer(target: bytes, headers: Sequence[Header]) -> ErrorWriter | None:
    """Give who writes the errors of a request with this target, or what is known of it; None: they are OpenAI's."""
    path = path_of(target).decode("latin-1")
    version = find_header(headers, VERSION_HEADER.encode())
    return MESSAGES if _is_anthropics(path, names_version=bool(version)) else None


def _is_anthropics(path: str, *, names_version: bool) -> bool:
    return _is_at(path, PATH) or (names_version and any(_is_at(path, both) for both in _OF_BOTH))


def _is_at(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root}/")


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
