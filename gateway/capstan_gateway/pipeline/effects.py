"""Whether a request does more than to be answered: then it is sent once, and neither repeated nor hedged."""

from collections.abc import Mapping
from typing import Any, Final

from capstan_gateway.dialects.clients.spoken import RESPONSES
from capstan_gateway.pipeline.request import Request

_TELLING: Final = frozenset(
    ("background", "container", "conversation", "mcp_servers", "store", "tools", "web_search_options")
)
"""Fields without which nothing but an answer is asked for."""
_PROVIDERS: Final = ("background", "container", "conversation", "mcp_servers", "web_search_options")
"""Fields that, when they are on, make the provider do something itself."""
_RUN_BY_CLIENTS: Final = frozenset(
    ("apply_patch", "computer", "computer_use_preview", "custom", "function", "local_shell", "namespace")
)
_RUN_BY_CLIENTS_DATED: Final = ("bash_", "computer_", "memory_", "text_editor_")
"""Anthropic's, whose types end with a date."""


def is_repeatable(request: Request, *, native: bool) -> bool:
    """Whether sending this twice is no worse than asking twice; `native`: it is sent in the client's dialect.

    What is stored, what runs in the background, and what a provider's own tools do (search, run code, call a server) is
    not undone when its answer is thrown away. A tool of a kind that is not known is taken for the provider's.
    """
    if not native and _TELLING.isdisjoint(request.document):
        return True
    if request.route.counts:
        return True
    if native and request.native is not None:
        # OpenAI stores a response unless it is told not to.
        return not has_effects(request.native.document, stored=request.route.dialect is RESPONSES)
    return not has_effects(request.document)


def has_effects(document: Mapping[str, Any], *, stored: bool = False) -> bool:
    """Whether a request in this form has effects; `stored`: its API stores answers where nothing is said."""
    if not stored and _TELLING.isdisjoint(document):
        return False
    store = document.get("store")
    if stored if store is None else store:
        return True
    if any(_is_on(document.get(field)) for field in _PROVIDERS):
        return True
    tools = document.get("tools")
    return isinstance(tools, list) and any(map(_is_providers, tools))


def _is_on(value: object) -> bool:
    """NB: `"web_search_options": {}` turns the search on."""
    return value is not None and value is not False and value != []


def _is_providers(tool: object) -> bool:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if not isinstance(kind, str) or kind in _RUN_BY_CLIENTS:
        return False
    return not kind.startswith(_RUN_BY_CLIENTS_DATED)
