"""What is replaced comes back in its place, however the answer is cut and written, and nothing else changes."""

import json
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from capstan_gateway.guards.placeholders import Naming, Piece, Placeholders, redact, united
from capstan_gateway.guards.port import Finding

KINDS = st.sampled_from(
    [
        "Email",
        "Phone",
        "Secret",
        "DateOfBirth",
        "my-pattern",
        "Foo",
        "Foo 1",
        "Foo_1",
        "名前",
        "1st",
        "a" * 90,
        "Email 1",
    ]
)
CLIENTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "[EMAIL_1]",
            "[email_1]",
            "[EMAIL 2]",
            "[PHONE-1]",
            r"\[EMAIL\_1\]",
            "【EMAIL_3】",
            "[EMAIL_",
            "1]",
            "[",
            "]",
            "\\",
            "_1",
            "EMAIL_1",
            "[FOO_1_1]",
            "[FOO_1]",
            "[DATA_1]",
        ]
    ),
)


@st.composite
def conversations(
    draw: st.DrawFn, escaped: bool = False, client: st.SearchStrategy[str] = CLIENTS
) -> tuple[list[Piece], list[list[tuple[str, str]]]]:
    """Give texts with findings in them, and of each its parts: the kind of what was found, and its text."""
    pieces, plans = [], []
    for _ in range(draw(st.integers(1, 4))):
        parts: list[tuple[str, str]] = []
        for _ in range(draw(st.integers(0, 5))):
            parts.append(("", draw(client)))
            parts.append(
                (
                    draw(KINDS),
                    draw(
                        st.one_of(
                            st.text(min_size=1, max_size=12),
                            client.filter(bool),
                            st.sampled_from(["joe@x.com", "JOE@x.com", "555-1234", "(555) 1234"]),
                        )
                    ),
                )
            )
        parts.append(("", draw(client)))
        if escaped:
            parts = [(kind, json.dumps(text)[1:-1]) for kind, text in parts]
        findings, text = [], ""
        for kind, part in parts:
            if kind and part:
                findings.append(Finding(kind, len(text), len(text) + len(part)))
            text += part
        pieces.append(Piece(text, draw(st.permutations(findings)), escaped))
        plans.append([(kind, part) for kind, part in parts if part])
    return pieces, plans


