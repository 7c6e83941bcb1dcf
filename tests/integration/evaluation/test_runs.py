"""`capstan eval run` as a process, before an engine over HTTP."""

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Tree

import pytest
import yaml

from capstan_evaluation.runs.files import load_run, read_log
from support.eval_engine import EvalEngine, eval_engine, run, start
from support.wait import eventually

CASES = 60


def write_suite(path: Path, *, cases: int = CASES, judged: bool = False, **more: Any) -> Path:
    """Write a suite of sums."""
    checks: list[dict[str, Any]] = [{"type": "Exact"}]
    if judged:
        checks.append({"type": "Judge", "criterion": "The answer is short."})
    asked = [
        {"id": f"sum-{at}", "prompt": f"What is {at} + 1?", "expected": str(at + 1), "checks": checks}
        for at in range(cases)
    ]
    path.write_text(yaml.safe_dump({"name": "sums", **more, "cases": asked}))
    return path


def without_times(text: str) -> str:
    """Leave out the times of a report, and what is named after them."""
    text = re.sub(r'("(?:seconds|firstTokenSeconds|p50|p95|began|id)":) [^\n{]*', r"\1", text)
    return re.sub(r'(time|timestamp)="[^"]*"|name="id" value="[^"]*"', "", text)


async def test_a_run_that_is_killed_at_every_tenth_case_reports_what_an_undisturbed_one_does(tmp_path: Path) -> None:
    """Killed by SIGKILL whenever it asks a tenth case, and gone on with, a run says byte for byte what one says that
    nobody disturbed, times aside, and no answer that it had was asked for again."""
    suite = write_suite(tmp_path / "sums.yaml", judged=True)

    async with eval_engine(wrong=lambda number: number % 7 == 3) as engine:

        def command(name: str) -> list[str]:
            return [
                "run", str(suite), "--target", "llama", "--judge", "judge", "--url", engine.url, "--concurrency", "3",
                "--out", f"{name}.jsonl", "--json", f"{name}.json", "--junit", f"{name}.xml", "--quiet",
            ]  # fmt: skip

        code, _, err = await run(*command("calm"), folder=tmp_path)
        assert code == 0, err
        assert set(engine.asked.values()) == {1}
        engine.asked.clear()
        engine.bodies.clear()

        kills = 0
        for tenth in range(10, CASES + 1, 10):
            process = await start(*command("killed"), folder=tmp_path)

            def kill(_: int, process: asyncio.subprocess.Process = process, tenth: int = tenth) -> None:
                seen = sum("What is" in text and len(text) < 30 for text in engine.asked)
                if seen >= tenth and process.returncode is None:
                    process.send_signal(signal.SIGKILL)

            engine.on_ask = kill
            async with asyncio.timeout(120):
                await process.communicate()
            kills += process.returncode == -signal.SIGKILL
            engine.on_ask = lambda _: None
        code, _, err = await run(*command("killed"), folder=tmp_path)
        assert code == 0, err
    assert kills == CASES // 10
    for suffix in ("json", "xml"):
        calm, killed = ((tmp_path / f"{name}.{suffix}").read_text() for name in ("calm", "killed"))
        assert without_times(killed) == without_times(calm)
    log, _ = read_log(tmp_path / "killed.jsonl")
    assert log is not None
    written = [(one.purpose, one.request) for one in log.asked]
    assert len(written) == len(set(written)) == 2 * CASES
    # What was under way when it was killed is asked again, and nothing else: three at once at most.
    assert sum(engine.asked.values()) <= 2 * CASES + 3 * kills


