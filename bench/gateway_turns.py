"""Gateways by turns, and this tree beside other commits: `python bench/gateway.py --against COMMIT ...`.

All of them are there at once, on one core, and idle but for the one whose turn it is: scenario by scenario each is
loaded for a moment, in the next round in the opposite order. What else the machine does, and how fast it is just then,
meets all of them alike, so that the ratios of one round can be believed where its numbers cannot; the table gives their
median and how far they lie apart.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gateway_governed import GOVERNED_RIVALS
from gateway_install import CACHE, ROOT
from gateway_load import KINDS, measure_once, try_once, wait_ready
from gateway_machine import CORES, process, wait_idle
from gateway_report import LITELLM_GOVERNED, OURS, ROUTER_NAME, Numbers, Scenario, governed
from gateway_rivals import RIVALS, Rival, capstan_command
from gateway_upstreams import UPSTREAMS

PACKAGES: Final = ("gateway", "operator", "worker")
SHORT: Final = ("vllm-router", "Envoy")
"""The rivals that a quick look is about."""
FAST: Final = ("nginx", *SHORT, "SMG")
"""Those that are not slower by an order of magnitude."""
GOVERNED_NAMES: Final = (ROUTER_NAME, *(rival.name for rival in GOVERNED_RIVALS if rival.name != LITELLM_GOVERNED))
"""Those that tell what keys, limits and budgets cost; LiteLLM's proxy is too slow to take turns with them."""
NOT_SLOWER: Final = 0.97
"""A change of the gateway may cost pass-through so much, and no more."""
WRITE_CONFIG: Final = (
    "import sys; from pathlib import Path; from gateway_rivals import capstan_config; capstan_config(Path(sys.argv[1]))"
)

Key = tuple[str, Scenario]


@dataclass(frozen=True)
class Turn:
    """A gateway that runs."""

    rival: Rival
    pid: int


