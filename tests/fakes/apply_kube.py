"""An API server in memory that does server-side apply, behind the operator's port, for rules about order and ownership.

    kube = ApplyKube()
    kube.put(manifest, manager="kubectl")          somebody else's object
    kube.answer("apply", Unavailable("no answer")) the next apply fails so; None lets one pass
    kube.calls                                     what was asked: ("apply", "Lease", "capstan-operator"), ...

It keeps what each field manager has applied and shows the merge of it, as server-side apply does: a field that its
manager no longer applies goes, one that another manager has set otherwise is a conflict unless forced, a uid or a
resourceVersion in the manifest is a precondition. Lists are leaves here. It has no schema, no
defaults, no garbage collector and no watch: what needs these is tested against a real API server.
"""

import copy
import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

from capstan_operator.kube.errors import Conflict, KubeError, NotFound
from capstan_operator.kube.port import Listing
from capstan_operator.kube.versions import Versions
from capstan_operator.names import FIELD_MANAGER, STATUS_MANAGER
from capstan_operator.resources.api_resource import ApiResource
from capstan_operator.resources.resource import Manifest

Place = tuple[str, str, str]
"""(kind, namespace, name)."""
Path = tuple[str, ...]
_UNNUMBERED = ("ConfigMap", "Secret")
"""Kinds without a generation."""
_SERVER_SIDE = (("metadata", "uid"), ("metadata", "resourceVersion"), ("metadata", "generation"))


class _Stored:
    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.generation = 0
        self.version = 0
        self.applied: dict[str, dict[Path, Any]] = {}

    def fields(self) -> dict[Path, Any]:
        """Merge what the managers have applied; each field has one value, whoever else owns it too."""
        return {path: value for fields in self.applied.values() for path, value in fields.items()}

    def manifest(self) -> Manifest:
        found: Manifest = {}
        for path, value in self.fields().items():
            inner = found
            for step in path[:-1]:
                inner = inner.setdefault(step, {})
            inner[path[-1]] = copy.deepcopy(value)
        managers = [{"manager": name, "operation": "Apply"} for name in self.applied]
        found["metadata"].update(
            uid=self.uid,
            resourceVersion=str(self.version),
            managedFields=managers,
        )
        if found["kind"] not in _UNNUMBERED:
            found["metadata"]["generation"] = self.generation
        return found


