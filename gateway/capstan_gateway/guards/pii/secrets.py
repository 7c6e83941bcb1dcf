"""Keys and tokens by the forms that their makers give them, and passwords where a word says so."""

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from math import log2
from typing import Final

from capstan_contract.guards import PiiKind
from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.pii.raw import Raw
from capstan_gateway.guards.pii.scan import Scanned, linear, overlapping
from capstan_gateway.guards.pii.words import Word

MOST: Final = 4096
"""Most characters of one: the private key of RSA with 4,096 bits has 3,272."""

_B = rb"(?![A-Za-z0-9_])"
_FORMS: Final[tuple[tuple[bytes, bytes, float], ...]] = (
    # how it begins, how it goes on, how sure that is
    (rb"(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA)", rb"[A-Z2-7]{16}" + _B, 0.99),  # AWS
    (rb"AIza", rb"[A-Za-z0-9_-]{35}" + rb"(?![A-Za-z0-9_-])", 0.99),  # Google
    (rb"ya29\.", rb"[A-Za-z0-9_-]{20,2048}", 0.95),
    (rb"GOCSPX-", rb"[A-Za-z0-9_-]{24,40}", 0.99),
    (rb"gh[pousr]_", rb"[A-Za-z0-9]{36,255}" + _B, 0.99),  # GitHub
    (rb"github_pat_", rb"[A-Za-z0-9_]{60,255}" + _B, 0.99),
    (rb"gl(?:pat|ptt|rt|dt|soat|ft|imt|agent|cbt|oas)-", rb"[A-Za-z0-9_.-]{20,128}", 0.99),  # GitLab
    (rb"xox[abeoprs]-", rb"[A-Za-z0-9-]{10,250}", 0.98),  # Slack
    (rb"xapp-", rb"\d-[A-Z0-9]{8,16}-\d{8,16}-[a-f0-9]{32,80}", 0.99),
    (rb"https://hooks\.slack\.com/", rb"(?:services|workflows|triggers)/[A-Za-z0-9+/_-]{20,120}", 0.99),
    (rb"https://(?:ptb\.|canary\.)?discord(?:app)?\.com/api/webhooks/", rb"\d{15,20}/[A-Za-z0-9_-]{50,80}", 0.99),
    (rb"(?:sk|rk|pk)_(?:live|test)_", rb"[A-Za-z0-9]{10,247}" + _B, 0.98),  # Stripe
    (rb"whsec_", rb"[A-Za-z0-9+/=]{24,64}", 0.98),
    (rb"sk-ant-", rb"[A-Za-z0-9_-]{20,200}", 0.99),  # Anthropic
    (rb"sk-(?:proj|svcacct|admin|or-v1|lf)-", rb"[A-Za-z0-9_-]{20,250}", 0.99),  # OpenAI, OpenRouter, Langfuse
    (rb"sk-", rb"(?=[A-Za-z0-9]{0,60}\d)(?=[A-Za-z0-9]{0,60}[A-Za-z])[A-Za-z0-9]{20,64}" + rb"(?![A-Za-z0-9_-])", 0.95),
    (rb"(?:hf|api_org)_", rb"[A-Za-z]{30,40}" + _B, 0.99),  # Hugging Face
    (rb"r8_", rb"[A-Za-z0-9]{37}" + _B, 0.99),  # Replicate
    (rb"gsk_", rb"[A-Za-z0-9]{40,64}" + _B, 0.99),  # Groq
    (rb"xai-", rb"[A-Za-z0-9]{60,100}" + _B, 0.99),
    (rb"pplx-", rb"[A-Za-z0-9]{40,64}" + _B, 0.99),
    (rb"nvapi-", rb"[A-Za-z0-9_-]{50,100}", 0.99),
    (rb"lsv2_(?:pt|sk)_", rb"[a-f0-9]{32}_[a-f0-9]{10}", 0.99),
    (rb"npm_", rb"[A-Za-z0-9]{36}" + _B, 0.99),
    (rb"pypi-", rb"AgE[A-Za-z0-9_-]{50,250}", 0.99),
    (rb"dckr_(?:pat|oat)_", rb"[A-Za-z0-9_-]{24,40}", 0.99),
    (rb"SG\.", rb"[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{39,50}", 0.99),  # SendGrid
    (rb"key-", rb"[0-9a-f]{32}" + _B, 0.8),  # Mailgun
    (rb"(?:AC|SK)", rb"[0-9a-f]{32}" + _B, 0.7),  # Twilio
    (rb"shp(?:at|ca|pa|ss)_", rb"[A-Fa-f0-9]{32}" + _B, 0.99),  # Shopify
    (rb"do[por]_v1_", rb"[a-f0-9]{64}" + _B, 0.99),  # DigitalOcean
    (rb"dapi", rb"[a-f0-9]{32}(?:-\d)?" + _B, 0.97),  # Databricks
    (rb"hv[sbr]\.", rb"[A-Za-z0-9_-]{24,250}", 0.97),  # Vault
    (rb"(?:EAA|EAAC)", rb"[A-Za-z0-9]{80,300}" + _B, 0.9),  # Facebook
    (rb"ATATT3", rb"[A-Za-z0-9_=-]{100,250}", 0.99),  # Atlassian
    (rb"lin_(?:api|oauth)_", rb"[A-Za-z0-9]{40,64}" + _B, 0.99),
    (rb"(?:secret|ntn)_", rb"[A-Za-z0-9]{43,50}" + _B, 0.95),  # Notion
    (rb"figd_", rb"[A-Za-z0-9_-]{36,50}", 0.97),
    (rb"sntry[su]_", rb"[A-Za-z0-9+/=_-]{40,300}", 0.97),
    (rb"glsa_", rb"[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}", 0.99),  # Grafana
    (rb"dp\.(?:pt|st|ct|sa)\.", rb"[A-Za-z0-9._-]{40,60}", 0.97),
    (rb"PMAK-", rb"[a-f0-9]{24}-[a-f0-9]{34}", 0.99),
    (rb"rubygems_", rb"[a-f0-9]{48}" + _B, 0.99),
    (rb"sq0(?:atp|csp|idp)-", rb"[A-Za-z0-9_-]{22,43}", 0.98),  # Square
    (rb"NRAK-", rb"[A-Z0-9]{27}" + _B, 0.99),
    (rb"tskey-", rb"[a-z]{3,10}-[A-Za-z0-9]{8,20}-[A-Za-z0-9]{20,40}", 0.98),
    (rb"AGE-SECRET-KEY-1", rb"[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}", 0.99),
    (rb"(?:AccountKey|SharedAccessKey)=", rb"[A-Za-z0-9+/]{40,100}={0,2}", 0.99),  # Azure
    (rb"eyJ", rb"[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{0,2000}", 0.9),  # JSON Web Token
    (rb"\d{8,10}:AA", rb"[A-Za-z0-9_-]{33}" + rb"(?![A-Za-z0-9_-])", 0.98),  # Telegram
)
KEYS_GATE: Final = rb"(?:\b(?:" + b"|".join(begin for begin, _, _ in _FORMS) + rb")|-----BEGIN )"
_BEGINS: Final = linear(KEYS_GATE)
_COMPILED: Final = tuple((re.compile(begin), re.compile(begin + rest), score) for begin, rest, score in _FORMS)
_ON: Final = re.compile(rb"[A-Za-z0-9_.+/=:~-]{0,%d}" % MOST)
_PRIVATE: Final = re.compile(rb"-----BEGIN (?:[A-Z0-9]{2,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_PRIVATE_ON: Final = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,60}-{0,5}\Z")
_PRIVATE_BODY: Final = re.compile(rb"[A-Za-z0-9+/=:,\s\\.()<>-]{0,%d}" % MOST)
_PRIVATE_END: Final = re.compile(rb"-----END [A-Z0-9 ]{0,60}-----")


