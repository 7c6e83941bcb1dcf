"""Whatever a client sends in another dialect, it is translated or refused with the path of a field."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.dialects.clients import messages_request, responses_request
from capstan_gateway.dialects.upstreams.anthropic_request import to_messages_request
from capstan_gateway.errors import InvalidRequest

GOLDEN = Path(__file__).parents[2] / "golden/dialects"
TRANSLATE = {
    "chat_to_messages": lambda document: to_messages_request(document, model="claude-x"),
    "messages_to_chat": messages_request.to_chat_request,
    "responses_to_chat": responses_request.to_chat_request,
}
GIVEN = {name: json.loads((GOLDEN / f"{name}.json").read_text())["given"] for name in TRANSLATE}
LEAF = st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=False) | st.sampled_from(["", "x", "text"])
JUNK = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner), max_leaves=4
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Give the path of every value in a document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def refusal_of(name: str, document: Any) -> InvalidRequest | None:
    """Translate a document; give the refusal, if it is refused."""
    try:
        TRANSLATE[name](document)
    except InvalidRequest as error:
        return error
    return None


@pytest.mark.parametrize("name", TRANSLATE)
@given(data=st.data())
def test_junk_is_refused_with_a_path(name: str, data: st.DataObject) -> None:
    """A request with any one value replaced by anything, or missing, never fails in another way than a refusal."""
    document = deepcopy(GIVEN[name])
    *parents, key = data.draw(st.sampled_from(places(document)))
    holder = document
    for step in parents:
        holder = holder[step]
    if data.draw(st.booleans()):
        holder[key] = data.draw(JUNK)
    else:
        del holder[key]
    refusal = refusal_of(name, document)
    assert refusal is None or (refusal.status == 400 and refusal.param)
