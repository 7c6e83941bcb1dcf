#!/usr/bin/env python3
"""Changes the code in many small ways, one at a time, and says which changes no test notices.

    scripts/mutants.py [ROOM ...]     the rooms of pyproject.toml's [tool.capstan.mutants], all without a name
        --only NAME                   only the modules of this name, again and again if need be
        --tests PATH                  only those of the rooms' tests that are below this path
        --survivors                   only what the last run of these rooms has not seen killed, with the tests of now
        --sample N [--seed S]         only N of the mutants, drawn by their names: the same ones each time
        --record                      write the rooms' numbers into docs/testing.md
        --jobs N                      processes (default 1)
        --equivalent                  only write the list of equivalent mutants into docs/testing.md
        --check                       only say whether that list is fresh

mutmut makes the mutants and runs, for each one, the tests that reach the changed function. It finds a module's name
by its path from the root, so the packages are laid out flat in .cache/mutants, a folder for each choice of rooms and
modules, with the tests beside them.

A run of a large room takes hours. It may be stopped at any time: `--survivors` goes on with what has no verdict yet or
was alive, and judges anew whatever function has changed. `--again --record` then writes down what all of it came to.
Where the rooms have slow tests, a first run with the quick ones (`--tests tests/unit`) and then `--survivors` without
them comes to the same, sooner: what some of the tests have killed need not be shown to the others.

Of a room that is too large for that, a sample says how good its tests are. It goes on and is judged again as a whole
room is, by the same command with `--survivors` or `--again`. A larger sample holds the smaller ones of its seed. Its
numbers are not those of the room, so that `--record` is not for it.

A mutant that lives is either a rule that no test holds, or no change of behaviour at all. Which of them are the latter,
and why, is said in tests/mutants/equivalent.toml. The script fails when any other one lives, and when an entry there
fits no mutant any more.
"""

import argparse
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGES = ROOT / ".cache" / "mutants"
DOCS = ROOT / "docs" / "testing.md"
EQUIVALENT = ROOT / "tests" / "mutants" / "equivalent.toml"
SOURCES = (
    "operator/capstan_operator",
    "gateway/capstan_contract",
    "gateway/capstan_gateway",
    "gateway/capstan_process",
    "worker/capstan_worker",
)
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".hypothesis")
BESIDE = ("tests", "crds", "docs", "examples", "helm", "scripts")

# mutmut changes each string in three ways, two of which are its case. One is enough to see that a test reads it.
#
# It would collect the tests anew for each mutant, which takes longer than to run them until one fails: here they are
# collected once, before it forks. And every test has passed when it was seen which functions it reaches, so they need
# not all run once more before the first mutant does.
#
# A test that hangs on a mutant has noticed. Up to mutmut's own limit, several times what all tests of a function take,
# it would be idle for half a minute or more.
MUTMUT = """
import gc
import sys
from itertools import islice
from mutmut import __main__
from mutmut.mutation import file_mutation, mutators
from mutmut.runners.harness import PytestRunner, change_cwd
from mutmut.workers.isolation import ForkRunner

def string_once(node):
    return islice(mutators.operator_string(node), 1)

file_mutation.mutation_operators = [
    (kind, string_once if make is mutators.operator_string else make) for kind, make in mutators.mutation_operators
]

def collect_once(self):
    from _pytest.config import _prepareconfig
    from _pytest.main import Session
    runner = self.test_runner
    with change_cwd("mutants"):
        config = _prepareconfig(["--rootdir=.", "--tb=no", "-x", "-q", "--capture=no", "--timeout=20",
                                 *runner._pytest_add_cli_args,
                                 *runner._pytest_add_cli_args_test_selection])
        config._do_configure()
        session = Session.from_config(config)
        config.hook.pytest_sessionstart(session=session)
        session.perform_collect()
    runner.session, runner.items = session, {item.nodeid: item for item in session.items}
    gc.freeze()

def run_collected(self, *, mutant_name, tests):
    if mutant_name is None:
        return run_tests(self, mutant_name=mutant_name, tests=tests)
    session = self.session
    session.items = [self.items[test] for test in tests]
    try:
        with change_cwd("mutants"):
            session.config.hook.pytest_runtestloop(session=session)
    except session.Failed:
        return 1
    except BaseException:
        return 3
    return int(bool(session.testsfailed))

# What some tests have killed is killed, also where others look at the rest: that is what a second run is for.
__main__._apply_config_change_invalidation = lambda caught: False
run_tests, PytestRunner.run_tests, ForkRunner.startup = PytestRunner.run_tests, run_collected, collect_once
if "--fresh" in sys.argv:
    sys.argv.remove("--fresh")
    ForkRunner.run_clean_tests = lambda self, tests: 0
if "--sample" in sys.argv:
    at = sys.argv.index("--sample")
    number, seed = int(sys.argv[at + 1]), int(sys.argv[at + 2])
    del sys.argv[at : at + 3]
    collect_all = __main__.collect_source_file_mutation_data

    def collect_sample(**asked):
        mutants, files = collect_all(**asked)
        chosen = drawn([name for _, name, _ in mutants], number, seed)
        return [one for one in mutants if one[1] in chosen], files

    __main__.collect_source_file_mutation_data = collect_sample
__main__.cli()
"""

