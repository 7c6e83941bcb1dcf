"""Secrets of the gateway that are made once, with a random value, and never changed: the key by which it hashes the
names of users, the credential of its admin pages, and the password of its Redis.

A chart could not make them: what it writes is the same each time that it is rendered, and a random value would be
another one at every sync of Argo CD.
"""

import asyncio
import base64
import binascii
import dataclasses
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from capstan_contract.admin_keys import key_words
from capstan_contract.names import (
    ADMIN_KEY_FIELD,
    API_KEY_FIELD,
    API_KEY_LABEL,
    COMPONENT_LABEL,
    KEY_MODELS_ANNOTATION,
    KEY_TENANT_ANNOTATION,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    PRIVACY_KEY,
)
from capstan_operator.backoff import Backoff
from capstan_operator.kube.errors import KubeError, NotFound
from capstan_operator.kube.port import KubePort
from capstan_operator.names import ADMIN_MANAGER, PRIVACY_MANAGER, REDIS_MANAGER, SCORER_MANAGER
from capstan_operator.resources.api_resource import SECRETS
from capstan_operator.resources.resource import Manifest

log = logging.getLogger(__name__)

KEY_BYTES: Final = 32
LEAST_BYTES: Final = 16
"""Of a key that somebody else has put there: gateways take no shorter one."""
CHECK_SECONDS: Final = 600.0
"""How often the Secret is looked for, should somebody have deleted it."""
AT_MOST_EVERY: Final = 5.0
"""Seconds between two looks that somebody asks for."""
BACKOFF: Final = Backoff(first=1.0, factor=2.0, most=300.0)


@dataclass(frozen=True)
class Purpose:
    """What a Secret is for."""

    field: str
    component: str
    manager: str
    what: str
    """In words."""
    is_sent: bool = False
    """Whether it is sent in a header, one of its lines at a time; else all of it is a key, of any bytes."""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    annotations: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Of the Secret, beside those that all have."""


PRIVACY: Final = Purpose(PRIVACY_KEY, "gateway-privacy", PRIVACY_MANAGER, "the key of users' hashes")
ADMIN: Final = Purpose(
    ADMIN_KEY_FIELD, "gateway-admin", ADMIN_MANAGER, "the credential of the gateway's admin pages", is_sent=True
)
REDIS: Final = Purpose("password", "redis", REDIS_MANAGER, "the password of Redis")
SCORER_TENANT: Final = "capstan-scorer"
"""Whose the scorer's requests are, to limits and in counts."""


def scorer_purpose(judges: str) -> Purpose:
    """Give the purpose of the API key by which the scorer of sampled answers asks judges: it may use these models."""
    annotations = {KEY_TENANT_ANNOTATION: SCORER_TENANT, **({KEY_MODELS_ANNOTATION: judges} if judges else {})}
    return Purpose(
        API_KEY_FIELD, "scorer", SCORER_MANAGER, "the API key of the scorer", is_sent=True,
        labels={API_KEY_LABEL: "true"}, annotations=annotations,
    )  # fmt: skip


