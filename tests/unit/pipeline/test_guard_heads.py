"""What heads of answers say of guards."""

from capstan_gateway.pipeline.guards.heads import guard_lines, note_of


def test_what_is_said_twice_is_told_once() -> None:
    """In the order in which it happened; a name holds nothing that a header could not."""
    assert note_of([("a", "warned"), ("b\r\nx: y", "redacted"), ("a", "warned")]) == b"a=warned; b__x__y=redacted"


def test_it_is_bounded() -> None:
    """Many guards with long names make no long header, and it says that there are more."""
    found = note_of((f"{number}{'n' * 100}", "warned") for number in range(100))
    assert len(found) < 1100
    assert found.endswith(b"; ...")


def test_a_name_is_bounded() -> None:
    """Each, so that one long name does not keep the others out; the line is one of HTTP."""
    assert note_of([("n" * 100, "warned"), ("b", "redacted")]) == b"n" * 64 + b"=warned; b=redacted"
    assert (
        guard_lines([("a", "warned")], unchecked=True) == b"x-capstan-guard: a=warned\r\nx-capstan-unchecked: media\r\n"
    )


def test_where_nothing_is_said_there_is_no_line() -> None:
    """Neither for guards, nor for what was not checked."""
    assert guard_lines((), unchecked=False) == b""
    assert guard_lines((), unchecked=True) == b"x-capstan-unchecked: media\r\n"
