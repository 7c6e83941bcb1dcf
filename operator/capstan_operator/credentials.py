"""Credentials of external models: the one key that each names, copied into the gateway's Secret.

Values stay as the base64 that the API server sent; they are never decoded, logged or put into an error. Only Secrets
that a model names are read, one by one, and again every minute, because Secrets are not watched; sooner while one is
missing.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from capstan_contract.names import COMPONENT_LABEL, MANAGED_BY, MANAGED_BY_LABEL
from capstan_operator.desired.diff import needs_apply, with_applied_hash
from capstan_operator.kube.errors import Forbidden, NotFound
from capstan_operator.kube.port import SECRETS, KubePort
from capstan_operator.settings import Settings
from capstan_operator.snapshot import Manifest, ModelKey
from capstan_operator.status.types import Problem

log = logging.getLogger(__name__)

Reference = tuple[str, str, str]
"""(namespace, Secret, key)."""
COMPONENT: Final = "gateway-credentials"
RECHECK_SECONDS: Final = 60.0
RECHECK_MISSING_SECONDS: Final = 10.0


class CredentialStore:
    """Keeps the gateway's Secret in step with the Secrets that models name."""

    def __init__(self, kube: KubePort, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._settings = settings
        self._clock = clock
        self._references: Mapping[str, Reference] = {}
        self._problems: Mapping[ModelKey, Problem] = {}
        self._synced: float | None = None

    @property
    def recheck_seconds(self) -> float:
        """How old the last copy may become."""
        return RECHECK_MISSING_SECONDS if self._problems else RECHECK_SECONDS

    async def sync(self, references: Mapping[str, Reference]) -> Mapping[ModelKey, Problem]:
        """Copy what `references` (file name -> where) names; give what is missing, by model.

        Does nothing while the references are the same and the last copy is not older than `recheck_seconds`.
        """
        now = self._clock()
        fresh = self._synced is not None and now - self._synced < self.recheck_seconds
        if fresh and references == self._references:
            return self._problems
        found = await self._read({(namespace, name) for namespace, name, _ in references.values()})
        data: dict[str, str] = {}
        problems: dict[ModelKey, Problem] = {}
        for file, reference in references.items():
            value, problem = _pick(reference, found)
            if value is not None:
                data[file] = value
            if problem is not None:
                problems[_model_of(file)] = problem
        await self._write(data)
        self._references, self._problems, self._synced = dict(references), problems, now
        return problems

    async def _read(self, names: set[tuple[str, str]]) -> dict[tuple[str, str], Manifest | Problem]:
        async def read(namespace: str, name: str) -> Manifest | Problem:
            try:
                return await self._kube.get(SECRETS, name, namespace=namespace)
            except NotFound:
                return Problem(
                    "SecretNotFound", f"the Secret '{name}' that `spec.external.secretRef` names is not there"
                )
            except Forbidden:
                return Problem("SecretForbidden", f"the operator may not read the Secret '{name}'")

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


def _pick(
    reference: Reference, found: Mapping[tuple[str, str], Manifest | Problem]
) -> tuple[str | None, Problem | None]:
    namespace, name, key = reference
    secret = found[namespace, name]
    if isinstance(secret, Problem):
        return None, secret
    value = (secret.get("data") or {}).get(key)
    if not value:
        message = f"the Secret '{name}' that `spec.external.secretRef` names has no key '{key}'"
        return None, Problem("SecretKeyNotFound", message)
    return str(value), None


def _model_of(file: str) -> ModelKey:
    """The model that a credential file belongs to: a namespace has no dot in it."""
    namespace, _, name = file.partition(".")
    return ModelKey(namespace, name)
