"""The key by which gateways hash the names of users: a Secret that is made once, and never changed.

A chart could not make it: what it writes is the same each time that it is rendered, and a random value would be another
one at every sync of Argo CD.
"""

import asyncio
import base64
import binascii
import logging
import random
import secrets
from collections.abc import Callable
from typing import Final

from capstan_contract.names import COMPONENT_LABEL, MANAGED_BY, MANAGED_BY_LABEL, PRIVACY_KEY
from capstan_operator.backoff import Backoff
from capstan_operator.kube.errors import KubeError, NotFound
from capstan_operator.kube.port import KubePort
from capstan_operator.names import PRIVACY_MANAGER
from capstan_operator.resources.api_resource import SECRETS
from capstan_operator.resources.resource import Manifest

log = logging.getLogger(__name__)

COMPONENT: Final = "gateway-privacy"
KEY_BYTES: Final = 32
LEAST_BYTES: Final = 16
"""Of a key that somebody else has put there: gateways take no shorter one."""
CHECK_SECONDS: Final = 600.0
"""How often the Secret is looked for, should somebody have deleted it."""
BACKOFF: Final = Backoff(first=1.0, factor=2.0, most=300.0)


class PrivacyKey:
    """Sees to it that the Secret is there: `run` until cancelled."""

    def __init__(
        self,
        kube: KubePort,
        *,
        name: str,
        namespace: str,
        make: Callable[[], bytes] = lambda: secrets.token_hex(KEY_BYTES).encode(),
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._kube = kube
        self._name = name
        self._namespace = namespace
        self._make = make
        self._random = rng

    async def run(self) -> None:
        """Look for it now and then; returns at once where nobody wants one."""
        if not self._name:
            return
        failures = 0
        while True:
            try:
                await self.ensure()
                failures = 0
            except KubeError as error:
                # NB: a Role of a former release does not name it; gateways hash with keys of their own until then.
                failures += 1
                log.warning("could not see to the key of users' hashes", extra={"error": str(error)})
            await asyncio.sleep(BACKOFF.delay(failures, random=self._random) if failures else CHECK_SECONDS)

    async def ensure(self) -> None:
        """Make the Secret, or the key in it, unless it is there. Raises KubeError."""
        try:
            found = await self._kube.get(SECRETS, self._name, namespace=self._namespace)
        except NotFound:
            found = {}
        if has_key(found):
            return
        manifest = build_secret(self._name, self._namespace, base64.b64encode(self._make()).decode())
        # Without force: a key that somebody sets meanwhile stays.
        await self._kube.apply(manifest, manager=PRIVACY_MANAGER, force=False)
        log.info("made the key of users' hashes", extra={"object": self._name})


def has_key(secret: Manifest) -> bool:
    """Whether the Secret has a key that gateways can use."""
    value = (secret.get("data") or {}).get(PRIVACY_KEY)
    try:
        return len(base64.b64decode(value or "", validate=True).strip()) >= LEAST_BYTES
    except (binascii.Error, TypeError, ValueError):
        return False


def build_secret(name: str, namespace: str, value: str) -> Manifest:
    """Build the Secret; `value` is the base64 of what is in the file that gateways read."""
    return {
        "apiVersion": SECRETS.api_version,
        "kind": SECRETS.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY, COMPONENT_LABEL: COMPONENT},
        },
        "type": "Opaque",
        "data": {PRIVACY_KEY: value},
    }
