"""Texts full of what may be personal data, and detectors of all of it, for property tests."""

from hypothesis import strategies as st

from capstan_contract.guards import NAMED_KINDS, PiiKind
from capstan_gateway.guards.pii.detector import pii_detector
from support.pii import VALUES

ALL = pii_detector(dict.fromkeys(set(PiiKind) - NAMED_KINDS))
SHORT = pii_detector(
    dict.fromkeys((PiiKind.EMAIL, PiiKind.PHONE, PiiKind.CARD, PiiKind.IBAN, PiiKind.NATIONAL_ID, PiiKind.IP_ADDRESS))
)
"""Reaches less far, so that more than its reach fits into an example."""
NEVER = pii_detector(
    dict.fromkeys((PiiKind.PHONE, PiiKind.CARD, PiiKind.NATIONAL_ID, PiiKind.TAX_ID, PiiKind.EMAIL), 0.05)
)
"""Takes for found what is hardly likely."""

WORDS = (
    "phone", "phone: ", "tel", "call me at ", "my ssn is ", "order ", "card ", "passport no. ", "password = ", "token: ",
    "born on ", "IBAN ", "version ", "id", "NHS number ", "is my phone", " office", "Authorization: Bearer ", "wallet",
    "เลขประจำตัวประชาชน", "โทร", "电话", "телефон", "account number ", "mrn", "://", "@", "-----BEGIN RSA PRIVATE KEY-----\n",
    "-----END RSA PRIVATE KEY-----", "eyJ", "sk-", "AKIA", "ghp_", "\\n", "\\u0040", "\\", "\\\\", "\u200b", "\N{NO-BREAK SPACE}",
)  # fmt: skip
GLUE = (
    " ",
    "",
    "\n",
    ", ",
    "-",
    ".",
    ":",
    "=",
    '"',
    "/",
    "(",
    ")",
    "+",
    "x",
    "1",
    "0",
    "a",
    "é",
    "ß",
    "ก",
    "中",
    "０",
    "x 12",
    "[at]",
    "[dot]",
)
LENGTHY = (
    "a" * 60 + "@" + "sub1." * 18 + "example.com",
    "https://" + "u" * 100 + ":" + "p4" * 80 + "@db.example.com",
    "github_pat_" + "a1" * 100,
    "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIi" * 60 + ".gzSraSYS8EXBxLN_oWnFSRgCzcmJmMjLiuyu5CSpyHI",
    "password = " + "abcdefgh" * 20 + "1",
    "-----BEGIN EC PRIVATE KEY-----\n" + "MIIBVAIBADANBgkqhkiG9w0B\n" * 20 + "-----END EC PRIVATE KEY-----",
)
PART = st.one_of(
    st.sampled_from(LENGTHY),
    st.sampled_from([value for values in VALUES.values() for value in values]),
    st.sampled_from(WORDS),
    st.sampled_from(GLUE),
    st.sampled_from(GLUE),
    st.text("0123456789 -./()", max_size=24),
    st.text("0123456789abcdefABCDEFxyz:.-_@ ", max_size=24),
    st.text(max_size=8),
    st.builds(
        lambda unit, count: unit * count,
        st.sampled_from(["1 ", "4111 ", "a", "lorem ipsum ", "1.", "a:", "z_", "ก", "\\", "A1"]),
        st.integers(1, 60),
    ),
)
TEXT = st.lists(PART, max_size=24).map("".join)
