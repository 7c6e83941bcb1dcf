"""Tools of the Responses API that chat does not have: there as functions, and back as what they were."""

from typing import Any

import orjson
import pytest

from capstan_gateway.dialects.clients.responses_items import call_item
from capstan_gateway.dialects.clients.responses_request import to_chat_request
from capstan_gateway.dialects.clients.responses_tools import ToolKind, Tools
from capstan_gateway.dialects.clients.spoken import Responses
from capstan_gateway.errors import InvalidRequest
from fakes.openai_upstream import completion
from support.dialects import frames, read_responses

Document = dict[str, Any]
RESPONSES = Responses(clock=lambda: 1_700_000_000.5)
FUNCTION: Document = {"type": "function", "name": "look", "strict": False, "parameters": {"type": "object"}}
GRAMMAR: Document = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}
CUSTOM: Document = {"type": "custom", "name": "apply_patch", "description": "Edits.", "format": GRAMMAR}
SPACE: Document = {
    "type": "namespace", "name": "mcp__cal", "description": "A calendar.",
    "tools": [{"type": "function", "name": "add", "description": "adds", "parameters": {"type": "object"}}],
}  # fmt: skip
SEARCH: Document = {"type": "tool_search", "execution": "client", "parameters": {"type": "object"}}
ALL: list[Document] = [FUNCTION, CUSTOM, SPACE, SEARCH, {"type": "local_shell"}, {"type": "web_search"}]
USER: Document = {"role": "user", "content": "x"}


def asked(*items: Document, **fields: Any) -> Document:
    """Translate a request of a user's message and these items behind it."""
    return to_chat_request({"model": "m", "input": [USER, *items], **fields})


def refusal(**fields: Any) -> str | None:
    """Give the field for which a request is refused."""
    with pytest.raises(InvalidRequest) as caught:
        to_chat_request({"model": "m", "input": [USER], **fields})
    return caught.value.param


def names(request: Document) -> list[str]:
    """Give the names of the functions that the model is shown."""
    return [tool["function"]["name"] for tool in request.get("tools", ())]


