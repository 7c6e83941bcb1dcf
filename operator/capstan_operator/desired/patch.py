"""Strategic merge patch for a pod template, as in kubectl and kustomize.

Maps are merged, null deletes. A list of maps with a merge key (containers by name, volumeMounts by mountPath, ...) is
merged item by item: what the patch does not name stays, what it adds comes last. Every other list is replaced.
`$patch: delete` removes an item or a map, `$patch: replace` takes it (or, alone in a list, the list) as it is, and
`$retainKeys` keeps only the fields that it names, which is how a volume changes its source.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

MERGE_KEYS: Final[Mapping[str, str]] = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "schedulingGates": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
"""patchMergeKey of the lists in a PodSpec. The rest (tolerations, args, command, ...) have none and are atomic."""
DIRECTIVE: Final = "$patch"
RETAIN: Final = "$retainKeys"
_STRATEGIES: Final = ("delete", "replace", "merge")


class PatchError(Exception):
    """A patch that has no meaning."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message


def strategic_merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Give `base` with `patch` merged in; neither is changed. The patch must have passed `check_patch`."""
    strategy = patch.get(DIRECTIVE)
    content = {key: value for key, value in patch.items() if key not in (DIRECTIVE, RETAIN)}
    if strategy == "delete":
        return {}
    merged: dict[str, Any] = {} if strategy == "replace" else dict(base)
    if RETAIN in patch:
        merged = {key: value for key, value in merged.items() if key in patch[RETAIN]}
    for key, value in content.items():
        if value is None or (isinstance(value, Mapping) and value.get(DIRECTIVE) == "delete"):
            merged.pop(key, None)
        else:
            merged[key] = _merge_value(key, merged.get(key), value)
    return merged


def _merge_value(key: str, base: Any, patch: Any) -> Any:
    if isinstance(patch, Mapping):
        return strategic_merge(base if isinstance(base, Mapping) else {}, patch)
    if isinstance(patch, list | tuple):
        if _is_merged(key, patch):
            return _merge_lists(base if isinstance(base, list | tuple) else (), patch, MERGE_KEYS[key])
        return [_merge_value("", None, item) for item in patch]
    return patch


def _is_merged(key: str, items: Sequence[Any]) -> bool:
    return key in MERGE_KEYS and all(isinstance(item, Mapping) for item in items)


def _merge_lists(base: Sequence[Any], patch: Sequence[Any], merge_key: str) -> list[Any]:
    if any(_replaces_list(item, merge_key) for item in patch):
        base, patch = (), [item for item in patch if not _replaces_list(item, merge_key)]
    merged = {item.get(merge_key): item for item in base}
    for item in patch:
        name = item[merge_key]
        if item.get(DIRECTIVE) == "delete":
            merged.pop(name, None)
        else:
            merged[name] = strategic_merge(merged.get(name, {}), item)
    return list(merged.values())


def _replaces_list(item: Mapping[str, Any], merge_key: str) -> bool:
    return item.get(DIRECTIVE) == "replace" and merge_key not in item


def check_patch(patch: object, *, path: str) -> None:
    """Raise PatchError, with the field's path, for what `strategic_merge` could not carry out."""
    if not isinstance(patch, Mapping):
        raise PatchError(path, "must be a map")
    for key, value in patch.items():
        where = f"{path}.{key}"
        if not isinstance(key, str):
            raise PatchError(where, "is not the name of a field: put it in quotes")
        if key == DIRECTIVE:
            _check_strategy(value, where)
        elif key == RETAIN:
            if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
                raise PatchError(where, "must be a list of field names")
        elif key.startswith("$"):
            raise PatchError(where, f"is not a directive that can be used here; allowed are {DIRECTIVE} and {RETAIN}")
        elif isinstance(value, Mapping):
            check_patch(value, path=where)
        elif isinstance(value, list | tuple):
            _check_list(value, where, MERGE_KEYS.get(key))
        else:
            _check_scalar(value, where)


def _check_scalar(value: object, where: str) -> None:
    if value is not None and not isinstance(value, str | bool | int | float):
        raise PatchError(where, "must be a string, a number, a boolean, a list or a map")
    if isinstance(value, float) and not math.isfinite(value):
        raise PatchError(where, "must be a finite number")


def _check_strategy(value: object, where: str) -> None:
    if value not in _STRATEGIES:
        raise PatchError(where, f"must be one of {', '.join(_STRATEGIES)}")


def _check_list(items: Sequence[Any], path: str, merge_key: str | None) -> None:
    for index, item in enumerate(items):
        where = f"{path}[{index}]"
        if isinstance(item, Mapping):
            check_patch(item, path=where)
            if merge_key and not _replaces_list(item, merge_key) and not _is_key(item.get(merge_key)):
                raise PatchError(f"{where}.{merge_key}", "is required: it says which item is meant")
        elif merge_key:
            raise PatchError(where, "must be a map")
        elif isinstance(item, list | tuple):
            _check_list(item, where, None)
        else:
            _check_scalar(item, where)


def _is_key(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)
