"""The settings of `capstan-worker score`."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from capstan_contract.queue.wire import LEAST_SECRET_BYTES
from capstan_contract.redis_address import read_redis_url
from capstan_process.settings import required, setting
from capstan_worker.errors import UsageError
from capstan_worker.settings import read_base_url

_MOST_KEY_BYTES: Final = 4096


@dataclass(frozen=True)
class ScoreSettings:
    """Where samples are, who judges them, and how much that may take."""

    redis_url: str = required(
        "the gateways' Redis: redis://HOST:6379/0, redis+sentinel://HOST,HOST/NAME/0, redis+cluster://HOST,HOST",
        read=read_redis_url, secret=True,
    )  # fmt: skip
    gateway_url: str = required("base URL of the gateway, without the /v1: judges are asked there", read=read_base_url)
    gateway_key: str | None = setting(None, "API key for it", secret=True)
    gateway_key_file: Path | None = setting(None, "a file with it, read again for each sample")
    redis_password: str | None = setting(None, "Redis' password, where the URL has none", secret=True)
    redis_sentinel_password: str | None = setting(None, "the password of its Sentinels, if they have one", secret=True)
    redis_ca_file: Path | None = setting(None, "the certificate authority of rediss://, as PEM (default: the system's)")
    redis_seconds: float = setting(5.0, "how long one call of Redis may take", above=0)
    evaluation_secret: str | None = setting(None, "what seals samples, as gateways have it", secret=True)
    judge_calls_per_hour: int = setting(
        1000, "calls of judges in a clock hour, of all scorers together; 0: any number", least=0
    )
    judge_concurrency: int = setting(4, "samples that are judged at once", least=1, most=256)
    judge_tries: int = setting(3, "how often a sample is judged at most", least=1, most=100)
    retry_seconds: float = setting(
        60.0, "how long a sample waits whose judge has failed, or whose scorer has gone", above=0
    )
    poll_seconds: float = setting(1.0, "how often samples are looked for", above=0)
    worker_name: str = setting("", "how this scorer is called; no other one may have the name (default: made up)")

    def name(self) -> str:
        """Give the scorer's name."""
        return self.worker_name or f"{socket.gethostname()}-{os.urandom(6).hex()}"

    def key(self) -> str:
        """Give the API key; empty where there is none, or as long as its file is not there."""
        if self.gateway_key_file is None:
            return self.gateway_key or ""
        try:
            with self.gateway_key_file.open() as file:
                return file.read(_MOST_KEY_BYTES).strip()
        except (OSError, UnicodeDecodeError):
            return ""


def checked_score(settings: ScoreSettings) -> ScoreSettings:
    """Refuse what cannot be used. Raises UsageError."""
    if settings.redis_ca_file is not None and not settings.redis_ca_file.is_file():
        raise UsageError(f"--redis-ca-file: {settings.redis_ca_file} is no file")
    secret = settings.evaluation_secret
    if secret is not None and len(secret.encode()) < LEAST_SECRET_BYTES:
        raise UsageError(f"--evaluation-secret must have at least {LEAST_SECRET_BYTES} bytes")
    return settings
