"""What an engine says of a call and wants to see again with it, on its way through clients that know no such field.

Gemini signs what it thought, puts the signature on the call (`extra_content.google.thought_signature`), and refuses a
conversation in which it is missing ("Thought signature is not set", ai.google.dev/gemini-api/docs/thought-signatures).
Clients of `/v1/messages` and `/v1/responses` keep opaque texts of thoughts: there it travels, marked as ours.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from capstan_gateway.dialects.fields import Document
from capstan_gateway.documents import to_json

_MARK: Final = "capstan1."
_OPENAIS_ID: Final = re.compile(r"rs_[0-9A-Za-z]+")
"""Of thoughts that OpenAI keeps. Ours have a second underscore, those of other servers often a dash."""
_FIELD: Final = "extra_content"
UNSIGNED: Final = _MARK
"""For thoughts of an engine, which signs none: AI SDK, pydantic-ai and litellm send back only what is signed."""


def signature_of(call: Mapping[str, Any]) -> str:
    """Give the opaque text for a call; "" when its engine says nothing of it."""
    found = call.get(_FIELD)
    return _MARK + base64.b64encode(to_json(found)).decode() if isinstance(found, dict) and found else ""


def is_ours(signature: object) -> bool:
    """Whether a text was made here: nobody else can read it."""
    return isinstance(signature, str) and signature.startswith(_MARK)


def may_be_openais(thoughts: Mapping[str, Any]) -> bool:
    """Whether OpenAI may know an item of thoughts: it is encrypted, and not by us, or has an id as theirs.

    It refuses a conversation with any other ("Item with id 'rs_...' not found", `invalid_encrypted_content`).
    """
    encrypted, kept = thoughts.get("encrypted_content"), thoughts.get("id")
    if encrypted:
        return not is_ours(encrypted)
    return isinstance(kept, str) and _OPENAIS_ID.fullmatch(kept) is not None


def read_signature(signature: str) -> Document:
    """Give the fields to put on the call again; none for a text that clients have changed."""
    try:
        found = orjson.loads(base64.b64decode(signature.removeprefix(_MARK), validate=True))
    except (binascii.Error, ValueError):
        return {}
    return {_FIELD: found} if isinstance(found, dict) else {}
