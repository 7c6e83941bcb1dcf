"""A real redis-server of a test's own, that can be killed, started again, and stopped in the middle."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import redis

from support.needs import need_binary
from support.ports import free_port
from support.wait import wait_until


class RedisServer:
    """One server on a port of its own. What it holds is lost when it is killed."""

    def __init__(
        self,
        folder: Path,
        *,
        password: str = "",
        flags: Sequence[str] = (),
        tls: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._binary = need_binary("redis-server", "redis-server")
        self._folder = folder
        self._password = password
        self._flags = flags
        self._tls = tls
        self._environ = {**os.environ, **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it listens, with its password."""
        user = f":{self._password}@" if self._password else ""
        return f"{'rediss' if self._tls else 'redis'}://{user}localhost:{self.port}/0"

    def start(self) -> None:
        """Begin, and wait until it answers."""
        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self._folder), *self._flags]
        if self._password:
            options += ["--requirepass", self._password]
        port = ["--port", "0", "--tls-port", str(self.port)] if self._tls else ["--port", str(self.port)]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([self._binary, *port, *options], stdout=log, stderr=log, env=self._environ)
        wait_until(self._answers, every=0.02, what="redis-server")

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=60)
            self._process = None

    def forget(self) -> None:
        """Lose what its append-only file has. It does not run."""
        shutil.rmtree(self._folder / "appendonlydir", ignore_errors=True)

    def begin_anew(self, password: str) -> None:
        """End it, and start it with this password; empty: with none."""
        self.kill()
        self._password = password
        self.start()

    def pause(self) -> None:
        """Stop it in the middle: connections stay, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after a pause."""
        self._signal(signal.SIGCONT)

    def client(self) -> "redis.Redis":
        """Give a client that looks at it from outside."""
        return redis.Redis(host="127.0.0.1", port=self.port, password=self._password or None, protocol=2)

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            self.go_on()
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"redis-server ended: {(self._folder / 'redis.log').read_text()[-2000:]}")
        if self._tls:
            return b"Ready to accept connections" in (self._folder / "redis.log").read_bytes()
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


@contextmanager
def redis_server(folder: Path, **options: bool | str | Sequence[str]) -> Iterator[RedisServer]:
    """Run a server in a folder of its own until the block ends."""
    place = folder / "redis"
    place.mkdir()
    with RedisServer(place, **options) as server:  # type: ignore[arg-type]
        yield server
