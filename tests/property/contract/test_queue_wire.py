"""Data in the queue comes out as it went in, or not at all."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.queue.wire import Packing, Unreadable

secrets = st.sampled_from([b"", b"k" * 16])
bodies = st.binary(max_size=200) | st.binary(max_size=40).map(lambda part: part * 100)


@given(secrets, bodies)
def test_round_trip(secret: bytes, body: bytes) -> None:
    """What is packed is unpacked to the same, small or large, sealed or not."""
    packing = Packing(secret)
    assert packing.unpack("id", "d", packing.pack("id", "d", body)) == body


@given(bodies, st.data())
def test_a_changed_byte_is_never_read_where_data_is_sealed(body: bytes, data: st.DataObject) -> None:
    """Whatever byte is changed or cut off, sealed data is refused."""
    packing = Packing(b"k" * 16)
    packed = packing.pack("id", "d", body)
    at = data.draw(st.integers(0, len(packed) - 1))
    damaged = data.draw(
        st.just(packed[:at]) | st.integers(1, 255).map(lambda bits: _flipped(packed, at, bits)), label="damaged"
    )
    with contextlib.suppress(Unreadable):
        packing.unpack("id", "d", damaged)
        raise AssertionError("it was read")


@given(secrets, st.binary(max_size=60))
def test_whatever_is_there_is_read_or_refused(secret: bytes, data: bytes) -> None:
    """No bytes raise anything but Unreadable."""
    with contextlib.suppress(Unreadable):
        Packing(secret).unpack("id", "d", data)


def _flipped(data: bytes, at: int, bits: int) -> bytes:
    return data[:at] + bytes((data[at] ^ bits,)) + data[at + 1 :]
