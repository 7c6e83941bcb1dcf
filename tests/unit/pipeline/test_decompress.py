"""Compressed bodies, as their formats allow them and no others: what the property tests come by too seldom."""

import gzip
import random
import zlib

import pytest
from backports import zstd

from capstan_gateway.errors import InvalidRequest
from capstan_gateway.pipeline.decompress import MAX_MEMBERS, STEP, decompressed

CODINGS = [(b"gzip", gzip.compress), (b"x-gzip", gzip.compress), (b"deflate", zlib.compress), (b"zstd", zstd.compress)]


def refusal(coding: bytes, body: bytes) -> InvalidRequest:
    """Give what is told of a body."""
    with pytest.raises(InvalidRequest) as refused:
        list(decompressed(coding, body))
    return refused.value


@pytest.mark.parametrize("coding", [name for name, _ in CODINGS])
def test_what_is_broken_is_told_so(coding: bytes) -> None:
    """By the header that names the coding."""
    told = refusal(coding, b"\xff not compressed")
    assert (told.message, told.param) == ("the body is not what its `Content-Encoding` says", "content-encoding")


@pytest.mark.parametrize(("coding", "compress"), [CODINGS[0], CODINGS[3]])
def test_too_many_parts_are_told_so(coding: bytes, compress: object) -> None:
    """With how many there may be."""
    told = refusal(coding, compress(b"") * (MAX_MEMBERS + 1))  # type: ignore[operator]
    assert told.message == f"the body is compressed in more than {MAX_MEMBERS} parts"
    assert (told.code, told.param) == ("invalid_value", "content-encoding")


def test_deflate_is_one_part() -> None:
    """What comes behind it is no body, whichever of its two forms it has."""
    packed = zlib.compress(b"abc")
    assert b"".join(decompressed(b"deflate", packed)) == b"abc"
    assert refusal(b"deflate", packed + packed)
    assert refusal(b"deflate", packed + b"x")


def test_a_bare_deflate_body_may_begin_like_another_one() -> None:
    """The first byte alone does not make it zlib's format: both together must be a multiple of 31."""
    stored = (3).to_bytes(2, "little") + (0xFFFF - 3).to_bytes(2, "little") + b"abc"
    body = b"\x08" + stored + b"\x01\x00\x00\xff\xff"
    assert b"".join(decompressed(b"deflate", body)) == b"abc"


@pytest.mark.parametrize(("coding", "compress"), CODINGS)
def test_no_piece_is_larger_than_a_step(coding: bytes, compress: object) -> None:
    """However much a little becomes: whoever takes the pieces decides how many."""
    packed = compress(b"\0" * (8 * STEP + 1))  # type: ignore[operator]
    pieces = [len(piece) for piece in decompressed(coding, packed)]
    assert (sum(pieces), max(pieces)) == (8 * STEP + 1, STEP)


@pytest.mark.parametrize(("coding", "compress"), CODINGS)
def test_a_large_body_that_breaks_off_is_refused(coding: bytes, compress: object) -> None:
    """Behind pieces that were good, and wherever it is cut: not waited for, and no shorter body."""
    packed = compress(random.Random(7).randbytes(5 * STEP + 1))  # type: ignore[operator]  # noqa: S311 - a test
    for cut in (STEP, 3 * STEP, 4 * STEP + 7, len(packed) - 1):
        assert refusal(coding, packed[:cut]).param == "content-encoding"


def test_the_head_of_a_member_may_be_large() -> None:
    """gzip may name a file in it: a step that gives nothing is not yet a broken body."""
    plain = gzip.compress(b"abc")
    named = plain[:3] + b"\x08" + plain[4:10] + b"n" * (2 * STEP) + b"\0" + plain[10:]
    assert gzip.decompress(named) == b"abc"
    assert b"".join(decompressed(b"gzip", named)) == b"abc"


def test_a_window_is_bounded() -> None:
    """A decoder takes as much memory: what wants more than the coding's standard allows is refused."""
    for log, good in ((23, True), (24, False)):
        packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: log})
        packed = packer.compress(b"abc") + packer.flush()
        if good:
            assert b"".join(decompressed(b"zstd", packed)) == b"abc"
        else:
            assert refusal(b"zstd", packed)


def test_a_step_may_give_nothing() -> None:
    """A block of zstd that is compressed is read as a whole: it may be larger than what is taken at a time."""
    plain = bytes(byte & 63 for byte in random.Random(7).randbytes(5 * STEP))  # noqa: S311 - a test
    packed = zstd.compress(plain)
    assert len(zstd.compress(plain[: 2 * STEP])) > STEP
    assert b"".join(decompressed(b"zstd", packed)) == plain
