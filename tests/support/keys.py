"""API keys, as a gateway's config has them and as clients send them."""

from typing import Any

from capstan_contract.keys import KEY_PREFIX, KeyEntry, digest_of, tenant_for

SALT = "00112233445566778899aabbccddeeff"


def key_text(name: str) -> str:
    """Give the key of this name, as its owner sends it."""
    return f"{KEY_PREFIX}{name}-0123456789"


def key_entry(name: str, *, text: str | None = None, salt: str = SALT, **fields: Any) -> KeyEntry:
    """Give the key of this name as the config has it; `text` is another key than `key_text` gives."""
    who = {part: fields.get(part, "") for part in ("tenant", "team", "user")}
    digest = digest_of(salt, (key_text(name) if text is None else text).encode())
    return KeyEntry(**{**fields, "id": name, "digest": digest, "tenant": tenant_for(**who, key=name)})