# What mutmut calls them. A change that the type checker refuses could not be committed.
KILLED = ("killed", "timeout", "caught by type check")


# NB: the process that runs mutmut is given its source: it uses nothing but what it imports here.
def drawn(names: list[str], number: int, seed: int) -> frozenset[str]:
    """Give those of the names that are in the sample of this size: the first ones in an order that the seed makes."""
    from hashlib import sha256

    order = sorted(names, key=lambda name: sha256(f"{seed}:{name}".encode()).digest())
    return frozenset(order[:number])


@dataclass(frozen=True, order=True)
class Mutant:
    """One change: the function, the lines that it takes away and those that it puts there."""

    where: str
    was: str
    now: str


@dataclass(frozen=True)
class Sample:
    """How many of the mutants are looked at, and which ones."""

    number: int
    seed: int


@dataclass
class Tally:
    """What became of a room's mutants."""

    count: Counter[str] = field(default_factory=Counter)
    alive: list[tuple[str, Mutant]] = field(default_factory=list)
    excused: int = 0

    @property
    def total(self) -> int:
        """How many there were."""
        return self.count.total()

    @property
    def killed(self) -> int:
        """How many a test noticed."""
        return sum(self.count[status] for status in KILLED)

    def row(self, room: str) -> str:
        """Give the table's row. Equivalent mutants are no mutants: the share leaves them out."""
        judged = self.total - self.excused
        share = 100 * self.killed / judged if judged else 100.0
        lived = self.total - self.killed - self.excused
        return f"| {room} | {self.total} | {self.killed} | {lived} | {self.excused} | {share:.1f} % |"


HEAD = "| room | mutants | killed | survived | equivalent | share killed |\n| --- | ---: | ---: | ---: | ---: | ---: |"


@dataclass(frozen=True)
class Settings:
    """[tool.capstan.mutants] of pyproject.toml."""

    rooms: dict[str, list[str]]
    """Patterns of sources, by room."""
    tests: list[str]
    """Those that have to notice what is changed in a room."""
    own_tests: dict[str, list[str]]
    """Those of a room that has others than that, by room."""
    ignore: list[str]
    """Tests that cannot run on mutants."""
    leave: list[str]
    """Patterns of lines that are not changed."""

    def tests_of(self, rooms: Iterable[str], below: Sequence[str] = ()) -> list[str]:
        """Give the tests of some rooms, each once, or those below these paths; a folder that is not there has none."""
        named = dict.fromkeys(path for room in rooms for path in self.own_tests.get(room, self.tests))
        there = [path for path in named if (ROOT / path).exists()]
        return [path for path in there if not below or any(Path(path).is_relative_to(folder) for folder in below)]


