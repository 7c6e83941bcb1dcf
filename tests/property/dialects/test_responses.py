"""Tools of the Responses API: whatever comes, nothing is lost, and nothing becomes another tool's."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.dialects.clients.responses_arguments import InputText, input_text
from capstan_gateway.dialects.clients.responses_items import call_item
from capstan_gateway.dialects.clients.responses_request import to_chat_request
from capstan_gateway.dialects.clients.responses_tools import Tools
from capstan_gateway.dialects.clients.spoken import RESPONSES
from capstan_gateway.errors import InvalidRequest
from fakes.openai_upstream import completion
from support.dialects import read_responses

Document = dict[str, Any]
ROUGH = st.text(alphabet='{}"\\:,u{d8e3 \n\tinput\U0001f600\u00e4', max_size=24)
ARGUMENTS = ROUGH | ROUGH.map(lambda text: '{"input":"' + text) | ROUGH.map(lambda text: f'{{"input": "{text}"}}')


def fed(pieces: list[str]) -> str:
    """Read arguments that come in these pieces."""
    reader = InputText()
    return "".join(map(reader.feed, pieces)) + reader.finish()


def cut(data: st.DataObject, whole: str) -> list[str]:
    """Cut a text anywhere."""
    at = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    return [whole[start:end] for start, end in zip([0, *at], [*at, len(whole)], strict=True)]


@given(st.data(), st.text(), st.booleans(), st.sampled_from([None, 1]))
def test_input_is_read_as_json_says(data: st.DataObject, text: str, ascii_only: bool, indent: int | None) -> None:
    """The text of well-formed arguments is the string's, however they were cut and escaped."""
    arguments = json.dumps({"input": text}, ensure_ascii=ascii_only, indent=indent)
    assert fed(cut(data, arguments)) == text


@given(st.data(), ARGUMENTS)
def test_input_does_not_depend_on_the_cuts(data: st.DataObject, arguments: str) -> None:
    """Arguments of every kind, also what is no JSON, give the same text in every chunking, and one that can be sent."""
    text = fed(cut(data, arguments))
    assert text == fed(list(arguments)) == input_text(arguments)
    text.encode()


@given(ROUGH, st.dictionaries(st.sampled_from(["a", "b"]), ROUGH, min_size=1, max_size=2))
def test_further_members_are_no_text(text: str, others: Document) -> None:
    """Members beside `input` are not taken for a part of it, where the whole is JSON."""
    assert input_text(json.dumps({"input": text, **others})) == text
    assert input_text(json.dumps({**others, "input": text})) == text


NAMES = st.sampled_from(["a", "b", "a__b", "mcp__x", "mcp.x", "tool_search", "local_shell", "n" * 63, "n" * 64])
PLAIN = st.fixed_dictionaries({"type": st.sampled_from(["function", "custom"]), "name": NAMES})
HOSTED = st.sampled_from(["web_search", "web_search_preview_2025_03_11", "file_search", "mcp"]).map(
    lambda kind: {"type": kind}
)
SPACES = st.fixed_dictionaries(
    {"type": st.just("namespace"), "name": NAMES, "description": st.text(max_size=3)},
    optional={"tools": st.lists(PLAIN | HOSTED, max_size=3)},
)
OTHERS = st.sampled_from([{"type": "tool_search", "execution": "client"}, {"type": "local_shell"}])
TOOLS = st.lists(PLAIN | HOSTED | SPACES | OTHERS, max_size=5)


