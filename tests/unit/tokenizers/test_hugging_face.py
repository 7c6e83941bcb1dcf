"""Tokenizers of models: what is counted is what an engine would be sent."""

import json
import sys
import threading
import time
from typing import Any

import pytest

from capstan_gateway.tokenizers.files import Shipped, Unusable
from capstan_gateway.tokenizers.hugging_face import FileCounter
from support.tokenizers import TEMPLATE, words_tokenizer
from support.wait import PATIENCE


def counter(template: Any = TEMPLATE, *, begins: bool = False, alone: str | None = None, **config: Any) -> FileCounter:
    """Give the counter of a tokenizer of words."""
    if template is not None:
        config["chat_template"] = template
    return FileCounter(
        Shipped(
            tokenizer=words_tokenizer(begins=begins).encode(),
            config=json.dumps(config).encode(),
            template=None if alone is None else alone.encode(),
        )
    )


def said(*contents: Any, **more: Any) -> dict[str, Any]:
    """Give a chat request."""
    return {"messages": [{"role": "user", "content": content} for content in contents], **more}


TOOL = {"type": "function", "function": {"name": "f"}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


@pytest.mark.parametrize(
    ("document", "tokens"),
    [
        (said("a b"), 4),
        (said("a", "a b"), 6),
        (said("a", add_generation_prompt=False), 2),
        (said([{"type": "text", "text": "a b"}, {"type": "text", "text": "b"}]), 5),
        (said("a", tools=[TOOL]), 11),
        (said(None), 2),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": [CALL]}]}, 2),
        ({"prompt": "a b a"}, 3),
        ({"prompt": ["a b", "a"]}, 3),
        ({"prompt": [5, 6, 7]}, 3),
        ({"prompt": ""}, 0),
    ],
)
def test_what_is_counted(document: dict[str, Any], tokens: int) -> None:
    """The text that the template makes of messages and tools; a prompt as it is."""
    assert counter().count(document) == tokens


@pytest.mark.parametrize(
    "document",
    [
        said([{"type": "image_url", "image_url": {"url": "data:"}}]),
        said("a", chat_template="{{ 1 }}"),
        said("a", continue_final_message=True),
        {"messages": []},
        {"messages": [7]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
        said("a", tools=[7]),
        {"prompt": None},
        {"prompt": [[1, 2]]},
        {"prompt": "\ud800"},
        {"prompt": "a", "truncate_prompt_tokens": 1},
        {"prompt": "a", "prompt_embeds": "AAAA"},
        {"prompt": ["a" * (1024 * 1024)] * 5},
        said("a", truncate_prompt_tokens=1),
        said("a", tools=[TOOL], tool_choice="none"),
        {},
    ],
)
def test_what_cannot_be_told_exactly_is_not_told(document: dict[str, Any]) -> None:
    """Pictures, a client's template, what is cut, too much, half a message or character: the next source counts."""
    assert counter().count(document) is None


@pytest.mark.parametrize(("given", "tokens"), [(None, 2), (True, 2), (False, 1)])
def test_a_prompt_begins_as_engines_begin_it(given: bool | None, tokens: int) -> None:
    """With the tokens that the tokenizer puts around a text, unless the client says otherwise."""
    document = {"prompt": "a", **({} if given is None else {"add_special_tokens": given})}
    assert counter(begins=True).count(document) == tokens


def test_a_conversation_begins_as_its_template_says() -> None:
    """The tokenizer puts nothing around it: the template has."""
    assert counter(begins=True).count(said("a")) == 3


def test_calls_are_given_as_objects() -> None:
    """Templates write the arguments of a call, which clients send as a text of JSON."""
    template = "{% for m in messages %}{{ m.tool_calls[0].function.arguments | tojson }}{% endfor %}"
    messages = [{"role": "assistant", "content": "", "tool_calls": [CALL]}]
    assert counter(template).count({"messages": messages}) == 2


def test_a_template_that_takes_parts_gets_them() -> None:
    """One that joins the parts of a content by itself; all others get one text with a line for each."""
    template = "{% for m in messages %}{% for c in m['content'] %}{{ c.text }}{% endfor %}{% endfor %}"
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert counter(template).count(said(parts)) == 1
    assert counter("{% for m in messages %}{{ m.content }}{% endfor %}").count(said(parts)) == 2


def test_of_several_templates_tools_have_their_own() -> None:
    """As Hugging Face names them."""
    several = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "a b"}]
    assert [counter(several).count(said("x", tools=tools)) for tools in (None, [TOOL])] == [1, 2]


def test_a_template_beside_the_config_goes_first() -> None:
    """`chat_template.jinja` is where it is kept now; special tokens are still in the config."""
    beside = counter(alone="{{ bos_token }} a", bos_token={"content": "<s>"})
    assert beside.tokens(said("x")) == [1, 2]


def test_without_a_template_only_prompts_are_counted() -> None:
    """Nobody guesses what a model's template is."""
    alone = counter(None)
    assert (alone.has_template, alone.count({"prompt": "a"}), alone.count(said("a"))) == (False, 1, None)


@pytest.mark.parametrize(
    "shipped",
    [
        Shipped(tokenizer=b"{}"),
        Shipped(tokenizer=b"\xff"),
        Shipped(tokenizer=words_tokenizer().encode(), config=b"["),
        Shipped(tokenizer=words_tokenizer().encode(), config=b"[]"),
        Shipped(tokenizer=words_tokenizer().encode(), template=b"{% if %}"),
        Shipped(tokenizer=words_tokenizer().encode(), template=b"{% break %}"),
        Shipped(tokenizer=words_tokenizer().encode(), template=b"{% for a in b %}" * 30 + b"{% endfor %}" * 30),
    ],
)
def test_what_is_no_tokenizer_cannot_be_used(shipped: Shipped) -> None:
    """Also one whose template or config is broken: half of it would count wrongly."""
    with pytest.raises(Unusable):
        FileCounter(shipped)


class _Panics:
    """What the library does where Rust panics."""

    def encode_batch_fast(self, *_: object, **__: object) -> None:
        """Raise what is no Exception."""
        raise BaseException("panic")


def test_a_panic_is_no_count() -> None:
    """It is no Exception, and ends nothing but this count."""
    broken = counter()
    broken._tokenizer = _Panics()
    assert broken.count({"prompt": "a"}) is None


def test_others_go_on_while_a_long_text_is_encoded() -> None:
    """The library lets go of Python's lock: else the loop, and all streams with it, would stand still."""
    long, called, ran = counter(), threading.Event(), threading.Event()

    def other() -> None:
        called.wait()
        ran.set()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # No thread is made to let go.
    try:
        thread = threading.Thread(target=other)
        thread.start()
        called.set()
        until = time.monotonic() + PATIENCE
        while not ran.is_set() and time.monotonic() < until:
            long._encoded("a b " * 50_000, special=False)
        was_running = ran.is_set()
    finally:
        sys.setswitchinterval(interval)
    thread.join()
    assert was_running


def test_another_file_is_another_version() -> None:
    """Whoever keeps counts keeps them by it."""
    assert counter("a").version != counter("b").version
    assert counter("a").version == counter("a").version