def read_settings() -> Settings:
    """Read them."""
    return Settings(**tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["capstan"]["mutants"])


def find_sources(patterns: Iterable[str], only: Sequence[str] | None) -> list[str]:
    """Give the files of a room, or those of them that are asked for."""
    found = sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))
    return [path for path in found if not only or Path(path).stem in only]


def read_equivalent() -> list[dict[str, str]]:
    """Give the named equivalents: room, where, was, now, why."""
    if not EQUIVALENT.exists():
        return []
    return list(tomllib.loads(EQUIVALENT.read_text()).get("equivalent", []))


def lay_out(stage: Path, sources: Sequence[str], tests: Sequence[str], settings: Settings) -> None:
    """Make the stage: packages and tests side by side."""
    shutil.rmtree(stage, ignore_errors=True)
    # Python never looks again into a folder of its path that was not there when it started.
    (stage / "mutants").mkdir(parents=True)
    for source in SOURCES:
        shutil.copytree(ROOT / source, stage / Path(source).name, ignore=LEFT_OUT)
    copy_tests(stage)
    write_settings(stage, sources, tests, settings)


def write_settings(stage: Path, sources: Sequence[str], tests: Sequence[str], settings: Settings) -> None:
    """Tell mutmut what to change, which tests have to notice, and when one takes too long."""
    lines = {
        "source_paths": [Path(source).name for source in SOURCES],
        "only_mutate": [source.split("/", 1)[1] for source in sources],
        "do_not_mutate_patterns": settings.leave,
        "also_copy": [name for name in BESIDE if name != "tests"],
        "pytest_add_cli_args_test_selection": tests,
        "pytest_add_cli_args": ["-p", "no:cacheprovider", *(f"--ignore={path}" for path in settings.ignore)],
        # Who shares the machine with others must not take a slow run for one that never ends.
        "timeout_constant": 6.0,
        "timeout_multiplier": 5.0,
        "use_git_change_detection": False,
    }
    table = "\n".join(f"{key} = {json.dumps(value)}" for key, value in lines.items())
    project = (ROOT / "pyproject.toml").read_text()
    (stage / "pyproject.toml").write_text(f"{project}\n[tool.mutmut]\n{table}\n")


def copy_tests(stage: Path) -> None:
    """Put everything there that is not mutated."""
    for name in BESIDE:
        shutil.rmtree(stage / name, ignore_errors=True)
        shutil.rmtree(stage / "mutants" / name, ignore_errors=True)
        shutil.copytree(ROOT / name, stage / name, ignore=LEFT_OUT)


def refresh(stage: Path) -> None:
    """Bring a stage up to now: mutmut then runs what has no verdict, what lived and what is in a changed function."""
    for source in SOURCES:
        for path in (ROOT / source).rglob("*.py"):
            staged = stage / Path(source).name / path.relative_to(ROOT / source)
            if not staged.exists() or staged.read_bytes() != path.read_bytes():
                staged.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, staged)
    forget_changed_tests(stage)
    copy_tests(stage)
    named = {Mutant(item["where"], item["was"], item["now"]) for item in read_equivalent()}
    os.chdir(stage)
    for meta in (stage / "mutants").rglob("*.py.meta"):
        content, module = json.loads(meta.read_text()), meta.relative_to(stage / "mutants").with_suffix("")
        codes = content["exit_code_by_key"]
        # One that is named as equivalent would run through all of its tests, and live.
        again = [name for name, code in codes.items() if code is not None and not is_killed(code)]
        codes |= {name: None for name in again if describe(name, module) not in named}
        meta.write_text(json.dumps(content))
    os.chdir(ROOT)


def forget_changed_tests(stage: Path) -> None:
    """Let mutmut look anew which functions the tests of a changed file reach."""
    stats = stage / "mutants" / "mutmut-stats.json"
    content = json.loads(stats.read_text())
    files = {name.split("::")[0] for name in content["duration_by_test"]}
    changed = {file for file in files if not is_same(ROOT / file, stage / file)}
    times = content["duration_by_test"].items()
    content["duration_by_test"] = {name: time for name, time in times if name.split("::")[0] not in changed}
    stats.write_text(json.dumps(content))


