"""Messages and pieces of them in the one form, and JSON with the faults of engines."""

from typing import Any

import orjson
import pytest

from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.streaming.answers import as_one, mend_answer
from capstan_gateway.streaming.asked import NOTHING, Asked
from capstan_gateway.streaming.forms import (
    is_named_otherwise,
    is_odd,
    plain,
    reasoning_of,
    refusal_of,
    text_of,
    with_read_name,
)
from capstan_gateway.streaming.mended_json import may_be_faulty, read_mended

CHAT = Asked({}, chat=True, client_reads_chat=True)
THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]}
TEXT = {"type": "text", "text": "Hi"}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    "message",
    [
        {}, {"content": "a"}, {"content": None, "reasoning": None, "thinking": ""}, {"reasoning_content": "a"},
        {"reasoning_content": "a", "reasoning": "a"}, {"content": "a", "tool_calls": [], "refusal": None},
    ],
)  # fmt: skip
def test_what_is_in_the_form_stays_the_same_object(message: dict[str, Any]) -> None:
    """Also with the nulls and empty texts that engines write into what they do not use."""
    assert not is_odd(message)
    assert plain(message) is message


@pytest.mark.parametrize(
    ("message", "form"),
    [
        ({"content": [TEXT, TEXT]}, {"content": "HiHi"}),
        ({"content": [THOUGHT, TEXT]}, {"content": "Hi", "reasoning_content": "hm"}),
        ({"content": [{"text": "a"}, {"type": "output_text", "text": "b"}]}, {"content": "ab"}),
        ({"reasoning": "hm"}, {"reasoning": "hm", "reasoning_content": "hm"}),
        ({"reasoning": "hm", "reasoning_content": None}, {"reasoning": "hm", "reasoning_content": "hm"}),
        ({"thinking": "hm", "content": "a"}, {"thinking": "hm", "content": "a", "reasoning_content": "hm"}),
        ({"reasoning_text": "hm"}, {"reasoning_text": "hm", "reasoning_content": "hm"}),
        ({"reasoning": {"summary": "hm"}}, {"reasoning": {"summary": "hm"}, "reasoning_content": "hm"}),
        ({"reasoning_content": {"text": "hm"}}, {"reasoning_content": "hm"}),
        (
            {"reasoning_details": [{"text": "h"}, {"summary": "m"}, {"data": "x"}, "!"]},
            {"reasoning_details": [{"text": "h"}, {"summary": "m"}, {"data": "x"}, "!"], "reasoning_content": "hm!"},
        ),
    ],
)
def test_what_is_not_is_written_so(message: dict[str, Any], form: dict[str, Any]) -> None:
    """One text, and what was thought under the name that clients read; the engine's own fields stay."""
    given = orjson.dumps(message)
    assert is_odd(message)
    assert plain(message) == form
    assert orjson.dumps(message) == given


def test_parts_that_are_more_than_text_stay() -> None:
    """A picture has no place in a text."""
    message = {"content": [TEXT, {"type": "image_url", "image_url": {}}]}
    assert plain(message) == message
    assert plain({"content": [TEXT, 7]}) == {"content": [TEXT, 7]}


def test_texts_are_told_apart() -> None:
    """What is said, what is refused and what was thought; what is none of them is none."""
    assert (text_of({"content": [TEXT, {"text": 7}, THOUGHT]}), text_of({"refusal": "x"})) == ("Hi", "")
    assert (refusal_of({"refusal": "x"}), refusal_of({"content": "x"})) == ("x", "")
    assert reasoning_of({"reasoning": "a", "reasoning_content": "b"}) == "a"
    assert reasoning_of({"content": [THOUGHT]}) == "hm"
    assert reasoning_of({"content": "x"}) == ""
    assert reasoning_of({"reasoning": {"content": "c"}}) == "c"


def test_what_is_mended_in_its_bytes() -> None:
    """Reasoning under vLLM's name alone; nothing else."""
    assert is_named_otherwise({"reasoning": "x"})
    assert not is_named_otherwise({"reasoning": {"text": "x"}})
    assert not is_named_otherwise({"thinking": "x"})
    assert not is_named_otherwise({"reasoning": "x", "content": [TEXT]})


@pytest.mark.parametrize("text", ["hm", "é \U0001f642", 'a "quote"', "back\\slash", "\\", '\\"', "\n", "{}", '","x":"'])
@pytest.mark.parametrize("dump", [orjson.dumps, lambda chunk: orjson.dumps(chunk).replace(b'":', b'": ')])
def test_a_second_name_in_the_bytes(text: str, dump: Any) -> None:
    """Each frame of a run says the same under both names, whatever is in the text; null and other fields stay."""
    chunks = [{"delta": {"reasoning": text, "x": 1}}, {"delta": {"reasoning": None}}, {"delta": {"content": "a"}}]
    if dump is not orjson.dumps and '":' in orjson.dumps(text).decode()[1:]:
        return
    run = b"".join(b"data: " + dump(chunk) + b"\n\n" for chunk in chunks)
    made = with_read_name(run)
    assert made is not None
    read = [orjson.loads(frame[6:]) for frame in made.split(b"\n\n") if frame]
    assert read == [{"delta": {"reasoning": text, "reasoning_content": text, "x": 1}}, *chunks[1:]]


