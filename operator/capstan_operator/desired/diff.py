"""Whether an object has to be written: at rest nothing is.

Two questions, because neither is enough alone. "Is what we applied last what we would apply now?" (a hash in an
annotation) notices a field that we no longer set. "Is every field that we set still so?" notices that somebody else
changed one. What the API server adds by itself (defaults, status) is in neither.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

from capstan_contract.names import APPLIED_HASH_ANNOTATION
from capstan_operator.desired.quantity import parse_quantity
from capstan_operator.resources.resource import Manifest

LIST_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "hostAliases": ("ip",),
    "resourceClaims": ("name",),
    "schedulingGates": ("name",),
}
"""Lists whose items have an identity, by the name of their field: others may add items, and the order is not ours."""
_PORT_KEYS: Final = ("containerPort", "port")
_QUANTITY_FIELDS: Final = frozenset({"requests", "limits", "capacity", "sizeLimit", "storage"})


def digest(document: object) -> str:
    """Give 16 hex digits that are the same for the same JSON, whatever the order of its keys."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def with_applied_hash(manifest: Manifest) -> Manifest:
    """Give the manifest with the annotation that tells what was applied; the manifest itself stays as it is."""
    metadata = manifest.get("metadata", {})
    annotations = {k: v for k, v in metadata.get("annotations", {}).items() if k != APPLIED_HASH_ANNOTATION}
    bare = {**manifest, "metadata": {key: value for key, value in metadata.items() if key != "annotations"}}
    if annotations:
        bare["metadata"]["annotations"] = annotations
    return {**bare, "metadata": {**metadata, "annotations": {**annotations, APPLIED_HASH_ANNOTATION: digest(bare)}}}


def needs_apply(desired: Manifest, live: Manifest | None) -> bool:
    """Say whether `desired` has to be written over `live`.

    True when there is no live object, when the last one that was applied differs (its hash says so), or when a field
    that is desired is not what is live. Quantities are compared by value.
    """
    return live is None or not is_subset(desired, live)


def is_subset(desired: object, live: object, *, field: str = "", quantity: bool = False) -> bool:
    """Say whether everything desired is live.

    Null and what is empty or zero are the same as absent: the API server drops most of them, and where it fills in
    a default instead, that default is live and compared. `field` is the name under which both are found, `quantity`
    says that they are quantities, or maps of them.
    """
    # NB: every reconcile asks this of every field of every object: the type of most is known without asking the ABC.
    if type(desired) is str and desired == live:
        return True
    quantity = quantity or field in _QUANTITY_FIELDS
    if _is_map(desired):
        if not desired:
            return live is None or _is_map(live)
        return _is_map(live) and _is_submap(desired, live, quantity=quantity)
    if isinstance(desired, list | tuple):
        if not desired:
            return not live
        return isinstance(live, list | tuple) and _is_sublist(desired, live, field)
    return _is_same(desired, live, quantity=quantity)


def _is_map(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return type(value) is dict or (type(value) is not str and isinstance(value, Mapping))


def _is_submap(desired: Mapping[Any, Any], live: Mapping[Any, Any], *, quantity: bool) -> bool:
    for key, value in desired.items():
        found = live.get(key)
        if type(value) is str and value == found:
            continue
        if not is_subset(value, found, field=str(key), quantity=quantity):
            return False
    return True


def _is_same(desired: object, live: object, *, quantity: bool) -> bool:
    if live is None:
        return not desired
    # NB: True == 1 in Python, and not in JSON.
    if desired == live and isinstance(desired, bool) == isinstance(live, bool):
        return True
    value = parse_quantity(desired) if quantity else None
    return value is not None and value == parse_quantity(live)


def _is_sublist(desired: Sequence[Any], live: Sequence[Any], field: str) -> bool:
    keys = _list_keys(field, desired)
    if keys is None:
        return len(desired) == len(live) and all(map(is_subset, desired, live))
    by_identity = {_identity(item, keys): item for item in live if _is_map(item)}
    return all(is_subset(item, by_identity.get(_identity(item, keys))) for item in desired)


def _identity(item: Mapping[str, Any], keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(item.get(key)) for key in keys)


def _list_keys(field: str, items: Sequence[Any]) -> tuple[str, ...] | None:
    """Give the fields that identify an item, if this list is one of maps with an identity."""
    keys = LIST_KEYS.get(field)
    if field == "ports":
        keys = next(((key,) for key in _PORT_KEYS if all(_is_map(i) and key in i for i in items)), None)
    if keys and all(_is_map(item) and all(key in item for key in keys) for item in items):
        return keys
    return None
