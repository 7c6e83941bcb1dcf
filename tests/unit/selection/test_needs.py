"""What a request needs, and what is said when no model has it."""

from typing import Any

import pytest

from capstan_contract.config import Capability, Price, PriceTier
from capstan_gateway.selection.filters import Member, narrow
from capstan_gateway.selection.needs import read_needs
from capstan_gateway.selection.order import estimated_cost
from support.selection import PlainModel

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4000}}
SOUND = {"type": "input_audio", "input_audio": {"data": "B" * 4000, "format": "wav"}}


def _chat(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts) or "Hello"}], **fields}


@pytest.mark.parametrize(
    ("document", "needed"),
    [
        (_chat(), set()),
        (_chat(tools=[]), set()),
        (_chat(tools=[{"type": "function"}]), {Capability.TOOLS}),
        (_chat(PICTURE), {Capability.VISION}),
        (_chat(SOUND), {Capability.AUDIO}),
        (_chat(modalities=["text", "audio"]), {Capability.AUDIO}),
        (_chat(response_format={"type": "json_object"}), set()),
        (_chat(response_format={"type": "json_schema", "json_schema": {}}), {Capability.JSON_SCHEMA}),
        (_chat(PICTURE, tools=[{}]), {Capability.VISION, Capability.TOOLS}),
        ({"messages": "?", "modalities": 3, "response_format": "json"}, set()),
        ({"prompt": "Hello"}, set()),
    ],
)
def test_capabilities_are_read(document: dict[str, Any], needed: set[Capability]) -> None:
    """Tools, pictures, sounds and schemas need a capability; fields of a wrong type need nothing."""
    assert read_needs(document, 100).capabilities == needed


def test_parts_of_no_type_need_nothing() -> None:
    """What stands for the type of a part may be anything: the model's engine refuses it, and no router fails."""
    for kind in (["image_url"], {"a": 1}, None, 5):
        assert read_needs(_chat({"type": kind, "text": "x"}), 100).capabilities == frozenset()


def test_pictures_are_not_text() -> None:
    """The bytes of a picture or a sound do not count as tokens of the prompt."""
    needs = read_needs(_chat(PICTURE, SOUND, {"type": "text", "text": "what?"}), 8400)
    assert needs.prompt_tokens < 100


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ({"max_tokens": "x"}, None),
    ],
)
def test_the_limit_of_the_answer_is_read(fields: dict[str, Any], limit: int | None) -> None:
    """The newer name wins, and no limit is none."""
    assert read_needs(_chat(**fields), 10).max_tokens == limit


def test_the_explanation_names_the_filter() -> None:
    """It says how many models there are, and which condition left none of them."""
    members = [Member(PlainModel(name, frozenset((Capability.TOOLS,)))) for name in "abc"]
    narrowed = narrow(members, read_needs(_chat(PICTURE, tools=[{}]), 100), serves="serve chat")
    assert narrowed.explanation == "3 models serve chat, 0 of them can do vision"


def test_estimates_exclude_only_what_surely_does_not_fit() -> None:
    """A prompt that may fit is let through; one that is too long at any measure, or too long an answer, is not."""
    members = [Member(PlainModel("small", context_window=1000, max_output_tokens=200))]

    def fits(size: int, **fields: Any) -> bool:
        return bool(narrow(members, read_needs(_chat(**fields), size), serves="serve chat").members)

    assert fits(6000)
    assert not fits(8100)
    assert fits(100, max_tokens=200)
    assert not fits(100, max_tokens=201)


def test_unknown_prices_have_no_estimate() -> None:
    """No price is not a price of zero."""
    assert estimated_cost(None, read_needs(_chat(), 100)) is None


def test_a_long_prompt_is_estimated_by_its_tier() -> None:
    """What a model costs above a bound of the input decides about requests that are above it."""
    tiers = (PriceTier(aboveInputTokens=100, inputPerMillion=10),)
    price = Price(inputPerMillion=1, outputPerMillion=0, tiers=tiers)
    short, long = (read_needs(_chat(), size) for size in (400, 4000))
    assert short.prompt_tokens <= 100 < long.prompt_tokens
    assert estimated_cost(price, short) == short.prompt_tokens * 1 / 1e6
    assert estimated_cost(price, long) == long.prompt_tokens * 10 / 1e6


def test_sound_is_estimated_at_what_it_costs() -> None:
    """By its tokens or its time, whatever the price says; it takes no room of a context window."""
    needs = read_needs({"model": "m"}, 0, 768_000)
    assert (needs.sound_tokens, needs.prompt_tokens) == (1000, 0)
    assert estimated_cost(Price(audioInputPerMinute=0.6, outputPerMillion=0), needs) == pytest.approx(1.0)
    assert estimated_cost(Price(inputPerMillion=1, outputPerMillion=0), needs) == pytest.approx(0.001)
    assert estimated_cost(Price(inputPerMillion=1, audioInputPerMillion=5), needs) == pytest.approx(0.005)
