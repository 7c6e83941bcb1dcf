"""Fields beside the conversation: rows of docs/compatibility.md."""

from typing import Final

import pytest

from fakes.openai_upstream import FakeUpstream
from support.gateway import RunningGateway
from support.request_shapes import (
    SCHEMA,
    USER,
    Shape,
    answered,
    called,
    cases,
    chat,
    hold,
    messages,
    responses,
    said,
    text,
    turns,
)

CLAUDES: Final = {"name": "w", "input_schema": SCHEMA}
DEVICE: Final = '{"device_id":"' + "a" * 64 + '","account_uuid":"","session_id":"8f2c0d1e-0000-4000-8000-000000000000"}'

SHAPES = [
    Shape(
        "`max_tokens` above what the model can",
        "Claude Code, Cline",
        "cline/cline/issues/13229, ogx-ai/ogx/pull/5696",
        "messages",
        "lowered to what it can, or refused, as its settings say",
        messages(USER) | {"max_tokens": 32000},
        lambda sent: sent["max_tokens"],
        4096,
    ),
    Shape(
        "`max_tokens`, which OpenAI's reasoning models refuse",
        "Anthropic's SDKs",
        "promptfoo/promptfoo/issues/5202",
        "messages",
        "to OpenAI `max_completion_tokens`",
        messages(USER),
        lambda sent: (sent.get("max_completion_tokens"), "max_tokens" in sent),
        (50, False),
        "gpt",
    ),
    Shape(
        "A user's id of 150 characters, with the device in it",
        "Claude Code",
        "looplj/axonhub/issues/1669, maximhq/bifrost/pull/1000",
        "messages",
        "a hash that every API takes",
        messages(USER, metadata={"user_id": DEVICE}),
        lambda sent: (len(sent["user"]) <= 64, "a" * 20 in sent["user"]),
        (True, False),
    ),
    Shape(
        "Paths, remotes and ids of an installation (`client_metadata`)",
        "Codex",
        "gty111/gLLM/pull/267",
        "responses",
        "stay here",
        responses(USER, client_metadata={"workspaces": {"/home/secret": {}}}),
        lambda sent: "client_metadata" in sent,
        False,
    ),
    Shape(
        "`store: true`, and items with ids",
        "OpenAI's SDKs",
        "vercel/ai/issues/7543, anomalyco/opencode/pull/34027",
        "responses",
        "accepted",
        responses({"type": "message", "id": "msg_1", **USER}, store=True),
        turns,
        [("user", "x")],
    ),
    Shape(
        "Items whose id is null",
        "LangChain",
        "vllm-project/vllm/issues/54224",
        "responses",
        "accepted",
        responses(
            USER,
            {
                "type": "message",
                "id": None,
                **said("assistant", {"type": "output_text", "text": "y", "annotations": []}),
            },
            USER,
        ),
        turns,
        [("user", "x"), ("assistant", "y"), ("user", "x")],
    ),
    Shape(
        "`cache_control` in blocks and tools",
        "Claude Code, LangChain",
        "ollama/ollama/issues/17130",
        "messages",
        "left out for engines",
        messages(
            said("user", text("x") | {"cache_control": {"type": "ephemeral"}}),
            tools=[CLAUDES | {"cache_control": {"type": "ephemeral"}}],
        ),
        lambda sent: "cache_control" in str(sent),
        False,
    ),
    Shape(
        "`cache_control` in parts",
        "LiteLLM, OpenRouter's clients",
        "BerriAI/litellm/issues/6422",
        "chat",
        "passed on to Anthropic",
        chat(said("user", text("x") | {"cache_control": {"type": "ephemeral"}})),
        lambda sent: sent["messages"][0]["content"][0]["cache_control"],
        {"type": "ephemeral"},
        "claude",
    ),
    Shape(
        "A result in parts",
        "LangChain, OpenHands",
        "BerriAI/litellm/issues/6422",
        "chat",
        "to Anthropic in its blocks",
        chat(USER, called("a"), answered("a", [text("r"), text("s")])),
        lambda sent: [block["text"] for block in sent["messages"][2]["content"][0]["content"]],
        ["r", "s"],
        "claude",
    ),
    Shape(
        "`truncation: auto`",
        "SDKs",
        "Open Responses, 2026-04-24",
        "responses",
        "accepted: nothing is cut here",
        responses(USER, truncation="auto"),
        turns,
        [("user", "x")],
    ),
    Shape(
        "`context_management` without thinking",
        "Claude Code `/compact`",
        "anthropics/claude-code/issues/11534",
        "messages",
        "left out for engines",
        messages(USER, context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}),
        lambda sent: "context_management" in sent,
        False,
    ),
    Shape(
        "A probe of one token",
        "Claude Code, clients",
        "diegosouzapw/OmniRoute/issues/14611",
        "messages",
        "asked for like all else",
        messages(USER) | {"max_tokens": 1},
        lambda sent: sent["max_tokens"],
        1,
    ),
]


@pytest.mark.parametrize("shape", cases(SHAPES))
async def test_what_the_model_gets(
    gateway: RunningGateway, engine: FakeUpstream, hosted: FakeUpstream, shape: Shape
) -> None:
    """The request is answered, and the model gets it in a form that it takes."""
    await hold(shape, gateway, engine, hosted)
