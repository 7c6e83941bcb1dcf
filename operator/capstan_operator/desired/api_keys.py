"""Secrets that are API keys of the gateway become entries of its config: hashes only.

A Secret that is not as it should be is no key, and its owner is told why; the value is never in what is told. What is
changed for the worse is refused at once too: an annotation may be what narrows a key.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from capstan_contract.keys import MAX_KEY_BYTES, KeyEntry, digest_of, tenant_for
from capstan_contract.names import (
    API_KEY_FIELD,
    API_KEY_LABEL,
    KEY_EXPIRES_ANNOTATION,
    KEY_MODELS_ANNOTATION,
    KEY_TEAM_ANNOTATION,
    KEY_TENANT_ANNOTATION,
    KEY_TIER_ANNOTATION,
    KEY_USER_ANNOTATION,
)
from capstan_operator.resources.resource import Manifest

IS_KEY: Final = "true"
"""Value of the label."""
MAX_WORD: Final = 253
"""Characters of a user, a team, a tenant, a tier or a pattern of models."""
MAX_PATTERNS: Final = 256
WEAK_BYTES: Final = 20
"""A shorter key may be guessed from its hash."""

INVALID: Final = "APIKeyInvalid"
DUPLICATE: Final = "APIKeyDuplicate"
EXPIRED: Final = "APIKeyExpired"
WEAK: Final = "APIKeyWeak"

_WORDS: Final = {
    "user": KEY_USER_ANNOTATION,
    "team": KEY_TEAM_ANNOTATION,
    "tenant": KEY_TENANT_ANNOTATION,
    "tier": KEY_TIER_ANNOTATION,
}
_BAD_WORD: Final = re.compile(r"[:\x00-\x1f\x7f]")


class KeyFault(ValueError):
    """Why something is no key, or cannot be said of one. The message holds no value of a Secret."""


@dataclass(frozen=True)
class Complaint:
    """What its owner is told about a Secret."""

    reason: str
    message: str


@dataclass(frozen=True)
class KeySecret:
    """What is kept of a Secret with the label."""

    name: str
    uid: str
    version: str
    """The resourceVersion that it was read in."""
    created: str
    entry: KeyEntry | None
    """None: it is no key."""
    complaint: Complaint | None = None


@dataclass(frozen=True)
class CompiledKeys:
    """What is to be in the config, and what is told about which Secret."""

    entries: tuple[KeyEntry, ...]
    complaints: Mapping[str, Complaint]
    """By the name of the Secret."""


def read_key(secret: Manifest, salt: str) -> KeySecret:
    """Give what there is to know of a Secret. Nothing of its value is kept but the hash by this salt."""
    metadata = secret["metadata"]
    found = KeySecret(
        name=metadata["name"],
        uid=metadata.get("uid") or "",
        version=metadata.get("resourceVersion") or "",
        created=metadata.get("creationTimestamp") or "",
        entry=None,
    )
    try:
        key = _value(secret)
        entry = build_entry(found.name, key, metadata.get("annotations") or {}, salt)
    except KeyFault as fault:
        return replace(found, complaint=Complaint(INVALID, f"is no API key of the gateway: {fault}"))
    if len(key) < WEAK_BYTES:
        text = f"has fewer than {WEAK_BYTES} characters: who reads the gateway's config may guess it from its hash"
        return replace(found, entry=entry, complaint=Complaint(WEAK, text))
    return replace(found, entry=entry)


def is_key(metadata: Mapping[str, object]) -> bool:
    """Whether a Secret counts as a key now: it says so, and nobody has deleted it."""
    labels = metadata.get("labels")
    labelled = isinstance(labels, dict) and labels.get(API_KEY_LABEL) == IS_KEY
    return labelled and "deletionTimestamp" not in metadata


def build_entry(name: str, key: bytes, annotations: Mapping[str, str], salt: str) -> KeyEntry:
    """Build the entry of a key. Raises KeyFault."""
    words = {field: _word(annotation, annotations.get(annotation, "")) for field, annotation in _WORDS.items()}
    tenant = tenant_for(tenant=words["tenant"], team=words["team"], user=words["user"], key=name)
    return KeyEntry(
        id=name,
        digest=digest_of(salt, key),
        user=words["user"],
        team=words["team"],
        tenant=tenant,
        tier=words["tier"],
        models=read_patterns(annotations.get(KEY_MODELS_ANNOTATION)),
        expires=read_end_of(annotations),
    )


def compile_keys(secrets: Iterable[KeySecret], *, now: float) -> CompiledKeys:
    """Say which keys are valid: of several Secrets with one key, that of the oldest one.

    A key that has expired stays an entry, because it is gateways that know the time at which they are asked; its owner
    is told (`now`: Unix seconds).
    """
    complaints: dict[str, Complaint] = {}
    owners: dict[str, KeySecret] = {}
    for secret in sorted(secrets, key=lambda one: (one.created, one.name)):
        if secret.complaint is not None:
            complaints[secret.name] = secret.complaint
        if secret.entry is None:
            continue
        owner = owners.setdefault(secret.entry.digest, secret)
        if owner is not secret:
            text = f"has the same key as the Secret '{owner.name}', which is older and counts"
            complaints[secret.name] = Complaint(DUPLICATE, text)
        elif 0 < secret.entry.expires <= now:
            complaints[secret.name] = Complaint(EXPIRED, "has expired: the gateway refuses it, and it can be deleted")
    entries = tuple(owner.entry for owner in owners.values() if owner.entry is not None)
    return CompiledKeys(entries, MappingProxyType(complaints))


def check_key(value: bytes) -> bytes:
    """Give a key without the white space around it. Raises KeyFault for what no header can carry."""
    key = value.strip()
    if not key:
        raise KeyFault(f"its `{API_KEY_FIELD}` is empty")
    if len(key) > MAX_KEY_BYTES:
        raise KeyFault(f"its `{API_KEY_FIELD}` has more than {MAX_KEY_BYTES} characters")
    if not all(0x21 <= byte <= 0x7E for byte in key):
        raise KeyFault(f"its `{API_KEY_FIELD}` must be printable ASCII characters without spaces")
    return key


def _value(secret: Manifest) -> bytes:
    raw = (secret.get("data") or {}).get(API_KEY_FIELD)
    if raw is None:
        raise KeyFault(f"it has no `{API_KEY_FIELD}`")
    try:
        value = base64.b64decode(raw, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise KeyFault(f"its `{API_KEY_FIELD}` is not base64") from None
    return check_key(value)


def _word(annotation: str, text: str) -> str:
    word = text.strip()
    if len(word) > MAX_WORD:
        raise KeyFault(f"`{annotation}` must have at most {MAX_WORD} characters")
    if _BAD_WORD.search(word):
        raise KeyFault(f"`{annotation}` must hold no ':' and no control characters")
    return word


def read_patterns(text: str | None) -> tuple[str, ...]:
    """Read names of models with commas between them, where `*` is any run of characters; None: all models.

    Raises KeyFault for what names none: it would otherwise allow everything.
    """
    if text is None:
        return ()
    if not text.strip():
        raise KeyFault(f"`{KEY_MODELS_ANNOTATION}` must name a model, or not be there")
    patterns = [part.strip() for part in text.split(",")]
    if not all(patterns):
        raise KeyFault(f"`{KEY_MODELS_ANNOTATION}` must be names with one comma between two of them")
    if len(patterns) > MAX_PATTERNS:
        raise KeyFault(f"`{KEY_MODELS_ANNOTATION}` must have at most {MAX_PATTERNS} names")
    if any(len(one) > MAX_WORD or not one.isprintable() or " " in one for one in patterns):
        raise KeyFault(f"each name of `{KEY_MODELS_ANNOTATION}` must have 1 to {MAX_WORD} characters, without spaces")
    return tuple(sorted(set(patterns)))


def read_end_of(annotations: Mapping[str, str]) -> int:
    """Read when a key ends, as Unix seconds; 0, where nothing is said of it: never. Raises KeyFault."""
    text = annotations.get(KEY_EXPIRES_ANNOTATION)
    return 0 if text is None else read_expiry(text)


def read_expiry(text: str) -> int:
    """Read a time as Unix seconds. Raises KeyFault for what is no time: a key must not live longer than was meant."""
    try:
        moment = datetime.fromisoformat(text.strip())
        seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise KeyFault(f"`{KEY_EXPIRES_ANNOTATION}` must be a time as in 2027-01-31T12:00:00Z") from None
    if seconds <= 0:
        raise KeyFault(f"`{KEY_EXPIRES_ANNOTATION}` must be a time after 1970")
    return seconds