@given(TOOLS, TOOLS)
def test_names_survive_the_way_there_and_back(tools: list[Document], more: list[Document]) -> None:
    """Every tool has a function of its own, whose calls are calls of that tool, by its own name, again."""
    request = {"model": "m", "input": [{"role": "user", "content": "x"}, {"type": "additional_tools", "tools": more}]}
    request["tools"] = tools
    sent = [tool["function"]["name"] for tool in to_chat_request(request).get("tools", ())]
    table = Tools.of(request)
    assert len(set(sent)) == len(sent) == len(table.tools)
    for tool, name in zip(table.tools, sent, strict=True):
        arguments = '{"command":["ls"]}'
        item = call_item("1", 0, "c", name, arguments, "completed", table.by_chat_name.get(name))
        kind = item["type"].removesuffix("_call").removesuffix("_tool")
        assert kind == tool.kind.value
        if "name" in item:
            assert (item["name"], item.get("namespace")) == (tool.name, tool.namespace)
        # The next request has the call in its history, by the same name.
        back = to_chat_request({**request, "input": [*request["input"], item]})["messages"][-1]
        assert back["tool_calls"][0]["function"]["name"] == name


JUNK = st.none() | st.integers(-1, 2) | st.sampled_from(["", "x", "auto", []]) | st.just({"type": "input_text"})
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,QUJD"}
PART = st.sampled_from([{"type": "input_text", "text": "t"}, IMAGE, {"type": 5}])
ITEMS = st.fixed_dictionaries(
    {
        "type": st.sampled_from([
            "message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output",
            "local_shell_call", "local_shell_call_output", "tool_search_call", "tool_search_output", "additional_tools",
            "reasoning", "web_search_call", "item_reference", "nothing",
        ])
    },
    optional={
        "call_id": NAMES | JUNK, "name": NAMES | JUNK, "namespace": NAMES | JUNK, "input": ROUGH | JUNK,
        "arguments": ROUGH | JUNK, "tools": TOOLS | JUNK, "role": st.sampled_from(["user", "assistant", "tool"]) | JUNK,
        "content": ROUGH | st.lists(PART, max_size=2) | JUNK, "output": ROUGH | st.lists(PART, max_size=3) | JUNK,
        "action": st.fixed_dictionaries({"command": st.just(["ls"]) | JUNK}) | JUNK,
    },
)  # fmt: skip
CHOICES = (
    st.sampled_from(["auto", "none", "required"])
    | st.fixed_dictionaries({"type": st.sampled_from(["function", "custom", "web_search"]), "name": NAMES | JUNK})
    | st.fixed_dictionaries(
        {"type": st.just("allowed_tools"), "mode": st.just("auto"), "tools": st.lists(PLAIN, max_size=2) | JUNK}
    )
)


def refusal_of(request: Document) -> InvalidRequest | None:
    """Translate a request; give the refusal, if it is refused."""
    try:
        json.dumps(to_chat_request(request))
    except InvalidRequest as error:
        return error
    return None


@given(st.lists(ITEMS, max_size=5), TOOLS | JUNK, CHOICES | JUNK, st.lists(st.tuples(NAMES, ARGUMENTS), max_size=3))
def test_any_history_is_answered_or_refused(
    items: list[Document], tools: Any, choice: Any, calls: list[tuple[str, str]]
) -> None:
    """A request with anything in its tools and its history is refused with a path, or its answer can be written."""
    request = {"model": "m", "input": [{"role": "user", "content": "x"}, *items], "tools": tools, "tool_choice": choice}
    refused = refusal_of(request)
    if refused is not None:
        assert refused.param
        return
    called = [
        {"id": f"c{at}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for at, (name, arguments) in enumerate(calls)
    ]
    message = {"content": "Hi", "tool_calls": called}
    whole = completion("m", choices=[{"index": 0, "message": message, "finish_reason": "stop"}])
    said = RESPONSES.write_answer(whole, request)
    presenter = RESPONSES.presenter(request)
    delta = {"content": "Hi", "tool_calls": [{**call, "index": at} for at, call in enumerate(called)]}
    head = {key: whole[key] for key in ("id", "model", "created")}
    stream = presenter.chunk({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}]})
    assert read_responses(stream + presenter.end())["output"] == said["output"]
    assert len(said["output"]) == 1 + len(called)
