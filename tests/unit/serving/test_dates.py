"""The header that says when an answer was written."""

from capstan_gateway.serving.dates import DateLine


def test_the_date_is_written_once_a_second() -> None:
    """Within one second it is the same object; then it is another one, in the form of RFC 9110."""
    now = 784111777.0
    date = DateLine(lambda: now)
    first = date()
    assert first == b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    now += 0.9
    assert date() is first
    now += 0.1
    assert date() == b"date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"
