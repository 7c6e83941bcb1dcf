"""What a piece of text says in one of the usual encodings. Each is linear in what it is given, and raises nothing.

A run of characters that could be an encoding is decoded, and dropped when what comes out is no text: an identifier is
not base64, and a checksum not hexadecimal text.
"""

import binascii
import html
import re
import urllib.parse
from base64 import a85decode, b32decode
from collections.abc import Callable, Iterator
from typing import Final

import re2  # type: ignore[import-untyped]

from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.text.views import Piece

_UNREADABLE: Final = bytes({*range(9), 11, 12, *range(14, 32), *range(127, 256)})
_SHARE_UNREADABLE: Final = 0.1
"""Most bytes of a decoded run that may be none of text; random bytes have 0.6."""
LONGEST: Final = 1 << 20
"""Characters of one run that are decoded at most."""

_BASE64: Final = re.compile(
    r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{14,}+(?:=?\r?\n[ \t]{0,8}[A-Za-z0-9+/_-]{4,}+(?![ \t]*[A-Za-z]))*+={0,2}"
)
_BASE32: Final = re.compile(r"(?<![A-Za-z2-7])(?:[A-Z2-7]{16,}+|[a-z2-7]{24,}+)={0,6}")
_ASCII85: Final = re.compile(r"<~([!-u\sz]{8,}+)~>")
_HEX: Final = re.compile(r"(?<![0-9A-Fa-f])(?:0x)?[0-9A-Fa-f]{2}(?:[\s:,;-]{0,2}+(?:0x|=)?[0-9A-Fa-f]{2}){7,}+")
_BINARY: Final = re.compile(r"(?<![01])[01]{7,8}(?:[\s,]{0,2}+[01]{7,8}){4,}+")
_CODES: Final = re.compile(r"(?<![\d.])\d{2,3}(?:[\s,;]{1,3}+\d{2,3}(?!\d)){7,}+")
_SELECTORS: Final = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{8,}+")
_ESCAPES: Final = re.compile(
    r"(?:%[0-9A-Fa-f]{2})++"
    r"|&#(?:[0-9]{2,7}|[xX][0-9A-Fa-f]{2,6});?|&[A-Za-z]{2,12};"
    r"|\\u\{[0-9A-Fa-f]{1,6}\}|\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8}|\\x[0-9A-Fa-f]{2}|\\[0-7]{3}|\\[nrt]"
    r"|[Uu]\+[0-9A-Fa-f]{4,6}\s?"
)
_GAP: Final = re.compile(r"[\W_]{16,}+")
_MARKUP: Final = re.compile(r"<!--|-->|</?[A-Za-z][^<>]{0,300}>|(?<=[A-Za-z])(?:\*\*|~~)(?=[A-Za-z])")
_LONG_SHORT: Final = r"[._\-\u00b7\u2022\u2219\u2212\u2013\u2014]"
_MORSE: Final = re.compile(rf"(?<!{_LONG_SHORT}){_LONG_SHORT}{{1,6}}(?:[ \n/|]{{1,4}}+{_LONG_SHORT}{{1,6}}){{9,}}+")
_PLAIN_MORSE: Final = str.maketrans("_\u00b7\u2022\u2219\u2212\u2013\u2014", "-...---")
_TOGETHER: Final = re.compile(r"[A-Za-z]{28,}+")
"""Longer than names of programs are."""
_SIGNS: Final = """
    .- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --..
    ----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----. .-.-.- --..-- ..--..
"""
_MORSE_LETTERS: Final = dict(zip(_SIGNS.split(), "abcdefghijklmnopqrstuvwxyz0123456789.,?", strict=True))


def _begins(pattern: bytes) -> "re2._Regexp[bytes]":
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = True
    return re2.compile(pattern, options)


_BASE64_BEGINS: Final = _begins(rb"[A-Za-z0-9+/_-]{14,}")
_HEX_BEGINS: Final = _begins(rb"(?:(?:0x|=)?[0-9A-Fa-f]{2}[\s:,;?-]{0,2}){8}")
_REACH: Final = 64


def begun(expression: re.Pattern[str], text: str, begins: "re2._Regexp[bytes]") -> Iterator[re.Match[str]]:
    """Give what `expression.finditer` gives, where each of its matches begins in a match of `begins`.

    That looks, with RE2, at a text with `?` for all that is not ASCII. A match is one by its first `_REACH` characters.
    """
    at = 0
    for place in begins.finditer(text.encode("ascii", "replace")):
        start, end = place.span()
        at = max(at, start)
        while at < end and (found := expression.search(text, at, end + _REACH)) is not None and found.start() < end:
            whole = expression.match(text, found.start())
            if whole is not None:
                yield whole
            at = found.start() + 1 if whole is None else whole.end()


def base64_runs(text: str) -> Iterator[Piece]:
    """Base64, also of URLs, without its padding, over several lines, or behind something that looks like it."""
    for run in begun(_BASE64, text, _BASE64_BEGINS):
        written = run[0].rstrip("=")[:LONGEST]
        # NB: what is all small or all large is a word or a path: three bytes of text make at least one of each kind.
        if written.islower() or written.isupper() or written.isdigit():
            continue
        compact = "".join(written.split()).replace("=", "").translate(_URL_SAFE)
        if said := _base64(compact):
            yield Piece(run.start(), run.end(), said)


_URL_SAFE: Final = str.maketrans("-_", "+/")


def _base64(compact: str) -> str:
    for shift in range(4):
        part = compact[shift:]
        part = part[: len(part) - 1] if len(part) % 4 == 1 else part
        said = _readable(binascii.a2b_base64(part + "=" * (-len(part) % 4)))
        if said:
            return said
    return ""