def find_keys(scanned: Scanned) -> Iterator[Raw]:
    """Give keys and tokens of known makers, and private keys."""
    folded = scanned.view.folded
    for begin in overlapping(_BEGINS, folded):
        if folded[begin.start()] == 0x2D:
            yield from _private(folded, begin.start())
        elif scanned.begins(begin.start()) and folded[begin.start() - 1 : begin.start()] != b"-":
            yield from _key(folded, begin.start())


def _key(folded: bytes, start: int) -> Iterator[Raw]:
    limit = min(len(folded), start + MOST)
    token = _ON.match(folded, start, limit)
    if token is not None and token.end() == len(folded):
        yield Raw(None, start, len(folded), 0.0, open=True)
    for begin, whole, score in _COMPILED:
        if begin.match(folded, start) is None:
            continue
        match = whole.match(folded, start, limit)
        if match is not None and (match[0][:3] != b"eyJ" or _is_jwt(match[0])) and not _made_up(match[0]):
            end = match.end() - (match[0][-1:] in b".-" and match[0][:3] != b"eyJ")
            yield Raw(PiiKind.SECRET, start, end, score, open=match.end() == len(folded))


def _is_jwt(token: bytes) -> bool:
    """Tell whether its head is the one of a JSON Web Token."""
    head = token.partition(b".")[0]
    try:
        document = json.loads(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)))
    except (ValueError, binascii.Error):
        return False
    return isinstance(document, dict) and ("alg" in document or "typ" in document or "enc" in document)


