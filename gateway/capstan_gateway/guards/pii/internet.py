"""Addresses of people and machines: e-mail, URLs with a password, IP, MAC."""

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from capstan_contract.guards import PiiKind
from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.pii.raw import Raw
from capstan_gateway.guards.pii.scan import Scanned, linear, overlapping
from capstan_gateway.guards.pii.view import LETTER
from capstan_gateway.guards.pii.words import Word

MOST_LOCAL: Final = 64
_LETTER: Final = bytes((LETTER,))
MOST_DOMAIN: Final = 190
MOST_EMAIL: Final = MOST_LOCAL + MOST_DOMAIN + 4
MOST_URL: Final = 512

_LOCAL_BACKWARDS: Final = re.compile(
    rb"[\w.+%&~\xe9\xad-](?:[\w.+%&~\xe9\xad-]|[!#$'*^](?=[A-Za-z0-9])){0,63}", re.ASCII
)
"""Some signs are allowed there, but seen far more often around an address: those are taken between letters alone."""
_FOREIGN_BACKWARDS: Final = re.compile(
    rb"[\w.+\xe9\xff\xad-](?:[\w.+\xe9\xff\xad-]|[!#$'*^](?=[A-Za-z0-9])){0,63}", re.ASCII
)
_DOMAIN: Final = re.compile(
    rb"[A-Za-z0-9\xe9\xff\xad](?:[A-Za-z0-9\xe9\xff\xad-]{0,62}\.(?:[A-Za-z0-9\xe9\xff\xad]))*[A-Za-z0-9\xe9\xff\xad-]{0,62}"
)
_TOP: Final = re.compile(rb"(?:[A-Za-z\xe9\xff]{2,24}|[Xx][Nn]--[A-Za-z0-9-]{2,59})\Z")
_QUOTED: Final = re.compile(rb"[^0-9A-Za-z_\xe9]?\"[0-9A-Za-z_\xe9\xff][^\n\"]*[^\n\"]\"|[^\n]")
"""A quoted local part. What begins behind a word ended it: `"handle": "@ann.example"` has none."""
_LITERAL: Final = re.compile(rb"\[(?:IPv6:)?[0-9A-Fa-f:.]{3,45}\]")
_PICTURES: Final = frozenset((b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"ico", b"css", b"js"))
_AT_WORDS: Final = linear(
    rb"(?i)\b[a-z0-9][a-z0-9._+-]{0,23} ?[\[({<] ?at ?[\])}>] ?[a-z0-9-]{1,16}"
    rb"(?: ?[\[({<] ?(?:dot|\.) ?[\])}>] ?[a-z0-9-]{1,10}){1,2}\b"
)


def find_emails(scanned: Scanned) -> Iterator[Raw]:
    """Give e-mail addresses, with domains of all languages."""
    folded = scanned.view.folded
    at = folded.find(b"@")
    while at >= 0:
        go_on()
        start = _local_start(folded, at)
        if start < at:
            yield from _email(scanned, start, at)
        at = folded.find(b"@", at + 1)


AT_WORDS_GATE: Final = rb"[\[({<] ?[Aa][Tt] ?[\])}>]"


def find_at_words(scanned: Scanned) -> Iterator[Raw]:
    """Give e-mail addresses that are written so that programs shall not know them: `ann [at] example [dot] org`."""
    for match in overlapping(_AT_WORDS, scanned.view.folded):
        yield Raw(PiiKind.EMAIL, *match.span(), 0.7)


def _local_start(folded: bytes, at: int) -> int:
    """Give where the local part in front of a place begins."""
    if at >= 3 and folded[at - 1] == 0x22:
        quote = folded.rfind(b'"', max(0, at - MOST_LOCAL), at - 1)
        return quote if quote >= 0 and _QUOTED.fullmatch(folded, max(0, quote - 1), at) is not None else at
    backwards = folded[max(0, at - MOST_LOCAL - 1) : at][::-1]
    local = (_FOREIGN_BACKWARDS if backwards[:1] == _LETTER else _LOCAL_BACKWARDS).match(backwards)
    start = at if local is None else at - local.end()
    while start < at and folded[start] in b".-%&~+'":
        start += 1
    return start


