"""The worker's settings: what every command has, and what `vllm` and `sidecar` have beside it.

Each flag `--some-name` can also be given as CAPSTAN_WORKER_SOME_NAME; the flag wins.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from capstan_process.logs import FORMATS, LEVELS
from capstan_process.settings import required, setting
from capstan_worker.engine.kinds import EngineKind

PREFIX: Final = "CAPSTAN_WORKER_"
WORKER_PORT: Final = 8001
TASKS: Final = ("chat", "completion", "embed", "classify", "score", "transcribe")


def read_base_url(text: str) -> str:
    """Read a base URL, without a slash at its end. Raises ValueError."""
    if not text.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return text.rstrip("/")


def read_on_off(text: str) -> bool:
    """Read a switch that is given with a word. Raises ValueError."""
    if text not in ("on", "off"):
        raise ValueError("must be on or off")
    return text == "on"


def _read_address(text: str) -> str:
    if not text.startswith(("tcp://", "ipc://")):
        raise ValueError("must begin with tcp:// or ipc://")
    return text


@dataclass(frozen=True)
class WorkerSettings:
    """What every worker command has."""

    host: str = setting("127.0.0.1", "address to listen on (in a pod 0.0.0.0)")
    port: int = setting(WORKER_PORT, "/healthz, /readyz, /metrics, /drain and /kv-events", flag="worker-port")
    prefixes: Path | None = setting(None, 'JSON file of prompts to keep warm: [{"name": ..., "system": ...}]')
    keep_warm_seconds: float = setting(
        30.0, "how often it is seen to that the engine still has those prompts; 0: never", least=0
    )
    grace_seconds: float = setting(600.0, "how long a drain may take, as in `terminationGracePeriodSeconds`", least=0)
    settle_seconds: float = setting(2.0, "a drain ends after nothing was in flight for so long", least=0)
    log_level: str = setting("info", "what is logged", choices=LEVELS)
    log_format: str = setting("text", "form of the log", choices=FORMATS)


@dataclass(frozen=True)
class VllmSettings:
    """What `vllm` has beside that."""

    port: int = setting(8000, "the OpenAI API")
    kv_events: bool = setting(
        False, "tell on the worker port which blocks the engine holds: on or off", read=read_on_off
    )


@dataclass(frozen=True)
class SidecarSettings:
    """Which engine the sidecar stands beside."""

    kind: EngineKind = required("the engine", flag="engine")
    url: str = required(
        "base URL without the /v1, such as http://127.0.0.1:8000", flag="engine-url", read=read_base_url
    )
    model: str = required("the name that the engine knows the model by, and requests use")
    task: str = setting("chat", "what the model does", choices=TASKS)
    kv_events: str = setting(
        "",
        "where the engine publishes which blocks it holds, such as tcp://127.0.0.1:5557; empty: nowhere",
        read=_read_address,
    )
    kv_events_replay: str = setting(
        "", "where it tells again what was missed, such as tcp://127.0.0.1:5558; empty: nowhere", read=_read_address
    )
