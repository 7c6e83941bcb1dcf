"""The paths of Azure's API: the ordinary routes, with the model in the path, or below another root.

/openai/deployments/{model}/chat/completions   as /v1/chat/completions, of this model whatever the body says
/openai/v1/chat/completions                    as /v1/chat/completions
/openai/responses, /openai/models              as below /v1, and so are files and batches

What else a deployment has on Azure is not there. `api-version` is not read: there is one version. As
https://learn.microsoft.com/azure/ai-services/openai/reference describes them, and as `openai.AzureOpenAI` asks.
"""

from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Final
from urllib.parse import unquote

from capstan_gateway.inference.handler import InferenceHandler
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.serving.service import Handler

ROOT: Final = b"/openai/"
_DEPLOYMENTS: Final = b"/openai/deployments/"
_OF_DEPLOYMENTS: Final = (
    b"/chat/completions", b"/completions", b"/embeddings", b"/responses", b"/audio/transcriptions",
    b"/audio/translations",
)  # fmt: skip
"""The longer one of two that end alike stands first."""
_BELOW_ROOT: Final = (b"responses", b"models", b"files", b"batches")
_WITH_IDS: Final = (b"models/", b"responses/", b"files/", b"batches/")
_BELOW_V1: Final = (
    b"chat/completions", b"completions", b"embeddings", b"audio/transcriptions", b"audio/translations", *_BELOW_ROOT,
)  # fmt: skip


def ordinary_path(path: bytes) -> tuple[bytes, str] | None:
    """Give the path of the same route below `/v1` and the model that the path names, "" for none; None when this is no
    path of Azure's."""
    if not path.startswith(ROOT):
        return None
    if path.startswith(_DEPLOYMENTS):
        return _of_deployment(path)
    for root, names in ((b"/openai/v1/", _BELOW_V1), (ROOT, _BELOW_ROOT)):
        rest = path[len(root) :]
        if path.startswith(root) and (rest in names or rest.startswith(_WITH_IDS)):
            return b"/v1/" + rest, ""
    return None


def _of_deployment(path: bytes) -> tuple[bytes, str] | None:
    for end in _OF_DEPLOYMENTS:
        model = path[len(_DEPLOYMENTS) : -len(end)]
        if path.endswith(end) and model:
            return b"/v1" + end, unquote(model.decode("latin-1"))
    return None


class AzurePaths:
    """Finds who serves a path of Azure's."""

    def __init__(self, handlers: Mapping[bytes, InferenceHandler], pages: Handler) -> None:
        self._handlers = handlers
        self._pages = pages

    def __call__(self, path: bytes) -> Handler | None:
        """Give who serves it; None when it is none."""
        found = ordinary_path(path)
        if found is None:
            return None
        handler = self._handlers.get(found[0])
        return partial(self._serve_page, found[0]) if handler is None else partial(handler, model=found[1])

    def _serve_page(self, path: bytes, exchange: Exchange) -> Awaitable[None] | None:
        _, mark, query = exchange.target.partition(b"?")
        exchange.target = path + mark + query
        return self._pages(exchange)