class ApplyKube:
    """Implements `KubePort`."""

    def __init__(self) -> None:
        self.versions = Versions()
        self.calls: list[tuple[str, str, str]] = []
        self.before: Callable[[str, str, str], None] = lambda *_: None
        """Called before each call is carried out: what happens in the world at that moment."""
        self.admit: Callable[[Manifest], Manifest] = lambda manifest: manifest
        """What an admission webhook makes of each apply, or an API server that drops what it does not know."""
        self._objects: dict[Place, _Stored] = {}
        self._answers: defaultdict[str, deque[KubeError | None]] = defaultdict(deque)
        self._numbers = itertools.count(1)

    def answer(self, verb: str, *errors: KubeError | None) -> None:
        """Let the next calls of a verb fail so, one after the other; None: let it through."""
        self._answers[verb].extend(errors)

    def put(self, manifest: Manifest, *, manager: str = "kubectl") -> Manifest:
        """Have an object there, from somebody else."""
        return self._apply(manifest, manager, force=True)

    def find(self, kind: str, name: str, namespace: str = "ns") -> Manifest | None:
        """Give an object as it is, or None."""
        stored = self._objects.get((kind, namespace, name))
        return stored.manifest() if stored is not None else None

    def remove(self, kind: str, name: str, namespace: str = "ns") -> None:
        """Let an object be gone."""
        del self._objects[kind, namespace, name]

    async def list(
        self,
        kind: ApiResource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        shape: Callable[[Manifest], Any] | None = None,
        known: Callable[[str, str], Any] | None = None,
    ) -> Listing:
        """Everything of a kind."""
        name = (field_selector or "").removeprefix("metadata.name=")
        self._begin("list", kind.kind, name or "*")
        labels = dict(pair.split("=", 1) for pair in (label_selector or "").split(",") if pair)
        items = [
            stored.manifest()
            for (of_kind, in_namespace, called), stored in sorted(self._objects.items())
            if of_kind == kind.kind and namespace in (None, in_namespace) and name in ("", called)
        ]
        items = [item for item in items if labels.items() <= (item["metadata"].get("labels") or {}).items()]
        if metadata_only:
            items = [{key: item[key] for key in ("apiVersion", "kind", "metadata")} for item in items]
        return Listing([shape(item) for item in items] if shape else items, str(next(self._numbers)))

    async def get(self, kind: ApiResource, name: str, *, namespace: str | None = None) -> Manifest:
        """One object."""
        self._begin("get", kind.kind, name)
        assert not kind.namespaced or namespace, f"a {kind.kind} has a namespace"
        found = self.find(kind.kind, name, namespace or "")
        if found is None:
            raise NotFound(f"{kind.kind} '{name}' not found", status=404)
        return found

    async def apply(self, manifest: Manifest, *, manager: str = FIELD_MANAGER, force: bool = True) -> Manifest:
        """Server-side apply."""
        self._begin("apply", manifest["kind"], manifest["metadata"]["name"])
        return self._apply(self.admit(manifest), manager, force)

    async def apply_status(self, manifest: Manifest, *, manager: str = STATUS_MANAGER) -> Manifest:
        """The same on the status."""
        self._begin("apply_status", manifest["kind"], manifest["metadata"]["name"])
        if _place(manifest) not in self._objects:
            raise NotFound(f"{manifest['kind']} not found", status=404)
        return self._apply(manifest, manager, force=True)

    async def delete(
        self, kind: ApiResource, name: str, *, namespace: str | None = None, uid: str | None = None
    ) -> None:
        """Delete, only if it still has this uid."""
        self._begin("delete", kind.kind, name)
        stored = self._objects.get((kind.kind, namespace or "", name))
        if stored is None:
            return
        if uid is not None and stored.uid != uid:
            raise Conflict("the uid does not match", status=409)
        self.remove(kind.kind, name, namespace or "")

    def _begin(self, verb: str, kind: str, name: str) -> None:
        assert name, f"{verb} of a {kind} without a name"
        self.calls.append((verb, kind, name))
        self.before(verb, kind, name)
        if self._answers[verb] and (error := self._answers[verb].popleft()) is not None:
            raise error

    def _apply(self, manifest: Manifest, manager: str, force: bool) -> Manifest:
        assert manifest["apiVersion"]
        assert manager
        stored = self._objects.get(_place(manifest))
        metadata = manifest["metadata"]
        if stored is None:
            if "uid" in metadata or "resourceVersion" in metadata:
                raise Conflict("the object is gone", status=409)
            stored = self._objects[_place(manifest)] = _Stored(f"uid-{next(self._numbers)}")
        if metadata.get("uid", stored.uid) != stored.uid:
            raise Conflict("the uid does not match", status=409)
        if metadata.get("resourceVersion", str(stored.version)) != str(stored.version):
            raise Conflict("the object has been modified", status=409)
        fields = {path: value for path, value in _leaves(manifest) if path not in _SERVER_SIDE}
        others = [theirs for name, theirs in stored.applied.items() if name != manager]
        for theirs in others:
            clash = [path for path, value in fields.items() if path in theirs and theirs[path] != value]
            if clash and not force:
                raise Conflict(f"another manager has set {clash[0]}", status=409)
            for path in clash:
                del theirs[path]
        before = stored.fields()
        stored.applied[manager] = fields
        after = stored.fields()
        if _spec(before) != _spec(after):
            stored.generation += 1
        if before != after:
            stored.version = next(self._numbers)
        return stored.manifest()


def _place(manifest: Manifest) -> Place:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace") or "", metadata["name"]


def _spec(fields: dict[Path, Any]) -> dict[Path, Any]:
    return {path: value for path, value in fields.items() if path[0] not in ("metadata", "status")}


def _leaves(value: Manifest, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _leaves(inner, (*path, key))
        else:
            yield (*path, key), copy.deepcopy(inner)
