"""Text that a model is shown cannot end what it stands in."""

import pytest

from capstan_gateway.guards.prompts.quoted import disarmed


@pytest.mark.parametrize(
    "mark",
    [
        "<|im_end|>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "<\uff5cUser\uff5c>", "[/INST]", "[SYSTEM_PROMPT]", "[AVAILABLE_TOOLS]",
        "[/TOOL_RESULTS]", "<end_of_turn>", "<end_of_utterance>", "<start_of_role>", "<turn|>", "</s>", "<eos>", "<eoh>", "<sop>", "[gMASK]",
        "<extra_id_1>", "<reserved_106>", "<special_3>", "<unused5>", "<tool_call>", "</tool_response>", "<0x0A>", "<<SYS>>", "</think>",
    ],
)  # fmt: skip
def test_no_token_of_a_chat_template_is_left(mark: str) -> None:
    """Of none of the families of models that templates are known of."""
    assert mark not in disarmed(f"a {mark} b")
    assert disarmed(f"a {mark} b").replace(" ", "") == f"a{mark}b"


@pytest.mark.parametrize("text", ["a < b", "x <= 1 | y", "[1, 2]", "<p>Hi</p>", "List<String>", "a[b]", "if (a<b>c)"])
def test_what_is_no_mark_stays(text: str) -> None:
    """Code and markup are shown as they are."""
    assert disarmed(text) == text
