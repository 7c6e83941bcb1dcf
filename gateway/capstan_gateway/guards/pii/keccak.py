"""Keccak-256 as Ethereum has it, which is not the SHA-3 of the standard library: the padding differs."""

from typing import Final

_MASK: Final = (1 << 64) - 1
_RATE: Final = 136
_ROTATIONS: Final = (
    (0, 36, 3, 41, 18), (1, 44, 10, 45, 2), (62, 6, 43, 15, 61), (28, 55, 25, 21, 56), (27, 20, 39, 8, 14),
)  # fmt: skip


def _round_constants() -> tuple[int, ...]:
    """Give those of the 24 rounds, by the shift register of the specification (FIPS 202, 3.2.5)."""
    constants, register = [], 1
    for _ in range(24):
        constant = 0
        for bit in range(7):
            if register & 1:
                constant ^= 1 << ((1 << bit) - 1)
            register = (register << 1) ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return tuple(constants)


_CONSTANTS: Final = _round_constants()


def keccak_256(data: bytes) -> bytes:
    """Give the hash of less than 136 bytes. Raises ValueError for more: addresses are short."""
    if len(data) >= _RATE:
        raise ValueError("at most 135 bytes")
    block = bytearray(data + b"\x01" + b"\x00" * (_RATE - len(data) - 1))
    block[-1] |= 0x80
    lanes = [[0] * 5 for _ in range(5)]
    for index in range(_RATE // 8):
        lanes[index % 5][index // 5] = int.from_bytes(block[8 * index : 8 * index + 8], "little")
    for constant in _CONSTANTS:
        lanes = _round(lanes, constant)
    return b"".join(lanes[index][0].to_bytes(8, "little") for index in range(4))


def _round(lanes: list[list[int]], constant: int) -> list[list[int]]:
    parity = [lane[0] ^ lane[1] ^ lane[2] ^ lane[3] ^ lane[4] for lane in lanes]
    moved = [[0] * 5 for _ in range(5)]
    for x in range(5):
        change = parity[x - 1] ^ _rotated(parity[(x + 1) % 5], 1)
        for y in range(5):
            moved[y][(2 * x + 3 * y) % 5] = _rotated(lanes[x][y] ^ change, _ROTATIONS[x][y])
    lanes = [
        [moved[x][y] ^ (~moved[(x + 1) % 5][y] & moved[(x + 2) % 5][y]) for y in range(5)] for x in range(5)
    ]  # fmt: skip
    lanes[0][0] ^= constant
    return lanes


def _rotated(lane: int, by: int) -> int:
    return ((lane << by) | (lane >> (64 - by))) & _MASK
