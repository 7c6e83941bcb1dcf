"""Kubernetes quantities by value."""

from decimal import Decimal

import pytest

from capstan_operator.desired.quantity import parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1n", "0.000000001"),
        ("1u", "0.000001"),
        ("500m", "0.5"),
        ("2", "2"),
        ("2k", "2000"),
        ("2M", "2000000"),
        ("2G", "2e9"),
        ("2T", "2e12"),
        ("2P", "2e15"),
        ("2E", "2e18"),
        ("2Ki", "2048"),
        ("2Mi", "2097152"),
        ("2Gi", "2147483648"),
        ("2Ti", "2199023255552"),
        ("2Pi", "2251799813685248"),
        ("2Ei", "2305843009213693952"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("1e-3", "0.001"),
        ("1.5Gi", "1610612736"),
        (".5", "0.5"),
        ("5.", "5"),
        ("-3", "-3"),
        ("+3", "3"),
        (3, "3"),
        (0.5, "0.5"),
    ],
)
def test_every_suffix_has_its_value(text: object, value: str) -> None:
    """Decimal, binary and exponents, with a sign or a fraction, as text or as a number."""
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "1K", "1ki", "m", "1mi", "1 Gi", "1e1234", "0x10", True, None, [1]])
def test_what_is_none_has_no_value(text: object) -> None:
    """Kubernetes tells upper from lower case, and so do we."""
    assert parse_quantity(text) is None
