"""What a run has to ask."""

from collections.abc import Mapping
from typing import Any

from capstan_evaluation.judges.judging import Judge
from capstan_evaluation.judges.scoring import Helpers
from capstan_evaluation.records import Answer, Result, Run, RunHeader, Score, ScoreState, Usage
from capstan_evaluation.runs.conduct import SuiteScorer
from capstan_evaluation.runs.plan import (
    count_results,
    ends,
    is_unsettled,
    join_answers,
    prompt_of,
    request_of,
    steps_of,
)
from capstan_evaluation.suites.checks import Pairwise
from capstan_evaluation.suites.suite import Case, Message, Suite, Turn
from support.evaluation import ScriptedChat


def case(name: str, *prompts: str, **fields: object) -> Case:
    """A case with these turns."""
    turns = tuple(Turn(messages=(Message(role="user", content=prompt),)) for prompt in prompts or ("hi",))
    return Case(id=name, turns=turns).model_copy(update=fields)


def test_every_case_is_asked_once_before_any_is_asked_again() -> None:
    """A run that ends early has seen as many cases as it could; each is asked as often as it says."""
    suite = Suite(name="s", cases=(case("a", repeats=2), case("b"), case("c", repeats=3)))
    assert [(step.case.id, step.repeat) for step in steps_of(suite, None)] == [
        ("a", 0), ("b", 0), ("c", 0), ("a", 1), ("c", 1), ("c", 2),
    ]  # fmt: skip
    assert count_results(suite, None) == 6
    assert count_results(suite, 2) == len(list(steps_of(suite, 2))) == 6


def test_a_turn_is_asked_with_what_was_answered_before() -> None:
    """The request of a turn has the turns and answers before it, and the case's own settings."""
    turns = case("a", "one", "two", temperature=0.5, maxTokens=9)
    assert request_of(turns, ["first"], 100) == {
        "messages": [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "first"},
            {"role": "user", "content": "two"},
        ],
        "temperature": 0.5,
        "max_tokens": 9,
    }
    assert request_of(case("a"), [], 100)["max_tokens"] == 100
    assert "max_tokens" not in request_of(case("a"), [], None)


def test_answers_to_turns_become_one() -> None:
    """The text is the last one's, what they took is of all; a cost that is unknown for one is unknown."""
    first = Answer(text="a", usage=Usage(inputTokens=1, outputTokens=2, cost=0.5), seconds=1)
    last = Answer(text="b", usage=Usage(inputTokens=3, cost=0.25), seconds=2, firstTokenSeconds=0.5)
    joined = join_answers([first, last])
    assert (joined.text, joined.earlier, joined.seconds, joined.firstTokenSeconds) == ("b", ("a",), 3, 0.5)
    assert (joined.usage.inputTokens, joined.usage.outputTokens, joined.usage.cost) == (4, 2, 0.75)
    assert join_answers([first, Answer(text="c")]).usage.cost is None


def test_a_conversation_ends_with_an_error_or_a_filter() -> None:
    """No further turn is asked when there is no answer to go on from."""
    assert ends(Answer(error="timeout"))
    assert ends(Answer(finishReason="content_filter"))
    assert not ends(Answer(text="x", finishReason="length"))


def test_a_prompt_is_read_by_people() -> None:
    """One message is itself; more stand behind their roles."""
    assert prompt_of(case("a", "hello"), ()) == "hello"
    assert prompt_of(case("a", "one", "two"), ("x",)) == "user: one\n\nassistant: x\n\nuser: two"


def test_what_says_nothing_of_a_case_is_made_anew() -> None:
    """A scorer that failed, and an error of the moment, are looked at again; a judge that could not tell is not."""
    fine = Score(scorer="a", value=1.0)
    for answer, state, unsettled in (
        (Answer(text="x"), ScoreState.FAILED, True),
        (Answer(text="x"), ScoreState.COULD_NOT_TELL, False),
        (Answer(text="x"), ScoreState.SCORED, False),
        (Answer(error="timeout", transient=True), ScoreState.SCORED, True),
        (Answer(error="model_not_found"), ScoreState.SCORED, False),
    ):
        other = Score(scorer="b", state=state, value=1.0 if state is ScoreState.SCORED else None)
        assert is_unsettled(Result(case="c", request="r", answer=answer, scores=(fine, other))) is unsettled


async def test_a_repeat_is_compared_with_the_same_one_of_the_baseline() -> None:
    """A judge is shown the baseline's answer to the same repeat, and the first one where it was asked less often."""
    check = Pairwise(type="Pairwise")
    asked = case("c", "hi", checks=(check,), repeats=3)
    header = RunHeader(id="b", suite="s", suiteHash="h", target="t", cases=1, repeats=2)
    results = tuple(Result(case="c", repeat=at, request="r", answer=Answer(text=f"before {at}")) for at in range(2))
    shown: list[str] = []

    def say(document: Mapping[str, Any]) -> str:
        shown.append(document["messages"][1]["content"])
        return '{"reason": "", "verdict": "tie"}'

    scorer = SuiteScorer(Helpers(Judge(ScriptedChat(say), "j")), Run(header=header, results=results))
    for repeat, before in ((0, "before 0"), (1, "before 1"), (2, "before 0")):
        shown.clear()
        [score] = await scorer.score(asked, Answer(text="now"), repeat)
        assert score.value == 0.5
        assert all(before in text for text in shown)
