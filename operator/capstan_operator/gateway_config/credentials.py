"""Credentials of external models: the keys that they name, copied into the gateway's Secret.

Values stay as the base64 that the API server sent; they are never decoded, logged or put into an error. Only Secrets
that a model names are read, one by one, and again every minute, because Secrets are not watched; sooner while one is
missing.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from capstan_contract.names import COMPONENT_LABEL, MANAGED_BY, MANAGED_BY_LABEL
from capstan_operator.desired.diff import needs_apply, with_applied_hash
from capstan_operator.desired.naming import owner_of_credential
from capstan_operator.kube.errors import Forbidden, NotFound
from capstan_operator.kube.port import KubePort
from capstan_operator.resources.api_resource import SECRETS
from capstan_operator.resources.resource import Manifest, ObjectKey
from capstan_operator.settings import Settings
from capstan_operator.status.types import Problem

log = logging.getLogger(__name__)

Reference = tuple[str, str, str]
"""(namespace, Secret, key)."""
COMPONENT: Final = "gateway-credentials"
RECHECK_SECONDS: Final = 60.0
RECHECK_MISSING_SECONDS: Final = 10.0


@dataclass(frozen=True)
class _Unread:
    """A Secret that could not be read."""

    reason: str
    predicate: str


class CredentialStore:
    """Keeps the gateway's Secret in step with the Secrets that models name."""

    def __init__(self, kube: KubePort, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._settings = settings
        self._clock = clock
        self._references: Mapping[str, Reference] = {}
        self._problems: Mapping[ObjectKey, Problem] = {}
        self._synced: float | None = None

    @property
    def recheck_seconds(self) -> float:
        """How old the last copy may become."""
        return RECHECK_MISSING_SECONDS if self._problems else RECHECK_SECONDS

    async def sync(self, references: Mapping[str, Reference]) -> Mapping[ObjectKey, Problem]:
        """Copy what `references` (file name -> where) names; give what is missing, by model.

        Does nothing while the references are the same and the last copy is not older than `recheck_seconds`.
        """
        now = self._clock()
        fresh = self._synced is not None and now - self._synced < self.recheck_seconds
        if fresh and references == self._references:
            return self._problems
        found = await self._read({(namespace, name) for namespace, name, _ in references.values()})
        picked = {file: _pick(file, reference, found) for file, reference in references.items()}
        await self._write({file: value for file, value in picked.items() if isinstance(value, str)})
        self._references, self._problems, self._synced = dict(references), _by_model(picked), now
        return self._problems

    async def _read(self, names: set[tuple[str, str]]) -> dict[tuple[str, str], Manifest | _Unread]:
        async def read(namespace: str, name: str) -> Manifest | _Unread:
            try:
                return await self._kube.get(SECRETS, name, namespace=namespace)
            except NotFound:
                return _Unread("SecretNotFound", "is not there")
            except Forbidden:
                return _Unread("SecretForbidden", "may not be read by the operator")

        ordered = sorted(names)
        return dict(zip(ordered, await asyncio.gather(*(read(*name) for name in ordered)), strict=True))

    async def _write(self, data: Mapping[str, str]) -> None:
        namespace, name = self._settings.build.install_namespace, self._settings.gateway_credentials_name
        try:
            live: Manifest | None = await self._kube.get(SECRETS, name, namespace=namespace)
        except NotFound:
            live = None
        if live is None and not data:
            return
        manifest = _build_secret(name, namespace, data)
        if needs_apply(manifest, live):
            await self._kube.apply(manifest)
            log.info("wrote gateway credentials", extra={"object": name, "keys": len(data)})


def _build_secret(name: str, namespace: str, data: Mapping[str, str]) -> Manifest:
    return with_applied_hash(
        {
            "apiVersion": SECRETS.api_version,
            "kind": SECRETS.kind,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {MANAGED_BY_LABEL: MANAGED_BY, COMPONENT_LABEL: COMPONENT},
            },
            "type": "Opaque",
            "data": dict(sorted(data.items())),
        }
    )


def _pick(file: str, reference: Reference, found: Mapping[tuple[str, str], Manifest | _Unread]) -> str | Problem:
    """Give the value for a credential file, or why there is none."""
    namespace, name, key = reference
    endpoint = owner_of_credential(file)[1]
    where = f"spec.external.endpoints[name={endpoint}]" if endpoint else "spec.external"
    subject = f"the Secret '{name}' that `{where}.secretRef` names"
    secret = found[namespace, name]
    if isinstance(secret, _Unread):
        return Problem(secret.reason, f"{subject} {secret.predicate}")
    value = (secret.get("data") or {}).get(key)
    return str(value) if value else Problem("SecretKeyNotFound", f"{subject} has no key '{key}'")


def _by_model(picked: Mapping[str, str | Problem]) -> dict[ObjectKey, Problem]:
    """Give one problem for each model with a credential that cannot be had."""
    problems: dict[ObjectKey, list[Problem]] = {}
    keyed = set()
    for file, result in sorted(picked.items()):
        owner = owner_of_credential(file)[0]
        if isinstance(result, Problem):
            problems.setdefault(owner, []).append(result)
        else:
            keyed.add(owner)
    return {
        owner: Problem(found[0].reason, "; ".join(one.message for one in found), partial=owner in keyed)
        for owner, found in problems.items()
    }
