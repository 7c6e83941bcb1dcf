"""What an engine thought, on its way through clients of /v1/messages and back."""

from typing import Any

from capstan_contract.config import ExternalBackend, ExternalEndpoint, ModelEntry, Provider
from capstan_gateway.dialects.clients.spoken import MESSAGES
from capstan_gateway.dialects.signatures import is_ours
from capstan_gateway.dialects.targets.native import shape_native
from capstan_gateway.dialects.targets.target import Target
from fakes.openai_upstream import completion
from support.dialects import frames

SAID = {"role": "assistant", "content": "y", "reasoning_content": "t"}
ANSWER = completion("m", choices=[{"index": 0, "message": SAID, "finish_reason": "stop"}])


def asks(*blocks: Any) -> dict[str, Any]:
    """Give a request whose history has these blocks of the model."""
    user = {"role": "user", "content": "x"}
    return {"model": "m", "max_tokens": 5, "messages": [user, {"role": "assistant", "content": list(blocks)}, user]}


def test_thoughts_are_signed_as_ours() -> None:
    """The AI SDK, pydantic-ai and litellm send back only what is signed; some models refuse a history without it."""
    thought, text = MESSAGES.write_answer(ANSWER, {})["content"]
    assert (thought["thinking"], is_ours(thought["signature"])) == ("t", True)
    assert MESSAGES.read_request(asks(thought, text))["messages"][1] == SAID


def test_in_a_stream_too() -> None:
    """The signature stands behind the thoughts, before their block ends, once."""
    presenter = MESSAGES.presenter({})
    pieces: list[dict[str, Any]] = [{"reasoning_content": "t"}, {"reasoning_content": "u"}, {"content": "y"}]
    written = [frames(presenter.chunk({"choices": [{"index": 0, "delta": piece}]})) for piece in pieces]
    deltas = [
        (data["index"], data["delta"]["type"])
        for events in written
        for _, data in events
        if data["type"] == "content_block_delta"
    ]
    assert deltas == [(0, "thinking_delta"), (0, "thinking_delta"), (0, "signature_delta"), (1, "text_delta")]


def test_anthropic_never_sees_our_signature() -> None:
    """It would refuse a signature that it has not made."""
    thought, text = MESSAGES.write_answer(ANSWER, {})["content"]
    endpoint = ExternalEndpoint(name="one", url="https://api.example.com/v1")
    backend = ExternalBackend(provider=Provider.ANTHROPIC, endpoints=(endpoint,))
    target = Target.of(ModelEntry(id="ns/m", servedName="m", upstreamName="m", backend=backend))
    assert shape_native(asks(thought, text), target)["messages"][1]["content"] == [text]
