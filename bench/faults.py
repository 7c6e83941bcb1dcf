"""Faults under load: what becomes of requests when something breaks, each fault ten times. See docs/reliability.md.

    python bench/faults.py [--times 10] [--rate 8] [--only worker-killed,redis-killed]

Two gateways, two workers with simulated engines and a Redis, as processes on this machine's loopback, under a steady
load of several tenants: queued and direct, streamed and not, and some that must not be sent twice. Every answer can be
checked, and engines write down what they begin and end. Each fault has a world of its own. The faults with the operator
need the API server of ../shared/cluster.

Prints the table of docs/reliability.md. The last line says OK, or FAILED with exit code 1: when a request was lost or
duplicated, was worked on for a gateway that was long dead, or when something of a request was left in Redis.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.fault_kinds import FAULTS  # noqa: E402
from support.fault_load import End, Verdict  # noqa: E402
from support.fault_operator import STRIKES, run_governed  # noqa: E402
from support.fault_rounds import Outcome, run_fault  # noqa: E402

HEAD = ("fault", "times", "requests", *(end.value for end in End if end is not End.LOST), "lost", "duplicated", "late")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Faults under load.")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--rate", type=float, default=8.0, help="requests a second")
    parser.add_argument("--only", default="", help="names of faults, with commas")
    parser.add_argument("--keep", type=Path, help="a folder for logs, which stay")
    parser.add_argument("--port", type=int, default=int(os.environ.get("CAPSTAN_TEST_API_PORT", "7443")))
    return parser.parse_args()


@contextmanager
def folder(name: str, keep: Path | None) -> Iterator[Path]:
    """Give a folder for one world, which goes with it unless it is to be kept."""
    if keep is not None:
        place = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=keep))
        print(f"    {name}: logs are in {place}")
        yield place
        return
    with tempfile.TemporaryDirectory(prefix=f"capstan-{name}-") as temporary:
        yield Path(temporary)


async def struck(name: str, place: Path, options: argparse.Namespace) -> Outcome:
    """Strike a world in this folder."""
    if name in STRIKES:
        return await run_governed(name, place, times=options.times, rate=options.rate, port=options.port)
    return await run_fault(name, place, times=options.times, rate=options.rate)


def row(title: str, times: int, found: Verdict) -> str:
    """Give a row of the table."""
    ends = [found.ends[end] for end in End if end is not End.LOST]
    numbers = (times, found.asked, *ends, len(found.lost), len(found.duplicated), len(found.late))
    return f"| {title} | {' | '.join(map(str, numbers))} |"


def show(name: str, outcome: Outcome) -> None:
    """Print what is beside the table."""
    found = outcome.verdict
    print(f"    {name}: {found.queued} by the queue, slowest {found.slowest:.1f} s")
    print(f"      worked on again {found.again}, looked at in vain {found.in_vain}")
    for what, many in found.details.most_common(12):
        print(f"      {many:5} {what}")
    print("".join(f"      FAULT left {key}\n" for key in outcome.left), end="")
    for what in (*found.lost[:10], *found.duplicated[:10], *(f"ran on: {one}" for one in found.ran_on[:10])):
        print(f"      FAULT {what}")
    sys.stdout.flush()


def main() -> int:
    """Strike."""
    options = parse()
    titles = {name: fault.title for name, fault in FAULTS.items()} | {name: one[0] for name, one in STRIKES.items()}
    names = options.only.split(",") if options.only else list(titles)
    rows, failed = [], []
    began = time.monotonic()
    for name in names:
        with folder(name, options.keep) as place:
            outcome = asyncio.run(struck(name, place, options))
        rows.append(row(titles[name], options.times, outcome.verdict))
        if outcome.failed:
            failed.append(name)
        print(rows[-1])
        show(name, outcome)
    print(f"\n| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}")
    print("\n".join(rows))
    verdict = f"FAILED: {', '.join(failed)}" if failed else "OK: nothing was lost, and nothing duplicated"
    print(f"\n{time.monotonic() - began:.0f} s\n{verdict}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
