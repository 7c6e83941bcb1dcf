"""The head of a prompt, cut without copying what is behind it, is the head of the whole prompt."""

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from capstan_gateway.routing.affinity import BLOCK_CHARS, SharedHeads, prompt_head

TEXTS = st.text(max_size=40)
PARTS = st.lists(st.one_of(st.builds(dict, text=st.one_of(TEXTS, st.integers())), st.integers()), max_size=4)
CONTENTS = st.one_of(TEXTS, PARTS, st.none(), st.integers())
MESSAGES = st.lists(
    st.one_of(st.fixed_dictionaries({"role": st.one_of(TEXTS, st.integers()), "content": CONTENTS}), st.none()),
    max_size=6,
)


def whole(messages: list[Any]) -> str:
    """Give all of a prompt's text, in the plainest way."""
    text = ""
    for message in messages:
        content = message["content"] if isinstance(message, dict) else None
        if isinstance(content, str):
            text += f"{message['role']}\n{content}\n"
        elif isinstance(content, list):
            found = [part["text"] for part in content if isinstance(part, dict) and isinstance(part["text"], str)]
            text += f"{message['role']}\n" + "\n".join(found)
    return text


@given(messages=MESSAGES, chars=st.integers(min_value=1, max_value=120))
@example(messages=[{"role": "a-role-that-is-longer", "content": "x"}], chars=3)
def test_a_head_is_a_head_of_the_whole(messages: list[Any], chars: int) -> None:
    """Wherever the cut falls: in a role, a text, a part, between two messages, or behind all of them."""
    assert prompt_head({"messages": messages}, chars) == whole(messages)[:chars]


@given(st.lists(st.text(max_size=BLOCK_CHARS - 1), max_size=20), st.integers(min_value=1, max_value=8))
def test_short_prompts_have_no_key_and_are_not_remembered(prompts: list[str], endpoints: int) -> None:
    """A prompt without one whole block leaves nothing behind but its count."""
    heads = SharedHeads()
    assert [heads.key(prompt, endpoints) for prompt in prompts] == [None] * len(prompts)
    assert len(heads) == 0
