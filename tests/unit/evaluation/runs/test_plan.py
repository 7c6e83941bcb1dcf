"""What a run has to ask."""

from capstan_evaluation.records import Answer, Usage
from capstan_evaluation.runs.plan import count_results, ends, join_answers, prompt_of, request_of, steps_of
from capstan_evaluation.suites.suite import Case, Message, Suite, Turn


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