def is_same(one: Path, other: Path) -> bool:
    """Say whether both files are there and equal."""
    return one.exists() and other.exists() and one.read_bytes() == other.read_bytes()


def run_mutmut(stage: Path, jobs: int, *, fresh: bool, sample: Sample | None) -> None:
    """Make the mutants and run the tests on each one, or on those of a sample."""
    environment = {
        **os.environ,
        "CAPSTAN_HYPOTHESIS_PROFILE": "mutants",
        "CAPSTAN_TEST_PATIENCE": "3",
        "PYTHONPATH": str(stage / "mutants"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    program = f"{inspect.getsource(drawn)}\n{MUTMUT}"
    command = [sys.executable, "-c", program, "run", "--max-children", str(jobs), *(["--fresh"] if fresh else [])]
    command += [] if sample is None else ["--sample", str(sample.number), str(sample.seed)]
    done = subprocess.run(command, cwd=stage, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stdout[-4000:]}\nmutmut ended with {done.returncode}")


def is_killed(code: int | None) -> bool:
    """Say whether a mutant that ended so was noticed by a test."""
    from mutmut.stats import status_by_exit_code

    return status_by_exit_code[code] in KILLED


def read_results(stage: Path, sources: Iterable[str]) -> Iterator[tuple[str, str, Path]]:
    """Give name, status and module of every mutant of some files."""
    from mutmut.stats import status_by_exit_code

    for source in sources:
        module = Path(*Path(source).parts[1:])
        meta = stage / "mutants" / f"{module}.meta"
        if meta.exists():
            for name, code in json.loads(meta.read_text())["exit_code_by_key"].items():
                yield name, status_by_exit_code[code], module


def describe(name: str, module: Path) -> Mutant:
    """Say what a mutant changes."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    lines = get_diff_for_mutant(name, path=module).splitlines()
    was = [line[1:].strip() for line in lines if line.startswith("-") and not line.startswith("---")]
    now = [line[1:].strip() for line in lines if line.startswith("+") and not line.startswith("+++")]
    function = re.sub(r"__mutmut_\d+$", "", name)
    function = re.sub(r"\.x_", ".", function).replace(".xǁ", ".").replace("ǁ", ".")
    return Mutant(function, " ".join(was), " ".join(now))


def judge(stage: Path, rooms: dict[str, list[str]], sample: Sample | None = None) -> dict[str, Tally]:
    """Count what became of the mutants, or of a sample; take the named equivalents out of those that live."""
    named = {Mutant(item["where"], item["was"], item["now"]): item["room"] for item in read_equivalent()}
    met: set[Mutant] = set()
    tallies = {}
    os.chdir(stage)
    results = {room: list(read_results(stage, sources)) for room, sources in rooms.items()}
    names = [name for of_room in results.values() for name, _, _ in of_room]
    looked_at = frozenset(names) if sample is None else drawn(names, sample.number, sample.seed)
    for room, of_room in results.items():
        tally = tallies[room] = Tally()
        for name, status, module in of_room:
            if name not in looked_at:
                continue
            tally.count[status] += 1
            if status in KILLED:
                continue
            mutant = describe(name, module)
            if mutant in named:
                met.add(mutant)
                tally.excused += 1
            else:
                tally.alive.append((status, mutant))
    os.chdir(ROOT)
    modules = {Path(*Path(path).parts[1:]).with_suffix("").as_posix() for paths in rooms.values() for path in paths}
    for mutant, room in named.items() if sample is None else ():
        is_here = any(mutant.where.replace(".", "/").startswith(f"{module}/") for module in modules)
        if room in rooms and is_here and mutant not in met:
            tallies[room].alive.append(("named as equivalent, and is none", mutant))
    return tallies


def put_between(mark: str, text: str) -> str:
    """Give docs/testing.md with a text between these two marks."""
    content = DOCS.read_text()
    start, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    before, rest = content.split(start)
    return before + start + text.rstrip() + "\n" + end + rest.split(end, 1)[1]


def record(rows: dict[str, str]) -> None:
    """Put the rooms' rows into the table, and leave the other rooms' rows."""
    table = DOCS.read_text().split("<!-- mutants -->\n")[1].split("<!-- end of mutants -->")[0]
    present = {line.split("|")[1].strip(): line for line in table.splitlines()[2:] if line.startswith("|")}
    merged = {**present, **rows}
    order = [room for room in read_settings().rooms if room in merged]
    DOCS.write_text(put_between("mutants", "\n".join([HEAD, *(merged[room] for room in order)])))
    DOCS.write_text(put_between("equivalent mutants", list_equivalent()))


def list_equivalent() -> str:
    """Give the named equivalents as the documentation shows them."""
    lines = [
        f"- `{item['where'].removeprefix('capstan_')}`: `{item['was']}` to `{item['now']}`. {item['why']}"
        for item in sorted(read_equivalent(), key=lambda item: (item["where"], item["was"], item["now"]))
    ]
    return "\n".join(lines) or "None."


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="Which changes of the code does no test notice?")
    parser.add_argument("rooms", nargs="*", metavar="ROOM")
    parser.add_argument("--only", action="append", metavar="NAME", help="only this module, e.g. workqueue")
    parser.add_argument("--tests", action="append", default=[], metavar="PATH", help="only the tests below this path")
    parser.add_argument("--record", action="store_true", help="write the numbers into docs/testing.md")
    parser.add_argument("--equivalent", action="store_true", help="write only the equivalents into docs/testing.md")
    parser.add_argument("--check", action="store_true", help="say whether docs/testing.md lists the equivalents")
    parser.add_argument("--survivors", action="store_true", help="only what the last run has not seen killed")
    parser.add_argument("--again", action="store_true", help="judge the last run again, without running it")
    parser.add_argument("--sample", type=int, metavar="N", help="only so many of the mutants")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which ones")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    asked = parser.parse_args()
    if asked.equivalent:
        DOCS.write_text(put_between("equivalent mutants", list_equivalent()))
        return
    if asked.check:
        if put_between("equivalent mutants", list_equivalent()) != DOCS.read_text():
            raise SystemExit(
                "docs/testing.md does not list tests/mutants/equivalent.toml: scripts/mutants.py --equivalent"
            )
        return
    if asked.record and asked.sample is not None:
        parser.error("the numbers of a sample are not those of a room: write them down beside the table")
    settings = read_settings()
    rooms = settings.rooms
    if unknown := set(asked.rooms) - rooms.keys():
        parser.error(f"no such room: {', '.join(sorted(unknown))}; there are {', '.join(rooms)}")
    chosen = {room: find_sources(rooms[room], asked.only) for room in asked.rooms or rooms}
    stage = STAGES / ("-".join((*asked.rooms, *(asked.only or ()))) or "all")
    sample = None if asked.sample is None else Sample(asked.sample, asked.seed)
    changed = [source for sources in chosen.values() for source in sources]
    tests = settings.tests_of(chosen, asked.tests)
    if asked.survivors:
        refresh(stage)
        write_settings(stage, changed, tests, settings)
    elif not asked.again:
        lay_out(stage, changed, tests, settings)
    if not asked.again:
        run_mutmut(stage, asked.jobs, fresh=not asked.survivors, sample=sample)
    tallies = judge(stage, chosen, sample)
    for room, tally in tallies.items():
        for status, mutant in sorted(tally.alive):
            print(f"\n{room}: {status}: {mutant.where}\n  - {mutant.was}\n  + {mutant.now}")
    rows = {room: tally.row(room) for room, tally in tallies.items()}
    print("\n".join(["", HEAD, *rows.values()]))
    if asked.record:
        record(rows)
    if any(tally.alive for tally in tallies.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