class MadeSecret:
    """Sees to it that the Secret is there: `run` until cancelled. Who only wants to know what is in it has `follow`."""

    def __init__(
        self,
        kube: KubePort,
        purpose: Purpose,
        *,
        name: str,
        namespace: str,
        make: Callable[[], bytes] = lambda: secrets.token_hex(KEY_BYTES).encode(),
        rng: Callable[[], float] = random.random,
        tell: Callable[[Literal["Normal", "Warning"], str, str], None] = lambda *_: None,
    ) -> None:
        """`tell` gets an Event of a Secret whose value nobody can use: a gateway asks for it, and nobody has it."""
        self._kube = kube
        self._tell = tell
        self._told = False
        self._purpose = purpose
        self._doubted = asyncio.Event()
        self._keys: tuple[str, ...] = ()
        self._is_run = False
        self._name = name
        self._namespace = namespace
        self._make = make
        self._random = rng

    @property
    def keys(self) -> tuple[str, ...]:
        """The values that are known, each a line of the Secret; behind them the one before, which gateways may have
        still. None before the first look."""
        return self._keys

    def doubt(self) -> None:
        """Have the Secret looked at soon: somebody has refused what was in it."""
        self._doubted.set()

    async def run(self) -> None:
        """Look for it now and then, until cancelled; where nobody wants one there is nothing to do."""
        self._is_run = bool(self._name)
        await self._look_on(self.ensure, while_=lambda: True)

    async def follow(self) -> None:
        """Read it now and then, until cancelled, and never make it; once `run` has begun, that reads it as well."""
        await self._look_on(self.read, while_=lambda: not self._is_run)
        await asyncio.Event().wait()

    async def _look_on(self, look: Callable[[], Awaitable[None]], *, while_: Callable[[], bool]) -> None:
        if not self._name:
            await asyncio.Event().wait()
        failures = 0
        while while_():
            try:
                await look()
                failures = 0
            except KubeError as error:
                # NB: a Role of a former release does not name it; gateways hash with keys of their own until then.
                failures += 1
                log.warning(f"could not see to {self._purpose.what}", extra={"error": str(error)})
            await self._rest(BACKOFF.delay(failures, random=self._random) if failures else CHECK_SECONDS)

    async def _rest(self, seconds: float) -> None:
        """Wait, unless somebody has doubts: then for a moment only."""
        soon = min(AT_MOST_EVERY, seconds)
        await asyncio.sleep(soon)
        try:
            async with asyncio.timeout(seconds - soon):
                await self._doubted.wait()
        except TimeoutError:
            pass  # it is time to look
        self._doubted.clear()

    async def read(self) -> None:
        """Take up what is in the Secret, where there is one. Raises KubeError."""
        self._know(await self._found())

    async def ensure(self) -> None:
        """Make the Secret, or the key in it, unless it is there. Raises KubeError."""
        found = await self._found()
        if not has_key(found, self._purpose):
            if _value(found, self._purpose.field):
                text = f"{self._purpose.what} that is in the Secret cannot be used: it is too short, or not printable"
                log.warning(text, extra={"object": self._name})
                if not self._told:
                    self._tell("Warning", "SecretUnusable", f"Secret '{self._name}': {text}")
                self._told = True
            found = await self._written()
        self._told = False
        self._know(found)

    async def _found(self) -> Manifest:
        try:
            return await self._kube.get(SECRETS, self._name, namespace=self._namespace)
        except NotFound:
            return {}

    def _know(self, found: Manifest) -> None:
        lines = lines_of(found, self._purpose.field)
        self._keys = (*lines, *(key for key in self._keys[:1] if key not in lines))

    async def _written(self) -> Manifest:
        value = base64.b64encode(self._make()).decode()
        manifest = build_secret(self._purpose, self._name, self._namespace, value)
        # Without force: a key that somebody sets meanwhile stays.
        written = await self._kube.apply(manifest, manager=self._purpose.manager, force=False)
        log.info(f"made {self._purpose.what}", extra={"object": self._name})
        return written


def _value(secret: Manifest, field: str) -> bytes:
    value = (secret.get("data") or {}).get(field)
    try:
        return base64.b64decode(value or "", validate=True).strip()
    except (binascii.Error, TypeError, ValueError):
        return b""


def has_key(secret: Manifest, purpose: Purpose) -> bool:
    """Whether the Secret has a key that gateways can use."""
    if purpose.is_sent:
        return bool(lines_of(secret, purpose.field))
    return len(_value(secret, purpose.field)) >= LEAST_BYTES


def lines_of(secret: Manifest, field: str) -> tuple[str, ...]:
    """Give the lines and words of a Secret that gateways take, and that can be sent in a header: each is a key."""
    return tuple(word.decode() for word in key_words(_value(secret, field)))


def build_secret(purpose: Purpose, name: str, namespace: str, value: str) -> Manifest:
    """Build the Secret; `value` is the base64 of what is in the file that gateways read."""
    return {
        "apiVersion": SECRETS.api_version,
        "kind": SECRETS.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY, COMPONENT_LABEL: purpose.component, **purpose.labels},
            **({"annotations": dict(purpose.annotations)} if purpose.annotations else {}),
        },
        "type": "Opaque",
        "data": {purpose.field: value},
    }
