"""Embeddings, classification, scores and rankings, in vLLM's shapes."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from capstan_worker.simulator.answers import make_seed
from capstan_worker.simulator.errors import ApiError
from capstan_worker.simulator.protocol import Body
from capstan_worker.simulator.requests import content_text, prompt_texts
from capstan_worker.simulator.settings import SimulatorSettings
from capstan_worker.simulator.tokens import count
from capstan_worker.simulator.vectors import embed, encode_base64, similarity

Document = dict[str, Any]


class Pooled:
    """The answer to one pooling request, and how many prompt tokens it took."""

    def __init__(self, document: Document, tokens: int) -> None:
        self.document = document
        self.tokens = tokens


def embeddings(body: Body, model: str, settings: SimulatorSettings, number: str) -> Pooled:
    """Answer /v1/embeddings."""
    texts = _inputs(body)
    size = body.get("dimensions")
    if size is None:
        size = settings.embedding_size
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= settings.embedding_size:
        raise ApiError(400, f"dimensions must be from 1 to {settings.embedding_size}, got {size}.", param="dimensions")
    form = body.get("encoding_format") or "float"
    if form not in ("float", "base64"):
        raise ApiError(400, "`encoding_format` must be 'float' or 'base64'.", param="encoding_format")
    tokens = _check_lengths(texts, settings)
    data = []
    for index, text in enumerate(texts):
        vector = embed(text, size)
        data.append({"index": index, "object": "embedding", "embedding": _encoded(vector, form)})
    return Pooled(_list("embd-" + number, model, data, tokens), tokens)


def classification(body: Body, model: str, settings: SimulatorSettings, number: str) -> Pooled:
    """Answer /classify."""
    texts = _inputs(body)
    tokens = _check_lengths(texts, settings)
    data = []
    for index, text in enumerate(texts):
        weights = [math.exp(3 * _share(model, label, text)) for label in settings.labels]
        probs = [weight / sum(weights) for weight in weights]
        label = settings.labels[probs.index(max(probs))]
        data.append({"index": index, "label": label, "probs": probs, "num_classes": len(probs)})
    return Pooled(_list("classify-" + number, model, data, tokens), tokens)


def scores(body: Body, model: str, settings: SimulatorSettings, number: str) -> Pooled:
    """Answer /score: one text with many, or pair by pair."""
    left = _texts(body, ("text_1", "queries", "data_1"))
    right = _texts(body, ("text_2", "documents", "items", "data_2"))
    if len(left) not in (1, len(right)):
        raise ApiError(400, "Input lengths must be either 1:1, 1:N or N:N")
    if len(left) == 1:
        left = left * len(right)
    tokens = _check_lengths([a + b for a, b in zip(left, right, strict=True)], settings)
    data = [
        {"index": index, "object": "score", "score": _score(a, b, settings)}
        for index, (a, b) in enumerate(zip(left, right, strict=True))
    ]
    return Pooled(_list("score-" + number, model, data, tokens), tokens)


def ranking(body: Body, model: str, settings: SimulatorSettings, number: str) -> Pooled:
    """Answer /rerank."""
    query = _texts(body, ("query",))[0]
    documents = _texts(body, ("documents",))
    tokens = _check_lengths([query + text for text in documents], settings)
    results: list[Document] = [
        {"index": index, "document": {"text": text}, "relevance_score": _score(query, text, settings)}
        for index, text in enumerate(documents)
    ]
    results.sort(key=lambda item: (-item["relevance_score"], item["index"]))
    most = body.get("top_n")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int)):
        raise ApiError(400, "`top_n` must be a whole number.", param="top_n")
    if most is None or most < 1:
        most = len(results)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Pooled({"id": "rerank-" + number, "model": model, "usage": usage, "results": results[:most]}, tokens)


POOLING: Mapping[str, tuple[str, Callable[[Body, str, SimulatorSettings, str], Pooled]]] = {
    "/v1/embeddings": ("embed", embeddings),
    "/classify": ("classify", classification),
    "/v1/classify": ("classify", classification),
    "/score": ("score", scores),
    "/v1/score": ("score", scores),
    "/rerank": ("score", ranking),
    "/v1/rerank": ("score", ranking),
}
"""Paths, the task that a model must have for them, and who answers."""


def _inputs(body: Body) -> list[str]:
    messages = body.get("messages")
    if "input" not in body and isinstance(messages, list) and all(isinstance(message, dict) for message in messages):
        return ["".join(content_text(message) for message in messages)]
    return prompt_texts(body.get("input"), "input")


def _texts(body: Body, names: tuple[str, ...]) -> list[str]:
    for name in names:
        if name in body:
            return prompt_texts(body[name], name)
    raise ApiError(400, f"`{names[0]}` is missing.", param=names[0])


def _check_lengths(texts: list[str], settings: SimulatorSettings) -> int:
    lengths = [count(text) for text in texts]
    if max(lengths) > settings.context_window:
        raise ApiError(
            400,
            f"This model's maximum context length is {settings.context_window} tokens. However, your prompt contains "
            f"{max(lengths)} input tokens. Please reduce the length of the input prompt.",
            param="input_tokens",
        )
    return sum(lengths)


def _encoded(vector: list[float], form: str) -> list[float] | str:
    return encode_base64(vector) if form == "base64" else vector


def _score(one: str, other: str, settings: SimulatorSettings) -> float:
    return (1 + similarity(embed(one, settings.embedding_size), embed(other, settings.embedding_size))) / 2


def _share(*parts: str) -> float:
    return make_seed(*parts) / 2**64


def _list(number: str, model: str, data: list[Document], tokens: int) -> Document:
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0, "prompt_tokens_details": None}
    return {"id": number, "object": "list", "created": int(time.time()), "model": model, "data": data, "usage": usage}
