"""API keys as people make, replace and list them: what a new one is called, how long it lives, what is shown of it."""

import base64
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from capstan_contract.keys import KEY_PREFIX, KeyEntry
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
from capstan_operator.desired.api_keys import IS_KEY, KeyFault, build_entry, read_end_of, read_expiry
from capstan_operator.resources.resource import Manifest

KEY_RANDOM_BYTES: Final = 32
MOST_NAME: Final = 253
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DURATION: Final = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?")
_SECONDS: Final = (86400, 3600, 60, 1)
_NO_SALT: Final = "0" * 32


@dataclass(frozen=True)
class Terms:
    """Whose a key is, and what it may: the texts of the annotations, empty where nothing is said."""

    user: str = ""
    team: str = ""
    tenant: str = ""
    tier: str = ""
    models: str = ""
    expires: int = 0
    """Unix seconds; 0: never."""

    @property
    def annotations(self) -> dict[str, str]:
        """Give the annotations that say this."""
        said = {
            KEY_USER_ANNOTATION: self.user,
            KEY_TEAM_ANNOTATION: self.team,
            KEY_TENANT_ANNOTATION: self.tenant,
            KEY_TIER_ANNOTATION: self.tier,
            KEY_MODELS_ANNOTATION: self.models,
            KEY_EXPIRES_ANNOTATION: time_text(self.expires) if self.expires else "",
        }
        return {name: text for name, text in said.items() if text}


@dataclass(frozen=True)
class Issued:
    """A key that was made, without the key."""

    name: str
    terms: Terms
    created: int = 0
    """Unix seconds; 0: unknown."""
    uid: str = ""
    fault: str = ""
    """Why it is no key; empty: nothing that can be seen without it."""

    def state(self, now: float) -> str:
        """Say in a word what becomes of a request with it."""
        if self.fault:
            return "Faulty"
        return "Expired" if 0 < self.terms.expires <= now else "Valid"


def make_key(random: Callable[[int], str] = secrets.token_urlsafe) -> str:
    """Give a new key: 256 random bits behind a prefix that scanners for leaked secrets know."""
    return f"{KEY_PREFIX}{random(KEY_RANDOM_BYTES)}"


def make_name(terms: Terms, random: Callable[[int], str] = secrets.token_hex) -> str:
    """Give a name for a new key, which tells its holder to people and is no other one's."""
    whose = terms.user or terms.team or terms.tenant or "key"
    slug = re.sub(r"[^a-z0-9]+", "-", whose.lower()).strip("-")[:40].strip("-") or "key"
    return f"{slug}-{random(4)}"


def check_name(name: str) -> str:
    """Give a name that an object can have. Raises KeyFault."""
    if len(name) > MOST_NAME or not _NAME.fullmatch(name):
        raise KeyFault(f"'{name[:MOST_NAME]}' is no name: lower-case letters, digits, '-' and '.' are allowed")
    return name


def check_terms(name: str, terms: Terms) -> KeyEntry:
    """Give what the gateway would make of a key with these terms, without its hash. Raises KeyFault."""
    return build_entry(name, b"", terms.annotations, _NO_SALT)


def issued_of(metadata: Mapping[str, object]) -> Issued:
    """Give what the metadata of a Secret say of a key."""
    name = str(metadata["name"])
    annotations = metadata.get("annotations")
    said: Mapping[str, str] = annotations if isinstance(annotations, dict) else {}
    fault = ""
    try:
        expires = read_end_of(said)
        build_entry(name, b"", said, _NO_SALT)
    except KeyFault as error:
        expires, fault = 0, str(error)
    terms = Terms(
        user=said.get(KEY_USER_ANNOTATION, "").strip(),
        team=said.get(KEY_TEAM_ANNOTATION, "").strip(),
        tenant=said.get(KEY_TENANT_ANNOTATION, "").strip(),
        tier=said.get(KEY_TIER_ANNOTATION, "").strip(),
        models=said.get(KEY_MODELS_ANNOTATION, "").strip(),
        expires=expires,
    )
    created = str(metadata.get("creationTimestamp") or "")
    return Issued(
        name, terms, created=read_expiry(created) if created else 0, uid=str(metadata.get("uid") or ""), fault=fault
    )


def build_key_secret(name: str, namespace: str, key: str, terms: Terms) -> Manifest:
    """Build the Secret of a new key."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {API_KEY_LABEL: IS_KEY},
            "annotations": terms.annotations,
        },
        "type": "Opaque",
        "data": {API_KEY_FIELD: base64.b64encode(key.encode()).decode()},
    }


def read_duration(text: str) -> int:
    """Read a duration such as 90d, 12h or 1d12h as seconds. Raises KeyFault."""
    found = _DURATION.fullmatch(text.strip())
    if text.strip() == "0":
        return 0
    if not text.strip() or found is None:
        raise KeyFault(f"'{text[:40]}' is no duration: as in 90d, 12h, 30m or 1d12h")
    return sum(int(number or 0) * unit for number, unit in zip(found.groups(), _SECONDS, strict=True))


def read_end(text: str, now: float) -> int:
    """Read when a key ends: a duration from now on, or a time. Unix seconds. Raises KeyFault."""
    try:
        seconds = read_duration(text)
    except KeyFault:
        try:
            end = read_expiry(text)
        except KeyFault:
            raise KeyFault(
                f"'{text[:40]}' is no end: a duration as in 90d or 12h, or a time as in 2027-01-31T12:00:00Z"
            ) from None
    else:
        end = int(now) + seconds
    if end <= now:
        raise KeyFault(f"'{text[:40]}' is not in the future")
    return end


def renewed(old: Issued, now: float) -> int:
    """Give when a key ends that replaces one, where nobody says it: it lives as long as that was to, from now on; 0
    where that has no end. Of one that has no beginning the end is the same. Raises KeyFault where that is over."""
    if not old.terms.expires:
        return 0
    end = int(now) + max(old.terms.expires - old.created, 0) if old.created else old.terms.expires
    if end <= now:
        raise KeyFault(f"'{old.name}' has ended, and nobody knows how long it was to live: say --expires")
    return end


def retired(terms: Terms, *, now: float, grace: int) -> int:
    """Give when a key ends that was replaced: after the grace, or earlier where it would have ended earlier."""
    end = int(now) + grace
    return min(end, terms.expires) if terms.expires else end


def time_text(seconds: int) -> str:
    """Write Unix seconds as annotations and tables have them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