async def test_a_run_that_is_interrupted_waits_for_what_it_has_asked(tmp_path: Path) -> None:
    """At Ctrl-C what was asked is answered and kept, nothing new is asked, and the same command goes on."""
    suite = write_suite(tmp_path / "sums.yaml", cases=40)
    async with eval_engine() as engine:
        command = ["run", str(suite), "--target", "llama", "--url", engine.url, "--concurrency", "2"]
        process = await start(*command, folder=tmp_path)
        engine.on_ask = lambda number: process.send_signal(signal.SIGINT) if number == 10 else None
        async with asyncio.timeout(120):
            _, err = await process.communicate()
        assert process.returncode == 130, err
        assert b"the same command goes on" in err
        asked = sum(engine.asked.values())
        assert asked < 40
        (path,) = (tmp_path / ".capstan/runs").iterdir()
        log, _ = read_log(path)
        assert log is not None
        assert len(log.results) == asked
        code, out, err2 = await run(*command, folder=tmp_path)
    assert code == 0, err2
    assert f"going on with {asked} of 40 results" in err2
    assert set(engine.asked.values()) == {1}
    assert len(list((tmp_path / ".capstan/runs").iterdir())) == 1
    assert "exact" in out


async def baseline_and(engine: EvalEngine, folder: Path, suite: Path, *more: str) -> tuple[int, str, str]:
    """Make a baseline of an engine that is always right, then run against it."""
    wrong, engine.wrong = engine.wrong, lambda _: False
    where = ["--target", "llama", "--url", engine.url, "--quiet"]
    assert (await run("run", str(suite), *where, "--out", "base.jsonl", folder=folder))[0] == 0
    assert (await run("baseline", "set", "main", "base.jsonl", folder=folder))[0] == 0
    engine.wrong = wrong
    return await run("run", str(suite), *where, "--baseline", "main", "--out", "now.jsonl", *more, folder=folder)


@pytest.mark.parametrize(
    ("wrong", "code", "verdict"),
    [
        (lambda _: False, 0, "Pass"),
        (lambda number: number % 3 == 0, 1, "Fail"),
        (lambda number: number < 2, 3, "Inconclusive"),
    ],
)
async def test_the_exit_code_says_what_the_comparison_does(tmp_path: Path, wrong: Any, code: int, verdict: str) -> None:
    """0 pass, 1 regression, 3 inconclusive; the reports say the same, and which cases are worse."""
    suite = write_suite(tmp_path / "sums.yaml", margin=0.1)
    async with eval_engine(wrong=wrong) as engine:
        got, _, err = await baseline_and(
            engine, tmp_path, suite, "--json", "r.json", "--junit", "r.xml", "--html", "r.html"
        )
        compared = await run("compare", "main", "now.jsonl", "--suite", str(suite), folder=tmp_path)
    assert got == code, err
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["verdict"]["outcome"] == verdict
    worse = {f"sum-{number}" for number in range(CASES) if wrong(number)}
    assert set(report["verdict"]["comparisons"][0]["regressions"]) == worse
    tree = Tree.parse(tmp_path / "r.xml").getroot()  # noqa: S314 - what we wrote
    failed = {test.get("name") for test in tree.iter("testcase") if test.find("failure") is not None}
    assert failed == worse | ({"exact"} if verdict == "Fail" else set())
    assert "<!doctype html>" in (tmp_path / "r.html").read_text()[:100].lower()
    assert compared[0] == code
    assert f"Verdict: {verdict}" in compared[1]


async def test_a_target_that_fails_is_told_apart(tmp_path: Path) -> None:
    """4 when the target gives no answer twenty times in a row: it is not asked on, and what comes later asks again."""
    suite = write_suite(tmp_path / "sums.yaml")
    async with eval_engine() as engine:
        engine.fails = 10**6
        command = [
            "run",
            str(suite),
            "--target",
            "llama",
            "--url",
            engine.url,
            "--out",
            "a.jsonl",
            "--concurrency",
            "2",
        ]
        code, _, err = await run(*command, folder=tmp_path)
        assert code == 4, err
        assert "no answer 20 times in a row" in err
        assert sum(engine.asked.values()) <= 22
        assert "secret" not in err + (tmp_path / "a.jsonl").read_text()
        engine.fails = 0
        assert (await run(*command, folder=tmp_path))[0] == 0
        assert len(load_run(tmp_path / "a.jsonl").results) == CASES


