"""Names of what is stored. Pure, but for the randomness of new ids.

All keys of one tenant have one hash tag, so that a Redis Cluster keeps them together and a script may touch them all:

    capstan:responses:{t-everybody}:resp_cs0123...    one response
    capstan:responses:{t-everybody}:index             which there are, the oldest first
    capstan:responses:{t-everybody}:sizes             how large each is, and all of them together
"""

import re
import secrets
from hashlib import blake2b
from typing import Final

_PLAIN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TAG: Final = re.compile(r"t-[A-Za-z0-9._-]{1,64}|h-[0-9a-f]{32}")
_KEPT: Final = re.compile(r"resp_cs[0-9a-f]{40}")
_ITEM: Final = re.compile(r"[a-z]{1,8}_(cs[0-9a-f]{40})_i?[0-9]{1,9}")
_RANDOM_BYTES: Final = 20


def tenant_prefix(tenant: str) -> str:
    """Give what all keys of this tenant begin with; no two tenants have the same.

    A name that is long, or has characters which mean something in a key, becomes its hash (BLAKE2b, 128 bits).
    """
    return tag_prefix(tenant_tag(tenant))


def tag_prefix(tag: str) -> str:
    """Give what all keys of the tenant begin with that is called so in keys."""
    return f"capstan:responses:{{{tag}}}:"


def tenant_tag(tenant: str) -> str:
    """Give what a tenant is called in keys: letters, digits, `.`, `_` and `-`, and never the same for two of them."""
    if _PLAIN.fullmatch(tenant):
        return f"t-{tenant}"
    return f"h-{blake2b(tenant.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def tagged_name(tag: str, thing_id: str) -> str:
    """Give the name of a tenant's thing in a list of all tenants' things."""
    return f"{tag}/{thing_id}"


def read_tagged_name(name: bytes) -> tuple[str, str] | None:
    """Give tag and id of an entry of such a list; None for what begins with no tag."""
    tag, _, thing_id = name.decode("ascii", "replace").partition("/")
    return (tag, thing_id) if _TAG.fullmatch(tag) else None


def new_token() -> str:
    """Give what says whose a lease is."""
    return secrets.token_hex(8)


def new_number() -> str:
    """Give what is unique in the id of a response that is kept: 160 random bits, behind a mark that says it is ours."""
    return f"cs{secrets.token_hex(_RANDOM_BYTES)}"


def is_kept_id(response_id: str) -> bool:
    """Whether this may be the id of a response that is kept here. Those of hosted APIs have another form."""
    return _KEPT.fullmatch(response_id) is not None


def response_of_item(item_id: str) -> str | None:
    """Give the id of the response that this item is of, in its output or its input; None when it is none of ours."""
    found = _ITEM.fullmatch(item_id)
    return None if found is None else f"resp_{found.group(1)}"
