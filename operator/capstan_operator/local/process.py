"""One child process: its log file, its end, and that nothing of it stays behind."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from capstan_operator.local import tether

TAIL_BYTES = 64 * 1024


class Child:
    """A program in a process group of its own, which ends when this process ends."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self.log = log
        self._group_ended = False

    @classmethod
    async def start(cls, command: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> "Child":
        """Start `command` with its output appended to `log`."""
        tethered = [sys.executable, "-I", "-S", str(tether.__file__), str(os.getpid()), *command]
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *tethered,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(environment),
                start_new_session=True,
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        """Process id, and id of the group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Wait for the end; give the exit code (negative: the signal)."""
        code = await self._process.wait()
        self._kill_group()
        return code

    async def stop(self, *, grace: float) -> None:
        """Ask it to end, wait `grace` seconds, then end the whole group."""
        if self.running:
            self._process.terminate()
            try:
                async with asyncio.timeout(grace):
                    await self._process.wait()
            except TimeoutError:
                pass  # the group is killed below
        self._kill_group()
        await self._process.wait()

    def kill(self) -> None:
        """End the whole group at once."""
        if self.running:
            self._kill_group()

    def _kill_group(self) -> None:
        """End what is left of the group: children of the program that outlived it.

        Only once: later its number may belong to somebody else.
        """
        if self._group_ended:
            return
        self._group_ended = True
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # nothing is left
        except PermissionError:
            pass  # macOS says so when only a zombie is left

    def tail(self, *, lines: int = 15) -> str:
        """Give the last lines that it wrote."""
        return tail_of(self.log, lines=lines)


def tail_of(log: Path, *, lines: int) -> str:
    """Give the last `lines` lines of a file, reading no more than its end."""
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - TAIL_BYTES))
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:])
