"""`capstan guard test`: the guards of a policy over labelled prompts, on this machine, or by a gateway that runs it."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from capstan_contract.guards import ANSWERED, ASKED, Source, read_guard_body
from capstan_operator.api.kinds import GUARDPOLICY, Policy
from capstan_operator.cli.guard_cases import Unreadable, read_cases
from capstan_operator.cli.guard_gateway import Gateway, NoAnswer, address
from capstan_operator.cli.guard_report import as_json, as_table
from capstan_operator.cli.guard_score import Score
from capstan_operator.desired.policy_kinds import build_policy_entry, find_policy_faults
from capstan_operator.manifests.collect import load_manifests

KEY: Final = "CAPSTAN_API_KEY"
CHECK: Final = "capstan_gateway.guards.check"
NEEDED: Final = ("ahocorasick_rs", "phonenumbers", "stdnum")


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
    test.add_argument(
        "--gateway", metavar="URL", help="ask this gateway, where the policy is in force on --model, and so all guards"
    )
    test.add_argument("--model", help="a model there, under the name by which clients ask for it")
    test.add_argument("--key-file", type=Path, help=f"file with the API key for --gateway (or the variable {KEY})")
    test.add_argument("-o", "--output", choices=("table", "json"), default="table", help="form (default: %(default)s)")
    test.epilog = (
        "Without --gateway nothing is sent anywhere, and guards that ask a model or a service are named, and not tried."
        " The worst examples are printed as they stand in the file."
    )


def run(arguments: argparse.Namespace) -> int:
    """Try, and print the outcome; 1 when it cannot be tried."""
    try:
        policy = _policy(arguments.policy, arguments.name)
        source = _source(arguments.source, arguments.stage)
        gateway = _gateway(arguments, policy, source)
        guards, score = (
            _try(policy, arguments.prompts, stage=arguments.stage, source=source)
            if gateway is None
            else _try_there(policy, arguments.prompts, gateway)
        )
    except (Failed, NoAnswer, Unreadable, OSError) as error:
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
        raise Failed(f"`capstan guard test` needs {', '.join(missing)}: pip install '.[gateway]' in a clone")
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


def _gateway(arguments: argparse.Namespace, policy: Policy, source: Source) -> Gateway | None:
    """Give the gateway that is named, if one is."""
    if arguments.gateway is None:
        return None
    if not arguments.model:
        raise Failed("--gateway needs --model: the name of a model on which the policy is in force")
    file: Path | None = arguments.key_file
    key = os.environ.get(KEY, "") if file is None else file.read_text()
    if not key.strip().isprintable() or not key.isascii():
        raise Failed(f"no API key in {file or KEY}")
    return Gateway(
        address(arguments.gateway),
        arguments.model,
        f"{policy.key.namespace}/{policy.key.name}",
        stage=arguments.stage,
        source=source,
        key=key.strip(),
    )


def _try_there(policy: Policy, prompts: Path, gateway: Gateway) -> tuple[list[dict[str, Any]], Score]:
    found = read_guard_body(build_policy_entry(policy))
    guards: list[dict[str, Any]] = [
        {"name": guard.name, "type": guard.type, "tried": True}
        for guard in (found.output if gateway.stage == "output" else found.input)
    ]
    if not guards:
        raise Failed(f"the policy has no guards of the {gateway.stage}")
    names = [guard["name"] for guard in guards]
    score = Score()
    for case in read_cases(prompts):
        answer = gateway.look(case.text)
        told = {one["guard"] for one in answer["findings"]}.union(answer["failed"])
        if strange := told.difference(names):
            raise Failed(f"the gateway runs another version of the policy: it has a guard {min(strange)!r}")
        # NB: what has blocked ends it, so that of those that say nothing nobody knows whether they were asked.
        score.add(case, answer, [name for name in names if name in told or not answer["over"]])
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