def _made_up(token: bytes) -> bool:
    """Tell whether it only shows what a key looks like: `sk-xxxxxxxx`."""
    tail = token[-12:].lower()
    return (
        len(set(tail)) <= 2 or b"your" in token.lower() or (b"example" in token.lower()[:-4] and token[:4] != b"AKIA")
    )


def _private(folded: bytes, start: int) -> Iterator[Raw]:
    """Give a private key, to its end, or as far as one can go."""
    head = _PRIVATE.match(folded, start)
    if head is None:
        if _PRIVATE_ON.match(folded, start) is not None:
            yield Raw(None, start, len(folded), 0.0, open=True)
        return
    limit = min(len(folded), start + MOST)
    end = _PRIVATE_END.search(folded, head.end(), limit)
    if end is not None:
        yield Raw(PiiKind.SECRET, start, end.end(), 1.0)
        return
    body = _PRIVATE_BODY.match(folded, head.end(), limit)
    stop = head.end() if body is None else body.end()
    yield Raw(PiiKind.SECRET, start, stop, 0.95, open=limit == len(folded) and limit < start + MOST)


_JOINT: Final = re.compile(
    rb"[\"'`*_]{0,2}(?P<sign>[ \t]{0,3}(?::=|=>|->|[:=|])[ \t]{0,3}"
    rb"|[ \t](?:is|was|ist|es|est|\xe9|to|lautet)[ \t:]{1,3}"
    rb"|[ \t]?\xff{0,3}[:=][ \t]?)(?:(?:Bearer|Basic|Token|bearer|basic)[ ])?(?P<quote>[\"'`]{0,3})"
    rb"|[ ](?:Bearer|Basic)[ ]|[ ](?=\S)"
)
_VALUE: Final = re.compile(rb"[!#$%&()*+./:=?@A-Z\[\]^_a-z{|}~0-9\\\xe9\xff-]{4,256}")
_CODE: Final = linear(
    rb"(?i)\$\{|\{\{|<|>|%\(|\(\)|\w\(|os\.environ|process\.env|getenv|env\[|config[.\[]|settings\.|self\.|this\.|secrets?\.|vault[.:]"
    rb"|\w\[|request\.|args\.|params"
)
"""What only stands in programs, where a password comes from elsewhere."""
_TRAILING: Final = b".,;:!?)]}\"'`*"
_WORDY: Final = re.compile(rb"[-./]*(?:[A-Za-z][a-z]*|[A-Z]+)(?:[-_./](?:[A-Za-z][a-z]*|[A-Z]+))*[.,;:!?]*\Z")
MOST_LABELLED: Final = 256

