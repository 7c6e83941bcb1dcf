"""Entries as bytes: what was written is read again, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.caches import Compression
from capstan_gateway.caches.codec import SECRET_BYTES, Codec, Unreadable
from capstan_gateway.caches.port import CacheKey, Entry, Form
from capstan_gateway.tokens.usage import Usage

KEY = CacheKey("p" * 32, "m" * 16, b"d" * 32)
SECRET = b"s" * SECRET_BYTES
ENTRIES = st.builds(
    Entry,
    form=st.sampled_from(Form),
    body=st.binary(max_size=4000),
    content_type=st.sampled_from((b"application/json", b"text/event-stream")),
    created_ms=st.integers(0, 2**45),
    expires_ms=st.integers(0, 2**45),
    usage=st.none() | st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)).map(lambda both: Usage(*both)),
    nano_dollars=st.none() | st.integers(0, 10**12),
    question=st.text(max_size=50),
    id=st.text(max_size=20),
)
CODECS = st.builds(Codec, compression=st.sampled_from(Compression), secret=st.sampled_from((b"", SECRET)))


@given(CODECS, ENTRIES)
def test_what_was_written_is_read(codec: Codec, entry: Entry) -> None:
    """Every entry comes back as it was."""
    assert codec.read(KEY, codec.write(KEY, entry)) == entry


@given(CODECS, ENTRIES, st.data())
def test_what_was_changed_does_not_read(codec: Codec, entry: Entry, data: st.DataObject) -> None:
    """One bit that is another one, one byte less or more, makes it no entry."""
    written = codec.write(KEY, entry)
    place = data.draw(st.integers(0, len(written) * 8 - 1))
    flipped = bytearray(written)
    flipped[place // 8] ^= 1 << place % 8
    for changed in (bytes(flipped), written[:-1], written + b"\0"):
        with pytest.raises(Unreadable):
            codec.read(KEY, changed)


@given(st.binary(max_size=200))
def test_what_is_no_entry_does_not_read(data: bytes) -> None:
    """Anything else that lies there is refused, and nothing else is raised."""
    for secret in (b"", SECRET):
        with pytest.raises(Unreadable):
            Codec(secret=secret).read(KEY, data)


@given(CODECS, ENTRIES)
def test_an_entry_that_lies_under_another_key_does_not_read(codec: Codec, entry: Entry) -> None:
    """Who copies an entry into another tenant's place has copied nothing."""
    written = codec.write(KEY, entry)
    for other in (KEY._replace(partition="q" * 32), KEY._replace(digest=b"e" * 32), KEY._replace(model="n" * 16)):
        with pytest.raises(Unreadable):
            codec.read(other, written)


@given(ENTRIES)
def test_what_is_sealed_reads_with_its_key_alone(entry: Entry) -> None:
    """Another key opens nothing, none opens nothing, and what is not sealed is not taken for sealed."""
    sealed, plain = Codec(secret=SECRET).write(KEY, entry), Codec().write(KEY, entry)
    for codec, written in (
        (Codec(secret=b"t" * SECRET_BYTES), sealed),
        (Codec(), sealed),
        (Codec(secret=SECRET), plain),
    ):
        with pytest.raises(Unreadable):
            codec.read(KEY, written)


def test_what_unpacks_to_more_than_an_entry_is_does_not_read() -> None:
    """A bomb costs its bound."""
    bomb = Codec(compression=Compression.ZLIB).write(KEY, Entry(Form.ANSWER, b"0" * 10**6, b"", 0, 1))
    assert len(bomb) < 10_000
    with pytest.raises(Unreadable):
        Codec(compression=Compression.ZLIB, most_bytes=10_000).read(KEY, bomb)


def test_gateways_of_other_releases_read_what_is_written() -> None:
    """Nine numbers of a usage, whatever else is known of one: during an upgrade both releases read the same store."""
    entry = Entry(Form.ANSWER, b"{}", b"application/json", 0, 1, usage=Usage(5, 3, audio_tokens=2, reckoned=True))
    written = Codec().write(KEY, entry)
    assert b'"usage":[5,3,0,0,false,0,2,0,0]' in written
    assert Codec().read(KEY, written).usage == Usage(5, 3, audio_tokens=2)
