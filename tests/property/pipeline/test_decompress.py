"""Compressed bodies: whatever was compressed comes back, in bounded steps, and what is broken is refused."""

import gzip
import random
import zlib
from collections.abc import Callable

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.errors import InvalidRequest
from capstan_gateway.pipeline.decompress import MAX_MEMBERS, STEP, decompressed

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


@pytest.mark.parametrize("coding", CODINGS)
def test_what_cannot_be_made_smaller_comes_back(coding: tuple[bytes, Compress]) -> None:
    """A compressed body of many steps is read to its end, wherever the steps cut it."""
    name, compress = coding
    data = random.Random(7).randbytes(5 * STEP + 1)  # noqa: S311 - a test
    assert b"".join(decompressed(name, compress(data))) == data


@pytest.mark.parametrize("coding", [CODINGS[0], CODINGS[4]])
def test_a_body_of_countless_parts_is_refused(coding: tuple[bytes, Compress]) -> None:
    """Empty members take no room and much work: only so many are read."""
    name, compress = coding
    assert b"".join(decompressed(name, compress(b"a") * MAX_MEMBERS)) == b"a" * MAX_MEMBERS
    with pytest.raises(InvalidRequest, match="more than 1024 parts"):
        list(decompressed(name, compress(b"") * (MAX_MEMBERS + 1)))


def test_no_step_copies_what_is_left_of_a_body() -> None:
    """The work is linear in the body: what is behind a piece is not copied with it."""
    member = gzip.compress(random.Random(7).randbytes(400))  # noqa: S311 - a test
    taken: list[int] = []

    class Watched(bytes):
        def __getitem__(self, key: object) -> bytes:  # type: ignore[override]
            piece = super().__getitem__(key)  # type: ignore[index]
            taken.append(len(piece) if isinstance(piece, bytes) else 1)
            return piece  # type: ignore[return-value]

    body = Watched(member * 1000)
    assert len(b"".join(decompressed(b"gzip", body))) == 400_000
    assert max(taken) <= STEP
