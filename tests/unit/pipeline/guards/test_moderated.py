"""What /v1/moderations reads and writes."""

from typing import Any

import pytest

from capstan_gateway.errors import InvalidRequest
from capstan_gateway.guards.prompts.openai import CATEGORIES
from capstan_gateway.pipeline.guards.moderated import MOST_INPUTS, answer_of, inputs_of


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("a", ["a"]), (["a", "b"], ["a", "b"]), ("", [""]),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], ["a\n\nb"]),
    ],
)  # fmt: skip
def test_inputs(given: Any, texts: list[str]) -> None:
    """A list of texts has a result each, one of parts has one together."""
    assert inputs_of({"input": given}) == texts


@pytest.mark.parametrize(
    ("given", "param"),
    [
        (None, "input"), ([], "input"), (3, "input"), ({}, "input"), (["a"] * (MOST_INPUTS + 1), "input"), (["a", 3], "input.0"),
        ([{"type": "image_url", "image_url": {"url": "data:,"}}], "input.0"), ([{"type": "text"}], "input.0"),
        ([{"type": "text", "text": "a"}, {"type": "audio"}], "input.1"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_at_is_refused(given: Any, param: str) -> None:
    """By its place. An image is not passed over in silence."""
    with pytest.raises(InvalidRequest) as refused:
        inputs_of({"input": given})
    assert refused.value.param == param


def test_the_answer_has_openais_categories_and_the_models_own() -> None:
    """What a model calls otherwise is said in the nearest of the thirteen as well."""
    answer = answer_of("r1", "m", [([("violent-crimes", 0.9)], {"violent-crimes": 0.9, "hate": 0.2}), ([], {})])
    first, second = answer["results"]
    assert (answer["id"], answer["model"]) == ("modr-r1", "m")
    assert first["flagged"] is True
    assert {name for name, there in first["categories"].items() if there} == {
        "violent-crimes",
        "violence",
        "illicit/violent",
    }
    assert (first["category_scores"]["violence"], first["category_scores"]["hate"]) == (0.9, 0.2)
    assert (second["flagged"], set(second["categories"]), any(second["categories"].values())) == (
        False,
        set(CATEGORIES),
        False,
    )
    assert first["category_applied_input_types"]["violence"] == ["text"]
