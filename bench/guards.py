"""What guards cost: their detectors alone, streams with guards, and governed requests with guards and without.

    python bench/guards.py [--seconds 2] [--rounds 4] [--detectors] [--no-write]

Detectors look at prompts of 8 KB of all kinds (bench/guards_texts.py) and at texts up to 1 MB, of usual sentences with
some personal data, each in this process, by CPU time; twice as long a text should take twice as long, also one that is
made to take long. Then two gateways that count requests, tokens and
dollars (bench/gateway_governed.py), one of them with guards on what is asked and what is answered, by turns on one
core. The ratios of one round can be believed where the machine's numbers cannot. At last the first content of a stream
of 64 chunks from the simulator, whose tokens come one by one, beside the same without guards, by turns.

It needs wrk and redis-server. With its defaults it takes two minutes and writes its part of bench/RESULTS.md.
"""

import argparse
import http.client
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import gateway_governed
from gateway_governed import GOVERNED_RIVALS, governed_config
from gateway_load import KINDS, STREAM, body, measure_once, wait_ready
from gateway_machine import CORES, machine, process, wait_idle
from gateway_report import GOVERNED, Numbers, Scenario, write_part
from gateway_rivals import RIVALS, Rival, write_config
from gateway_turns import Key, Turn, cell, running
from gateway_upstreams import TPOT_MS, UPSTREAMS
from guards_texts import KINDS as KINDS_OF_TEXT
from guards_texts import SLOW, text_of

from capstan_contract.config import GatewayConfig
from capstan_contract.guards import (
    Action,
    AnyGuard,
    AttackGuard,
    GuardBody,
    KeywordsGuard,
    PiiGuard,
    RegexGuard,
    RegexPattern,
    Source,
    guard_entry,
)
from capstan_gateway.guards.attacks.detector import AttackDetector
from capstan_gateway.guards.build import build_detector
from capstan_gateway.guards.pii.detector import HELD
from capstan_gateway.guards.port import Detector
from capstan_gateway.guards.window import FIRST, STEP

HEADING: Final = "## Guards"
GUARDED: Final = "Capstan, governed, with guards"
PORTS: Final = 18140
MOST_CONNECTIONS: Final = 32
WORDS: Final = 1_000
TEXTS: Final = 24
"""Of each kind."""
PATTERNS: Final = (
    r"\bTICKET-\d{4,8}\b",
    r"(?i)project\s+(?:falcon|osprey)",
    r"sk-[A-Za-z0-9]{20,60}",
    r"\b\w+@corp\.example\b",
)


def plain_guards(source: Source) -> tuple[AnyGuard, ...]:
    """Give what is usual: personal data, a policy's own patterns, its words."""
    choose = random.Random(1)
    words = ["".join(choose.choices("abcdefghijklmnopqrstuvwxyz", k=9)) for _ in range(WORDS)]
    patterns = tuple(RegexPattern(name=f"p{number}", pattern=pattern) for number, pattern in enumerate(PATTERNS))
    return (
        PiiGuard(name="pii", appliesTo=(source,), action=Action.WARN),
        RegexGuard(name="regex", appliesTo=(source,), action=Action.WARN, patterns=patterns),
        KeywordsGuard(name="keywords", appliesTo=(source,), action=Action.WARN, keywords=tuple(words)),
    )


def detectors() -> Iterator[tuple[str, Sequence[Detector]]]:
    """Give what is measured."""
    pii, regex, keywords = [build_detector(guard) for guard in plain_guards(Source.USER)]
    attack = AttackGuard(name="a", type="PromptInjection", appliesTo=(Source.USER,))
    patterns = AttackDetector(attack.type, attack.sensitivity)
    assert pii is not None and regex is not None and keywords is not None  # noqa: PT018
    yield "PII", [pii]
    yield f"Regex, {len(PATTERNS)} patterns", [regex]
    yield f"Keywords, {WORDS} words", [keywords]
    yield "PromptInjection, patterns alone", [patterns]
    yield "patterns and PII together", [patterns, pii, regex, keywords]
    whole = build_detector(attack)
    if whole is not None:
        yield "PromptInjection, with the classifier", [whole]


def scan_ms(looking: Sequence[Detector], text: str) -> float:
    """Give how much of the CPU's time all of them take for one text: what else runs here is left out of it."""
    began = time.thread_time()
    for detector in looking:
        detector.scan(text, Source.USER)
    return (time.thread_time() - began) * 1000


