"""Names of what is kept of files and batches. Pure, but for the randomness of new ids.

All keys of one tenant have one hash tag, so that a Redis Cluster keeps them together and a script may touch them all:

    capstan:batches:{t-acme}:files          a tenant's files: from an id to what is known of it
    capstan:batches:{t-acme}:sizes          how large each is; the empty field is the sum
    capstan:batches:{t-acme}:index          a tenant's batches: from an id to the second in which it came
    capstan:batches:{t-acme}:b:batch_...    one batch
    capstan:batches:{t-acme}:r:batch_...    answers of it that are not in an object yet
    capstan:batches:open                    batches of all tenants that are not over: TAG/ID
    capstan:batches:tenants                 the tags of tenants with files, and when one came last

Objects are at TAG/FILE_ID/PART.
"""

import re
import secrets
from typing import Final

from capstan_gateway.stores.keys import read_tagged_name, tenant_tag

OPEN: Final = "capstan:batches:open"
TENANTS: Final = "capstan:batches:tenants"
_RANDOM_BYTES: Final = 16
_FILE: Final = re.compile(r"file-[0-9a-f]{32}")
_BATCH: Final = re.compile(r"(?:msg)?batch_[0-9a-f]{32}")
_OF_MESSAGES: Final = "msgbatch_"


class Names:
    """The names of one tenant's things, by its tag."""

    __slots__ = ("files", "index", "prefix", "sizes", "tag")

    def __init__(self, tag: str) -> None:
        self.tag: Final = tag
        self.prefix: Final = f"capstan:batches:{{{tag}}}:"
        self.files: Final = f"{self.prefix}files"
        self.sizes: Final = f"{self.prefix}sizes"
        self.index: Final = f"{self.prefix}index"

    @classmethod
    def of(cls, tenant: str) -> "Names":
        """Give those of this tenant."""
        return cls(tenant_tag(tenant))

    def batch(self, batch_id: str) -> str:
        """Give the key of a batch."""
        return f"{self.prefix}b:{batch_id}"

    def results(self, batch_id: str) -> str:
        """Give the key of its answers that are in no object yet."""
        return f"{self.prefix}r:{batch_id}"

    def folder(self, file_id: str) -> str:
        """Give where the objects of a file are."""
        return f"{self.tag}/{file_id}"


def new_file_id() -> str:
    """Give an id that nobody guesses: 128 random bits."""
    return f"file-{secrets.token_hex(_RANDOM_BYTES)}"


def new_batch_id() -> str:
    """Give an id that nobody guesses: 128 random bits."""
    return f"batch_{secrets.token_hex(_RANDOM_BYTES)}"


def new_message_batch_id() -> str:
    """Give the same for a batch of Anthropic's API."""
    return f"{_OF_MESSAGES}{secrets.token_hex(_RANDOM_BYTES)}"


def is_of_messages(batch_id: str) -> bool:
    """Whether this is the id of a batch of Anthropic's API: for OpenAI's there is none of this id, and the reverse."""
    return batch_id.startswith(_OF_MESSAGES)


def new_line_id() -> str:
    """Give the id of one answer of a batch."""
    return f"batch_req_{secrets.token_hex(_RANDOM_BYTES)}"


def is_file_id(text: str) -> bool:
    """Whether this may be the id of a file."""
    return _FILE.fullmatch(text) is not None


def is_batch_id(text: str) -> bool:
    """Whether this may be the id of a batch."""
    return _BATCH.fullmatch(text) is not None


def read_open_name(name: bytes) -> tuple[str, str] | None:
    """Give tag and id of an entry of that list; None for what is none."""
    found = read_tagged_name(name)
    return found if found is not None and is_batch_id(found[1]) else None