def cut(text: str, places: Sequence[int]) -> list[str]:
    """Cut a text at some places."""
    ends = sorted({min(place, len(text)) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in pairwise(ends)] or [""]


def streamed(placeholders: Placeholders, chunks: Sequence[str], *, escaped: bool = False) -> str:
    """Restore a text in pieces, and look at how much waits."""
    restorer = placeholders.restorer(escaped=escaped)
    result = ""
    for chunk in chunks:
        result += restorer.feed(chunk)
        assert restorer.held <= 2 * max((len(name) for name in placeholders.values), default=0) + 8
    return result + restorer.end()


def same(left: str, right: str) -> bool:
    """Tell whether two texts differ at most in how values are written that are the same."""
    folded = [unicodedata.normalize("NFKC", text).casefold() for text in (left, right)]
    return len({"".join(character for character in text if character.isalnum()) for text in folded}) == 1


@given(conversation=conversations(), others=st.lists(CLIENTS, max_size=3))
@settings(max_examples=300)
def test_texts_come_back(conversation: tuple[list[Piece], list[list[tuple[str, str]]]], others: list[str]) -> None:
    """Restored, each rewritten text is what it was; a value only in the form in which it came first."""
    pieces, _ = conversation
    redacted = redact(pieces, others)
    for piece, text in zip(pieces, redacted.texts, strict=True):
        assert same(redacted.placeholders.restore(text), piece.text)
    for other in others:
        assert redacted.placeholders.restore(other) == other


@given(conversation=conversations(), others=st.lists(CLIENTS, max_size=3))
def test_texts_of_exact_kinds_come_back_as_they_were(
    conversation: tuple[list[Piece], list[list[tuple[str, str]]]], others: list[str]
) -> None:
    """Where every character counts, each rewritten text is restored to the character."""
    pieces = [
        Piece(piece.text, [Finding("x" + finding.kind, finding.start, finding.end) for finding in piece.findings])
        for piece in conversation[0]
    ]
    redacted = redact(pieces, others)
    assert [redacted.placeholders.restore(text) for text in redacted.texts] == [piece.text for piece in pieces]


@given(conversation=conversations())
def test_no_value_is_left_and_each_has_one_name(conversation: tuple[list[Piece], list[list[tuple[str, str]]]]) -> None:
    """What was found is gone from its place, and a name stands for values of one kind only."""
    pieces, plans = conversation
    redacted = redact(pieces)
    names: dict[str, str] = {}
    for text, plan in zip(redacted.texts, plans, strict=True):
        for kind, part in plan:
            if kind:
                name = text[: text.index("]") + 1]
                assert name in redacted.placeholders.values
                assert names.setdefault(name, kind) == kind
                text = text.removeprefix(name)
            else:
                assert text.startswith(part)
                text = text.removeprefix(part)
        assert text == ""


@given(
    conversation=conversations(),
    answer=st.lists(st.one_of(st.integers(0, 30), CLIENTS), max_size=12),
    places=st.lists(st.integers(0, 200), max_size=30),
    style=st.sampled_from(
        [
            str,
            str.lower,
            lambda name: name.replace("_", r"\_"),
            lambda name: name.replace("_", "-"),
            lambda name: f"[ {name[1:-1]} ]",
            lambda name: f"\\[{name[1:-1]}\\]",
            lambda name: f"【{name[1:-1]}】",
        ]
    ),
    escaped=st.booleans(),
)
@settings(max_examples=300)
@example(
    conversation=([Piece("x", [Finding("Email", 0, 1)])], []), answer=["\\", 0], places=[1, 2], style=str, escaped=False
)
def test_an_answer_is_restored_alike_however_it_is_cut(
    conversation: tuple[list[Piece], list[list[tuple[str, str]]]],
    answer: list[int | str],
    places: list[int],
    style: "type[str]",
    escaped: bool,
) -> None:
    """In one piece or in many, repeated or split, in any way that models write them: the same comes out, and little waits."""
    placeholders = redact(conversation[0]).placeholders
    names = list(placeholders.values)
    text = "".join(
        part if isinstance(part, str) else style(names[part % len(names)]) if names else "" for part in answer
    )
    whole = placeholders.restore(text, escaped=escaped)
    assert streamed(placeholders, cut(text, places), escaped=escaped) == whole
    assert streamed(placeholders, list(text), escaped=escaped) == whole


@given(conversation=conversations(), places=st.lists(st.integers(0, 200), max_size=30))
def test_values_in_arguments_of_tools_are_escaped(
    conversation: tuple[list[Piece], list[list[tuple[str, str]]]], places: list[int]
) -> None:
    """In the source of JSON the value stands as JSON has it, so that the arguments can be read."""
    placeholders = redact(conversation[0]).placeholders
    for name, value in placeholders.values.items():
        source = json.dumps({"to": f"a {name} b", "and": [name]})
        assert json.loads(streamed(placeholders, cut(source, places), escaped=True)) == {
            "to": f"a {value} b",
            "and": [value],
        }


@given(conversation=conversations(escaped=True))
def test_arguments_that_the_client_sends_again_are_read_and_written_as_json(
    conversation: tuple[list[Piece], list[list[tuple[str, str]]]],
) -> None:
    """A value with escapes is the value, and the rewritten source is JSON still."""
    pieces, _ = conversation
    redacted = redact(pieces)
    for piece, text in zip(pieces, redacted.texts, strict=True):
        before, after = (
            json.loads(f'"{piece.text}"'),
            json.loads(f'"{redacted.placeholders.restore(text, escaped=True)}"'),
        )
        assert same(before, after)


PLAIN = st.text(st.characters(exclude_characters="[]［］【】"), max_size=20)


@given(conversation=conversations(), more=conversations(client=PLAIN))
def test_names_stay_when_the_conversation_goes_on(
    conversation: tuple[list[Piece], list[list[tuple[str, str]]]], more: tuple[list[Piece], list[list[tuple[str, str]]]]
) -> None:
    """Sent again with new texts behind, the old ones are rewritten as before."""
    new = [piece for piece in more[0] if "[" not in piece.text]
    before = redact(conversation[0])
    after = redact([*conversation[0], *new])
    assert after.texts[: len(before.texts)] == before.texts


@given(
    st.lists(
        st.builds(
            lambda start, length, kind: Finding(kind, start, start + length),
            st.integers(0, 30),
            st.integers(0, 10),
            KINDS,
        ),
        max_size=12,
    )
)
def test_findings_that_overlap_are_replaced_as_one(findings: list[Finding]) -> None:
    """Together they cover what they covered, in order and apart."""
    result = united(findings)
    covered = {place for finding in findings for place in range(finding.start, finding.end)}
    assert {place for finding in result for place in range(finding.start, finding.end)} == covered
    assert all(left.end <= right.start for left, right in pairwise(result))
    assert {finding.kind for finding in result} <= {finding.kind for finding in findings}


@given(conversation=conversations(escaped=True), data=st.data())
def test_only_what_may_come_back_does(
    conversation: tuple[list[Piece], list[list[tuple[str, str]]]], data: st.DataObject
) -> None:
    """A value that must not come back has a name as any other, and an answer keeps that name."""
    pieces = []
    for piece in conversation[0]:
        restored = data.draw(st.sets(st.sampled_from(list(piece.findings)))) if piece.findings else set()
        pieces.append(Piece(piece.text, piece.findings, piece.escaped, restored))
    naming = Naming()
    redacted = redact(pieces, naming=naming)
    assert redacted.texts == redact([Piece(piece.text, piece.findings, piece.escaped) for piece in pieces]).texts
    kept = {name for name in naming.names if name not in redacted.placeholders.values}
    for name in naming.names:
        restored_name = redacted.placeholders.restore(name)
        assert (restored_name == name) is (name in kept) or redacted.placeholders.values[name] == name
    if all(not piece.restored for piece in pieces):
        assert not redacted.placeholders


def test_a_value_comes_back_if_all_that_it_is_made_of_may() -> None:
    """What overlaps is one value: a part of it that must not come back keeps all of it."""
    left, right = Finding("Email", 0, 5), Finding("Name", 3, 8)
    assert redact([Piece("abcdefgh", [left, right], restored=[left])]).placeholders.values == {}
    assert redact([Piece("abcdefgh", [left, right], restored=[left, right])]).placeholders.values == {
        "[EMAIL_1]": "abcdefgh"
    }


@given(values=st.lists(st.one_of(st.integers(), st.text(), st.booleans()), min_size=1, max_size=5), data=st.data())
def test_a_redacted_document_is_a_document(values: list[int | str | bool], data: st.DataObject) -> None:
    """What stands for a number, or another bare value, in the source of JSON is a string."""
    source, findings = "[", []
    for value in values:
        begin = len(source)
        source += json.dumps(value)
        if data.draw(st.booleans()):
            findings.append(Finding("X", begin, len(source)))
        source += ","
    source = f"{source[:-1]}]"
    redacted = json.loads(redact([Piece(source, findings, escaped=True, document=True)]).texts[0])
    for number, value in enumerate(values):
        assert redacted[number] == value or str(redacted[number]).startswith("[X_")
