"""Which API keys the gateway's config has: those of the Secrets, by a salt that is made once and kept in the config."""

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final

from capstan_contract.config import GatewayConfig
from capstan_contract.keys import SALT_BYTES
from capstan_operator.desired.api_keys import Complaint, KeySecret
from capstan_operator.errors import Retryable
from capstan_operator.loaders.api_keys import ApiKeys
from capstan_operator.metrics import Metrics

log = logging.getLogger(__name__)

MOST_TOLD: Final = 200
"""Secrets of which something is told in one round: more are in the metric."""

TellOfSecret = Callable[[KeySecret, Complaint], None]
"""Writes an Event about a Secret."""


class GatewayKeys:
    """Puts the keys into a config. `read` is called by one at a time; the rest does no I/O."""

    def __init__(
        self,
        keys: ApiKeys,
        *,
        metrics: Metrics,
        tell: TellOfSecret = lambda *_: None,
        make_salt: Callable[[], str] = lambda: secrets.token_hex(SALT_BYTES),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._metrics = metrics
        self._tell = tell
        self._make_salt = make_salt
        self._clock = clock
        self._salt = ""
        self._told: Mapping[str, Complaint] = {}

    @property
    def has_news(self) -> bool:
        """Whether there is something to be read."""
        return self._keys.has_news

    async def read(self, live: GatewayConfig | None) -> None:
        """Bring what is known of the Secrets up to date; `live` is asked for the salt, once, and for the keys
        that a first list should have. Raises KubeError or Retryable."""
        self._salt = self._salt or (live.keySalt if live else "") or self._make_salt()
        await self._keys.read(self._salt, live=[key.id for key in live.keys] if live else ())
        self._tell_complaints()

    def _tell_complaints(self) -> None:
        """Say of each Secret what is wrong with it, once for as long as it is so."""
        compiled = self._keys.compile(now=self._clock())
        if compiled is None:
            return
        before, self._told = self._told, compiled.complaints
        self._metrics.api_keys.labels("valid").set(len(compiled.entries))
        self._metrics.api_keys.labels("faulty").set(len(compiled.complaints))
        news = [(name, one) for name, one in compiled.complaints.items() if before.get(name) != one]
        for name, complaint in news[:MOST_TOLD]:
            if (secret := self._keys.secret(name)) is not None:
                log.warning("an API key is not as it should be", extra={"object": name, "reason": complaint.reason})
                self._tell(secret, complaint)

    def into(self, config: GatewayConfig, live: GatewayConfig | None, *, is_lost: bool = False) -> GatewayConfig:
        """Give the config with the keys that are known: those of the Secrets, or those of the live config before these
        were listed. Raises Retryable when neither can be read: `is_lost` says that there is a live one that cannot."""
        compiled = self._keys.compile(now=self._clock())
        if compiled is not None:
            return config.with_keys(compiled.entries, self._salt)
        if is_lost:
            raise Retryable("API keys were never listed, and the live gateway config cannot be read")
        return config.with_keys(self._keys.kept(live), live.keySalt if live else "")


def only_known(config: GatewayConfig, live: GatewayConfig) -> GatewayConfig:
    """Give a config without the keys that are new in it: what is revoked is revoked where the new ones have no room."""
    known = {key.id for key in live.keys}
    return config.with_keys((key for key in config.keys if key.id in known), config.keySalt)
