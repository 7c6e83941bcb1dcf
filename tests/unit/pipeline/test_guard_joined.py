"""What the parts of one message say together is judged as engines read it, and redacted over their borders."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.guards import Action, KeywordsGuard, PiiGuard, Source, Stage
from capstan_gateway.guards.build import build_detector
from capstan_gateway.guards.port import Finding
from capstan_gateway.pipeline.guards.apart import EDGE, apart
from capstan_gateway.pipeline.guards.compiled import CompiledGuard
from capstan_gateway.pipeline.guards.joined import told_once
from capstan_gateway.pipeline.guards.output import answer_pieces
from capstan_gateway.pipeline.guards.pieces import Piece, changes, pieces_of, with_texts
from capstan_gateway.pipeline.guards.redaction import Redactor
from capstan_gateway.pipeline.guards.stage import Found, _told
from support.guards import Words, guard

Document = dict[str, Any]


def said(*texts: str) -> Document:
    """Give a request with a message of these parts, and an image among them."""
    parts: list[Document] = [{"type": "text", "text": text} for text in texts]
    parts.insert(1, {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}})
    return {"model": "m", "messages": [{"role": "user", "content": parts}]}


def redacted(document: Document, pieces: Sequence[Piece], word: str) -> tuple[list[str], Document]:
    """Redact a word; give the texts of the parts, and the request."""
    one = guard("words", Words([word]), action=Action.REDACT)
    assert one.detector is not None
    scans = told_once(pieces, [(n, one.detector.scan(piece.text, piece.source)) for n, piece in enumerate(pieces)])
    found = tuple((n, finding) for n, scan in scans for finding in scan.findings)
    redactor = Redactor()
    written = redactor.rewritten(pieces, [Found(one, found)] if found else [])
    for piece in written:
        if piece.parts:
            assert piece.text == "".join(written[part].text for part in piece.parts)
            assert piece.starts[0] == 0
    changed = with_texts(document, changes(written, pieces))
    return [part["text"] for part in changed["messages"][0]["content"] if "text" in part], changed


def test_parts_of_a_message_are_one_text() -> None:
    """Beside each part there is what they say together, without a line end and with one; what is said behind an answer
    is none of it."""
    document = said("a", "b")
    document["messages"] += [{"role": "assistant", "content": "d"}, {"role": "user", "content": "c"}]
    pieces = [piece for piece in pieces_of(document).texts if not piece.text.startswith("https")]
    assert [(piece.text, piece.path, piece.is_part) for piece in pieces] == [
        ("a", "messages[0].content[0].text", True),
        ("b", "messages[0].content[2].text", True),
        ("d", "messages[1].content", False),
        ("ab", "messages[0].content", False),
        ("a\nb", "messages[0].content", True),
        ("c", "messages[2].content", False),
    ]


def in_a_row(*texts: str, between: Sequence[Document] = ()) -> Document:
    """Give a request in which the user says one thing after the other."""
    messages: list[Document] = []
    for text in texts:
        messages += [*(between if messages else ()), {"role": "user", "content": text}]
    return {"model": "m", "messages": messages}


def test_messages_in_a_row_are_one_text() -> None:
    """What a user says in several messages is judged together up to where the assistant speaks, whatever the system and
    tools say between; what somebody else has written is not part of it."""
    tool, system = {"role": "tool", "content": "t"}, {"role": "system", "content": "s"}
    document = in_a_row("a", "b", between=[tool, system])
    document["messages"] += [
        {"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "text", "text": "d"}]},
        {"role": "assistant", "content": "e"},
        {"role": "user", "content": "f"},
    ]
    wholes = [(piece.text, piece.path, piece.source) for piece in pieces_of(document).texts if piece.parts]
    assert wholes == [("a\nb\ncd", "messages", Source.USER)]


def test_no_assistant_that_says_nothing_parts_them() -> None:
    """An empty turn of the assistant is none."""
    document = in_a_row(
        "a", "b", between=[{"role": "assistant", "content": ""}, {"role": "assistant", "content": None}]
    )
    assert "a\nb" in [piece.text for piece in pieces_of(document).texts]


def test_what_is_over_messages_is_redacted_in_all() -> None:
    """The placeholder is in the message where it begins; the others keep the rest, and what is between goes nowhere."""
    document = in_a_row("my fal", "con", "x falcon")
    pieces = pieces_of(document).texts
    whole = next(n for n, piece in enumerate(pieces) if piece.parts)
    one = guard("words", Words([]), action=Action.REDACT)
    found = [Found(one, ((whole, Finding("falcon", 3, 10)), (2, Finding("falcon", 2, 8))))]
    written = Redactor().rewritten(pieces, found)
    changed = with_texts(document, changes(written, pieces))
    assert [message["content"] for message in changed["messages"]] == ["my [FALCON_1]", "", "x [FALCON_2]"]
    assert written[whole].text == "my [FALCON_1]\n\nx [FALCON_2]"
    assert written[whole].starts == (0, 14, 15)


@given(st.lists(st.text("ab ", max_size=5), min_size=2, max_size=5), st.data())
def test_redaction_over_messages_takes_just_what_was_found(texts: list[str], data: st.DataObject) -> None:
    """Whatever is marked of what messages say together: in them what was marked is replaced, and nothing else."""
    document = in_a_row(*texts)
    pieces = pieces_of(document).texts
    wholes = [n for n, piece in enumerate(pieces) if piece.parts]
    if not wholes:
        return
    whole = pieces[wholes[0]]
    start = data.draw(st.integers(0, len(whole.text) - 1))
    end = data.draw(st.integers(start + 1, len(whole.text)))
    later = data.draw(st.booleans())
    one = guard("words", Words([]), action=Action.REDACT)
    written = Redactor().rewritten(pieces, [Found(one, ((wholes[0], Finding("x", start, end)),), later)])
    left = "".join(written[part].text for part in whole.parts)
    kept = "".join(
        char for at, char in enumerate(whole.text) if not start <= at < end and is_of_part(pieces, whole, at)
    )
    marked = any(is_of_part(pieces, whole, at) for at in range(start, end))
    assert left.replace("[X_1]", "") == kept
    assert left.count("[X_1]") == marked


def is_of_part(pieces: Sequence[Piece], whole: Piece, at: int) -> bool:
    """Whether a place of a text is in one of its parts."""
    return any(
        start <= at < start + len(pieces[part].text) for part, start in zip(whole.parts, whole.starts, strict=True)
    )


def test_parts_of_an_answer_are_one_text() -> None:
    """Of answers too."""
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    pieces = answer_pieces({"choices": [{"message": {"content": content}}]})
    assert [piece.text for piece in pieces] == ["a", "b", "ab"]


def test_what_is_over_a_border_is_redacted_in_both_parts() -> None:
    """The placeholder is in the part where it begins, nothing is left of it in the others, and all else stays."""
    document = said("my secret is fal", "co", "n, and falcon again")
    texts, changed = redacted(document, pieces_of(document).texts, "falcon")
    assert texts == ["my secret is [FALCON_1]", "", ", and [FALCON_1] again"]
    assert changed["messages"][0]["content"][1] == document["messages"][0]["content"][1]


def test_what_a_part_has_is_told_once() -> None:
    """What is found in a part, and in the whole for that, is one finding."""
    pieces = pieces_of(said("falcon", "x")).texts
    scans = [(n, Words(["falcon"]).scan(piece.text, Source.USER)) for n, piece in enumerate(pieces)]
    assert [n for n, scan in told_once(pieces, scans) for _ in scan.findings] == [0]


@given(st.lists(st.text("ab ", max_size=5), min_size=2, max_size=5))
def test_redaction_does_not_depend_on_borders(texts: list[str]) -> None:
    """However a text is cut into parts: together they are what the whole is, redacted."""
    document = said(*texts)
    pieces = pieces_of(document).texts
    parts, _ = redacted(document, pieces, "abb")
    assert "".join(parts) == "".join(texts).replace("abb", "[ABB_1]")


def test_marks_that_overlap_over_a_border_are_one() -> None:
    """What two guards find, of which one ends where the other goes on, goes as a whole."""
    document = said("12", "34", "56")
    pieces = pieces_of(document).texts
    whole = next(n for n, piece in enumerate(pieces) if piece.parts)
    one = guard("words", Words([]), action=Action.REDACT)
    found = [Found(one, ((0, Finding("x", 1, 2)), (whole, Finding("y", 1, 3)), (whole, Finding("z", 2, 5))))]
    written = Redactor().rewritten(pieces, found)
    assert [piece.text for piece in written if piece.is_part and piece.is_written] == ["1[Z_1]", "", "6"]


def found_in(pieces: Sequence[Piece], said: KeywordsGuard | PiiGuard) -> list[tuple[int, str]]:
    """Give in which pieces such a guard finds something, and what."""
    one = CompiledGuard(said, Stage.INPUT, build_detector(said), None, frozenset(said.appliesTo), {})
    return [
        (number, pieces[number].text[finding.start : finding.end])
        for number, scan in _told(one, pieces) for finding in scan.findings
    ]  # fmt: skip


LAUNCH = KeywordsGuard(name="k", appliesTo=(Source.USER,), keywords=("nuclear launch", "falcon"))


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "the nuclear"}, {"type": "text", "text": "launch codes"}],
        ["the nuclear", "launch codes"],
        [
            {"type": "text", "text": "the nuclear", "refusal": "x"},
            {"type": "refusal", "text": "y", "refusal": "launch"},
        ],
        [{"type": "thinking", "thinking": "the nuclear"}, {"text": "launch codes"}],
    ],
)
def test_parts_are_read_with_line_ends_between_them_too(content: list[Any]) -> None:
    """As many engines read them, whatever says something in a part; nothing else can be written there."""
    pieces = pieces_of({"messages": [{"role": "user", "content": content}]}).texts
    ((number, text),) = found_in(pieces, LAUNCH)
    assert text == "nuclear\nlaunch"
    assert pieces[number].fixed


def test_a_word_in_one_part_tells_of_a_value_in_the_next() -> None:
    """The value is in its part, by its places there, and told once."""
    pieces = pieces_of(said("it is my SSN", "219099999 or so", "falcon", "falcon")).texts
    assert found_in(pieces, PiiGuard(name="p", appliesTo=(Source.USER,))) == [(2, "219099999")]
    assert [number for number, _ in found_in(pieces, LAUNCH)] == [3, 4]


def test_where_blanks_are_line_ends_make_no_difference() -> None:
    """Then nothing is looked at twice."""
    assert not [piece for piece in pieces_of(said("a ", "b", "\nc")).texts if piece.apart]


def test_what_is_redacted_is_read_anew_with_line_ends() -> None:
    """Who looks later finds in its place what is there then, and no text is written that is none."""
    document = said("ann@example.org", "falcon", "x")
    pieces = pieces_of(document).texts
    written = Redactor().rewritten(pieces, [Found(guard("g", action=Action.REDACT), ((0, Finding("Email", 0, 15)),))])
    assert [piece.text for piece in written if piece.apart] == ["[EMAIL_1]\nfalcon\nx"]
    assert [text for _, text in changes(written, pieces)] == ["[EMAIL_1]"]
    again = Redactor().rewritten(written, [Found(guard("g", action=Action.REDACT), ((0, Finding("Name", 0, 9)),))])
    assert [piece.text for piece in again if piece.apart] == ["[NAME_1]\nfalcon\nx"]


@given(st.lists(st.one_of(st.text("ab ", max_size=4), st.integers(2 * EDGE - 2, 3 * EDGE).map(lambda size: "c" * size)),
                min_size=2, max_size=5))  # fmt: skip
def test_of_long_parts_only_what_is_near_borders_is_read_again(texts: list[str]) -> None:
    """Each segment is what stands there in its part; both edges of every part are there."""
    made = apart(9, list(enumerate(texts)))
    if made is None:
        assert all(one[-1:].isspace() or other[:1].isspace() for one, other in itertools.pairwise(texts))
        return
    ways, text = made
    for one in ways.segments:
        size = one.end - one.start
        assert text[one.start : one.end] == texts[one.number][one.offset : one.offset + size]
        assert size <= 2 * EDGE
    for number, part in enumerate(texts):
        assert {place for one in ways.segments if one.number == number
                for place in (one.offset, one.offset + one.end - one.start)} >= {0, len(part)}  # fmt: skip


def test_nothing_is_found_over_what_is_left_out() -> None:
    """What seems to stand there stands nowhere."""
    ends = f"{'w' * (EDGE - 8)} nuclear"
    cut = pieces_of(said("z", f"{ends}{'v' * EDGE}launch {'u' * (EDGE - 7)}", "z")).texts
    assert any("nuclear\n\nlaunch" in piece.text for piece in cut if piece.apart)
    assert found_in(cut, LAUNCH) == []


def test_of_many_messages_each_is_read_with_its_own_line_ends() -> None:
    """What one has is none of another's, and what was found already is told once."""
    content = [{"type": "text", "text": "a falcon, nuclear"}, {"type": "text", "text": "launch"}]
    pieces = pieces_of({"messages": [{"role": "user", "content": content}] * 300}).texts
    found = found_in(pieces, LAUNCH)
    assert [text for _, text in found] == ["falcon"] * 300 + ["nuclear\nlaunch"] * 300
    assert len({number for number, _ in found}) == 600
