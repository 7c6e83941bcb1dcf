"""Tools of agents, and what agents put around a conversation: rows of docs/compatibility.md."""

from typing import Final

import pytest

from fakes.openai_upstream import FakeUpstream
from support.gateway import RunningGateway
from support.request_shapes import (
    SCHEMA,
    USER,
    Shape,
    cases,
    chat,
    functions,
    hold,
    item,
    messages,
    names,
    responses,
    result,
    said,
    text,
    turns,
    use,
)

MID: Final = "<system-reminder>\nAgents.\n</system-reminder>"
PATCH: Final = {"type": "grammar", "syntax": "lark", "definition": "start: begin_patch hunk+ end_patch"}
NAMESPACE: Final = {
    "type": "namespace",
    "name": "mcp__cal",
    "description": "Dates.",
    "tools": [{"type": "function", "name": "add", "parameters": SCHEMA}],
}
SEARCH: Final = {"type": "tool_search", "execution": "client", "description": "Finds tools.", "parameters": SCHEMA}
OWN: Final = {"type": "function", "name": "w", "parameters": SCHEMA}
CLAUDES: Final = {"name": "w", "input_schema": SCHEMA}

SHAPES = [
    Shape(
        "A system message in the middle of a conversation",
        "Claude Code",
        "vllm-project/vllm/issues/44000, gty111/gLLM/pull/267",
        "messages",
        "puts it where it stood, into a marked turn of the user (or as the model's settings say)",
        messages(USER, {"role": "system", "content": "Agents."}, system="Be brief."),
        turns,
        [("system", "Be brief."), ("user", f"x\n\n{MID}")],
    ),
    Shape(
        "A system message in the middle of a conversation",
        "Codex",
        "vllm-project/vllm/issues/44000, gty111/gLLM/pull/267",
        "responses",
        "puts it where it stood, into a marked turn of the user (or as the model's settings say)",
        responses(USER, {"role": "developer", "content": "Agents."}, instructions="Be brief."),
        turns,
        [("system", "Be brief."), ("user", f"x\n\n{MID}")],
    ),
    Shape(
        "The role `developer`",
        "OpenAI's SDKs, pi",
        "ogx-ai/ogx/issues/6069, 8monkey-ai/hebo-gateway/issues/251",
        "chat",
        "`system` for engines",
        chat({"role": "developer", "content": "D"}, USER),
        turns,
        [("system", "D"), ("user", "x")],
    ),
    Shape(
        "The role `developer`",
        "OpenAI's SDKs, pi",
        "ogx-ai/ogx/issues/6069",
        "chat",
        "passed on to OpenAI",
        chat({"role": "developer", "content": "D"}, USER),
        turns,
        [("developer", "D"), ("user", "x")],
        "gpt",
    ),
    Shape(
        "A first line about billing, with a hash that changes",
        "Claude Code",
        "vllm-project/vllm/pull/36829, anthropics/claude-code/issues/68900, ggml-org/llama.cpp/pull/20623",
        "messages",
        "left out for all but Anthropic, whose prompt caches and affinity it would defeat",
        messages(USER, system=[text("x-anthropic-billing-header: cc_version=2.1; cch=fa690;"), text("Be brief.")]),
        turns,
        [("system", "Be brief."), ("user", "x")],
    ),
    Shape(
        "Earlier reasoning in the history",
        "Claude Code",
        "earendil-works/pi/issues/3635, continuedev/continue/issues/12691",
        "messages",
        "`reasoning_content` for models that reason",
        messages(
            USER,
            said("assistant", {"type": "thinking", "thinking": "t", "signature": ""}, use("a")),
            said("user", result("a")),
        ),
        lambda sent: sent["messages"][1]["reasoning_content"],
        "t",
        "reasons",
    ),
    Shape(
        "Earlier reasoning in the history",
        "Claude Code",
        "earendil-works/pi/issues/3635",
        "messages",
        "left out for models that do not",
        messages(USER, said("assistant", {"type": "thinking", "thinking": "t", "signature": ""}, text("y")), USER),
        lambda sent: sent["messages"][1],
        {"role": "assistant", "content": "y"},
    ),
    Shape(
        "Earlier reasoning in the history",
        "Codex",
        "JohnnyZ93/oai-compatible-copilot/issues/215",
        "responses",
        "`reasoning_content` for models that reason",
        responses(
            USER,
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "t"}]},
            item("function_call", name="w", arguments="{}"),
            item("function_call_output", output="r"),
        ),
        lambda sent: sent["messages"][1]["reasoning_content"],
        "t",
        "reasons",
    ),
    Shape(
        "Thinking without a signature, of another model",
        "Claude Code behind a change of models",
        "BerriAI/litellm/pull/31654, anthropics/anthropic-sdk-python/issues/1598",
        "messages",
        "left out for Anthropic, which would refuse it",
        messages(USER, said("assistant", {"type": "thinking", "thinking": "t", "signature": ""}, text("y")), USER),
        lambda sent: [block["type"] for block in sent["messages"][1]["content"]],
        ["text"],
        "claude",
    ),
    Shape(
        "A custom tool with a grammar (`apply_patch`)",
        "Codex",
        "ggml-org/llama.cpp/pull/23041, openai/codex/issues/33405, vllm-project/vllm/pull/56285",
        "responses",
        "a function of one string, and its calls custom calls again",
        responses(USER, tools=[{"type": "custom", "name": "apply_patch", "description": "Edits.", "format": PATCH}]),
        lambda sent: [
            (one["name"], one["parameters"]["required"], PATCH["definition"] in str(one["parameters"]))
            for one in functions(sent)
        ],
        [("apply_patch", ["input"], True)],
    ),
    Shape(
        "Calls of custom tools in the history",
        "Codex",
        "router-for-me/CLIProxyAPI/issues/4138",
        "responses",
        "calls of that function, and their results",
        responses(
            USER,
            item("custom_tool_call", name="apply_patch", input="p"),
            item("custom_tool_call_output", output="done"),
        ),
        lambda sent: (sent["messages"][1]["tool_calls"][0]["function"], sent["messages"][2]["content"]),
        ({"name": "apply_patch", "arguments": '{"input":"p"}'}, "done"),
    ),
    Shape(
        "Tools in a namespace (sub-agents, MCP)",
        "Codex",
        "ikawrakow/ik_llama.cpp/pull/1964, gty111/gLLM/pull/267",
        "responses",
        "functions with the namespace in the name, and back",
        responses(USER, tools=[NAMESPACE]),
        names,
        ["mcp__cal__add"],
    ),
    Shape(
        "Tools in an input item (`additional_tools`)",
        "Codex",
        "Codex 0.171 as recorded",
        "responses",
        "tools like all others",
        responses({"type": "additional_tools", "role": "developer", "tools": [OWN]}, USER),
        lambda sent: (names(sent), turns(sent)),
        (["w"], [("user", "x")]),
    ),
    Shape(
        "A search for tools that the client runs (`tool_search`)",
        "Codex",
        "router-for-me/CLIProxyAPI/issues/4138",
        "responses",
        "a function, and what it found are tools of the next request",
        responses(
            USER,
            item("tool_search_call", execution="client", arguments={"query": "dates"}, status="completed"),
            item("tool_search_output", execution="client", status="completed", tools=[NAMESPACE]),
            tools=[SEARCH],
        ),
        names,
        ["tool_search", "mcp__cal__add"],
    ),
    Shape(
        "`local_shell` and its calls",
        "older Codex, SDKs",
        "unslothai/unsloth/pull/9121",
        "responses",
        "a function with a command, and back",
        responses(
            USER,
            item("local_shell_call", status="completed", action={"type": "exec", "command": ["ls"]}),
            item("local_shell_call_output", output="a.txt"),
            tools=[{"type": "local_shell"}],
        ),
        lambda sent: (
            names(sent),
            sent["messages"][1]["tool_calls"][0]["function"]["name"],
        ),
        (["local_shell"], "local_shell"),
    ),
    Shape(
        "Tools that only a hosted API runs (`web_search`)",
        "Codex",
        "ggml-org/llama.cpp/pull/23041",
        "responses",
        "left out and named in a header, or refused, as the model's settings say",
        responses(USER, tools=[{"type": "web_search", "external_web_access": True}, OWN]),
        names,
        ["w"],
    ),
    Shape(
        "Tools that only a hosted API runs (`web_search_20250305`)",
        "Claude Code",
        "vllm-project/vllm/issues/46790",
        "messages",
        "left out and named in a header, or refused, as the model's settings say",
        messages(USER, tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 8}, CLAUDES]),
        names,
        ["w"],
    ),
    Shape(
        "No tools, and a choice among them",
        "Codex, SDKs",
        "gty111/gLLM/pull/267",
        "responses",
        "neither is sent",
        responses(USER, tools=[], tool_choice="auto", parallel_tool_calls=True),
        lambda sent: {"tools", "tool_choice", "parallel_tool_calls"} & set(sent),
        set(),
    ),
    Shape(
        "A schema with alternatives at its top, or without a type",
        "MCP clients",
        "BerriAI/litellm/issues/24121, diegosouzapw/OmniRoute/issues/13552",
        "chat",
        "to Anthropic one object with the properties of all",
        chat(USER, tools=[{"type": "function", "function": {"name": "w", "parameters": {"anyOf": [SCHEMA, SCHEMA]}}}]),
        lambda sent: sent["tools"][0]["input_schema"],
        SCHEMA,
        "claude",
    ),
    Shape(
        "`$schema` in a tool's schema",
        "MCP clients",
        "BerriAI/litellm/issues/24121, anomalyco/opencode/issues/12295",
        "messages",
        "left out for engines",
        messages(
            USER,
            tools=[{"name": "w", "input_schema": {"$schema": "http://json-schema.org/draft-07/schema#", **SCHEMA}}],
        ),
        lambda sent: functions(sent)[0]["parameters"],
        SCHEMA,
    ),
]


@pytest.mark.parametrize("shape", cases(SHAPES))
async def test_what_the_model_gets(
    gateway: RunningGateway, engine: FakeUpstream, hosted: FakeUpstream, shape: Shape
) -> None:
    """The request is answered, and the model gets it in a form that it takes."""
    await hold(shape, gateway, engine, hosted)
