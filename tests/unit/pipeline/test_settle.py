"""Which calls are on the bill of a request, and what for."""

from typing import Any

import pytest

from capstan_contract.config import Price, Task
from capstan_gateway.dialects.clients.forms import Form
from capstan_gateway.dialects.clients.transcripts import TranscriptRelay
from capstan_gateway.errors import InvalidRequest
from capstan_gateway.pipeline.request import NativeRequest, Request, Route
from capstan_gateway.pipeline.settle import (
    MAX_SEARCHED_BYTES,
    asked_tokens,
    settle_lost,
    settle_nonsense,
    settle_stream_later,
    settle_whole,
)
from capstan_gateway.streaming.opening import StreamOpening
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.tokens.bill import Bill, How
from capstan_gateway.tokens.price import Rates
from capstan_gateway.tokens.usage import Usage
from fakes.openai_upstream import DONE, delta, frame, usage_chunk
from support.asks import an_ask

ROUTE = Route("/v1/chat/completions", b"/chat/completions", frozenset())
REQUEST = Request(ROUTE, {"messages": [{"role": "user", "content": "x" * 400}]}, stream=True, usage_asked=False)
PROMPT_TOKENS = 106
"""By the rule: a quarter of the text, and what is around a message."""


class Cell:
    """A number of the metrics."""

    value = 0


class Cells:
    """The metrics of a model."""

    def __init__(self) -> None:
        self.input_tokens, self.output_tokens, self.cost = Cell(), Cell(), Cell()
        self.told, self.estimated = Cell(), Cell()


class Model:
    """What of a model is needed to settle a call."""

    plan = None

    def __init__(self, price: Price | None = None, task: Task = Task.CHAT) -> None:
        self.task = task
        self.rates = None if price is None else Rates.of(price)
        self.name = "m"
        self.metrics = Cells()


class Tried:
    """An attempt."""

    def __init__(self, may_have_worked: bool, opening: object | None = None) -> None:
        self.may_have_worked = may_have_worked
        self.opening = opening


def _model(**price: float) -> Any:
    return Model(Price(**price) if price else None)


@pytest.mark.parametrize(
    ("ending", "usage", "how"),
    [
        (b"", Usage(PROMPT_TOKENS, 3), How.ESTIMATED),
        (frame(delta("m", None, "stop")) + frame(usage_chunk("m")) + DONE, Usage(5, 3), How.TOLD),
        (frame(delta("m", None, "stop")) + DONE, Usage(PROMPT_TOKENS, 3), How.ESTIMATED),
        (frame({"choices": [], "usage": {"total_tokens": 8}}), Usage(5, 3), How.ESTIMATED),
        (
            frame(delta("m", None, "stop")) + frame({"choices": [], "usage": {"total_tokens": 8}}) + DONE,
            Usage(5, 3),
            How.TOLD,
        ),
        (
            frame({**delta("m", "b"), "usage": {"prompt_tokens": 50, "completion_tokens": 9}}),
            Usage(50, 9),
            How.ESTIMATED,
        ),
    ],
    ids=["cut off", "told", "not told", "cut off behind a sum", "told as a sum", "told more than was seen"],
)
def test_a_stream_is_settled_as_far_as_it_came(ending: bytes, usage: Usage, how: How) -> None:
    """The engine's numbers of a whole answer count; else the larger one of what was told and what was seen."""
    relay, model = StreamRelay(strip_usage=True), _model(inputPerMillion=1, outputPerMillion=2)
    relay.feed(b"".join(frame(delta("m", word)) for word in ("Hello", " ", "there"))[:-2] + b"\n\n")
    relay.feed(ending)
    ask = an_ask()
    ask.request = REQUEST
    ask.hold()
    settle_stream_later(ask, model, relay)
    assert ask.bill.open == 1
    ask.leave()
    assert (ask.bill.input_tokens, ask.bill.output_tokens, ask.bill.how) == (*usage[:2], how)
    assert ask.bill.nano_dollars == model.metrics.cost.value == usage[0] * 1000 + usage[1] * 2000
    assert (ask.bill.calls, ask.bill.open) == (1, 0)
    assert (model.metrics.told.value, model.metrics.estimated.value) == ((1, 0) if how is How.TOLD else (0, 1))


