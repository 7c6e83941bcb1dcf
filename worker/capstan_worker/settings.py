"""The worker's settings: what every worker command has, from flags or, where a flag is missing, the environment.

Each flag `--some-name` can also be given as CAPSTAN_WORKER_SOME_NAME.
"""

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from capstan_worker.errors import UsageError

PREFIX = "CAPSTAN_WORKER_"
WORKER_PORT = 8001


@dataclass(frozen=True)
class WorkerSettings:
    """What every worker command has."""

    host: str = "127.0.0.1"
    """Address that the worker port listens on; in pods 0.0.0.0."""
    port: int = WORKER_PORT
    prefixes: Path | None = None
    """JSON file with the prompts to keep warm: [{"name": ..., "system": ...}]."""
    grace_seconds: float = 600.0
    """How long a drain may take, as in `terminationGracePeriodSeconds`."""
    settle_seconds: float = 2.0
    """How long nothing must be in flight before a drain has ended."""
    log_level: str = "INFO"
    log_format: str = "text"


def add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags that every worker command has."""
    default = WorkerSettings()
    add = parser.add_argument
    add("--host", default=default.host, help="address to listen on (in a pod 0.0.0.0)")
    add("--worker-port", type=int, default=default.port, help="/healthz, /readyz, /metrics and /drain")
    add("--prefixes", type=Path, help='JSON file of prompts to keep warm: [{"name": ..., "system": ...}]')
    add("--grace-seconds", type=float, default=default.grace_seconds, help="how long a drain may take")
    add("--settle-seconds", type=float, default=default.settle_seconds, help="a drain ends after being idle so long")
    add("--log-level", default=default.log_level, choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    add("--log-format", default=default.log_format, choices=("text", "json"))


def read_worker_settings(options: argparse.Namespace) -> WorkerSettings:
    """Check the flags and freeze them. Raises UsageError."""
    for name in ("grace_seconds", "settle_seconds"):
        if getattr(options, name) < 0:
            raise UsageError(f"--{name.replace('_', '-')} must be 0 or more")
    return WorkerSettings(
        host=options.host,
        port=options.worker_port,
        prefixes=options.prefixes,
        grace_seconds=options.grace_seconds,
        settle_seconds=options.settle_seconds,
        log_level=options.log_level,
        log_format=options.log_format,
    )


def set_defaults_from_environment(parser: argparse.ArgumentParser, environ: Mapping[str, str] = os.environ) -> None:
    """Let CAPSTAN_WORKER_SOME_NAME stand in for a missing --some-name; a list is separated by commas."""
    for action in parser._actions:
        flag = next((option for option in action.option_strings if option.startswith("--")), None)
        variable = PREFIX + flag.lstrip("-").replace("-", "_").upper() if flag else ""
        text = environ.get(variable)
        if text is None or isinstance(action, argparse._HelpAction):
            continue
        if isinstance(action, argparse._StoreTrueAction):
            if text.lower() not in ("true", "false"):
                raise UsageError(f"{variable} must be true or false, not '{text}'")
            action.default = text.lower() == "true"
        elif isinstance(action, argparse._AppendAction):
            action.default = [part.strip() for part in text.split(",") if part.strip()]
        else:
            # argparse converts a default that is a text with the flag's own type, and complains in the flag's name.
            action.default = text
            if action.choices is not None and text not in action.choices:
                raise UsageError(f"{variable} must be one of {', '.join(action.choices)}, not '{text}'")
        action.required = False
