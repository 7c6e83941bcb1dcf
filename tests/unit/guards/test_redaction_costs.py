"""Redaction takes time that grows with the text, however full of findings that is."""

from collections.abc import Iterator, Sequence
from typing import overload

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.guards.placeholders import Piece, redact, united
from capstan_gateway.guards.port import Finding


class Counted(Sequence[Finding]):
    """Findings that count how often one of them is looked at."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = findings
        self.looks = 0

    def __len__(self) -> int:
        return len(self.findings)

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Finding]: ...
    def __getitem__(self, index: int | slice) -> Finding | Sequence[Finding]:
        return self.findings[index]

    def __iter__(self) -> Iterator[Finding]:
        for finding in self.findings:
            self.looks += 1
            yield finding

    def __contains__(self, finding: object) -> bool:
        return any(finding == one for one in self)


def test_each_finding_is_looked_at_a_few_times() -> None:
    """Of a thousand findings each is looked at a few times, and not once for each of the others."""
    found = [Finding("Email", 2 * number, 2 * number + 1) for number in range(1000)]
    findings, restored = Counted(found), Counted(found)
    redacted = redact([Piece("a " * 1000, findings, restored=restored)])
    assert redacted.texts[0].startswith("[EMAIL_1] [EMAIL_1] ")
    assert findings.looks + restored.looks <= 8 * len(found)


SPANS = st.builds(
    lambda kind, start, length: Finding(kind, start, start + length),
    st.sampled_from(("Email", "Card")), st.integers(0, 40), st.integers(1, 12),
)  # fmt: skip


@given(st.lists(SPANS, max_size=12), st.data())
def test_a_value_comes_back_if_all_that_it_is_made_of_does(findings: list[Finding], data: st.DataObject) -> None:
    """Of what is replaced as one, the value may come back only where each finding that touches it says so."""
    text = "".join(chr(0x4E00 + place) for place in range(64))
    restored = [one for one in findings if data.draw(st.booleans())]
    given_back = redact([Piece(text, findings, restored=restored)]).placeholders.values
    assert sorted(given_back.values()) == sorted(
        text[one.start : one.end]
        for one in united(findings)
        if all(part in restored for part in findings if part.start < one.end and one.start < part.end)
    )
