"""Equal parts of many objects become one object, and nothing that differs does."""

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from capstan_operator.resources.sharing import LONGEST, Sharing

LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 1.0, 2.5]) | st.text(max_size=2)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
)


class Inner(BaseModel):
    """A part."""

    model_config = ConfigDict(frozen=True)

    value: int | float | bool | str | None = None
    name: str = "x"


class Outer(BaseModel):
    """A part with parts."""

    model_config = ConfigDict(frozen=True)

    first: Inner = Inner()
    more: tuple[Inner, ...] = ()
    free: dict[str, Any] | None = None


@given(st.lists(VALUES, max_size=6), st.integers(1, 3))
def test_json_says_what_it_said(values: list[Any], most: int) -> None:
    """However small the tables are, what is shared is the same text as before, number types included."""
    sharing = Sharing(most=most)
    for value in values * 2:
        before = copy.deepcopy(value)
        assert json.dumps(sharing.json(value)) == json.dumps(before)
        assert value == before


def _inner() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={"value": LEAVES, "name": st.sampled_from("xy")})


OUTER = st.fixed_dictionaries(
    {}, optional={"first": _inner(), "more": st.lists(_inner(), max_size=2), "free": st.just({"a": 1})}
)


@given(st.lists(OUTER, max_size=8), st.integers(1, 3))
def test_a_part_says_what_it_said(contents: list[dict[str, Any]], most: int) -> None:
    """Values, their types and which fields were set are those of the part that came in."""
    sharing = Sharing(most=most)
    for content in contents * 2:
        shared, plain = sharing.part(Outer.model_validate(content)), Outer.model_validate(content)
        assert shared.model_dump_json() == plain.model_dump_json()
        assert shared.model_dump_json(exclude_unset=True) == plain.model_dump_json(exclude_unset=True)


def test_equal_parts_are_one_object() -> None:
    """Also deep within, and in tuples."""
    sharing = Sharing()
    one, other = (sharing.part(Outer(first=Inner(value=1), more=(Inner(name="y"),))) for _ in range(2))
    assert one is other
    third = sharing.part(Outer(more=(Inner(name="y"), Inner(value=1))))
    assert third.more[0] is one.more[0]
    assert third.more[1] is one.first


def test_what_only_seems_equal_is_not_shared() -> None:
    """1, 1.0 and True are three values, and a field that was set to its default is not one that was not set."""
    sharing = Sharing()
    parts = [
        sharing.part(part) for part in (Inner(value=1), Inner(value=1.0), Inner(value=True), Inner(), Inner(name="x"))
    ]
    assert len({id(part) for part in parts}) == 5


def test_a_copy_of_a_shared_part_is_its_own() -> None:
    """Which fields are set in a copy is said of the copy alone."""
    sharing = Sharing()
    one, other = sharing.part(Inner(value=1)), sharing.part(Inner(value=2))
    changed = one.model_copy(update={"name": "z"})
    assert changed.model_fields_set == {"value", "name"}
    assert one.model_fields_set == other.model_fields_set == {"value"}


def test_the_tables_are_bounded() -> None:
    """Whatever comes, no more is remembered than was said."""
    sharing = Sharing(most=4)
    for number in range(100):
        sharing.json({"n": str(number)})
        sharing.part(Inner(value=number))
    assert all(len(table) <= 4 for table in vars(sharing).values() if isinstance(table, dict))


def test_what_is_long_is_kept_by_nobody_else() -> None:
    """A long text, and every part that holds one, is not shared: a table would keep it when its model is gone."""
    sharing = Sharing()
    long = "x" * (LONGEST + 1)
    kept = [sharing.json(copy.deepcopy({"a": {"b": long}, long: 1, "c": [long]})) for _ in range(2)]
    assert kept[0] == kept[1]
    assert kept[0]["a"] is not kept[1]["a"]
    inner = Inner(name=long)
    assert sharing.part(inner) is inner
    assert sharing.part(Inner(name=long)) is not inner
    for outer in (Outer(first=inner), Outer(more=(inner,)), Outer(free={"a": [long]})):
        assert sharing.part(outer) is outer
        assert sharing.part(outer.model_copy(deep=True)) is not outer
    short = Outer(first=Inner(name="x" * LONGEST))
    assert sharing.part(short) is sharing.part(short.model_copy(deep=True))
