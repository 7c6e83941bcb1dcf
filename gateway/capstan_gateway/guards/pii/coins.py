"""Addresses of cryptocurrencies, by their checksums."""

import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from capstan_contract.guards import PiiKind
from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.pii.keccak import keccak_256
from capstan_gateway.guards.pii.raw import Raw
from capstan_gateway.guards.pii.scan import Scanned, linear
from capstan_gateway.guards.pii.words import Word

MOST: Final = 106
_COIN: Final = linear(
    rb"\b(?:0x[0-9A-Fa-f]{40}|(?i:bc1|tb1|ltc1|bcrt1)[02-9ac-hj-np-zAC-HJ-NP-Z]{8,71}|[1-9A-HJ-NP-Za-km-z]{25,44})\b"
)
COINS_GATE: Final = rb"[0-9A-Za-z]{25}|(?i:(?:bc|tb|ltc|bcrt)1[0-9a-z]{8})"
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUE: Final = {character: value for value, character in enumerate(_BASE58)}
_FIRST: Final = frozenset("13LMDTX9At2mn")
"""With which addresses of 25 bytes begin, of the coins that people have."""
_BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def find_coins(scanned: Scanned) -> Iterator[Raw]:
    """Give addresses of Bitcoin and what descends from it, of Ethereum, and of Solana where a word says so."""
    for match in _COIN.finditer(scanned.view.folded):
        go_on()
        start, end = match.span()
        score = _score(scanned, start, end, match.group().decode()) if scanned.alone(start, end) else 0
        if score:
            yield Raw(PiiKind.CRYPTO_ADDRESS, start, end, score)


def _score(scanned: Scanned, start: int, end: int, address: str) -> float:
    if address.startswith("0x"):
        return ethereum(address)
    if address[:4].lower() in ("bc1q", "bc1p") or address.lower().startswith(("tb1", "ltc1", "bcrt1", "bc1")):
        return 0.99 if bech32(address) else 0
    if 26 <= len(address) <= 35 and address[0] in _FIRST and base58check(address):
        return 0.99
    if 32 <= len(address) <= 44 and scanned.near((Word.WALLET,), start, end, before=48, after=16) is not None:
        return 0.7 if _solana(address) else 0
    return 0


def _solana(address: str) -> bool:
    """Tell whether it can be 32 bytes, and looks like no word."""
    mixed = all(re.search(kind, address) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    return mixed and _number(address).bit_length() <= 256


def _number(address: str) -> int:
    number = 0
    for character in address:
        number = number * 58 + _VALUE[character]
    return number


def base58check(address: str) -> bool:
    """Tell whether 25 bytes in Base58 end with the checksum of the others."""
    number = _number(address)
    if number.bit_length() > 200:
        return False
    decoded = number.to_bytes(25, "big")
    return sha256(sha256(decoded[:21]).digest()).digest()[:4] == decoded[21:]


def bech32(address: str) -> bool:
    """Tell whether the checksum of an address is right, by BIP 173 or BIP 350."""
    if address.lower() != address and address.upper() != address:
        return False
    prefix, _, data = address.lower().rpartition("1")
    values = [ord(character) >> 5 for character in prefix] + [0] + [ord(character) & 31 for character in prefix]
    checksum = 1
    for value in values + [_BECH32.find(character) for character in data]:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            checksum ^= generator if top >> bit & 1 else 0
    return checksum in (1, 0x2BC830A3)


def ethereum(address: str) -> float:
    """Give how sure it is that 40 hexadecimal digits are an address: those in mixed case have a checksum (EIP-55)."""
    digits = address[2:]
    if len(set(digits.lower())) < 4:
        return 0
    if digits.lower() == digits or digits.upper() == digits:
        return 0.8
    hashed = keccak_256(digits.lower().encode()).hex()
    right = all(
        not character.isalpha() or character.isupper() == (int(nibble, 16) >= 8)
        for character, nibble in zip(digits, hashed, strict=False)
    )
    return 0.99 if right else 0.2