def called(name: str, arguments: str, tools: list[Document] = ALL, **fields: Any) -> Document:
    """Give the item that a model's call becomes: the same in one piece and in a stream."""
    request = {"model": "m", "input": "x", "tools": tools, **fields}
    call = {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}
    whole = completion("m", choices=[
        {"index": 0, "message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}
    ])  # fmt: skip
    response = RESPONSES.write_answer(whole, request)
    presenter = RESPONSES.presenter(request)
    stream = b""
    for piece in ({**call, "function": {"name": name, "arguments": ""}}, *_pieces(arguments)):
        choice = {"index": 0, "delta": {"tool_calls": [{**piece, "index": 0}]}, "finish_reason": None}
        stream += presenter.chunk({"id": whole["id"], "model": "m", "created": 1, "choices": [choice]})
    streamed = read_responses(stream + presenter.end())
    assert streamed["output"] == response["output"]
    (item,) = response["output"]
    assert isinstance(item, dict)
    return item


def _pieces(arguments: str) -> list[Document]:
    return [{"function": {"arguments": arguments[at : at + 3]}} for at in range(0, len(arguments), 3)]


def test_every_kind_becomes_a_function() -> None:
    """Functions, namespaces, plain text tools, searches and the shell are functions; what OpenAI runs is left out."""
    request = asked(tools=ALL)
    assert names(request) == ["look", "apply_patch", "mcp__cal__add", "tool_search", "local_shell"]
    by_name = {tool["function"]["name"]: tool["function"] for tool in request["tools"]}
    assert by_name["look"] == {"name": "look", "parameters": {"type": "object"}, "strict": False}
    patch = by_name["apply_patch"]["parameters"]
    assert (patch["required"], patch["additionalProperties"]) == (["input"], False)
    assert "start: /.+/" in patch["properties"]["input"]["description"]
    assert by_name["apply_patch"]["description"] == "Edits."
    assert by_name["mcp__cal__add"]["description"] == "A calendar.\n\nadds"
    assert RESPONSES.read_tools({"tools": ALL}).dropped == (("tools.5", "web_search"),)


def test_calls_come_back_as_what_they_were() -> None:
    """A model's call of each kind is the client's own kind of call again, in one piece and streamed."""
    patch = '*** Begin Patch\n+"tab\t\u00e4\U0001f600\n*** End Patch'
    custom = called("apply_patch", orjson.dumps({"input": patch}).decode())
    assert (custom["type"], custom["name"], custom["input"]) == ("custom_tool_call", "apply_patch", patch)
    spaced = called("mcp__cal__add", '{"a":1}')
    assert (spaced["type"], spaced["name"], spaced["namespace"]) == ("function_call", "add", "mcp__cal")
    search = called("tool_search", '{"query":"q"}')
    assert (search["type"], search["execution"], search["arguments"]) == ("tool_search_call", "client", {"query": "q"})
    shell = called("local_shell", '{"command":["ls"],"workdir":"/a","timeout_ms":5}')
    assert shell["type"] == "local_shell_call"
    assert shell["action"] == {
        "type": "exec", "command": ["ls"], "env": {}, "working_directory": "/a", "timeout_ms": 5,
    }  # fmt: skip
    assert called("local_shell", '{"command":"ls"}')["action"]["command"] == ["bash", "-lc", "ls"]
    assert called("look", "{}")["type"] == "function_call"
    assert "namespace" not in called("look", "{}")
    assert all(item["call_id"] == "c1" for item in (custom, spaced, search, shell))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("tool_search", '{"query'), ("tool_search", "[1]"), ("local_shell", "{}"), ("local_shell", '{"command":[1]}')],
)
def test_call_that_cannot_be_of_its_kind_stays_a_function_call(name: str, arguments: str) -> None:
    """Arguments that do not fit are not lost: the client's answer to the function call tells the model."""
    item = called(name, arguments)
    assert (item["type"], item["name"], item["arguments"]) == ("function_call", name, arguments)


def test_custom_call_is_streamed_as_it_comes() -> None:
    """The text of a custom call arrives in pieces, decoded, before the call is over."""
    presenter = RESPONSES.presenter({"model": "m", "input": "x", "tools": [CUSTOM]})
    said: list[str] = []
    for at, piece in enumerate(['{"inp', 'ut":"a\\', "nb", "\\u00", 'e4c"', "}"]):
        call = {"index": 0, "function": {"arguments": piece}}
        if at == 0:
            call |= {"id": "c1", "function": {"name": "apply_patch", "arguments": piece}}
        events = frames(presenter.chunk({"id": "1", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}))
        said += [data["delta"] for kind, data in events if kind == "response.custom_tool_call_input.delta"]
    assert said == ["a", "\nb", "\u00e4c"]
    ending = dict(frames(presenter.end()))
    assert ending["response.custom_tool_call_input.done"]["input"] == "a\nb\u00e4c"


