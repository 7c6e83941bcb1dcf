"""Compressed bodies: whatever was compressed comes back, in bounded steps, and what is broken is refused."""

import gzip
import zlib
from collections.abc import Callable

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.errors import InvalidRequest
from capstan_gateway.pipeline.decompress import STEP, decompressed

Compress = Callable[[bytes], bytes]


def raw_deflate(data: bytes) -> bytes:
    """Compress without the header of zlib, as some clients do."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


CODINGS: list[tuple[bytes, Compress]] = [
    (b"gzip", gzip.compress), (b"x-gzip", gzip.compress), (b"deflate", zlib.compress), (b"deflate", raw_deflate),
    (b"zstd", zstd.compress),
]  # fmt: skip
DATA = st.binary(max_size=3000) | st.integers(0, 300_000).map(lambda size: b"ab" * size)


@given(st.sampled_from(CODINGS), DATA)
def test_what_was_compressed_comes_back(coding: tuple[bytes, Compress], data: bytes) -> None:
    """The pieces together are the body, none of them is empty or larger than a step."""
    name, compress = coding
    pieces = list(decompressed(name, compress(data)))
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= STEP for piece in pieces)


@given(st.sampled_from([CODINGS[0], CODINGS[4]]), DATA, DATA)
def test_several_members(coding: tuple[bytes, Compress], one: bytes, other: bytes) -> None:
    """Members of gzip and frames of zstd that follow each other are one body."""
    name, compress = coding
    assert b"".join(decompressed(name, compress(one) + compress(other))) == one + other


@given(st.sampled_from(CODINGS), DATA, st.data())
def test_a_body_that_breaks_off_is_refused(coding: tuple[bytes, Compress], data: bytes, choice: st.DataObject) -> None:
    """A body that lacks its end is an error, and never a shorter body."""
    name, compress = coding
    whole = compress(data)
    cut = choice.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(InvalidRequest):
        list(decompressed(name, whole[:cut]))


@given(st.sampled_from([name for name, _ in CODINGS]), st.binary(max_size=300))
def test_nonsense_is_refused_or_short(name: bytes, body: bytes) -> None:
    """What is not compressed at all fails as an error of the request, in bounded steps."""
    try:
        for _, piece in zip(range(100), decompressed(name, body), strict=False):
            assert len(piece) <= STEP
    except InvalidRequest:
        pass