def detectors_table() -> list[str]:
    """Measure detectors by themselves."""
    sizes = [2**power * 1024 for power in range(6, 11)]
    rows = ["| 8 KB | p50, ms | p99, ms | 64 KB | " + " | ".join(f"{size // 1024} KB" for size in sizes[1:]) + " |"]
    rows.append("| --- |" + " ---: |" * (len(sizes) + 2))
    texts = [text_of(8 * 1024, seed, kind) for kind in KINDS_OF_TEXT.values() for seed in range(TEXTS)]
    for name, looking in detectors():
        dear = "classifier" in name
        scan_ms(looking, texts[0])
        times = sorted(scan_ms(looking, text) for text in (texts[:: TEXTS // 3] if dear else texts * 2))
        long = [min(scan_ms(looking, text_of(size, 1)) for _ in range(1 if dear else 3)) for size in sizes]
        rows.append(f"| {name} | {middle(times)} | {high(times)} | {long[0]:.1f} ms | {growth(long)} |")
        print(rows[-1], flush=True)
    return rows


def kinds_table() -> list[str]:
    """Measure what each kind of text takes, each text by the best of some tries."""
    pii, patterns = build_pii_and_patterns()
    rows = ["| 8 KB of | PII, p50, ms | attack patterns | both | both, p99 |", "| --- |" + " ---: |" * 4]
    everything: list[tuple[float, float]] = []
    for name, kind in KINDS_OF_TEXT.items():
        texts = [text_of(8 * 1024, seed, kind) for seed in range(TEXTS)]
        both = [(best_ms([pii], text), best_ms([patterns], text)) for text in texts]
        everything += both
        rows.append(_kind_row(name, both))
        print(rows[-1], flush=True)
    rows.append(_kind_row("all of them", everything))
    print(rows[-1], flush=True)
    return rows


def _kind_row(name: str, both: Sequence[tuple[float, float]]) -> str:
    together = [sum(one) for one in both]
    columns = [[one[0] for one in both], [one[1] for one in both], together]
    return f"| {name} | {' | '.join(map(middle, columns))} | {high(together)} |"


def slow_table() -> list[str]:
    """Measure texts that are made to take long, PII and attack patterns together."""
    sizes = [8 * 1024, *(2**power * 1024 for power in range(6, 11))]
    rows = ["| made to take long | 8 KB | 64 KB | " + " | ".join(f"{size // 1024} KB" for size in sizes[2:]) + " |"]
    rows.append("| --- |" + " ---: |" * len(sizes))
    looking = build_pii_and_patterns()
    for name, kind in SLOW.items():
        times = [min(scan_ms(looking, text_of(size, 1, kind)) for _ in range(2)) for size in sizes]
        rows.append(f"| {name} | {times[0]:.1f} ms | {times[1]:.0f} ms | {growth(times[1:])} |")
        print(rows[-1], flush=True)
    return rows


def build_pii_and_patterns() -> tuple[Detector, Detector]:
    """Make the two."""
    pii = build_detector(plain_guards(Source.USER)[0])
    attack = AttackGuard(name="a", type="PromptInjection", appliesTo=(Source.USER,))
    if pii is None:
        raise ValueError("a guard of type PII has a detector")
    return pii, AttackDetector(attack.type, attack.sensitivity)


def best_ms(looking: Sequence[Detector], text: str) -> float:
    """Give the least of some times."""
    return min(scan_ms(looking, text) for _ in range(5))


def middle(times: Sequence[float]) -> str:
    """Write the median."""
    return f"{statistics.median(times):.2f}"


def high(times: Sequence[float]) -> str:
    """Write the 99th of a hundred."""
    return f"{sorted(times)[len(times) * 99 // 100]:.2f}"


def growth(times: Sequence[float]) -> str:
    """Write how many times longer a text takes that is twice as long."""
    return " | ".join(f"x {after / before:.2f}" for before, after in itertools.pairwise(times))


def guarded_config() -> GatewayConfig:
    """Give the governed config with guards on both sides."""
    config = governed_config()
    body_ = GuardBody(input=plain_guards(Source.USER), output=plain_guards(Source.TEXT))
    policy = guard_entry("bench", "guards", body_)
    models = tuple(model.model_copy(update={"policies": (*model.policies, policy.id)}) for model in config.models)
    return GatewayConfig.build(models, policies=(*config.policies, policy), keys=config.keys, key_salt=config.keySalt)


def _guarded(folder: Path, port: int) -> list[str]:
    command = governed_rival().prepare(folder, port)
    write_config(guarded_config(), folder)
    return command


def governed_rival() -> Rival:
    """Give the gateway without guards."""
    return next(rival for rival in GOVERNED_RIVALS if rival.name == GOVERNED)


def both() -> list[Rival]:
    """Give the two, on ports of their own."""
    plain = governed_rival()
    guarded = replace(plain, name=GUARDED, prepare=_guarded)
    return [replace(rival, port=PORTS + place) for place, rival in enumerate((plain, guarded))]


def first_content_ms(rival: Rival) -> float:
    """Give how long the first content of a stream takes."""
    connection = http.client.HTTPConnection("127.0.0.1", rival.port, timeout=30)
    headers = {"content-type": "application/json", "authorization": f"Bearer {gateway_governed.KEY}"}
    began = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", body(STREAM), headers)
    answer, found = connection.getresponse(), 0.0
    for line in answer:
        if (
            not found
            and line.startswith(b"data: {")
            and any(choice["delta"].get("content") for choice in json.loads(line[6:])["choices"])
        ):
            found = (time.perf_counter() - began) * 1000
    connection.close()
    if answer.status != 200 or not found:
        raise OSError(f"{rival.name}: a stream without content, status {answer.status}")
    return found


def gateways_tables(seconds: int, rounds: int) -> list[str]:
    """Measure the two gateways by turns."""
    table: dict[Key, Numbers] = {}
    firsts: dict[str, list[float]] = {rival.name: [] for rival in both()}
    for upstream in ("mock", "simulator"):
        with tempfile.TemporaryDirectory(prefix="capstan-bench-") as place, ExitStack() as stack:
            stack.enter_context(process(UPSTREAMS[upstream], CORES[1 % len(CORES)], Path(place) / "log", {}))
            wait_ready(RIVALS[0])
            turns = stack.enter_context(running(both(), Path(place)))
            if len(turns) < 2:
                raise SystemExit("a gateway did not get ready")
            if upstream == "mock":
                rates(turns, seconds, rounds, table)
                continue
            for _ in range(5 * rounds):
                for turn in turns:
                    firsts[turn.rival.name].append(first_content_ms(turn.rival))
    return [*throughput(table), "", *first_content(firsts)]


def rates(turns: Sequence[Turn], seconds: int, rounds: int, table: dict[Key, Numbers]) -> None:
    """Fill the table by turns, as `take_turns` does; what comes together of a stream guards give on in fewer events."""
    for number in range(rounds):
        for scenario in [Scenario("mock", *kind) for kind in KINDS if kind[1] <= MOST_CONNECTIONS]:
            for turn in turns if number % 2 == 0 else reversed(turns):
                if number == 0:
                    first_content_ms(turn.rival)
                    measure_once(turn.rival, scenario, turn.pid, 1, Numbers())  # warm up
                numbers = table.setdefault((turn.rival.name, scenario), Numbers())
                measure_once(turn.rival, scenario, turn.pid, seconds, numbers)
                wait_idle(turn.pid, look_seconds=0.05)


def throughput(table: dict[Key, Numbers]) -> list[str]:
    """Write what guards leave of the rate."""
    rows = ["| scenario | governed, requests/s | of it with guards | CPU time a request, us | with guards |"]
    rows.append("| --- |" + " ---: |" * 4)
    for scenario in dict.fromkeys(scenario for _, scenario in table):
        plain, guarded = table[GOVERNED, scenario], table[GUARDED, scenario]
        shares = [one / other for one, other in zip(guarded.rate, plain.rate, strict=True)]
        numbers = [plain.middle("cpu"), guarded.middle("cpu")]
        cells = [f"{plain.middle('rate'):,.0f}", cell(shares), *(f"{number:,.0f}" for number in numbers)]
        rows.append(f"| {name_of(scenario)} | {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    return rows


def name_of(scenario: Scenario) -> str:
    """Name it without its upstream."""
    return f"{scenario.kind}, {scenario.connections} connections"


def first_content(firsts: dict[str, list[float]]) -> list[str]:
    """Write how much later the first content of a stream comes."""
    plain, guarded = (statistics.median(firsts[name]) for name in (GOVERNED, GUARDED))
    later = (guarded - plain) / TPOT_MS
    line = (
        f"The first content of a stream of 64 tokens, {TPOT_MS} ms each: {plain:.1f} ms without guards, "
        f"{guarded:.1f} ms with them, {later:.1f} tokens later (median of {len(firsts[GOVERNED])} by turns): "
        f"a text is looked at behind {FIRST} characters, then behind each {STEP}. Of prose PII keeps the last words "
        f"back, which may still become something; of a text with a digit or another sign of a value near its end the "
        f"last {HELD} characters."
    )
    print(line)
    return [line]


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="what guards cost")
    parser.add_argument("--seconds", type=int, default=2, help="per gateway, scenario and round (2)")
    parser.add_argument("--rounds", type=int, default=4, help="(4)")
    parser.add_argument("--detectors", action="store_true", help="the detectors by themselves, and no gateway")
    parser.add_argument("--no-write", action="store_true", help="do not write bench/RESULTS.md")
    chosen = parser.parse_args()
    print(machine())
    lines = ["By `make bench-guards`, whose first lines say how it measures.", "", *detectors_table()]
    lines += ["", *kinds_table(), "", *slow_table()]
    if not chosen.detectors:
        lines += ["", *gateways_tables(chosen.seconds, chosen.rounds)]
    if not chosen.no_write and not chosen.detectors:
        write_part(HEADING, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