def test_history_is_calls_and_results() -> None:
    """What the client did with tools of every kind is a call of the same function and its result."""
    history = [
        {"type": "custom_tool_call", "call_id": "a", "name": "apply_patch", "input": 'p"q'},
        {"type": "custom_tool_call_output", "call_id": "a", "output": "ok"},
        {"type": "function_call", "call_id": "b", "name": "add", "namespace": "mcp__cal", "arguments": ""},
        {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "3"}]},
        {"type": "local_shell_call", "call_id": "c", "action": {"type": "exec", "command": ["ls"]}},
        {"type": "local_shell_call_output", "id": "c", "output": "f"},
        {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"type": "search"}},
        {"type": "tool_search_call", "call_id": "d", "arguments": {"query": "q"}},
        {"type": "tool_search_output", "call_id": "d", "tools": [SPACE]},
    ]
    request = asked(*history, tools=[CUSTOM, SEARCH])
    calls = [call["function"] for turn in request["messages"] for call in turn.get("tool_calls", ())]
    assert calls == [
        {"name": "apply_patch", "arguments": '{"input":"p\\"q"}'},
        {"name": "mcp__cal__add", "arguments": "{}"},
        {"name": "local_shell", "arguments": '{"command":["ls"]}'},
        {"name": "tool_search", "arguments": '{"query":"q"}'},
    ]
    results = [(turn["tool_call_id"], turn["content"]) for turn in request["messages"] if turn["role"] == "tool"]
    assert results == [("a", "ok"), ("b", "3"), ("c", "f"), ("d", "Tools found: mcp__cal__add")]
    assert names(request) == ["apply_patch", "tool_search", "mcp__cal__add"]


def test_additional_tools_are_tools() -> None:
    """Tools that come as an item of the input are shown to the model, and the item itself says nothing to it."""
    item = {"type": "additional_tools", "role": "developer", "tools": [{**SPACE, "name": "functions"}, CUSTOM]}
    request = asked(item)
    assert names(request) == ["functions__add", "apply_patch"]
    assert request["messages"] == [USER]


def test_images_of_results_follow_all_results_of_the_turn() -> None:
    """An image that a tool gave is the user's, behind every result of that turn; the result says that there is one."""
    image = {"type": "input_image", "image_url": "data:image/png;base64,QUJD", "detail": "high"}
    call = {"type": "function_call", "name": "look", "arguments": "{}"}
    request = asked(
        {**call, "call_id": "a"}, {**call, "call_id": "b"},
        {"type": "function_call_output", "call_id": "a", "output": [image]},
        {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "t"}, image]},
        {"role": "user", "content": "and?"},
    )  # fmt: skip
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "high"}}
    assert request["messages"][2:] == [
        {"role": "tool", "tool_call_id": "a", "content": "(image)"},
        {"role": "tool", "tool_call_id": "b", "content": "t"},
        {"role": "user", "content": [part, part]},
        {"role": "user", "content": "and?"},
    ]


def test_names_are_unique_and_fit() -> None:
    """Names that would be one in chat, or that no API takes, are told apart; a plain name stays as it is."""
    long = {"type": "namespace", "name": "s" * 60, "tools": [FUNCTION, {**FUNCTION, "name": "look2"}]}
    odd = {"type": "namespace", "name": "a.b", "tools": [FUNCTION]}
    same = {"type": "namespace", "name": "a_b", "tools": [FUNCTION]}
    plain = {**FUNCTION, "name": "a_b__look"}
    tools = [odd, same, long, plain, FUNCTION, {**CUSTOM, "name": "look"}]
    request = asked(tools=tools)
    assert len(set(names(request))) == len(names(request)) == 7
    assert all(len(name) <= 64 for name in names(request))
    assert names(request)[4:6] == ["a_b__look", "look"]
    table = Tools.of({"tools": tools})
    assert [(tool.namespace, tool.name) for tool in table.tools] == [
        ("a.b", "look"), ("a_b", "look"), ("s" * 60, "look"), ("s" * 60, "look2"), (None, "a_b__look"), (None, "look"),
        (None, "look"),
    ]  # fmt: skip
    assert all(table.by_chat_name[name].chat_name == name for name in names(request))


