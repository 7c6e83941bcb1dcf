"""Which answers were given to whom, by the ids that stand in them."""

import pytest

from capstan_gateway.feedback.given import Answered, Given, Name, id_of_stream, id_of_whole, read_answered

ARM = ("n/r", "e", "n/a", 7)


@pytest.mark.parametrize(
    ("body", "id"),
    [
        (b'{"id":"chatcmpl-1","choices":[]}', "chatcmpl-1"),
        (b' {\n "id" : "msg_1", "type": "message"}', "msg_1"),
        (b'{"object":"x","choices":[{"message":{"tool_calls":[{"id":"call_9"}]}}],"id":"cmpl-2"}', "cmpl-2"),
        (b'{"choices":[{"message":{"tool_calls":[{"id":"call_9"}]}}]}', ""),
        (b'{"id":7}', ""),
        (b'{"id":"a\\u0062"}', "ab"),
        (b"[1]", ""),
        (b"no json", ""),
        (b'{"object":"' + b"x" * 70_000 + b'","id":"late"}', ""),
    ],
)
def test_the_id_of_a_whole_answer(body: bytes, id: str) -> None:
    """It is the `id` of the document itself, wherever it stands, and never one of a call within."""
    assert id_of_whole(body) == id


@pytest.mark.parametrize(
    ("first", "id"),
    [
        (b'data: {"id":"chatcmpl-1","choices":[{"delta":{"tool_calls":[{"id":"call_9"}]}}]}\n\n', "chatcmpl-1"),
        (b': wait\n\ndata: {"choices":[{"delta":{"tool_calls":[{"id":"c"}]}}],"id":"x-1"}\n\n', "x-1"),
        (b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","role":"a"}}\n\n', "msg_1"),
        (
            b'event: response.created\ndata: {"type":"response.created","sequence_number":0,'
            b'"response":{"id":"resp_1"}}\n\n',
            "resp_1",
        ),
        (b'data: {"type":"response.created","response":{"object":"response","id":"resp_2"}}\n\n', "resp_2"),
        (b'data: {"type":"content_block_start","content_block":{"id":"toolu_1"}}\n\n', ""),
        (b"data: [DONE]\n\n", ""),
        (b"", ""),
    ],
)
def test_the_id_of_a_stream(first: bytes, id: str) -> None:
    """It is the one that the first frames name as the answer's, in each dialect."""
    assert id_of_stream(first) == id


class _Clock:
    ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


def _note(given: Given, tenant: str, id: str) -> None:
    given.note(tenant, id, "a", "ab", "req", (ARM,))


def test_an_answer_is_known_to_its_tenant_alone() -> None:
    """Another tenant finds nothing under the id, and each finds its own where two have the same."""
    given = Given(most=10, seconds=60, now_ms=_Clock())
    _note(given, "red", "1")
    assert given.find(Name("blue", "1")) is None
    found = given.find(Name("red", "1"))
    assert found == Answered(1_000_000, "a", "ab", "req", (ARM,))
    assert Name("red", "1").digest != Name("blue", "1").digest


def test_answers_are_forgotten_after_a_while() -> None:
    """Of an answer that was given too long ago nothing can be said."""
    clock = _Clock()
    given = Given(most=10, seconds=60, now_ms=clock)
    _note(given, "red", "1")
    clock.ms += 60_000
    assert given.find(Name("red", "1")) is None


def test_only_the_newest_answers_are_known() -> None:
    """With more than there may be the oldest goes; one that is given again is new."""
    given = Given(most=2, seconds=60, now_ms=_Clock())
    for id in ("1", "2", "1", "3"):
        _note(given, "red", id)
    assert [id for id in "123" if given.find(Name("red", id))] == ["1", "3"]
    assert len(given) == 2


def test_others_are_told_of_each_answer() -> None:
    """What is noted is told, with what it is known by."""
    told: list[tuple[Name, Answered]] = []
    given = Given(most=2, seconds=60, now_ms=_Clock(), tell=told.append)
    _note(given, "red", "1")
    ((name, answered),) = told
    assert name == Name("red", "1")
    assert read_answered(answered.write()) == answered


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'["x","a","b","r",[]]', b'[1,"a","b","r",[[1]]]', b"[[["])
def test_what_is_no_answer_is_not_read(data: bytes) -> None:
    """Bytes of another release, or of nobody, are passed over."""
    assert read_answered(data) is None
