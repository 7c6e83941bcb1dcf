"""Guards that judge a text as a whole: of what is said, not of what stands beside it, nor of parts."""

from collections.abc import Sequence
from typing import Any

import pytest

from capstan_contract.guards import (
    ANSWERED,
    ASKED,
    AnyGuard,
    AttackGuard,
    FormatGuard,
    GroundingGuard,
    KeywordsGuard,
    Stage,
    Topic,
    TopicsGuard,
)
from capstan_gateway.guards.build import build_detector
from capstan_gateway.guards.port import NOTHING, Scan
from capstan_gateway.pipeline.guards.compiled import CompiledGuard
from capstan_gateway.pipeline.guards.lanes import Lanes
from capstan_gateway.pipeline.guards.output import answer_pieces
from capstan_gateway.pipeline.guards.pieces import Piece, pieces_of
from capstan_gateway.pipeline.guards.port import Case
from capstan_gateway.pipeline.guards.redaction import Redactor
from capstan_gateway.pipeline.guards.stage import Decision
from capstan_gateway.pipeline.guards.stage import Stage as Deciding
from capstan_gateway.pipeline.guards.wholes import MOST_ONCE_MORE, shown

JSON = FormatGuard(name="json", jsonSchema={"type": "object"}, appliesTo=ANSWERED)
COOKING = TopicsGuard(
    name="topics", allow=(Topic(name="cooking", phrases=("soup",)),), deny=(Topic(name="war", phrases=("bomb",)),),
    appliesTo=ASKED,
)  # fmt: skip


class Judge:
    """Finds nothing; it notes what it was asked about."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def judge(self, case: Case) -> Sequence[Scan]:
        """Judge the case."""
        self.seen += [piece.text for piece in case.pieces]
        return [NOTHING] * len(case.pieces)


async def decided(guard: AnyGuard, pieces: Sequence[Piece], judge: Judge | None = None) -> Decision:
    """Have one guard decide."""

    async def ask(one: CompiledGuard, given: Sequence[Piece]) -> Sequence[Scan]:
        assert judge is not None
        return await judge.judge(Case(stage=one.stage, ask=None, pieces=given))  # type: ignore[arg-type]

    stage = Stage.OUTPUT if guard.appliesTo == ANSWERED else Stage.INPUT
    one = CompiledGuard(guard, stage, build_detector(guard), judge, frozenset(guard.appliesTo), {})
    lanes = Lanes()
    try:
        return await Deciding([one], lanes.of("t"), ask, Redactor().redacted, lambda: 60.0).decide(pieces)
    finally:
        lanes.close()


def answer(content: Any, *, message: dict[str, Any] | None = None, **beside: Any) -> list[Piece]:
    """Give the texts of an answer with something beside what it says."""
    said = {"role": "assistant", "content": content, **(message or {})}
    choice = {"index": 0, "message": said, "finish_reason": "stop", "native_finish_reason": "STOP"}
    return answer_pieces({"choices": [choice], **beside})


BESIDE: list[dict[str, Any]] = [
    {"provider": "DeepInfra"},
    {"prompt_filter_results": [{"content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}]},
    {"message": {"annotations": [{"type": "url_citation", "url_citation": {"title": "An article of five words"}}]}},
]


@pytest.mark.parametrize("beside", BESIDE)
async def test_an_answer_has_its_form_whatever_its_provider_notes_beside_it(beside: dict[str, Any]) -> None:
    """A name of a provider, or a citation, is not JSON, and need not be; what is said must be."""
    assert not (await decided(JSON, answer('{"a": 1}', **beside))).found
    assert (await decided(JSON, answer("plain", **beside))).blocks is not None


async def test_parts_of_an_answer_have_its_form_together() -> None:
    """An answer in parts is one document."""
    parts = [{"type": "text", "text": '{"a":'}, {"type": "text", "text": " 1}"}]
    assert not (await decided(JSON, answer(parts))).found
    assert (await decided(JSON, answer([*parts, {"type": "text", "text": "}"}]))).blocks is not None


ON_TOPIC: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "name": "bob", "content": "how do I make soup"}]},
    {
        "messages": [{"role": "user", "content": "how do I make soup"}],
        "user": "team-42",
        "metadata": {"app": "kitchen"},
    },
    {"messages": [{"role": "user", "content": [{"type": "text", "text": one} for one in ("Hello.", "about soup")]}]},
]


@pytest.mark.parametrize("document", ON_TOPIC)
async def test_names_and_parts_are_not_off_topic(document: dict[str, Any]) -> None:
    """Who keeps to the topic may have a name, and may say hello in a part of its own."""
    assert not (await decided(COOKING, pieces_of(document).texts)).found


@pytest.mark.parametrize(
    "document",
    [
        {"messages": [{"role": "user", "content": [{"type": "text", "text": one} for one in ("Hello.", "of war")]}]},
        {"messages": [{"role": "user", "name": "bob", "content": "write a poem"}]},
        {"messages": [{"role": "user", "content": "about soup"}], "x": "a setting of more than two words is said"},
        {"messages": [{"role": "user", "name": "bomb", "content": "about soup"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": one} for one in ("soup", "bomb")]}]},
    ],
)
async def test_what_is_said_beside_the_topic_is_found(document: dict[str, Any]) -> None:
    """As a whole, wherever it stands; and what is denied is found in names and parts too."""
    assert (await decided(COOKING, pieces_of(document).texts)).blocks is not None


async def test_nobody_is_asked_whether_a_context_supports_the_name_of_a_provider() -> None:
    """Grounding is asked about what is said."""
    judge = Judge()
    guard = GroundingGuard(name="grounded", model="m", appliesTo=ANSWERED)
    await decided(guard, answer("It is so.", **BESIDE[0]), judge)
    assert judge.seen == ["It is so."]


async def test_words_are_found_beside_what_is_said() -> None:
    """Guards that look for something look everywhere."""
    words = KeywordsGuard(name="words", keywords=("deepinfra",), appliesTo=ANSWERED)
    assert (await decided(words, answer("x", **BESIDE[0]))).blocks is not None


@pytest.mark.parametrize(("size", "again"), [(10, True), (MOST_ONCE_MORE // 2 + 1, False)])
def test_guards_against_attacks_look_at_few_line_ends_between_parts(size: int, again: bool) -> None:
    """An attack may be one with them alone; but what these guards do with a long text costs, and is not done twice."""
    guard = AttackGuard(name="a", type="Jailbreak", appliesTo=ASKED)
    parts = ["x" * size, "y" * (size // 2), "z" * (size // 2)]
    pieces = pieces_of({"messages": [{"role": "user", "content": parts}]}).texts
    numbers = shown(guard, pieces, range(len(pieces)))
    assert [number for number in numbers if pieces[number].apart is None] == [0, 1, 2, 3]
    assert (4 in numbers) is again
