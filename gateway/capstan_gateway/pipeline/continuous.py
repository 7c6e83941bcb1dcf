"""Which streams an engine is asked to count chunk by chunk: those that limits follow, of engines that can. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.pipeline.governed import Governed
from capstan_gateway.pipeline.request import Request

CONTINUOUS: Final = "continuous_usage_stats"


def is_counted(request: Request, model: ServedModel, governed: Governed | None) -> bool:
    """Whether the engine of this model is to tell its usage with every chunk of the answer.

    It counts each choice by itself, and each of several prompts: of such an answer no chunk has a sum.
    """
    if governed is None or not governed.metered or not (request.stream and model.continuous_usage):
        return False
    return request.document.get("n") in (None, 1) and not _has_prompts(request.document.get("prompt"))


def asks_itself(request: Request) -> bool:
    """Whether the client wants those counts."""
    options = request.document.get("stream_options")
    return isinstance(options, Mapping) and bool(options.get(CONTINUOUS))


def _has_prompts(prompt: Any) -> bool:
    """Whether a prompt is several: one is a text, or a list of numbers."""
    return isinstance(prompt, list) and len(prompt) > 1 and isinstance(prompt[0], str | list)