async def test_some_errors_are_too_many(tmp_path: Path) -> None:
    """4 when more than --max-errors of the asks have no answer; the same command asks those again."""
    suite = write_suite(tmp_path / "sums.yaml")
    async with eval_engine() as engine:
        engine.fails = 6
        command = ["run", str(suite), "--target", "llama", "--url", engine.url, "--out", "a.jsonl", "--quiet"]
        assert (await run(*command, folder=tmp_path))[0] == 4
        assert (await run(*command, folder=tmp_path))[0] == 0
    assert sum(engine.asked.values()) == CASES + 6


async def test_spend_is_bounded_across_processes(tmp_path: Path) -> None:
    """The bound is of the run: it ends before it, says so, and goes on where it is raised."""
    suite = write_suite(tmp_path / "sums.yaml")
    (tmp_path / "prices.yaml").write_text("llama: {inputPerMillion: 0, outputPerMillion: 1000000}\n")
    async with eval_engine() as engine:
        command = [
            "run", str(suite), "--target", "llama", "--url", engine.url, "--out", "a.jsonl", "--prices", "prices.yaml",
            "--answer-tokens", "8", "--quiet",
        ]  # fmt: skip
        code, _, err = await run(*command, "--max-cost", "40", folder=tmp_path)
        assert code == 3, err
        assert "bound on spend" in err
        log, _ = read_log(tmp_path / "a.jsonl")
        assert log is not None
        assert log.target().doubtCost == 0
        assert 32 < log.target().cost <= 40
        assert {body["max_tokens"] for body in engine.bodies} == {8}
        asked = sum(engine.asked.values())
        assert (await run(*command, "--max-cost", "40", folder=tmp_path))[0] == 3
        assert sum(engine.asked.values()) == asked
        assert (await run(*command, "--max-cost", "130", folder=tmp_path))[0] == 0
    assert set(engine.asked.values()) == {1}


async def test_a_killed_run_has_not_spent_more_than_its_bound(tmp_path: Path) -> None:
    """What was under way when the process was killed may have been paid for, and counts in full."""
    suite = write_suite(tmp_path / "sums.yaml", cases=30)
    async with eval_engine() as engine:
        command = [
            "run", str(suite), "--target", "llama", "--url", engine.url, "--out", "a.jsonl", "--max-tokens", "10000",
            "--answer-tokens", "8", "--concurrency", "1",
        ]  # fmt: skip
        process = await start(*command, folder=tmp_path)
        engine.on_ask = lambda number: process.send_signal(signal.SIGKILL) if number == 5 else None
        async with asyncio.timeout(120):
            await process.communicate()
    log, _ = read_log(tmp_path / "a.jsonl")
    assert log is not None
    assert log.target().asks == 4
    assert log.target().doubtTokens > 8


async def test_equal_requests_are_asked_once(tmp_path: Path) -> None:
    """Cases that ask the same share an answer; each repeat is an ask of its own."""
    path = tmp_path / "twins.yaml"
    case = {"prompt": "What is 1 + 1?", "expected": "2", "checks": [{"type": "Exact"}]}
    path.write_text(yaml.safe_dump({"name": "twins", "cases": [{"id": name, **case} for name in "abc"]}))
    async with eval_engine() as engine:
        command = ["run", str(path), "--target", "m", "--url", engine.url, "--repeats", "2", "--out", "a.jsonl"]
        code, out, err = await run(*command, folder=tmp_path)
    assert code == 0, err
    assert sum(engine.asked.values()) == 2
    found = load_run(tmp_path / "a.jsonl")
    assert (len(found.results), found.target.asks) == (6, 2)
    assert "2 asks" in out


async def test_a_key_stands_nowhere(tmp_path: Path) -> None:
    """The key is sent, and is in no output, file or error."""
    suite = write_suite(tmp_path / "sums.yaml", cases=2)
    (tmp_path / "key").write_text("sk-very-secret\n")
    async with eval_engine() as engine:
        where = ["run", str(suite), "--target", "m", "--url", engine.url, "--out", "a.jsonl"]
        told = await run(*where, "--key-file", "key", "--json", "a.json", folder=tmp_path)
        more = await run(
            *where, "--judge-url", "nonsense", "--judge", "j", folder=tmp_path, OPENAI_API_KEY="sk-very-secret"
        )
    assert (told[0], more[0]) == (0, 2)
    texts = [*told[1:], *more[1:], *((tmp_path / name).read_text() for name in ("a.jsonl", "a.json"))]
    assert not any("sk-very-secret" in text for text in texts)


