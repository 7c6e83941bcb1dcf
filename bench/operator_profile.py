"""The operator, with a look at what it keeps and at what stops it.

    python bench/operator_profile.py FILE       # as `python -m capstan_operator`; SIGUSR1 writes the report to FILE

The report says what the process consists of: what was there before anything ran (imports), what each owner keeps (each
object is counted with the first owner of the list that reaches it), what Python's and libc's allocators hold without
anybody using it, and how long the collections of garbage were. To count takes seconds, during which nothing else runs.
"""

import asyncio
import ctypes
import gc
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from capstan_operator import __main__ as program
from capstan_operator import composition

MIB = 2**20
STOPS = (ModuleType, type, FunctionType, CodeType, threading.Thread, asyncio.AbstractEventLoop)
"""What is reached through these belongs to nobody in particular."""
OWNERS: dict[str, tuple[str, ...]] = {
    "versions seen": ("_kube._versions",),
    "connections": ("_kube",),
    "metrics": ("_metrics",),
    "Events": ("events",),
    "models as listed and parsed": ("_loader._models",),
    "config that is written, read back or sent": ("gateway._writer",),
    "compiler: drafts and entries": ("gateway._proposer._compiler",),
    "proposer": ("gateway._proposer",),
    "verdicts": ("gateway.state",),
    "ledger, acknowledger": ("acknowledger",),
    "credentials": ("credentials",),
    "templates of pods": ("reconciler._templates",),
    "standings told": ("reconciler.told",),
    "adopter": ("adopter",),
    "queues": ("models", "config"),
    "echoes": ("watches._echoes",),
    "the rest of the operator": ("",),
}


class Pauses:
    """How long collections were, by generation."""

    def __init__(self) -> None:
        self._began = 0.0
        self.seconds: dict[int, list[float]] = {0: [], 1: [], 2: []}
        self.at: list[tuple[float, int, float]] = []

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """See gc.callbacks."""
        if phase == "start":
            self._began = time.perf_counter()
            return
        took = time.perf_counter() - self._began
        self.seconds[info["generation"]].append(took)
        if took > 0.02:
            self.at.append((time.monotonic(), info["generation"], took))


def resolve(root: object, path: str) -> object | None:
    """Follow attributes; None where there is none."""
    for name in filter(None, path.split(".")):
        root = getattr(root, name, None)
    return root


def walk(roots: Iterable[object], seen: set[int], borders: set[int]) -> Iterator[object]:
    """Give everything that is reached from roots and was not seen before, without what others are the roots of."""
    todo = [root for root in roots if root is not None]
    within = {id(root) for root in todo}
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, STOPS) or (id(one) in borders and id(one) not in within):
            continue
        seen.add(id(one))
        yield one
        todo.extend(gc.get_referents(one))


def sized(objects: Iterable[object]) -> tuple[int, int, Counter[str]]:
    """Give number, bytes, and bytes by type."""
    number, by_type = 0, Counter[str]()
    for one in objects:
        number += 1
        by_type[type(one).__qualname__] += sys.getsizeof(one)
    return number, by_type.total(), by_type


class Mallinfo(ctypes.Structure):
    """Of glibc, since 2.33."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")),
    ]


def allocators() -> Iterator[str]:
    """Say what the process has of the system, and what of that is in use."""
    status = Path("/proc/self/smaps_rollup").read_text()
    for name in ("Rss", "Anonymous", "Pss"):
        if found := re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE):
            yield f"{name}: {int(found[1]) / 1024:.1f} MiB"
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallinfo2"):
        libc.mallinfo2.restype = Mallinfo
        info = libc.mallinfo2()
        yield (
            f"libc: {info.arena / MIB:.1f} MiB of arenas, {info.uordblks / MIB:.1f} in use, {info.fordblks / MIB:.1f}"
            f" free; {info.hblkhd / MIB:.1f} MiB in {info.hblks} maps"
        )


def python_arenas() -> Iterator[str]:
    """Say what Python's own allocator holds: it writes that to stderr alone."""
    with tempfile.TemporaryFile() as out:
        kept = os.dup(2)
        os.dup2(out.fileno(), 2)
        try:
            sys._debugmallocstats()  # type: ignore[attr-defined]
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        out.seek(0)
        text = out.read().decode()
    for what in ("bytes in allocated blocks", "bytes in available blocks", r"\d+ unused pools \* \d+ bytes"):
        if found := re.search(rf"^#? ?({what})\s*=\s*([\d,]+)", text, re.MULTILINE):
            yield f"Python: {int(found[2].replace(',', '')) / MIB:.1f} MiB: {found[1]}"


def report(runtime: composition.Runtime, pauses: Pauses, base: str) -> str:
    """Give the report."""
    lines = ["before anything ran:", base, "", "now:", *allocators(), *python_arenas(), ""]
    longest = {g: sorted(found)[-5:] for g, found in pauses.seconds.items()}
    for generation, found in pauses.seconds.items():
        most = ", ".join(f"{1000 * one:.0f}" for one in reversed(longest[generation]))
        lines.append(f"collections of generation {generation}: {len(found)}, the longest {most} ms")
    lines += [f"objects that are tracked: {len(gc.get_objects()):,}, frozen {gc.get_freeze_count():,}", ""]
    gc.unfreeze()
    gc.collect()
    lines += ["after a collection:", *allocators(), *python_arenas(), ""]
    everything = gc.get_objects()
    kopfs = [one for one in everything if type(one).__name__ == "ResourceMemories"]
    owners: dict[str, list[object]] = {
        name: [resolve(runtime, path) for path in paths] for name, paths in OWNERS.items()
    }
    rest = owners.popitem()
    owners = {"kopf, of every object that it has seen": list(kopfs), **owners, rest[0]: rest[1]}
    borders = {id(root) for roots in owners.values() for root in roots}
    seen, total = set[int](), 0
    for owner, roots in owners.items():
        number, size, by_type = sized(walk(roots, seen, borders))
        total += size
        most = ", ".join(f"{name} {bytes_ / MIB:.1f}" for name, bytes_ in by_type.most_common(7))
        lines.append(f"{size / MIB:7.1f} MiB {number:9,} objects  {owner}: {most}")
    number, size, by_type = sized(walk_all(everything, seen))
    most = ", ".join(f"{name} {bytes_ / MIB:.1f}" for name, bytes_ in by_type.most_common(12))
    lines.append(f"{size / MIB:7.1f} MiB {number:9,} objects  no owner (modules, kopf, frames): {most}")
    lines.append(f"{(total + size) / MIB:7.1f} MiB in all")
    return "\n".join(lines) + "\n"


def walk_all(roots: list[Any], seen: set[int]) -> Iterator[object]:
    """Give everything that is reached, modules and classes included."""
    todo = roots
    apart = {id(seen), id(todo)}
    while todo:
        one = todo.pop()
        if id(one) in seen or id(one) in apart:
            continue
        seen.add(id(one))
        yield one
        todo.extend(gc.get_referents(one))


def main() -> None:
    """Run the operator; write a report at each SIGUSR1."""
    file, pauses, made = Path(sys.argv.pop(1)), Pauses(), []
    base = "\n".join(allocators())
    gc.callbacks.append(pauses)

    class Watched(composition.Runtime):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._kube = arguments[0]
            made.append(self)
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._write)

        def _write(self) -> None:
            partial = file.with_suffix(".partial")
            partial.write_text(report(self, pauses, base))
            partial.rename(file)

    program.Runtime = Watched  # type: ignore[misc]
    program.main()


if __name__ == "__main__":
    main()