def test_each_call_adds_to_what_was_there() -> None:
    """On the bill, in the metrics of the model, and among the answers that are on their way."""
    model, ask = _model(inputPerMillion=1, outputPerMillion=2), an_ask()
    ask.request = REQUEST
    ask.hold()
    for _ in range(2):
        settle_whole(ask.bill, model, REQUEST, Usage(5, 3), b"{}")
        settle_stream_later(ask, model, StreamRelay(strip_usage=True))
        settle_lost(ask.bill, model, REQUEST, [Tried(True)])
    assert (ask.bill.open, ask.bill.calls) == (2, 4)
    ask.leave()
    cells = model.metrics
    assert (ask.bill.open, ask.bill.calls, cells.told.value, cells.estimated.value) == (0, 6, 2, 4)
    assert (cells.input_tokens.value, cells.output_tokens.value) == (10 + 4 * PROMPT_TOKENS, 6)
    assert cells.cost.value == ask.bill.nano_dollars == 1000 * (10 + 4 * PROMPT_TOKENS) + 2000 * 6


WHOLE_ANSWER = b'{"choices":[{"message":{"content":"eightyes"}}]}'


@pytest.mark.parametrize(
    ("told", "usage", "how"),
    [
        (Usage(5, 3, 1, 1), Usage(5, 3), How.TOLD),
        (None, Usage(PROMPT_TOKENS, 2), How.ESTIMATED),
        (Usage(9, 0, bare=True), Usage(7, 2), How.TOLD),
    ],
)
def test_a_whole_answer_is_settled_as_told(told: Usage | None, usage: Usage, how: How) -> None:
    """A sum is parted by the text; what nobody told is estimated, and said to be."""
    bill = Bill()
    settle_whole(bill, _model(), REQUEST, told, WHOLE_ANSWER)
    assert (bill.input_tokens, bill.output_tokens, bill.how, bill.calls) == (usage[0], usage[1], how, 1)


@pytest.mark.parametrize(("size", "tokens"), [(MAX_SEARCHED_BYTES, 2), (MAX_SEARCHED_BYTES + 1, 0)])
def test_nonsense_is_searched_for_text_up_to_a_size(size: int, tokens: int) -> None:
    """A larger body is not read for it; what was no answer is none to reckon with later."""
    bill = Bill()
    settle_nonsense(bill, _model(), REQUEST, None, WHOLE_ANSWER.ljust(size))
    assert (bill.input_tokens, bill.output_tokens, bill.how) == (PROMPT_TOKENS, tokens, How.ESTIMATED)
    assert (bill.calls, bill.answer) == (1, None)


def test_what_a_lost_stream_has_said_is_charged_if_more_came() -> None:
    """Of what it told and what was seen the larger count, as of any answer that is not whole."""
    opening = StreamOpening(StreamRelay(strip_usage=True))
    opening.feed(frame({**delta("m", "x" * 40), "usage": {"prompt_tokens": 500, "completion_tokens": 7}}))
    bill = Bill()
    settle_lost(bill, _model(), REQUEST, [Tried(True, opening)])
    assert (bill.input_tokens, bill.output_tokens) == (500, 10)


def test_the_input_of_a_request_that_cannot_be_translated_is_what_the_client_sent() -> None:
    """Its document holds nothing of it; that of any other request is what the engine reads."""
    native, refusal = NativeRequest({"system": "x" * 40}), InvalidRequest("x")
    chat = {"messages": [{"role": "user", "content": "x" * 400}]}
    for untranslatable, spoken, tokens in (
        (refusal, native, 10), (refusal, None, PROMPT_TOKENS), (None, native, PROMPT_TOKENS),
        (None, None, PROMPT_TOKENS),
    ):  # fmt: skip
        asked = Request(
            ROUTE, chat, stream=False, usage_asked=False, native=spoken, untranslatable=untranslatable
        )  # fmt: skip
        assert asked_tokens(asked) == tokens


@pytest.mark.parametrize(("task", "tokens"), [(Task.SCORE, 1100), (Task.EMBED, 200)])
def test_a_query_is_on_the_bill_once_a_document_unless_the_model_makes_vectors(task: Task, tokens: int) -> None:
    """A cross encoder has read it so often, and an engine that does not say so has done it too."""
    bill, model = Bill(), Model(task=task)
    rerank = {"query": "q" * 400, "documents": ["d" * 40] * 10}
    asked = Request(Route("/v1/rerank", b"/rerank", frozenset((task,))), rerank, stream=False, usage_asked=False)
    settle_whole(bill, model, asked, None, b"{}")  # type: ignore[arg-type]
    assert bill.input_tokens == tokens


def test_attempts_in_vain_are_settled_each() -> None:
    """What was sent and failed, or lost a race, costs its prompt; what was refused or never sent costs nothing."""
    tried = [Tried(True), Tried(False), Tried(True), Tried(True)]
    bill, model = Bill(), _model(inputPerMillion=1)
    settle_lost(bill, model, REQUEST, tried)
    assert (bill.calls, bill.estimated) == (3, 3)
    assert bill.input_tokens == model.metrics.input_tokens.value == 3 * PROMPT_TOKENS
    assert bill.nano_dollars == 3 * PROMPT_TOKENS * 1000


