"""The gateway as a process of its own, for tests and benchmarks that look at it from outside."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

from capstan_contract.config import ModelEntry, PolicyEntry
from capstan_contract.keys import KeyEntry
from support.forks import Forked, fork
from support.gateway import write_config
from support.ports import free_port
from support.wait import wait_until
from support.worker import get

NO_PROBES = {"CAPSTAN_GATEWAY_PROBE_SECONDS": "0", "CAPSTAN_GATEWAY_PROBE_REQUEST_SECONDS": "0"}
"""Engines hear from clients only, so that their counters can be compared with the gateway's."""


class GatewayProcess:
    """A gateway on the config in a directory."""

    def __init__(self, process: "Forked | subprocess.Popen[bytes]", directory: Path, port: int, log: Path) -> None:
        self.process = process
        self.directory = directory
        self.url = f"http://127.0.0.1:{port}"
        self.log = log

    def client(self, **options: Any) -> AsyncOpenAI:
        """Give the official client, without retries unless asked for."""
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key="unused", **{"max_retries": 0, **options})

    def is_ready(self) -> bool:
        """Ask /readyz; fail when the process has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the gateway ended with {self.process.returncode}: {self.log.read_text()[-3000:]}")
        return get(f"{self.url}/readyz")[0] == 200

    def configure(self, models: Sequence[ModelEntry], *, wait: bool = True) -> None:
        """Write a config; wait until it is in use."""
        wanted = write_config(self.directory, models).hash
        if wait:
            wait_until(lambda: self.hash() == wanted, every=0.02, what="the new config")

    def hash(self) -> str | None:
        """Give the hash of the config in use."""
        found: str | None = json.loads(get(f"{self.url}/internal/config")[1])["hash"]
        return found

    def metric(self, name: str, **labels: str) -> float:
        """Give the sum of the series of one metric that have these labels; 0 when there is none."""
        return sample(get(f"{self.url}/metrics")[1], name, **labels)

    def settled(self) -> None:
        """Wait until no request is in flight."""
        wait_until(lambda: self.metric("gateway_inflight_requests") == 0, every=0.02, what="the end of all requests")


def sample(text: str, name: str, **labels: str) -> float:
    """Give the sum of the series of one metric in a page of metrics; 0 when there is none."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    total = 0.0
    for line in text.splitlines():
        key, _, value = line.rpartition(" ")
        if key.partition("{")[0] == name and all(item in key for item in wanted):
            total += float(value)
    return total


@contextmanager
def gateway_process(
    folder: Path,
    models: Sequence[ModelEntry],
    *flags: str,
    environ: Mapping[str, str] = NO_PROBES,
    module: str | None = None,
    policies: Sequence[PolicyEntry] = (),
    keys: Sequence[KeyEntry] = (),
) -> Iterator[GatewayProcess]:
    """Run a gateway on these models until the block ends.

    With a `module` it is `python -m` of that: another build, or one that shares no memory with others.
    """
    directory, log, port = folder / "config", folder / "log", free_port()
    directory.mkdir(exist_ok=True)
    write_config(directory, models, keys=keys, policies=policies)
    options = ["--insecure-no-auth", "--port", str(port), "--config-dir", str(directory), "--log-level", "warning"]
    with log.open("wb") as output:
        words, variables = [*options, *flags], {**os.environ, **environ}
        process: Forked | subprocess.Popen[bytes]
        if module is None:
            process = fork("capstan_gateway.__main__", words, environ=variables, stdout=output)
        else:
            command = [sys.executable, "-m", module, *words]
            process = subprocess.Popen(command, stdout=output, stderr=output, env=variables)
    running = GatewayProcess(process, directory, port, log)
    try:
        wait_until(running.is_ready, every=0.05, what="the gateway's readiness")
        yield running
    finally:
        process.kill()
        process.wait(timeout=60)