def _readable(data: bytes) -> str:
    if len(data) > 8 and data.count(0) > len(data) // 3:
        return data.decode("utf-16-le" if data[1] == 0 else "utf-16-be", "ignore")
    try:
        said = data.decode()
    except UnicodeDecodeError:
        if len(data) - len(data.translate(None, _UNREADABLE)) > _SHARE_UNREADABLE * len(data):
            return ""
        return data.decode(errors="ignore")
    if said.isascii():
        odd = len(data) - len(data.translate(None, _UNREADABLE))
    else:
        odd = sum(not character.isprintable() and not character.isspace() for character in said)
    return said if odd <= _SHARE_UNREADABLE * len(said) else ""


def base32_runs(text: str) -> Iterator[Piece]:
    """Base32."""
    for run in _BASE32.finditer(text):
        written = run[0].rstrip("=")[:LONGEST].upper()
        written = written[: len(written) - len(written) % 8] if len(written) % 8 in (1, 3, 6) else written
        if written and (said := _readable(b32decode(written + "=" * (-len(written) % 8)))):
            yield Piece(run.start(), run.end(), said)


def ascii85_runs(text: str) -> Iterator[Piece]:
    """Adobe's Ascii85, which has brackets of its own."""
    for run in _ASCII85.finditer(text):
        try:
            said = _readable(a85decode(run[1][:LONGEST]))
        except ValueError:
            continue
        if said:
            yield Piece(run.start(), run.end(), said)


def hex_runs(text: str) -> Iterator[Piece]:
    """Bytes as two digits each, also with something between them."""
    for run in begun(_HEX, text, _HEX_BEGINS):
        digits = re.sub(r"0x|[^0-9A-Fa-f]+", "", run[0][: 4 * LONGEST])
        if said := _readable(bytes.fromhex(digits[: len(digits) // 2 * 2])):
            yield Piece(run.start(), run.end(), said)


def binary_runs(text: str) -> Iterator[Piece]:
    """Bytes as seven or eight bits each."""
    for run in _BINARY.finditer(text):
        parts = run[0][: 10 * LONGEST].replace(",", " ").split()
        if len(parts) == 1:
            parts = [parts[0][at : at + 8] for at in range(0, len(parts[0]), 8)]
        if said := _readable(bytes(int(part[:8], 2) for part in parts)):
            yield Piece(run.start(), run.end(), said)


def code_runs(text: str) -> Iterator[Piece]:
    """Characters as their codes, decimal or octal."""
    for run in _CODES.finditer(text):
        written = re.findall(r"\d+", run[0][: 6 * LONGEST])
        for base in (10, 8):
            codes = [] if base == 8 and not _OCTAL.issuperset("".join(written)) else [int(one, base) for one in written]
            if codes and all(code in (9, 10, 13) or 32 <= code < 127 for code in codes):
                yield Piece(run.start(), run.end(), "".join(map(chr, codes)))
                break


_OCTAL: Final = frozenset("01234567")


def runs_together(text: str) -> Iterator[Piece]:
    """Words without anything between them."""
    for run in _TOGETHER.finditer(text):
        yield Piece(run.start(), run.end(), run[0], exact=True)


def morse_runs(text: str) -> Iterator[Piece]:
    """Morse, with blanks between letters, and a stroke or several blanks between words."""
    for run in _MORSE.finditer(text):
        words = re.split(r"\s*[/|\n]\s*| {2,}", run[0][: 8 * LONGEST].translate(_PLAIN_MORSE))
        said = " ".join("".join(_MORSE_LETTERS.get(sign, "") for sign in word.split()) for word in words)
        yield Piece(run.start(), run.end(), said)


def selector_runs(text: str) -> Iterator[Piece]:
    """Bytes as variation selectors, which nobody sees."""
    for run in _SELECTORS.finditer(text):
        points = (ord(character) for character in run[0][:LONGEST])
        data = bytes(point - 0xFE00 if point < 0xE0100 else point - 0xE0100 + 16 for point in points)
        if said := _readable(data):
            yield Piece(run.start(), run.end(), said)


def unescaped(text: str) -> list[Piece]:
    """Give the whole text with what URLs, HTML and programs write for a character replaced by it."""
    return _replaced(text, _ESCAPES, _unescape)


def without_markup(text: str) -> list[Piece]:
    """Give the whole text without tags of HTML: what stands in comments is kept."""
    return _replaced(text, _MARKUP, lambda _: "")


def without_gaps(text: str) -> list[Piece]:
    """Give the whole text with a blank for each long run of what is no letter and no digit."""
    return _replaced(text, _GAP, lambda _: " ")


def _replaced(text: str, expression: re.Pattern[str], of: Callable[[str], str]) -> list[Piece]:
    pieces, at = [], 0
    for found in expression.finditer(text):
        go_on()
        if found.start() > at:
            pieces.append(Piece(at, found.start(), text[at : found.start()], exact=True))
        pieces.append(Piece(found.start(), found.end(), of(found[0])))
        at = found.end()
    pieces.append(Piece(at, len(text), text[at:], exact=True))
    return pieces


def _unescape(written: str) -> str:
    if written[0] == "%":
        return urllib.parse.unquote(written, errors="ignore")
    if written[0] == "&":
        return html.unescape(written)
    if written in _SHORT:
        return _SHORT[written]
    octal = written[0] == "\\" and written[1].isdigit()
    digits = written.strip("\\uUxX+{} \t\r\n")
    point = int(digits, 8 if octal else 16)
    return chr(point) if point < 0x110000 else ""


_SHORT: Final = {"\\n": "\n", "\\r": "\n", "\\t": "\t"}
WORDS_AND_GAPS: Final = re.compile(r"\s+|\S+")
