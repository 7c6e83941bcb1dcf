"""Moderation: a model that moderates, or a service like OpenAI's, is asked about every text."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import orjson

from capstan_contract.config import Task
from capstan_contract.guards import ModerationFormat, ModerationGuard, Source, Stage
from capstan_gateway.documents import to_json
from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.guards.port import Finding, Scan
from capstan_gateway.guards.prompts.asked import Format, Question, Shown
from capstan_gateway.guards.prompts.formats import check_categories, format_of
from capstan_gateway.guards.prompts.harms import Harms, judged, union
from capstan_gateway.guards.prompts.openai import OpenAiModeration
from capstan_gateway.guards.prompts.packs import Pack, Part, packed
from capstan_gateway.guards.prompts.unreadable import Unreadable
from capstan_gateway.headers import Header
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.beside import beside
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.guards.asked.failures import NotAsked
from capstan_gateway.pipeline.guards.asked.model import all_of, answers_of, model_of
from capstan_gateway.pipeline.guards.asked.service import Service, post, service_at
from capstan_gateway.pipeline.guards.asked.texts import INLINE_CHARS, last_question
from capstan_gateway.pipeline.guards.port import Case
from capstan_gateway.pipeline.guards.reading import INLINE_BYTES

log: Final = logging.getLogger(__name__)

MOST_PACKS: Final = 64
"""Texts of one request that are asked about, as they fit into one question each."""
DEFAULT_MODEL: Final = "omni-moderation-latest"


@dataclass(frozen=True, slots=True)
class Said:
    """What is said of one text as a whole."""

    found: Sequence[tuple[str, float]]
    """What the policy takes for found, with scores."""
    scores: Mapping[str, float]
    """All scores that were told."""


class Moderator:
    """Asks whether texts are harmful."""

    def __init__(self, guard: ModerationGuard, deps: Deps) -> None:
        """Make it. ValueError when neither a model nor a service can be asked."""
        self._guard = guard
        self._deps = deps
        self._said = False
        self._service = None if guard.url is None else service_at(guard.url)
        if (guard.model is None) == (guard.url is None):
            raise ValueError("it must have either a model or a url")
        if guard.url is not None and guard.format not in (ModerationFormat.AUTO, ModerationFormat.OPENAI):
            raise ValueError("what is at a url is asked as OpenAI's moderation API is")

    @property
    def guard(self) -> ModerationGuard:
        """What the policy says."""
        return self._guard

    async def judge(self, case: Case) -> Sequence[Scan]:
        """Give the categories that are found, in every text."""
        ask = case.ask
        large = ask.request.came > INLINE_BYTES
        shown = await beside(self._deps.executor, partial(_shown, case)) if large else _shown(case)
        found: list[list[Finding]] = [[] for _ in shown]
        for parts, harms, names in await self._asked(ask, shown, everywhere=case.everywhere):
            for kind, score in judged(harms, self._guard.categories, names):
                for part in parts:
                    found[part.number].append(Finding(kind, part.start, part.end, score))
        return [Scan(findings=sorted(one, key=_by_place)) for one in found]

    async def say(self, ask: Ask, texts: Sequence[str], *, everywhere: bool = False) -> list[Said]:
        """Give what is said of each text, as a whole. `everywhere`: for a policy of the installation."""
        told: list[list[Harms]] = [[] for _ in texts]
        names: dict[str, str] = {}
        for parts, harms, known in await self._asked(
            ask, [Shown(text) for text in texts], together=False, everywhere=everywhere
        ):
            names.update(known)
            for part in parts:
                told[part.number].append(harms)
        whole = map(union, told)
        return [Said(judged(harms, self._guard.categories, names), harms.scores) for harms in whole]

    async def _asked(
        self, ask: Ask, shown: Sequence[Shown], *, together: bool = True, everywhere: bool
    ) -> list[tuple[tuple[Part, ...], Harms, Mapping[str, str]]]:
        if self._service is not None:
            form: Format = OpenAiModeration()
        else:
            model = model_of(ask, self._guard.model or "")
            classifies = model.task is Task.CLASSIFY
            names = model.upstream_name, model.name, model.id
            form = format_of(self._guard.format, *names, classifies=classifies)
        self._check(form)
        wanted = any(category.threshold is not None for category in self._guard.categories)
        prepare = partial(_prepared, shown, form, together=together, scores=wanted or not together)
        large = sum(len(one.text) for one in shown) > INLINE_CHARS
        packs, questions = await self._deps.executor.run(prepare) if large else prepare()
        if self._service is not None:
            answers = await all_of(
                partial(self._posted, ask, self._service, question, everywhere=everywhere) for question in questions
            )
        else:
            answers = await answers_of(ask, model_of(ask, self._guard.model or ""), questions, self._deps.executor)
        told: list[list[Harms]] = [[] for _ in packs]
        for question, answer in zip(questions, answers, strict=True):
            for number, harms in zip(question.numbers, form.read(question, answer), strict=True):
                told[number].append(harms)
        return [(packs[n][0].parts, union(harms), form.names) for n, harms in enumerate(told)]

    def _check(self, form: Format) -> None:
        """Raise Unreadable when the policy waits for a category that the model never tells; say so once."""
        try:
            check_categories(form, self._guard.categories)
        except Unreadable as error:
            if not self._said:
                self._said = True
                log.warning("a guard cannot decide", extra={"guard": self._guard.name, "reason": str(error)})
            raise

    async def _posted(self, ask: Ask, service: Service, question: Question, *, everywhere: bool) -> Mapping[str, Any]:
        guard, headers = self._guard, list[Header]()
        if guard.credentialFile is not None:
            key = self._deps.credentials.key(guard.credentialFile)
            if key is None:
                raise NotAsked("the key of a guard's service is missing")
            headers.append((b"authorization", b"Bearer " + key))
        body = to_json({"model": guard.upstreamModel or DEFAULT_MODEL, **question.document})
        answer = await post(self._deps, service, ask, body, headers, everywhere=everywhere)
        try:
            found = orjson.loads(answer)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise UpstreamFailed("the service of a guard answered with something that is not a JSON object")
        return found


def _prepared(
    shown: Sequence[Shown], form: Format, *, together: bool, scores: bool
) -> tuple[list[tuple[Pack, Shown]], list[Question]]:
    packs = _packs(shown, form, together=together)
    return packs, form.questions([one for _, one in packs], scores=scores)


def _packs(shown: Sequence[Shown], form: Format, *, together: bool) -> list[tuple[Pack, Shown]]:
    """Give what is asked about, each of one source: one text of another must not talk about it."""
    packs: list[tuple[Pack, Shown]] = []
    together = together and form.together
    for numbers in _by_source(shown):
        texts = [shown[number].text for number in numbers]
        left = MOST_PACKS - len(packs)
        for pack in packed(texts, form.most_tokens, together=together, most_packs=left):
            parts = tuple(Part(numbers[part.number], part.start, part.end) for part in pack.parts)
            first = shown[parts[0].number]
            packs.append((Pack(pack.text, parts), Shown(pack.text, first.answer, first.question, first.source)))
    return packs


def _by_source(shown: Sequence[Shown]) -> Iterable[list[int]]:
    groups: dict[Source, list[int]] = {}
    for number, one in enumerate(shown):
        groups.setdefault(one.source, []).append(number)
    return groups.values()


def _shown(case: Case) -> list[Shown]:
    answered = case.stage is Stage.OUTPUT
    question = last_question(case.ask.request.document) if answered else ""
    return [Shown(piece.text if piece.says else "", answered, question, piece.source) for piece in case.pieces]


def _by_place(finding: Finding) -> tuple[int, int]:
    return finding.start, finding.end