def test_an_attempt_that_told_is_settled_by_that() -> None:
    """What the beginning of an answer told before it failed counts, where that is more than the estimate."""
    opening, silent = (StreamOpening(StreamRelay(strip_usage=True)) for _ in range(2))
    opening.feed(frame({**delta("m", ""), "usage": {"prompt_tokens": 500, "completion_tokens": 7}}))
    opening.feed(b"data: {]\n\n")
    assert opening.fault
    bill = Bill()
    settle_lost(bill, _model(), REQUEST, [Tried(True, opening), Tried(True, silent)])
    assert (bill.input_tokens, bill.output_tokens, bill.how) == (500 + PROMPT_TOKENS, 7, How.ESTIMATED)


@pytest.mark.parametrize(
    ("told", "usage"), [(None, (PROMPT_TOKENS, 3)), (Usage(9, 2), (9, 3)), (Usage(9, 40), (9, 40))]
)
def test_nonsense_is_settled_by_what_it_told(told: Usage | None, usage: tuple[int, int]) -> None:
    """An answer in one piece that is none costs what it told, or what can be read of it if that is more."""
    bill = Bill()
    settle_nonsense(bill, _model(), REQUEST, told, b'{"choices":[{"message":{"content":"Hello there"}}]}')
    assert (bill.input_tokens, bill.output_tokens, bill.how) == (*usage, How.ESTIMATED)


def test_cached_and_written_tokens_have_their_own_prices() -> None:
    """Of one prompt each part costs what it costs, and a price that nobody has said is none."""
    usage = Usage(100, 10, cached_tokens=60, written_tokens=30)
    model = _model(inputPerMillion=1, cachedInputPerMillion=0.1, cacheWritePerMillion=1.25, outputPerMillion=5)
    bill = Bill()
    settle_whole(bill, model, REQUEST, usage, b"{}")
    assert bill.nano_dollars == 10 * 1000 + 60 * 100 + 30 * 1250 + 10 * 5000
    free = Bill()
    settle_whole(free, _model(), REQUEST, usage, b"{}")
    assert (free.nano_dollars, free.priced, free.input_tokens) == (0, False, 100)


def test_a_whole_answer_without_usage_is_estimated() -> None:
    """An engine that tells nothing is no engine that is free."""
    body = b'{"choices":[{"message":{"content":"Hello there"},"finish_reason":"stop"}]}'
    bill = Bill()
    settle_whole(bill, _model(), REQUEST, None, body)
    assert (bill.input_tokens, bill.output_tokens, bill.how) == (PROMPT_TOKENS, 3, How.ESTIMATED)


def test_what_was_settled_stays_when_the_request_fails() -> None:
    """A request that fails, or whose client leaves, after calls that were settled has cost what they cost; once."""
    ask = an_ask()
    ask.hold()
    ask.bill.add(Usage(1, 1), How.TOLD, 250)
    child = ask.fork()
    child.bill.add(Usage(2, 2), How.TOLD, 50)
    ask.leave()
    ask.end()
    assert (ask.bill.calls, ask.bill.nano_dollars) == (2, 300)
    assert ask.fork(settles=True).bill is not ask.bill


def test_attempts_in_vain_are_no_answers() -> None:
    """What is expected of the next member of a cascade follows from the newest answer, not from what was lost."""
    bill, model = Bill(), _model(inputPerMillion=1, outputPerMillion=2)
    settle_whole(bill, model, REQUEST, Usage(5, 7), b"{}")
    settle_lost(bill, model, REQUEST, [Tried(True)])
    assert (bill.calls, bill.answer) == (2, Usage(5, 7))


def test_every_way_a_call_ends_its_sound_is_paid() -> None:
    """Heard, streamed, answered with nonsense, or sent in vain: where no length was told, by the file's."""
    route = Route("/v1/audio/transcriptions", b"/audio/transcriptions", frozenset((Task.TRANSCRIBE,)), form=True)
    form = Form(b"b", "file.mp3", b"audio/mpeg", memoryview(bytes(7680 * 3)))
    asked = Request(route, {"model": "m"}, stream=True, usage_asked=False, form=form)
    model, ask = _model(audioInputPerMinute=0.6), an_ask()
    ask.request = asked
    ask.hold()
    settle_stream_later(ask, model, TranscriptRelay())
    ask.leave()
    settle_whole(ask.bill, model, asked, Usage(50, 9), b"{}")
    settle_nonsense(ask.bill, model, asked, None, b"{}")
    settle_lost(ask.bill, model, asked, [Tried(True)])
    assert [price for _, _, _, price, _ in ask.bill.settled] == [3 * 10_000_000] * 4
    settle_whole(ask.bill, model, asked, Usage(50, 9, sound_seconds=1), b"{}")
    assert ask.bill.settled[-1][3] == 10_000_000
