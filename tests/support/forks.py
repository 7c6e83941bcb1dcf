"""Our own programs as processes that are forked from one that has imported them, and has done nothing else.

Until `python -m capstan_operator` begins with its work it has taken one to two seconds of a core, all for imports;
tests start such programs some hundred times. What is forked is a process like any other: its memory, files, signals
and end are its own. How programs begin with nothing imported is for tests/integration/gateway/test_process.py,
tests/integration/local and the containers of tests/e2e.
"""

import atexit
import gc
import importlib
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final

from support.needs import ROOT

_NUMBER: Final = 8
"""Bytes of a pid, and of an exit code."""
_MOST_BYTES: Final = 128 * 1024
"""Of what is told to a server: arguments and environment."""
_SERVE: Final = "import sys; from support.forks import serve; serve(int(sys.argv[1]), *sys.argv[2:])()"
_servers: "dict[tuple[str, ...], _Server]" = {}
_lock: Final = threading.Lock()


class Forked:
    """A process, with what tests use of subprocess.Popen."""

    def __init__(self, arguments: Sequence[str], pid: int, told: int) -> None:
        self.args = arguments
        self.pid = pid
        self.returncode: int | None = None
        """How it ended, as Popen says it; None while it is not known to have."""
        self._told = told
        """Where its exit code is read."""

    def poll(self) -> int | None:
        """Give how it ended; None while it runs."""
        self._look(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and give how. Raises subprocess.TimeoutExpired."""
        self._look(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _look(self, seconds: float | None) -> None:
        if self.returncode is not None or not select.select([self._told], [], [], seconds)[0]:
            return
        self.returncode = _read_number(self._told)
        os.close(self._told)


def fork(
    module: str,
    arguments: Sequence[str] = (),
    *,
    environ: Mapping[str, str],
    stdout: IO[bytes],
    stderr: IO[bytes] | None = None,
    folder: Path | None = None,
    new_session: bool = False,
    loads: Sequence[str] = (),
) -> Forked:
    """Start `main()` of a module with these arguments, in this environment and folder (none: the present one). `loads`
    are modules that it would import when it has read its arguments."""
    modules = (module, *loads)
    with _lock:
        if modules not in _servers:
            _servers[modules] = _Server(modules)
        server = _servers[modules]
    order = {
        "arguments": [module, *arguments],
        "environ": dict(environ),
        "folder": str(folder or Path.cwd()),
        "session": new_session,
    }
    return server.fork(order, stdout.fileno(), (stderr or stdout).fileno())


def run_forked(
    module: str,
    arguments: Sequence[str],
    *,
    loads: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
    seconds: float = 60.0,
) -> "subprocess.CompletedProcess[str]":
    """Run `main()` of a module to its end; give its exit code and what it printed. Raises subprocess.TimeoutExpired."""
    with TemporaryFile() as out, TemporaryFile() as err:
        process = fork(module, arguments, loads=loads, environ=environ, stdout=out, stderr=err)
        try:
            code = process.wait(seconds)
        finally:
            process.kill()
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(process.args, code, out.read().decode(), err.read().decode())


class _Server:
    """The process that has imported modules."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join([str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _SERVE, str(theirs.fileno()), *modules],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path},
            )  # fmt: skip
        atexit.register(self._close)

    def fork(self, order: Mapping[str, Any], stdout: int, stderr: int) -> Forked:
        """Have it fork."""
        reads, writes = os.pipe()
        try:
            socket.send_fds(self._control, [json.dumps(order).encode()], [stdout, stderr, writes])
        finally:
            os.close(writes)
        return Forked(order["arguments"], _read_number(reads), reads)

    def _close(self) -> None:
        self._control.close()
        self._process.wait()


def _read_number(file: int) -> int:
    """Read a number that is written at once."""
    data = os.read(file, _NUMBER)
    if len(data) != _NUMBER:
        raise RuntimeError("the process that forks has ended")
    return int.from_bytes(data, signed=True)


def _write_number(file: int, number: int) -> None:
    with suppress(BrokenPipeError):  # nobody wants to know
        os.write(file, number.to_bytes(_NUMBER, signed=True))


def serve(control: int, module: str, *loads: str) -> Any:
    """Fork as often as is asked for, until nobody is there to ask any more: in the process that asked for it this gives
    what does nothing, in each that was forked `main` of the module, to be called where the interpreter sees its end."""
    main = importlib.import_module(module).main
    for name in loads:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are for the tests, who end what they have started
    wakes, woken = os.pipe()
    for file in (wakes, woken):
        os.set_blocking(file, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    tells: dict[int, int] = {}
    """Where the exit code of each process is written."""
    with socket.socket(fileno=control) as asks, selectors.DefaultSelector() as selector:
        selector.register(asks, selectors.EVENT_READ)
        selector.register(wakes, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if wakes in ready:
                with suppress(BlockingIOError):
                    os.read(wakes, 4096)
                _bury(tells)
            if asks in ready:
                told, (stdout, stderr, tell), *_ = _asked(asks)
                if not told:
                    return lambda: None
                pid = os.fork()
                if pid == 0:
                    selector.close()
                    _become(json.loads(told), stdout, stderr, tell, others=(wakes, woken, *tells.values()))
                    return lambda: sys.exit(main())
                tells[pid] = tell
                os.close(stdout)
                os.close(stderr)


def _asked(asks: socket.socket) -> tuple[bytes, list[int]]:
    told, files, *_ = socket.recv_fds(asks, _MOST_BYTES, 3)
    return told, files or [-1, -1, -1]


def _bury(tells: dict[int, int]) -> None:
    while tells:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        tell = tells.pop(pid)
        _write_number(tell, os.waitstatus_to_exitcode(status))
        os.close(tell)


def _become(order: Mapping[str, Any], stdout: int, stderr: int, tell: int, *, others: Sequence[int]) -> None:
    """Be the process that was asked for."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if order["session"]:
        os.setsid()
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environ"])
    sys.argv = order["arguments"]
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    # NB: only now does whoever asked know of it, and may send it signals.
    _write_number(tell, os.getpid())
    for file in (stdout, stderr, tell, *others):
        os.close(file)
