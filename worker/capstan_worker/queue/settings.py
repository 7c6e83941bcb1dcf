"""The worker's settings of the queue. Without a Redis there is none."""

import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from capstan_contract.queue.wire import LEAST_SECRET_BYTES
from capstan_contract.redis_address import read_redis_url
from capstan_process.settings import setting
from capstan_worker.errors import UsageError

log = logging.getLogger(__name__)
CAUTIOUS_PLACES: Final = 8
"""Of an engine that tells nothing and of which nobody has said more."""
USUAL_PLACES: Final = 256
"""Of one behind a URL that tells how much it has to do."""


@dataclass(frozen=True)
class QueueSettings:
    """Where the queue is, and how much of it a worker takes."""

    redis_url: str | None = setting(
        None,
        "Redis with the queue: redis://HOST:6379/0, redis+sentinel://HOST,HOST/NAME/0, redis+cluster://HOST,HOST; "
        "rediss in place of redis is TLS (default: none, nothing is taken)",
        read=read_redis_url,
        secret=True,
    )
    redis_password: str | None = setting(None, "its password, where the URL has none", secret=True)
    redis_password_file: Path | None = setting(None, "a file with it")
    redis_sentinel_password: str | None = setting(None, "the password of its Sentinels, if they have one", secret=True)
    redis_ca_file: Path | None = setting(None, "the certificate authority of rediss://, as PEM (default: the system's)")
    redis_seconds: float = setting(5.0, "how long one call of Redis may take", above=0)
    queue_model: str = setting("", "whose queue: `namespace/name` of the LLMModel")
    queue_secret: str | None = setting(None, "what seals entries, as gateways have it", secret=True)
    queue_secret_file: Path | None = setting(None, "a file with it")
    queue_sealed: bool = setting(False, "take nothing without that secret")
    queue_places: int = setting(
        0,
        f"most entries at a time (default: as many as the engine says; {CAUTIOUS_PLACES} where it says nothing)",
        least=0,
    )
    queue_batch_size: int = setting(
        1,
        "beside an OpenAICompatible engine: so many inputs of embeddings and scores at most go to it in one call; "
        "1: each request goes by itself",
        least=1,
        most=1024,
    )
    queue_batch_milliseconds: float = setting(
        50.0, "how long a request waits for others to go with", least=0, most=1000
    )
    queue_spare_percent: int = setting(
        25,
        "entries of class batch are taken only as long as more than this share of the places is free",
        least=0,
        most=99,
    )
    queue_hung_seconds: float = setting(
        120.0, "an engine that works on entries and gives nothing for so long hangs", above=0
    )
    worker_name: str = setting("", "how this worker is called; no other one may have the name (default: made up)")

    def name(self) -> str:
        """Give the worker's name. One that is made up is new each time: who had it before may have died just now."""
        return self.worker_name or f"{socket.gethostname()}-{os.urandom(6).hex()}"


def checked_queue(settings: QueueSettings) -> QueueSettings | None:
    """Give the settings with what is in their files; None where there is no queue. Raises UsageError."""
    if settings.redis_url is None:
        return None
    if settings.queue_model.count("/") != 1 or not all(settings.queue_model.split("/")):
        raise UsageError("--queue-model must be NAMESPACE/NAME of the LLMModel when there is a --redis-url")
    if settings.redis_ca_file is not None and not settings.redis_ca_file.is_file():
        raise UsageError(f"--redis-ca-file: {settings.redis_ca_file} is no file")
    password = _read("--redis-password-file", settings.redis_password_file) or settings.redis_password
    secret = _read("--queue-secret-file", settings.queue_secret_file) or settings.queue_secret
    if secret is not None and len(secret.encode()) < LEAST_SECRET_BYTES:
        raise UsageError(f"--queue-secret must have at least {LEAST_SECRET_BYTES} bytes")
    if settings.queue_sealed and not secret:
        log.warning("no queued work is taken: the secret that seals it is not there")
        return None
    return QueueSettings(**{**vars(settings), "redis_password": password, "queue_secret": secret})


def _read(flag: str, file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text().strip() or None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"{flag}: cannot read {file}: {reason}") from error