def _email(scanned: Scanned, start: int, at: int) -> Iterator[Raw]:
    folded = scanned.view.folded
    literal = _LITERAL.match(folded, at + 1)
    if literal is not None:
        yield Raw(PiiKind.EMAIL, start, literal.end(), 0.9)
        return
    match = _DOMAIN.match(folded, at + 1, at + 1 + MOST_DOMAIN)
    if match is None:
        yield Raw(None, start, at + 1, 0.0, open=at + 1 == len(folded))
        return
    end = _same_script(folded, at + 1, match.end())
    while end > at + 1 and folded[end - 1] in b"-\xad":
        end -= 1
    unfinished = match.end() == len(folded) or folded[match.end() : match.end() + 2] == b"."
    yield Raw(None, start, end, 0.0, open=unfinished)
    labels = folded[at + 1 : end].split(b".")
    if len(labels) > 1 and _TOP.match(labels[-1]) and labels[-1].lower() not in _PICTURES:
        yield Raw(PiiKind.EMAIL, start, end, _email_score(folded, start, at, end))


def _same_script(folded: bytes, start: int, end: int) -> int:
    """Give where a domain ends that text of a script without blanks follows at once."""
    dot = folded.find(b".", start, end)
    mixed = _MIXED.search(folded, dot, end) if dot >= 0 else None
    return end if mixed is None else mixed.start() + 1


_MIXED: Final = re.compile(rb"[A-Za-z](?=\xff)")


def _email_score(folded: bytes, start: int, at: int, end: int) -> float:
    # NB: git@host:path is how a repository is named; user:password@host is in no e-mail.
    if folded[max(0, start - 3) : start] == b"://":
        return 0.2
    if folded[start:at] in (b"git", b"hg", b"svn") and folded[end : end + 1] in (b":", b"/"):
        return 0.1
    return 0.99


_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]{0,30}\Z")
_AUTHORITY: Final = re.compile(
    rb"([^\s/@:?#\"'<>`\xff\xa7]{0,128}):([^\s/@\"'<>`]{1,256})@([A-Za-z0-9\xe9\xff._~%-]{1,190}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?"
)
_UNFINISHED: Final = re.compile(rb"[^\s/\"'<>`]{0,%d}\Z" % MOST_URL)
_BLANKS_TO_FILL: Final = re.compile(
    rb"(?i)(?:\$|%\(|\{|<|\[|\*+\Z|x+\Z|\.+\Z|(?:user)?pass(?:word|wd)?\Z|pwd\Z|secret\Z|your)"
)


def find_url_credentials(scanned: Scanned) -> Iterator[Raw]:
    """Give URLs that hold a password, to the end of the host."""
    folded = scanned.view.folded
    colon = folded.find(b"://")
    while colon >= 0:
        go_on()
        scheme = _SCHEME.search(folded, max(0, colon - 31), colon)
        if scheme is not None:
            match = _AUTHORITY.match(folded, colon + 3)
            if match is not None:
                end = _same_script(folded, match.start(3), match.end())
                end -= folded[end - 1] == 0x2E
                filled = _BLANKS_TO_FILL.match(match[2]) is None
                yield Raw(
                    PiiKind.URL_CREDENTIALS,
                    scheme.start(),
                    end,
                    0.95 if filled else 0.3,
                    open=match.end() == len(folded),
                )
                # What looks like an e-mail address in it is none.
                yield Raw(None, match.start(), match.end(), 1.0)
            elif _UNFINISHED.match(folded, colon + 3) is not None:
                yield Raw(None, scheme.start(), len(folded), 0.0, open=True)
        colon = folded.find(b"://", colon + 1)


V4_GATE: Final = rb"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}"
_V4: Final = linear(V4_GATE)
V6_GATE: Final = rb"::|(?:[0-9A-Fa-f]{1,4}:){6}"
_V6_COLONS: Final = 6
_V6: Final = linear(rb"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:\d?\.\d{1,3}\.\d{1,3}\.\d{1,3})?")
_V6_RUN: Final = re.compile(rb"[0-9A-Fa-f:]{2,46}(?:\d{0,3}(?:\.\d{1,3}){3})?(?:%[0-9A-Za-z]{1,15})?")
_BEHIND_V4: Final = re.compile(rb"\.\d|/(?:[0-2]?\d)(?!\d)")


def find_v4(scanned: Scanned) -> Iterator[Raw]:
    """Give addresses of machines that may be somebody's: not masks, nor the machine itself."""
    for match in overlapping(_V4, scanned.view.folded):
        yield from _v4(scanned, *match.span())


def find_v6(scanned: Scanned) -> Iterator[Raw]:
    """Give those of version 6."""
    for place in _colons(scanned.view.folded):
        go_on()
        yield from _v6(scanned, place)