async def test_an_environment_key_goes_to_no_other_server(tmp_path: Path) -> None:
    """The judge's server is sent the key of --url only where it is that server."""
    suite = write_suite(tmp_path / "sums.yaml", cases=1, judged=True)
    async with eval_engine() as target, eval_engine() as judge:
        command = ["run", str(suite), "--target", "m", "--url", target.url, "--judge", "judge", "--out", "a.jsonl"]
        code, _, err = await run(*command, "--judge-url", judge.url, folder=tmp_path, CAPSTAN_API_KEY="sk-1")
    assert code == 0, err
    assert (target.keys, judge.keys) == ({"Bearer sk-1"}, {None})


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--url", "http://me:pw@h"], "no user and no password"),
        (["--repeats", "0"], "--repeats must be from 1 to 100"),
        (["--max-cost", "1"], "--max-cost needs a price of m in --prices"),
        (["--baseline", "none"], "there is no baseline 'none'"),
        (["--baseline", "none", "--min-score", "1"], "--min-score is for runs without --baseline"),
        (["--key-file", "/nowhere"], "No such file"),
        (["--out", "sums.yaml"], "exists"),
    ],
)
async def test_what_cannot_be_done_is_told(tmp_path: Path, more: list[str], told: str) -> None:
    """2 for a wrong command line, with what is allowed, and nothing is asked."""
    suite = write_suite(tmp_path / "sums.yaml", cases=1)
    code, _, err = await run("run", str(suite), "--target", "m", *more, folder=tmp_path)
    assert (code, told in err, "Traceback" in err) == (2, True, False), err


async def test_a_run_of_another_target_is_refused(tmp_path: Path) -> None:
    """The file of one run takes no answers of another model, and keeps what it has."""
    suite = write_suite(tmp_path / "sums.yaml", cases=3)
    async with eval_engine() as engine:
        where = ["run", str(suite), "--url", engine.url, "--out", "a.jsonl", "--quiet"]
        assert (await run(*where, "--target", "a", folder=tmp_path))[0] == 0
        before = (tmp_path / "a.jsonl").read_bytes()
        code, _, err = await run(*where, "--target", "b", folder=tmp_path)
    assert code == 2
    assert "is a run of another model (a, and not b)" in err
    assert (tmp_path / "a.jsonl").read_bytes() == before


@pytest.mark.parametrize(("least", "code"), [("0.5", 0), ("0.9", 1)])
async def test_without_a_baseline_a_score_may_be_asked_for(tmp_path: Path, least: str, code: int) -> None:
    """--min-score is the least mean of each scorer."""
    suite = write_suite(tmp_path / "sums.yaml", cases=10)
    async with eval_engine(wrong=lambda number: number < 2) as engine:
        command = ["run", str(suite), "--target", "m", "--url", engine.url, "--min-score", least, "--quiet"]
        assert (await run(*command, folder=tmp_path))[0] == code


async def test_two_processes_do_not_write_one_run(tmp_path: Path) -> None:
    """The second one is told, and asks nothing."""
    suite = write_suite(tmp_path / "sums.yaml", cases=20)
    async with eval_engine() as engine:
        command = ["run", str(suite), "--target", "m", "--url", engine.url, "--out", "a.jsonl", "--concurrency", "1"]
        first = await start(*command, folder=tmp_path)
        engine.on_ask = lambda number: first.send_signal(signal.SIGSTOP) if number == 3 else None
        await eventually(lambda: len(engine.bodies) >= 3)
        code, _, err = await run(*command, folder=tmp_path)
        first.send_signal(signal.SIGCONT)
        async with asyncio.timeout(120):
            await first.communicate()
    assert (code, first.returncode) == (2, 0)
    assert "written by another process" in err
