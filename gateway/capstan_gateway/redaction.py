"""What is taken out of a text before somebody reads it for whom it is not meant."""

import re
from typing import Final

HIDDEN: Final = "***"

_URL: Final = re.compile(r"""\b[a-z][a-z0-9+.-]{1,20}://[^\s"'<>`)\]}]+""", re.IGNORECASE)
_MAIL: Final = re.compile(r"[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+")
_HOST: Final = re.compile(
    r"\b(?:[\w-]{1,63}\.){1,6}(?:com|net|org|io|ai|dev|cloud|azure|local|internal)\b(?::\d+)?", re.IGNORECASE
)
_RESOURCE_NAME: Final = re.compile(
    r"\barn:[\w:/.*-]+|/?\b(?:subscriptions|resourceGroups|projects|organizations)/[\w./@:-]+"
)
_MARKED: Final = re.compile(
    r"\b(?:org|proj|acct|sk|pk|rk|gsk|xai|wrkspc|svcacct)[-_][\w*.-]*[\w*]"
    r"|\b(?:user|req|request|key|ws|workspace|account|project|organi[sz]ation|team|tenant)[-_]"
    r"(?=[\w*.-]{0,128}[\d*])[\w*.-]*[\w*]"
    r"|\b(?:AIza|AKIA|ASIA)[\w-]{6,}"
)
"""Ids and keys say by their first letters what they are. How far is looked ahead is bounded: else `key-key-key-...`
would take quadratic time."""
_UUID: Final = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE)
_LONG: Final = re.compile(r"\b(?=\w*\d)(?=\w*[A-Za-z])[\w*]{20,}|\b\d{12,}\b")
_ACCOUNT_WORD: Final = "organi[sz]ation|project|account|workspace|resource|subscription|tenant|team"
_QUOTED: Final = re.compile(
    rf"\b({_ACCOUNT_WORD}|api key|request)(s? ?(?:ids?|names?|named|called)?[:=]? *)"
    r"([\"'`(\[{])([^\"'`)\]}]{1,200})",
    re.IGNORECASE,
)
"""`project "acme"`"""
_NAMED: Final = re.compile(
    rf"\b((?:{_ACCOUNT_WORD}|request|api key)(?: (?:ids?|names?|provided))?\s*[:=] *"
    rf"|(?:{_ACCOUNT_WORD}|request)[ _-](?:id|name|named|called) +"
    r"|(?:organi[sz]ation|project|workspace|subscription|tenant) (?!(?:an?d?|are|can|cannot|did|do|does|for|had|has"
    r"|have|in|is|key|level|limits?|may|must|not|of|on|or|owner|plan|quota|settings|that|the|to|was|which|with|you|your)\b))"
    r"([\w*.@/-]+)",
    re.IGNORECASE,
)
"""`project: acme`, `project id acme`, `in organization acme`"""


def without_account(text: str) -> str:
    """Take out of a hosted API's message what tells whose account the gateway uses: ids, names, keys, addresses.

    What is left still says what is wrong with the request. It would rather hide a word too many than one too few.
    """
    for pattern in (_URL, _MAIL, _RESOURCE_NAME):
        text = pattern.sub(HIDDEN, text)
    text = _QUOTED.sub(rf"\1\2\3{HIDDEN}", text)
    text = _NAMED.sub(rf"\1{HIDDEN}", text)
    for pattern in (_HOST, _UUID, _MARKED, _LONG):
        text = pattern.sub(HIDDEN, text)
    return text
