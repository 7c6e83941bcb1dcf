"""What is kept of a request holds nothing that was kept from an engine."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.pipeline.replaced import Replaced, Value


def replaced(*texts: tuple[str, str], **values: str) -> Replaced:
    """Give what became of texts, with a placeholder for each value."""
    one = Replaced()
    one.note(texts, [Value(word, word, f"[{name}]") for name, word in values.items()])
    return one


def test_a_text_that_was_rewritten_is_what_it_became() -> None:
    """What an engine was sent is kept where the same text stands; all others lose the values."""
    one = replaced(("cat in category", "[K] in category"), K="cat")
    document = {"input": [{"content": "cat in category"}, {"content": "a cat"}]}
    assert one.rewritten([document], document) == [{"input": [{"content": "[K] in category"}, {"content": "a [K]"}]}]


def test_what_two_policies_made_of_a_text_is_made_of_it() -> None:
    """One after the other: the last is kept. Beside each other (two members): what either has replaced."""
    chain = replaced(("a b", "[A] b"), A="a")
    chain.note([("[A] b", "[A] [B]")], [Value("b", "b", "[B]")])
    assert chain.rewritten(["a b"], "a b") == ["[A] [B]"]
    both = replaced(("a b", "[A] b"), A="a")
    both.note([("a b", "a [B]")], [Value("b", "b", "[B]")])
    assert both.rewritten(["a b"], "a b") == ["[A] [B]"]


def test_what_is_not_there_keeps_all_from_being_kept() -> None:
    """A value that the client's own document has not in one text may be there in another way."""
    assert replaced(A="falcon").rewritten(["fal", "con"], ["fal", "con"]) is None


def test_a_value_may_stand_there_with_or_without_escapes() -> None:
    """Arguments of calls are source of JSON in one API and a text in the other."""
    one = Replaced()
    one.note((), [Value("a\\u0062c", "abc", "[A]")])
    assert one.rewritten(["x abc a\\u0062c"], ["abc"]) == ["x [A] [A]"]


def test_of_the_api_itself_nothing_is_replaced() -> None:
    """Ids by which responses go on stay as they are, whatever an expression finds in them; other texts do not."""
    item = {"id": "msg_0123456789abc", "type": "message", "role": "user", "content": "message user"}
    one = replaced(A="s")
    (kept,) = one.rewritten([item], item) or [{}]
    assert kept == {**item, "content": "me[A][A]age u[A]er"}
    odd = {"id": "ann s@example.com", "role": "a s"}
    assert one.rewritten([odd], odd) == [{"id": "ann [A]@example.com", "role": "a [A]"}]


@pytest.mark.parametrize("depth", [3, 5000])
def test_depth_is_no_trouble(depth: int) -> None:
    """However deep a text is."""
    value: Any = "falcon"
    for _ in range(depth):
        value = [value]
    (found,) = replaced(A="falcon").rewritten([value], value) or [None]
    while isinstance(found, list):
        (found,) = found
    assert found == "[A]"


@given(
    st.lists(st.text("abc ", min_size=1, max_size=4), min_size=1, max_size=4, unique=True),
    st.lists(st.text("abc ", max_size=12), max_size=4),
)
def test_no_value_is_left(values: list[str], texts: list[str]) -> None:
    """Whatever stood in what, no value is in anything that is kept, and nothing is lost beside them."""
    one = Replaced()
    one.note((), [Value(value, value, f"[{number}]") for number, value in enumerate(values)])
    document = [*texts, *values]
    (kept,) = one.rewritten([document], document) or [[]]
    for text, was in zip(kept, document, strict=True):
        back = text
        for number, value in enumerate(values):
            assert not any(value in part for part in re.split(r"\[\d+\]", text))
            back = back.replace(f"[{number}]", value)
        assert back == was