def test_a_run_with_both_names_is_read() -> None:
    """Which frame has which name, its bytes do not tell."""
    assert with_read_name(b'{"reasoning":"a"} {"reasoning_content":"b"}') is None
    plain_run = b'{"reasoning_content":"b"}'
    assert with_read_name(plain_run) is plain_run


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (rb'{"a":"x\ud83d"}', {"a": "x\ufffd"}),
        (rb'{"a":"\uDE00\ud83d\uDE00"}', {"a": "\ufffd\U0001f600"}),
        (rb'{"\udfff":["\uDBFF"]}', {"\ufffd": ["\ufffd"]}),
        (b'{"a":NaN,"b":[Infinity,-Infinity, 1.5, true, null]}', {"a": None, "b": [None, None, 1.5, True, None]}),
        (b'{"a": NaN, "b": 123456789012345678, "c": -1234567890123456789012}',
         {"a": None, "b": 123456789012345678, "c": -1234567890123456789012.0}),
    ],
)  # fmt: skip
def test_faults_of_engines_are_mended(data: bytes, value: Any) -> None:
    """Half a character is U+FFFD, what is no number null, and what does not fit into 64 bits a float."""
    assert may_be_faulty(data)
    assert read_mended(data) == value
    assert orjson.loads(orjson.dumps(read_mended(data))) == value


@pytest.mark.parametrize(
    "data", [b"", b"{", rb'{"a":"\ud83d"', b"NaN}", b'{"a":nan}', b"[" * 100_000 + b"NaN", rb'{"a":"\ud83d\x"}']
)
def test_other_faults_are_faults(data: bytes) -> None:
    """What is cut, or no JSON at all, stays an error."""
    with pytest.raises(orjson.JSONDecodeError):
        read_mended(data)


@pytest.mark.parametrize("data", [rb'{"a":"\ud83d\ude00"}', b'{"a":"NaN, Infinity"}', b'{"NaN":1}'])
def test_what_only_looks_like_a_fault(data: bytes) -> None:
    """A whole pair is one character, and words in a text are words."""
    assert orjson.loads(data)
    assert not may_be_faulty(data) or b'"NaN' in data


def answer(*choices: Any, **fields: Any) -> dict[str, Any]:
    """A whole answer."""
    return {"id": "c", "choices": list(choices), **fields}


@pytest.mark.parametrize(
    ("choice", "finish"),
    [
        ({"message": {"content": "a"}, "finish_reason": ""}, "stop"),
        ({"message": {"tool_calls": [CALL]}, "finish_reason": ""}, "tool_calls"),
        ({"message": {"content": "a"}, "finish_reason": "tool_calls"}, "stop"),
        ({"message": {"tool_calls": []}, "finish_reason": "tool_calls"}, "stop"),
        ({"text": "a", "finish_reason": ""}, "stop"),
        ({"message": {"tool_calls": [{}]}, "finish_reason": "tool_calls"}, "stop"),
    ],
)
def test_the_finish_reason_of_a_whole_answer(choice: dict[str, Any], finish: str) -> None:
    """One that is empty, or speaks of calls that there are not, becomes what fits."""
    document = answer(choice)
    assert mend_answer(document)
    assert document["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize(
    "choice",
    [
        {"message": {"content": "a"}, "finish_reason": "stop"}, {"text": "a", "finish_reason": "length"},
        {"message": {"tool_calls": [CALL]}, "finish_reason": "stop"}, {"message": 7, "finish_reason": "stop"}, 7,
        {"message": {"function_call": {"name": "f"}}, "finish_reason": "tool_calls"},
        {"message": {"content": [TEXT], "reasoning": "hm"}, "finish_reason": "stop"},
    ],
)  # fmt: skip
def test_a_whole_answer_that_stays(choice: Any) -> None:
    """What is in the form, and what is no choice; a call of the older form; for other dialects, texts in any form."""
    document = answer(choice)
    given = orjson.dumps(document)
    assert not mend_answer(document)
    assert orjson.dumps(document) == given
    assert not mend_answer({"choices": 7})


def test_a_whole_answer_for_a_client_of_chat() -> None:
    """Its texts are in the form, its calls repaired; one that had no id gets one."""
    document = answer({"message": {"content": [THOUGHT, TEXT]}, "finish_reason": "stop"})
    del document["id"]
    assert mend_answer(document, CHAT)
    (choice,) = document["choices"]
    assert choice == {"message": {"content": "Hi", "reasoning_content": "hm"}, "finish_reason": "stop"}
    assert document["id"].startswith("chatcmpl-")
    with pytest.raises(UpstreamFailed):
        mend_answer(answer({"message": {"tool_calls": [{"id": "x"}]}, "finish_reason": "stop"}))


def test_choices_that_are_parts_of_one() -> None:
    """Only where each has a message and none another index, and only when one answer was asked for."""
    parts = [{"message": {"role": "assistant", "content": "a"}}, {"index": 0, "message": {"tool_calls": [CALL]}}]
    joined = {"index": 0, "message": {"role": "assistant", "content": "a", "tool_calls": [CALL]}}
    assert as_one(parts) == joined
    assert as_one(parts[:1]) is as_one([]) is as_one([*parts, 7]) is None
    assert as_one([parts[0], {"index": 1, "message": {"content": "b"}}]) is None
    document = answer(*[{**part, "finish_reason": "stop"} for part in parts])
    assert mend_answer(document, CHAT)
    assert document["choices"] == [{**joined, "finish_reason": "stop"}]
    several = answer(*[{**part, "finish_reason": "stop"} for part in parts])
    assert not mend_answer(several, NOTHING)
    assert len(several["choices"]) == 2


@pytest.mark.parametrize("kind", [["text"], {"a": 1}, 5, None])
def test_a_part_of_no_type_stays_as_it_came(kind: object) -> None:
    """What stands for the type of a part may be anything: it is no text, and nothing fails."""
    message = {"content": [{"type": kind, "text": "x"}]}
    assert plain(message) == message
