"""Names of what is kept of background responses that are not over. Pure, but for the randomness of a lease's token.

All keys of one tenant have one hash tag, which is that of its stored responses, so that one script ends a response here
and stores it there:

    capstan:background:{t-acme}:resp_cs0123...    one response that is not over
    capstan:background:{t-acme}:open              which there are, and how many bytes each takes
    capstan:background:open                       those of all tenants: TAG/ID, and the millisecond in which it came
"""

import re
import secrets
from typing import Final

from capstan_gateway.stores.keys import is_kept_id, tenant_tag

OPEN: Final = "capstan:background:open"
_TAG: Final = re.compile(r"t-[A-Za-z0-9._-]{1,64}|h-[0-9a-f]{32}")


class Names:
    """The names of one tenant's things, by its tag."""

    __slots__ = ("open", "prefix", "stored", "tag")

    def __init__(self, tag: str) -> None:
        self.tag: Final = tag
        self.prefix: Final = f"capstan:background:{{{tag}}}:"
        self.open: Final = f"{self.prefix}open"
        self.stored: Final = f"capstan:responses:{{{tag}}}:"
        """What the keys of its stored responses begin with, as `stores.keys.tenant_prefix` has it."""

    @classmethod
    def of(cls, tenant: str) -> "Names":
        """Give those of this tenant."""
        return cls(tenant_tag(tenant))

    def response(self, response_id: str) -> str:
        """Give the key of a response that is not over."""
        return f"{self.prefix}{response_id}"


def new_token() -> str:
    """Give what says whose a lease is."""
    return secrets.token_hex(8)


def open_name(tag: str, response_id: str) -> str:
    """Give the name of a response in the list of all that are not over."""
    return f"{tag}/{response_id}"


def read_open_name(name: bytes) -> tuple[str, str] | None:
    """Give tag and id of an entry of that list; None for what is none."""
    tag, _, response_id = name.decode("ascii", "replace").partition("/")
    return (tag, response_id) if _TAG.fullmatch(tag) and is_kept_id(response_id) else None
