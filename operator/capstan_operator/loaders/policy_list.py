"""The policies, as far as they can be read.

Each namespace has an outcome of its own, as for models: what was last known of one that cannot be read stays, and of
one that was never read, or of a kind that cannot be listed at all (its CRD is not installed, a right is missing),
nobody knows anything: then what is live stays as it is. None of that keeps a model from being served.

They are few, and listed anew for each compile. Those of another class are left out here, and so nowhere seen.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from capstan_operator.api.kinds import RATE_LIMIT_POLICIES, RATELIMITPOLICY, Policy
from capstan_operator.api.ratelimitpolicy import RateLimitPolicySpec
from capstan_operator.desired.limits import judge_policy_faults
from capstan_operator.desired.policies import Policies
from capstan_operator.kube.errors import KubeError, NotFound, UnknownResource
from capstan_operator.kube.port import KubePort
from capstan_operator.loaders.namespaces import NamespaceWatch
from capstan_operator.loaders.parser import ResourceParser
from capstan_operator.resources.resource import Manifest, ObjectKey

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AllPolicies:
    """Every policy, as far as it can be read."""

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

    def as_known(self) -> Policies:
        """Give them as the compiler takes them."""
        return Policies(self.policies, self.is_unread)


NO_POLICIES: Final = AllPolicies()


class PolicyParser(ResourceParser[RateLimitPolicySpec]):
    """Parses RateLimitPolicies."""

    def __init__(self, *, history: Callable[[], int] = lambda: 0) -> None:
        super().__init__(RATELIMITPOLICY, judge=judge_policy_faults, history=history)


class PolicyList:
    """Lists RateLimitPolicies."""

    def __init__(
        self,
        kube: KubePort,
        parser: PolicyParser,
        *,
        namespaces: Sequence[str] = (),
        class_name: str = "",
        watch: NamespaceWatch | None = None,
    ) -> None:
        self._kube = kube
        self._parser = parser
        self._scopes: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._class_name = class_name
        self._watch = watch or NamespaceWatch(kube)
        self._known: dict[str | None, tuple[Policy, ...]] = {}
        self._said: dict[str | None, str] = {}

    async def all(self) -> AllPolicies:
        """Give every policy of the namespaces that the operator works in. Never raises KubeError."""
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
        return AllPolicies(policies, frozenset(errors), frozenset(errors) - self._known.keys(), missing)

    async def find(self, key: ObjectKey) -> Policy | None:
        """Give one policy; None when there is none, or it is of another class. Raises KubeError."""
        try:
            return self._parse(await self._kube.get(RATE_LIMIT_POLICIES, key.name, namespace=key.namespace))
        except NotFound:
            return None

    async def _one(self, scope: str | None) -> tuple[Policy, ...] | KubeError:
        try:
            listing = await self._kube.list(
                RATE_LIMIT_POLICIES, namespace=scope, shape=self._parse, known=self._parser.known
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
                log.warning("policies cannot be listed", extra={"namespace": scope or "", "error": text})
        for scope in self._said.keys() - said.keys():
            log.info("policies can be listed again", extra={"namespace": scope or ""})
        self._said = said
