"""Workers as real processes: the Simulator, the sidecar, vLLM."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from support.forks import Forked, fork
from support.ports import free_port
from support.wait import PATIENCE, wait_until

LOADS: Final = tuple(f"capstan_worker.{name}" for name in ("prefixes", "serve", "sidecar", "simulator.command"))


@dataclass
class Worker:
    """One worker process."""

    process: "Forked | subprocess.Popen[bytes]"
    port: int
    worker_port: int
    log: Path

    @property
    def url(self) -> str:
        """Base URL of the OpenAI API, without the /v1."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def worker_url(self) -> str:
        """Base URL of the worker port."""
        return f"http://127.0.0.1:{self.worker_port}"

    @property
    def drain_url(self) -> str:
        """What the preStop hook gets."""
        return f"{self.worker_url}/drain"

    def turn(self, **dials: Any) -> dict[str, Any]:
        """Turn dials of a simulator while it runs; names are in camelCase."""
        url, body = f"{self.worker_url}/simulator/settings", json.dumps(dials).encode()
        request = urllib.request.Request(url, data=body, method="PUT")  # noqa: S310  # http only
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            turned: dict[str, Any] = json.load(response)
        return turned

    def metric(self, name: str, **labels: str) -> float:
        """Give the sum of the series of one metric that have these labels; 0 when there is none."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        total = 0.0
        for line in get(f"{self.worker_url}/metrics")[1].splitlines():
            key, _, value = line.rpartition(" ")
            if key.partition("{")[0] == name and all(item in key for item in wanted):
                total += float(value)
        return total

    def is_ready(self) -> bool:
        """Ask /readyz; fail when the process has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the worker ended with {self.process.returncode}: {self.log.read_text()[-3000:]}")
        return get(f"{self.worker_url}/readyz")[0] == 200

    def stop(self, *, seconds: float = PATIENCE) -> int:
        """Send SIGTERM and give the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(timeout=60)


def get(url: str) -> tuple[int, str]:
    """Give status and body; status 0 when nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310  # http only
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return 0, ""


def post_json(url: str, body: object) -> Any:
    """Give the JSON that a POST answers with."""
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)  # noqa: S310  # http only
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        return json.load(response)


@contextmanager
def worker(
    command: str,
    flags: Sequence[str] = (),
    *,
    rest: Sequence[str] = (),
    python: str = sys.executable,
    wait_ready: bool = True,
    ready_seconds: float = PATIENCE,
    environ: Mapping[str, str] | None = None,
    port: int | None = None,
) -> Iterator[Worker]:
    """Run `capstan-worker COMMAND FLAGS -- REST` until the block ends."""
    port, worker_port = port or free_port(), free_port()
    addresses = ["--worker-port", str(worker_port)] + ([] if command == "sidecar" else ["--port", str(port)])
    tail = ["--", *rest] if rest else []
    with tempfile.TemporaryDirectory(prefix="capstan-worker-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = _start(python, [command, *addresses, *flags, *tail], {**os.environ, **(environ or {})}, output)
        started = Worker(process, port, worker_port, log)
        try:
            if wait_ready:
                wait_until(started.is_ready, seconds=ready_seconds, every=0.05, what="the worker's readiness")
            yield started
        finally:
            # The group, because vLLM's own processes outlive a parent that is killed.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=60)


def _start(
    python: str, arguments: Sequence[str], environ: Mapping[str, str], output: IO[bytes]
) -> "Forked | subprocess.Popen[bytes]":
    """In a session of its own."""
    if python == sys.executable:
        return fork("capstan_worker.__main__", arguments, loads=LOADS, environ=environ, stdout=output, new_session=True)
    command = [python, "-m", "capstan_worker", *arguments]
    return subprocess.Popen(command, stdout=output, stderr=output, env=environ, start_new_session=True)


@contextmanager
def simulator(*flags: str, model: str = "sim", **options: Any) -> Iterator[Worker]:
    """Run a simulator; without flags it answers at once."""
    with worker("simulator", ["--model", model, "--settle-seconds", "0.2", *flags], **options) as started:
        yield started
