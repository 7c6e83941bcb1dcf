"""The policies, as far as they can be read.

Each kind and each namespace has an outcome of its own, as for models: what was last known of one that cannot be read
stays, and of one that was never read, or of a kind that cannot be listed at all (its CRD is not installed, a right is
missing), nobody knows anything: then what is live stays as it is. None of that keeps a model from being served, or a
policy of another kind from being in force.

They are few, and listed anew for each compile. Those of another class are left out here, and so nowhere seen.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from capstan_operator.api.kinds import POLICY_KINDS, Kind, Policy
from capstan_operator.api.policies import PolicySpec
from capstan_operator.desired.policies import Policies
from capstan_operator.desired.policy_kinds import judge_policy_faults
from capstan_operator.kube.errors import KubeError, NotFound, UnknownResource
from capstan_operator.kube.port import KubePort
from capstan_operator.loaders.namespaces import NamespaceWatch
from capstan_operator.loaders.parser import ResourceParser
from capstan_operator.resources.resource import Manifest, PolicyKey

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KindPolicies:
    """Every policy of one kind, as far as it can be read."""

    policies: tuple[Policy, ...] = ()
    unreadable: frozenset[str | None] = frozenset()
    """Namespaces that could not be read this time; None: the cluster."""
    unknown: frozenset[str | None] = frozenset()
    """Those of them that this process has never read."""
    is_kind_missing: bool = False
    """Whether the API server does not know the kind: there are no policies that anybody could have written."""

    def is_unread(self, namespace: str) -> bool:
        """Whether nobody knows the policies of a namespace."""
        return None in self.unknown or namespace in self.unknown

    def is_read(self, namespace: str, watched: Sequence[str]) -> bool:
        """Whether this listing has looked for the policies of a namespace."""
        return (not watched or namespace in watched) and not self.unreadable & {None, namespace}


@dataclass(frozen=True)
class AllPolicies:
    """Every policy, as far as it can be read."""

    kinds: Mapping[str, KindPolicies] = field(default_factory=lambda: MappingProxyType({}))
    """By name of the kind."""

    @property
    def policies(self) -> tuple[Policy, ...]:
        """Those of all kinds."""
        return tuple(policy for found in self.kinds.values() for policy in found.policies)

    @property
    def is_unreadable(self) -> bool:
        """Whether there are namespaces that could not be read, of a kind that there is."""
        return any(found.unreadable and not found.is_kind_missing for found in self.kinds.values())

    @property
    def is_kind_missing(self) -> bool:
        """Whether the API server does not know one of the kinds."""
        return any(found.is_kind_missing for found in self.kinds.values())

    @property
    def is_unknown(self) -> bool:
        """Whether this process has never read some of a kind that there is."""
        return any(found.unknown and not found.is_kind_missing for found in self.kinds.values())

    def is_unread(self, key: PolicyKey) -> bool:
        """Whether nobody knows the policies of a kind and a namespace."""
        found = self.kinds.get(key.kind)
        return found is not None and found.is_unread(key.namespace)

    def is_read(self, key: PolicyKey, watched: Sequence[str]) -> bool:
        """Whether this listing has looked for the policies of a kind and a namespace."""
        found = self.kinds.get(key.kind)
        return found is not None and found.is_read(key.namespace, watched)

    def as_known(self) -> Policies:
        """Give them as the compiler takes them."""
        return Policies(self.policies, self.is_unread)


NO_POLICIES: Final = AllPolicies()


class PolicyList:
    """Lists the policies of all kinds."""

    def __init__(
        self,
        kube: KubePort,
        *,
        namespaces: Sequence[str] = (),
        class_name: str = "",
        watch: NamespaceWatch | None = None,
        history: Callable[[], int] = lambda: 0,
        kinds: Sequence[Kind[Any]] = POLICY_KINDS,
    ) -> None:
        """`history`: see ResourceParser."""
        watch = watch or NamespaceWatch(kube)
        self._lists = {
            kind.name: _KindList(kube, kind, namespaces=namespaces, class_name=class_name, watch=watch, history=history)
            for kind in kinds
        }

    async def all(self) -> AllPolicies:
        """Give every policy of the namespaces that the operator works in. Never raises KubeError."""
        found = await asyncio.gather(*(one.all() for one in self._lists.values()))
        return AllPolicies(dict(zip(self._lists, found, strict=True)))

    async def find(self, key: PolicyKey) -> Policy | None:
        """Give one policy; None when there is none, or it is of another class. Raises KubeError."""
        return await self._lists[key.kind].find(key) if key.kind in self._lists else None

    def told(self, key: PolicyKey, field: str) -> Mapping[str, Any] | None:
        """Give a field of the status of a policy, as it was when it was read last."""
        found = self._lists[key.kind].known(key) if key.kind in self._lists else None
        return None if found is None else found.status.get(field)


class _KindList:
    """Lists the policies of one kind."""

    def __init__(
        self,
        kube: KubePort,
        kind: Kind[Any],
        *,
        namespaces: Sequence[str],
        class_name: str,
        watch: NamespaceWatch,
        history: Callable[[], int],
    ) -> None:
        self._kube = kube
        self._kind = kind
        self._resource = kind.api_resource
        self._parser: ResourceParser[PolicySpec] = ResourceParser(kind, judge=judge_policy_faults, history=history)
        self._scopes: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._class_name = class_name
        self._watch = watch
        self._known: dict[str | None, tuple[Policy, ...]] = {}
        self._said: dict[str | None, str] = {}

    def known(self, key: PolicyKey) -> Policy | None:
        """Give one as it was when it was listed last."""
        return next((one for found in self._known.values() for one in found if one.key == key.object), None)

    async def all(self) -> KindPolicies:
        """Give every one. Never raises KubeError."""
        found = await asyncio.gather(*(self._one(scope) for scope in self._scopes))
        by_scope = dict(zip(self._scopes, found, strict=True))
        errors = {scope: one for scope, one in by_scope.items() if isinstance(one, KubeError)}
        self._known |= {scope: one for scope, one in by_scope.items() if not isinstance(one, KubeError)}
        for scope in errors:
            if scope is not None and self._watch.is_gone(scope):
                self._known[scope] = ()
        self._tell(errors)
        policies = tuple(policy for scope in self._scopes for policy in self._known.get(scope, ()))
        self._parser.keep_only(policy.uid for policy in policies)
        missing = any(isinstance(error, UnknownResource) for error in errors.values())
        return KindPolicies(policies, frozenset(errors), frozenset(errors) - self._known.keys(), missing)

    async def find(self, key: PolicyKey) -> Policy | None:
        """Give one; see `PolicyList.find`."""
        try:
            return self._parse(await self._kube.get(self._resource, key.name, namespace=key.namespace))
        except NotFound:
            return None

    async def _one(self, scope: str | None) -> tuple[Policy, ...] | KubeError:
        try:
            listing = await self._kube.list(
                self._resource, namespace=scope, shape=self._parse, known=self._parser.known
            )
        except KubeError as error:
            return error
        return tuple(policy for policy in listing.items if policy is not None)

    def _parse(self, manifest: Manifest) -> Policy | None:
        if ((manifest.get("spec") or {}).get("className") or "") != self._class_name:
            return None
        return self._parser.parse(manifest)

    def _tell(self, errors: Mapping[str | None, KubeError]) -> None:
        """Say in the log what cannot be read, once for as long as it is so."""
        said = {scope: str(error) for scope, error in errors.items()}
        for scope, text in said.items():
            if self._said.get(scope) != text:
                extra = {"kind": self._kind.name, "namespace": scope or "", "error": text}
                log.warning("policies cannot be listed", extra=extra)
        for scope in self._said.keys() - said.keys():
            log.info("policies can be listed again", extra={"kind": self._kind.name, "namespace": scope or ""})
        self._said = said
