"""The words in placeholders, which models and people read."""

import pytest

from capstan_gateway.guards.placeholders import MOST_LABEL, Naming, label_of


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        ("Email", "EMAIL"), ("DateOfBirth", "DATE_OF_BIRTH"), ("my-kind", "MY_KIND"), ("IPv4", "IPV4"), ("", "DATA"),
        ("7up", "DATA_7UP"), ("\u00e4", "DATA"), ("a b c d e f g h i j", "A_B_C_D_E_F_G_H"), ("x" * 90, "X" * MOST_LABEL),
    ],
)  # fmt: skip
def test_the_label_of_a_kind(kind: str, label: str) -> None:
    """A kind is said in capitals, its words apart, at most eight of them and of bounded length, and by no other sign."""
    assert label_of(kind) == label


def test_no_two_values_have_one_name() -> None:
    """Not values of two kinds with one label, not those of two policies of a request, and no two secrets that differ in
    how they are written; an address that does is the same one."""
    taken: set[str] = set()
    first, second = Naming(taken), Naming(taken)
    names = [first.name("my-kind", "x"), first.name("My Kind", "y"), second.name("my-kind", "z")]
    assert names == ["[MY_KIND_1]", "[MY_KIND_2]", "[MY_KIND_3]"]
    assert first.name("Secret", "aBc") != first.name("Secret", "abc")
    assert first.name("Email", "Joe@Example.com") == first.name("Email", "joe@example.com")
