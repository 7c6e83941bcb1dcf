"""Guards on streams: however a text is cut, whatever comes between, no part of a match goes out."""

import itertools
import json
import re
from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from capstan_contract.guards import Action, PiiGuard, RegexGuard, RegexPattern, Source
from capstan_gateway.guards.pii.build import build_pii_detector
from capstan_gateway.guards.placeholders import Naming, Piece, Placeholders, redact, united
from capstan_gateway.guards.plain.regex import build_regex_detector
from support.guarded import Answer, Dear, Words, a_guard, call, delta, guarded

WORDS = ("aba", "bb€b", "😀c")
LETTERS = "ab€😀c"
texts = st.text(LETTERS, max_size=40)


def _long(seed: int, size: int, density: float) -> str:
    """Give a text in which there are words and beginnings of them, the more the denser."""
    choice = Random(seed)  # noqa: S311 - no secret
    parts: list[str] = []
    while size > 0:
        word = choice.choice((*WORDS, "ab", "bb€", "😀"))
        parts.append(word if choice.random() < density else choice.choice("xyz😀"))
        size -= len(parts[-1])
    return "".join(parts)


long_texts = st.builds(
    _long, st.integers(0, 1 << 30), st.integers(0, 3000), st.sampled_from((0.0, 0.001, 0.01, 0.1, 0.9))
)  # fmt: skip
cuts = st.lists(st.integers(1, 70), max_size=60)


def cut(text: str, lengths: Sequence[int]) -> list[str]:
    """Cut a text into pieces of these lengths, and a rest."""
    places = [0, *(min(place, len(text)) for place in itertools.accumulate(lengths)), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(places) if end > start]


def content(pieces: Sequence[str], name: str = "content", choice: int = 0) -> list[Any]:
    """Give the chunks of a text, and its end."""
    return [*(delta(choice, **{name: piece}) for piece in pieces), delta(choice, "stop")]


def redacted(text: str) -> str:
    """Give what is to be left of a whole text."""
    return redact([Piece(text, Words(WORDS).scan(text, Source.TEXT).findings)]).texts[0]


def shown(answer: Answer) -> tuple[str, str | None]:
    """Give what a client sees of one text."""
    return answer.text(), answer.finish()


def _whether_one_begins(text: str, end: int) -> bool:
    """Whether one of the words begins in front of this place."""
    return any(0 <= text.find(word) < end for word in WORDS)


@settings(max_examples=200, deadline=None)
@given(text=st.one_of(texts, long_texts), lengths=cuts, dear=st.booleans())
@example(text=_long(243510, 2048, 0.9), lengths=[], dear=True)
def test_however_a_text_is_cut_it_is_redacted_alike(text: str, lengths: list[int], dear: bool) -> None:
    """A text in any pieces gives the same bytes as in one, and as the whole text redacted at once."""
    guard = a_guard(Dear(WORDS) if dear else Words(WORDS), action=Action.REDACT)
    one, many = guarded([guard], content([text])), guarded([guard], content(cut(text, lengths)))
    assert shown(one) == shown(many)
    assert shown(one) == (redacted(text), "stop")


@settings(max_examples=200, deadline=None)
@given(text=st.one_of(texts, long_texts), lengths=cuts, dear=st.booleans())
def test_however_a_text_is_cut_it_is_blocked_alike(text: str, lengths: list[int], dear: bool) -> None:
    """A text in any pieces gives the same verdict and the same bytes; of what is blocked nothing has gone out."""
    guard = a_guard(Dear(WORDS) if dear else Words(WORDS))
    one, many = guarded([guard], content([text])), guarded([guard], content(cut(text, lengths)))
    assert shown(one) == shown(many)
    said, finish = shown(one)
    assert text.startswith(said)
    has = any(word in text for word in WORDS)
    assert finish == ("content_filter" if has else "stop")
    assert has or said == text
    assert not _whether_one_begins(text, len(said))


