"""What the parts of one message say together is judged as engines read it, and redacted over their borders."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.guards import Action, Source
from capstan_gateway.guards.port import Finding
from capstan_gateway.pipeline.guards.joined import told_once
from capstan_gateway.pipeline.guards.output import answer_pieces
from capstan_gateway.pipeline.guards.pieces import Piece, changes, pieces_of, with_texts
from capstan_gateway.pipeline.guards.redaction import Redactor
from capstan_gateway.pipeline.guards.stage import Found
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
    changed = with_texts(document, changes(written, pieces))
    return [part["text"] for part in changed["messages"][0]["content"] if "text" in part], changed


def test_parts_of_a_message_are_one_text() -> None:
    """Beside each part there is what they say together; texts of other messages are none of it."""
    document = said("a", "b")
    document["messages"].append({"role": "user", "content": "c"})
    pieces = [piece for piece in pieces_of(document).texts if not piece.text.startswith("https")]
    assert [(piece.text, piece.path, piece.is_part) for piece in pieces] == [
        ("a", "messages[0].content[0].text", True),
        ("b", "messages[0].content[2].text", True),
        ("ab", "messages[0].content", False),
        ("c", "messages[1].content", False),
    ]


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
    assert [piece.text for piece in written if piece.is_part] == ["1[Z_1]", "", "6"]
