"""Topics by a model of task embed: how similar a text is to the examples of each topic."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from capstan_contract.guards import TopicsGuard
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.guards.plain.folding import Folded
from capstan_gateway.guards.plain.words import Words, plain_words
from capstan_gateway.guards.port import NOTHING, Finding, Scan
from capstan_gateway.guards.prompts.packs import packed
from capstan_gateway.guards.prompts.similar import WINDOW_TOKENS, Vector, cosine, questions, read_vectors
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.guards.asked.model import answers_of, model_of
from capstan_gateway.pipeline.guards.asked.texts import INLINE_CHARS
from capstan_gateway.pipeline.guards.port import Case

MOST_WINDOWS: Final = 256
OFF_TOPIC: Final = "off-topic"


class SimilarTopics:
    """Asks for embeddings. Those of the examples are kept as long as the policy and the model are what they are."""

    def __init__(self, guard: TopicsGuard, model: str, deps: Deps) -> None:
        self._guard = guard
        self._model = model
        self._deps = deps
        self._examples = [example for topic in (*guard.deny, *guard.allow) for example in topic.examples]
        phrases = [phrase for topic in guard.allow for phrase in topic.phrases]
        self._allowed = Words(plain_words(phrases, what="phrases"), whole=True) if phrases else None
        """A text with one of these is not off topic, whatever it is similar to."""
        self._known: tuple[ServedModel, list[Vector]] | None = None

    async def judge(self, case: Case) -> Sequence[Scan]:
        """Give the windows that are similar to an example of what is denied, or to none of what is allowed."""
        model = model_of(case.ask, self._model)
        texts = [piece.text if piece.says else "" for piece in case.pieces]
        pack = partial(packed, texts, WINDOW_TOKENS, together=False, most_packs=MOST_WINDOWS)
        packs = pack() if sum(map(len, texts)) <= INLINE_CHARS else await self._deps.executor.run(pack)
        if not packs or not self._examples:
            return [NOTHING] * len(texts)
        examples = await self._vectors_of_examples(case.ask, model)
        vectors = await self._vectors(case.ask, model, [one.text for one in packs])
        # NB: thousands of products of vectors: not on the loop.
        named = await self._deps.executor.run(self._named, vectors, examples)
        allowed = await self._deps.executor.run(lambda: [self._is_allowed(text) for text in texts])
        found: list[list[Finding]] = [[] for _ in texts]
        for one, kinds in zip(packs, named, strict=True):
            part = one.parts[0]
            found[part.number].extend(
                Finding(kind, part.start, part.end, score)
                for kind, score in kinds
                if kind != OFF_TOPIC or not allowed[part.number]
            )
        return [Scan(findings=one) for one in found]

    def _is_allowed(self, text: str) -> bool:
        return self._allowed is not None and next(self._allowed.spans(Folded(text).text), None) is not None

    async def _vectors_of_examples(self, ask: Ask, model: ServedModel) -> list[Vector]:
        known = self._known
        if known is None or known[0] is not model:
            known = self._known = model, await self._vectors(ask, model, self._examples)
        return known[1]

    async def _vectors(self, ask: Ask, model: ServedModel, texts: Sequence[str]) -> list[Vector]:
        asked = questions(texts)
        answers = await answers_of(ask, model, asked, self._deps.executor)
        return [
            vector
            for question, answer in zip(asked, answers, strict=True)
            for vector in read_vectors(answer, len(question.numbers))
        ]

    def _named(self, vectors: Sequence[Vector], examples: Sequence[Vector]) -> list[list[tuple[str, float]]]:
        guard, least = self._guard, self._guard.similarity
        given = iter(examples)
        deny = [(topic.name, [next(given) for _ in topic.examples]) for topic in guard.deny]
        allow = [(topic.name, [next(given) for _ in topic.examples]) for topic in guard.allow]
        named = []
        for vector in vectors:
            near = [(name, _nearest(vector, known)) for name, known in deny]
            kinds = [(name, score) for name, score in near if score >= least]
            if allow and max(_nearest(vector, known) for _, known in allow) < least:
                kinds.append((OFF_TOPIC, 1.0))
            named.append(kinds)
        return named


def _nearest(vector: Vector, examples: Sequence[Vector]) -> float:
    return min(1.0, max((cosine(vector, example) for example in examples), default=0.0))


def ask_about_topics(guard: TopicsGuard, deps: Deps) -> SimilarTopics | None:
    """Give who asks; None when the policy names no model."""
    return None if guard.model is None else SimilarTopics(guard, guard.model, deps)