def checked_out(commit: str) -> Path:
    """Give the folder of a commit's files, or that of another checkout; OSError when there is no such commit."""
    if Path(commit).is_dir():
        return Path(commit).resolve()
    said = subprocess.run(
        ["git", "rev-parse", "--verify", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if said.returncode:
        raise OSError(f"there is no commit {commit}")
    folder = CACHE / f"at-{said.stdout.strip()}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=_made(CACHE)) as unpacked:
            archive = subprocess.run(["git", "archive", said.stdout.strip()], cwd=ROOT, capture_output=True, check=True)
            subprocess.run(["tar", "-x", "-C", unpacked], input=archive.stdout, check=True)
            Path(unpacked).rename(folder)
            Path(unpacked).mkdir()  # for the end of the `with`
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def at(tree: Path, name: str) -> Rival:
    """Give Capstan as it is in a tree, with the packages that are installed here. Its config is written by itself."""
    packages = os.pathsep.join(str(tree / package) for package in PACKAGES)

    def prepare(folder: Path, port: int) -> list[str]:
        subprocess.run(
            [sys.executable, "-c", WRITE_CONFIG, str(folder)],
            cwd=tree / "bench",
            env=os.environ | {"PYTHONPATH": packages},
            check=True,
        )
        return capstan_command(folder, port)

    return Rival(name, prepare, lambda: name, environment={"PYTHONPATH": packages})


def contenders(against: Sequence[str], only: Sequence[str]) -> list[Rival]:
    """Give who takes part: this tree, the others of Capstan, and the rivals that are installed, on ports of theirs."""
    found = [at(ROOT, OURS), *(at(checked_out(commit), commit) for commit in against)]
    for rival in (*RIVALS, *GOVERNED_RIVALS):
        if rival.name != OURS and any(part.lower() in rival.name.lower() for part in only):
            try:
                rival.version()
                found.append(rival)
            except OSError as error:
                print(f"{rival.name}: left out, not installed ({error})")
    return [replace(rival, port=rival.port + place) for place, rival in enumerate(found)]


@contextmanager
def running(rivals: Sequence[Rival], folder: Path) -> Iterator[list[Turn]]:
    """Run them all on one core; what does not get ready is named and left out."""
    turns: list[Turn] = []
    beside: set[tuple[str, ...]] = set()
    with ExitStack() as stack:
        for place, rival in enumerate(rivals):
            home = _made(folder / str(place))
            if rival.beside and rival.beside not in beside:
                beside.add(rival.beside)
                stack.enter_context(process(list(rival.beside), CORES[1 % len(CORES)], home / "beside.log", {}))
            command = rival.prepare(home, rival.port)
            child = stack.enter_context(process(command, CORES[0], home / "log", rival.environment))
            try:
                wait_ready(rival, child, 30.0)
                turns.append(Turn(rival, child.pid))
            except OSError as error:
                print(f"{rival.name}: {error}\n{(home / 'log').read_text()[-1000:]}", file=sys.stderr)
        yield turns


def take_turns(turns: Sequence[Turn], upstream: str, seconds: int, rounds: int, table: dict[Key, Numbers]) -> None:
    """Fill the table, one entry of each number for each round."""
    scenarios = [Scenario(upstream, *kind) for kind in KINDS]
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}, {upstream}", flush=True)
        for scenario in scenarios:
            for turn in turns if number % 2 == 0 else reversed(turns):
                if number == 0:
                    try_once(turn.rival, scenario.kind)
                    measure_once(turn.rival, scenario, turn.pid, 1, Numbers())  # warm up
                numbers = table.setdefault((turn.rival.name, scenario), Numbers())
                measure_once(turn.rival, scenario, turn.pid, seconds, numbers)
                wait_idle(turn.pid, look_seconds=0.05)


def ratios(table: dict[Key, Numbers], name: str, scenario: Scenario, number: str) -> list[float]:
    """Give, round by round, how many times better this tree does than another gateway."""
    ours, theirs = table[OURS, scenario], table[name, scenario]
    pairs = zip(getattr(ours, number), getattr(theirs, number), strict=True)
    return [mine / other if number == "rate" else other / mine for mine, other in pairs]


def cell(values: Sequence[float]) -> str:
    """Write a median, and between which values the rounds lie."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def report(table: dict[Key, Numbers], names: Sequence[str], number: str) -> list[str]:
    """Write one table: a row per scenario, a column per other gateway."""
    lines = [f"| scenario | this tree | {' | '.join(names)} |", "| --- | ---: |" + " ---: |" * len(names)]
    for scenario in dict.fromkeys(scenario for _, scenario in table):
        mine = table[OURS, scenario].middle(number)
        cells = [cell(ratios(table, name, scenario, number)) for name in names]
        lines.append(f"| {scenario.name} | {mine:,.0f} | {' | '.join(cells)} |")
    return lines


def slower(table: dict[Key, Numbers], names: Sequence[str]) -> list[str]:
    """Give where this tree is slower than another of Capstan's by more than it may be."""
    found = []
    for _, scenario in [key for key in table if key[0] == OURS and key[1].upstream == "mock"]:
        for name in names:
            value = statistics.median(ratios(table, name, scenario, "rate"))
            if value < NOT_SLOWER:
                found.append(f"{value:.2f} of {name} in {scenario.name}")
    return found


def compare(against: Sequence[str], only: Sequence[str], upstreams: Sequence[str], seconds: int, rounds: int) -> int:
    """Print what was measured; give 1 when this tree is too slow beside another of Capstan's, 0 otherwise."""
    table: dict[Key, Numbers] = {}
    rivals = contenders(against, only)
    names: list[str] = []
    for upstream in upstreams:
        with tempfile.TemporaryDirectory(prefix="capstan-bench-") as place, ExitStack() as stack:
            command, log = UPSTREAMS[upstream], Path(place) / "log"
            wait_ready(RIVALS[0], stack.enter_context(process(command, CORES[1 % len(CORES)], log, {})))
            turns = stack.enter_context(running(rivals, Path(place)))
            names = [turn.rival.name for turn in turns if turn.rival.name != OURS]
            take_turns(turns, upstream, seconds, rounds, table)
    titles = {"rate": "Requests/s", "cpu": "CPU time a request, us"}
    for number, title in titles.items():
        print(f"\n{title}, and how many times better this tree does (median of {rounds} rounds, least to most)\n")
        print("\n".join(report(table, names, number)))
    if limited := governed(table, dict.fromkeys(scenario for _, scenario in table)):
        print("\nWhat keys, limits and budgets cost\n")
        print("\n".join(limited))
    found = slower(table, [name for name in names if name in against])
    print(f"\n{'Too slow: ' + '; '.join(found) if found else f'Not slower than {NOT_SLOWER} of {list(against)}.'}")
    return 1 if found else 0
