"""Cases, answers and scripted judges for tests of evaluation."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from capstan_evaluation.asking import Vectors
from capstan_evaluation.records import Answer
from capstan_evaluation.suites.load import load_suite_texts
from capstan_evaluation.suites.suite import Case


def case_of(*checks: Mapping[str, Any], **fields: Any) -> Case:
    """A case with these checks."""
    case = {"id": "a", "checks": list(checks), **({} if "turns" in fields else {"prompt": "What is it?"}), **fields}
    (read,) = load_suite_texts({"suite.yaml": yaml.safe_dump({"name": "s", "cases": [case]})}).cases
    return read


class ScriptedChat:
    """Says what a function of the request says: a text, or an answer."""

    def __init__(self, says: Callable[[Mapping[str, Any]], str | Answer]) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self._says = says

    async def chat(self, document: Mapping[str, Any], *, repeat: int = 0) -> Answer:
        """See `Chat`."""
        self.asked.append(document)
        await asyncio.sleep(0)
        said = self._says(document)
        return said if isinstance(said, Answer) else Answer(text=said)


class ScriptedEmbedder:
    """Knows the vectors of some texts."""

    def __init__(self, vectors: Mapping[str, Sequence[float]], error: str = "") -> None:
        self._vectors, self._error = vectors, error

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`."""
        await asyncio.sleep(0)
        if self._error:
            return Vectors(error=self._error)
        return Vectors(vectors=tuple(tuple(self._vectors[text]) for text in texts))