def test_allowed_tools_are_the_ones_that_the_model_sees() -> None:
    """Of `allowed_tools` only those are sent, and the mode is the choice among them."""
    allowed = [{"type": "function", "name": "look"}, {"type": "custom", "name": "apply_patch"}, {"type": "web_search"}]
    choice = {"type": "allowed_tools", "mode": "required", "tools": allowed}
    request = asked(tools=ALL, tool_choice=choice, parallel_tool_calls=False)
    assert names(request) == ["look", "apply_patch"]
    assert (request["tool_choice"], request["parallel_tool_calls"]) == ("required", False)
    spaced = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "namespace", "name": "mcp__cal"}]}
    assert names(asked(tools=ALL, tool_choice=spaced)) == ["mcp__cal__add"]


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ({"type": "function", "name": "look"}, "look"),
        ({"type": "function", "name": "add", "namespace": "mcp__cal"}, "mcp__cal__add"),
        ({"type": "function", "name": "add"}, "mcp__cal__add"),
        ({"type": "custom", "name": "apply_patch"}, "apply_patch"),
        ({"type": "tool_search"}, "tool_search"),
        ({"type": "local_shell"}, "local_shell"),
    ],
)
def test_chosen_tool_is_chosen_by_its_function(choice: Document, name: str) -> None:
    """A tool of any kind can be demanded."""
    assert asked(tools=ALL, tool_choice=choice)["tool_choice"] == {"type": "function", "function": {"name": name}}


def test_one_of_several_is_chosen_by_showing_no_others() -> None:
    """A namespace, or a name that stands in two of them, means any one of these; chat can only name one."""
    two = [{**SPACE, "name": space, "tools": [FUNCTION, {**FUNCTION, "name": "add"}]} for space in ("a", "b")]
    spaced = asked(tools=[*ALL, *two], tool_choice={"type": "namespace", "name": "a"})
    assert (names(spaced), spaced["tool_choice"]) == (["a__look", "a__add"], "required")
    named = asked(tools=two, tool_choice={"type": "function", "name": "add"})
    assert (names(named), named["tool_choice"]) == (["a__add", "b__add"], "required")
    one = asked(tools=two, tool_choice={"type": "function", "name": "add", "namespace": "b"})
    assert one["tool_choice"] == {"type": "function", "function": {"name": "b__add"}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": ALL, "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        ({"tools": ALL, "tool_choice": {"type": "custom", "name": "look"}}, "tool_choice"),
        ({"tools": ALL, "tool_choice": {"type": "teleport"}}, "tool_choice.type"),
        ({"tools": ALL, "tool_choice": {"type": "allowed_tools", "tools": 5}}, "tool_choice.tools"),
        ({"tools": ALL, "tool_choice": {"type": "allowed_tools", "mode": "none", "tools": []}}, "tool_choice.mode"),
        ({"tools": [{"type": "namespace", "name": "a", "tools": [SPACE]}]}, "tools.0.tools.0.type"),
        ({"tools": [{"type": "namespace", "name": "a", "tools": [{"type": "custom"}]}]}, "tools.0.tools.0.name"),
        ({"tools": [{"type": "namespace", "tools": []}]}, "tools.0.name"),
        ({"input": [USER, {"type": "additional_tools", "tools": 5}]}, "input.1.tools"),
        ({"input": [USER, {"type": "custom_tool_call", "call_id": "a", "name": "b", "input": {}}]}, "input.1.input"),
        ({"input": [USER, {"type": "custom_tool_call_output", "output": "x"}]}, "input.1.call_id"),
        ({"input": [USER, {"type": "local_shell_call", "call_id": "a"}]}, "input.1.action"),
        ({"input": [USER, {"type": "compaction", "encrypted_content": "x"}]}, "input.1.type"),
    ],
)
def test_what_is_wrong_is_named(fields: Document, param: str) -> None:
    """A tool, a choice or an item that makes no sense is refused with its path."""
    assert refusal(**fields) == param


def test_no_tool_is_left() -> None:
    """Where every tool was OpenAI's own, chat hears of no tools, and of no choice among them."""
    request = asked(tools=[{"type": "web_search"}], tool_choice="auto", parallel_tool_calls=True)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & request.keys()


def test_what_an_agent_says_of_itself_is_not_sent() -> None:
    """The client's metadata, with paths and ids of an installation, are no part of what an engine gets."""
    assert "client_metadata" not in asked(client_metadata={"x-codex-installation-id": "b4c0"})


