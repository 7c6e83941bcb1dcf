"""Which of the gateway's Secrets holds which credential. Pure.

A credential stays where it is for as long as it fits, and a new one goes to the first Secret with room: the Secrets
themselves say where everything is, and one more credential writes one of them.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from capstan_contract.names import (
    COMPONENT_LABEL,
    CREDENTIAL_SHARDS_ANNOTATION,
    GROUP,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    MAX_CREDENTIAL_SHARDS,
    SHARD_BYTES,
)
from capstan_operator.desired.diff import with_applied_hash
from capstan_operator.gateway_config.credential_rules import Held
from capstan_operator.resources.api_resource import SECRETS
from capstan_operator.resources.resource import Manifest

COMPONENT: Final = "gateway-credentials"
UNLABELLED_ANNOTATION: Final = f"{GROUP}/unlabelled-credentials"
"""On the gateway's Secrets: which of their values were copied from a Secret without our label."""
_PER_VALUE: Final = 40
"""Bytes of a value beside its name and itself: JSON, and its place in the annotation."""


def size_of(file: str, held: Held) -> int:
    """Give the bytes that a credential takes of a Secret."""
    return len(file) + len(held.value) + _PER_VALUE


def place(
    sizes: Mapping[str, int],
    where: Mapping[str, int],
    *,
    taken: int = 0,
    most_bytes: int = SHARD_BYTES,
    most_shards: int = MAX_CREDENTIAL_SHARDS + 1,
) -> dict[str, int]:
    """Give the shard of each file; `where` says where each is now, `taken` what else is in the first one. A file for
    which there is no room anywhere is in none."""
    room = [most_bytes - taken, *([most_bytes] * (most_shards - 1))]
    placed: dict[str, int] = {}
    homeless = []
    for file, size in sorted(sizes.items()):
        shard = where.get(file)
        if shard is not None and shard < most_shards and size <= room[shard]:
            placed[file] = shard
            room[shard] -= size
        else:
            homeless.append(file)
    for file in homeless:
        shard = next((number for number, left in enumerate(room) if sizes[file] <= left), None)
        if shard is not None:
            placed[file] = shard
            room[shard] -= sizes[file]
    return placed


def gaining(before: Mapping[str, int], after: Mapping[str, int]) -> list[int]:
    """Give the shards that a credential moves into: they are written before those that it leaves."""
    return sorted({shard for file, shard in after.items() if before.get(file, shard) != shard})


def build_secret(name: str, namespace: str, values: Mapping[str, Held], *, others: int | None = None) -> Manifest:
    """Build one of the gateway's Secrets; `others`, on the first one: how many further ones there are."""
    annotations = {}
    if unlabelled := sorted(file for file, held in values.items() if held.unlabelled):
        annotations[UNLABELLED_ANNOTATION] = ",".join(_short(file) for file in unlabelled)
    if others:
        annotations[CREDENTIAL_SHARDS_ANNOTATION] = str(others)
    return with_applied_hash(
        {
            "apiVersion": SECRETS.api_version,
            "kind": SECRETS.kind,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {MANAGED_BY_LABEL: MANAGED_BY, COMPONENT_LABEL: COMPONENT},
                **({"annotations": annotations} if annotations else {}),
            },
            "type": "Opaque",
            "data": {file: held.value for file, held in sorted(values.items())},
        }
    )


def read_held(secret: Manifest) -> dict[str, Held]:
    """Give what one of the gateway's Secrets holds."""
    annotations = (secret.get("metadata") or {}).get("annotations") or {}
    unlabelled = set(str(annotations.get(UNLABELLED_ANNOTATION, "")).split(","))
    return {
        str(file): Held(str(value), unlabelled=_short(str(file)) in unlabelled)
        for file, value in (secret.get("data") or {}).items()
    }


def has_reference(file: str) -> bool:
    """Whether a file's name says its reference; those that a former release has written do not."""
    return file.count(".") >= 3


def former(files: Iterable[str]) -> frozenset[str]:
    """Give the files that a former release has written."""
    return frozenset(file for file in files if not has_reference(file))


def _short(file: str) -> str:
    return file.rpartition(".")[2]
