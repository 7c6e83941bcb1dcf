"""What a request will probably use and cost, before it is sent."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from capstan_contract.config import Price, RouterMember, StickyBy, Strategy, Task
from capstan_gateway.config.runtime import Runtime
from capstan_gateway.dialects.clients.forms import Form
from capstan_gateway.errors import InvalidRequest
from capstan_gateway.pipeline.estimates import (
    CostBound,
    MeanOutputs,
    asked_output,
    cost,
    output_tokens,
    with_sound,
)
from capstan_gateway.pipeline.options import Options, caller_bound
from capstan_gateway.pipeline.request import Request, Route
from capstan_gateway.selection.filters import Member
from capstan_gateway.selection.needs import USUAL_OUTPUT_TOKENS
from capstan_gateway.selection.plan import RouterPlan
from capstan_gateway.tokens.usage import Usage
from support.asks import CHAT
from support.served import a_model

MEANS = MeanOutputs()
VECTORS = Route("/v1/embeddings", b"/embeddings", frozenset((Task.EMBED,)), ("input",))


def request(route: Route = CHAT, **document: Any) -> Request:
    """Give a request."""
    return Request(route, {"model": "m", **document}, stream=False, usage_asked=False)


def test_vectors_have_no_output() -> None:
    """Whatever the request says."""
    assert asked_output(request(VECTORS, max_tokens=9)) == 0
    assert output_tokens(request(VECTORS), a_model("m", maxOutputTokens=5), MEANS) == 0


@pytest.mark.parametrize(
    ("document", "most", "tokens"),
    [
        ({"max_tokens": 7}, None, 7),
        ({"max_tokens": 7}, 100, 7),
        ({"max_tokens": 700}, 100, 100),
        ({"max_tokens": 700, "n": 2}, 100, 200),
        ({}, 100, 100),
        ({"n": 2}, 100, 200),
        ({}, None, USUAL_OUTPUT_TOKENS),
    ],
)
def test_what_the_model_gives(document: dict[str, Any], most: int | None, tokens: int) -> None:
    """Never more than its own maximum; that where the client says nothing, else what is usual."""
    assert output_tokens(request(**document), a_model("m", maxOutputTokens=most), MEANS) == tokens


def test_means_follow_what_was_measured() -> None:
    """A moving average of whole tokens that small numbers move too; bounded, and of the models that there are."""
    means = MeanOutputs(limit=2)
    means.observe("a", 100)
    assert means.of("a") == 100
    for _ in range(50):
        means.observe("a", 3)
    assert 1 <= means.of("a") <= 4
    means.observe("zero", 0)
    assert means.of("zero") == 1
    means.observe("b", 10)
    assert means.of("a") == USUAL_OUTPUT_TOKENS
    means.retain(("b",))
    assert (means.of("zero"), means.of("b")) == (USUAL_OUTPUT_TOKENS, 10)


def dollars(amount: float) -> Price:
    """Give a price of so many dollars for a million tokens of either kind."""
    return Price(inputPerMillion=amount, outputPerMillion=amount)


CHEAP, DEAR, UNKNOWN = a_model("cheap", price=dollars(1)), a_model("dear", price=dollars(10)), a_model("unknown")


def router(*members: Any) -> tuple[Runtime, Any]:
    """Give a runtime that knows a router of these members, and that router."""
    model = a_model("router")
    model.plan = RouterPlan(Strategy.CHEAPEST, StickyBy.USER, tuple(RouterMember(model=one.id) for one in members))
    return cast(Runtime, SimpleNamespace(members=lambda *_: tuple(map(Member, members)))), model


def test_a_virtual_model_costs_what_its_dearest_member_does() -> None:
    """Nobody knows when nobody knows that of a member; of those with a price alone it is known of one at least."""
    asked = request(max_tokens=900)
    runtime, model = router(CHEAP, DEAR)
    assert cost(asked, runtime, CHEAP, 100, MEANS) == 1_000_000
    assert cost(asked, runtime, model, 100, MEANS) == 10_000_000
    runtime, model = router(CHEAP, UNKNOWN)
    assert cost(asked, runtime, UNKNOWN, 100, MEANS) is None
    assert cost(asked, runtime, model, 100, MEANS) is None
    assert cost(asked, runtime, model, 100, MEANS, known_only=True) == 1_000_000
    runtime, model = router(UNKNOWN)
    assert cost(asked, runtime, model, 100, MEANS, known_only=True) is None


@pytest.mark.parametrize(("most", "allowed"), [(999_999, []), (1_000_000, ["cheap"]), (None, ["cheap", "dear"])])
def test_a_bound_leaves_out_what_costs_more_or_an_unknown_price(most: int | None, allowed: list[str]) -> None:
    """Without an amount only the unknown."""
    asked, bound = request(max_tokens=900), CostBound(most, 100, MEANS)
    runtime = router()[0]
    assert [model.name for model in (CHEAP, DEAR, UNKNOWN) if bound.allows(asked, runtime, model)] == allowed


@pytest.mark.parametrize(
    ("options", "most"),
    [
        (Options(), None),
        (Options(max_cost=5), 5),
        (Options(max_cost_header=b"0.00000001"), 10),
        (Options(max_cost=5, max_cost_header=b"1"), 5),
        (Options(max_cost=5, max_cost_header=b"0"), 0),
    ],
)
def test_the_lower_one_of_field_and_header_holds(options: Options, most: int | None) -> None:
    """In nano-dollars."""
    assert caller_bound(options) == most


@pytest.mark.parametrize("said", [b"?", b"-1", b"1e3", b"0x1", b"nan", b"\xff", b"10000000"])
def test_a_header_that_is_no_amount_is_refused(said: bytes) -> None:
    """By its name."""
    with pytest.raises(InvalidRequest, match="x-capstan-max-cost") as caught:
        caller_bound(Options(max_cost_header=said))
    assert caught.value.param == "x-capstan-max-cost"


HEARD = Route("/v1/audio/transcriptions", b"/audio/transcriptions", frozenset((Task.TRANSCRIBE,)), form=True)


def form(size: int, **document: Any) -> Request:
    """Give a request with a file of so many bytes."""
    file = Form(b"b", "file.mp3", b"audio/mpeg", memoryview(bytes(size)))
    return Request(HEARD, {"model": "m", **document}, stream=False, usage_asked=False, form=file)


def test_sound_is_priced_as_sound_before_it_is_heard() -> None:
    """By the size of its file, a second for each 7,680 bytes that it has begun: its tokens as those of sound, and its
    time where that has a price."""
    ears = a_model("ears", price=Price(inputPerMillion=1, audioInputPerMillion=3, audioInputPerMinute=0.6))
    assert cost(form(76_800), router()[0], ears, 100, MEANS) == 100 * 3000 + 10 * 10_000_000
    assert cost(form(76_801), router()[0], ears, 101, MEANS) == 101 * 3000 + 11 * 10_000_000
    assert cost(form(76_800), router()[0], ears, 130, MEANS) == 100 * 3000 + 30 * 1000 + 10 * 10_000_000


def test_what_was_told_of_sound_counts_before_its_file() -> None:
    """How long it is, and how many tokens; of a request without a file there is none."""
    told = Usage(50, 1, audio_tokens=7, sound_seconds=2)
    assert with_sound(told, form(76_800)) == told
    assert with_sound(Usage(50, 1), form(76_800)) == Usage(50, 1, audio_tokens=100, sound_seconds=10)
    assert with_sound(Usage(50, 1), request()) == Usage(50, 1)
