"""Calls, results, pictures and empty turns in the history: rows of docs/compatibility.md."""

import re
from typing import Final

import pytest

from fakes.openai_upstream import FakeUpstream
from support.gateway import RunningGateway
from support.pictures import data_url, picture
from support.request_shapes import (
    USER,
    Shape,
    answered,
    blocks,
    called,
    cases,
    chat,
    hold,
    item,
    messages,
    post,
    responses,
    result,
    said,
    text,
    use,
)

RED: Final = data_url(picture())
IMAGE: Final = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": RED.partition(",")[2]}}
JPEG: Final = "/9j/4AAQSkZJRgABAQAAAQABAAD"

SHAPES = [
    Shape(
        "An image in a tool's result",
        "Codex `view_image`, opencode",
        "CommandCodeAI/command-code/issues/795, QwenLM/qwen-code/issues/3616",
        "responses",
        "follows all results of the turn as the user's",
        responses(
            USER,
            item("function_call", name="w", arguments="{}"),
            item("function_call_output", output=[{"type": "input_image", "image_url": RED, "detail": "high"}]),
        ),
        lambda sent: (sent["messages"][-2]["role"], sent["messages"][-1]["content"][-1]["image_url"]["url"]),
        ("tool", RED),
    ),
    Shape(
        "An image in a tool's result",
        "Claude Code, MCP",
        "antirez/ds4/issues/933",
        "messages",
        "follows all results of the turn as the user's",
        messages(USER, said("assistant", use("a")), said("user", result("a", IMAGE))),
        lambda sent: (sent["messages"][-2]["content"], sent["messages"][-1]["content"][0]["image_url"]["url"]),
        ("[image follows]", RED),
    ),
    Shape(
        "A result that is an error",
        "Claude Code",
        "Neroued/ninfer/pull/57",
        "messages",
        "says so in its text",
        messages(USER, said("assistant", use("a")), said("user", result("a", text("no such file"), is_error=True))),
        lambda sent: sent["messages"][-1]["content"],
        "Error: no such file",
    ),
    Shape(
        "References to tools, and search results",
        "Claude Code",
        "Claude Code 2.1.197 as recorded",
        "messages",
        "become text",
        messages(
            USER,
            said("assistant", use("a")),
            said(
                "user",
                result(
                    "a",
                    {"type": "tool_reference", "tool_name": "add"},
                    {
                        "type": "search_result",
                        "title": "T",
                        "source": "https://example.com",
                        "content": [text("found")],
                    },
                ),
            ),
        ),
        lambda sent: sent["messages"][-1]["content"],
        "[tool: add]\nT\nhttps://example.com\nfound",
    ),
    Shape(
        "Text before the results of calls",
        "clients",
        "Kilo-Org/kilocode/issues/5163, zavora-ai/adk-rust/pull/279",
        "chat",
        "to Anthropic behind them, as it asks",
        chat(USER, called("a"), {"role": "user", "content": "wait"}, answered("a")),
        lambda sent: blocks(sent)[2],
        ["tool_result", "text"],
        "claude",
    ),
    Shape(
        "A call without a result",
        "Codex behind an interrupt",
        "farion1231/cc-switch/issues/7504",
        "responses",
        "to Anthropic with a result that says so",
        responses(USER, item("function_call", name="w", arguments="{}"), {"role": "user", "content": "stop"}),
        lambda sent: (blocks(sent)[2], sent["messages"][2]["content"][0]["is_error"]),
        (["tool_result", "text"], True),
        "claude",
    ),
    Shape(
        "Ids with characters that a target refuses (`functions.w:0`)",
        "histories made with another model",
        "anomalyco/opencode/issues/1680, langchain-ai/langchain/pull/24668",
        "chat",
        "to Anthropic made to fit, in pairs",
        chat(USER, called("functions.w:0"), answered("functions.w:0")),
        lambda sent: (
            re.fullmatch(r"[\w-]+", call := sent["messages"][1]["content"][0]["id"]) is not None,
            call == sent["messages"][2]["content"][0]["tool_use_id"],
        ),
        (True, True),
        "claude",
    ),
    Shape(
        "Ids that a model wants back (`functions.w:0`)",
        "clients of Kimi",
        "MoonshotAI/kimi-code/pull/2503, exo-explore/exo/issues/2281",
        "messages",
        "to engines as they were",
        messages(USER, said("assistant", use("functions.w:0")), said("user", result("functions.w:0"))),
        lambda sent: (sent["messages"][1]["tool_calls"][0]["id"], sent["messages"][2]["tool_call_id"]),
        ("functions.w:0", "functions.w:0"),
    ),
    Shape(
        "Broken or empty arguments in the history",
        "clients",
        "ggml-org/llama.cpp/pull/25583, aws-samples/bedrock-access-gateway/pull/258",
        "chat",
        "to Anthropic an object, which holds them as text where they are none",
        chat(USER, called("a", '{"c": "Os'), answered("a"), called("b", ""), answered("b")),
        lambda sent: [sent["messages"][place]["content"][0]["input"] for place in (1, 3)],
        [{"arguments": '{"c": "Os'}, {}],
        "claude",
    ),
    Shape(
        "Empty turns",
        "clients",
        "OpenHands/OpenHands/issues/8685, vercel/ai/pull/14888",
        "chat",
        "to Anthropic filled, or left out",
        chat({"role": "user", "content": ""}, {"role": "assistant", "content": ""}, USER),
        lambda sent: (all(message["content"] for message in sent["messages"]), blocks(sent)[0][0]),
        (True, "text"),
        "claude",
    ),
    Shape(
        "A media type that is none, or another one (`image/jpg`, PNG that is JPEG)",
        "clients",
        "NousResearch/hermes-agent/issues/55432, BerriAI/litellm/issues/24900",
        "chat",
        "to Anthropic what the bytes are",
        chat(
            said(
                "user",
                *(
                    {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{JPEG}"}}
                    for kind in ("image/jpg", "image/png", "image/jpeg;charset=utf-8")
                ),
            )
        ),
        lambda sent: {block["source"]["media_type"] for block in sent["messages"][0]["content"]},
        {"image/jpeg"},
        "claude",
    ),
    Shape(
        "Bare base64 as an image's URL, or a URL as a string",
        "clients",
        "jakobdylanc/llmcord/issues/29",
        "chat",
        "to Anthropic an image of its type",
        chat(said("user", {"type": "image_url", "image_url": RED.partition(",")[2]})),
        lambda sent: sent["messages"][0]["content"][0]["source"]["media_type"],
        "image/png",
        "claude",
    ),
]


@pytest.mark.parametrize("shape", cases(SHAPES))
async def test_what_the_model_gets(
    gateway: RunningGateway, engine: FakeUpstream, hosted: FakeUpstream, shape: Shape
) -> None:
    """The request is answered, and the model gets it in a form that it takes."""
    await hold(shape, gateway, engine, hosted)


@pytest.mark.compatibility(
    table="requests", row="Ids of calls that are null", sends="clients", on="chat",
    source="https://github.com/sigoden/aichat/issues/1296",
    does="to engines passed on, to Anthropic refused with the field's name",
)  # fmt: skip
async def test_ids_that_are_null(gateway: RunningGateway, engine: FakeUpstream) -> None:
    """Nobody can tell which result is of which call; an engine judges for itself."""
    asks = chat(USER, called(None), answered(None))
    refused = await post(gateway, "chat", "claude", asks)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages.1.tool_calls.0.id")
    assert (await post(gateway, "chat", "engine", asks)).status_code == 200
    assert engine.requests[0].document["messages"][1] == called(None)