Check = Callable[[bytes, bool, bool], float]
"""Says how sure it is that a value is one: whether it is in quotes, and whether a sign is in front of it."""


def find_labelled(scanned: Scanned) -> Iterator[Raw]:
    """Give what stands behind a word for passwords or tokens, if it looks like one."""
    for word, check in ((Word.PASSWORD, _password), (Word.TOKEN, _token)):
        for _, end in scanned.hits.spans.get(word, ()):
            go_on()
            yield from _behind(scanned, end, check)


def _behind(scanned: Scanned, end: int, check: Check) -> Iterator[Raw]:
    folded = scanned.view.folded
    joint = _JOINT.match(folded, end)
    if joint is None:
        if len(folded) - end < 12:
            yield Raw(None, end, len(folded), 0.0, open=True)
        return
    value = _VALUE.match(folded, joint.end(), joint.end() + MOST_LABELLED)
    if value is None:
        return
    start, stop = value.span()
    reached = stop == len(folded)
    while stop > start and folded[stop - 1] in _TRAILING:
        stop -= 1
    yield Raw(None, start, max(stop, value.end()), 0.0, open=reached)
    quoted = bool(joint["quote"])
    signed = joint["sign"] is not None
    score = check(folded[start:stop], quoted, signed) if stop - start >= 4 else 0
    if score:
        yield Raw(PiiKind.SECRET, start, stop, score, open=reached)


def _password(value: bytes, quoted: bool, signed: bool) -> float:
    """Give how sure it is that a value is a password: text about passwords has words there, code has code."""
    if _CODE.search(value) or _filler(value) or not signed:
        return 0
    kinds = _kinds(value)
    if _WORDY.match(value) or (value.isdigit() and len(value) < 4):
        return 0.45 if quoted and len(value) >= 8 else 0.2
    if kinds >= 3 or (kinds == 2 and len(value) >= 6 and _DIGIT.search(value)):
        return 0.85
    return 0.6 if quoted or (value.isdigit() and len(value) >= 4) else 0.4


def _token(value: bytes, quoted: bool, signed: bool) -> float:
    """Give the same of a token: long, and without order."""
    if _CODE.search(value) or _filler(value) or _WORDY.match(value) or len(value) < 16:
        return 0
    if not _DIGIT.search(value) or entropy(value) < 3.0 or b"://" in value:
        return 0
    return 0.85 if signed or quoted else 0.55 if _kinds(value) >= 3 and len(value) >= 24 else 0.3


def _filler(value: bytes) -> bool:
    """Tell whether it stands for a value that is to be filled in."""
    lowered = value.lower()
    return len(set(lowered)) <= 2 or lowered.startswith(_FILLERS)


_FILLERS: Final = (
    b"your", b"xxx", b"***", b"...", b"example", b"changeme", b"placeholder", b"redacted", b"[", b"{",
)  # fmt: skip
_RANGES: Final = ((97, 122), (65, 90), (48, 57), (33, 47), (58, 64), (91, 96), (123, 126))
_KINDS: Final = bytes(
    next((kind + 1 for kind, (low, high) in enumerate(_RANGES) if low <= byte <= high), 0) for byte in range(256)
)
_DIGIT: Final = re.compile(rb"\d")


def _kinds(value: bytes) -> int:
    """Count the kinds of characters in a value: small, capital, digit, other."""
    return len(set(value.translate(_KINDS)) - {0})


def entropy(value: bytes) -> float:
    """Give the bits that a character of a value holds, by how often each is in it (Shannon)."""
    counts = Counter(value)
    return -sum(count / len(value) * log2(count / len(value)) for count in counts.values())
