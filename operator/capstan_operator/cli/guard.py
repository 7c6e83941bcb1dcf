"""`capstan guard test`: the guards of a policy over labelled prompts, on this machine."""

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from capstan_contract.guards import ANSWERED, ASKED, Source
from capstan_operator.api.kinds import GUARDPOLICY, Policy
from capstan_operator.cli.guard_cases import Unreadable, read_cases
from capstan_operator.cli.guard_score import Confusion, Mistake, Score, percentile, wilson
from capstan_operator.desired.policy_kinds import build_policy_entry, find_policy_faults
from capstan_operator.manifests.collect import load_manifests

CHECK: Final = "capstan_gateway.guards.check"
NEEDED: Final = ("ahocorasick_rs", "phonenumbers", "stdnum")
MOST_SHOWN: Final = 160
"""Characters of an example."""


class Failed(Exception):
    """It cannot be tried; the message says why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    commands = parser.add_subparsers(dest="what", metavar="test", required=True)
    test = commands.add_parser("test", help="run a policy's guards over labelled prompts")
    test.add_argument("policy", type=Path, metavar="POLICY", help="file with a GuardPolicy")
    test.add_argument("prompts", type=Path, metavar="FILE", help="lines of JSON, or a .csv: text, label or entities")
    test.add_argument("--name", help="which GuardPolicy of the file")
    test.add_argument("--stage", choices=("input", "output"), default="input", help="which list (default: %(default)s)")
    test.add_argument(
        "--source",
        choices=[str(one) for one in Source],
        help="whose texts these are (default: User, or Text of output)",
    )
    test.add_argument("-o", "--output", choices=("table", "json"), default="table", help="form (default: %(default)s)")
    test.epilog = (
        "Nothing is sent anywhere. Guards that ask a model or a service are named, and not tried. The worst examples"
        " are printed as they stand in the file."
    )


def run(arguments: argparse.Namespace) -> int:
    """Try, and print the outcome; 1 when it cannot be tried."""
    try:
        policy = _policy(arguments.policy, arguments.name)
        source = _source(arguments.source, arguments.stage)
        guards, score = _try(policy, arguments.prompts, stage=arguments.stage, source=source)
    except (Failed, Unreadable, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    written = as_json(guards, score) if arguments.output == "json" else as_table(policy, guards, score)
    print(written)
    return 0


def _policy(path: Path, name: str | None) -> Policy:
    """Give the policy of a file that can be enforced."""
    manifests = load_manifests([path])
    found = [one for key, one in manifests.of_kind(GUARDPOLICY).items() if name in (None, key.name)]
    if len(found) != 1:
        names = ", ".join(sorted(one.key.name for one in found))
        what = f"has several GuardPolicies ({names}): choose one with --name" if found else "has no such GuardPolicy"
        raise Failed("; ".join([f"{path} {what}", *(str(one) for one in manifests.diagnostics[:3])]))
    if faults := find_policy_faults(found[0]):
        raise Failed("; ".join(f"{path}: {fault}" for fault in faults))
    return found[0]


def _source(named: str | None, stage: str) -> Source:
    source = Source(named) if named else Source.TEXT if stage == "output" else Source.USER
    if source not in (ANSWERED if stage == "output" else ASKED):
        raise Failed(f"the {stage} has no texts of {source}")
    return source


def _try(policy: Policy, prompts: Path, *, stage: str, source: Source) -> tuple[list[dict[str, Any]], Score]:
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise Failed(f"`capstan guard test` needs {', '.join(missing)}: pip install 'capstan[gateway]'")
    score = Score()
    body = build_policy_entry(policy).body
    with _process() as process:
        guards = _ask(process, {"body": body, "stage": stage})["guards"]
        if not any(guard["tried"] for guard in guards):
            raise Failed(f"the policy has no guards of the {stage} that can be tried without a gateway")
        names = [guard["name"] for guard in guards if guard["tried"]]
        for case in read_cases(prompts):
            score.add(case, _ask(process, {"text": case.text, "source": source}), names)
    if not score.seconds:
        raise Failed(f"{prompts} has no prompts")
    return guards, score


@contextmanager
def _process() -> Iterator[subprocess.Popen[str]]:
    """Run what looks at texts: a program of the gateway, which the operator does not import."""
    command = [sys.executable, "-m", CHECK]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:  # noqa: S603
        try:
            yield process
        finally:
            process.kill()


def _ask(process: "subprocess.Popen[str]", asked: Mapping[str, Any]) -> dict[str, Any]:
    if process.stdin is None or process.stdout is None:
        raise Failed("what looks at texts has no input")
    try:
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(process.stdout.readline() or "{}")
    except (BrokenPipeError, ValueError):
        answer = {}
    if "error" in answer or not answer:
        raise Failed(answer.get("error", "what looks at texts has ended"))
    return answer


def as_table(policy: Policy, guards: list[dict[str, Any]], score: Score) -> str:
    """Write the outcome for people."""
    whole = score.whole
    lines = [
        f"{policy.key}: {len(score.seconds)} prompts, {whole.attacks} of attacks and {whole.benign} benign",
        "",
        f"{'':24}{'found':>8}{'passed':>8}",
        _row("attack", whole.attacks_found, whole.attacks) + _rate("recall", *_recall(whole)),
        _row("benign", whole.benign_found, whole.benign) + _rate("pass rate", *_passed(whole)),
        "",
    ]
    for name, one in score.guards.items():
        lines.append(f"{name:24}{_rate('recall', *_recall(one))}, {_rate('pass rate', *_passed(one))}")
    lines += [f"{guard['name']:24}asks somebody, and was not tried" for guard in guards if not guard["tried"]]
    for kind, counts in sorted(score.kinds.items()):
        found, there = counts["right"] + counts["wrong"], counts["right"] + counts["missed"]
        lines.append(
            f"{kind:24}{_rate('recall', counts['right'], there)}, {_rate('precision', counts['right'], found)}"
        )
    p50, p99 = percentile(score.seconds, 0.5) * 1e3, percentile(score.seconds, 0.99) * 1e3
    lines += ["", f"a text took {p50:.2f} ms (p50), {p99:.2f} ms (p99)"]
    lines += _examples("missed", score.missed) + _examples("found for nothing", score.wrong)
    return "\n".join(lines)


def _row(title: str, found: int, of: int) -> str:
    return f"{title:24}{found:>8}{of - found:>8}   "


def _recall(one: Confusion) -> tuple[int, int]:
    return one.attacks_found, one.attacks


def _passed(one: Confusion) -> tuple[int, int]:
    return one.benign - one.benign_found, one.benign


def _rate(name: str, hits: int, of: int) -> str:
    if not of:
        return f"{name} -"
    low, high = wilson(hits, of)
    return f"{name} {hits / of:.1%} ({low:.1%} to {high:.1%})"


def _examples(title: str, mistakes: list[Mistake]) -> list[str]:
    if not mistakes:
        return []
    rows = []
    for one in sorted(mistakes, reverse=True):
        # NB: what is in a file may hold characters that a terminal obeys.
        text = "".join(char if char.isprintable() else " " for char in one.text[: MOST_SHOWN + 1])
        short = text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
        rows.append(f"  line {one.line}{f' ({one.said})' if one.said else ''}: {short}")
    return ["", f"{title}, the worst first:", *rows]


def as_json(guards: list[dict[str, Any]], score: Score) -> str:
    """Write the outcome for programs."""

    def rate(hits: int, of: int) -> dict[str, Any]:
        low, high = wilson(hits, of)
        return {"hits": hits, "of": of, "rate": hits / of if of else None, "low": low, "high": high}

    def both(one: Confusion) -> dict[str, Any]:
        return {"recall": rate(*_recall(one)), "passRate": rate(*_passed(one))}

    def examples(mistakes: list[Mistake]) -> list[dict[str, Any]]:
        return [{"line": one.line, "found": one.said, "text": one.text} for one in sorted(mistakes, reverse=True)]

    told = {
        "prompts": len(score.seconds),
        **both(score.whole),
        "guards": [{**guard, **(both(score.guards[guard["name"]]) if guard["tried"] else {})} for guard in guards],
        "kinds": {
            kind: {
                "recall": rate(counts["right"], counts["right"] + counts["missed"]),
                "precision": rate(counts["right"], counts["right"] + counts["wrong"]),
            }
            for kind, counts in sorted(score.kinds.items())
        },
        "milliseconds": {"p50": percentile(score.seconds, 0.5) * 1e3, "p99": percentile(score.seconds, 0.99) * 1e3},
        "missed": examples(score.missed),
        "wrong": examples(score.wrong),
    }
    return json.dumps(told, indent=2)
