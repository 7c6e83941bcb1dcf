"""What is in the queue's entries: asks, heads, and data that may be compressed and sealed."""

import json

import pytest

from capstan_contract.queue.wire import (
    AnswerHead,
    Ask,
    Packing,
    Unreadable,
    read_answer_head,
    read_ask,
)

KEY = b"k" * 16


def test_asks_of_a_later_release_are_read() -> None:
    """Fields that are not known change nothing, and those that are there are read."""
    ask = Ask("/v1/completions", (("x-request-id", "one"),))
    later = {**json.loads(ask.write()), "more": 1}
    assert read_ask(json.dumps(later).encode()) == ask


@pytest.mark.parametrize(
    "said",
    [{"v": 2, "path": "/v1"}, {"v": 1}, {"v": 1, "path": "v1"}, {"v": 1, "path": "/", "headers": [["a"]]}, [], "x"],
)
def test_asks_that_are_none(said: object) -> None:
    """An entry of another version, or of another form, is refused and not guessed at."""
    with pytest.raises(Unreadable):
        read_ask(json.dumps(said).encode())


@pytest.mark.parametrize("said", [{}, {"status": 99, "type": ""}, {"status": True, "type": ""}, {"status": 200}, []])
def test_heads_that_are_none(said: object) -> None:
    """A head without a status or a type is refused."""
    with pytest.raises(Unreadable):
        read_answer_head(json.dumps(said).encode())


def test_heads_are_read_as_they_were_written() -> None:
    """Status, type, worker and address come through."""
    head = AnswerHead(200, "text/event-stream", "pod-1", "10.0.0.1:8000")
    assert read_answer_head(head.write()) == head


@pytest.mark.parametrize("more", [{}, {"address": 5}])
def test_heads_without_an_address(more: dict[str, object]) -> None:
    """What a worker of the release before says can be read; where its engine is, is not known then."""
    said = {"status": 200, "type": "text/plain", "worker": "pod-1", **more}
    assert read_answer_head(json.dumps(said).encode()) == AnswerHead(200, "text/plain", "pod-1")


def test_what_is_sealed_cannot_be_read_in_redis() -> None:
    """Neither the data nor its compressed form is in what is written."""
    data = b"the prompt " * 500
    packed = Packing(KEY).pack("one", "b", data)
    assert b"prompt" not in packed
    assert Packing(KEY).unpack("one", "b", packed) == data


def test_what_is_sealed_belongs_to_its_entry_and_kind() -> None:
    """Data that somebody has moved to another entry, or made another kind of, is refused."""
    packed = Packing(KEY).pack("one", "b", b"text")
    for entry, kind in (("two", "b"), ("one", "d")):
        with pytest.raises(Unreadable):
            Packing(KEY).unpack(entry, kind, packed)


def test_plain_data_is_refused_where_it_must_be_sealed() -> None:
    """Who can write into Redis and has no key cannot make a worker take a body, nor a gateway an answer."""
    with pytest.raises(Unreadable):
        Packing(KEY).unpack("one", "b", Packing().pack("one", "b", b"text"))
    with pytest.raises(Unreadable):
        Packing().unpack("one", "b", Packing(KEY).pack("one", "b", b"text"))


def test_a_short_secret_is_refused() -> None:
    """A secret that could be guessed is no secret."""
    with pytest.raises(ValueError, match="at least 16 bytes"):
        Packing(b"short")


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that would become larger than allowed is not unpacked to its end."""
    packed = Packing().pack("one", "b", bytes(100_000))
    monkeypatch.setattr("capstan_contract.queue.wire.MOST_BYTES", 50_000)
    with pytest.raises(Unreadable):
        Packing().unpack("one", "b", packed)
