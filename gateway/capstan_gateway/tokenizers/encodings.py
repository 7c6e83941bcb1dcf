"""Which of OpenAI's encodings a model has, by its name, and how text is cut for it. From tiktoken; pure."""

from types import MappingProxyType
from typing import Final

O200K: Final = "o200k_base"
CL100K: Final = "cl100k_base"
PATTERNS: Final = MappingProxyType(
    {
        CL100K: (
            r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|"""
            r"""\s*[\r\n]|\s+(?!\S)|\s"""
        ),
        O200K: "|".join(
            (
                r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
                r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
                r"""\p{N}{1,3}""",
                r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
                r"""\s*[\r\n]+""",
                r"""\s+(?!\S)""",
                r"""\s+""",
            )
        ),
    }
)
PUBLISHED: Final = MappingProxyType(
    {
        CL100K: "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        O200K: "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    }
)
"""The SHA-256 of each file, as tiktoken checks it: what has this name and is another file is not used."""
_BY_PREFIX: Final = (
    ("gpt-4o", O200K), ("chatgpt-4o", O200K), ("gpt-4.1", O200K), ("gpt-4.5", O200K), ("gpt-5", O200K),
    ("o1", O200K), ("o3", O200K), ("o4-mini", O200K),
    ("gpt-4", CL100K), ("gpt-3.5-turbo", CL100K), ("text-embedding-3", CL100K), ("text-embedding-ada-002", CL100K),
)  # fmt: skip
"""The first that fits; behind it the name ends, or goes on with `-` or `.` (`gpt-5.1`)."""
_FINE_TUNED: Final = "ft:"


def encoding_of(model: str) -> str | None:
    """Give the encoding of one of OpenAI's models; None of one that is not known."""
    name = model.removeprefix(_FINE_TUNED)
    for prefix, encoding in _BY_PREFIX:
        if name == prefix or name.startswith((f"{prefix}-", f"{prefix}:")):
            return encoding
        if prefix == "gpt-5" and name.startswith("gpt-5."):
            return encoding
    return None
