"""Questions as bytes: what was written is read again, and nothing else is."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.caches.box import SECRET_BYTES, Box, Unreadable
from capstan_gateway.caches.port import CacheKey
from capstan_gateway.caches.semantic import questions
from capstan_gateway.caches.semantic.index import DIMENSIONS
from capstan_gateway.caches.semantic.judge import MOST_CHARACTERS
from capstan_gateway.caches.semantic.questions import MOST_BYTES, QuestionCodec, StoredQuestion

KEY = CacheKey("a" * 32, "b" * 16, b"d" * 32)
SECRET = b"s" * SECRET_BYTES
CODECS = st.builds(QuestionCodec, st.sampled_from((b"", SECRET)))
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=MOST_CHARACTERS)


def vector(seed: int) -> numpy.ndarray:
    """Give a direction."""
    found = numpy.random.default_rng(seed).normal(size=DIMENSIONS).astype(numpy.float32)
    return found / numpy.linalg.norm(found)


def question(text: str = "why?", created: int = 1, expires: int = 2, seed: int = 0) -> StoredQuestion:
    """Give a question to the answer of the key."""
    return StoredQuestion(KEY, f"{KEY.partition}.{KEY.model}.{'e' * 64}", text, created, expires, vector(seed))


QUESTIONS = st.builds(question, TEXTS, st.integers(0, 2**45), st.integers(0, 2**45), st.integers(0, 99))


@given(CODECS, QUESTIONS)
def test_what_was_written_is_read(codec: QuestionCodec, asked: StoredQuestion) -> None:
    """Every question comes back as it was, with its vector as good as half precision is, and is bounded."""
    written = codec.write(asked)
    read = codec.read(KEY, written)
    assert read[:-1] == asked[:-1]
    assert float(read.vector @ asked.vector) == pytest.approx(1, abs=1e-5)
    assert float(numpy.linalg.norm(read.vector)) == pytest.approx(1, abs=1e-6)
    assert len(written) <= MOST_BYTES


@given(CODECS, QUESTIONS, st.data())
def test_what_was_changed_does_not_read(codec: QuestionCodec, asked: StoredQuestion, data: st.DataObject) -> None:
    """One bit that is another one, one byte less or more, makes it no question."""
    written = codec.write(asked)
    place = data.draw(st.integers(0, len(written) * 8 - 1))
    flipped = bytearray(written)
    flipped[place // 8] ^= 1 << place % 8
    for changed in (bytes(flipped), written[:-1], written + b"\0"):
        with pytest.raises(Unreadable):
            codec.read(KEY, changed)


@given(st.binary(max_size=MOST_BYTES + 10))
def test_what_is_no_question_does_not_read(data: bytes) -> None:
    """Anything else that lies there is refused, and nothing else is raised."""
    for secret in (b"", SECRET):
        with pytest.raises(Unreadable):
            QuestionCodec(secret).read(KEY, data)


@given(CODECS, QUESTIONS)
def test_a_question_that_lies_under_another_key_does_not_read(codec: QuestionCodec, asked: StoredQuestion) -> None:
    """Who copies a question into another tenant's place, or another answer's, has copied nothing."""
    written = codec.write(asked)
    for other in (KEY._replace(partition="c" * 32), KEY._replace(digest=b"e" * 32), KEY._replace(model="c" * 16)):
        with pytest.raises(Unreadable):
            codec.read(other, written)


@given(QUESTIONS)
def test_what_is_sealed_reads_with_its_key_alone(asked: StoredQuestion) -> None:
    """Another key opens nothing, none opens nothing, and what is not sealed is not taken for sealed; nobody who lacks
    the key reads what was asked."""
    sealed, plain = QuestionCodec(SECRET).write(asked), QuestionCodec().write(asked)
    for codec, written in (
        (QuestionCodec(b"t" * 32), sealed),
        (QuestionCodec(), sealed),
        (QuestionCodec(SECRET), plain),
    ):
        with pytest.raises(Unreadable):
            codec.read(KEY, written)
    assert asked.partition.encode() in plain
    assert asked.partition.encode() not in sealed


def test_what_is_written_well_and_is_none_of_ours_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can write a checksum gets no question into another tenant's partition, none that is too long, and no
    vector that is nearer to others than one is; of other weights none is read at all."""
    codec = QuestionCodec()
    theirs = f"{'c' * 32}.{KEY.model}.{'e' * 64}"
    for wrong in (
        question()._replace(partition=theirs),
        question()._replace(text=""),
        question(text="x" * (MOST_CHARACTERS + 1)),
        question()._replace(vector=vector(0) * 2),
        question()._replace(vector=vector(0) * numpy.nan),
        question()._replace(vector=vector(0)[:-1]),
    ):
        with pytest.raises(Unreadable):
            codec.read(KEY, codec.write(wrong))
    written = codec.write(question())
    monkeypatch.setattr(questions, "SHA256", "0" * 64)
    with pytest.raises(Unreadable):
        codec.read(KEY, written)


def test_a_bomb_costs_its_bound() -> None:
    """What unpacks to more than a question is refused."""
    bomb = Box(b"CPQ", 1, b"question", compressed=True).close(questions._belongs(KEY), b"0" * 10**6)
    assert len(bomb) < MOST_BYTES
    with pytest.raises(Unreadable, match="larger"):
        QuestionCodec().read(KEY, bomb)
