"""How the simulator reasons, calls tools in parallel, refuses, and is right or wrong."""

import json
from typing import Any

import pytest

from capstan_worker.errors import UsageError
from capstan_worker.simulator.questions import known_answer
from capstan_worker.simulator.requests import Generation, parse_chat
from capstan_worker.simulator.settings import Dials, SimulatorSettings, check_dials
from capstan_worker.simulator.shapes import Shapes

SETTINGS = SimulatorSettings(model="sim")
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"properties": {"city": {"type": "string"}}}}}
    for name in ("get_weather", "get_time", "time")
]


def ask(text: str, dials: Dials, settings: SimulatorSettings = SETTINGS, **more: Any) -> Generation:
    """Give the request that says this."""
    return parse_chat({"messages": [{"role": "user", "content": text}], **more}, settings, dials)


def message(request: Generation) -> dict[str, Any]:
    """Give the message of the first choice, whole; and see that the stream's pieces add up to the same."""
    shapes = Shapes(request, number="1", created=1, cached_tokens=0)
    answer = request.answers()[0]
    whole = shapes.whole([answer])["choices"][0]
    for step in (1, 3, 1000):
        assert _streamed(shapes, answer, step) == (_without_nothing(whole["message"]), whole["finish_reason"])
    return {**whole["message"], "finish_reason": whole["finish_reason"]}


def _streamed(shapes: Shapes, answer: Any, step: int) -> tuple[dict[str, Any], str | None]:
    added: dict[str, Any] = {}
    calls: dict[int, Any] = {}
    reason = None
    for start in range(0, len(answer.tokens), step):
        piece = shapes.piece(0, answer, start, start + step)
        reason = piece["finish_reason"]
        for name, value in piece["delta"].items():
            if name != "tool_calls":
                added[name] = added.get(name, "") + value
                continue
            for call in value:
                found = calls.setdefault(call["index"], {**call, "function": {**call["function"], "arguments": ""}})
                found["function"]["arguments"] += call["function"]["arguments"]
    for call in calls.values():
        call.pop("index")
    return {**added, **({"tool_calls": list(calls.values())} if calls else {})}, reason


def _without_nothing(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if value not in (None, []) and name != "role"}


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("reasoning", {"reasoning"}),
        ("reasoning_content", {"reasoning_content"}),
        ("both", {"reasoning", "reasoning_content"}),
    ],
)
def test_it_reasons_under_the_name_that_is_set(field: str, names: set[str]):
    """With --reasoning-tokens the answer has reasoning, under one of the engines' names or under both."""
    settings = SimulatorSettings(model="sim", reasoning_field=field)
    told = message(ask("Hello", Dials(reasoning_tokens=20), settings))
    assert {name for name in told if name.startswith("reasoning")} == names
    assert all(told[name].startswith("Simulated reasoning:") for name in names)
    assert told["content"].startswith("This is a simulated answer")


@pytest.mark.parametrize(
    "off",
    [
        {"reasoning_effort": "none"},
        {"include_reasoning": False},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"chat_template_kwargs": {"thinking": False}},
    ],
)
def test_reasoning_can_be_turned_off(off: dict[str, Any]):
    """Who asks for no reasoning gets none, in each way in which engines are asked."""
    assert "reasoning" not in message(ask("Hello", Dials(reasoning_tokens=20), **off))


def test_reasoning_takes_of_max_tokens():
    """The bound is of all tokens: a small one ends in the middle of the reasoning, without an answer."""
    told = message(ask("Hello", Dials(reasoning_tokens=200), max_tokens=10))
    assert (told["content"], told["finish_reason"]) == (None, "length")


