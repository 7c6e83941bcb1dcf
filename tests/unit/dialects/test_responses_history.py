"""What is kept of a conversation of the Responses API, and how it goes on."""

from typing import Any

import pytest

from capstan_gateway.dialects.clients.responses_history import continued, hosted_items, kept_items
from capstan_gateway.dialects.clients.spoken import RESPONSES

Document = dict[str, Any]


def test_a_text_is_a_users_message() -> None:
    """Input that is one text is kept as the message that it means, with an id."""
    assert kept_items({"input": "Hi"}, "n") == [
        {
            "type": "message", "role": "user", "id": "msg_n_i0", "status": "completed",
            "content": [{"type": "input_text", "text": "Hi"}],
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("role", "part"),
    [
        ("user", {"type": "input_text", "text": "x"}),
        ("system", {"type": "input_text", "text": "x"}),
        ("developer", {"type": "input_text", "text": "x"}),
        ("assistant", {"type": "output_text", "text": "x", "annotations": [], "logprobs": []}),
    ],
)
def test_messages_are_kept_in_parts(role: str, part: Document) -> None:
    """A message whose content is a text is listed with the part that its role has; one in parts stays as it is."""
    [kept] = kept_items({"input": [{"role": role, "content": "x"}]}, "n")
    assert (kept["type"], kept["content"], kept["status"]) == ("message", [part], "completed")
    given = {"role": role, "content": [part], "status": "incomplete", "phase": "commentary"}
    assert kept_items({"input": [given]}, "n") == [{**given, "type": "message", "id": "msg_n_i0"}]


def test_every_item_has_an_id_of_its_kind() -> None:
    """Ids that came stay; the others are made of the response's number, each another one."""
    items: list[Document] = [
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "fc_own"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
        {"type": "reasoning", "summary": []},
        {"type": "additional_tools", "tools": []},
    ]
    kept = kept_items({"input": items}, "n")
    assert [item["id"] for item in kept] == ["fc_own", "fco_n_i1", "rs_n_i2", "item_n_i3"]
    assert [{key: item[key] for key in given} for item, given in zip(kept, items, strict=True)] == items
    assert "status" not in kept[1]


@pytest.mark.parametrize("given", [None, "", 5, {"a": 1}, ["x"]])
def test_ids_that_are_none_are_replaced(given: Any) -> None:
    """Whatever a client writes for an id, an item that is kept has a text for one."""
    assert kept_items({"input": [{"role": "user", "content": "x", "id": given}]}, "n")[0]["id"] == "msg_n_i0"


def test_nothing_is_kept_of_no_input() -> None:
    """A request that only goes on has no items of its own."""
    assert kept_items({}, "n") == kept_items({"input": None}, "n") == []


def test_earlier_turns_come_first() -> None:
    """The new input follows the earlier items, whatever form it has; all else of the request stays, and it is not
    changed itself."""
    earlier: list[Document] = [{"role": "user", "content": "a"}]
    for given in ("b", [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "b"}]}]):
        document: Document = {"model": "m", "input": given, "instructions": "x"}
        whole = continued(document, earlier)
        said = [(message["role"], message["content"]) for message in RESPONSES.read_request(whole)["messages"]]
        assert said == [("system", "x"), ("user", "a"), ("user", "b")]
        assert (document["input"], len(earlier)) == (given, 1)
    assert continued({"model": "m"}, earlier)["input"] == earlier
    assert continued({"model": "m", "input": 5}, earlier)["input"] == 5


def test_what_was_kept_says_what_was_said() -> None:
    """A conversation of all kinds of items is the same chat after it was kept as it was before."""
    items: list[Document] = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:x"}],
        },
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"role": "assistant", "content": "b"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "d", "name": "g", "input": "x"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "1"}]},
        {"type": "custom_tool_call_output", "call_id": "d", "output": "2"},
    ]
    document: Document = {"model": "m", "input": items}
    kept = {**document, "input": kept_items(document, "n")}
    assert RESPONSES.read_request(kept) == RESPONSES.read_request(document)


def test_a_hosted_api_is_not_told_our_ids() -> None:
    """It would look for them among its own; others' thoughts it refuses, its own, encrypted, it takes."""
    items: list[Document] = [
        {"type": "reasoning", "id": "rs_1", "content": [{"type": "reasoning_text", "text": "Hm."}], "summary": []},
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "xyz"},
        {"type": "reasoning", "id": "rs_3", "summary": [], "encrypted_content": "capstan1.e30="},
        {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": []},
    ]
    assert hosted_items(items) == [
        {"type": "reasoning", "summary": [], "encrypted_content": "xyz"},
        {"type": "message", "role": "assistant", "content": []},
    ]