def _v4(scanned: Scanned, start: int, end: int) -> Iterator[Raw]:
    folded = scanned.view.folded
    parts = folded[start:end].split(b".")
    if (
        not scanned.alone(start, end)
        or folded[max(0, start - 1) : start] in (b".", b"-")
        or re.match(rb"\.\d|-\d", folded[end : end + 2])
    ):
        return
    if any(int(part) > 255 or (len(part) > 1 and part[:1] == b"0") for part in parts):
        return
    first, second = int(parts[0]), int(parts[1])
    if first in (0, 127, 255) or ((first, second) == (169, 254) and parts[2:] == [b"169", b"254"]):
        return
    yield Raw(PiiKind.IP_ADDRESS, start, end, _v4_score(scanned, start, end, parts))


def _v4_score(scanned: Scanned, start: int, end: int, parts: list[bytes]) -> float:
    version = scanned.told((Word.VERSION,), start, before=16)
    address = scanned.near((Word.ADDRESS,), start, end, before=40, after=8)
    if version is not None and (address is None or version < address):
        return 0.3
    if scanned.view.folded[end : end + 1] == b"/" and parts[3] == b"0" and address is None:
        return 0.4
    small = all(len(part) == 1 for part in parts)
    return 0.6 if small and address is None else 0.9


def _colons(folded: bytes) -> Iterator[int]:
    """Give where what may be IPv6 begins: hexadecimal digits and colons, as far as they go."""
    for match in _V6.finditer(folded):
        written = match.group()
        if b"::" in written or written.count(b":") >= _V6_COLONS:
            start = match.start()
            while start and (chr(folded[start - 1]) in "0123456789abcdefABCDEF:"):
                start -= 1
                if match.start() - start > 45:
                    break
            yield start


def _v6(scanned: Scanned, start: int) -> Iterator[Raw]:
    folded = scanned.view.folded
    if not scanned.begins(start) or folded[start : start + 1] == b":" != folded[start + 1 : start + 2]:
        # NB: a label that the address touches, `host:2001:db8::1`; it may end with what looks like its digits.
        start = folded.find(b":", start) + 1
    match = _V6_RUN.match(folded, start)
    if match is None or not scanned.alone(start, match.end()):
        return
    end = match.end()
    if folded[end - 1] == 0x3A and folded[end - 2] != 0x3A:
        end -= 1
    written = folded[start:end].partition(b"%")[0].decode()
    if written.count(":") < 2 or (folded[end : end + 1] == b":" and end == match.end()):
        return
    if written.count(":") == 8 and "::" not in written and written.rpartition(":")[2].isdigit():
        # NB: a port behind it; it should be in brackets, and often isn't.
        written = written.rpartition(":")[0]
        end = start + len(written)
    if not _v6_written(written):
        return
    try:
        address = ipaddress.IPv6Address(written)
    except ValueError:
        return
    if not (address.is_unspecified or address.is_loopback):
        yield Raw(PiiKind.IP_ADDRESS, start, end, 0.95)


def _v6_written(written: str) -> bool:
    """Tell whether it looks like an address, and not like the names of two things (`Face::Bad`)."""
    groups = [group for group in written.split(":") if group]
    digits = any(character.isdigit() for character in written)
    return len(groups) >= 4 or (digits and len(groups) >= 2 and len(groups[0]) >= 3)


_PAIR: Final = rb"[0-9A-Fa-f]{2}"
_FOUR: Final = rb"[0-9A-Fa-f]{4}"
_MAC: Final = re.compile(
    rb"(?<![0-9A-Za-z_\-.\xe9])(?<!\b[0-9A-Fa-f]{2}:)(?:%b(?::%b){5}(?:(?::%b){2})?|%b(?:-%b){5}(?:(?:-%b){2})?|%b\.%b\.%b)"
    rb"(?![0-9A-Za-z_\xe9]|[:\-.][0-9A-Fa-f])" % (*[_PAIR] * 6, *[_FOUR] * 3)
)
MACS_GATE: Final = rb"\b(?:[0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-]|[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.)"
_MAC_SHAPE: Final = linear(MACS_GATE)


def find_macs(scanned: Scanned) -> Iterator[Raw]:
    """Give hardware addresses; a row of more pairs is a fingerprint of something else."""
    folded = scanned.view.folded
    for shape in overlapping(_MAC_SHAPE, folded):
        match = _MAC.match(folded, shape.start())
        if match is None:
            continue
        plain = re.sub(rb"[^0-9a-f]", b"", match.group().lower())
        if len(set(plain)) > 1:
            sure = b":" in match.group() or b"-" in match.group()
            yield Raw(PiiKind.MAC_ADDRESS, *match.span(), 0.95 if sure or not plain.isdigit() else 0.6)