def test_log_probabilities() -> None:
    """Log probabilities are asked for in chat, and are in the text's part and its events."""
    request = {"model": "m", "input": "x", "top_logprobs": 2}
    assert to_chat_request(request)["logprobs"] is True
    assert to_chat_request(request)["top_logprobs"] == 2
    included = {"model": "m", "input": "x", "include": ["message.output_text.logprobs"]}
    assert to_chat_request(included)["logprobs"] is True
    token = {"token": "Hi", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "Hi", "logprob": -0.5}]}
    logprobs = {"content": [token, {"token": 5}]}
    whole = completion("m", choices=[
        {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop", "logprobs": logprobs}
    ])  # fmt: skip
    expected = [{
        "token": "Hi", "logprob": -0.5, "bytes": [], "top_logprobs": [{"token": "Hi", "logprob": -0.5, "bytes": []}],
    }]  # fmt: skip
    said = RESPONSES.write_answer(whole, request)
    assert said["output"][0]["content"][0]["logprobs"] == expected
    assert said["top_logprobs"] == 2
    presenter = RESPONSES.presenter(request)
    choice = {"index": 0, "delta": {"content": "Hi"}, "logprobs": logprobs, "finish_reason": "stop"}
    stream = presenter.chunk({"id": whole["id"], "choices": [choice]}) + presenter.end()
    told = [data["logprobs"] for kind, data in frames(stream) if kind.startswith("response.output_text.")]
    assert told == [expected, expected]
    assert read_responses(stream)["output"] == said["output"]


def test_call_without_a_tool_is_a_function_call() -> None:
    """A name that the request does not have is the model's invention, and is passed on as it is."""
    assert called("nobody__here", "{}", tools=[])["name"] == "nobody__here"
    assert call_item("1", 0, "c", "f", "{}", "completed")["type"] == "function_call"
    assert {kind.value for kind in ToolKind} == {"function", "custom", "tool_search", "local_shell"}


def test_earlier_reasoning_goes_with_the_turn_that_came_of_it() -> None:
    """What the model thought is the reasoning of its next words or calls; a user's turn ends it."""
    thought = {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "s"}], "content": None}
    whole = {**thought, "content": [{"type": "reasoning_text", "text": "t"}]}
    call = {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "a", "output": "r"}
    said, more = {"role": "assistant", "content": "x"}, {**call, "call_id": "b"}
    request = asked(whole, call, thought, more, output, thought, said, thought, USER, said)
    thoughts = [turn.get("reasoning_content") for turn in request["messages"] if turn["role"] == "assistant"]
    assert thoughts == ["t\ns", "s", None]


@pytest.mark.parametrize("field", ["reasoning", "text"])
@pytest.mark.parametrize("value", [[], "", False, 0, [1], "high"])
def test_what_the_response_repeats_is_an_object_where_it_must_be(field: str, value: Any) -> None:
    """What is none is refused by name before a model is asked, also where it is empty."""
    with pytest.raises(InvalidRequest) as told:
        to_chat_request({"model": "m", "input": "hi", field: value})
    assert told.value.param == field


def test_allowed_tools_are_so_many() -> None:
    """Each is looked for among all tools: what names more than OpenAI takes is refused at once."""
    tools = [{"type": "function", "name": f"f{at}"} for at in range(129)]
    choice = {"type": "allowed_tools", "mode": "auto", "tools": tools}
    with pytest.raises(InvalidRequest) as told:
        to_chat_request({"model": "m", "input": "hi", "tools": tools, "tool_choice": choice})
    assert told.value.param == "tool_choice.tools"
    fewer = {**choice, "tools": tools[1:]}
    request = to_chat_request({"model": "m", "input": "hi", "tools": tools, "tool_choice": fewer})
    assert len(request["tools"]) == 128