@settings(max_examples=150, deadline=None)
@given(text=st.one_of(texts, long_texts), lengths=cuts, upto=st.integers(0, 60), idle=st.sets(st.integers(0, 60)))
def test_at_no_time_has_a_part_of_a_match_gone_out(
    text: str, lengths: list[int], upto: int, idle: set[int]
) -> None:  # fmt: skip
    """Whenever one looks, also after silences, what has gone out is the beginning of the redacted text."""
    chunks: list[Any] = []
    for number, chunk in enumerate(content(cut(text, lengths))[:-1][:upto]):
        chunks += [chunk, None] if number in idle else [chunk]
    answer = guarded([a_guard(Words(WORDS), action=Action.REDACT)], chunks, whole=False)
    assert redacted(text).startswith(answer.text())


@settings(max_examples=100, deadline=None)
@given(given_texts=st.lists(st.one_of(texts, long_texts), min_size=6, max_size=6),
       order=st.lists(st.integers(0, 5), max_size=80),
       sizes=st.lists(st.integers(1, 90), min_size=80, max_size=80),
       action=st.sampled_from([Action.BLOCK, Action.REDACT]))  # fmt: skip
def test_texts_do_not_disturb_each_other(
    given_texts: list[str], order: list[int], sizes: list[int], action: Action
) -> None:
    """Content, thoughts and calls of two choices may come in any order: each is judged as if it came alone."""
    given_texts = [*given_texts[:4], *(json.dumps({"x": text}, ensure_ascii=False) for text in given_texts[4:])]
    left, chunks = list(given_texts), [delta(0, role="assistant", content="")]
    begun: set[int] = set()
    for number, size in [*zip(order, sizes, strict=False), *((number, 10_000) for number in range(6))]:
        piece, left[number] = left[number][:size], left[number][size:]
        if number >= 4:
            chunks.append(call(piece, index=number - 4, name=None if number in begun else "f"))
        elif piece:
            chunks.append(delta(number % 2, **{("content", "reasoning_content")[number // 2]: piece}))
        begun.add(number)
    answer = guarded([a_guard(Words(WORDS), action=action)], [*chunks, delta(0, "stop"), delta(1, "stop")])
    got = [*(answer.text(name, choice) for name in ("content", "reasoning_content") for choice in (0, 1)),
           *(answer.arguments(number) for number in (0, 1))]  # fmt: skip
    if action is Action.REDACT:
        # Names have one count in all texts of a stream: no two values have the same one.
        assert [_uncounted(text) for text in got] == [_uncounted(redacted(text)) for text in given_texts]
    elif any(word in text for text in given_texts for word in WORDS):
        assert answer.stopped == "content_filter"
        for said, text in zip(got, given_texts, strict=True):
            assert text.startswith(said)
            assert not _whether_one_begins(text, len(said))
    else:
        assert got == given_texts


def _uncounted(text: str) -> str:
    return re.sub(r"(\[W[0-9]+_)[0-9]+\]", r"\1n]", text)


def _of(seed: int, size: int, letters: str) -> str:
    return "".join(Random(seed).choices(letters, k=size))  # noqa: S311 - no secret


PATTERNS = ("aa", "ab|ba", r"\bab+a\b", "a.?b", "b[ab]{2,5} ", r"a+\b", "(?i)B{3}", "a{3}")


@settings(max_examples=200, deadline=None)
@given(text=st.builds(_of, st.integers(0, 1 << 30), st.integers(0, 900),
                      st.sampled_from(("a", "ab", "ab ", "aab€  ", "aaaaaab "))), lengths=cuts,
       names=st.sets(st.integers(0, len(PATTERNS) - 1), min_size=1, max_size=2),
       action=st.sampled_from([Action.BLOCK, Action.REDACT]),
       idle=st.booleans())  # fmt: skip
def test_expressions_match_in_pieces_as_in_the_whole(
    text: str, lengths: list[int], names: set[int], action: Action, idle: bool
) -> None:
    """Matches that follow each other, touch each other or overlap are those of the whole text."""
    patterns = tuple(RegexPattern(name=f"p{number}", pattern=PATTERNS[number]) for number in sorted(names))
    detector = build_regex_detector(RegexGuard(name="r", appliesTo=(Source.TEXT,), patterns=patterns))
    guard, found = a_guard(detector, action=action), detector.scan(text, Source.TEXT).findings
    chunks = content(cut(text, lengths))
    if idle and action is Action.REDACT:
        chunks = [one for chunk in chunks for one in (chunk, None)]
    one, many = guarded([guard], content([text])), guarded([guard], chunks)
    assert shown(one) == shown(many)
    if action is Action.REDACT:
        assert one.text() == redact([Piece(text, found)]).texts[0]
    else:
        assert one.finish() == ("content_filter" if found else "stop")


@settings(max_examples=40, deadline=None)
@given(parts=st.lists(st.sampled_from([
    "write to jane.doe@example.com now ", "card 4111 1111 1111 1111, ", "IBAN DE89 3704 0044 0532 0130 00. ",
    "call +1 415 555 2671 or ", "plain words go on and on; ", "€uro 😀 ", "192.168.10.12 ", "order 4711-0815 ", "a.b@",
    "sk-proj-" + "a1B2c3D4e5" * 5 + " ",
]), max_size=30), lengths=cuts)  # fmt: skip
def test_personal_data_is_redacted_in_pieces_as_in_the_whole(parts: list[str], lengths: list[int]) -> None:
    """The detector of personal data finds in a stream what it finds in the whole text, and nothing of it goes out."""
    detector = build_pii_detector(PiiGuard(name="pii", appliesTo=(Source.TEXT,)))
    text = "".join(parts)
    guard = a_guard(detector, action=Action.REDACT)
    answer = guarded([guard], content(cut(text, lengths)))
    assert answer.text() == redact([Piece(text, detector.scan(text, Source.TEXT).findings)]).texts[0]


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.text(min_size=1, max_size=12), max_size=4), data=st.data(), lengths=cuts)
def test_what_was_redacted_comes_back(values: list[str], data: Any, lengths: list[int]) -> None:
    """Placeholders of the input become what they stand for, in pieces, again and again, in text and in arguments."""
    naming = Naming()
    names = [naming.name("Secret", value) for value in values]
    placeholders: Placeholders = naming.placeholders()
    pieces = st.one_of(st.text("[]_AB1 ", max_size=6), *([st.sampled_from(names)] if names else []))
    said = "".join(data.draw(st.lists(pieces, max_size=12)))
    source = json.dumps({"said": said})
    chunks = [*(delta(0, content=piece) for piece in cut(said, lengths)),
              *(call(piece, name="f" if number == 0 else None) for number, piece in enumerate(cut(source, lengths))),
              delta(0, "stop")]  # fmt: skip
    answer = guarded([], chunks, placeholders=placeholders)
    assert answer.text() == placeholders.restore(said)
    assert json.loads(answer.arguments())["said"] == placeholders.restore(said)


@settings(max_examples=100, deadline=None)
@given(text=st.one_of(texts, long_texts), lengths=cuts)
def test_log_probabilities_tell_no_more_than_the_text(text: str, lengths: list[int]) -> None:
    """Log-probabilities are those of characters that went out as they were, and never come before them."""
    chunks = []
    for piece in cut(text, lengths):
        chunk = delta(0, content=piece)
        chunk["choices"][0]["logprobs"] = {"content": [{"token": one, "logprob": -1.0} for one in piece]}
        chunks.append(chunk)
    answer = guarded([a_guard(Words(WORDS), action=Action.REDACT)], [*chunks, delta(0, "stop")])
    kept = list(text)
    for one in united(Words(WORDS).scan(text, Source.TEXT).findings):
        kept[one.start : one.end] = [""] * (one.end - one.start)
    said, told = "", ""
    for chunk in answer.chunks:
        choice = chunk["choices"][0]
        said += choice["delta"].get("content") or ""
        told += "".join(entry["token"] for entry in (choice["logprobs"] or {}).get("content") or ())
        assert len(told) <= len(said) + 2 * said.count("[")
    assert told == "".join(kept)
