"""What clients say about caching."""

import pytest

from capstan_gateway.caches.control import ANYTHING, Control, read_control


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"", ANYTHING),
        (b"no-cache", Control(look=False)),
        (b"No-Store", Control(look=False, store=False)),
        (b"max-age=60", Control(max_age=60)),
        (b'max-age="60"', Control(max_age=60)),
        (b"max-age=60, max-age=5", Control(max_age=5)),
        (b"max-age=soon", Control(max_age=0)),
        (b"max-age=-1", Control(max_age=0)),
        (b"max-age", Control(max_age=0)),
        (b"only-if-cached, max-age=9", Control(only_if_cached=True, max_age=9)),
        (b"private, stale-while-revalidate=5", ANYTHING),
        (b"no-cache, no-store", Control(look=False, store=False)),
    ],
)
def test_directives_are_read_as_the_rfc_has_them(header: bytes, said: Control) -> None:
    """Known ones count, the strictest first; others are passed over."""
    assert read_control(header) == said


def test_pragma_counts_where_there_is_nothing_else() -> None:
    """The old way to say no-cache is read, unless the new one says something."""
    assert read_control(b"", b"no-cache") == Control(look=False)
    assert read_control(b"max-age=5", b"no-cache") == Control(max_age=5)