def test_every_tool_that_is_named_is_called_at_once():
    """Tools are called in parallel, in the order in which the last message names them, each with an id of its own."""
    told = message(ask("first get_time and then get_weather", Dials(), tools=TOOLS))
    assert [call["function"]["name"] for call in told["tool_calls"]] == ["get_time", "get_weather"]
    assert len({call["id"] for call in told["tool_calls"]}) == 2
    assert all(json.loads(call["function"]["arguments"]) for call in told["tool_calls"])
    assert told["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(("dials", "more"), [(Dials(parallel_calls=1), {}), (Dials(), {"parallel_tool_calls": False})])
def test_parallel_calls_have_a_bound(dials: Dials, more: dict[str, Any]):
    """--parallel-calls says how many at most; a client that wants one at a time gets one."""
    told = message(ask("get_time, get_weather", dials, tools=TOOLS, **more))
    assert [call["function"]["name"] for call in told["tool_calls"]] == ["get_time"]


def test_it_refuses_at_a_rate():
    """--refusal-rate answers so many requests with a refusal, always the same ones."""
    requests = [ask(f"Request {number}", Dials(refusal_rate=0.3)) for number in range(400)]
    refused = [message(request).get("refusal") is not None for request in requests]
    assert 80 < sum(refused) < 160
    assert refused[:50] == [message(request).get("refusal") is not None for request in requests[:50]]
    told = message(requests[refused.index(True)])
    assert (told["content"], told["finish_reason"]) == (None, "stop")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is 17 + 25?", "42"),
        ("so what's 6 x 7", "42"),
        ("what is -3 - 4", "-7"),
        ("The capital of France? <<answer: Paris>>", "Paris"),
    ],
)
def test_a_question_with_a_known_answer_is_answered_rightly(question: str, answer: str):
    """Sums, and questions that say their answer, get it on a line of its own; it still says that it is simulated."""
    told = message(ask(question, Dials()))
    assert told["content"].splitlines()[0] == answer
    assert "simulated" in told["content"]
    assert message(ask(question, Dials(accuracy=0)))["content"].splitlines()[0] != answer


@pytest.mark.parametrize("question", ["Hello", "What is a capstan?", "what is 1.5 + 2.5", "<<answer: >>", "2026-11-29"])
def test_what_is_no_such_question_is_answered_as_ever(question: str):
    """Only questions whose answer is known are answered with one."""
    assert known_answer(question, accuracy=1, salt="") is None


def test_a_better_model_is_right_wherever_a_worse_one_is():
    """--accuracy is kept on the whole, and which questions are hard is the same for every model of one --seed."""
    rights = {}
    for accuracy in (0.4, 0.7):
        answers = [known_answer(f"what is {n} + 1", accuracy=accuracy, salt="0") for n in range(1000)]
        rights[accuracy] = {place for place, answer in enumerate(answers) if answer is not None and answer.right}
        assert abs(len(rights[accuracy]) / 1000 - accuracy) < 0.05
    assert rights[0.4] < rights[0.7]


def test_choices_and_seeds_are_drawn_anew():
    """Several choices of a question are right or wrong each by itself, so that a vote among them helps."""
    request = ask("what is 2 + 2", Dials(accuracy=0.5), n=40)
    rights = [answer.text.startswith("4\n") for answer in request.answers()]
    assert 5 < sum(rights) < 35


def test_a_wrong_answer_is_less_probable():
    """Log-probabilities of a wrong answer are lower, for who judges by them."""
    means = []
    for accuracy in (0.0, 1.0):
        request = ask("what is 2 + 2", Dials(accuracy=accuracy), logprobs=True)
        shapes = Shapes(request, number="1", created=1, cached_tokens=0)
        places = shapes.whole(request.answers())["choices"][0]["logprobs"]["content"]
        means.append(sum(place["logprob"] for place in places) / len(places))
    assert means[0] < means[1] - 0.5


@pytest.mark.parametrize(
    ("dials", "says"),
    [
        (Dials(accuracy=1.5), "accuracy must be from 0 to 1"),
        (Dials(refusal_rate=-1), "refusalRate must be from 0 to 1"),
        (Dials(parallel_calls=0), "parallelCalls must be at least 1"),
        (Dials(reasoning_tokens=-1), "reasoningTokens must be from 0"),
        (Dials(accuracy=float("nan")), "accuracy must be from 0 to 1"),
    ],
)
def test_dials_that_cannot_be_are_refused(dials: Dials, says: str):
    """A share is from 0 to 1, and the message names the dial."""
    with pytest.raises(UsageError, match=says):
        check_dials(dials)
