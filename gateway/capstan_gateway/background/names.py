"""Names of what is kept of background responses that are not over. Pure.

All keys of one tenant have one hash tag, which is that of its stored responses, so that one script ends a response here
and stores it there:

    capstan:background:{t-acme}:resp_cs0123...    one response that is not over
    capstan:background:{t-acme}:open              which there are, and how many bytes each takes
    capstan:background:open                       those of all tenants: TAG/ID, and the millisecond in which it came
"""

from typing import Final

from capstan_gateway.stores.keys import is_kept_id, read_tagged_name, tag_prefix, tenant_tag

OPEN: Final = "capstan:background:open"


class Names:
    """The names of one tenant's things, by its tag."""

    __slots__ = ("open", "prefix", "stored", "tag")

    def __init__(self, tag: str) -> None:
        self.tag: Final = tag
        self.prefix: Final = f"capstan:background:{{{tag}}}:"
        self.open: Final = f"{self.prefix}open"
        self.stored: Final = tag_prefix(tag)
        """What the keys of its stored responses begin with."""

    @classmethod
    def of(cls, tenant: str) -> "Names":
        """Give those of this tenant."""
        return cls(tenant_tag(tenant))

    def response(self, response_id: str) -> str:
        """Give the key of a response that is not over."""
        return f"{self.prefix}{response_id}"


def read_open_name(name: bytes) -> tuple[str, str] | None:
    """Give tag and id of an entry of that list; None for what is none."""
    found = read_tagged_name(name)
    return found if found is not None and is_kept_id(found[1]) else None
